//! Peers by their outer address, so that a look-up doesn't visit all peers.
//!
//! Workers change endpoints as packets arrive. They only note which peers moved; the index here
//! follows at the next look-up, or once a second.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;

use super::{Control, Device};
use crate::allowed_ips::canonical;
use crate::peer::{Peer, PeerId};

/// Peers by their outer address; IPv4 is never in its mapped form.
#[derive(Debug, Default)]
pub(super) struct Whereabouts {
    by_address: BTreeSet<(IpAddr, PeerId)>,
    /// Peers looked at to follow: what its work is.
    #[cfg(test)]
    visited: usize,
}

impl Whereabouts {
    /// Finds a peer where it is now.
    fn follow(&mut self, id: PeerId, control: &mut Control) {
        #[cfg(test)]
        {
            self.visited += 1;
        }
        let endpoint = control.peer.endpoint();
        let address = endpoint.map(|endpoint| endpoint.remote.ip().to_canonical());
        if control.found_at != address {
            self.forget(id, control.found_at);
            self.by_address.extend(address.map(|address| (address, id)));
            control.found_at = address;
        }
    }

    /// Forgets a peer that was found there.
    pub(super) fn forget(&mut self, id: PeerId, found_at: Option<IpAddr>) {
        if let Some(address) = found_at {
            self.by_address.remove(&(address, id));
        }
    }
}

impl Device {
    /// The peers that are reached at addresses of this network, in the order of those.
    pub fn peers_at(&mut self, net: IpNet) -> Vec<Arc<Peer>> {
        self.follow_places();
        let net = canonical(net);
        let first = (net.network(), PeerId(0));
        let last = (net.broadcast(), PeerId(u32::MAX));
        let found = self.whereabouts.by_address.range(first..=last);
        found
            .filter_map(|(_, id)| self.peer_by_id(*id).map(Arc::clone))
            .collect()
    }

    /// Follows the peers that are elsewhere by now. Call it now and then: after very many of
    /// them it has to look at all peers.
    pub fn follow_places(&mut self) {
        let elsewhere = self.tunnel.take_elsewhere();
        if elsewhere.more {
            for (id, control) in &mut self.peers {
                self.whereabouts.follow(*id, control);
            }
            return;
        }
        for id in elsewhere.peers {
            if let Some(control) = self.peers.get_mut(&id) {
                self.whereabouts.follow(id, control);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;
    use std::time::Duration;

    use super::super::many::{address, hub, key, settings};
    use super::*;
    use crate::peer::Endpoint;
    use crate::time::Time;
    use taltun_crypto::PublicKey;

    /// The peers found there, and how many were visited.
    fn at(device: &mut Device, net: &str) -> (Vec<PublicKey>, usize) {
        device.whereabouts.visited = 0;
        let found = device.peers_at(net.parse().unwrap());
        let keys = found.iter().map(|peer| *peer.public_key()).collect();
        (keys, device.whereabouts.visited)
    }

    #[test]
    fn a_question_looks_at_nobody_but_those_who_moved() {
        // More than are noted one by one.
        const PEERS: u32 = 5000;
        let mut device = hub(PEERS);
        let all = PEERS as usize;
        assert_eq!(at(&mut device, "203.0.0.7/32"), (vec![key(7)], all));
        let four = (8..12).map(key).collect();
        assert_eq!(at(&mut device, "203.0.0.8/30"), (four, 0));
        assert_eq!(at(&mut device, "198.51.100.0/24"), (vec![], 0));
        assert_eq!(at(&mut device, "::/0"), (vec![], 0));
        assert_eq!(at(&mut device, "0.0.0.0/0").0.len(), all);

        // One moves by itself, in the mapped form; one is moved; one goes; one is new there.
        let mapped: SocketAddr = "[::ffff:203.0.0.9]:1".parse().unwrap();
        let seven = Arc::clone(device.peer(&key(7)).unwrap());
        let moved = seven.roam(Endpoint::from(mapped), false);
        device.tunnel.note_roam(&seven, moved);
        device.set_endpoint(&key(8), Some(address(9).into()));
        assert!(device.remove_peer(&key(10)));
        let mut new = settings(PEERS);
        new.endpoint = Some(address(10).into());
        device.add_peer(new, Time::START).unwrap();
        let there = [7, 8, 9, PEERS, 11].map(key).to_vec();
        assert_eq!(at(&mut device, "203.0.0.8/30"), (there, 3));
        assert_eq!(at(&mut device, "203.0.0.7/32"), (vec![], 0));
        device.set_endpoint(&key(8), None);
        let there = [7, 9].map(key).to_vec();
        assert_eq!(at(&mut device, "::ffff:203.0.0.9/128"), (there, 1));
    }

    #[test]
    fn a_peer_that_is_tried_elsewhere_is_found_there() {
        let mut device = hub(3);
        // One more than an initiation goes to.
        let places: Vec<SocketAddr> = (1..10_u8)
            .map(|last| SocketAddr::from(([192, 0, 2, last], 9000)))
            .collect();
        device.set_places(&key(1), &places, Time::START);
        // The three that came, and that one once more.
        assert_eq!(at(&mut device, "192.0.2.0/24"), (vec![key(1)], 4));
        assert_eq!(at(&mut device, "192.0.2.1/32"), (vec![key(1)], 0));
        device.initiate(&key(1), Time::START);
        device.handle_timeout(Time::START);
        // An answer comes within five seconds, or none does.
        for quarter in 1..28 {
            device.handle_timeout(Time::START + Duration::from_millis(250 * quarter));
        }
        assert_eq!(at(&mut device, "192.0.2.1/32"), (vec![], 1));
        assert_eq!(at(&mut device, "192.0.2.9/32"), (vec![key(1)], 0));
    }
}
