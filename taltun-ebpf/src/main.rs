//! Taltun's eBPF programs: what happens to a frame before the kernel makes a packet of it.
//!
//! ```text
//! frame → parse ──not UDP to our port──────────────────────────→ pass, untouched
//!           └─ datagram → shield ─── verdict ── sources (count) → pass or drop
//! ```
//!
//! One rule stands above all others: **never make things worse**. Whatever isn't plainly
//! an ordinary datagram to our port passes untouched, whatever can't be decided passes,
//! and so does whatever meets an error; user space checks everything again, with keys.
//!
//! The program exists twice, because a frame isn't always one datagram: see
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

mod maps;
mod parse;
mod shield;
mod sources;

use aya_ebpf::bindings::xdp_action::{XDP_DROP, XDP_PASS};
use aya_ebpf::macros::xdp;
use aya_ebpf::programs::XdpContext;

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

/// From a frame to a verdict, from a verdict to an action.
#[inline(always)]
fn handle(frame: &XdpContext, frames: Frames) -> u32 {
    match shield::judge(frame, frames) {
        Verdict::NotOurs => XDP_PASS,
        Verdict::Pass(source) => {
            sources::count(&source, frame, false);
            XDP_PASS
        }
        Verdict::Drop(source, reason) => {
            sources::count(&source, frame, true);
            maps::count_drop(reason);
            XDP_DROP
        }
    }
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
