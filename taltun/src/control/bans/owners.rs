//! Who has which address: peers inside and outside the tunnel, and this machine.

use std::collections::BTreeSet;
use std::net::IpAddr;

use ipnet::IpNet;

use crate::control::peers::Peers;
use crate::control::words;
use crate::crypto::PublicKey;
use crate::layer::Layer;
use crate::protocol::allowed_ips::canonical;
use crate::protocol::device::Device;

/// Peers that a sentence names; more are counted.
pub(super) const NAMED: usize = 3;
/// Networks with shorter prefixes are larger than anybody bans by intent: IPv4, IPv6.
const SHORTEST: (u8, u8) = (8, 16);

/// What a ban may hit.
pub(in crate::control) struct Owners<'a> {
    pub device: &'a mut Device,
    pub peers: &'a Peers,
    /// Our own addresses inside the tunnel, with their networks.
    pub vips: &'a [IpNet],
    /// Those of this machine outside.
    pub own: &'a [IpAddr],
}

impl Owners<'_> {
    /// The peer that owns all of a network, or the first that owns a part of it; whoever owns
    /// nearly everything doesn't count.
    pub(super) fn of(&mut self, net: IpNet) -> Option<(IpNet, PublicKey)> {
        self.device.owner_of(net, |owned| !is_huge(owned))
    }

    /// What peers are called that some networks cut off: those that are heard from there, or
    /// that own an address inside.
    pub(super) fn peers_in(&mut self, nets: &[IpNet], layer: Layer) -> Vec<String> {
        let mut keys = BTreeSet::new();
        for net in nets {
            match layer {
                Layer::Inner => keys.extend(self.device.owners_within(*net)),
                Layer::Outer => {
                    let peers = self.device.peers_at(*net);
                    keys.extend(peers.iter().map(|peer| *peer.public_key()));
                }
            }
        }
        let mut names: Vec<String> = keys.iter().map(|key| self.peers.label(key)).collect();
        names.sort();
        if names.len() > NAMED {
            let more = names.len().saturating_sub(NAMED);
            names.truncate(NAMED);
            names.push(format!("{} more", words::count(more, "peer")));
        }
        names
    }

    /// The peer with this name or key, and what it owns inside, or where it is outside.
    pub(in crate::control) fn nets_of(
        &self,
        peer: &str,
        layer: Layer,
    ) -> Result<(PublicKey, Vec<IpNet>), String> {
        let found = self.peers.meant(peer, self.device)?.ok_or_else(|| {
            format!(
                "{peer:?} is neither a network nor a peer's name or key; `taltun status` lists \
                 the peers"
            )
        })?;
        let nets: Vec<IpNet> = match layer {
            Layer::Outer => {
                let endpoint = found.endpoint().ok_or_else(|| {
                    format!("{peer} wasn't heard from yet, so there is no address to ban")
                })?;
                vec![canonical(endpoint.remote.ip().into())]
            }
            Layer::Inner => self.device.allowed_ips_of(found.id()).collect(),
        };
        if nets.is_empty() {
            return Err(format!("{peer} has no address inside the tunnel"));
        }
        Ok((*found.public_key(), nets))
    }
}

/// Whether a network is larger than anybody bans by intent.
pub(super) fn is_huge(net: IpNet) -> bool {
    match net {
        IpNet::V4(net) => net.prefix_len() < SHORTEST.0,
        IpNet::V6(net) => net.prefix_len() < SHORTEST.1,
    }
}
