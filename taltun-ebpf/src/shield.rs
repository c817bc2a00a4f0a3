//! What is dropped: the policy, on one page.
//!
//! The order is from cheap and certain to costly:
//!
//! 1. not to our port or one of the range, or not to one of our addresses: not ours, untouched
//! 2. source on the deny list: drop
//! 3. lengths that contradict each other: pass, the kernel decides
//! 4. not shaped like a WireGuard message: drop
//! 5. to a receiver index that we never gave out: drop, but for some data a second from where peers are, at a hub of
//!    a group
//! 6. an initiation that is one too many, or a handshake message whose MACs don't verify:
//!    drop; see [`initiations`]

use core::mem::MaybeUninit;

use aya_ebpf::programs::XdpContext;

use taltun_common::address::pseudo_header_sum;
use taltun_common::budget::Budget;
use taltun_common::drops::DropReason;
use taltun_common::maps::Settings;
use taltun_common::wire::{DATA, DATA_MIN_LEN, Fit, MessageKind};

use crate::parse::{Datagram, Headers};
use crate::{budgets, initiations, mac, maps};

/// Whether a frame can hold more than one datagram.
///
/// The kernel merges datagrams of one flow into a single packet (GRO on receiving,
/// `UDP_SEGMENT` on a sender behind a virtual link), all of one size but the last, which
/// may be shorter. IP and UDP then name the length of the whole. Nothing in the frame says
/// so; but all that has been merged has an *unfinished* checksum, which an attacker may
/// imitate and an ordinary sender on the same host may also have. So it can rule merging
/// out, and can't prove it. Where it may be: what follows the first message isn't judged
/// by the first one's lengths and index, and a good message never falls with a bad one.
///
/// (With `rx-gro-list`, off unless somebody switches it on, merged datagrams keep a
/// finished checksum. The kernel makes no such lists for sockets that ask for GRO, and
/// ours do.)
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Frames {
    /// Frames as they were on the wire: driver mode.
    Single,
    /// Packets that the kernel has already worked on: generic mode.
    MayBeMerged,
}

/// The datagram in this frame, if it is for us, and what user space asks for.
#[inline(always)]
pub fn ours<'a>(
    frame: &XdpContext,
    place: &'a mut MaybeUninit<Headers>,
) -> Option<(Datagram<'a>, &'static Settings)> {
    let datagram = Datagram::parse(frame, place)?;
    let settings = maps::settings()?;
    let port = datagram.headers.destination_port;
    let to_us = (port == settings.listen_port || settings.is_hop_port(port))
        && maps::is_local(&datagram.headers.destination);
    to_us.then_some((datagram, settings))
}

/// The reason to drop it, if there is one.
#[inline(always)]
pub fn fault(
    frame: &XdpContext,
    frames: Frames,
    datagram: &Datagram<'_>,
    settings: &Settings,
) -> Option<DropReason> {
    if maps::is_denied(&datagram.headers.source) {
        return Some(DropReason::Denied);
    }
    message_fault(frame, frames, datagram, settings)
}

/// Whether a datagram without a fault is one transport message. Unlike the check for faults,
/// this says no to what can't be decided.
#[inline(always)]
pub fn is_transport(frame: &XdpContext, frames: Frames, datagram: &Datagram<'_>) -> bool {
    let Some(length) = datagram.payload_len(frame) else {
        return false;
    };
    length >= DATA_MIN_LEN
        && datagram.payload_word(frame, 0) == Some(DATA)
        && !may_be_merged(frames, datagram)
}

/// What is certainly wrong with the messages in this datagram.
#[inline(always)]
fn message_fault(
    frame: &XdpContext,
    frames: Frames,
    datagram: &Datagram<'_>,
    settings: &Settings,
) -> Option<DropReason> {
    let length = datagram.payload_len(frame)?;
    if length < size_of::<u32>() {
        return Some(DropReason::Shape);
    }
    let Some(kind) = MessageKind::of(datagram.payload_word(frame, 0)?) else {
        // Should it be merged: no peer sends such a datagram, so the flow isn't a peer's.
        return Some(DropReason::Shape);
    };
    match kind.fit(length) {
        Fit::Wrong => return Some(DropReason::Shape),
        Fit::Several(second) => {
            let merged = may_be_merged(frames, datagram)
                && MessageKind::of(datagram.payload_word(frame, second)?).is_some();
            return if !merged {
                Some(DropReason::Shape)
            } else if kind == MessageKind::Initiation {
                initiations::fault_merged(frame, datagram, settings, length)
            } else {
                None
            };
        }
        Fit::One => {}
    }
    let Some(receiver) = kind.receiver_offset() else {
        return initiations::fault(frame, datagram, settings);
    };
    if settings.check_indices != 0 && !maps::is_our_index(datagram.payload_word(frame, receiver)?) {
        // Only data can be several messages without a sign of it. A peer whose session we have
        // lost sends more data, and then a handshake, which may be merged with that data.
        let merged = kind == MessageKind::Data
            && length >= 2 * DATA_MIN_LEN
            && may_be_merged(frames, datagram);
        if merged || kind == MessageKind::Data && may_be_misrouted(datagram, settings) {
            return None;
        }
        return Some(DropReason::UnknownIndex);
    }
    if kind == MessageKind::Response
        && let Some(state) = maps::mac1_state(settings)
        && !mac::is_response_right(frame, datagram, state)?
    {
        return Some(DropReason::Mac1);
    }
    None
}

/// Whether data of a session that isn't ours may be of another hub's peer, for which user space looks: it comes
/// from where one was heard, and not too often.
#[inline(always)]
fn may_be_misrouted(datagram: &Datagram<'_>, settings: &Settings) -> bool {
    if settings.pass_misrouted == 0 || !maps::is_endpoint(&datagram.headers.source) {
        return false;
    }
    let now = budgets::now();
    let has_any = budgets::has(Budget::Misrouted, now);
    if has_any {
        budgets::take(Budget::Misrouted, now);
    }
    has_any
}

/// Whether this may be several datagrams in one.
#[inline(always)]
fn may_be_merged(frames: Frames, datagram: &Datagram<'_>) -> bool {
    frames == Frames::MayBeMerged && has_unfinished_checksum(datagram.headers)
}

/// A function of its own, to keep the addresses' bytes off the caller's stack.
#[inline(never)]
fn has_unfinished_checksum(headers: &Headers) -> bool {
    headers.checksum == pseudo_header_sum(&headers.source, &headers.destination, headers.udp_length)
}
