//! A range of ports in front of one socket.
//!
//! ```text
//! XDP  datagram to a port of the range → ours? → the port is remembered for its sender
//!                                                ├─ to an AF_XDP socket: as it is
//!                                                └─ to the kernel: to the listen port
//! TC   reply from the listen port → its port becomes the one that its receiver sent to
//! ```
//!
//! Other programs on this host use ports of the range, too: for questions of their own, whose
//! answers come back to a socket, or for connections of others behind this host, which have no
//! socket here. So only what is surely ours is turned: a whole message that no socket waits for,
//! with a MAC or a receiver index that the maps confirm. A map that isn't complete confirms
//! less, and never more. All else passes as it came, and is neither judged nor counted.
//!
//! Who reads the AF_XDP socket sees the port that was used, and sends from there by itself: what it
//! sends never comes by the TC program.
//!
//! Anybody can send in the name of a client's socket, and any peer has an index of ours to do so
//! with. So the port is kept for each session apart: whose index it is, that is another's secret.
//! User space tells which session an outgoing packet belongs to. Only what has no session, our
//! initiations, goes by the socket alone.
//!
//! A datagram may come in fragments, of which the first alone has ports. It is turned, and the kernel,
//! which puts the datagram together, never sees the port it was sent to. So is the first fragment of
//! a reply.
//!
//! A probe asks whether a port works, and mustn't lead data there before that is known. So where one
//! came to is kept apart, for the one reply that it gets. Its length tells it: no data has the same.
//!
//! A checksum is always updated. Where it is unfinished (a virtual link's), the kernel and
//! AF_XDP take the datagram without a look at it; nothing in a frame tells the two apart for
//! sure, and one in 65,536 finished ones looks unfinished.

use core::mem::MaybeUninit;
use core::ptr;

use aya_ebpf::EbpfContext as _;
use aya_ebpf::bindings::{
    BPF_ANY, BPF_F_MARK_MANGLED_0, TC_ACT_UNSPEC, bpf_hdr_start_off::BPF_HDR_START_NET,
};
use aya_ebpf::btf_maps::LruHashMap;
use aya_ebpf::helpers::{
    bpf_jiffies64, bpf_l4_csum_replace, bpf_sk_lookup_udp, bpf_sk_release, bpf_skb_load_bytes,
    bpf_skb_load_bytes_relative, bpf_skb_store_bytes,
};
use aya_ebpf::programs::{TcContext, XdpContext};

use taltun_common::address::{Address, is_v4_mapped, updated_udp_checksum, v4_mapped};
use taltun_common::headers::{
    ETHERNET_LEN, IPV4_LEN, IPV6_FRAGMENT_LEN, IPV6_LEN, Ipv4, Ipv6, Ipv6Fragment, UDP_LEN, Udp,
    ethertype, protocol,
};
use taltun_common::maps::{HOP_ROW_TICKS, Hopper, MAX_HOPPERS, Settings};
use taltun_common::wire::{COOKIE, DATA, DataHeader, Fit, MessageKind, PROBE_LEN, RESPONSE};
use zerocopy::FromBytes;
use zerocopy::network_endian::U16;

use crate::maps::{self, HOPPERS, INITIATORS, LastHop, PROBERS};
use crate::parse::{Datagram, Headers};

/// Whether a datagram without a fault, to a port of the range, is surely ours. If so, remembers
/// the port for its sender.
#[inline(always)]
pub fn is_ours(frame: &XdpContext, datagram: &Datagram<'_>, settings: &Settings) -> bool {
    let headers = datagram.headers;
    let (used, listen) = (headers.destination_port, settings.listen_port);
    if repeats_last(frame, datagram) {
        return true;
    }
    let Some(proof) = proof(frame, datagram, settings) else {
        return false;
    };
    if has_socket(XdpContext::new(frame.ctx), headers) {
        return false;
    }
    learn(proof, headers, used, listen);
    true
}

