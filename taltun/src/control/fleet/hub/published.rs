//! What the tunnel and `status` get of what is known.

use std::sync::Arc;
use std::time::Duration;

use taltun_fleet::record::Hub as HubRecord;
use taltun_fleet::{Key, Label};
use tokio::sync::watch;

use super::{MOST_PROBLEMS, Member};
use crate::config::hub_endpoints;
use crate::control::fleet::link::{FleetBan, FleetHub};
use crate::control::state_file::wall_clock;
use crate::crypto::PublicKey;
use crate::layer::Layer;
use crate::report::{HubStatus, UnixTime};

/// For how long a rotation that this hub refuses is told.
const RIVAL: Duration = Duration::from_secs(600);

impl Member {
    /// Gives the tunnel and `status` what is known by now.
    pub(super) fn publish(&mut self) {
        self.publish_at = None;
        let changed = self.ledger.take_changed();
        if self.peers.follow(&self.ledger, &changed) > 0 {
            self.hub.homes.set_known(self.peers.keys());
            tell(&self.hub.peers, self.peers.by_name());
        }
        let count = self.peers.len() as u64;
        let now = wall_clock();
        let all = [Layer::Outer, Layer::Inner].into_iter().zip(&self.bans);
        let bans = all.flat_map(|(layer, bans)| {
            bans.on(now).map(move |(net, ban)| FleetBan {
                net: *net,
                layer,
                until: ban.until,
            })
        });
        let bans: Vec<FleetBan> = bans.collect();
        let number_of_bans = bans.len() as u64;
        tell(&self.hub.bans, bans);
        tell(&self.hub.hubs, self.others());
        let hubs = self.hubs();
        let own = &self.hub.settings.hub;
        let others = hubs.iter().filter(|hub| hub.name != own.as_str());
        let others = others.flat_map(|hub| hub.vip.iter().copied()).collect();
        let problems = self.problems();
        let believed = self.unclaimed.is_none();
        let admin_key = self
            .membership
            .trust
            .admins
            .first()
            .map(ToString::to_string);
        let to_sign = self
            .rotating
            .map_or(0, |_| self.ledger.former().count() as u64);
        self.hub.see(|seen| {
            seen.hubs = others;
            seen.believed = believed;
            let status = &mut seen.status;
            status.joined = true;
            status.admin = self.admin.is_some();
            status.admin_key = admin_key;
            status.to_sign = to_sign;
            status.etcd.connected = self.connected;
            status.etcd.error = self.error.as_ref().map(ToString::to_string);
            status.etcd.revision = self.revision;
            status.etcd.members.clone_from(&self.members);
            status.pending = self.writes.len() as u64;
            status.peers = count;
            status.bans = number_of_bans;
            status.hubs = hubs;
            status.saved_at = self.saved_at;
            status.from_disk_at = self.from_disk;
            status.problems = problems;
        });
    }

    /// What is known of the hubs of the fleet, this one among them.
    pub(super) fn hub_records(&self) -> impl Iterator<Item = (&Label, HubRecord)> {
        self.ledger.all().filter_map(|(key, signed)| match key {
            Key::Hub(hub) => Some((hub, signed.record::<HubRecord>()?.ok()?)),
            _ => None,
        })
    }

    /// The other hubs, as peers of this one.
    fn others(&self) -> Vec<FleetHub> {
        let others = self
            .hub_records()
            .filter(|(hub, _)| **hub != self.hub.settings.hub);
        let others = others.map(|(hub, record)| FleetHub {
            name: hub.to_string(),
            public_key: PublicKey(record.identity),
            answers_as: self.answers_as(hub, &record),
            group: record.group.as_ref().map(Label::to_string),
            shared: record.shared,
            endpoints: hub_endpoints(&record.endpoints),
            vips: record.vips,
        });
        others.collect()
    }

    fn hubs(&self) -> Vec<HubStatus> {
        let hubs = self.hub_records().map(|(hub, record)| {
            let live = self.live.get(hub);
            HubStatus {
                name: hub.to_string(),
                own: *hub == self.hub.settings.hub,
                live: live.is_some(),
                public_key: PublicKey(record.identity).to_string(),
                answers_as: self.answers_as(hub, &record).to_string(),
                shared_address: record.shared,
                leads: false,
                leaving: false,
                clock_ahead_s: self.clocks.ahead(hub),
                admin: self.has_admin(hub),
                vip: record.vips,
                endpoints: record.endpoints,
                group: record.group.map(|group| group.to_string()),
                taltun: live.map(|live| live.taltun.clone()),
                since: live.map(|live| UnixTime::at(Duration::from_secs(live.since))),
                // The controller knows these.
                homes: 0,
                path: None,
            }
        });
        hubs.collect()
    }

    /// What is told of a rotation that this hub refuses, also after it has written the right one over it.
    fn rival(&self) -> Option<String> {
        self.rival.filter(|seen| seen.elapsed() < RIVAL)?;
        Some(
            "etcd had another rotation of the admin's key than the one that this hub took, within the last 10 min: who \
             has the key before is at it; keep that machine from etcd"
                .to_owned(),
        )
    }

    fn problems(&self) -> Vec<String> {
        let refused = self.refused.iter();
        let refused = refused.map(|(key, why)| format!("the record {key} doesn't count: {why}"));
        let own = self.unclaimed.iter().chain(&self.not_saved).cloned();
        let own = own.chain(self.rival()).chain(self.clocks.problems());
        let mut all: Vec<String> = own.chain(refused.take(MOST_PROBLEMS)).collect();
        let more = self.refused.len().saturating_sub(MOST_PROBLEMS);
        if more > 0 {
            all.push(format!("{more} more records don't count"));
        }
        all
    }
}

/// Tells who follows it what is so by now, if it is new.
fn tell<T: PartialEq>(to: &watch::Sender<Arc<T>>, now: T) {
    to.send_if_modified(|known| {
        let is_new = **known != now;
        if is_new {
            *known = Arc::new(now);
        }
        is_new
    });
}
