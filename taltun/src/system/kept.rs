//! A record of what others took away from the host: what was put back and what couldn't be.
//!
//! If another program takes the same away again and again, neither log nor machine suffer: the log
//! says so once a minute, and after a few rounds putting back waits longer.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;
use tracing::{debug, error, warn};

use crate::report::{HostPart, Missing, PutBack};

/// Times that something is put back without delay while others take it away again and again.
const ROUNDS: u32 = 8;
/// What was left alone for so long is a new story.
const STORY: Duration = Duration::from_secs(60);
/// The longest that a fight waits for its next round, but for a firewall's.
pub(super) const LONGEST: Duration = Duration::from_secs(30);

/// What was put back and what couldn't be, for `status`.
#[derive(Debug, Clone, Default)]
pub struct Kept(Arc<Mutex<BTreeMap<HostPart, Story>>>);

/// What became of one kind of thing.
#[derive(Debug, Clone, Default)]
struct Story {
    times: u64,
    last: Option<Instant>,
    told: Option<Instant>,
    rounds: u32,
    not_before: Option<Instant>,
    missing: Option<String>,
    /// Whether the last that was told is that it is missing.
    told_missing: bool,
}

impl Kept {
    /// What was put back, and how often.
    pub fn put_back(&self) -> Vec<PutBack> {
        let stories = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let told = stories.iter().filter_map(|(what, story)| {
            Some(PutBack {
                what: *what,
                times: story.times,
                seconds_ago: story.last?.elapsed().as_secs(),
            })
        });
        told.collect()
    }

    /// What isn't there and can't be put back.
    pub fn missing(&self) -> Vec<Missing> {
        let stories = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let told = stories.iter().filter_map(|(what, story)| {
            Some(Missing {
                what: *what,
                reason: story.missing.clone()?,
            })
        });
        told.collect()
    }

    /// Whether firewall rules are missing that can't be put back.
    pub fn lacks_firewall(&self) -> bool {
        let stories = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let story = stories.get(&HostPart::FirewallRules);
        story.is_some_and(|story| story.missing.is_some())
    }

    fn with<T>(&self, what: HostPart, change: impl FnOnce(&mut Story) -> T) -> T {
        let mut stories = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        change(stories.entry(what).or_default())
    }

    /// Whether a fight over it goes into its next round already.
    pub(super) fn may(&self, what: HostPart) -> bool {
        let stories = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let not_before = stories.get(&what).and_then(|story| story.not_before);
        not_before.is_none_or(|at| Instant::now() >= at)
    }

    /// Remembers how putting it back went, and tells the log of it, though not again and again.
    pub(super) fn note(
        &self,
        name: &str,
        what: HostPart,
        outcome: Result<(), String>,
        most: Duration,
    ) {
        self.note_how(name, what, "went away", outcome, most);
    }

    /// The same; `how` is what became of it.
    pub(super) fn note_how(
        &self,
        name: &str,
        what: HostPart,
        how: &str,
        outcome: Result<(), String>,
        most: Duration,
    ) {
        let now = Instant::now();
        let recent = |at: Option<Instant>| at.is_some_and(|at| now - at < STORY);
        let (tell, times) = self.with(what, |story| {
            story.rounds = if recent(story.last) {
                story.rounds + 1
            } else {
                1
            };
            story.last = Some(now);
            if story.rounds > ROUNDS {
                let doubled = 1 << (story.rounds - ROUNDS).min(5);
                story.not_before = Some(now + Duration::from_secs(doubled).min(most));
            }
            if outcome.is_ok() {
                story.times += 1;
            }
            story.missing = outcome.as_ref().err().cloned();
            // What was told to be missing is told to be back.
            let is_back = story.told_missing && outcome.is_ok();
            let tell = is_back || !recent(story.told);
            if tell {
                story.told = Some(now);
                story.told_missing = outcome.is_err();
            }
            (tell, story.times)
        });
        match outcome {
            Ok(()) if tell && what == HostPart::LinkState => {
                warn!("{name} was set down, and was set up again; stop Taltun to end the tunnel");
            }
            Ok(()) if tell && times > 1 => {
                warn!("{name}: {what} {how} again and were put back, {times} times by now");
            }
            Ok(()) if tell => warn!("{name}: {what} {how} and were put back"),
            Err(reason) if tell && what == HostPart::LinkState => {
                warn!("{name} was set down, and can't be set up again: {reason}");
            }
            Err(reason) if tell => {
                warn!("{name}: {what} {how} and can't be put back: {reason}");
            }
            outcome => debug!("{name}: {what}: {outcome:?}"),
        }
    }

    /// It is there.
    pub(super) fn fine(&self, what: HostPart) {
        let mut stories = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(story) = stories.get_mut(&what) {
            story.missing = None;
        }
    }

    /// It is there, but something of others comes before it: tells the log, once for each
    /// `reason`.
    pub(super) fn overruled(&self, name: &str, what: HostPart, reason: &str) {
        if self.is_news(what, reason) {
            warn!("{name}: {reason}");
        }
    }

    /// The interface isn't where it was made, or isn't called what it was: tells the log, once
    /// for each `reason`.
    pub(super) fn is_away(&self, name: &str, reason: &str) {
        if self.is_news(HostPart::Interface, reason) {
            error!("{name}: {reason}");
        }
    }

    fn is_news(&self, what: HostPart, reason: &str) -> bool {
        self.with(what, |story| {
            let new = story.missing.as_deref() != Some(reason);
            story.missing = Some(reason.to_owned());
            new
        })
    }

    /// The interface is as it was made.
    pub(super) fn is_here(&self) {
        self.fine(HostPart::Interface);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_fight_is_told_once_a_minute_and_waits_longer_and_longer() {
        let kept = Kept::default();
        for round in 1..=40_u64 {
            assert!(
                round > u64::from(ROUNDS) || kept.may(HostPart::Routes),
                "{round}"
            );
            kept.note("t0", HostPart::Routes, Ok(()), LONGEST);
            tokio::time::advance(Duration::from_millis(500)).await;
        }
        assert!(!kept.may(HostPart::Routes));
        assert_eq!(kept.put_back()[0].times, 40);
        tokio::time::advance(LONGEST).await;
        assert!(kept.may(HostPart::Routes));
        tokio::time::advance(STORY).await;
        kept.note("t0", HostPart::Routes, Err("no".into()), LONGEST);
        assert!(kept.may(HostPart::Routes));
        assert_eq!(kept.missing()[0].reason, "no");
        kept.fine(HostPart::Routes);
        assert!(kept.missing().is_empty());
        assert!(!kept.lacks_firewall());
        kept.note("t0", HostPart::FirewallRules, Err("no".into()), LONGEST);
        assert!(kept.lacks_firewall());
        kept.fine(HostPart::FirewallRules);
        assert!(!kept.lacks_firewall());
    }
}
