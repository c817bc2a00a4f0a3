//! The maps' keys and values, as the kernel stores them.
//!
//! Every type is `repr(C)` without hidden padding, so its bytes mean the same on both sides.

use crate::address::Address;
use crate::blake2s::State;
use crate::bucket::Rate;

/// The programs' settings, from user space; the single entry of an array.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Settings {
    /// The rate of initiations that one source may send.
    pub initiations: Rate,
    /// The UDP port to guard, host byte order; 0 stands for none: everything passes.
    pub listen_port: u16,
    /// 1: a receiver index missing from the map is one we never gave out. 0: the map is
    /// incomplete, so nothing is concluded from it.
    pub check_indices: u8,
    /// 1: the key of mac1 is in its map.
    pub check_mac1: u8,
    /// 1: an inner address that no route covers belongs to no peer. 0: the map of routes is
    /// incomplete, so nothing is concluded from it.
    pub check_routes: u8,
    /// How many sockets share the port: as many as there are workers, and only then are
    /// datagrams steered by their receiver index.
    pub workers: u8,
    /// The first port of the range that is turned into the listen port, host byte order.
    pub hop_first: u16,
    /// The last port of it; 0 stands for no range.
    pub hop_last: u16,
    /// 1: what routes say of rules is true. 0: rules or routes are being changed.
    pub check_rules: u8,
    /// 1: data to a receiver index that we never gave out passes, some a second, where it comes from the
    /// address of a peer: its session may be with another hub.
    pub pass_misrouted: u8,
    /// Makes the size explicit; 0.
    pub reserved: [u8; 4],
}

impl Settings {
    /// Whether datagrams to this port are turned into datagrams to the listen port.
    #[inline(always)]
    #[must_use]
    pub const fn is_hop_port(&self, port: u16) -> bool {
        self.hop_last != 0
            && self.hop_first <= port
            && port <= self.hop_last
            && port != self.listen_port
    }
}

/// Who uses one of several ports of ours: a session, a peer's socket, and the address of ours that
/// it sends to. Addresses and port are in network byte order.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Hopper {
    /// The peer's address.
    pub remote: Address,
    /// Our address.
    pub local: Address,
    /// The peer's port.
    pub port: [u8; 2],
    /// Makes the size explicit; 0.
    pub reserved: [u8; 2],
    /// The receiver index that we gave out, which nobody knows who is not on the way;
    /// [`ANY_SESSION`](Self::ANY_SESSION) for all that came from that socket.
    pub index: u32,
}

impl Hopper {
    /// Stands for whatever session. Should it be the index of one, that one is a bit less safe.
    pub const ANY_SESSION: u32 = 0;
}

/// What handshakes must prove while too many come; the single entry of an array. Times are
/// those of `bpf_ktime_get_ns`: `CLOCK_MONOTONIC`, in nanoseconds.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Load {
    /// Until then user space is under load, and takes no initiation without a cookie.
    pub until: u64,
    /// Until then user space honours cookies made of the secret.
    pub secret_until: u64,
    /// The state of a cookie's MAC after the secret.
    pub secret: State,
}

/// What one source sent: to our port, seen from outside; or out of the tunnel, seen from
/// inside.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SourceCounters {
    /// Packets, dropped ones included.
    pub packets: u64,
    /// Their bytes: at layer 2 outside, from the IP header on inside.
    pub bytes: u64,
    /// How many of the packets were dropped.
    pub drops: u64,
    /// One more than the number of the [reason](crate::drops::DropReason) of the last drop;
    /// zero before the first.
    pub reason: u64,
    /// When that was, in the kernel's ticks (jiffies); zero before the first.
    pub last_drop: u64,
}

/// A packet that was dropped, for the log.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Sample {
    /// Where it came from.
    pub source: Address,
    /// The number of its [reason](crate::drops::DropReason).
    pub reason: u32,
    /// The index of the interface.
    pub interface: u32,
    /// Bytes: at layer 2 outside, from the IP header on inside.
    pub length: u32,
    /// The port it came from; 0 inside, where nobody looks at ports.
    pub port: u32,
}

/// Bytes of the ring that samples come in: a power of two, and a page of the largest kind.
pub const SAMPLES_RING: usize = 65_536;

