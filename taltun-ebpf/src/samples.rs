//! Samples of dropped packets, for the log: a few a second on each CPU.
//!
//! Only where user space asks for them when it loads the programs. Where it doesn't, the
//! verifier knows the switch to be off for good and takes all of this out of them.

use core::ptr;

use aya_ebpf::btf_maps::RingBuf;
use aya_ebpf::macros::btf_map;

use taltun_common::address::Address;
use taltun_common::budget::Budget;
use taltun_common::drops::DropReason;
use taltun_common::maps::{SAMPLES_RING, Sample};

use crate::budgets;

/// Whether samples are wanted; user space writes it into the program before that is loaded.
#[unsafe(no_mangle)]
static TALTUN_SAMPLES: u8 = 0;

#[btf_map]
static SAMPLES: RingBuf<Sample, SAMPLES_RING> = RingBuf::new();

/// Writes a sample of a dropped packet.
#[inline(always)]
pub fn tell(reason: DropReason, source: &Address, port: u16, interface: u32, length: u32) {
    // SAFETY: a reference is valid to read from. Volatile, because it isn't what it says here.
    if unsafe { ptr::read_volatile(&raw const TALTUN_SAMPLES) } != 0 {
        write(reason as u32, source, u32::from(port), interface, length);
    }
}

/// A function of its own, to keep the sample off the caller's stack.
#[inline(never)]
fn write(reason: u32, source: &Address, port: u32, interface: u32, length: u32) -> bool {
    let now = budgets::now();
    if !budgets::has(Budget::Samples, now) {
        return false;
    }
    budgets::take(Budget::Samples, now);
    let sample = Sample {
        source: *source,
        reason,
        interface,
        length,
        port,
    };
    // If user space doesn't read fast enough, there are enough samples already.
    SAMPLES.output(sample, 0).is_ok()
}
