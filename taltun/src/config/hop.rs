//! `[hop]`, and endpoints with several ports.

use std::fmt;
use std::ops::RangeInclusive;

use super::{Endpoint, declared, declared::settings};

/// The lowest port that connections of others are given.
const LOWEST: u16 = 1024;
/// Fewer ports than these don't do for the connections of others.
const FEWEST: usize = 4096;

declared::hop::declared! { settings! {
    /// `[hop]`: ports of the hub, and how a client chooses among them.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct Hop {}
} }

/// Ports from one to another, both included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PortRange {
    /// The first, never 0.
    pub first: u16,
    /// The last, never before the first.
    pub last: u16,
}

impl PortRange {
    /// Whether it has this port.
    pub fn contains(self, port: u16) -> bool {
        (self.first..=self.last).contains(&port)
    }

    /// Whether both have a port.
    pub fn overlaps(self, other: Self) -> bool {
        self.first <= other.last && other.first <= self.last
    }

    /// How many ports it has.
    pub fn count(self) -> u32 {
        u32::from(self.last.saturating_sub(self.first)).saturating_add(1)
    }

    /// Its ports, or its one port.
    pub fn short(self) -> String {
        if self.first == self.last {
            return self.first.to_string();
        }
        self.to_string()
    }

    /// The ports that connections of others may have; `None` where the range leaves too few in a
    /// row.
    pub fn outside(self) -> Option<RangeInclusive<u16>> {
        let below = LOWEST..=self.first.saturating_sub(1);
        let above = self.last.checked_add(1).map(|next| next..=u16::MAX);
        let most = [Some(below), above].into_iter().flatten();
        most.max_by_key(RangeInclusive::len)
            .filter(|ports| ports.len() >= FEWEST)
    }
}

/// One of several endpoints, or one with several ports.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RangedEndpoint {
    /// The endpoint with the first of its ports.
    pub first: Endpoint,
    /// The last of them.
    pub last_port: u16,
}

impl RangedEndpoint {
    /// Whether it has one port.
    pub fn is_single(&self) -> bool {
        self.last_port == self.first.port()
    }

    /// Whether all ports of the other are among its own, at the same host.
    pub(super) fn covers(&self, other: &Self) -> bool {
        let is_same_host = match (&self.first, &other.first) {
            (Endpoint::Address(ours), Endpoint::Address(theirs)) => ours.ip() == theirs.ip(),
            (Endpoint::Name(ours, _), Endpoint::Name(theirs, _)) => {
                ours.eq_ignore_ascii_case(theirs)
            }
            _ => false,
        };
        is_same_host && self.first.port() <= other.first.port() && other.last_port <= self.last_port
    }
}

impl fmt::Display for RangedEndpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.first)?;
        if self.is_single() {
            return Ok(());
        }
        write!(f, "-{}", self.last_port)
    }
}

impl fmt::Display for PortRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.first, self.last)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_of_others_get_the_larger_part_outside_of_the_range() {
        let outside = |first, last| PortRange { first, last }.outside();
        assert_eq!(outside(4096, 8191), Some(8192..=65_535));
        assert_eq!(outside(40_000, 65_535), Some(1024..=39_999));
        assert_eq!(outside(1, 1023), Some(1024..=65_535));
        assert_eq!(outside(1024, 65_535), None);
        assert_eq!(outside(2000, 63_000), None);
    }
}
