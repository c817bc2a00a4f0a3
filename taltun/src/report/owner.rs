//! Whose an address in the tunnel is.

use std::net::IpAddr;

use ipnet::IpNet;

use super::PeerStatus;

/// The peer that has an address, and the prefix of its network there: of networks in each other the smallest
/// says whose it is.
pub fn owner(peers: &[PeerStatus], address: IpAddr) -> Option<(&PeerStatus, u8)> {
    let owners = peers.iter().filter_map(|peer| {
        let nets = peer.allowed_ips.iter().filter(|net| net.contains(&address));
        let prefix = nets.map(IpNet::prefix_len).max();
        prefix.map(|prefix| (peer, prefix))
    });
    owners.max_by_key(|(_, prefix)| *prefix)
}
