//! For tests: whether work grows with what it is done on, or with the square of that.
//!
//! Told by the processor time of the test's own thread, of which other threads take nothing,
//! and by the best of a few tries. What is asked for lies halfway between the two answers,
//! so that neither a slow machine nor a busy one changes it.

use std::time::Duration;

/// How much larger the large one is: linear work takes 8 times as long, quadratic work 64
/// times.
const FACTOR: usize = 8;
const MOST: f64 = 22.0;

/// Panics if `work` on a multiple of `size` takes more than that multiple of its time by
/// far. It is given what `prepare` makes, whose time doesn't count.
pub(crate) fn assert_linear<T>(size: usize, prepare: impl Fn(usize) -> T, mut work: impl FnMut(T)) {
    let mut best = |size: usize| {
        (0..3)
            .map(|_| {
                let on = prepare(size);
                let before = thread_time();
                work(on);
                thread_time().saturating_sub(before)
            })
            .min()
            .unwrap_or_default()
    };
    let (small, large) = (best(size), best(size * FACTOR));
    let ratio = large.as_secs_f64() / small.as_secs_f64().max(1e-6);
    assert!(
        ratio < MOST,
        "{FACTOR} times as much took {ratio:.1} times as long: {small:?}, then {large:?}"
    );
}

fn thread_time() -> Duration {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: `time` is a valid place to write one timespec to.
    unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time) };
    let nanos = u32::try_from(time.tv_nsec).unwrap_or_default();
    Duration::new(time.tv_sec.unsigned_abs(), nanos)
}
