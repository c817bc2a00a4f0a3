//! The replay window against a set of all counters that ever came.

use std::collections::BTreeSet;

use taltun_protocol::messages::{REJECT_AFTER_MESSAGES, REPLAY_WINDOW};
use taltun_protocol::replay::ReplayWindow;

use crate::choices::Choices;

pub(crate) fn run(input: &[u8]) {
    let mut choices = Choices::new(input);
    let mut window = ReplayWindow::default();
    let mut seen = BTreeSet::new();
    while !choices.is_over() {
        let newest = seen.last().copied().unwrap_or(0_u64);
        let by = u64::from(choices.word());
        let counter = match choices.byte() % 8 {
            0 | 1 => newest.wrapping_add(by % 3),
            2 => newest.saturating_sub(by),
            3 => newest.wrapping_add(by),
            4 => (newest.saturating_sub(REPLAY_WINDOW) + by % 5).saturating_sub(2),
            5 => newest.wrapping_add(by << 32),
            6 => (REJECT_AFTER_MESSAGES + by % 5).wrapping_sub(3),
            _ => u64::from_be_bytes(choices.array()),
        };
        let known = seen.last().copied();
        let in_reach = known.is_none_or(|newest| counter.saturating_add(REPLAY_WINDOW) >= newest);
        let expected = counter < REJECT_AFTER_MESSAGES && in_reach && !seen.contains(&counter);
        assert_eq!(
            window.accept(counter),
            expected,
            "{counter} after {known:?}"
        );
        if expected {
            seen.insert(counter);
        }
    }
}
