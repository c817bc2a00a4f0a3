# What a virtual machine does once its root is there: mounts what tests use, runs the command in
# the shared directory, says how it ended, and switches itself off.
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root TERM=dumb LANG=C.UTF-8
exec </dev/null
mount -t tmpfs tmpfs /run
mkdir -p /run/netns /dev/pts /dev/shm
mount -t devpts devpts /dev/pts
mount -t tmpfs tmpfs /dev/shm
mount -t tmpfs tmpfs /tmp
mount -t bpf bpf /sys/fs/bpf
mount -t cgroup2 cg /sys/fs/cgroup
mount -t debugfs debugfs /sys/kernel/debug
mount -t tracefs tracefs /sys/kernel/tracing 2>/dev/null
ln -sf /proc/self/fd /dev/fd 2>/dev/null
ln -sf /proc/self/fd/0 /dev/stdin
ln -sf /proc/self/fd/1 /dev/stdout
ln -sf /proc/self/fd/2 /dev/stderr
hostname vm
ip link set lo up
ulimit -l unlimited
[ -c /dev/net/tun ] || modprobe tun 2>/dev/null
cd /host || exit
for port in /sys/class/virtio-ports/*; do
    case $(cat "$port/name") in
    out) out=/dev/${port##*/} ;;
    err) err=/dev/${port##*/} ;;
    esac
done
: >/run-host/begun
(
    exec >"$out" 2>"$err"
    exec bash -c "$(cat /run-host/command)"
)
code=$?
sync
echo $code >/run-host/code.new
mv /run-host/code.new /run-host/code
echo o >/proc/sysrq-trigger
sleep 30