/// Turns a datagram to a port of the range, which is ours, into one to the listen port.
#[inline(always)]
pub fn turn(frame: &XdpContext, datagram: &Datagram<'_>, settings: &Settings) {
    let headers = datagram.headers;
    let (used, listen) = (headers.destination_port, settings.listen_port);
    let Some(udp) = datagram.udp(frame) else {
        return;
    };
    let checksum = updated_udp_checksum(headers.checksum, used, listen);
    // SAFETY: the header lies within the frame, as just checked, and nobody holds a view of it.
    unsafe {
        (&raw mut (*udp).destination)
            .cast::<[u8; 2]>()
            .write(listen.to_be_bytes());
        (&raw mut (*udp).checksum).write(checksum.to_be_bytes());
    }
}

/// Remembers that the sender of a datagram without a fault sends to the listen port by now.
#[inline(always)]
pub fn keep(frame: &XdpContext, datagram: &Datagram<'_>, settings: &Settings) {
    if repeats_last(frame, datagram) {
        return;
    }
    if let Some(proof) = proof(frame, datagram, settings) {
        let listen = settings.listen_port;
        learn(proof, datagram.headers, listen, listen);
    }
}

/// Whether a datagram without a fault has the same sender, index and port as the last one that
/// this CPU found to be ours: then all is remembered, and nothing else needs a look.
///
/// A stream is a row of such datagrams, and looking each of them up would cost it a sixth. The row
/// ends where any CPU remembers something else, as that may be about this sender, and after
/// [`HOP_ROW_TICKS`], as a socket may have been opened at the port.
#[inline(always)]
fn repeats_last(frame: &XdpContext, datagram: &Datagram<'_>) -> bool {
    let Some(last) = maps::last_hop() else {
        return false;
    };
    let headers = datagram.headers;
    if last.used != headers.destination_port
        || last.port != headers.source_port
        || last.hops != maps::hops()
        || ticks().wrapping_sub(last.at) >= HOP_ROW_TICKS
        || last.remote != headers.source
        || last.local != headers.destination
        || datagram.payload_word(frame, 0) != Some(DATA)
        || datagram.payload_word(frame, DATA_RECEIVER) != Some(last.index)
    {
        return false;
    }
    // A probe goes into a book of its own.
    (datagram.payload_len(frame)).is_some_and(|length| length != PROBE_LEN)
}

/// The kernel's clock, in ticks.
#[inline(always)]
fn ticks() -> u64 {
    // SAFETY: a helper without arguments.
    unsafe { bpf_jiffies64() }
}

/// What shows that a message is for us, and so which of our replies go to the port that it came to.
///
/// Whoever knows our public key can send an initiation in another's name. So it decides about what
/// answers initiations, and never about where the other's session hears from.
#[derive(Clone, Copy)]
enum Proof {
    /// A receiver index, which only the two ends of its session know and who sees their packets.
    Index(u32),
    /// The same, in what has the length of a probe.
    Probe(u32),
    /// The MAC of an initiation.
    Mac,
}

/// Where it stands who sends to which port.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
enum Book {
    Hoppers,
    Initiators,
    Probers,
}

impl Book {
    #[inline(always)]
    fn map(self) -> &'static LruHashMap<Hopper, u16, MAX_HOPPERS> {
        match self {
            Self::Hoppers => &HOPPERS,
            Self::Initiators => &INITIATORS,
            Self::Probers => &PROBERS,
        }
    }
}

/// Remembers to which port of ours the sender of a datagram with this proof sends.
#[inline(always)]
fn learn(proof: Proof, headers: &Headers, used: u16, listen: u16) {
    // Who never used another than the listen port takes no room: without an entry its replies come
    // from there. But a probe to the listen port may come from one who sends data elsewhere.
    let takes_room = used != listen;
    let (book, index, takes_room) = match proof {
        Proof::Mac => (Book::Initiators, Hopper::ANY_SESSION, takes_room),
        Proof::Index(index) => (Book::Hoppers, index, takes_room),
        Proof::Probe(index) => (Book::Probers, index, true),
    };
    // Read before, so that another CPU's change meanwhile ends the row.
    let hops = maps::hops();
    let mut changes = u64::from(remember(book, index, headers, used, takes_room));
    if index != Hopper::ANY_SESSION {
        let any = Hopper::ANY_SESSION;
        changes += u64::from(remember(book, any, headers, used, takes_room));
    }
    if book == Book::Hoppers
        && let Some(last) = maps::last_hop()
    {
        *last = LastHop {
            remote: headers.source,
            local: headers.destination,
            index,
            port: headers.source_port,
            used,
            hops: hops.wrapping_add(changes),
            at: ticks(),
        };
    }
}

