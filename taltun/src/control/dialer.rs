//! Speaks to peers: looks up the names of their endpoints and asks for handshakes.
//!
//! A client does so at once; a server leaves the first word to its peers. Names are looked up in
//! either case.

use tracing::{debug, info};

use super::diagnosis::Diagnosis;
use super::names::{Resolved, Resolver, ranged};
use super::peers::Peers;
use crate::config::{self, Endpoint, RangedEndpoint};
use crate::crypto::PublicKey;
use crate::protocol::device::{Device, MOST_PLACES, Place};
use crate::protocol::time::Time;

/// Who speaks first, and the look-ups that are under way.
#[derive(Debug)]
pub(super) struct Dialer {
    resolver: Resolver,
    is_client: bool,
}

impl Dialer {
    pub(super) fn new(resolver: Resolver, is_client: bool) -> Self {
        Self {
            resolver,
            is_client,
        }
    }

    /// Marks questions to name servers.
    pub(super) fn set_mark(&self, mark: u32) {
        self.resolver.set_mark(mark);
    }

    /// Looks a peer's name up, or where its address is known and we are a client, asks for a
    /// handshake.
    pub(super) fn approach(&mut self, peer: &config::Peer, device: &mut Device, now: Time) {
        let endpoints = ranged(peer.endpoint.as_ref(), &peer.endpoints);
        self.look_up_or_ask(&peer.public_key, &endpoints, device, now);
    }

    /// The same of a peer that is no file's.
    #[cfg(feature = "fleet")]
    pub(super) fn approach_known(
        &mut self,
        key: &PublicKey,
        peers: &Peers,
        device: &mut Device,
        now: Time,
    ) {
        self.look_up_or_ask(key, &endpoints(key, peers), device, now);
    }

    /// Nobody answered for 90 s. A client goes on trying, a server waits.
    pub(super) fn given_up(
        &mut self,
        key: &PublicKey,
        device: &mut Device,
        peers: &Peers,
        diagnosis: &mut Diagnosis,
        now: Time,
    ) {
        debug!("no answer from {}", peers.label(key));
        match &endpoints(key, peers)[..] {
            [] => diagnosis.let_go(key),
            endpoints => self.look_up_or_ask(key, endpoints, device, now),
        }
    }

    /// A peer that doesn't answer may have moved to where its name leads now.
    pub(super) fn look_up_again(&mut self, key: &PublicKey, peers: &Peers) {
        let endpoints = endpoints(key, peers);
        if has_name(&endpoints) {
            self.resolver.resolve(*key, &endpoints);
        }
    }

    /// Takes over what became of a look-up.
    pub(super) fn resolved(
        &mut self,
        resolved: Resolved,
        device: &mut Device,
        peers: &Peers,
        diagnosis: &mut Diagnosis,
        now: Time,
    ) {
        let key = &resolved.peer;
        if !has_name(&endpoints(key, peers)) {
            return;
        }
        match resolved.addresses {
            Ok(addresses) => {
                debug!("{} is at {addresses:?}", peers.label(key));
                if addresses.len() > MOST_PLACES {
                    info!(
                        "{}: its endpoints have {} addresses, of which the first {MOST_PLACES} are \
                         used",
                        peers.label(key),
                        addresses.len()
                    );
                }
                diagnosis.resolved(key);
                device.set_places(key, &addresses, now);
                if self.is_client {
                    device.initiate(key, now);
                }
            }
            Err(reason) => diagnosis.not_resolved(key, reason, device, peers, now),
        }
    }

    /// Ends look-ups of names that are nobody's endpoint any more.
    pub(super) fn end_look_ups(&mut self, peers: &Peers) {
        self.resolver
            .retain(|peer, asked| endpoints(peer, peers) == asked);
    }

    fn look_up_or_ask(
        &mut self,
        key: &PublicKey,
        endpoints: &[RangedEndpoint],
        device: &mut Device,
        now: Time,
    ) {
        if has_name(endpoints) {
            return self.resolver.resolve(*key, endpoints);
        }
        let places = endpoints
            .iter()
            .filter_map(|endpoint| match endpoint.first {
                Endpoint::Address(address) => Some(Place::new(address, endpoint.last_port)),
                Endpoint::Name(..) => None,
            });
        let places: Vec<Place> = places.collect();
        if places.len() > 1 || endpoints.iter().any(|endpoint| !endpoint.is_single()) {
            device.set_places(key, &places, now);
        }
        if self.is_client && !places.is_empty() {
            device.initiate(key, now);
        }
    }
}

