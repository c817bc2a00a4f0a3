//! How fast the counters grow: they are looked at once a second, whoever asks and how often.

use crate::protocol::time::Time;
use crate::report::{Drops, Rates, Traffic};

/// The last look, and what was gained between it and the one before.
#[derive(Debug, Default)]
pub(super) struct RateMeter {
    last: Option<(Time, (Traffic, Drops))>,
    rates: Option<Rates>,
}

impl RateMeter {
    /// To be called once a second with what was counted so far.
    pub(super) fn look(&mut self, traffic: Traffic, drops: Drops, now: Time) {
        let counted = (traffic, drops);
        if let Some((at, before)) = self.last.replace((now, counted)) {
            self.rates = Some(Rates::between(before, counted, now.since(at)));
        }
    }

    /// The rates over the last whole second; `None` before there was one.
    pub(super) fn rates(&self) -> Option<Rates> {
        self.rates
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

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
}
