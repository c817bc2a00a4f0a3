//! What is done to a lab while it runs, bans of a spoke and kills of the hub, and whether the spoke's
//! pings tell the same.

use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};

use super::ping_watch::Ping;
use super::report::Check;
use super::units;

/// A packet that is on its way when a ban begins or ends may go either way.
pub const MARGIN: Duration = Duration::from_millis(300);
/// How long after its end the spoke may take to be heard again.
pub const RETURN_LIMIT: Duration = Duration::from_secs(5);
/// A spoke that was heard has been within this time.
const HEARD: Duration = Duration::from_secs(3);
/// So many pings that aren't answered show something.
const ENOUGH: u64 = 3;
/// A ban that is shorter says nothing: there may be no ping in it.
const SHORTEST: Duration = Duration::from_secs(1);

/// What is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Ban,
    Kill,
}

/// A time in which the spoke can't be heard.
#[derive(Debug)]
struct Trial {
    kind: Kind,
    /// What went wrong at once.
    error: Option<String>,
    /// Just before it began, and just after.
    begin: (Instant, Instant),
    /// The same of its end, if it has one.
    end: Option<(Instant, Instant)>,
    /// Whether it has to show something: a key may be pressed at any time, also when the spoke
    /// can't be heard anyway.
    is_planned: bool,
}

/// A ban that is on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BanNow {
    /// How long it lasts still, if it has an end.
    pub left: Option<Duration>,
}

/// All of a lab's, in order.
#[derive(Debug, Default)]
pub struct Trials(Vec<Trial>);

impl Trials {
    /// A ban begins; `outcome` is that of its command, which was given at `asked`. It ends by itself
    /// after `time`, or by [`Trials::unban`].
    pub fn ban(&mut self, asked: Instant, outcome: &Result<()>, time: Option<Duration>) {
        let now = Instant::now();
        self.0.push(Trial {
            kind: Kind::Ban,
            error: outcome.as_ref().err().map(|error| format!("{error:#}")),
            begin: (asked, now),
            end: match (time, outcome) {
                (Some(time), _) => Some((asked + time, now + time)),
                (None, Ok(())) => None,
                // There is nothing that could be ended.
                (None, Err(_)) => Some((asked, now)),
            },
            is_planned: time.is_some(),
        });
    }

    /// The ban ends by a command that was given at `asked`, or with its hub.
    pub fn unban(&mut self, asked: Instant) {
        let bans = self.0.iter_mut().rev();
        if let Some(ban) = bans.take(1).find(|trial| trial.kind == Kind::Ban) {
            // It may have been about to end by itself.
            let (first, last) = ban.end.unwrap_or((asked, Instant::now()));
            ban.end = Some((first.min(asked), last.min(Instant::now())));
        }
    }

    /// The hub was killed at `asked`. Bans end with it.
    pub fn kill(&mut self, asked: Instant) {
        self.unban(asked);
        self.0.push(Trial {
            kind: Kind::Kill,
            error: None,
            begin: (asked, Instant::now()),
            end: None,
            is_planned: false,
        });
    }

    /// The hub is up again.
    pub fn up(&mut self) {
        if let Some(trial) = self.0.last_mut()
            && trial.kind == Kind::Kill
        {
            let now = Instant::now();
            trial.end = Some((now, now));
        }
    }

    /// Whether there was none yet.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// When the last one ends, unless it hasn't got an end yet.
    pub fn end_of_last(&self) -> Option<Instant> {
        Some(self.0.last()?.end?.1)
    }

    /// Whether the spoke can be heard, as far as the last one is concerned.
    pub fn is_over(&self) -> bool {
        self.0.is_empty()
            || self
                .end_of_last()
                .is_some_and(|end| Instant::now() > end + MARGIN)
    }

