//! The workers: batches of packets between TUN and UDP, run to completion.
//!
//! A worker owns one UDP socket of a `SO_REUSEPORT` group and one TUN queue, and has two
//! threads: `outbound` (TUN → seal → UDP) and `inbound` (UDP → open → TUN, or → seal →
//! UDP for relayed packets). Each takes what is ready, never waits to fill a batch, and
//! carries it through to the end itself, so packets of a flow neither cross threads nor
//! overtake each other. The cipher work of a large batch may be shared with the helpers of a
//! [`crew`], and is complete before anything of the batch is sent or written.
//!
//! ```text
//!            poll, read ×64          seal in place          sendmmsg + UDP_SEGMENT
//!   TUN ─────────────────────► arena ─────────────► runs ─────────────────────────► UDP
//!
//!            recvmmsg + UDP_GRO      open in place    ┌──── write ────────────────► TUN
//!   UDP ─────────────────────► arena ─────────────────┤
//!                                                     └─ seal ─► runs ─ sendmmsg ─► UDP
//! ```
//!
//! What packets need of `unsafe` is in [`sys`], behind safe types.

pub mod clock;
pub mod counters;
pub mod crew;
pub mod data_plane;
pub mod filter;
pub mod gate;
mod guard;
mod inbound;
mod inbound_batch;
mod local_packets;
pub mod offload;
mod outbound;
pub mod redirect;
pub mod relay_pairs;
pub mod relayed_sources;
mod release;
pub mod rights;
pub mod rules;
pub mod runs;
pub mod scheduling;
pub mod shaping;
pub mod shared;
pub mod sparse;
mod standing;
pub mod sys;
pub mod tap;
#[cfg(test)]
mod threads;
pub mod transmit;
pub mod tun;
pub mod udp;
pub mod unreachable;
pub mod worker;
pub mod worker_set;
pub mod xsk;
