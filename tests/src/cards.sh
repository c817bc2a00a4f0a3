# Two taps with several queues on one bridge, in whatever network namespace this is called; then
# the command that the arguments are. See cards.rs, which says why.
set -e
ip link add joined type bridge
# No groups to keep track of, so nothing but what the cards send.
ip link set joined type bridge mcast_snooping 0
ip link set joined addrgenmode none up
for tap in card20 card21; do
    ip tuntap add "$tap" mode tap multi_queue
    ip link set "$tap" master joined addrgenmode none up
done
exec "$@"