/// Remembers to which port of ours this sender sends. Whether something else was known.
///
/// A function of its own, to keep the key off the caller's stack; so is the next.
#[inline(never)]
fn remember(book: Book, index: u32, headers: &Headers, used: u16, takes_room: bool) -> bool {
    let hopper = Hopper {
        remote: headers.source,
        local: headers.destination,
        port: headers.source_port.to_be_bytes(),
        reserved: [0; 2],
        index,
    };
    let hoppers = book.map();
    if let Some(known) = hoppers.get_ptr_mut(hopper) {
        // SAFETY: the map's memory lives as long as the program. Should the entry have gone to
        // another sender meanwhile, that one is answered from a wrong port until its next packet.
        unsafe {
            if *known == used {
                return false;
            }
            *known = used;
        }
    } else if takes_room {
        // Without room its replies come from the listen port.
        let _ = hoppers.insert(hopper, used, u64::from(BPF_ANY));
    } else {
        return false;
    }
    if book == Book::Hoppers {
        maps::count_hop();
    }
    true
}

/// Whether a socket of this host waits for the datagram, on the port it was sent to.
#[inline(never)]
fn has_socket(frame: XdpContext, headers: &Headers) -> bool {
    let mut tuple = Tuple {
        source: headers.source,
        destination: headers.destination,
        source_port: headers.source_port.to_be_bytes(),
        destination_port: headers.destination_port.to_be_bytes(),
    };
    let (start, length) = if is_v4_mapped(&headers.destination) {
        // The same, with IPv4 addresses: their last four bytes.
        tuple.source.copy_within(12.., 0);
        tuple.source[4..8].copy_from_slice(&tuple.destination[12..]);
        tuple.source[8..10].copy_from_slice(&tuple.source_port);
        tuple.source[10..12].copy_from_slice(&tuple.destination_port);
        (&raw mut tuple, TUPLE_V4)
    } else {
        (&raw mut tuple, size_of::<Tuple>() as u32)
    };
    // SAFETY: the helper reads `length` bytes of the tuple; the context is valid for as long as
    // the program runs.
    let socket =
        unsafe { bpf_sk_lookup_udp(frame.as_ptr(), start.cast(), length, THIS_NAMESPACE, 0) };
    if socket.is_null() {
        return false;
    }
    // SAFETY: the helper gave it, once, and it isn't used any more.
    unsafe { bpf_sk_release(socket.cast()) };
    true
}

/// `BPF_F_CURRENT_NETNS`: that of the interface.
const THIS_NAMESPACE: u64 = u64::MAX;

/// What a socket is looked for by: `bpf_sock_tuple` for IPv6.
#[repr(C)]
struct Tuple {
    source: Address,
    destination: Address,
    source_port: [u8; 2],
    destination_port: [u8; 2],
}

/// Bytes of that for IPv4.
const TUPLE_V4: u32 = 4 + 4 + 2 + 2;

/// How the maps confirm that this is a message to us, if they do. It has no fault.
#[inline(always)]
fn proof(frame: &XdpContext, datagram: &Datagram<'_>, settings: &Settings) -> Option<Proof> {
    let length = datagram.payload_len(frame)?;
    let kind = MessageKind::of(datagram.payload_word(frame, 0)?)?;
    if kind.fit(length) != Fit::One {
        return None;
    }
    let Some(receiver) = kind.receiver_offset() else {
        // Its MAC was verified, or it would have a fault.
        return (settings.check_mac1 != 0).then_some(Proof::Mac);
    };
    let index = datagram.payload_word(frame, receiver)?;
    let is_probe = kind == MessageKind::Data && length == PROBE_LEN;
    maps::is_our_index(index).then_some(if is_probe {
        Proof::Probe(index)
    } else {
        Proof::Index(index)
    })
}

