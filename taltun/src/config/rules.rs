//! What must hold between the values of a configuration: keys and addresses belong to one
//! peer each, and what is required is there.

use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use ipnet::IpNet;

use super::draft::{Draft, PeerDraft, Written};
use super::error::{ConfigError, Spot};
use super::{Config, Interface, Mode, Peer};
use crate::crypto::{PrivateKey, PublicKey};

const DEFAULT_TUN_NAME: &str = "taltun0";
const DEFAULT_PORT: u16 = 9000;
const DEFAULT_MTU: u16 = 1420;
/// The least MTU a link may have for IPv6 (RFC 8200, section 5), bytes.
const MTU_MIN_V6: u16 = 1280;

/// Checks the whole of `draft` and makes a [`Config`] and warnings of it.
pub(super) fn check(draft: Draft) -> Result<(Config, Vec<String>), ConfigError> {
    let Some(private_key) = draft.private_key else {
        return Err(draft.spot.sibling("interface.private_key").error(
            "missing; make one with `umask 077; taltun genkey > key` and add \
             private_key_file = \"key\" to [interface]",
        ));
    };
    check_own_vip(&draft.vip, &draft.spot)?;
    let mtu = check_mtu(draft.mtu, &draft.vip)?;
    check_keys(&draft.peers, &private_key)?;
    check_addresses(&draft.peers, &draft.vip)?;

    let mode = draft.mode.unwrap_or(Mode::Client);
    let mut warnings = draft.warnings;
    warnings.extend(questionable_peers(&draft.peers, &draft.vip, &draft.routes));
    warnings.extend(unused_routes(&draft.peers, &draft.routes));
    if mode == Mode::Client && draft.peers.iter().all(|peer| peer.endpoint.is_none()) {
        warnings.push(draft.spot.sibling("interface.mode").say(
            "mode is client, but no peer has an endpoint: nothing will start a handshake from here",
        ));
    }

    let interface = Interface {
        mode,
        tun_name: draft.tun_name.unwrap_or_else(|| DEFAULT_TUN_NAME.into()),
        vip: values(&draft.vip),
        local_addr: draft
            .local_addr
            .unwrap_or_else(|| SocketAddr::from((Ipv6Addr::UNSPECIFIED, DEFAULT_PORT))),
        private_key,
        mtu,
        routes: unique(values(&draft.routes)),
        debug: draft.debug,
    };
    let config = Config {
        interface,
        peers: draft.peers.into_iter().map(finish_peer).collect(),
        accel: draft.accel,
        dataplane: draft.dataplane,
    };
    Ok((config, warnings))
}

fn check_own_vip(vip: &[Written<IpNet>], missing: &Spot) -> Result<(), ConfigError> {
    if vip.is_empty() {
        return Err(missing.sibling("interface.vip").error(
            "missing; add this machine's address in the tunnel, such as vip = \"10.0.0.1/24\"",
        ));
    }
    for (i, one) in vip.iter().enumerate() {
        if let Some(other) = vip[..i]
            .iter()
            .find(|other| overlap(&other.value, &one.value))
        {
            return Err(one.spot.error(format!(
                "{} and {} overlap; give one address a subnet",
                other.value, one.value
            )));
        }
    }
    Ok(())
}

fn check_mtu(mtu: Option<Written<u16>>, vip: &[Written<IpNet>]) -> Result<u16, ConfigError> {
    let Some(mtu) = mtu else {
        return Ok(DEFAULT_MTU);
    };
    let v6 = vip.iter().find(|vip| vip.value.addr().is_ipv6());
    match v6 {
        Some(v6) if mtu.value < MTU_MIN_V6 => Err(mtu.spot.error(format!(
            "expected at least {MTU_MIN_V6}, as IPv6 needs it and {} is a vip, found {}",
            v6.value.addr(),
            mtu.value
        ))),
        _ => Ok(mtu.value),
    }
}

fn check_keys(peers: &[PeerDraft], private_key: &PrivateKey) -> Result<(), ConfigError> {
    let own = private_key.public_key();
    let mut seen: HashMap<PublicKey, &PeerDraft> = HashMap::new();
    for peer in peers {
        let key = &peer.public_key;
        if key.value == own {
            return Err(key.spot.error(
                "this is our own public key; give the peer its own, made with `taltun genkey` there",
            ));
        }
        if private_key.diffie_hellman(&key.value).is_none() {
            return Err(key.spot.error(
                "no private key belongs to this one; run `taltun pubkey < key` on that peer",
            ));
        }
        if let Some(first) = seen.insert(key.value, peer) {
            return Err(key.spot.error(format!(
                "this key is also that of {} ({}); every peer needs its own",
                label(first),
                first.public_key.spot.origin()
            )));
        }
    }
    Ok(())
}

