//! Overwrites what is left of secrets where no value is any more.

use std::hint::black_box;
use std::mem::MaybeUninit;

use zeroize::Zeroize as _;

/// Words that a handshake's calls take of the stack at the most, with room to spare.
const WORDS: usize = 4096;

/// Does `work`, and then overwrites the part of the stack that it was done on.
///
/// Values with keys wipe themselves when they are dropped. But a value that is moved is copied, and
/// the compiler keeps parts of some for a while: these copies lie on the stack until others
/// happen to come by.
#[inline(never)]
pub(crate) fn after<T>(work: impl FnOnce() -> T) -> T {
    let outcome = apart(work);
    stack();
    outcome
}

/// In a frame of its own, which lies where [`stack`] has its area.
#[inline(never)]
fn apart<T>(work: impl FnOnce() -> T) -> T {
    work()
}

#[allow(
    clippy::large_stack_arrays,
    reason = "the stack is what is to be overwritten"
)]
#[inline(never)]
fn stack() {
    let mut area = [MaybeUninit::<u64>::uninit(); WORDS];
    area.zeroize();
    black_box(&area);
}
