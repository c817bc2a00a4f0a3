//! The other hubs as peers of the tunnel.

use std::sync::Arc;

use ipnet::IpNet;
use taltun_fleet::mesh::log::Heard;
use taltun_fleet::mesh::{Path, Place};
use tracing::{info, warn};

use super::{Hub, Mesh, Target};
use crate::config;
use crate::control::fleet::FleetHub;
use crate::control::ownership;
use crate::control::peers::PeerInfo;
use crate::crypto::PrivateKey;
use crate::protocol::device::{AddPeerError, HubKeys, PeerSettings, RouteEdit};
use crate::protocol::peer::Endpoint;
use crate::protocol::time::Time;

impl Mesh {
    /// The fleet has these other hubs by now.
    pub(in crate::control) fn follow_hubs(&mut self, hubs: &[FleetHub], target: &mut Target<'_>) {
        let stays = |hub: &FleetHub| hubs.iter().any(|it| it == hub);
        let gone = self.hubs.iter().filter(|(_, hub)| !stays(&hub.is));
        let gone: Vec<String> = gone.map(|(name, _)| name.clone()).collect();
        for name in gone {
            if let Some(hub) = self.hubs.remove(&name) {
                remove(&hub, target);
            }
        }
        for hub in hubs {
            let Ok(label) = hub.name.parse() else {
                continue;
            };
            self.hubs.entry(hub.name.clone()).or_insert_with(|| Hub {
                is: hub.clone(),
                label,
                path: Path::default(),
                heard: Heard::default(),
                has: Place::default(),
                told: (0, Time::START),
                spoke: false,
                awaited: true,
                leads: false,
                led: false,
                leaving: false,
                stood_in: false,
                refused: None,
            });
        }
        let names = self.hubs.values();
        self.names = names
            .map(|hub| (hub.is.public_key, hub.is.name.clone()))
            .collect();
        target.shield.set_expects_misrouted(self.lead.is_some());
        // Who was at home at a hub that is gone, is to be found here.
        self.lead_all(target);
        self.keep(target);
    }

    /// This hub's own key is another one: all hubs are to be added anew with it.
    pub(in crate::control) fn set_own(&mut self, own: PrivateKey, target: &mut Target<'_>) {
        self.own = own;
        for hub in self.hubs.values() {
            remove(hub, target);
        }
        self.keep(target);
    }

    /// Sees to it that all hubs are peers, whatever was done to the tunnel's peers since.
    pub(in crate::control) fn keep(&mut self, target: &mut Target<'_>) {
        let mut is_new = false;
        for hub in self.hubs.values_mut() {
            let was_there = target.device.peer(&hub.is.public_key).is_some();
            let refused = add(hub, &self.own, target).err();
            is_new |= !was_there && refused.is_none();
            if let Some(reason) = &refused
                && hub.refused != refused
            {
                warn!("fleet: {reason}");
            }
            hub.refused = refused;
        }
        if is_new {
            self.lead_all(target);
        }
    }
}

/// Makes a hub a peer with its addresses, if it isn't one; why it can't be one.
fn add(hub: &Hub, own: &PrivateKey, target: &mut Target<'_>) -> Result<(), String> {
    let FleetHub {
        name,
        public_key,
        answers_as,
        endpoints,
        vips,
        ..
    } = &hub.is;
    if target.peers.in_file(public_key).is_some() {
        return Err(format!(
            "the file has a peer with the key of the hub {name}; take it out of the file, so that the \
             hubs can relay to each other"
        ));
    }
    let known = target.device.peer(public_key).cloned();
    // One that `wg` made knows nothing of hubs.
    if known.as_ref().is_some_and(|peer| !peer.is_hub()) {
        target.device.remove_peer(public_key);
    }
    let known = known.filter(|peer| peer.is_hub());
    let is_new = known.is_none();
    let peer = if let Some(peer) = known {
        peer
    } else {
        let settings = PeerSettings {
            public_key: *public_key,
            preshared_key: crate::crypto::PresharedKey::default(),
            endpoint: literal(endpoints),
            allowed_ips: Vec::new(),
            persistent_keepalive: None,
        };
        let keys = HubKeys {
            own: own.clone(),
            answers_as: *answers_as,
        };
        let added = target.device.add_hub(settings, keys, target.now);
        added.map_err(|error| match error {
            AddPeerError::OurOwnKey => {
                format!("the hub {name} has the private key of this one; give each hub its own")
            }
            AddPeerError::Known => format!("the hub {name}: {error}"),
        })?
    };
    let nets = vips.iter().map(|vip| IpNet::from(*vip));
    let lacking = nets.filter(|net| {
        let owner = target.device.tunnel().owner(net.addr());
        let owner = owner.filter(|(length, _)| *length == net.prefix_len());
        // What is a peer's by the file stays that peer's.
        owner.is_none_or(|(_, id)| {
            id != peer.id() && target.device.peer_by_id(id).is_some_and(|it| it.is_hub())
        })
    });
    let edits: Vec<RouteEdit> = lacking
        .map(|net| RouteEdit::Add(Arc::clone(&peer), net))
        .collect();
    if !edits.is_empty() {
        ownership::edit(target.device, target.shield, &edits);
        ownership::settle(target.device, target.shield);
        target.device.take_displaced();
    }
    if is_new {
        info!("fleet: the hub {name} is a peer of this one");
        let several = endpoints.len() > 1 || endpoints.iter().any(|it| !it.is_single());
        let told = PeerInfo {
            name: Some(name.clone()),
            endpoint: endpoints.first().map(|it| it.first.clone()),
            endpoints: if several {
                endpoints.clone()
            } else {
                Vec::new()
            },
            place: None,
        };
        target.peers.set_hub(*public_key, told);
        target
            .dialer
            .approach_known(public_key, target.peers, target.device, target.now);
    }
    Ok(())
}

fn remove(hub: &Hub, target: &mut Target<'_>) {
    let key = &hub.is.public_key;
    if !target.peers.is_hub(key) {
        return;
    }
    info!("fleet: the hub {} is no peer any more", hub.is.name);
    target.peers.forget_hub(key);
    target.device.remove_peer(key);
    ownership::settle(target.device, target.shield);
}

/// Where a hub is, if that is one address.
fn literal(endpoints: &[config::RangedEndpoint]) -> Option<Endpoint> {
    match endpoints {
        [one] if one.is_single() => match one.first {
            config::Endpoint::Address(address) => Some(Endpoint::from(address)),
            config::Endpoint::Name(..) => None,
        },
        _ => None,
    }
}
