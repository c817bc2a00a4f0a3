//! Taltun's eBPF programs: what happens to a frame before the kernel makes a packet of it,
//! and to a packet before and after it is in the tunnel.
//!
//! ```text
//! XDP  frame → parse ──not UDP to our port──────────────────────────────→ pass, untouched
//!                └─ datagram → shield (initiations, mac) ── sources (count) → pass or drop
//!                                     └─ transport ── sources ── redirect → AF_XDP or pass
//!      a datagram to a port of the range → hop: ours? then as above, and what passes is turned
//!                                          to our port; else passed, untouched
//!      the first fragment of one         → hop: ours? then turned; passed
//! SK   datagram to our port → steer → the socket of its worker
//! TC   packet into or out of the tunnel → tunnel ── sources (count) → go on or drop
//!      reply out of the underlay → hop: from the port that its receiver sent to
//! ```
//!
//! One rule stands above all others: **never make things worse**. Whatever isn't plainly
//! an ordinary datagram to our port passes untouched, whatever can't be decided passes,
//! and so does whatever meets an error; user space checks everything again, with keys.
//!
//! The XDP program exists twice, because a frame isn't always one datagram: see
//! [`shield::Frames`]. User space loads the one that suits how it attaches.
//!
//! This crate is compiled for `bpfel-unknown-none` by `taltun/build.rs`. It stays a member
//! of the workspace, so that it has the same lockfile and lints as the rest, and for the
//! host it compiles to a program that does nothing, so that clippy can read it.
#![cfg_attr(target_arch = "bpf", no_std, no_main)]
#![cfg_attr(
    target_arch = "bpf",
    feature(core_intrinsics),
    allow(internal_features, reason = "see `atomic`")
)]
#![allow(
    clippy::inline_always,
    reason = "a call costs stack, of which the whole chain has 512 bytes"
)]
#![allow(
    clippy::needless_pass_by_value,
    reason = "aya's macros hand the context over by value"
)]

mod atomic;
mod budgets;
mod hop;
mod initiations;
mod mac;
mod maps;
mod parse;
mod redirect;
mod samples;
mod shield;
mod sources;
mod steer;
mod tunnel;

use core::mem::MaybeUninit;

use aya_ebpf::bindings::sk_action::SK_PASS;
use aya_ebpf::bindings::xdp_action::{XDP_DROP, XDP_PASS, XDP_REDIRECT};
use aya_ebpf::macros::{classifier, sk_reuseport, xdp};
use aya_ebpf::programs::{SkReuseportContext, TcContext, XdpContext};

use shield::Frames;
use sources::Side;

/// For driver mode.
#[xdp]
fn taltun_xdp(frame: XdpContext) -> u32 {
    handle(&frame, Frames::Single)
}

/// For generic mode.
#[xdp]
fn taltun_xdp_skb(frame: XdpContext) -> u32 {
    handle(&frame, Frames::MayBeMerged)
}

/// For packets that go into the tunnel.
#[classifier]
fn taltun_tun_out(packet: TcContext) -> i32 {
    tunnel::outbound(&packet)
}

/// For packets that came out of the tunnel.
#[classifier]
fn taltun_tun_in(packet: TcContext) -> i32 {
    tunnel::inbound(&packet)
}

/// For packets that leave by the underlay.
#[classifier]
fn taltun_reply_port(packet: TcContext) -> i32 {
    hop::reply(&packet)
}

/// For the sockets that share our port.
#[sk_reuseport]
fn taltun_reuseport(datagram: SkReuseportContext) -> u32 {
    steer::steer(&datagram);
    SK_PASS
}

/// From a frame to a verdict, from a verdict to an action.
#[inline(always)]
fn handle(frame: &XdpContext, frames: Frames) -> u32 {
    let mut place = MaybeUninit::uninit();
    let Some((datagram, settings)) = shield::ours(frame, &mut place) else {
        hop::fragment(XdpContext::new(frame.ctx));
        return XDP_PASS;
    };
    let fault = shield::fault(frame, frames, &datagram, settings);
    let is_hop = datagram.headers.destination_port != settings.listen_port;
    if is_hop {
        // What isn't surely ours belongs to whoever has that port, and isn't counted.
        if fault.is_some() || !hop::is_ours(frame, &datagram, settings) {
            return XDP_PASS;
        }
    } else if settings.hop_last != 0 && fault.is_none() {
        hop::keep(frame, &datagram, settings);
    }
    let action = match fault {
        Some(reason) => {
            maps::count_drops(reason, 1);
            // SAFETY: the kernel hands the program a valid context for as long as it runs.
            let interface = unsafe { (*frame.ctx).ingress_ifindex };
            let (headers, length) = (datagram.headers, parse::frame_len(frame) as u32);
            samples::tell(
                reason,
                &headers.source,
                headers.source_port,
                interface,
                length,
            );
            XDP_DROP
        }
        None if shield::is_transport(frame, frames, &datagram) => XDP_REDIRECT,
        None => XDP_PASS,
    };
    let bytes = parse::frame_len(frame) as u64;
    let reason = sources::code(fault);
    sources::add(Side::Outside, &datagram.headers.source, 1, bytes, reason);
    let action = if action == XDP_REDIRECT {
        redirect::transport(frame)
    } else {
        action
    };
    if is_hop && action == XDP_PASS {
        hop::turn(frame, &datagram, settings);
    }
    action
}

/// Never reached, and the verifier proves it: it refuses a loop without an end. The
/// compiler asks for a handler all the same.
#[cfg(target_arch = "bpf")]
#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

/// The host's build exists for clippy alone.
#[cfg(not(target_arch = "bpf"))]
fn main() {}
