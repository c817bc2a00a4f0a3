//! Changing a running tunnel to a new configuration: what differs, and what of it can be
//! changed under way. It is compared with the tunnel as it is, so what was changed with `wg`
//! since the file was last read becomes as the file says.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::net::IpAddr;

use ipnet::IpNet;

use crate::config::keys::{self, Key, Reload};
use crate::config::{self, Config};
use crate::control::peers::{keepalive, literal_endpoint};
use crate::control::words;
use crate::crypto::PublicKey;
use crate::protocol::allowed_ips::canonical;
use crate::protocol::device::Device;
use crate::protocol::time::Time;

/// What a reload says that finds all as it is.
pub(super) const NOTHING: &str = "nothing has changed";

/// What a reload does to the peers.
#[derive(Debug, Default)]
pub(super) struct Plan {
    pub added: Vec<config::Peer>,
    pub changed: Vec<(config::Peer, Change)>,
    pub removed: Vec<PublicKey>,
}

/// What is different about a peer.
#[derive(Debug, Default, PartialEq, Eq)]
#[allow(
    clippy::struct_excessive_bools,
    reason = "each names one setting of a peer that differs or not"
)]
pub(super) struct Change {
    pub name: bool,
    pub endpoint: bool,
    pub allowed_ips: bool,
    pub preshared_key: bool,
    pub keepalive: bool,
    /// The controller judges by them.
    pub limits: bool,
    pub rates: bool,
}

impl Plan {
    /// The peers of which it says where they are.
    pub(super) fn said(&self) -> HashSet<PublicKey> {
        let changed = self.changed.iter();
        let changed = changed.filter_map(|(peer, change)| change.endpoint.then_some(peer));
        let said = self.added.iter().chain(changed);
        said.map(|peer| peer.public_key).collect()
    }

    /// What it does, in a sentence; `more` is what else is done.
    pub(super) fn summary(&self, more: &[String]) -> String {
        let parts = [
            (self.added.len(), "added"),
            (self.changed.len(), "changed"),
            (self.removed.len(), "removed"),
        ];
        let peers = parts.iter().filter(|(number, _)| *number > 0);
        let mut done: Vec<String> = peers
            .map(|(number, what)| format!("{} {what}", words::count(*number, "peer")))
            .collect();
        done.extend_from_slice(more);
        if done.is_empty() {
            return format!("reloaded: {NOTHING}");
        }
        format!("reloaded: {}", done.join(", "))
    }
}

/// Says all that can only change by a restart, if there is any; `endpoints` are where peers are
/// and will be, which are asked for only where it depends on them.
pub(super) fn refuse_fixed(
    old: &Config,
    new: &Config,
    endpoints: impl FnOnce() -> Vec<IpAddr>,
) -> Result<(), String> {
    let different = keys::all().filter(|key| !(key.same)(old, new));
    let fixed = different.filter(|key| key.reload == Reload::Restart);
    let mut fixed: Vec<String> = fixed.map(Key::full_name).collect();
    if old.dns_routes.is_some() != new.dns_routes.is_some() {
        fixed.push("[dns_routes] (to or from having one)".into());
    }
    if old.names.is_some() != new.names.is_some() {
        fixed.push("[names] (to or from having one)".into());
    }
    if old.fleet.is_some() != new.fleet.is_some() {
        fixed.push("[fleet] (to or from having one)".into());
    }
    if old.interface.routes != new.interface.routes {
        let endpoints = endpoints();
        if goes_around(old, &endpoints) != goes_around(new, &endpoints) {
            fixed.push(
                "interface.routes (from or to one with all traffic or an endpoint in it)".into(),
            );
        }
    }
    if !fixed.is_empty() {
        return Err(format!(
            "{} can't change while the tunnel runs; restart it (nothing was changed)",
            words::list(&fixed)
        ));
    }
    Ok(())
}

/// What changes besides peers, in words. What our own key is compared with isn't the old file,
/// as `wg` may have changed it; the kill switch and the gateway are told by what does it.
pub(super) fn changes(old: &Config, new: &Config, is_new_key: bool) -> Vec<String> {
    let mut changes = Vec::new();
    if is_new_key {
        changes.push("our own key changed: all sessions start anew".to_owned());
    }
    let different = keys::all().filter(|key| !(key.same)(old, new));
    for key in different.filter(|key| key.reload == Reload::Live) {
        match (key.section, key.name) {
            ("peers" | "udpgw", _)
            | ("interface", "private_key" | "private_key_file" | "kill_switch") => {}
            ("interface", "local_addr") => {
                changes.push(format!("listening on {}", new.interface.local_addr));
            }
            ("interface", "routes") => changes.extend(routes_changes(old, new)),
            ("interface", "debug") => changes.push(
                if new.interface.debug {
                    "debug on (samples of what XDP and TC drop come with a restart)"
                } else {
                    "debug off"
                }
                .to_owned(),
            ),
            ("interface", "relay") => changes.push(
                match [old.relays(), new.relays()] {
                    [false, true] => {
                        "relay on: packets between peers don't go through the kernel and its \
                         firewall"
                    }
                    [true, false] => "relay off: packets between peers go through the kernel",
                    _ => "interface.relay changed, which makes no difference here",
                }
                .to_owned(),
            ),
            ("shaping", "uplink") => changes.push(match new.shaping.uplink {
                Some(rate) => format!("uplink {rate}"),
                None => "uplink without limit".to_owned(),
            }),
            ("policy" | "groups" | "rules", _) => changes.push("rules changed".to_owned()),
            ("forward", _) => changes.push("forwarded ports changed".to_owned()),
            // All of it is made anew.
            ("dns_routes", _) => changes.push("dns_routes changed".to_owned()),
            _ => changes.push(format!("{} changed", key.full_name())),
        }
    }
    changes.dedup();
    changes
}

