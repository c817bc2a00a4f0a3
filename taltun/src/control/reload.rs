//! Changing a running tunnel to a new configuration: what differs, and what of it can be
//! changed under way. It is compared with the tunnel as it is, so what was changed with `wg`
//! since the file was last read becomes as the file says.

use std::collections::HashMap;
use std::time::Duration;

use ipnet::IpNet;

use crate::config::{self, Config, Dataplane, HostSettings, Interface};
use crate::crypto::PublicKey;
use crate::protocol::device::Device;
use crate::protocol::peer::Endpoint;
use crate::protocol::time::Time;

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
    pub endpoint: bool,
    pub allowed_ips: bool,
    pub preshared_key: bool,
    pub keepalive: bool,
}

impl Plan {
    /// What it does, in a sentence.
    pub(super) fn summary(&self) -> String {
        format!(
            "reloaded: {} peers added, {} changed, {} removed",
            self.added.len(),
            self.changed.len(),
            self.removed.len()
        )
    }
}

/// Compares the tunnel as it is with what it is to be. The error says what can only change by a restart.
pub(super) fn plan(old: &Config, new: &Config) -> Result<Plan, String> {
    if let Some(key) = fixed_difference(&old.interface, &new.interface) {
        return Err(format!(
            "interface.{key} can't change while the tunnel runs; restart it"
        ));
    }
    if let Some(key) = host_difference(&old.host, &new.host) {
        return Err(format!(
            "{key} can't change while the tunnel runs; restart it"
        ));
    }
    if old.dns_routes != new.dns_routes {
        return Err("dns_routes can't change while the tunnel runs; restart it".into());
    }
    if old.accel.interfaces != new.accel.interfaces
        || old.accel.xdp != new.accel.xdp
        || old.accel.af_xdp != new.accel.af_xdp
        || old.accel.af_xdp_busy_poll != new.accel.af_xdp_busy_poll
    {
        return Err(
            "accel.interfaces, accel.xdp, accel.af_xdp and accel.af_xdp_busy_poll can't change \
             while the tunnel runs; restart it"
                .into(),
        );
    }
    if let Some(key) = dataplane_difference(&old.dataplane, &new.dataplane) {
        return Err(format!(
            "dataplane.{key} can't change while the tunnel runs; restart it"
        ));
    }
    let mut before: HashMap<_, _> = old.peers.iter().map(|p| (p.public_key, p)).collect();
    let mut plan = Plan::default();
    for peer in &new.peers {
        match before.remove(&peer.public_key) {
            None => plan.added.push(peer.clone()),
            Some(old) => {
                let change = Change {
                    endpoint: old.endpoint != peer.endpoint,
                    allowed_ips: sorted(&old.allowed_ips) != sorted(&peer.allowed_ips),
                    preshared_key: old.preshared_key != peer.preshared_key,
                    keepalive: old.persistent_keepalive != peer.persistent_keepalive,
                };
                if change != Change::default() {
                    plan.changed.push((peer.clone(), change));
                }
            }
        }
    }
    plan.removed = before.into_keys().collect();
    Ok(plan)
}

/// Makes a changed peer as configured, touching only what differs.
pub(super) fn apply(device: &mut Device, peer: &config::Peer, change: &Change, now: Time) {
    let key = &peer.public_key;
    if change.endpoint {
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

/// A peer's endpoint where the configuration gives an address; a name comes later.
pub(super) fn literal_endpoint(peer: &config::Peer) -> Option<Endpoint> {
    match peer.endpoint {
        Some(config::Endpoint::Address(address)) => Some(Endpoint::from(address)),
        Some(config::Endpoint::Name(..)) | None => None,
    }
}

/// A peer's keepalive interval.
pub(super) fn keepalive(peer: &config::Peer) -> Option<Duration> {
    peer.persistent_keepalive
        .map(|seconds| Duration::from_secs(u64::from(seconds)))
}

/// Allowed IPs as what they mean: the order they were listed in, and bits behind a prefix,
/// say nothing.
fn sorted(nets: &[IpNet]) -> Vec<IpNet> {
    let mut nets: Vec<IpNet> = nets.iter().map(IpNet::trunc).collect();
    nets.sort_unstable();
    nets.dedup();
    nets
}

/// The first key of `[interface]` that differs and can't be changed under way.
fn fixed_difference(old: &Interface, new: &Interface) -> Option<&'static str> {
    first_difference(&[
        ("mode", old.mode == new.mode),
        ("tun_name", old.tun_name == new.tun_name),
        ("vip", old.vip == new.vip),
        ("mtu", old.mtu == new.mtu),
        ("routes", old.routes == new.routes),
    ])
}

/// The first key of `[dataplane]` that differs.
fn dataplane_difference(old: &Dataplane, new: &Dataplane) -> Option<&'static str> {
    first_difference(&[
        ("tun_offload", old.tun_offload == new.tun_offload),
        ("udp_gso", old.udp_gso == new.udp_gso),
        ("udp_gro", old.udp_gro == new.udp_gro),
        ("workers", old.workers == new.workers),
        ("crypto_threads", old.crypto_threads == new.crypto_threads),
        ("busy_poll_us", old.busy_poll_us == new.busy_poll_us),
    ])
}

