//! How many lines a minute may go into the log for one reason, so that nobody can fill it:
//! what is beyond is counted, and told in one line once the minute is over.

use std::time::Duration;

use tracing::info;

use crate::protocol::time::Time;

const MINUTE: Duration = Duration::from_secs(60);

/// Lines of one minute.
#[derive(Debug)]
pub(super) struct Window {
    /// What the lines are, as the line about the rest calls them.
    what: &'static str,
    most: u64,
    since: Option<Time>,
    lines: u64,
}

impl Window {
    /// At most so many lines a minute.
    pub(super) fn new(what: &'static str, most: u64) -> Self {
        Self {
            what,
            most,
            since: None,
            lines: 0,
        }
    }

    /// Whether a line may be written now; to be asked once a line.
    pub(super) fn allows(&mut self, now: Time) -> bool {
        self.tick(now);
        self.since.get_or_insert(now);
        self.lines += 1;
        self.lines <= self.most
    }

    /// Tells of what was left out, when its minute is over.
    pub(super) fn tick(&mut self, now: Time) {
        if let Some(left_out) = self.roll(now) {
            info!("{left_out} more lines about {} left out", self.what);
        }
    }

    /// Begins another minute if this one is over; how many lines were left out of it.
    fn roll(&mut self, now: Time) -> Option<u64> {
        let over = self.since.is_some_and(|since| now.since(since) >= MINUTE);
        if !over {
            return None;
        }
        let left_out = self.lines.saturating_sub(self.most);
        self.since = None;
        self.lines = 0;
        (left_out > 0).then_some(left_out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_gets_so_many_lines_a_minute_and_one_about_the_rest() {
        let mut window = Window::new("floods", 10);
        let mut now = Time::START;
        let mut written = 0;
        let mut told = 0;
        // A thousand a second for ten minutes.
        for _ in 0..600_000 {
            now = now + Duration::from_millis(1);
            told += u64::from(window.roll(now).is_some());
            written += u64::from(window.allows(now));
        }
        assert!((100..=110).contains(&written), "{written}");
        assert!((9..=10).contains(&told), "{told}");
    }

    #[test]
    fn what_is_left_out_is_told_once_the_flood_is_over() {
        let mut window = Window::new("floods", 1);
        let now = Time::START;
        assert!(window.allows(now));
        assert!(!window.allows(now));
        assert!(!window.allows(now));
        assert_eq!(window.roll(now), None);
        assert_eq!(window.roll(now + MINUTE), Some(2));
        assert_eq!(window.roll(now + 2 * MINUTE), None);
        assert!(window.allows(now + MINUTE));
    }
}
