//! Packets that wait for a session, of all peers.
//!
//! Any host behind a peer can send to another peer that is away, and so can this host. So the
//! queues are bounded in packets and bytes per peer, and in bytes in all; the oldest packets go
//! first. One lock serves all peers; only packets without a session take it.

use std::collections::{BTreeMap, HashMap, VecDeque};

use super::endpoint::PeerId;
use super::messages::MAX_STAGED_PACKETS;

/// Most bytes that wait for one peer: the most packets, of the usual MTU.
pub const MAX_STAGED_BYTES: usize = 256 << 10;
/// Most bytes that wait for all peers.
pub const MAX_STAGED_BYTES_IN_ALL: usize = 8 << 20;
/// Memory of a packet besides its bytes, about.
const OVERHEAD: usize = 128;

/// The packets, by the order in which they came.
#[derive(Debug, Default)]
pub(super) struct Staged {
    packets: BTreeMap<u64, (PeerId, Vec<u8>)>,
    queues: HashMap<PeerId, Queue>,
    bytes: usize,
    next: u64,
}

/// What waits for one peer.
#[derive(Debug, Default)]
struct Queue {
    numbers: VecDeque<u64>,
    bytes: usize,
}

impl Staged {
    /// Keeps a packet; how many others were lost for it.
    pub(super) fn push(&mut self, peer: PeerId, packet: &[u8]) -> usize {
        let cost = packet.len() + OVERHEAD;
        let mut lost = 0;
        while let Some(queue) = self.queues.get(&peer)
            && (queue.numbers.len() >= MAX_STAGED_PACKETS || queue.bytes + cost > MAX_STAGED_BYTES)
            && let Some(&oldest) = queue.numbers.front()
        {
            self.forget(oldest);
            lost += 1;
        }
        while self.bytes + cost > MAX_STAGED_BYTES_IN_ALL
            && let Some((&oldest, _)) = self.packets.first_key_value()
        {
            self.forget(oldest);
            lost += 1;
        }
        let number = self.next;
        self.next += 1;
        self.packets.insert(number, (peer, packet.to_vec()));
        let queue = self.queues.entry(peer).or_default();
        queue.numbers.push_back(number);
        queue.bytes += cost;
        self.bytes += cost;
        lost
    }

    /// Takes what waits for a peer, in order.
    pub(super) fn take(&mut self, peer: PeerId) -> Vec<Vec<u8>> {
        let Some(queue) = self.queues.remove(&peer) else {
            return Vec::new();
        };
        self.bytes -= queue.bytes;
        let taken = queue.numbers.iter();
        taken
            .filter_map(|number| Some(self.packets.remove(number)?.1))
            .collect()
    }

    /// Loses the packet of this number, which is the oldest of its peer.
    fn forget(&mut self, number: u64) {
        let Some((peer, packet)) = self.packets.remove(&number) else {
            return;
        };
        let cost = packet.len() + OVERHEAD;
        self.bytes -= cost;
        if let Some(queue) = self.queues.get_mut(&peer) {
            queue.numbers.pop_front();
            queue.bytes -= cost;
            if queue.numbers.is_empty() {
                self.queues.remove(&peer);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes_of(staged: &Staged) -> usize {
        let packets = staged.packets.values();
        packets.map(|(_, packet)| packet.len() + OVERHEAD).sum()
    }

    #[test]
    fn a_peer_keeps_the_newest_packets_in_order() {
        let mut staged = Staged::default();
        let lost: usize = (0..200_u8).map(|n| staged.push(PeerId(1), &[n])).sum();
        assert_eq!(lost, 200 - MAX_STAGED_PACKETS);
        let kept: Vec<u8> = staged.take(PeerId(1)).iter().map(|p| p[0]).collect();
        assert_eq!(kept, (72..200).collect::<Vec<u8>>());
        assert_eq!((staged.bytes, staged.queues.len()), (0, 0));
    }

    #[test]
    fn large_packets_are_bounded_by_their_bytes() {
        let mut staged = Staged::default();
        let large = vec![0; 65_535];
        for _ in 0..MAX_STAGED_PACKETS {
            staged.push(PeerId(1), &large);
        }
        assert_eq!(staged.take(PeerId(1)).len(), 3);
        // A usual MTU leaves room for all that may wait.
        let lost: usize = (0..MAX_STAGED_PACKETS)
            .map(|_| staged.push(PeerId(1), &[0; 1420]))
            .sum();
        assert_eq!(lost, 0);
    }

    #[test]
    fn all_peers_together_are_bounded_and_the_oldest_packets_go() {
        let mut staged = Staged::default();
        let mut lost = 0;
        for peer in 0..100 {
            for _ in 0..MAX_STAGED_PACKETS {
                lost += staged.push(PeerId(peer), &[0; 1420]);
            }
        }
        assert!(staged.bytes <= MAX_STAGED_BYTES_IN_ALL);
        assert_eq!(staged.bytes, bytes_of(&staged));
        assert_eq!(staged.packets.len() + lost, 100 * MAX_STAGED_PACKETS);
        assert!(staged.take(PeerId(0)).is_empty());
        assert_eq!(staged.take(PeerId(99)).len(), MAX_STAGED_PACKETS);
    }
}
