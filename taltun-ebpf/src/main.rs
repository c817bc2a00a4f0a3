//! Taltun's eBPF programs: what happens to a frame before the kernel makes a packet of it,
//! and to a packet before and after it is in the tunnel.
//!
//! ```text
//! XDP  frame → parse ──not UDP to our port──────────────────────────────→ pass, untouched
//!                └─ datagram → shield (initiations, mac1) ── sources (count) → pass or drop
//! TC   packet into or out of the tunnel → tunnel ── sources (count) → go on or drop
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
#![allow(
    clippy::inline_always,
    reason = "a call costs stack, of which the whole chain has 512 bytes"
)]
#![allow(
    clippy::needless_pass_by_value,
    reason = "aya's macros hand the context over by value"
)]

mod initiations;
mod mac1;
mod maps;
mod parse;
mod shield;
mod sources;
mod tunnel;

use aya_ebpf::bindings::xdp_action::{XDP_DROP, XDP_PASS};
use aya_ebpf::macros::{classifier, xdp};
use aya_ebpf::programs::{TcContext, XdpContext};

use taltun_common::address::Address;

use shield::{Frames, Verdict};

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

/// From a frame to a verdict, from a verdict to an action.
#[inline(always)]
fn handle(frame: &XdpContext, frames: Frames) -> u32 {
    match shield::judge(frame, frames) {
        Verdict::NotOurs => XDP_PASS,
        Verdict::Pass(source) => {
            count(&source, frame, 0);
            XDP_PASS
        }
        Verdict::Drop(source, reason) => {
            count(&source, frame, 1);
            maps::count_drop(reason);
            XDP_DROP
        }
    }
}

/// Counts a frame of this source.
#[inline(always)]
fn count(source: &Address, frame: &XdpContext, drops: u64) {
    let bytes = parse::frame_len(frame) as u64;
    sources::add(&maps::SOURCES, source, 1, bytes, drops);
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
