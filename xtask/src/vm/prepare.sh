# prepare.sh MIRROR CACHE KERNEL INIT: makes what a virtual machine starts from, where it is missing:
# a root file system for all kernels (CACHE/root.ext4), and for the unpacked packages in KERNEL its
# modules without compression (KERNEL/guest/lib/modules) and an initramfs (KERNEL/initramfs).
set -eu
mirror=$1 cache=$2 kernel=$3 init=$4
packages=iproute2,iputils-ping,iperf3,iptables,wireguard-tools,bpftool,tcpdump,ethtool
packages=$packages,nftables,kmod,procps,libelf1,netcat-openbsd,util-linux

if [ ! -e "$cache/root.ext4" ]; then
    if [ ! -e "$cache/root/ok" ]; then
        rm -rf "$cache/root"
        debootstrap --variant=minbase --include="$packages" bookworm "$cache/root" "$mirror" \
            >"$cache/debootstrap.log" 2>&1 || {
            tail -5 "$cache/debootstrap.log" >&2
            exit 1
        }
        : >"$cache/root/ok"
    fi
    rm -rf "$cache"/root/var/cache/apt/archives/*.deb "$cache"/root/var/lib/apt/lists/*
    mkdir -p "$cache/root/host" "$cache/root/run-host" "$cache/root/lib/modules"
    truncate -s 2G "$cache/root.ext4.new"
    mkfs.ext4 -q -F -O ^has_journal,^metadata_csum -d "$cache/root" "$cache/root.ext4.new"
    mv "$cache/root.ext4.new" "$cache/root.ext4"
fi

[ -e "$kernel/initramfs" ] && [ "$kernel/initramfs" -nt "$init" ] && exit 0
modules=$(ls -d "$kernel"/lib/modules/* "$kernel"/usr/lib/modules/* 2>/dev/null | head -1)
release=${modules##*/}
guest=$kernel/guest
if [ ! -e "$guest/ok" ]; then
    rm -rf "$guest"
    mkdir -p "$guest/lib/modules"
    cp -a "$modules" "$guest/lib/modules/"
    rm -f "$guest/lib/modules/$release"/vmlinuz "$guest/lib/modules/$release"/build
    find "$guest" -name '*.ko.xz' -print0 | xargs -0 -r -P2 -n64 xz -d
    find "$guest" -name '*.ko.zst' -print0 | xargs -0 -r -P2 -n64 zstd -q -d --rm
    depmod -b "$guest" "$release" 2>/dev/null
    : >"$guest/ok"
fi
tree=$kernel/tree
rm -rf "$tree"
mkdir -p "$tree"/bin "$tree"/dev "$tree"/proc "$tree"/sys "$tree"/mod "$tree"/new "$tree"/lower "$tree"/rw
cp "$(command -v busybox)" "$tree/bin/busybox"
for module in virtio_mmio virtio_pci virtio_blk virtio_console 9pnet_virtio 9p ext4 overlay; do
    modprobe -d "$guest" -S "$release" --show-depends "$module" 2>/dev/null |
        awk '$1 == "insmod" { print $2 }'
done | awk '!seen[$0]++' | while read -r path; do
    cp "$path" "$tree/mod/"
    basename "$path" >>"$tree/mod/order"
done
cp "$init" "$tree/init"
chmod +x "$tree/init"
(cd "$tree" && find . | cpio -o -H newc --quiet) >"$kernel/initramfs.new"
mv "$kernel/initramfs.new" "$kernel/initramfs"
rm -rf "$tree"