    /// The ban that is on, if one is.
    pub fn ban_now(&self) -> Option<BanNow> {
        let last = self.0.last().filter(|last| last.kind == Kind::Ban)?;
        let left = last
            .end
            .map(|(_, end)| end.saturating_duration_since(Instant::now()));
        (left != Some(Duration::ZERO)).then_some(BanNow { left })
    }

    /// Whether the spoke was heard after the last one.
    pub fn is_heard_after(&self, pings: &[Ping]) -> bool {
        self.end_of_last().is_some_and(|end| {
            let mut later = pings.iter().rev().take_while(|ping| ping.sent >= end);
            later.any(|ping| ping.answer.is_some())
        })
    }

    /// What the `pings`, of which all are known that were sent up to `now`, say of them. Those that
    /// aren't over aren't judged.
    pub fn judge(&self, spoke: &str, hub: &str, pings: &[Ping], now: Instant) -> Vec<Check> {
        let mut checks = Vec::new();
        if let Some(stopped) = self.stopped(spoke, pings).transpose() {
            checks.push(Check::from_result(&format!("ban stops {spoke}"), stopped));
        }
        let restored = self.returned(Kind::Ban, pings, now);
        let restores = format!("unban restores {spoke}");
        checks.extend(restored.map(|result| Check::from_result(&restores, result)));
        let back = self.returned(Kind::Kill, pings, now);
        let comes_back = format!("killed {hub} comes back");
        checks.extend(back.map(|result| Check::from_result(&comes_back, result)));
        checks
    }

    /// No ping was answered while a ban lasted, though there were answers right before. Nothing if no
    /// ban could show that.
    fn stopped(&self, spoke: &str, pings: &[Ping]) -> Result<Option<String>> {
        let (mut sent, mut lasted, mut bans) = (0, Duration::ZERO, 0);
        for trial in &self.0 {
            let (Kind::Ban, Some((end, _))) = (trial.kind, trial.end) else {
                continue;
            };
            if let Some(error) = &trial.error {
                bail!("the ban was refused: {error}");
            }
            let (asked, begun) = trial.begin;
            let time = end.saturating_duration_since(asked);
            if time < SHORTEST {
                continue;
            }
            if !was_heard(pings, asked) {
                ensure!(
                    !trial.is_planned,
                    "{spoke} wasn't heard before the ban either"
                );
                continue;
            }
            let during = pings
                .iter()
                .filter(|ping| ping.sent > begun + MARGIN && ping.sent + MARGIN < end);
            let (answered, all) = during.fold((0, 0), |(answered, all), ping| {
                (answered + u64::from(ping.answer.is_some()), all + 1)
            });
            ensure!(
                answered == 0,
                "{answered} of {all} pings were answered during a ban"
            );
            (sent, lasted, bans) = (sent + all, lasted + time, bans + 1);
        }
        if sent < ENOUGH {
            let is_planned = |trial: &Trial| trial.kind == Kind::Ban && trial.is_planned;
            ensure!(
                !self.0.iter().any(is_planned),
                "only {} sent during the ban",
                units::counted(sent, "ping")
            );
            return Ok(None);
        }
        let time = units::clock(lasted);
        Ok(Some(if bans == 1 {
            format!("none of {sent} pings answered in {time} of ban")
        } else {
            format!("none of {sent} pings answered in {bans} bans, {time} in all")
        }))
    }

