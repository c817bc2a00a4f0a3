//! The tunnel's own interface, seen by TC: packets that go into the tunnel and those that
//! came out of it.
//!
//! ```text
//! kernel → taltun_tun_out → user space: a destination that no peer has, or with which no rule
//!                                        lets anybody here start what this starts → drop
//! user space → taltun_tun_in → kernel: a source that is banned or that no peer has → drop
//! ```
//!
//! **Into the tunnel.** User space answers a packet without a peer with an ICMP error, so that
//! its sender learns of it at once. If all were dropped here, nobody would answer; if none were,
//! a scan of an unused network would wake user space for each packet. So each CPU lets one packet
//! per [`ANSWERED_EVERY`] through, which user space drops, counts and answers. Kernels limit their
//! ICMP errors likewise.
//!
//! Rules are user space's business, but for one case, which needs no table of flows: a TCP segment
//! with SYN alone, to a network of which user space has found that they deny each of those.
//!
//! **Out of the tunnel.** User space has decrypted the packet and checked that its source
//! belongs to the peer. The check here applies lists that changed since. User space's own ICMP
//! errors are neither checked nor counted: their source is the address that they are about. They are longer than their IP header says,
//! by [`OWN_ERROR_TRAILER`], as no packet of a peer is.
//!
//! Merged packets count as the packets in them, also when they are dropped.
//!
//! A packet that isn't dropped goes on to whatever other programs are attached.

use core::mem::MaybeUninit;

use aya_ebpf::EbpfContext as _;
use aya_ebpf::bindings::{TC_ACT_SHOT, TC_ACT_UNSPEC, bpf_hdr_start_off::BPF_HDR_START_NET};
use aya_ebpf::helpers::{bpf_ktime_get_ns, bpf_skb_load_bytes_relative};
use aya_ebpf::programs::TcContext;

use taltun_common::address::{Address, is_v4_mapped, v4_mapped};
use taltun_common::drops::DropReason;
use taltun_common::headers::{IPV6_LEN, Ipv4, Ipv6, Tcp, UDP_LEN, protocol};
use taltun_common::maps::route;
use taltun_common::segments;
use taltun_common::wire::OWN_ERROR_TRAILER;
use zerocopy::FromBytes;

use crate::maps::{self, NO_PEER_PASSED};
use crate::samples;
use crate::sources::{self, Side};

/// Nanoseconds between two packets without a peer that user space is to answer.
const ANSWERED_EVERY: u64 = 10_000_000;

/// Judges a packet on its way into the tunnel.
#[inline(always)]
pub fn outbound(packet: &TcContext) -> i32 {
    let Some(settings) = maps::settings() else {
        return TC_ACT_UNSPEC;
    };
    let Some(header) = Header::read(packet) else {
        return TC_ACT_UNSPEC;
    };
    if settings.check_routes == 0 {
        return TC_ACT_UNSPEC;
    }
    let reason = match maps::route(&header.destination) {
        Some(route)
            if settings.check_rules != 0
                && route & route::NO_TCP != 0
                && header.starts_tcp(packet) =>
        {
            DropReason::Rule
        }
        None if !to_be_answered() => DropReason::NoPeer,
        _ => return TC_ACT_UNSPEC,
    };
    let (packets, _) = header.count(packet);
    drop(packet, &header, reason, packets)
}

/// Judges and counts a packet that came out of the tunnel.
#[inline(always)]
pub fn inbound(packet: &TcContext) -> i32 {
    let Some(settings) = maps::settings() else {
        return TC_ACT_UNSPEC;
    };
    let Some(header) = Header::read(packet) else {
        return TC_ACT_UNSPEC;
    };
    if header.is_own_error(packet) {
        return TC_ACT_UNSPEC;
    }
    let fault = if maps::is_denied_inner(&header.source) {
        Some(DropReason::InnerDenied)
    } else if settings.check_routes != 0 && !maps::has_peer(&header.source) {
        Some(DropReason::InnerSource)
    } else {
        None
    };
    let (packets, bytes) = header.count(packet);
    let reason = sources::code(fault);
    sources::add(Side::Inside, &header.source, packets, bytes, reason);
    match fault {
        Some(reason) => drop(packet, &header, reason, packets),
        None => TC_ACT_UNSPEC,
    }
}