/// The first key of what the host does that differs. The kill switch closes and opens live.
fn host_difference(old: &HostSettings, new: &HostSettings) -> Option<&'static str> {
    first_difference(&[
        ("interface.fwmark", old.fwmark == new.fwmark),
        ("interface.dns", old.dns == new.dns),
        ("interface.ip_forward", old.ip_forward == new.ip_forward),
        ("interface.mss_clamp", old.mss_clamp == new.mss_clamp),
        ("interface.protect_vip", old.protect_vip == new.protect_vip),
        ("interface.firewall", old.firewall == new.firewall),
        ("nat", old.masquerade == new.masquerade),
    ])
}

/// The first key whose value isn't the same.
fn first_difference(keys: &[(&'static str, bool)]) -> Option<&'static str> {
    keys.iter().find(|(_, same)| !same).map(|(key, _)| *key)
}

#[cfg(test)]
mod tests {
    use super::*;

    const BASE: &str = r#"
[interface]
mode = "server"
vip = "10.0.0.1/24"
private_key = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="
"#;

    fn config(peers: &[(&str, &str)]) -> Config {
        let mut text = BASE.to_owned();
        for (number, (key, more)) in peers.iter().enumerate() {
            let key = key.repeat(64);
            let peer = format!(
                "[[peers]]\nvip = \"10.0.0.{}\"\npublic_key = \"{key}\"\n{more}\n",
                number + 2
            );
            text.push_str(&peer);
        }
        config::parse(&text, "test.toml").unwrap().config
    }

    #[test]
    fn peers_come_go_and_change_and_the_others_are_left_alone() {
        let old = config(&[("1", ""), ("2", ""), ("3", "")]);
        let mut new = config(&[("1", ""), ("2", "persistent_keepalive = 5"), ("4", "")]);
        new.peers[2].vip.clone_from(&old.peers[2].vip);
        let plan = plan(&old, &new).unwrap();
        assert_eq!(plan.added.len(), 1);
        assert_eq!(plan.removed, [old.peers[2].public_key]);
        assert_eq!(plan.changed.len(), 1);
        assert_eq!(
            plan.changed[0].1,
            Change {
                keepalive: true,
                ..Change::default()
            }
        );
        assert_eq!(
            plan.summary(),
            "reloaded: 1 peers added, 1 changed, 1 removed"
        );
    }

    #[test]
    fn what_needs_a_restart_is_named() {
        let old = config(&[]);
        let mut new = config(&[]);
        new.interface.mtu = 1300;
        assert!(plan(&old, &new).unwrap_err().contains("interface.mtu"));
        let mut new = config(&[]);
        new.host.protect_vip = true;
        let error = plan(&old, &new).unwrap_err();
        assert!(error.contains("interface.protect_vip"), "{error}");
        let mut new = config(&[]);
        new.dataplane.crypto_threads = Some(2);
        let error = plan(&old, &new).unwrap_err();
        assert!(error.contains("dataplane.crypto_threads"), "{error}");
        let mut new = config(&[]);
        new.dataplane.workers = Some(2);
        let error = plan(&old, &new).unwrap_err();
        assert!(error.contains("dataplane.workers"), "{error}");
    }
}
