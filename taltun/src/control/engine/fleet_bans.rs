//! Bans that the hubs of a fleet share: a ban with an end is told to all of them, and theirs are
//! carried out here.

use std::collections::BTreeMap;
use std::time::UNIX_EPOCH;

use ipnet::IpNet;
use tracing::info;

use super::Engine;
use crate::control::fleet::FleetBan;
use crate::layer::Layer;
use crate::protocol::allowed_ips::canonical;

/// What is said of a ban that all hubs get, or of the end of one.
const EVERYWHERE: &str =
    "; all hubs of the fleet get that by etcd, those that are away once they are back";
/// What is said of one that they don't get.
const HERE_ALONE: &str =
    "; on this hub alone, as it has no end: by --for all hubs of the fleet get it";

impl Engine {
    /// Tells the fleet that these were banned here. Returns what to add to the sentence about it.
    pub(super) fn share_bans(
        &self,
        nets: Vec<IpNet>,
        layer: Layer,
        seconds: Option<u64>,
    ) -> &'static str {
        match (&self.fleet, seconds) {
            (None, _) => "",
            (Some(_), None) => HERE_ALONE,
            (Some(fleet), Some(_)) => {
                fleet.ban(nets, layer, seconds);
                EVERYWHERE
            }
        }
    }

    /// Tells the fleet that these were unbanned here, as far as it has bans of them. Returns what to
    /// add to the sentence about it.
    pub(super) fn share_unbans(&self, nets: &[IpNet], layer: Layer) -> &'static str {
        let Some(fleet) = &self.fleet else { return "" };
        let nets = nets.iter().map(|net| canonical(*net));
        let had: Vec<IpNet> = nets.filter(|net| fleet.has_ban(net, layer)).collect();
        if had.is_empty() {
            return "";
        }
        fleet.ban(had, layer, None);
        EVERYWHERE
    }

    /// Carries out the bans that the fleet has by now, and ends those that were lifted.
    pub(in crate::control) fn follow_fleet_bans(&mut self, all: &[FleetBan]) {
        let now = UNIX_EPOCH.elapsed().unwrap_or_default().as_secs();
        let after: BTreeMap<(IpNet, Layer), u64> = all
            .iter()
            .map(|ban| ((canonical(ban.net), ban.layer), ban.until))
            .collect();
        let before = std::mem::take(&mut self.fleet_bans);
        let new = after
            .iter()
            .filter(|(key, until)| before.get(key) != Some(until));
        let new = new.filter_map(|((net, layer), until)| {
            let left = until.checked_sub(now).filter(|left| *left > 0)?;
            Some((*net, *layer, left))
        });
        let new: Vec<_> = new.collect();
        let lifted = before.keys().filter(|key| !after.contains_key(key));
        let lifted: Vec<_> = lifted.copied().collect();
        if !new.is_empty() || !lifted.is_empty() {
            info!("fleet: bans changed: {} now", after.len());
            self.bans.share(&new, &lifted, &mut self.shield);
        }
        self.fleet_bans = after;
    }
}
