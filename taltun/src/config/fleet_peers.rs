//! The peers of a fleet beside those of a file.
//!
//! They aren't in the file. Each reading of the file adds them, so that all that is checked of the
//! file's own peers is checked of them, and rules, limits and names work on them alike. But a file that
//! is right stays so, whoever is added or removed elsewhere: a peer that doesn't fit is left out with
//! a warning, and a name that nobody has is nobody.

use std::collections::HashSet;
use std::net::IpAddr;

use ipnet::IpNet;

use super::draft::{Draft, PeerDraft, Written};
use super::error::Spot;
use super::names::HUB;
use super::{AddedPeers, Dscp, FleetPeer, Mode, PeerRates, values};
use crate::crypto::{PresharedKey, PrivateKey, PublicKey};
use crate::protocol::allowed_ips::canonical;

/// Adds the peers of the fleet to those of the file, if the file says that it is in one.
pub(super) fn add(draft: &mut Draft, added: &AddedPeers) {
    let Some(fleet) = &draft.fleet else { return };
    let spot = Spot::file(&format!("the fleet {}", fleet.name));
    if draft.mode == Mode::Client {
        draft
            .warnings
            .push(draft.spot.sibling("interface.mode").say(
                "mode is client, and a hub of a fleet waits for its peers; set mode = \"server\"",
            ));
    }
    let mut taken = Taken::of(draft);
    let uplink = draft.shaping.uplink;
    let mut odd = Vec::new();
    for peer in added.get().iter() {
        let whom = format!("{} ({})", peer.name, peer.public_key);
        match taken.take(peer, &spot) {
            Ok(mut fitting) => {
                if !taken.names.insert(peer.name.clone()) {
                    odd.push(spot.say(format!(
                        "the peer {whom} has no name here: the file has something else of that \
                         name"
                    )));
                    fitting.name = None;
                }
                // No peer gets more than all of them have.
                if let (Some(uplink), Some(rate)) = (uplink, fitting.rates.rate_down)
                    && rate > uplink
                {
                    fitting.rates.rate_down = None;
                    fitting.rate_down = None;
                }
                draft.peers.push(fitting);
            }
            Err(reason) => {
                odd.push(spot.say(format!("the peer {whom} is left out here: {reason}")));
            }
        }
    }
    added.set_odd(odd.clone());
    draft.warnings.extend(odd);
}

/// What is somebody's already.
struct Taken {
    keys: HashSet<PublicKey>,
    nets: HashSet<IpNet>,
    own: HashSet<IpAddr>,
    names: HashSet<String>,
}

impl Taken {
    fn of(draft: &Draft) -> Self {
        let keys = draft.peers.iter().map(|peer| peer.public_key.value);
        let ours = draft.private_key.as_ref().map(PrivateKey::public_key);
        let nets = draft.peers.iter().flat_map(|peer| {
            let vips = peer.vip.iter().map(|vip| IpNet::from(vip.value));
            vips.chain(peer.allowed_ips.iter().map(|net| net.value))
        });
        let peers = draft.peers.iter().filter_map(|peer| peer.name.as_deref());
        let groups = draft.policy.groups.iter().map(|it| it.name.value.as_str());
        let names = peers.chain(groups).chain([HUB, "any"]);
        Self {
            keys: keys.chain(ours).collect(),
            nets: nets.collect(),
            own: draft.vip.iter().map(|vip| vip.value.addr()).collect(),
            // [names] has them without regard to case.
            names: names.map(str::to_ascii_lowercase).collect(),
        }
    }

    /// A peer as one of the file; why it can't be one, if it can't.
    fn take(&mut self, peer: &FleetPeer, spot: &Spot) -> Result<PeerDraft, String> {
        let draft = draft_of(peer, spot)?;
        if !peer.public_key.is_usable() {
            return Err("no private key belongs to its public key".to_owned());
        }
        if self.keys.contains(&peer.public_key) {
            return Err("its public key is this hub's, or that of a peer of the file".to_owned());
        }
        let vips = draft.vip.iter().map(|vip| vip.value);
        if let Some(vip) = vips.clone().find(|vip| self.own.contains(vip)) {
            return Err(format!("{vip} is this hub's own address"));
        }
        let nets = draft.allowed_ips.iter().map(|net| net.value);
        let nets: Vec<IpNet> = vips.map(IpNet::from).chain(nets).collect();
        if let Some(net) = nets.iter().find(|net| self.nets.contains(net)) {
            return Err(format!("{net} is another peer's"));
        }
        self.keys.insert(peer.public_key);
        self.nets.extend(nets);
        Ok(draft)
    }
}

/// A peer as if it were in the file at `spot`.
fn draft_of(peer: &FleetPeer, spot: &Spot) -> Result<PeerDraft, String> {
    fn written<T>(value: T, spot: &Spot) -> Written<T> {
        let spot = spot.clone();
        Written { value, spot }
    }
    let name = values::peer_name(&peer.name)?;
    let vip = peer.vip.iter().map(|vip| {
        let vip = values::peer_vip(&vip.to_string())?;
        Ok(written(vip, spot))
    });
    let vip: Vec<_> = vip.collect::<Result<_, String>>()?;
    let nets = peer.allowed_ips.iter().map(|net| canonical(*net));
    let rate = |text: &Option<String>| text.as_deref().map(values::rate).transpose();
    let quota = peer.quota.as_deref().map(str::parse).transpose()?;
    let expires = peer.expires.as_deref().map(str::parse).transpose()?;
    Ok(PeerDraft {
        spot: spot.clone(),
        name: Some(name),
        name_spot: spot.clone(),
        public_key: written(peer.public_key, spot),
        preshared_key: PresharedKey::default(),
        vip,
        endpoints: Vec::new(),
        endpoints_spot: None,
        allowed_ips: nets.map(|net| written(net, spot)).collect(),
        persistent_keepalive: None,
        quota: quota.map(|quota| written(quota, spot)),
        expires: expires.map(|day| written(day, spot)),
        rates: PeerRates {
            rate_up: rate(&peer.rate_up)?,
            rate_down: rate(&peer.rate_down)?,
            dscp: Dscp::default(),
        },
        rate_down: peer.rate_down.as_ref().map(|_| spot.clone()),
    })
}
