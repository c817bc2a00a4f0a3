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
    bans: BTreeMap<IpNet, Decision>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Decision {
    ban: Ban,
    /// Until when it must be remembered.
    kept: u64,
}

impl Bans {
    /// Takes a decision, from here or from another hub. Whether anything changed.
    pub fn learn(&mut self, net: IpNet, ban: Ban, now: u64) -> bool {
        let known = self.bans.get_mut(&net);
        let kept = ban.until.max(known.as_ref().map_or(0, |known| known.kept));
        if kept <= now {
            return false;
        }
        if let Some(known) = known {
            known.kept = kept;
            if rank(&known.ban) >= rank(&ban) {
                return false;
            }
        }
        self.bans.insert(net, Decision { ban, kept });
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
        known.is_some_and(|known| is_on(&known.ban, now))
    }

    /// The bans that are on.
    pub fn on(&self, now: u64) -> impl Iterator<Item = (&IpNet, &Ban)> {
        let bans = self.bans.iter().map(|(net, known)| (net, &known.ban));
        bans.filter(move |(_, ban)| is_on(ban, now))
    }

    /// What the store is to have, lifted bans with it, and for how many seconds.
    pub fn to_write(&self, now: u64) -> impl Iterator<Item = (&IpNet, &Ban, u64)> {
        let left = move |known: &Decision| known.kept.checked_sub(now).filter(|left| *left > 0);
        let bans = self.bans.iter();
        bans.filter_map(move |(net, known)| Some((net, &known.ban, left(known)?)))
    }

    /// Forgets what is over. Whether there was any.
    pub fn expire(&mut self, now: u64) -> bool {
        let before = self.bans.len();
        self.bans.retain(|_, known| known.kept > now);
        self.bans.len() < before
    }
}

/// Which of two decisions counts. All of it decides, so that all hubs decide the same.
fn rank(ban: &Ban) -> (u64, bool, u64, &str, &str) {
    let Ban {
        until,
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
