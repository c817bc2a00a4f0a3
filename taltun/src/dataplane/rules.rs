//! The rules that workers hold packets to, what each has decided, and the log of those that ask for
//! one.

use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};
use std::time::Duration;

use taltun_common::drops::DropReason;
use taltun_policy::packet::Content;
use taltun_policy::{Action, Decision, Ends, Judge, Owners, Packet, Side, Verdict};
use tracing::info;

use super::tap::RuleRef;
use crate::crypto::PublicKey;
use crate::protocol::batch::Batch;
use crate::protocol::time::Time;

/// Lines a second that rules may write to the log.
const MOST_LINES: u64 = 20;

/// The rules by now, shared by the workers; none where all passes.
#[derive(Debug, Default)]
pub struct Rules {
    held: RwLock<Option<Arc<Held>>>,
    /// The second in which lines were written last, and how many.
    lines: AtomicU64,
    /// How many there were too many, until that is told.
    left_out: AtomicU64,
}

/// Rules with what they have decided.
#[derive(Debug)]
pub struct Held {
    /// Which of all that there have been.
    number: u64,
    judge: Judge,
    /// Where each is written.
    origins: Vec<String>,
    /// What each has decided, and behind them the default.
    decided: Vec<Decided>,
}

/// How often a rule has decided.
#[derive(Debug, Default)]
struct Decided {
    allowed: AtomicU64,
    denied: AtomicU64,
}

/// How often a rule, or the default, has decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Decisions {
    /// Flows that it let start.
    pub allowed: u64,
    /// Packets that it dropped.
    pub denied: u64,
}

/// The rules during a batch.
#[derive(Debug)]
pub(super) struct BatchRules<'r> {
    rules: &'r Rules,
    held: &'r Held,
    session: taltun_policy::judge::Session<'r>,
    now: Time,
    /// What decided last, until that is taken.
    decision: Option<Decision>,
}

impl Rules {
    /// The rules, for a batch.
    pub(super) fn read(&self) -> RwLockReadGuard<'_, Option<Arc<Held>>> {
        self.held.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// The rules by now.
    pub fn held(&self) -> Option<Arc<Held>> {
        self.read().clone()
    }

    /// Replaces the rules, whole.
    pub fn set(&self, held: Option<Held>) {
        let held = held.map(Arc::new);
        let old = std::mem::replace(
            &mut *self.held.write().unwrap_or_else(PoisonError::into_inner),
            held,
        );
        // Not under the lock: it may be large.
        drop(old);
    }

    /// Begins a batch, where there are rules.
    pub(super) fn batch<'r>(&'r self, held: Option<&'r Held>, now: Time) -> Option<BatchRules<'r>> {
        let held = held?;
        Some(BatchRules {
            rules: self,
            held,
            session: held.judge.session(Duration::from_nanos(now.as_nanos())),
            now,
            decision: None,
        })
    }

    /// Tells how many lines were too many since the last call. Once a second.
    pub fn tell_left_out(&self) {
        let lines = self.left_out.swap(0, Ordering::Relaxed);
        if lines > 0 {
            let plural = if lines == 1 { "" } else { "s" };
            info!(
                "rules: {lines} line{plural} left out; at most {MOST_LINES} a second are written"
            );
        }
    }

    /// Whether another line may be written; counts it if not.
    fn may_tell(&self, now: Time) -> bool {
        let second = now.as_nanos() / 1_000_000_000;
        let next = |lines: u64| {
            let (last, count) = (lines >> 8, lines & 0xff);
            let count = if last == second & (u64::MAX >> 8) {
                count
            } else {
                0
            };
            (count < MOST_LINES).then_some(second << 8 | (count + 1))
        };
        let told = self
            .lines
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, next);
        if told.is_err() {
            self.left_out.fetch_add(1, Ordering::Relaxed);
        }
        told.is_ok()
    }
}

