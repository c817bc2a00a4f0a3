//! The program that chooses a TUN queue for each packet into the tunnel (`TUNSETSTEERINGEBPF`): the
//! worker by the packet's flow, and the worker's sparse queue or its bulk queue as
//! [`taltun_common::sparse`] says, where it is also said why no packet overtakes another.
//!
//! It is an object of its own: it needs few maps, is there also where the other programs are
//! switched off, and may be missing by itself, as where a kernel has no maps that are written like
//! memory (before 5.5).
#![cfg_attr(target_arch = "bpf", no_std, no_main)]
#![allow(
    clippy::inline_always,
    reason = "a call costs stack, and the program is run for each packet"
)]
#![allow(
    clippy::needless_pass_by_value,
    reason = "aya's macros hand the context over by value"
)]

use core::ptr;

use aya_ebpf::btf_maps::Array;
use aya_ebpf::helpers::bpf_ktime_get_ns;
use aya_ebpf::macros::{btf_map, socket_filter};
use aya_ebpf::programs::SkBuffContext;

use taltun_common::headers::{IPV6_LEN, Ipv4, Ipv6, protocol};
use taltun_common::sparse::{self, Flow, Moments, SLOTS, mix, slot};
use taltun_common::steering::MAX_WORKERS;

/// User space may map it into its memory.
const BPF_F_MMAPABLE: usize = 1 << 10;

/// How many workers there are; user space writes it into the program before that is loaded.
#[unsafe(no_mangle)]
static TALTUN_WORKERS: u32 = 1;

#[btf_map]
static FLOWS: Array<Flow, SLOTS> = Array::new();

/// When a packet without ports last went between a pair of addresses.
#[btf_map]
static PAIRS: Array<u64, SLOTS> = Array::new();

/// When the budget of each worker's flows is full again.
#[btf_map]
static BUDGETS: Array<u64, MAX_WORKERS> = Array::new();

/// Until when each worker has drained its bulk queue, as it says.
#[btf_map]
static DRAINED: Array<u64, MAX_WORKERS, BPF_F_MMAPABLE> = Array::new();

/// The number of the queue.
#[socket_filter]
fn taltun_tun_queue(packet: SkBuffContext) -> i64 {
    i64::from(queue(&packet).unwrap_or_default())
}

#[inline(always)]
fn queue(packet: &SkBuffContext) -> Option<u32> {
    // SAFETY: a reference is valid to read from. Volatile, because it isn't what it says here.
    let workers = unsafe { ptr::read_volatile(&raw const TALTUN_WORKERS) };
    let header = Header::read(packet)?;
    let worker = sparse::worker(header.flow, workers);
    let sparse = is_sparse(packet, &header, worker).unwrap_or_default();
    Some(sparse::queue(worker, workers, sparse))
}

/// Whether a packet takes its worker's sparse queue.
#[inline(always)]
fn is_sparse(packet: &SkBuffContext, header: &Header, worker: u32) -> Option<bool> {
    let flow = FLOWS.get_ptr_mut(slot(header.flow))?;
    let pair = PAIRS.get_ptr_mut(slot(header.pair))?;
    let all = BUDGETS.get_ptr_mut(worker)?;
    let drained = DRAINED.get_ptr(worker)?;
    // SAFETY: a helper without arguments.
    let now = unsafe { bpf_ktime_get_ns() };
    // SAFETY: an array's entries are never freed and lie at multiples of eight bytes. Other CPUs
    // may change them, in words of eight bytes, which are read and written in one piece; what
    // comes of that is said at `sparse::is_sparse`.
    unsafe {
        if !header.has_ports {
            pair.write_volatile(now);
        }
        let moments = Moments {
            now,
            drained: drained.read_volatile(),
            pair_at: pair.read_volatile(),
        };
        let mut after = Flow {
            bulk_at: (&raw const (*flow).bulk_at).read_volatile(),
            full_at: (&raw const (*flow).full_at).read_volatile(),
        };
        let mut all_after = all.read_volatile();
        let sparse = sparse::is_sparse(
            &mut after,
            &mut all_after,
            u64::from(packet.len()),
            &moments,
        );
        if sparse {
            all.write_volatile(all_after);
        } else {
            (&raw mut (*flow).bulk_at).write_volatile(after.bulk_at);
        }
        (&raw mut (*flow).full_at).write_volatile(after.full_at);
        Some(sparse)
    }
}

/// What an IP header says of a packet's flow.
struct Header {
    /// A hash of its addresses, protocol and ports.
    flow: u64,
    /// A hash of its addresses.
    pair: u64,
    /// Whether these ports, if its protocol has any, are among them.
    has_ports: bool,
}

impl Header {
    /// The packet's header; `None` if it isn't IP.
    #[inline(always)]
    fn read(packet: &SkBuffContext) -> Option<Self> {
        let ip: Ipv4 = packet.load(0).ok()?;
        match ip.version_and_length >> 4 {
            4 => {
                let [a, b, c, d] = ip.source;
                let [e, f, g, h] = ip.destination;
                let pair = mix(0, u64::from_ne_bytes([a, b, c, d, e, f, g, h]));
                let next = if ip.is_fragment() {
                    None
                } else {
                    Some(ip.header_len())
                };
                Some(Self::new(packet, pair, ip.protocol, next))
            }
            6 => {
                let ip: Ipv6 = packet.load(0).ok()?;
                let mut pair = 0;
                for address in [ip.source, ip.destination] {
                    let [a, b, c, d, e, f, g, h, rest @ ..] = address;
                    pair = mix(pair, u64::from_ne_bytes([a, b, c, d, e, f, g, h]));
                    pair = mix(pair, u64::from_ne_bytes(rest));
                }
                let next = if is_extension(ip.next_header) {
                    None
                } else {
                    Some(IPV6_LEN)
                };
                Some(Self::new(packet, pair, ip.next_header, next))
            }
            _ => None,
        }
    }

    /// Where what IP carries begins at `next`, unless it isn't to be seen.
    #[inline(always)]
    fn new(packet: &SkBuffContext, pair: u64, protocol: u8, next: Option<usize>) -> Self {
        let ports = match (protocol, next) {
            (_, None) => None,
            (protocol::TCP | protocol::UDP, Some(next)) => packet.load::<[u8; 4]>(next).ok(),
            _ => Some([0; 4]),
        };
        let word = u64::from(u32::from_ne_bytes(ports.unwrap_or_default()));
        Self {
            flow: mix(pair, word << 8 | u64::from(protocol)),
            pair,
            has_ports: ports.is_some(),
        }
    }
}

/// Whether an IPv6 header is followed by another before what IP carries: such a packet's ports aren't
/// looked for.
#[inline(always)]
fn is_extension(next_header: u8) -> bool {
    matches!(
        next_header,
        protocol::IPV6_HOP_BY_HOP
            | protocol::IPV6_ROUTING
            | protocol::IPV6_FRAGMENT
            | protocol::IPV6_DESTINATION
    )
}

/// Never reached, and the verifier proves it, as in the other object.
#[cfg(target_arch = "bpf")]
#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

/// The host's build exists for clippy alone.
#[cfg(not(target_arch = "bpf"))]
fn main() {}