/// Every address and every prefix belongs to one peer, and none to us and a peer.
fn check_addresses(peers: &[PeerDraft], own: &[Written<IpNet>]) -> Result<(), ConfigError> {
    let mut owners: HashMap<IpNet, (usize, &Spot)> = HashMap::new();
    for (i, peer) in peers.iter().enumerate() {
        for vip in &peer.vip {
            if own.iter().any(|own| own.value.addr() == vip.value) {
                return Err(vip.spot.error(format!(
                    "{} is our own address (interface.vip); give the peer another",
                    vip.value
                )));
            }
            if let Some((_, first)) = owners
                .insert(IpNet::from(vip.value), (i, &vip.spot))
                .filter(|(owner, _)| *owner != i)
            {
                return Err(vip.spot.error(format!(
                    "{} is given to another peer too ({}); every peer needs its own",
                    vip.value,
                    first.origin()
                )));
            }
        }
    }
    for (i, peer) in peers.iter().enumerate() {
        for allowed in &peer.allowed_ips {
            if let Some((owner, first)) = owners.insert(allowed.value, (i, &allowed.spot))
                && owner != i
            {
                return Err(allowed.spot.error(format!(
                    "{} is given to another peer too ({}); a prefix can lead to one peer only",
                    allowed.value,
                    first.origin()
                )));
            }
        }
    }
    Ok(())
}

/// Peers that nothing can reach.
fn questionable_peers(
    peers: &[PeerDraft],
    own: &[Written<IpNet>],
    routes: &[Written<IpNet>],
) -> Vec<String> {
    let mut warnings = Vec::new();
    for peer in peers {
        if peer.vip.is_empty() && peer.allowed_ips.is_empty() {
            warnings.push(peer.spot.say(format!(
                "{} has neither a vip nor allowed_ips: no packet will go to it",
                label(peer)
            )));
        }
        for vip in &peer.vip {
            let routed = own
                .iter()
                .chain(routes)
                .any(|net| net.value.contains(&vip.value));
            if !routed {
                warnings.push(vip.spot.say(format!(
                    "{} is outside our vip's subnet and interface.routes: this machine has no \
                     route to it",
                    vip.value
                )));
            }
        }
    }
    warnings
}

/// Routes that lead into the tunnel and no further.
fn unused_routes(peers: &[PeerDraft], routes: &[Written<IpNet>]) -> Vec<String> {
    routes
        .iter()
        .filter(|route| {
            !peers.iter().any(|peer| {
                let vips = peer.vip.iter().map(|vip| IpNet::from(vip.value));
                let nets = peer.allowed_ips.iter().map(|net| net.value);
                vips.chain(nets).any(|net| overlap(&net, &route.value))
            })
        })
        .map(|route| {
            route.spot.say(format!(
                "{} overlaps no peer's vip or allowed_ips: packets to it will be dropped",
                route.value
            ))
        })
        .collect()
}

fn finish_peer(draft: PeerDraft) -> Peer {
    let vip: Vec<IpAddr> = unique(values(&draft.vip));
    let allowed_ips = vip.iter().copied().map(IpNet::from);
    let allowed_ips = unique(allowed_ips.chain(values(&draft.allowed_ips)).collect());
    Peer {
        name: draft.name,
        public_key: draft.public_key.value,
        preshared_key: draft.preshared_key,
        vip,
        endpoint: draft.endpoint,
        allowed_ips,
        persistent_keepalive: draft.persistent_keepalive,
    }
}

fn label(peer: &PeerDraft) -> String {
    match &peer.name {
        Some(name) => format!("peer {name:?}"),
        None => format!("peer {}", peer.public_key.value),
    }
}

fn overlap(a: &IpNet, b: &IpNet) -> bool {
    a.contains(&b.network()) || b.contains(&a.network())
}

fn values<T: Clone>(written: &[Written<T>]) -> Vec<T> {
    written.iter().map(|one| one.value.clone()).collect()
}

/// Without repetitions, in the same order.
fn unique<T: Copy + Eq + std::hash::Hash>(values: Vec<T>) -> Vec<T> {
    let mut seen = HashSet::new();
    values
        .into_iter()
        .filter(|value| seen.insert(*value))
        .collect()
}
