//! What peers own inside the tunnel, as far as names change it, and whether an address may be
//! given to one because a name has it.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use ipnet::IpNet;

use crate::accel::Shield;
use crate::config::{Config, DnsRoutes};
use crate::control::name_servers;
use crate::control::ownership;
use crate::control::peers::Peers;
use crate::crypto::PublicKey;
use crate::protocol::device::{Device, RouteEdit};
use crate::system;

/// The routes inside the tunnel, and what says whose they are.
pub(in crate::control) struct TunnelRoutes<'a> {
    pub device: &'a mut Device,
    pub shield: &'a mut Shield,
    pub peers: &'a Peers,
    pub config: &'a Config,
}

/// What is to be done about an address.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Nothing: it goes into the tunnel to the peer already.
    There,
    /// To be led there.
    Lead,
    /// It must not be, and why.
    Refuse(String),
}

impl TunnelRoutes<'_> {
    /// Gives addresses to a peer; false if there is no such peer.
    pub(super) fn give(&mut self, via: &PublicKey, addresses: &[IpAddr]) -> bool {
        let Some(peer) = self.device.peer(via).map(Arc::clone) else {
            return false;
        };
        let nets = addresses.iter().copied().map(IpNet::from);
        let edits: Vec<RouteEdit> = nets
            .map(|net| RouteEdit::Add(Arc::clone(&peer), net))
            .collect();
        ownership::edit(self.device, self.shield, &edits);
        true
    }

    /// Takes addresses from a peer, but for those that the file gives it.
    pub(super) fn take(&mut self, via: &PublicKey, addresses: &[IpAddr]) {
        let configured = self.peers.in_file(via);
        let is_own = |net: &IpNet| configured.is_some_and(|peer| peer.allowed_ips.contains(net));
        if let Some(peer) = self.device.peer(via).map(|peer| peer.id()) {
            let nets = addresses.iter().copied().map(IpNet::from);
            let edits: Vec<RouteEdit> = nets
                .filter(|net| !is_own(net))
                .map(|net| RouteEdit::Remove(peer, net))
                .collect();
            self.shield.open_all();
            self.device.edit_routes(&edits);
        }
        ownership::settle(self.device, self.shield);
    }

    /// Whether another peer than `via` owns an address; who owns everything owns nothing in
    /// particular.
    pub(super) fn is_anothers(&self, address: IpAddr, via: &PublicKey) -> bool {
        let id = self.device.peer(via).map(|peer| peer.id());
        let owners = self.device.tunnel().owners(address).into_iter();
        let mut others = owners.filter(|(_, owner)| Some(*owner) != id);
        others.any(|(length, _)| length > 1)
    }

    /// Whether an address may be led into the tunnel because a name has it.
    pub(super) fn verdict(&mut self, routes: &DnsRoutes, address: IpAddr, tunnel: u32) -> Verdict {
        let refuse = |reason: &str| Verdict::Refuse(reason.to_owned());
        let special = match address {
            IpAddr::V4(v4) => v4.is_link_local() || v4.is_broadcast() || v4.octets()[0] == 0,
            IpAddr::V6(v6) => v6.is_unicast_link_local() || v6.to_ipv4_mapped().is_some(),
        };
        if special || address.is_loopback() || address.is_multicast() || address.is_unspecified() {
            return refuse("it isn't one host's on the network");
        }
        let interface = &self.config.interface;
        let mut vips = interface.vip.iter();
        if !vips.any(|vip| vip.addr().is_ipv4() == address.is_ipv4()) {
            return refuse("the tunnel has no address of its family");
        }
        if interface.vip.iter().any(|vip| vip.addr() == address) {
            return refuse("it is our own inside the tunnel");
        }
        let owner = self.device.tunnel().owner(address);
        let via = self.device.peer(&routes.via).map(|peer| peer.id());
        // Who owns everything owns nothing in particular.
        if let Some((length, owner)) = owner
            && length > 1
        {
            if Some(owner) != via {
                let label = self.device.key_of(owner).map(|key| self.peers.label(key));
                return refuse(&format!("it belongs to {}", label.unwrap_or_default()));
            }
            let routed = interface.vip.iter().chain(&interface.routes);
            if routed.into_iter().any(|net| net.contains(&address)) {
                return Verdict::There;
            }
        } else if interface.vip.iter().any(|vip| vip.contains(&address)) {
            return refuse("it is on the tunnel's own network, and no peer's");
        }
        if !self.device.peers_at(address.into()).is_empty() {
            return refuse("a peer is reached there, outside the tunnel");
        }
        let is_server = |server: &SocketAddr| server.ip() == address;
        if routes.upstream.contains(&address)
            || self.config.host.dns.servers.contains(&address)
            || name_servers::Host::look_around(&[])
                .servers()
                .iter()
                .any(is_server)
        {
            return refuse("it is a name server's that is asked");
        }
        match system::local_address(address, tunnel) {
            Ok(None) => Verdict::Lead,
            Ok(Some(reason)) => Verdict::Refuse(reason),
            Err(error) => Verdict::Refuse(format!("the kernel doesn't say where it is: {error}")),
        }
    }
}
