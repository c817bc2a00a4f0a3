//! Quotas and last days: peers that have reached theirs are refused, until the next period or
//! another file lets them in again.
//!
//! The protocol ends the sessions of a refused peer and makes no other, so that packets cost
//! nothing for it: nobody counts or compares while they pass. Instead sums are compared once a
//! second. What isn't known lets nobody in: at the start a peer with a quota waits until it is read
//! what it has moved.

use std::collections::HashMap;

use taltun_usage::{Day, Quota};
use tracing::{info, warn};

use super::ledger::{Known, Ledger};
use super::peers::Peers;
use crate::config::PeerLimits;
use crate::crypto::PublicKey;
use crate::protocol::device::Device;
use crate::protocol::time::Time;
use crate::report::{QuotaStatus, RefusedBy, UnixTime};

/// Why a peer is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refusal {
    /// Its last day is over.
    Expired(Day),
    /// Its quota is used up.
    Quota(Quota),
    /// What it has moved isn't read yet.
    Unread,
}

impl Refusal {
    pub(super) fn word(self) -> RefusedBy {
        match self {
            Self::Expired(_) => RefusedBy::Expired,
            Self::Quota(_) => RefusedBy::Quota,
            Self::Unread => RefusedBy::Unread,
        }
    }
}

/// What became of a peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Change {
    pub key: PublicKey,
    /// `None`: it is allowed again.
    pub refusal: Option<Refusal>,
}

/// The peers that are refused.
#[derive(Debug, Default)]
pub(super) struct Limits {
    refused: HashMap<PublicKey, Refusal>,
    changes: Vec<Change>,
}

impl Limits {
    /// Refuses peers that have reached a limit, and allows those that haven't any more. To be
    /// called once a second, and before a packet of a peer is taken that was just added.
    pub(super) fn follow(
        &mut self,
        device: &mut Device,
        peers: &Peers,
        ledger: &Ledger,
        now: Time,
    ) {
        ledger.known(|known| {
            let refused = peers.with_limits().filter_map(|peer| {
                let key = peer.public_key;
                let was = self.refused.get(&key).copied();
                let refusal = judge(&peer.limits, &key, known, was)?;
                Some((key, refusal))
            });
            let refused: HashMap<PublicKey, Refusal> = refused.collect();
            self.take_over(refused, known.today, device, peers, now);
        });
    }

    fn take_over(
        &mut self,
        refused: HashMap<PublicKey, Refusal>,
        today: Day,
        device: &mut Device,
        peers: &Peers,
        now: Time,
    ) {
        let was = std::mem::replace(&mut self.refused, refused);
        for (key, refusal) in &self.refused {
            // It may have been added again since.
            device.set_refused(key, true, now);
            if was.get(key) != Some(refusal) {
                tell(&peers.label(key), *refusal, today);
                self.changes.push(Change {
                    key: *key,
                    refusal: Some(*refusal),
                });
            }
        }
        for (key, refusal) in was {
            if !self.refused.contains_key(&key) {
                device.set_refused(&key, false, now);
                if refusal != Refusal::Unread {
                    info!("{} is allowed again", peers.label(&key));
                }
                self.changes.push(Change { key, refusal: None });
            }
        }
    }

    /// Why a peer is refused, if it is.
    pub(super) fn refusal(&self, key: &PublicKey) -> Option<Refusal> {
        self.refused.get(key).copied()
    }

    /// What changed since this was last asked.
    pub(super) fn take_changes(&mut self) -> Vec<Change> {
        std::mem::take(&mut self.changes)
    }
}

fn judge(
    limits: &PeerLimits,
    key: &PublicKey,
    known: &Known<'_>,
    was: Option<Refusal>,
) -> Option<Refusal> {
    if let Some(day) = limits.expires.filter(|day| known.today > *day) {
        return Some(Refusal::Expired(day));
    }
    let quota = limits.quota?;
    if !known.is_open {
        return Some(Refusal::Unread);
    }
    if (known.used)(key, quota.period) >= quota.bytes {
        return Some(Refusal::Quota(quota));
    }
    // In between, who was refused stays so.
    let stays = |was: &Refusal| !known.is_complete && matches!(was, Refusal::Quota(_));
    was.filter(stays)
}

