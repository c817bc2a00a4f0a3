//! Bans with their ends, as all hubs have them: the last decision about a network counts.
//!
//! A ban that was lifted stays as a decision until the ban would have ended, so that a hub that was
//! away doesn't bring it back. The time is given: here is no clock.

use std::collections::BTreeMap;

use ipnet::IpNet;

use crate::record::Ban;

/// The most bans of a network: beyond it those that end first make room.
pub const MAX_BANS: usize = 65_536;

/// All bans.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Bans {
    /// [`Ban::kept`] is never before [`Ban::until`] here.
    bans: BTreeMap<IpNet, Ban>,
}

impl Bans {
    /// Takes a decision, from here or from another hub. Whether anything changed. One that needn't be
    /// remembered any more counts nowhere: a hub that hears it first would forget it.
    pub fn learn(&mut self, net: IpNet, mut ban: Ban, now: u64) -> bool {
        ban.kept = ban.kept.max(ban.until);
        if ban.kept <= now {
            return false;
        }
        if let Some(known) = self.bans.get_mut(&net) {
            let before = known.kept;
            known.kept = before.max(ban.kept);
            if rank(known) >= rank(&ban) {
                return known.kept > before;
            }
            ban.kept = known.kept;
        }
        self.bans.insert(net, ban);
        if self.bans.len() > MAX_BANS {
            self.make_room();
        }
        true
    }

    fn make_room(&mut self) {
        let first = self
            .bans
            .iter()
            .min_by_key(|(net, known)| (known.kept, **net));
        if let Some(net) = first.map(|(net, _)| *net) {
            self.bans.remove(&net);
        }
    }

    /// Whether a network is banned now, by a ban of its own.
    pub fn is_banned(&self, net: &IpNet, now: u64) -> bool {
        let known = self.bans.get(net);
        known.is_some_and(|known| is_on(known, now))
    }

    /// The bans that are on.
    pub fn on(&self, now: u64) -> impl Iterator<Item = (&IpNet, &Ban)> {
        self.bans.iter().filter(move |(_, ban)| is_on(ban, now))
    }

    /// What the store is to have, lifted bans with it, and for how many seconds.
    pub fn to_write(&self, now: u64) -> impl Iterator<Item = (&IpNet, &Ban, u64)> {
        let left = move |ban: &Ban| ban.kept.checked_sub(now).filter(|left| *left > 0);
        let bans = self.bans.iter();
        bans.filter_map(move |(net, ban)| Some((net, ban, left(ban)?)))
    }

    /// Forgets what is over. Whether there was any.
    pub fn expire(&mut self, now: u64) -> bool {
        let before = self.bans.len();
        self.bans.retain(|_, ban| ban.kept > now);
        self.bans.len() < before
    }
}

/// Which of two decisions counts. All that it says decides, so that all hubs decide the same.
fn rank(ban: &Ban) -> (u64, bool, u64, &str, &str) {
    let Ban {
        until,
        kept: _,
        lifted,
        decided,
        by,
        reason,
    } = ban;
    (*decided, *lifted, *until, by.as_str(), reason)
}

fn is_on(ban: &Ban, now: u64) -> bool {
    ban.until > now && !ban.lifted
}
