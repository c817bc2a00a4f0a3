//! Counters per source, one set per CPU.
//!
//! A new source costs a quarter of a microsecond, several times as much as a known one, and
//! takes the place of an old one; and a flood may come from ever new sources. So only a limited
//! number get an entry per second; packets of the others are counted together.

use aya_ebpf::bindings::BPF_ANY;
use aya_ebpf::helpers::bpf_jiffies64;

use taltun_common::address::Address;
use taltun_common::budget::Budget;
use taltun_common::drops::DropReason;
use taltun_common::maps::SourceCounters;

use crate::budgets;
use crate::maps::{self, SOURCES, SOURCES_INNER};

/// Which sources.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum Side {
    /// Senders to our port.
    Outside = 0,
    /// Whose packets come out of the tunnel.
    Inside = 1,
}

/// Why packets are dropped, as [`add`] takes it, and as counters keep it: zero for packets
/// that aren't.
#[inline(always)]
pub fn code(fault: Option<DropReason>) -> u64 {
    match fault {
        Some(reason) => 1 + reason as u64,
        None => 0,
    }
}

/// Counts packets of this source, dropped for the reason with this [code]. A function of its
/// own, to keep keys and counters off the caller's stack.
#[inline(never)]
pub fn add(side: Side, source: &Address, packets: u64, bytes: u64, reason: u64) {
    let drops = if reason == 0 { 0 } else { packets };
    // Each CPU keeps the last reason that it had, so this says which of them is the last one.
    let last_drop = if reason == 0 {
        0
    } else {
        // SAFETY: a helper without arguments.
        unsafe { bpf_jiffies64() }
    };
    let (sources, budget) = match side {
        Side::Outside => (&SOURCES, Budget::Sources),
        Side::Inside => (&SOURCES_INNER, Budget::SourcesInner),
    };
    let known = sources.get_ptr_mut(source);
    let now = if known.is_none() { budgets::now() } else { 0 };
    if known.is_none() && budgets::has(budget, now) {
        let first = SourceCounters {
            packets,
            bytes,
            drops,
            reason,
            last_drop,
        };
        if sources.insert(source, first, u64::from(BPF_ANY)).is_ok() {
            budgets::take(budget, now);
            return;
        }
    }
    // A source that can't be counted doesn't cost a good packet: the verdict stays.
    if let Some(counters) = known.or_else(|| maps::other_sources(side as u32)) {
        // SAFETY: the map's memory lives as long as the program, and this CPU's part of it
        // is written by nobody else. Another CPU may give the entry to a new source while
        // we write: then these packets are counted for the wrong one, and nothing worse.
        unsafe {
            (*counters).packets = (*counters).packets.wrapping_add(packets);
            (*counters).bytes = (*counters).bytes.wrapping_add(bytes);
            (*counters).drops = (*counters).drops.wrapping_add(drops);
            if reason != 0 {
                (*counters).reason = reason;
                (*counters).last_drop = last_drop;
            }
        }
    }
}