fn tell(label: &str, refusal: Refusal, today: Day) {
    match refusal {
        Refusal::Expired(day) => warn!(
            "{label} is refused: its last day was {day}; write a later peers.expires and reload"
        ),
        Refusal::Quota(quota) => warn!(
            "{label} is refused until {}: its quota of {quota} is used up; write a larger \
             peers.quota and reload",
            quota.period.next(today)
        ),
        Refusal::Unread => warn!("{label} is refused until it is read how much it has moved"),
    }
}

/// A quota, as `status` shows it.
pub(super) fn quota_status(quota: Quota, key: &PublicKey, known: &Known<'_>) -> QuotaStatus {
    QuotaStatus {
        bytes: quota.bytes,
        period: quota.period.word().to_owned(),
        used_bytes: (known.used)(key, quota.period),
        ends_at: UnixTime::at(quota.period.next(known.today).start()),
    }
}

#[cfg(test)]
mod tests {
    use taltun_usage::Period;

    use super::*;

    const ANA: PublicKey = PublicKey([1; 32]);

    fn judged(limits: &str, today: &str, used: u64, state: (bool, bool)) -> Option<Refusal> {
        let (quota, expires) = limits.split_once(' ').unwrap_or((limits, ""));
        let limits = PeerLimits {
            quota: quota.parse().ok(),
            expires: expires.parse().ok(),
        };
        let known = Known {
            today: today.parse().unwrap(),
            is_open: state.0,
            is_complete: state.1,
            used: &|key, period| {
                assert_eq!(*key, ANA);
                if period == Period::Day {
                    used
                } else {
                    10 * used
                }
            },
        };
        judge(&limits, &ANA, &known, None)
    }

    #[test]
    fn a_peer_is_refused_from_the_last_byte_of_its_quota_on() {
        let known = (true, true);
        let quota = "100B/day".parse().unwrap();
        assert_eq!(judged("100B/day", "2026-11-29", 99, known), None);
        let used_up = Some(Refusal::Quota(quota));
        assert_eq!(judged("100B/day", "2026-11-29", 100, known), used_up);
        assert_eq!(judged("100B/month", "2026-11-29", 9, known), None);
        assert!(judged("100B/month", "2026-11-29", 10, known).is_some());
        assert_eq!(judged("-", "2026-11-29", u64::MAX / 10, known), None);
    }

    #[test]
    fn a_peer_is_refused_from_the_day_after_its_last_one_on() {
        let known = (true, true);
        assert_eq!(judged("- 2026-11-29", "2026-11-29", 0, known), None);
        let day = "2026-11-29".parse().unwrap();
        let expired = Some(Refusal::Expired(day));
        assert_eq!(judged("- 2026-11-29", "2026-11-30", 0, known), expired);
        // Whatever else there is.
        assert_eq!(
            judged("1B/day 2026-11-29", "2026-11-30", 9, (false, false)),
            expired
        );
    }

    #[test]
    fn what_is_not_known_lets_nobody_in_that_has_a_quota() {
        let unread = Some(Refusal::Unread);
        assert_eq!(judged("100B/day", "2026-11-29", 0, (false, false)), unread);
        assert_eq!(
            judged("- 2026-11-29", "2026-11-29", 0, (false, false)),
            None
        );
        // Later, who was refused stays refused until it is known, and nobody else is.
        assert_eq!(judged("100B/day", "2026-11-29", 0, (true, false)), None);
        let quota = "100B/day".parse().unwrap();
        let limits = PeerLimits {
            quota: Some(quota),
            expires: None,
        };
        let known = |is_complete| Known {
            today: Day::default(),
            is_open: true,
            is_complete,
            used: &|_, _| 0,
        };
        let was = Some(Refusal::Quota(quota));
        assert_eq!(judge(&limits, &ANA, &known(false), was), was);
        assert_eq!(judge(&limits, &ANA, &known(true), was), None);
        assert_eq!(
            judge(&limits, &ANA, &known(false), Some(Refusal::Unread)),
            None
        );
    }
}
