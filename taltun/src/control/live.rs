//! The peers as they are now, in the form of a configuration: what came by way of `wg` is in it.

use ipnet::IpNet;

use super::dns_routes::RoutedNames;
use super::peers::Peers;
use crate::config::{self, Config};
use crate::protocol::device::Device;
use crate::protocol::peer::Peer;

/// What says how peers are now.
#[derive(Clone, Copy)]
pub(super) struct LivePeers<'a> {
    pub device: &'a Device,
    pub peers: &'a Peers,
    pub names: Option<&'a RoutedNames>,
}

impl LivePeers<'_> {
    /// A configuration with them in place of those of `config`.
    pub(super) fn config(&self, config: &Config) -> Config {
        Config {
            peers: self.device.peers().map(|peer| self.peer(peer)).collect(),
            ..config.clone()
        }
    }

    /// A peer as it is now. What it has only because a name is there isn't a setting of it.
    pub(super) fn peer(&self, peer: &Peer) -> config::Peer {
        let key = peer.public_key();
        let interval = self.device.persistent_keepalive(key);
        let mut allowed_ips: Vec<IpNet> = self.device.allowed_ips_of(peer.id()).collect();
        if let Some(names) = self.names {
            let said = self.peers.in_file(key);
            let said = said.map_or(&[][..], |peer| &peer.allowed_ips);
            allowed_ips.retain(|net| said.contains(net) || !names.leads(key, net));
        }
        config::Peer {
            name: self.peers.name(key).map(str::to_owned),
            public_key: *key,
            origin: self
                .peers
                .in_file(key)
                .map(|peer| peer.origin.clone())
                .unwrap_or_default(),
            preshared_key: self.device.preshared_key(key).cloned().unwrap_or_default(),
            vip: Vec::new(),
            endpoint: self.peers.endpoint(key).cloned(),
            endpoints: self.peers.endpoints(key).to_vec(),
            allowed_ips,
            persistent_keepalive: interval.map(|interval| interval.as_secs() as u16),
            // Nobody changes them but by the file.
            limits: self
                .peers
                .in_file(key)
                .map(|peer| peer.limits)
                .unwrap_or_default(),
            // Nothing but the file says them.
            rates: self
                .peers
                .in_file(key)
                .map_or_else(Default::default, |peer| peer.rates),
        }
    }
}