/// Turns the first fragment of a datagram to a port of the range, if it is surely ours. All other
/// frames stay as they are.
///
/// A handshake message never comes in fragments: the smallest links carry it whole.
#[inline(never)]
pub fn fragment(frame: XdpContext) {
    let mut place = MaybeUninit::uninit();
    let Some(datagram) = Datagram::parse_first_fragment(&frame, &mut place) else {
        return;
    };
    let Some(settings) = maps::settings().filter(|settings| settings.hop_last != 0) else {
        return;
    };
    let headers = datagram.headers;
    let (used, listen) = (headers.destination_port, settings.listen_port);
    let is_hop = settings.is_hop_port(used);
    if !(is_hop || used == listen)
        || datagram.payload_word(&frame, 0) != Some(DATA)
        || !maps::is_local(&headers.destination)
        || maps::is_denied(&headers.source)
    {
        return;
    }
    let Some(index) = datagram.payload_word(&frame, DATA_RECEIVER) else {
        return;
    };
    if !maps::is_our_index(index) || (is_hop && has_socket(XdpContext::new(frame.ctx), headers)) {
        return;
    }
    learn(Proof::Index(index), headers, used, listen);
    if is_hop {
        turn(&frame, &datagram, settings);
    }
}

/// Where the receiver's index is in data.
const DATA_RECEIVER: usize = core::mem::offset_of!(DataHeader, receiver);

/// Lets a reply leave from the port that its receiver sent to.
#[inline(always)]
pub fn reply(packet: &TcContext) -> i32 {
    let _ = turn_back(packet);
    TC_ACT_UNSPEC
}

#[inline(always)]
fn turn_back(packet: &TcContext) -> Option<()> {
    let settings = maps::settings().filter(|settings| settings.hop_last != 0)?;
    // SAFETY: the context is valid for as long as the program runs.
    let (kind, length) = unsafe { ((*packet.skb.skb).protocol, (*packet.skb.skb).len) };
    let (at, source, destination) = match U16::from_bytes((kind as u16).to_ne_bytes()) {
        ethertype::IPV4 => {
            let ip: Ipv4 = load_ip(packet)?;
            let start = before_ip(length, u32::from(ip.total_length.get()))?;
            let plain = ip.version_and_length == Ipv4::PLAIN
                && ip.protocol == protocol::UDP
                && !ip.is_later_fragment();
            plain.then(|| {
                let at = start + IPV4_LEN;
                (at, v4_mapped(ip.source), v4_mapped(ip.destination))
            })?
        }
        ethertype::IPV6 => {
            let ip: Ipv6 = load_ip(packet)?;
            let ip_length = IPV6_LEN as u32 + u32::from(ip.payload_length.get());
            let at = before_ip(length, ip_length)? + IPV6_LEN;
            let (next_header, at) = if ip.next_header == protocol::IPV6_FRAGMENT {
                let fragment: Ipv6Fragment = load(packet, at)?;
                let first = (!fragment.is_later()).then_some(fragment.next_header)?;
                (first, at + IPV6_FRAGMENT_LEN)
            } else {
                (ip.next_header, at)
            };
            let plain = ip.version() == 6 && next_header == protocol::UDP;
            plain.then_some((at, ip.source, ip.destination))?
        }
        _ => return None,
    };
    let udp: Udp = load(packet, at)?;
    let listen = settings.listen_port;
    if udp.source.get() != listen {
        return None;
    }
    let message = at + UDP_LEN;
    let (book, index) = match u32::from_le_bytes(load(packet, message)?) {
        // They answer initiations.
        RESPONSE | COOKIE => (Book::Initiators, None),
        DATA => {
            let receiver = u32::from_le_bytes(load(packet, message + DATA_RECEIVER)?);
            let is_reply = usize::from(udp.length.get()) == UDP_LEN + PROBE_LEN;
            let book = if is_reply {
                Book::Probers
            } else {
                Book::Hoppers
            };
            (book, maps::our_index(receiver))
        }
        _ => (Book::Hoppers, None),
    };
    let hopper = Hopper {
        remote: destination,
        local: source,
        port: udp.destination.get().to_be_bytes(),
        reserved: [0; 2],
        // User space may not have told of the session yet, or had no room.
        index: index.unwrap_or(Hopper::ANY_SESSION),
    };
    let used = match book {
        Book::Probers => take_probed(hopper).or_else(|| port_used(Book::Hoppers, hopper))?,
        Book::Hoppers | Book::Initiators => port_used(book, hopper)?,
    };
    if used == listen {
        return None;
    }
    let checksum_at = (at + core::mem::offset_of!(Udp, checksum)) as u32;
    let port = used.to_be_bytes();
    // SAFETY: the helpers change the packet, of which no view is held, and read two bytes of
    // `port`; the context is valid for as long as the program runs. They refuse to write past
    // the packet's end.
    unsafe {
        let changed = bpf_l4_csum_replace(
            packet.skb.skb,
            checksum_at,
            u64::from(listen.to_be()),
            u64::from(used.to_be()),
            u64::from(BPF_F_MARK_MANGLED_0) | size_of::<u16>() as u64,
        );
        if changed != 0 {
            return None;
        }
        let source = (at + core::mem::offset_of!(Udp, source)) as u32;
        let _ = bpf_skb_store_bytes(packet.skb.skb, source, ptr::from_ref(&port).cast(), 2, 0);
    }
    Some(())
}

