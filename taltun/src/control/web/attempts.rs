//! How many wrong tokens somebody may try. A token can't be guessed, so this is about who tries in
//! vain and fills the log.

use std::collections::HashMap;
use std::net::IpAddr;

use crate::server_process::network_of;

/// Wrong tokens of one source, before it has to wait.
const MOST: u32 = 10;
/// For how long they count, and it waits, seconds.
const PERIOD: u64 = 300;
/// Sources that are remembered; where there are more, whoever tried least and longest ago is forgotten.
/// They are never taken for one: a crowd would lock out whoever has a token.
const SOURCES: usize = 1024;

/// The wrong tokens of late.
#[derive(Debug, Default)]
pub(super) struct Attempts(HashMap<IpAddr, Wrong>);

#[derive(Debug)]
struct Wrong {
    number: u32,
    since: u64,
}

impl Attempts {
    /// How long a source has to wait before anything of it is looked at; `None` if it needn't.
    pub(super) fn wait(&self, source: IpAddr, now: u64) -> Option<u64> {
        let wrong = self.0.get(&network_of(source))?;
        let end = wrong.since.saturating_add(PERIOD);
        (wrong.number >= MOST && now < end).then(|| end.saturating_sub(now))
    }

    /// It tried a wrong one. Returns whether that was one too many.
    pub(super) fn failed(&mut self, source: IpAddr, now: u64) -> bool {
        let is_recent = |wrong: &Wrong| now.saturating_sub(wrong.since) < PERIOD;
        self.0.retain(|_, wrong| is_recent(wrong));
        let place = network_of(source);
        if self.0.len() >= SOURCES && !self.0.contains_key(&place) {
            let least = self
                .0
                .iter()
                .min_by_key(|(_, wrong)| (wrong.number, wrong.since));
            if let Some(least) = least.map(|(source, _)| *source) {
                self.0.remove(&least);
            }
        }
        let wrong = self.0.entry(place).or_insert(Wrong {
            number: 0,
            since: now,
        });
        wrong.number = wrong.number.saturating_add(1);
        wrong.number == MOST
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_tries_too_often_waits_and_others_do_not() {
        let source = |text: &str| text.parse().unwrap();
        let mut attempts = Attempts::default();
        for number in 1..=MOST {
            assert_eq!(attempts.wait(source("2001:db8::1"), 5), None);
            let is_last = attempts.failed(source("2001:db8::1"), 5);
            assert_eq!(is_last, number == MOST);
        }
        assert_eq!(attempts.wait(source("2001:db8::2"), 5), Some(PERIOD));
        assert_eq!(attempts.wait(source("2001:db8:0:1::2"), 5), None);
        assert_eq!(attempts.wait(source("2001:db8::1"), 4 + PERIOD), Some(1));
        assert_eq!(attempts.wait(source("2001:db8::1"), 5 + PERIOD), None);
        assert!(!attempts.failed(source("2001:db8::1"), 5 + PERIOD));
    }

    #[test]
    fn however_many_try_memory_is_bounded_and_others_do_not_wait() {
        let mut attempts = Attempts::default();
        let eager: IpAddr = "203.0.113.9".parse().unwrap();
        for _ in 0..MOST {
            attempts.failed(eager, 1);
        }
        for number in 0..5 * SOURCES as u32 {
            attempts.failed(IpAddr::from(number.to_be_bytes()), 1);
        }
        assert_eq!(attempts.0.len(), SOURCES);
        assert!(attempts.wait("203.0.113.10".parse().unwrap(), 1).is_none());
        assert!(attempts.wait(eager, 1).is_some());
    }
}