impl Held {
    /// Rules that are written there.
    pub fn new(judge: Judge, origins: Vec<String>) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        Self {
            number: NEXT.fetch_add(1, Ordering::Relaxed),
            decided: (0..=origins.len()).map(|_| Decided::default()).collect(),
            judge,
            origins,
        }
    }

    /// Which of all sets of rules that there have been.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// The judge.
    pub fn judge(&self) -> &Judge {
        &self.judge
    }

    /// Where a rule is written.
    pub fn origin(&self, rule: usize) -> Option<&str> {
        self.origins.get(rule).map(String::as_str)
    }

    /// What each rule has decided, with where it is written, and behind them the default.
    pub fn decisions(&self) -> impl Iterator<Item = (Option<&str>, Decisions)> {
        let origins = self.origins.iter().map(|origin| Some(origin.as_str()));
        let decided = self.decided.iter().map(|decided| Decisions {
            allowed: decided.allowed.load(Ordering::Relaxed),
            denied: decided.denied.load(Ordering::Relaxed),
        });
        origins.chain([None]).zip(decided)
    }

    /// Goes on counting from where the same rules were before.
    pub fn go_on_from(&self, before: &Self) {
        for (decided, before) in self.decided.iter().zip(&before.decided) {
            let counters = [
                (&decided.allowed, &before.allowed),
                (&decided.denied, &before.denied),
            ];
            for (counter, before) in counters {
                counter.fetch_add(before.load(Ordering::Relaxed), Ordering::Relaxed);
            }
        }
    }

    fn count(&self, decision: Decision) {
        let place = decision.rule.unwrap_or(self.origins.len());
        if let Some(decided) = self.decided.get(place) {
            let counter = match decision.action {
                Action::Allow => &decided.allowed,
                Action::Deny => &decided.denied,
            };
            counter.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl BatchRules<'_> {
    /// Whether a packet between those ends passes, or why it doesn't.
    pub(super) fn judge(
        &mut self,
        packet: &[u8],
        ends: Ends,
        batch: &Batch<'_>,
    ) -> Result<(), DropReason> {
        let verdict = self.session.judge(packet, ends, &PeersOf(batch));
        let decision = match verdict {
            Verdict::Pass => return Ok(()),
            Verdict::LostFragment => return Err(DropReason::LostFragment),
            Verdict::Malformed => return Err(DropReason::InnerMalformed),
            Verdict::Start(decision) | Verdict::Denied(decision) => decision,
        };
        self.held.count(decision);
        self.decision = Some(decision);
        if decision.log {
            self.tell(packet, decision);
        }
        match decision.action {
            Action::Allow => Ok(()),
            Action::Deny => Err(DropReason::Rule),
        }
    }

    /// The rule that decided the last packet, where one did: one that belongs to a flow isn't
    /// asked for. Taken after each packet, or it is an earlier one's.
    pub(super) fn take_rule(&mut self) -> Option<RuleRef> {
        let decision = self.decision.take()?;
        Some(RuleRef {
            set: self.held.number,
            rule: decision.rule.map(|rule| rule as u32),
        })
    }

    fn tell(&self, packet: &[u8], decision: Decision) {
        let Some(rule) = decision.rule else { return };
        let Some(packet) = Packet::parse(packet) else {
            return;
        };
        if !self.rules.may_tell(self.now) {
            return;
        }
        let origin = self.held.origin(rule).unwrap_or_default();
        let did = match decision.action {
            Action::Allow => "allows",
            Action::Deny => "denies",
        };
        let Packet {
            source,
            destination,
            protocol,
            content,
            ..
        } = packet;
        match content {
            Content::Tcp { ports, .. } => info!(
                "{origin}: {did} {source} -> {destination} tcp/{}",
                ports.destination
            ),
            Content::Udp(ports) => info!(
                "{origin}: {did} {source} -> {destination} udp/{}",
                ports.destination
            ),
            _ => info!("{origin}: {did} {source} -> {destination} ip/{protocol}"),
        }
    }
}

/// Whose inner addresses are, as a batch knows it.
#[derive(Debug)]
pub struct PeersOf<'b, 't>(pub &'b Batch<'t>);

impl Owners for PeersOf<'_, '_> {
    fn owner(&self, side: Side, address: IpAddr) -> Option<PublicKey> {
        match side {
            Side::Peer => self.0.owner(address),
            Side::Host => self.0.owner_behind_host(address),
        }
        .copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_has_so_many_lines_and_the_next_as_many_again() {
        let rules = Rules::default();
        for second in 5..8 {
            let now = Time::from_nanos(second * 1_000_000_000 + 7);
            let told = (0..100).filter(|_| rules.may_tell(now)).count();
            assert_eq!(told as u64, MOST_LINES);
        }
        assert_eq!(
            rules.left_out.load(Ordering::Relaxed),
            3 * (100 - MOST_LINES)
        );
        rules.tell_left_out();
        assert_eq!(rules.left_out.load(Ordering::Relaxed), 0);
    }
}
