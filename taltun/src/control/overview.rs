//! The peers that a screen shows, out of however many there are: only these are described in full.

use std::cmp::Reverse;
use std::sync::Arc;

use super::peers::Peers;
use super::rate_meter::RateMeter;
use super::request::PeerOrder;
use crate::protocol::device::Device;
use crate::protocol::messages::REJECT_AFTER_TIME;
use crate::protocol::peer::Peer;
use crate::protocol::time::Time;
use crate::report::PeerCounts;

/// Where peers are looked up.
pub(super) struct Looked<'a> {
    pub device: &'a Device,
    pub peers: &'a Peers,
    pub rates: &'a RateMeter,
    pub now: Time,
}

/// What was found.
pub(super) struct Chosen<'a> {
    /// Those to show, in their order.
    pub shown: Vec<&'a Arc<Peer>>,
    /// How many match.
    pub found: usize,
    /// All peers.
    pub counts: PeerCounts,
}

/// What peers are ordered by: the standing first, but for an order by name.
type Weight<'a> = (u8, Reverse<u64>, u64, &'a str);

impl<'a> Looked<'a> {
    /// The peers whose name, key or address has `part` in it, `most` of them after the first `skip`.
    pub(super) fn choose(
        &self,
        order: PeerOrder,
        part: Option<&str>,
        skip: usize,
        most: usize,
    ) -> Chosen<'a> {
        let part = part.map(str::to_lowercase).filter(|part| !part.is_empty());
        let mut counts = PeerCounts::default();
        let mut found: Vec<(Weight<'a>, &'a Arc<Peer>)> = Vec::new();
        for peer in self.device.peers() {
            let standing = self.standing(peer);
            match standing {
                0 => counts.online += 1,
                1 => counts.away += 1,
                _ => counts.never += 1,
            }
            if part.as_deref().is_none_or(|part| self.matches(peer, part)) {
                found.push((self.weight(order, standing, peer), peer));
            }
        }
        let number = found.len();
        let wanted = skip.saturating_add(most).min(number);
        // Of ten thousand only a screenful is put in order.
        if wanted > 0 && wanted < number {
            found.select_nth_unstable_by(wanted - 1, |(a, _), (b, _)| a.cmp(b));
            found.truncate(wanted);
        }
        found.sort_unstable_by_key(|(weight, _)| *weight);
        let shown = found.into_iter().skip(skip).map(|(_, peer)| peer);
        Chosen {
            shown: shown.take(most).collect(),
            found: number,
            counts,
        }
    }

    /// 0 with a session, 1 with one before, 2 without any since the start.
    fn standing(&self, peer: &Peer) -> u8 {
        match peer.last_handshake() {
            Some(at) if self.now.since(at) < REJECT_AFTER_TIME => 0,
            Some(_) => 1,
            None => 2,
        }
    }

    /// Equal ones stay in one order: by name, and those without one as they come.
    fn weight(&self, order: PeerOrder, standing: u8, peer: &Peer) -> Weight<'a> {
        let name = self.peers.name(peer.public_key()).unwrap_or("\u{10ffff}");
        let seen = peer.last_heard().map_or(u64::MAX, |at| {
            // Seconds: else two that are there would change places all the time.
            self.now.since(at).as_secs() / 10
        });
        match order {
            PeerOrder::Rate => {
                let rates = self.rates.of_peer(peer).unwrap_or_default();
                let rate = rates.rx_bytes.saturating_add(rates.tx_bytes);
                (standing, Reverse(rate), seen, name)
            }
            PeerOrder::Total => {
                let total = peer.rx_bytes().saturating_add(peer.tx_bytes());
                (0, Reverse(total), 0, name)
            }
            PeerOrder::Seen => (0, Reverse(0), seen, name),
            PeerOrder::Name => (0, Reverse(0), 0, name),
        }
    }

    fn matches(&self, peer: &Peer, part: &str) -> bool {
        let key = peer.public_key();
        let has = |text: &str| text.to_lowercase().contains(part);
        self.peers.name(key).is_some_and(has)
            || has(&key.to_string())
            || peer
                .endpoint()
                .is_some_and(|it| has(&it.remote.to_string()))
            || self
                .device
                .allowed_ips_of(peer.id())
                .any(|net| has(&net.to_string()))
    }
}