    /// After each of a kind the spoke is heard again, unless the next one came first. Nothing if
    /// none was lived through.
    fn returned(&self, kind: Kind, pings: &[Ping], now: Instant) -> Option<Result<String>> {
        let mut waits = Vec::new();
        for (at, trial) in self.0.iter().enumerate() {
            let (true, Some((first, last))) = (trial.kind == kind, trial.end) else {
                continue;
            };
            if !trial.is_planned && !was_heard(pings, trial.begin.0) {
                continue;
            }
            // A hub may answer before it has told us that it is up.
            let from = match kind {
                Kind::Ban => first,
                Kind::Kill => trial.begin.1 + MARGIN,
            };
            let next = self.0.get(at + 1).map(|next| next.begin.0);
            let limit = last + RETURN_LIMIT;
            let until = next.map_or(limit, |next| limit.min(next));
            let back = pings
                .iter()
                .find(|ping| (from..until).contains(&ping.sent) && ping.answer.is_some());
            match back {
                Some(ping) => {
                    let since = match kind {
                        Kind::Ban => last,
                        Kind::Kill => trial.begin.0,
                    };
                    waits.push(ping.sent.saturating_duration_since(since));
                }
                None if until == limit && now >= limit => {
                    let what = match kind {
                        Kind::Ban => "the ban",
                        Kind::Kill => "the hub was up again",
                    };
                    let error = format!(
                        "no ping was answered in {} after {what}",
                        units::span(RETURN_LIMIT)
                    );
                    return Some(Err(anyhow::Error::msg(error)));
                }
                None => {}
            }
        }
        let longest = waits.iter().max()?;
        Some(Ok(match kind {
            Kind::Ban => format!(
                "a ping sent {} after the ban was answered",
                units::span(*longest)
            ),
            Kind::Kill => format!("no answer for {}, then as before", units::span(*longest)),
        }))
    }
}

