#!/bin/busybox sh
# The first program of a virtual machine, in its initramfs: loads what the disks take, lays a
# memory over the read-only root, and hands over to start.sh.
B=/bin/busybox
$B mount -t proc proc /proc
$B mount -t sysfs sys /sys
$B mount -t devtmpfs dev /dev
while read -r module; do
    $B insmod "/mod/$module" || $B echo "insmod $module failed"
done </mod/order
n=0
while [ ! -b /dev/vda ] && [ $n -lt 100 ]; do
    $B usleep 20000
    n=$((n + 1))
done
$B mount -t ext4 -o ro,noload /dev/vda /lower || $B mount -t ext4 -o ro /dev/vda /lower
$B mount -t tmpfs -o size=75% tmpfs /rw
$B mkdir /rw/u /rw/w
$B mount -t overlay -o lowerdir=/lower,upperdir=/rw/u,workdir=/rw/w overlay /new
P=trans=virtio,version=9p2000.L,msize=512000
$B mkdir -p /new/lib/modules /new/run-host /new/host
$B mount -t 9p -o $P run /new/run-host
$B mount -t 9p -o $P,ro,cache=loose mods /new/usr/lib/modules ||
    $B mount -t 9p -o $P,ro,cache=loose mods /new/lib/modules
$B mount -t 9p -o $P host /new/host
for d in proc sys dev; do
    $B mount --move /$d /new/$d
done
exec $B switch_root /new /bin/bash /run-host/start.sh
