//! An address that a peer may be at, with its ports.

use std::net::SocketAddr;

use super::endpoint::Endpoint;
use super::randomness::Randomness;

/// An address that a peer may be at, with its ports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    first: SocketAddr,
    last_port: u16,
}

impl Place {
    /// The ports from that of `first` to `last_port`, or that of `first` alone if it is the
    /// larger one.
    pub fn new(first: SocketAddr, last_port: u16) -> Self {
        Self {
            first: Endpoint::from(first).remote,
            last_port: last_port.max(first.port()),
        }
    }

    /// The address with the first of the ports.
    pub fn first(&self) -> SocketAddr {
        self.first
    }

    /// The last of the ports.
    pub fn last_port(&self) -> u16 {
        self.last_port
    }

    /// The address with one of the ports.
    pub(super) fn at(&self, port: u16) -> SocketAddr {
        let mut at = self.first;
        at.set_port(port);
        at
    }

    pub(super) fn ports(&self) -> usize {
        usize::from(self.last_port - self.first.port()) + 1
    }

    /// Whether this is one of its ports.
    pub(super) fn contains(&self, at: SocketAddr) -> bool {
        let ports = self.first.port()..=self.last_port;
        let mut same = at;
        same.set_port(self.first.port());
        same == self.first && ports.contains(&at.port())
    }

    /// One of its ports at random, another than `current` if it has any.
    pub(super) fn choose(
        &self,
        current: Option<SocketAddr>,
        random: &mut Randomness,
    ) -> SocketAddr {
        let current = current.filter(|current| self.contains(*current));
        let choices = self.ports() - usize::from(current.is_some());
        let mut at = self.first;
        if choices == 0 || self.ports() == 1 {
            return at;
        }
        // It keeps no secret: where there is no randomness there is no handshake either.
        let drawn = random.bytes().map_or(0, u64::from_ne_bytes) % choices as u64;
        let port = self.first.port() + drawn as u16;
        let skips = current.is_some_and(|current| current.port() <= port);
        at.set_port(port + u16::from(skips));
        at
    }
}

impl From<SocketAddr> for Place {
    fn from(at: SocketAddr) -> Self {
        Self::new(at, at.port())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(last: u8) -> SocketAddr {
        SocketAddr::from(([192, 0, 2, last], 9000))
    }

    #[test]
    fn each_port_of_a_place_is_chosen_and_no_other_and_never_the_current_one() {
        let place = Place::new(at(1), 9003);
        let random = &mut Randomness::seeded([3; 32]);
        let mut seen = std::collections::BTreeSet::new();
        for _ in 0..200 {
            seen.insert(place.choose(None, random).port());
        }
        assert!(seen.iter().copied().eq(9000..=9003), "{seen:?}");
        for current in 9000..=9003 {
            let current = SocketAddr::from(([192, 0, 2, 1], current));
            let mut seen = std::collections::BTreeSet::new();
            for _ in 0..200 {
                let chosen = place.choose(Some(current), random);
                assert!(place.contains(chosen));
                seen.insert(chosen.port());
            }
            assert_eq!(seen.len(), 3);
            assert!(!seen.contains(&current.port()));
        }
        assert!(!place.contains(at(2)));
        assert!(!place.contains(SocketAddr::from(([192, 0, 2, 1], 9004))));
        // The whole range that there is.
        let all = Place::new(SocketAddr::from(([192, 0, 2, 1], 1)), u16::MAX);
        assert_eq!(all.ports(), 65_535);
        assert!(all.contains(all.choose(Some(all.first()), random)));
    }
}
