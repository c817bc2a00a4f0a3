//! The rules for a range of ports that leads to the port we listen on.
//!
//! Translated connections of others keep out of the range: a datagram to such a port would be one
//! of theirs. And on interfaces whose XDP program doesn't turn the range, a rule redirects it. The kernel then
//! tracks each peer's datagrams as a connection, which also has replies leave from the port that
//! was used. Answers to questions of this host, and to those that it passed on for others, belong
//! to connections that exist, which no rule of translation sees.

use std::fmt::Write;
use std::net::{IpAddr, SocketAddr};
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

/// The rule for nftables that leads a range of ports to ours, but where XDP turns it and where
/// others have a port.
pub(super) fn nft(hop: &Hop, redirect: &Redirect, tun: &str) -> String {
    let ports = text(&hop.ports, '-');
    let except = if redirect.except.is_empty() {
        String::new()
    } else {
        let taken: Vec<String> = redirect.except.iter().map(u16::to_string).collect();
        format!("udp dport != {{ {} }} ", taken.join(", "))
    };
    let at = redirect.at.map_or_else(String::new, |address| {
        let family = if address.is_ipv4() { "ip" } else { "ip6" };
        format!("{family} daddr {address} ")
    });
    let mut elsewhere = format!("\"lo\", \"{tun}\"");
    for interface in &redirect.not_on {
        let _ = write!(elsewhere, ", \"{interface}\"");
    }
    format!(
        "iifname != {{ {elsewhere} }} {at}udp dport {ports} {except}fib daddr type local \
         counter {}",
        leading(redirect)
    )
}

/// Where a range of ports leads. A plain redirection takes the first address of the interface, where
/// nobody listens who listens at another one.
fn leading(redirect: &Redirect) -> String {
    match redirect.at {
        None => format!("redirect to :{}", redirect.to),
        Some(address) => {
            let family = if address.is_ipv4() { "ip" } else { "ip6" };
            format!("dnat {family} to {}", SocketAddr::new(address, redirect.to))
        }
    }
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

    #[test]
    fn a_range_leads_to_the_address_that_we_listen_at() {
        let led = |at: Option<&str>| {
            leading(&Redirect {
                to: 9000,
                except: Vec::new(),
                at: at.map(|address| address.parse().unwrap()),
                not_on: Vec::new(),
            })
        };
        assert_eq!(led(None), "redirect to :9000");
        assert_eq!(led(Some("192.0.2.1")), "dnat ip to 192.0.2.1:9000");
        let v6 = "dnat ip6 to [2001:db8::1]:9000";
        assert_eq!(led(Some("2001:db8::1")), v6);
    }
}