/// Where an interface's AF_XDP sockets, one per queue, are in the map of all sockets.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct XskSockets {
    /// Place of the first queue's socket; the others follow.
    pub first: u32,
    /// Number of places, one per queue.
    pub queues: u32,
    /// Bytes of the largest frame that they can take, from the Ethernet header on.
    pub room: u32,
}

/// Which address family a prefix of a list is for.
///
/// An IPv4 prefix is stored in its v4-mapped form, which `::/0` covers too. But a prefix given
/// as IPv6 must not match IPv4 addresses. So the value says how it was given.
pub mod family {
    /// The prefix was given as IPv4 (or as v4-mapped).
    pub const V4: u8 = 4;
    /// The prefix was given as IPv6.
    pub const V6: u8 = 6;
}

/// What the value of a route says besides its [`family`].
pub mod route {
    /// The bits of the family.
    pub const FAMILY: u8 = 0xf;
    /// No rule lets anybody on the side of the host start a TCP connection with an address there.
    pub const NO_TCP: u8 = 0x10;
}

/// Most receiver indices: three sessions and a handshake for 16,384 peers.
pub const MAX_INDICES: usize = 65_536;
/// Most prefixes on each deny list.
pub const MAX_DENIED: usize = 65_536;
/// Most prefixes of the peers' allowed IPs. The map takes memory only for those in it.
pub const MAX_ROUTES: usize = 1 << 20;
/// Most sources with a token bucket; the least recent makes room for a new one.
pub const MAX_BUCKETS: usize = 16_384;
/// Most sources with counters; the least recent makes room for a new one.
pub const MAX_SOURCES: usize = 16_384;
/// Most addresses where peers were last heard.
pub const MAX_ENDPOINTS: usize = 65_536;
/// Most sources that were given a cookie; the oldest makes room. At
/// [`COOKIE_REPLIES`](crate::budget::COOKIE_REPLIES) a source is remembered for 13 s, and a
/// peer comes with its cookie after 5.
pub const MAX_INVITED: usize = 65_536;
/// Most sessions and peers' sockets of which it is known to which port of ours they send; the least
/// recent makes room for a new one.
pub const MAX_HOPPERS: usize = 32_768;
/// How long datagrams of a session to one port of the range, in a row, rest on what was found of the
/// first: that it is ours, and that no socket of the host waits for it. Ticks of the kernel's
/// clock, of 1 to 10 ms.
pub const HOP_ROW_TICKS: u64 = 4;
/// Most interfaces with AF_XDP sockets.
pub const MAX_XSK_INTERFACES: usize = 16;
/// Most queues of an interface with one.
pub const MAX_XSK_QUEUES: usize = 64;
/// Most AF_XDP sockets in all.
pub const MAX_XSKS: usize = MAX_XSK_INTERFACES * MAX_XSK_QUEUES;
/// Most addresses of our own.
pub const MAX_LOCAL_ADDRESSES: usize = 1024;

// SAFETY: plain integers in C layout, no padding (2 × 8 + 2 + 4 + 2 × 2 + 2 + 4 bytes), any bit
// pattern valid.
#[cfg(feature = "user")]
unsafe impl aya::Pod for Settings {}

// SAFETY: plain integers in C layout, no padding (2 × 8 + 8 × 4 bytes), any bit pattern valid.
#[cfg(feature = "user")]
unsafe impl aya::Pod for Load {}

// SAFETY: five u64 in C layout, no padding, any bit pattern valid.
#[cfg(feature = "user")]
unsafe impl aya::Pod for SourceCounters {}

// SAFETY: three u32 in C layout, no padding, any bit pattern valid.
#[cfg(feature = "user")]
unsafe impl aya::Pod for XskSockets {}

// SAFETY: bytes in C layout, no padding (2 × 16 + 2 + 2 + 4 bytes), any bit pattern valid.
#[cfg(feature = "user")]
unsafe impl aya::Pod for Hopper {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_is_inclusive_and_never_holds_the_listen_port() {
        let settings = Settings {
            listen_port: 5000,
            hop_first: 4096,
            hop_last: 8191,
            ..Settings::default()
        };
        for port in [4096, 4999, 5001, 8191] {
            assert!(settings.is_hop_port(port), "{port}");
        }
        for port in [0, 4095, 5000, 8192, u16::MAX] {
            assert!(!settings.is_hop_port(port), "{port}");
        }
        let none = Settings {
            listen_port: 5000,
            ..Settings::default()
        };
        assert!(!none.is_hop_port(0));
    }
}
