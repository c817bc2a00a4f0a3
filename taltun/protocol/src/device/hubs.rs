//! Other hubs as peers: see [`HubKeys`].

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use super::{AddPeerError, Control, Device, HubKeys, PeerSettings};
use crate::cookie::Sealer;
use crate::noise::Identity;
use crate::peer::{FleetPart, Peer, PeerId};
use crate::time::Time;
use taltun_crypto::{PresharedKey, PublicKey, SharedSecret, hash};

/// What makes the preshared key of two hubs.
const DOMAIN: &[u8] = b"taltun hubs 1";

/// What is known of another hub beyond a peer.
#[derive(Debug)]
pub(super) struct Hub {
    own: Identity,
    answers_as: PublicKey,
    /// Of our own key and what it answers as.
    static_static: Option<SharedSecret>,
}

impl Control {
    /// Who we are in our initiations to a peer, whom they are for, and the secret of both static keys.
    pub(super) fn initiates_as<'c>(
        &'c self,
        identity: &'c Identity,
    ) -> Option<(&'c Identity, &'c PublicKey, &'c SharedSecret)> {
        if let Some(hub) = &self.hub {
            return Some((&hub.own, &hub.answers_as, hub.static_static.as_ref()?));
        }
        let shared = self.static_static(identity)?;
        Some((identity, self.peer.public_key(), shared))
    }

    /// Who we were in an initiation to a peer.
    pub(super) fn initiated_as<'c>(&'c self, identity: &'c Identity) -> &'c Identity {
        self.hub.as_ref().map_or(identity, |hub| &hub.own)
    }
}

impl Device {
    /// Adds another hub as a peer. Its preshared key comes of both hubs' own keys.
    pub fn add_hub(
        &mut self,
        settings: PeerSettings,
        keys: HubKeys,
        now: Time,
    ) -> Result<Arc<Peer>, AddPeerError> {
        let key = settings.public_key;
        let own = Identity::new(keys.own);
        if key == *own.public() {
            return Err(AddPeerError::OurOwnKey);
        }
        // With a key that is none there is no handshake either.
        let secret = own.static_static(&key);
        let preshared_key = secret.map_or_else(PresharedKey::default, |secret| {
            PresharedKey(hash(&[DOMAIN, &secret[..]]))
        });
        let settings = PeerSettings {
            preshared_key,
            ..settings
        };
        let peer = self.add(settings, key < *own.public(), now)?;
        peer.set_fleet_part(FleetPart::Hub);
        self.tunnel.tables_mut().hubs.push(Arc::clone(&peer));
        if let Some(control) = self.peers.get_mut(&peer.id()) {
            control.sealer = Sealer::new(&keys.answers_as);
            control.hub = Some(Hub {
                static_static: own.static_static(&keys.answers_as),
                answers_as: keys.answers_as,
                own,
            });
        }
        Ok(peer)
    }

    /// A peer is at home at that other hub, and there outside: by that its data is known where it comes here. `None`
    /// if it isn't, or nobody knows where it is.
    pub fn expect_misrouted(&self, key: &PublicKey, home: Option<(SocketAddr, Arc<Peer>)>) {
        if let Some(id) = self.by_key.get(key) {
            self.tunnel.tables_mut().misrouted.expect(*id, home);
            self.tunnel.note_place(*id);
        }
    }

    /// Where peers are by these words.
    pub fn expected_at(&self) -> Vec<IpAddr> {
        self.tunnel.tables().misrouted.addresses().collect()
    }

    /// Whether a handshake that we started with a peer is under way.
    pub fn is_handshaking(&self, key: &PublicKey) -> bool {
        let control = self.by_key.get(key).and_then(|id| self.peers.get(id));
        control.is_some_and(|control| control.timers.is_handshaking())
    }

    /// Data of these hubs' sessions is passed on to them from now on, and to no others.
    pub fn pass_misrouted_to(&self, hubs: Vec<PeerId>) {
        self.tunnel.tables_mut().misrouted.pass_to(hubs);
    }

    /// Says once more that we are there, on the session that there is.
    pub fn keep_alive(&mut self, key: &PublicKey, now: Time) {
        if let Some(id) = self.by_key.get(key) {
            self.send_keepalive(*id, now);
        }
    }
}