fn routes_changes(old: &Config, new: &Config) -> Vec<String> {
    let (before, after) = (&old.interface.routes, &new.interface.routes);
    let lists = [(after, before, "added"), (before, after, "removed")];
    let changes = lists.map(|(nets, others, what)| {
        let number = nets.iter().filter(|net| !others.contains(net)).count();
        (number > 0).then(|| format!("{} {what}", words::count(number, "route")))
    });
    changes.into_iter().flatten().collect()
}

/// The peers that differ between two files: those of one of them alone, too. It goes through all
/// of both, so it isn't for the controller.
pub(super) fn differing(old: &[config::Peer], new: &[config::Peer]) -> Vec<PublicKey> {
    // Nearly always most of them are the same at the start and at the end.
    let same = |(old, new): &(&config::Peer, &config::Peer)| {
        old.public_key == new.public_key && difference(old, new) == Change::default()
    };
    let head = old.iter().zip(new).take_while(same).count();
    let (old, new) = (&old[head..], &new[head..]);
    let tail = old.iter().rev().zip(new.iter().rev());
    let tail = tail.take_while(same).count();
    let (old, new) = (&old[..old.len() - tail], &new[..new.len() - tail]);
    let mut before: HashMap<_, _> = old.iter().map(|p| (p.public_key, p)).collect();
    let mut keys = Vec::new();
    for peer in new {
        let old = before.remove(&peer.public_key);
        if old.is_none_or(|old| difference(old, peer) != Change::default()) {
            keys.push(peer.public_key);
        }
    }
    keys.extend(before.into_keys());
    keys
}

/// What becomes of these peers: `live` is how they are now, `wanted` which one of the new file
/// they are.
pub(super) fn plan(
    keys: impl IntoIterator<Item = PublicKey>,
    new: &[config::Peer],
    wanted: impl Fn(&PublicKey) -> Option<usize>,
    live: impl Fn(&PublicKey) -> Option<config::Peer>,
) -> Plan {
    let keys: BTreeSet<PublicKey> = keys.into_iter().collect();
    let mut keys: Vec<(Option<usize>, PublicKey)> =
        keys.into_iter().map(|key| (wanted(&key), key)).collect();
    // In the order of the file.
    keys.sort_unstable();
    let mut plan = Plan::default();
    for (place, key) in keys {
        match (live(&key), place.and_then(|place| new.get(place))) {
            (None, None) => {}
            (None, Some(peer)) => plan.added.push(peer.clone()),
            (Some(_), None) => plan.removed.push(key),
            (Some(old), Some(peer)) => {
                let change = difference(&old, peer);
                if change != Change::default() {
                    plan.changed.push((peer.clone(), change));
                }
            }
        }
    }
    plan
}

/// Whether a running peer is otherwise than the file says in anything that `wg` can change.
pub(in crate::control) fn differs(live: &config::Peer, filed: &config::Peer) -> bool {
    let change = difference(live, filed);
    change.endpoint || change.allowed_ips || change.preshared_key || change.keepalive
}

/// What becomes of the peers that a command changed in the file: that change alone, so that what
/// `wg` did to them stays. `before` is how the file had them, `live` how they are now.
pub(super) fn plan_edit(
    keys: impl IntoIterator<Item = PublicKey>,
    new: &[config::Peer],
    wanted: impl Fn(&PublicKey) -> Option<usize>,
    before: impl Fn(&PublicKey) -> Option<config::Peer>,
    live: impl Fn(&PublicKey) -> Option<config::Peer>,
) -> Plan {
    let mut plan = plan(keys, new, wanted, |key| {
        let live = live(key)?;
        Some(before(key).unwrap_or(live))
    });
    // Those that `wg` removed.
    plan.added.retain(|peer| before(&peer.public_key).is_none());
    plan
}

/// What is different about a peer.
fn difference(old: &config::Peer, new: &config::Peer) -> Change {
    Change {
        name: old.name != new.name,
        endpoint: old.endpoint != new.endpoint || old.endpoints != new.endpoints,
        allowed_ips: old.allowed_ips != new.allowed_ips
            && sorted(&old.allowed_ips) != sorted(&new.allowed_ips),
        preshared_key: old.preshared_key != new.preshared_key,
        keepalive: old.persistent_keepalive != new.persistent_keepalive,
        limits: old.limits != new.limits,
        rates: old.rates != new.rates,
    }
}

/// Makes a changed peer as configured, touching only what differs; the device knows no names.
pub(super) fn apply(device: &mut Device, peer: &config::Peer, change: &Change, now: Time) {
    let key = &peer.public_key;
    // Of several places the peer may be at one: who speaks to it next says which there are.
    if change.endpoint && peer.endpoints.is_empty() {
        device.set_endpoint(key, literal_endpoint(peer));
    }
    if change.allowed_ips {
        device.set_allowed_ips(key, &peer.allowed_ips);
    }
    if change.preshared_key {
        device.set_preshared_key(key, peer.preshared_key.clone());
    }
    if change.keepalive {
        device.set_persistent_keepalive(key, keepalive(peer), now);
    }
}

/// Allowed IPs as what they mean: the order they were listed in, and bits behind a prefix,
/// say nothing.
fn sorted(nets: &[IpNet]) -> Vec<IpNet> {
    let mut nets: Vec<IpNet> = nets.iter().map(|net| canonical(*net)).collect();
    nets.sort_unstable();
    nets.dedup();
    nets
}

/// Whether routes need the tunnel's own datagrams led around them.
fn goes_around(config: &Config, endpoints: &[IpAddr]) -> bool {
    config.routes_around(endpoints).next().is_some()
}

#[cfg(test)]
mod tests;
