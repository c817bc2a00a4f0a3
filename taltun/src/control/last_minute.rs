//! A counter that is looked at once a second, by then and now.

use std::collections::VecDeque;
use std::time::Duration;

use crate::protocol::time::Time;

const MINUTE: Duration = Duration::from_secs(60);
/// Looks that are remembered: one a second, and the one before.
const LOOKS: usize = 61;

/// What was counted by each look of the last minute; the oldest first.
#[derive(Debug)]
pub(super) struct LastMinute<T>(VecDeque<(Time, T)>);

impl<T> LastMinute<T> {
    /// To be called once a second with what was counted so far.
    pub(super) fn look(&mut self, counted: T, now: Time) {
        let is_older =
            |next: Option<&(Time, T)>| next.is_some_and(|(at, _)| now.since(*at) >= MINUTE);
        while self.0.len() >= LOOKS || is_older(self.0.get(1)) {
            self.0.pop_front();
        }
        self.0.push_back((now, counted));
    }

    /// What was counted a minute before the last look, or at the first one of a younger tunnel, and by the last
    /// look; `None` before that.
    pub(super) fn ends(&self) -> Option<(&T, &T)> {
        let (_, before) = self.0.front()?;
        let (_, now) = self.0.back()?;
        Some((before, now))
    }
}

impl<T> Default for LastMinute<T> {
    fn default() -> Self {
        Self(VecDeque::new())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_older_than_a_minute_is_forgotten() {
        let mut minute = LastMinute::default();
        assert!(minute.ends().is_none());
        let mut now = Time::START;
        for second in 0..130_u64 {
            minute.look(second, now);
            let (before, last) = minute.ends().unwrap();
            assert_eq!((*before, *last), (second.saturating_sub(60), second));
            assert!(minute.0.len() <= LOOKS);
            now = now + Duration::from_secs(1);
        }
        // Of a machine that was stopped, the last look before that is the one to compare with.
        minute.look(1000, now + Duration::from_secs(500));
        assert_eq!(minute.ends(), Some((&129, &1000)));
    }
}
