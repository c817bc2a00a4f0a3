//! Adding to a number that several CPUs change.
//!
//! `AtomicU64` has no such operation for this target: the kernels that we load on don't all tell
//! what was there before. Adding without being told is an instruction of all of them.

/// Adds to a number.
///
/// # Safety
///
/// The number is valid for as long as the program runs and lies at a multiple of eight bytes; it is
/// changed by this function alone.
#[cfg(target_arch = "bpf")]
#[inline(always)]
pub unsafe fn add(number: *mut u64, more: u64) {
    use core::intrinsics::{AtomicOrdering, atomic_xadd};
    // SAFETY: the caller vouches for it.
    unsafe { atomic_xadd::<u64, u64, { AtomicOrdering::Relaxed }>(number, more) };
}

/// The same for the host, where it never runs.
#[cfg(not(target_arch = "bpf"))]
pub unsafe fn add(number: *mut u64, more: u64) {
    use core::sync::atomic::{AtomicU64, Ordering};
    // SAFETY: the caller vouches for it.
    unsafe { AtomicU64::from_ptr(number) }.fetch_add(more, Ordering::Relaxed);
}
