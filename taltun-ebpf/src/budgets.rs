//! Budgets: how often costly work is done, for all sources together.
//!
//! See [`taltun_common::budget`] for what they are and how large. Each CPU has its own, so no
//! CPU waits for another; only the budget of cookie replies is shared.

use aya_ebpf::helpers::bpf_ktime_get_ns;

use taltun_common::budget::{Budget, COOKIE_REPLIES};

use crate::maps;

/// The clock of all buckets.
#[inline(always)]
pub fn now() -> u64 {
    // SAFETY: a helper without arguments.
    unsafe { bpf_ktime_get_ns() }
}

/// Whether there is some of this budget left.
#[inline(always)]
pub fn has(budget: Budget, now: u64) -> bool {
    maps::budget(budget as u32).is_none_or(|full_at| {
        // SAFETY: an array's entries are never freed, and this one belongs to the CPU we run
        // on.
        budget.rate().allows(unsafe { *full_at }, now)
    })
}

/// Takes one of this budget.
#[inline(always)]
pub fn take(budget: Budget, now: u64) {
    if let Some(full_at) = maps::budget(budget as u32) {
        // SAFETY: as above, and nothing of ours interrupts us on this CPU.
        unsafe { *full_at = budget.rate().taken(*full_at, now) };
    }
}

/// Whether one more may be answered with a cookie.
#[inline(always)]
pub fn has_reply(now: u64) -> bool {
    maps::replies().is_none_or(|full_at| {
        // SAFETY: an array's entries are never freed; an aligned word is read in one piece.
        COOKIE_REPLIES.allows(unsafe { full_at.read_volatile() }, now)
    })
}

/// Takes a cookie reply, if there is one. Two CPUs that do this at once may take one for
/// both.
#[inline(always)]
pub fn take_reply(now: u64) {
    if let Some(full_at) = maps::replies() {
        // SAFETY: as above; it is written in one piece, too.
        unsafe {
            let before = full_at.read_volatile();
            if COOKIE_REPLIES.allows(before, now) {
                full_at.write_volatile(COOKIE_REPLIES.taken(before, now));
            }
        }
    }
}