/// The port of ours that a peer sent to last.
#[inline(always)]
fn port_used(book: Book, hopper: Hopper) -> Option<u16> {
    // SAFETY: as in `remember`; two bytes are read at once.
    book.map().get_ptr(hopper).map(|used| unsafe { *used })
}

/// The port of ours that a probe came to which wasn't answered yet; from now on it was.
#[inline(always)]
fn take_probed(hopper: Hopper) -> Option<u16> {
    let probed = PROBERS.get_ptr_mut(hopper)?;
    // SAFETY: as in `remember`; two bytes are read and written at once. Should a probe be
    // remembered between the two, its reply leaves from where data does.
    let used = unsafe {
        let used = *probed;
        *probed = ANSWERED;
        used
    };
    (used != ANSWERED).then_some(used)
}

/// Stands for the port of a probe that was answered; nobody can send to it.
const ANSWERED: u16 = 0;

/// What is before the IP header of a packet that leaves: an Ethernet header or, on PPP and on tunnels,
/// nothing. Nothing is behind the IP packet.
#[inline(always)]
fn before_ip(length: u32, ip_length: u32) -> Option<usize> {
    match length.checked_sub(ip_length)? {
        0 => Some(0),
        before if before as usize == ETHERNET_LEN => Some(ETHERNET_LEN),
        _ => None,
    }
}

/// The IP header.
#[inline(always)]
fn load_ip<T: FromBytes>(packet: &TcContext) -> Option<T> {
    let mut bytes = MaybeUninit::<T>::uninit();
    // SAFETY: as in `load`.
    let result = unsafe {
        bpf_skb_load_bytes_relative(
            packet.as_ptr(),
            0,
            bytes.as_mut_ptr().cast(),
            size_of::<T>() as u32,
            BPF_HDR_START_NET,
        )
    };
    // SAFETY: as in `load`.
    (result == 0).then(|| unsafe { bytes.assume_init() })
}

/// Bytes of the packet, from its first one on.
#[inline(always)]
fn load<T: FromBytes>(packet: &TcContext, offset: usize) -> Option<T> {
    let mut bytes = MaybeUninit::<T>::uninit();
    // SAFETY: the helper writes size_of::<T>() bytes to `bytes`; the context is valid for as
    // long as the program runs.
    let result = unsafe {
        bpf_skb_load_bytes(
            packet.as_ptr(),
            offset as u32,
            bytes.as_mut_ptr().cast(),
            size_of::<T>() as u32,
        )
    };
    // SAFETY: on success the helper has written all of it, and any bytes are a valid value.
    (result == 0).then(|| unsafe { bytes.assume_init() })
}