/// Where a peer is said to be.
fn endpoints(key: &PublicKey, peers: &Peers) -> Vec<RangedEndpoint> {
    ranged(peers.endpoint(key), peers.endpoints(key))
}

fn has_name(endpoints: &[RangedEndpoint]) -> bool {
    let mut endpoints = endpoints.iter();
    endpoints.any(|endpoint| matches!(endpoint.first, Endpoint::Name(..)))
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;
    use std::sync::Arc;

    use super::*;
    use crate::config::Config;
    use crate::control::look_up::LookUp;
    use crate::control::peers;
    use crate::crypto::{PresharedKey, PrivateKey};
    use crate::protocol::device::Settings;
    use crate::protocol::randomness::Randomness;

    /// A dialer, and a device with one peer.
    struct Tunnel {
        dialer: Dialer,
        device: Device,
        peers: Peers,
        peer: config::Peer,
    }

    impl Tunnel {
        fn new(is_client: bool, endpoint: Option<Endpoint>) -> Self {
            let key = PrivateKey::from_bytes([7; 32]);
            let mut device = Device::new(Settings {
                private_key: key.clone(),
                randomness: Randomness::seeded([0; 32]),
                wall_clock_at_zero: std::time::Duration::ZERO,
                mtu: 1420,
                local_addresses: Vec::new(),
                relay: false,
            });
            let peer = config::Peer {
                name: Some("ana".into()),
                public_key: PrivateKey::from_bytes([8; 32]).public_key(),
                preshared_key: PresharedKey::default(),
                vip: Vec::new(),
                endpoint,
                endpoints: Vec::new(),
                allowed_ips: Vec::new(),
                persistent_keepalive: None,
                limits: config::PeerLimits::default(),
                origin: config::Origin::default(),
                rates: config::PeerRates::default(),
            };
            let settings = peers::settings(&peer);
            device.add_peer(settings, Time::START).unwrap();
            let (resolver, _) = Resolver::new(LookUp::new(&Config::plain("test0", key)));
            Self {
                dialer: Dialer::new(resolver, is_client),
                device,
                peers: Peers::new(Arc::new(vec![peer.clone()])),
                peer,
            }
        }

        fn resolved(&mut self, to: SocketAddr) {
            let resolved = Resolved {
                peer: self.peer.public_key,
                addresses: Ok(vec![to.into()]),
            };
            let (device, diagnosis) = (&mut self.device, &mut Diagnosis::start());
            self.dialer
                .resolved(resolved, device, &self.peers, diagnosis, Time::START);
        }

        /// Where the next message goes.
        fn sent_to(&mut self) -> Option<SocketAddr> {
            Some(self.device.poll_transmit()?.endpoint.remote)
        }
    }

    fn there() -> SocketAddr {
        SocketAddr::from(([192, 0, 2, 1], 9000))
    }

    #[tokio::test]
    async fn a_client_speaks_first_and_a_server_waits() {
        for (is_client, expected) in [(true, Some(there())), (false, None)] {
            let mut tunnel = Tunnel::new(is_client, Some(Endpoint::Address(there())));
            let peer = tunnel.peer.clone();
            let device = &mut tunnel.device;
            tunnel.dialer.approach(&peer, device, Time::START);
            assert_eq!(tunnel.sent_to(), expected);
        }
    }

    #[tokio::test]
    async fn a_name_leads_to_a_peer_for_as_long_as_it_is_its_endpoint() {
        let name = Endpoint::Name("hub.invalid".into(), 9000);
        let mut tunnel = Tunnel::new(true, Some(name));
        tunnel.resolved(there());
        assert_eq!(tunnel.sent_to(), Some(there()));
        // By now it was said otherwise.
        let elsewhere = SocketAddr::from(([192, 0, 2, 2], 9000));
        let key = tunnel.peer.public_key;
        tunnel.peers.set_endpoint(key, elsewhere);
        tunnel.resolved(SocketAddr::from(([192, 0, 2, 3], 9000)));
        let endpoint = tunnel.device.peer(&key).unwrap().endpoint().unwrap();
        assert_eq!(endpoint.remote, there());
    }
}
