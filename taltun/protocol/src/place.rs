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

    /// One of its ports at random.
    pub(super) fn choose(&self, random: &mut Randomness) -> SocketAddr {
        // It keeps no secret: where there is no randomness there is no handshake either.
        let drawn = random.bytes().map_or(0, u64::from_ne_bytes) % self.ports() as u64;
        self.at(self.first.port() + drawn as u16)
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
    fn each_port_of_a_place_is_chosen_and_no_other() {
        let place = Place::new(at(1), 9003);
        let random = &mut Randomness::seeded([3; 32]);
        let mut seen = std::collections::BTreeSet::new();
        for _ in 0..200 {
            let chosen = place.choose(random);
            assert!(place.contains(chosen));
            seen.insert(chosen.port());
        }
        assert!(seen.iter().copied().eq(9000..=9003), "{seen:?}");
        assert!(!place.contains(at(2)));
        assert!(!place.contains(SocketAddr::from(([192, 0, 2, 1], 9004))));
        // The whole range that there is.
        let all = Place::new(SocketAddr::from(([192, 0, 2, 1], 1)), u16::MAX);
        assert_eq!(all.ports(), 65_535);
        assert!(all.contains(all.choose(random)));
    }
}