/// Whether a ping that was sent shortly before `moment` was answered.
fn was_heard(pings: &[Ping], moment: Instant) -> bool {
    pings
        .iter()
        .any(|ping| ping.sent < moment && ping.sent + HEARD > moment && ping.answer.is_some())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Pings each tenth of a second for so long; those sent in `silent`, in tenths of a second,
    /// aren't answered.
    fn pings(start: Instant, tenths: u32, silent: &std::ops::Range<u32>) -> Vec<Ping> {
        (0..tenths)
            .map(|at| Ping {
                sent: start + Duration::from_millis(100) * at,
                answer: (!silent.contains(&at)).then_some(Duration::from_millis(1)),
            })
            .collect()
    }

    fn trial(kind: Kind, begin: Instant, end: Instant) -> Trial {
        Trial {
            kind,
            error: None,
            begin: (begin, begin),
            end: Some((end, end)),
            is_planned: true,
        }
    }

    fn told(trials: &Trials, pings: &[Ping], now: Instant) -> Vec<(bool, String)> {
        let checks = trials.judge("a", "hub", pings, now).into_iter();
        checks
            .map(|check| (check.ok, format!("{}: {}", check.name, check.detail)))
            .collect()
    }

    #[test]
    fn a_ban_has_to_be_silent_and_to_end() {
        let start = Instant::now();
        let at = |tenths: u32| start + Duration::from_millis(100) * tenths;
        let trials = Trials(vec![trial(Kind::Ban, at(20), at(50))]);
        let right = told(&trials, &pings(start, 80, &(20..50)), at(200));
        assert_eq!(
            right,
            [
                (
                    true,
                    "ban stops a: none of 23 pings answered in 3 s of ban".to_owned()
                ),
                (
                    true,
                    "unban restores a: a ping sent 0 µs after the ban was answered".to_owned()
                ),
            ]
        );
        let leaking = told(&trials, &pings(start, 80, &(20..45)), at(200));
        assert_eq!(
            leaking[0],
            (
                false,
                "ban stops a: 2 of 23 pings were answered during a ban".to_owned()
            )
        );
        let lasting = told(&trials, &pings(start, 200, &(20..200)), at(200));
        assert!(!lasting[1].0, "{lasting:?}");
        let deaf = told(&trials, &pings(start, 80, &(0..50)), at(200));
        assert!(!deaf[0].0, "{deaf:?}");
    }

    #[test]
    fn a_ban_that_was_refused_stops_nobody() {
        let mut trials = Trials::default();
        trials.ban(
            Instant::now(),
            &Err(anyhow::Error::msg("no such")),
            Some(HEARD),
        );
        trials.ban(Instant::now(), &Err(anyhow::Error::msg("no such")), None);
        assert_eq!(trials.ban_now(), None);
        let checks = trials.judge("a", "hub", &[], Instant::now());
        assert_eq!(checks[0].detail, "the ban was refused: no such");
        assert!(!checks[0].ok);
    }

    #[test]
    fn a_killed_hub_has_to_be_heard_again() {
        let start = Instant::now();
        let at = |tenths: u32| start + Duration::from_millis(100) * tenths;
        let trials = Trials(vec![trial(Kind::Kill, at(20), at(55))]);
        let right = told(&trials, &pings(start, 80, &(20..54)), at(200));
        assert_eq!(
            right,
            [(
                true,
                "killed hub comes back: no answer for 3.4 s, then as before".to_owned()
            )]
        );
        assert!(!told(&trials, &pings(start, 200, &(20..200)), at(200))[0].0);
        // It isn't known yet.
        assert!(told(&trials, &pings(start, 60, &(20..60)), at(60)).is_empty());
    }

    #[test]
    fn a_key_that_is_pressed_while_nobody_is_heard_shows_nothing() {
        let start = Instant::now();
        let at = |tenths: u32| start + Duration::from_millis(100) * tenths;
        let mut trials = Trials(vec![trial(Kind::Ban, at(20), at(50))]);
        let deaf = pings(start, 200, &(0..200));
        assert!(told(&trials, &deaf, at(200)).iter().all(|(ok, _)| !ok));
        trials.0[0].is_planned = false;
        assert!(told(&trials, &deaf, at(200)).is_empty());
    }

    #[test]
    fn a_ban_by_a_key_may_be_too_short_to_show_anything() {
        let start = Instant::now();
        let at = |tenths: u32| start + Duration::from_millis(100) * tenths;
        let mut trials = Trials(vec![trial(Kind::Ban, at(20), at(32))]);
        let few: Vec<Ping> = pings(start, 80, &(20..32)).into_iter().step_by(4).collect();
        let planned = told(&trials, &few, at(200));
        assert_eq!(
            planned[0].1,
            "ban stops a: only 2 pings sent during the ban"
        );
        trials.0[0].is_planned = false;
        let pressed = told(&trials, &few, at(200));
        assert!(pressed.iter().all(|(ok, _)| *ok), "{pressed:?}");
        assert!(pressed[0].1.starts_with("unban restores a"), "{pressed:?}");
    }

    #[test]
    fn what_is_cut_short_by_the_next_one_is_not_held_against_it() {
        let start = Instant::now();
        let at = |tenths: u32| start + Duration::from_millis(100) * tenths;
        let trials = Trials(vec![
            trial(Kind::Ban, at(20), at(40)),
            trial(Kind::Kill, at(40), at(70)),
        ]);
        let all = told(&trials, &pings(start, 100, &(20..72)), at(200));
        assert!(all.iter().all(|(ok, _)| *ok), "{all:?}");
        let names: Vec<_> = all.iter().map(|(_, text)| text.split(':').next()).collect();
        assert_eq!(names, [Some("ban stops a"), Some("killed hub comes back")]);
    }

    #[test]
    fn a_ban_without_an_end_ends_when_told() {
        let mut trials = Trials::default();
        let before = Instant::now();
        trials.ban(before, &Ok(()), None);
        assert_eq!(trials.ban_now(), Some(BanNow { left: None }));
        assert!(!trials.is_over());
        trials.unban(Instant::now());
        assert_eq!(trials.ban_now(), None);
        trials.ban(Instant::now(), &Ok(()), Some(Duration::from_secs(60)));
        assert!(trials.ban_now().is_some_and(|ban| ban.left.is_some()));
        trials.kill(Instant::now());
        assert_eq!(trials.ban_now(), None);
        assert!(trials.end_of_last().is_none());
        trials.up();
        assert!(trials.end_of_last().is_some());
    }
}
