//! The rules for a range of ports that leads to the port we listen on.
//!
//! Translated connections of others keep out of the range: a datagram to such a port would be one
//! of theirs. And on interfaces whose XDP program doesn't turn the range, a rule redirects it. The kernel then
//! tracks each peer's datagrams as a connection, which also has replies leave from the port that
//! was used. Answers to questions of this host, and to those that it passed on for others, belong
//! to connections that exist, which no rule of translation sees.

use std::net::IpAddr;
use std::ops::RangeInclusive;

use crate::config::PortRange;

/// A range of ports, and what rules do about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::system) struct Hop {
    pub(in crate::system) ports: RangeInclusive<u16>,
    /// Where no XDP program turns the range, on some interfaces at least.
    pub(in crate::system) redirect: Option<Redirect>,
}

/// Where the range leads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Redirect {
    /// The port that we listen on.
    pub to: u16,
    /// Ports of the range that other sockets have, in order.
    pub except: Vec<u16>,
    /// The one address that we listen at, unless it is any.
    pub at: Option<IpAddr>,
    /// Interfaces whose XDP program turns the range.
    pub not_on: Vec<String>,
}

impl Hop {
    /// The ports that connections of others may have; `None` where the range leaves too few.
    pub(in crate::system) fn outside(&self) -> Option<RangeInclusive<u16>> {
        let (first, last) = (*self.ports.start(), *self.ports.end());
        PortRange { first, last }.outside()
    }
}

/// A range as a rule has it, between its ends the separator of the tool.
pub(super) fn text(ports: &RangeInclusive<u16>, separator: char) -> String {
    if ports.start() == ports.end() {
        return ports.start().to_string();
    }
    format!("{}{separator}{}", ports.start(), ports.end())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_port_is_no_range() {
        assert_eq!(text(&(4096..=8191), '-'), "4096-8191");
        assert_eq!(text(&(4096..=8191), ':'), "4096:8191");
        assert_eq!(text(&(4096..=4096), '-'), "4096");
    }
}
