//! Bans as `status` and `stats` tell them: when each ends, whose it is, and what ends it.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;

use super::list::{BanList, Denied};
use super::owners::{NAMED, is_huge};
use crate::control::peers::Peers;
use crate::control::words;
use crate::crypto::PublicKey;
use crate::dataplane::clock;
use crate::layer::Layer;
use crate::protocol::device::Device;
use crate::protocol::peer::Peer;
use crate::report::{BanStatus, UnixTime};

/// What drops packets of a peer that owns these networks. `deny_key` names the list of the
/// configuration.
pub(super) fn of_peer(
    list: &BanList,
    peer: &Peer,
    owned: &[IpNet],
    peers: &Peers,
    deny_key: impl Fn(Layer) -> String,
) -> Vec<BanStatus> {
    if list.is_empty() {
        return Vec::new();
    }
    let key = peer.public_key();
    let found = concerning(list, peer, owned).into_iter();
    found
        .map(|ban| {
            // By the peer's name, where it is exactly one of that peer's networks.
            let is_its_own = ban.layer == Layer::Inner && owned.contains(&ban.net);
            let name = peers.name(key).filter(|_| is_its_own);
            BanStatus {
                remedy: remedy(&ban, name, &deny_key(ban.layer)),
                ..status(&ban, vec![peers.label(key)])
            }
        })
        .collect()
}

/// What denies an address: the narrowest network. `deny_key` names the list of the configuration.
pub(super) fn of_address(
    list: &BanList,
    address: IpAddr,
    layer: Layer,
    deny_key: &str,
) -> Option<BanStatus> {
    let denied = list.concerning(address.to_canonical().into(), layer);
    let ban = denied.iter().max_by_key(|ban| ban.net.prefix_len())?;
    Some(BanStatus {
        remedy: remedy(ban, None, deny_key),
        ..status(ban, Vec::new())
    })
}

/// All that is denied, with the peers that are in it.
pub(super) fn with_peers(
    list: &BanList,
    device: &Device,
    peers: &Peers,
    deny_key: impl Fn(Layer) -> String,
) -> Vec<BanStatus> {
    if list.is_empty() {
        return Vec::new();
    }
    let mut keys: BTreeMap<(IpNet, Layer), (Vec<PublicKey>, usize)> = BTreeMap::new();
    for peer in device.peers() {
        let owned: Vec<IpNet> = device.allowed_ips_of(peer.id()).collect();
        for ban in concerning(list, peer, &owned) {
            let (named, more) = keys.entry((ban.net, ban.layer)).or_default();
            if named.len() < NAMED {
                named.push(*peer.public_key());
            } else {
                *more = more.saturating_add(1);
            }
        }
    }
    let all = list.denied();
    all.map(|ban| {
        let (named, more) = keys.remove(&(ban.net, ban.layer)).unwrap_or_default();
        let mut names: Vec<String> = named.iter().map(|key| peers.label(key)).collect();
        names.sort();
        if more > 0 {
            names.push(format!("{} more", words::count(more, "peer")));
        }
        BanStatus {
            remedy: remedy(&ban, None, &deny_key(ban.layer)),
            ..status(&ban, names)
        }
    })
    .collect()
}

/// What is denied of a peer: where it is outside, and what it owns inside. Whoever owns
/// nearly everything isn't meant by a ban of something.
fn concerning(list: &BanList, peer: &Peer, owned: &[IpNet]) -> Vec<Denied> {
    let mut found = Vec::new();
    if let Some(endpoint) = peer.endpoint() {
        let address: IpAddr = endpoint.remote.ip().to_canonical();
        found = list.concerning(address.into(), Layer::Outer);
    }
    for net in owned {
        let mut inside = list.concerning(*net, Layer::Inner);
        inside.retain(|ban| ban.net.contains(net) || !is_huge(*net));
        found.append(&mut inside);
    }
    found.sort_unstable_by_key(|ban| (ban.layer, ban.net));
    found.dedup_by_key(|ban| (ban.layer, ban.net));
    found
}

/// What ends a ban: by the name of the peer that it is of, or by its network. `file` is the list
/// of the configuration.
fn remedy(ban: &Denied, name: Option<&str>, file: &str) -> String {
    if !ban.banned {
        return format!("take it out of {file}, then `taltun reload`");
    }
    // Only what a shell, and the command, take for a name.
    let name = name
        .filter(|name| name.parse::<IpNet>().is_err() && name.parse::<IpAddr>().is_err())
        .filter(|name| name.bytes().all(|byte| byte.is_ascii_alphanumeric()));
    let unban = match (name, ban.layer) {
        (Some(name), _) => format!("taltun unban {name}"),
        (None, Layer::Inner) => format!("taltun unban {} --inner", ban.net),
        (None, Layer::Outer) => format!("taltun unban {}", ban.net),
    };
    if ban.configured {
        return format!("`{unban}`, and take it out of {file}, then `taltun reload`");
    }
    format!("`{unban}`")
}

fn status(ban: &Denied, peers: Vec<String>) -> BanStatus {
    BanStatus {
        net: ban.net,
        layer: ban.layer,
        configured: ban.configured,
        banned: ban.banned,
        // What has begun of a second counts as one.
        seconds_left: ban.left.map(|left| {
            left.as_secs()
                .saturating_add(u64::from(left.subsec_nanos() > 0))
        }),
        ends_at: ban.left.map(|left| {
            let end = clock::wall().saturating_add(left);
            UnixTime::at(end)
        }),
        peers,
        remedy: String::new(),
    }
}
