//! How fast peers move bytes: each is looked at once a second, or with very many of them every few
//! seconds, whoever asks and how often.

use std::collections::HashMap;

use super::pace::Pace;
use crate::protocol::device::Device;
use crate::protocol::peer::Peer;
use crate::protocol::time::Time;
use crate::report::{PeerRates, per_second};

/// The last look at each peer.
#[derive(Debug, Default)]
pub(super) struct PeerMeter {
    pace: Pace,
    at: Option<Time>,
    /// By the numbers of their ids, which are never used twice.
    peers: HashMap<u32, Counted>,
}

/// What a peer had moved by then, and how fast.
#[derive(Debug, Clone, Copy)]
struct Counted {
    rx_bytes: u64,
    tx_bytes: u64,
    rates: Option<PeerRates>,
}

impl PeerMeter {
    /// To be called once a second.
    pub(super) fn look(&mut self, device: &Device, now: Time) {
        if !self.pace.is_due(device.len()) {
            return;
        }
        let counted = device.peers();
        let counted = counted.map(|peer| (peer.id().number(), peer.rx_bytes(), peer.tx_bytes()));
        self.take_in(counted, now);
    }

    fn take_in(&mut self, peers: impl Iterator<Item = (u32, u64, u64)>, now: Time) {
        let over = self.at.replace(now).map(|at| now.since(at));
        let mut new = HashMap::with_capacity(self.peers.len());
        for (id, rx_bytes, tx_bytes) in peers {
            let rates = self
                .peers
                .get(&id)
                .zip(over)
                .map(|(before, over)| PeerRates {
                    rx_bytes: per_second(before.rx_bytes, rx_bytes, over),
                    tx_bytes: per_second(before.tx_bytes, tx_bytes, over),
                });
            let counted = Counted {
                rx_bytes,
                tx_bytes,
                rates,
            };
            new.insert(id, counted);
        }
        // Those that were removed are left behind.
        self.peers = new;
    }

    /// The rates of a peer; `None` before it was looked at twice.
    pub(super) fn of(&self, peer: &Peer) -> Option<PeerRates> {
        self.rates(peer.id().number())
    }

    fn rates(&self, number: u32) -> Option<PeerRates> {
        self.peers.get(&number)?.rates
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn rates_come_with_the_second_look_and_go_with_their_peer() {
        let mut meter = PeerMeter::default();
        let start = Time::START;
        meter.take_in([(1, 100, 7), (2, 5, 5)].into_iter(), start);
        assert_eq!(meter.rates(1), None);
        let later = start + Duration::from_secs(2);
        meter.take_in([(1, 2100, 7)].into_iter(), later);
        let rates = PeerRates {
            rx_bytes: 1000,
            tx_bytes: 0,
        };
        assert_eq!(meter.rates(1), Some(rates));
        assert_eq!(meter.rates(2), None);
    }
}
