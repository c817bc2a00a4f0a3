//! Bans as `status` and `stats` tell them: when each ends, whose it is, and what ends it.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;

use super::bans::Denied;
use super::engine::Engine;
use super::words;
use crate::crypto::PublicKey;
use crate::protocol::peer::Peer;
use crate::report::BanStatus;

/// Peers named with a ban.
const NAMED: usize = 3;

impl Engine {
    /// What drops packets of a peer that owns these networks.
    pub(super) fn bans_of(&self, peer: &Peer, owned: &[IpNet]) -> Vec<BanStatus> {
        if self.bans.is_empty() {
            return Vec::new();
        }
        let found = self.concerning(peer, owned).into_iter();
        found
            .map(|ban| {
                let label = self.label(peer.public_key());
                BanStatus {
                    remedy: self.remedy(&ban, Some((peer.public_key(), owned))),
                    ..status(&ban, vec![label])
                }
            })
            .collect()
    }

    /// All that is denied, with the peers that are in it.
    pub(super) fn bans_with_peers(&self) -> Vec<BanStatus> {
        if self.bans.is_empty() {
            return Vec::new();
        }
        let mut keys: BTreeMap<(IpNet, bool), (Vec<PublicKey>, usize)> = BTreeMap::new();
        for peer in self.device.peers() {
            let owned: Vec<IpNet> = self.device.allowed_ips_of(peer.id()).collect();
            for ban in self.concerning(peer, &owned) {
                let (named, more) = keys.entry((ban.net, ban.inner)).or_default();
                if named.len() < NAMED {
                    named.push(*peer.public_key());
                } else {
                    *more += 1;
                }
            }
        }
        let all = self.bans.denied();
        all.map(|ban| {
            let (named, more) = keys.remove(&(ban.net, ban.inner)).unwrap_or_default();
            let mut peers: Vec<String> = named.iter().map(|key| self.label(key)).collect();
            peers.sort();
            if more > 0 {
                peers.push(format!("{} more", words::count(more, "peer")));
            }
            BanStatus {
                remedy: self.remedy(&ban, None),
                ..status(&ban, peers)
            }
        })
        .collect()
    }

    /// What is denied of a peer: where it is outside, and what it owns inside. Whoever owns
    /// nearly everything isn't meant by a ban of something.
    fn concerning(&self, peer: &Peer, owned: &[IpNet]) -> Vec<Denied> {
        let mut found = Vec::new();
        if let Some(endpoint) = peer.endpoint() {
            let address: IpAddr = endpoint.remote.ip().to_canonical();
            found = self.bans.concerning(address.into(), false);
        }
        for net in owned {
            let mut inside = self.bans.concerning(*net, true);
            inside.retain(|ban| ban.net.contains(net) || !super::banning::is_huge(*net));
            found.append(&mut inside);
        }
        found.sort_unstable_by_key(|ban| (ban.inner, ban.net));
        found.dedup_by_key(|ban| (ban.inner, ban.net));
        found
    }

    /// What ends a ban; by the peer's name, if it is exactly one of that peer's networks.
    fn remedy(&self, ban: &Denied, peer: Option<(&PublicKey, &[IpNet])>) -> String {
        let file = self.deny_key(ban.inner);
        if !ban.banned {
            return format!("take it out of {file}, then `taltun reload`");
        }
        let name = peer
            .filter(|(_, owned)| ban.inner && owned.contains(&ban.net))
            .and_then(|(key, _)| self.known.get(key)?.name.as_deref())
            .filter(|name| name.parse::<IpNet>().is_err() && name.parse::<IpAddr>().is_err())
            .filter(|name| name.bytes().all(|byte| byte.is_ascii_alphanumeric()));
        let unban = match (name, ban.inner) {
            (Some(name), _) => format!("taltun unban {name}"),
            (None, true) => format!("taltun unban {} --inner", ban.net),
            (None, false) => format!("taltun unban {}", ban.net),
        };
        if ban.configured {
            return format!("`{unban}`, and take it out of {file}, then `taltun reload`");
        }
        format!("`{unban}`")
    }
}

fn status(ban: &Denied, peers: Vec<String>) -> BanStatus {
    BanStatus {
        net: ban.net,
        inner: ban.inner,
        configured: ban.configured,
        banned: ban.banned,
        // What has begun of a second counts as one.
        seconds_left: ban
            .left
            .map(|left| left.as_secs() + u64::from(left.subsec_nanos() > 0)),
        peers,
        remedy: String::new(),
    }
}