/// Counts a dropped packet as the `packets` in it, and writes a sample.
#[inline(always)]
fn drop(packet: &TcContext, header: &Header, reason: DropReason, packets: u64) -> i32 {
    maps::count_drops(reason, packets);
    // SAFETY: the kernel hands the program a valid context for as long as it runs.
    let interface = unsafe { (*packet.skb.skb).ifindex };
    samples::tell(reason, &header.source, 0, interface, header.length);
    TC_ACT_SHOT
}

/// Whether user space is to answer this packet without a peer.
#[inline(always)]
fn to_be_answered() -> bool {
    let Some(passed) = NO_PEER_PASSED.get_ptr_mut(0) else {
        return true;
    };
    // SAFETY: a helper without arguments.
    let now = unsafe { bpf_ktime_get_ns() };
    // SAFETY: an array's entries are never freed, and this one belongs to the CPU we run on,
    // where no other of our programs interrupts us.
    unsafe {
        if now.wrapping_sub(*passed) < ANSWERED_EVERY {
            return false;
        }
        *passed = now;
    }
    true
}

/// What an IP header says.
struct Header {
    source: Address,
    destination: Address,
    protocol: u8,
    /// Bytes of the packet, from the IP header on.
    length: u32,
    /// Bytes of the IP header.
    own_length: u32,
    /// Whether what IP carries begins right behind this header, and the maps can't take the
    /// addresses for others.
    is_plain: bool,
}

impl Header {
    /// The packet's header; `None` if it isn't IP.
    #[inline(always)]
    fn read(packet: &TcContext) -> Option<Self> {
        let ip: Ipv4 = load(packet, 0)?;
        match ip.version_and_length >> 4 {
            4 => Some(Self {
                source: v4_mapped(ip.source),
                destination: v4_mapped(ip.destination),
                protocol: ip.protocol,
                length: u32::from(ip.total_length.get()),
                own_length: ip.header_len() as u32,
                is_plain: !ip.is_later_fragment(),
            }),
            6 => {
                let ip: Ipv6 = load(packet, 0)?;
                Some(Self {
                    source: ip.source,
                    destination: ip.destination,
                    protocol: ip.next_header,
                    length: IPV6_LEN as u32 + u32::from(ip.payload_length.get()),
                    own_length: IPV6_LEN as u32,
                    is_plain: !is_v4_mapped(&ip.destination),
                })
            }
            _ => None,
        }
    }

    /// Whether it starts a TCP connection, as far as that is to be seen without looking for the
    /// TCP header.
    #[inline(always)]
    fn starts_tcp(&self, packet: &TcContext) -> bool {
        self.protocol == protocol::TCP
            && self.is_plain
            && load::<Tcp>(packet, self.own_length).is_some_and(|tcp| tcp.is_start())
    }

    /// Whether user space made it: an ICMP error with more behind it than its header says.
    #[inline(always)]
    fn is_own_error(&self, packet: &TcContext) -> bool {
        matches!(self.protocol, protocol::ICMP | protocol::ICMPV6)
            && load::<[u8; OWN_ERROR_TRAILER.len()]>(packet, self.length).is_some()
    }

    /// The number of packets in this one, and their bytes.
    #[inline(always)]
    fn count(&self, packet: &TcContext) -> (u64, u64) {
        // SAFETY: the kernel hands the program a valid context for as long as it runs.
        let size = unsafe { (*packet.skb.skb).gso_size };
        if size == 0 {
            return segments::count(self.length, 0, 0);
        }
        let transport = if self.protocol == protocol::TCP {
            match load::<Tcp>(packet, self.own_length) {
                Some(tcp) => tcp.header_len() as u32,
                None => return segments::count(self.length, 0, 0),
            }
        } else {
            UDP_LEN as u32
        };
        segments::count(self.length, self.own_length + transport, size)
    }
}

/// Bytes of the packet, counted from the start of its IP header, wherever that is and
/// however the packet lies in memory.
#[inline(always)]
fn load<T: FromBytes>(packet: &TcContext, offset: u32) -> Option<T> {
    let mut bytes = MaybeUninit::<T>::uninit();
    // SAFETY: the helper writes size_of::<T>() bytes to `bytes`; the context is valid for as
    // long as the program runs.
    let result = unsafe {
        bpf_skb_load_bytes_relative(
            packet.as_ptr(),
            offset,
            bytes.as_mut_ptr().cast(),
            size_of::<T>() as u32,
            BPF_HDR_START_NET,
        )
    };
    // SAFETY: on success the helper has written all of it, and any bytes are a valid value.
    (result == 0).then(|| unsafe { bytes.assume_init() })
}
