//! The replay window: the sliding window of RFC 6479 with WireGuard's size (paper §5.4.6).
//!
//! A ring of 64-bit words indexed by counter. One word is always being cleared for what
//! comes next, so of 8192 bits 8128 are usable.

use super::messages::{REJECT_AFTER_MESSAGES, REPLAY_WINDOW};

const WORD_BITS: u64 = 64;
/// One more than the window needs.
const WORDS: usize = (REPLAY_WINDOW / WORD_BITS) as usize + 1;

/// Remembers which counters of a session were received.
#[derive(Debug)]
pub struct ReplayWindow {
    /// One above the highest counter accepted; zero before the first.
    next: u64,
    words: [u64; WORDS],
}

impl Default for ReplayWindow {
    fn default() -> Self {
        Self {
            next: 0,
            words: [0; WORDS],
        }
    }
}

impl ReplayWindow {
    /// Takes note of `counter`; false when it was seen before, is older than the window,
    /// or is past what a session may use. Call it only for authenticated packets.
    pub fn accept(&mut self, counter: u64) -> bool {
        if counter >= REJECT_AFTER_MESSAGES {
            return false;
        }
        let word = counter / WORD_BITS;
        if counter >= self.next {
            // The words between the old and the new head hold counters of a lap ago.
            let newest = self.next.saturating_sub(1) / WORD_BITS;
            let skipped = (word - newest).min(WORDS as u64);
            for step in 1..=skipped {
                self.words[slot(newest + step)] = 0;
            }
            self.next = counter + 1;
        } else if self.next - 1 - counter > REPLAY_WINDOW {
            return false;
        }
        let bit = 1 << (counter % WORD_BITS);
        let fresh = self.words[slot(word)] & bit == 0;
        self.words[slot(word)] |= bit;
        fresh
    }
}

fn slot(word: u64) -> usize {
    (word % WORDS as u64) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The kernel's self-test of its window, as a table of (counter, accepted).
    #[test]
    fn the_kernels_table_of_counters_holds() {
        const T: u64 = REPLAY_WINDOW + 1;
        let mut window = ReplayWindow::default();
        let steps: [(u64, bool); 34] = [
            (0, true),
            (1, true),
            (1, false),
            (9, true),
            (8, true),
            (7, true),
            (7, false),
            (T, true),
            (T - 1, true),
            (T - 1, false),
            (T - 2, true),
            (2, true),
            (2, false),
            (T + 16, true),
            (3, false),
            (T + 16, false),
            (T * 4, true),
            (T * 4 - (T - 1), true),
            (10, false),
            (T * 4 - T, false),
            (T * 4 - (T + 1), false),
            (T * 4 - (T - 2), true),
            (T * 4 + 1 - T, false),
            (0, false),
            (REJECT_AFTER_MESSAGES, false),
            (REJECT_AFTER_MESSAGES - 1, true),
            (REJECT_AFTER_MESSAGES, false),
            (REJECT_AFTER_MESSAGES - 1, false),
            (REJECT_AFTER_MESSAGES - 2, true),
            (REJECT_AFTER_MESSAGES + 1, false),
            (REJECT_AFTER_MESSAGES + 2, false),
            (REJECT_AFTER_MESSAGES - 2, false),
            (REJECT_AFTER_MESSAGES - 3, true),
            (0, false),
        ];
        for (step, (counter, accepted)) in steps.into_iter().enumerate() {
            assert_eq!(
                window.accept(counter),
                accepted,
                "step {step}, counter {counter}"
            );
        }
    }

    #[test]
    fn a_window_received_backwards_is_accepted_once() {
        let mut window = ReplayWindow::default();
        assert!(window.accept(REPLAY_WINDOW - 1));
        for counter in (0..REPLAY_WINDOW - 1).rev() {
            assert!(window.accept(counter));
        }
        for counter in 0..REPLAY_WINDOW {
            assert!(!window.accept(counter));
        }
    }

    #[test]
    fn a_counter_jump_slides_the_window() {
        let mut window = ReplayWindow::default();
        assert!(window.accept(0));
        assert!(window.accept(1_000_000));
        assert!(!window.accept(0));
        assert!(!window.accept(1_000_000 - REPLAY_WINDOW - 1));
        assert!(window.accept(1_000_000 - REPLAY_WINDOW));
        for counter in 1_000_001..1_000_100 {
            assert!(window.accept(counter));
        }
    }

    /// Against a set that remembers everything.
    #[test]
    fn random_orders_agree_with_a_naive_set() {
        use rand_chacha::ChaCha8Rng;
        use rand_chacha::rand_core::{Rng, SeedableRng};
        for seed in 0..20 {
            let mut rng = ChaCha8Rng::seed_from_u64(seed);
            let mut window = ReplayWindow::default();
            let mut seen = std::collections::HashSet::new();
            let mut newest: Option<u64> = None;
            let mut base = 0;
            for _ in 0..20_000 {
                base += rng.next_u64() % 7;
                if rng.next_u64() % 500 == 0 {
                    base += rng.next_u64() % 20_000;
                }
                let counter = base.saturating_sub(rng.next_u64() % 9000);
                let in_window = newest.is_none_or(|n| counter > n || n - counter <= REPLAY_WINDOW);
                let expected = in_window && !seen.contains(&counter);
                assert_eq!(window.accept(counter), expected);
                if expected {
                    seen.insert(counter);
                    newest = Some(newest.map_or(counter, |n| n.max(counter)));
                }
            }
        }
    }
}
