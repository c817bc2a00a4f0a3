//! How often something is looked at that takes longer the more peers there are.
//!
//! With a few thousand peers that is each second, and nobody notices. With a hundred thousand
//! a look takes milliseconds, of each second of a machine that has nothing else to do: then it
//! comes less often, so that looks never take more than a small part of the time.

/// Peers that can be looked at each second: at 0.2 µs each, that is 0.2 % of a core.
const EACH_SECOND: usize = 10_000;

/// Says which seconds to look in.
#[derive(Debug, Default)]
pub(super) struct Pace {
    passed: usize,
}

impl Pace {
    /// Whether to look in this second, at so many peers; call it once in each.
    pub(super) fn is_due(&mut self, peers: usize) -> bool {
        self.passed += 1;
        let due = self.passed > peers / EACH_SECOND;
        if due {
            self.passed = 0;
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_more_peers_the_less_often_they_are_looked_at() {
        for (peers, looks) in [(0, 60), (9_999, 60), (10_000, 30), (100_000, 5)] {
            let mut pace = Pace::default();
            let looked = (0..60).filter(|_| pace.is_due(peers)).count();
            assert_eq!(looked, looks, "{peers} peers");
        }
    }
}
