//! How fast the counters grow: they are looked at once a second, whoever asks and how often.

use super::last_minute::LastMinute;
use super::moments::Moments;
use super::peer_rates::PeerMeter;
use crate::protocol::device::Device;
use crate::protocol::peer::Peer;
use crate::protocol::time::Time;
use crate::report::{Drops, PeerRates, Rates, StandingCounts, Stood, Traffic, Ways};

/// The last look, and what was gained between it and the one before.
#[derive(Debug, Default)]
pub(super) struct RateMeter {
    last: Option<(Time, (Traffic, Drops))>,
    rates: Option<Rates>,
    drops: LastMinute<Drops>,
    standing: LastMinute<Ways<StandingCounts>>,
    peers: PeerMeter,
    moments: Moments,
}

impl RateMeter {
    /// To be called once a second with what was counted so far.
    pub(super) fn look(&mut self, traffic: Traffic, drops: Drops, now: Time) {
        let counted = (traffic, drops);
        if let Some((at, before)) = self.last.replace((now, counted)) {
            let rates = Rates::between(before, counted, now.since(at));
            self.moments.add(&rates);
            self.rates = Some(rates);
        }
        self.drops.look(drops, now);
    }

    /// The same for how long packets stood.
    pub(super) fn look_at_standing(&mut self, standing: &Ways<StandingCounts>, now: Time) {
        self.standing.look(*standing, now);
    }

    /// The same for what each peer moved.
    pub(super) fn look_at_peers(&mut self, device: &Device, now: Time) {
        self.peers.look(device, now);
    }

    /// The rates of a peer; `None` before it was looked at twice.
    pub(super) fn of_peer(&self, peer: &Peer) -> Option<PeerRates> {
        self.peers.of(peer)
    }

    /// The rates of the last minutes, also of those to come.
    pub(super) fn moments(&self) -> Moments {
        self.moments.clone()
    }

    /// The rates over the last whole second; `None` before there was one.
    pub(super) fn rates(&self) -> Option<Rates> {
        self.rates
    }

    /// What was dropped in the minute before the last look, or since the start of a younger
    /// tunnel.
    pub(super) fn drops_last_minute(&self) -> Drops {
        let ends = self.drops.ends();
        ends.map_or_else(Drops::default, |(before, now)| now.since(before))
    }

    /// How long packets stood in that minute.
    pub(super) fn stood(&self) -> Ways<Option<Stood>> {
        let ends = self.standing.ends();
        ends.map_or_else(Ways::default, |(before, now)| now.since(before))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use taltun_common::drops::DropReason;

    use super::*;

    #[test]
    fn there_are_rates_after_the_second_look_and_they_fall_when_nothing_comes() {
        let traffic = |tx_bytes| Traffic {
            tx_bytes,
            ..Traffic::default()
        };
        let mut meter = RateMeter::default();
        let mut now = Time::START;
        let mut rates = Vec::new();
        for tx_bytes in [1000, 6000, 6000] {
            meter.look(traffic(tx_bytes), Drops::default(), now);
            rates.push(meter.rates().map(|rates| rates.traffic.tx_bytes));
            now = now + Duration::from_secs(1);
        }
        assert_eq!(rates, [None, Some(5000), Some(0)]);
    }

    #[test]
    fn drops_of_the_last_minute_are_forgotten_after_it() {
        let mut meter = RateMeter::default();
        let mut now = Time::START;
        let mut told = Vec::new();
        for second in 0..130_u64 {
            // Ten in the fifth second, and five in the hundredth.
            let count = 10 * u64::from(second >= 5) + 5 * u64::from(second >= 100);
            let drops: Drops = [(DropReason::Mac1, count)].into_iter().collect();
            meter.look(Traffic::default(), drops, now);
            told.push(meter.drops_last_minute()[DropReason::Mac1]);
            now = now + Duration::from_secs(1);
        }
        assert_eq!(told[4], 0);
        assert_eq!((told[5], told[64]), (10, 10));
        assert_eq!((told[65], told[99]), (0, 0));
        assert_eq!((told[100], told[129]), (5, 5));
    }
}
