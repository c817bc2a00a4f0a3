//! Addresses that names in `[dns_routes]` have: routed to their peer while they are, and for
//! a while longer, and let go then.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use tokio::time::Instant;
use tracing::{debug, warn};

use super::engine::Engine;
use super::forwarder::Learned;
use crate::crypto::PublicKey;
use crate::protocol::device::RouteEdit;
use crate::system::Host;

/// Addresses that are routed at the most. Names with more are looked up by a machine that
/// wants to know, not by people.
const MOST: usize = 4096;
/// The longest that an address is believed, whatever its name server says.
const LONGEST: Duration = Duration::from_secs(86_400);

/// What is routed because of a name.
#[derive(Debug)]
pub(super) struct Table {
    via: PublicKey,
    keep: Duration,
    until: HashMap<IpAddr, Instant>,
}

impl Table {
    /// Nothing yet; addresses will lead to `via`, and stay for `keep` beyond their time.
    pub(super) fn new(via: PublicKey, keep: Duration) -> Self {
        Self {
            via,
            keep,
            until: HashMap::new(),
        }
    }

    /// Remembers addresses; those that are new are returned.
    fn learn(&mut self, addresses: &[(IpAddr, Duration)], now: Instant) -> Vec<IpAddr> {
        let mut new = Vec::new();
        for (address, ttl) in addresses {
            let until = now + (*ttl).min(LONGEST) + self.keep;
            if let Some(known) = self.until.get_mut(address) {
                *known = until.max(*known);
            } else if self.until.len() < MOST {
                self.until.insert(*address, until);
                new.push(*address);
            } else {
                warn!("dns_routes: {MOST} addresses are routed already; {address} is not");
            }
        }
        new
    }

    /// Forgets addresses whose time is over, and returns them.
    fn expire(&mut self, now: Instant) -> Vec<IpAddr> {
        let over: Vec<IpAddr> = self
            .until
            .iter()
            .filter(|(_, until)| **until <= now)
            .map(|(address, _)| *address)
            .collect();
        for address in &over {
            self.until.remove(address);
        }
        over
    }
}

impl Engine {
    /// Leads addresses that a name has into the tunnel, and to its peer.
    pub(super) async fn learn(&mut self, learned: Learned, host: &mut Option<Host>) {
        let Some(mut table) = self.names_routed.take() else {
            return;
        };
        let wanted: Vec<(IpAddr, Duration)> = learned
            .addresses
            .into_iter()
            .filter(|(address, _)| self.may_route(*address))
            .collect();
        let new = table.learn(&wanted, Instant::now());
        self.lead_to(&table.via, &new);
        for address in new {
            let Some(host) = host.as_mut() else { continue };
            debug!("dns_routes: {address} goes into the tunnel");
            if let Err(error) = host.lead(address.into()).await {
                warn!("dns_routes: {error}");
            }
        }
        self.names_routed = Some(table);
        // Who asked may have given up.
        let _ = learned.done.send(());
    }

    /// Lets go of addresses whose time is over.
    pub(super) async fn forget_names(&mut self, host: &mut Option<Host>) {
        let Some(table) = &mut self.names_routed else {
            return;
        };
        let over = table.expire(Instant::now());
        if over.is_empty() {
            return;
        }
        let via = table.via;
        for address in &over {
            debug!("dns_routes: {address} goes its own way again");
            if let Some(host) = host.as_mut() {
                host.release((*address).into()).await;
            }
        }
        if let Some(peer) = self.device.peer(&via).map(|peer| peer.id()) {
            let remove = |address: &IpAddr| RouteEdit::Remove(peer, (*address).into());
            let edits: Vec<RouteEdit> = over.iter().map(remove).collect();
            self.device.edit_routes(&edits);
        }
        self.tell_shield();
    }

    /// Gives the peer all of them again, after its networks were set anew.
    pub(super) fn lead_names_again(&mut self) {
        let Some(table) = &self.names_routed else {
            return;
        };
        let (via, known) = (table.via, table.until.keys().copied().collect::<Vec<_>>());
        self.lead_to(&via, &known);
    }

    fn lead_to(&mut self, via: &PublicKey, addresses: &[IpAddr]) {
        let Some(peer) = self.device.peer(via).map(Arc::clone) else {
            return;
        };
        let nets: Vec<IpNet> = addresses.iter().copied().map(IpNet::from).collect();
        // What somebody gains is let through before.
        self.shield.add_routes(&nets);
        let add = |net: &IpNet| RouteEdit::Add(Arc::clone(&peer), *net);
        let edits: Vec<RouteEdit> = nets.iter().map(add).collect();
        self.device.edit_routes(&edits);
    }

    /// Whether an address may be led into the tunnel because a name has it: none of our own or
    /// of another peer's, no peer's place, and none that isn't one host's out there.
    fn may_route(&self, address: IpAddr) -> bool {
        let special = match address {
            IpAddr::V4(v4) => v4.is_link_local() || v4.is_broadcast(),
            IpAddr::V6(v6) => v6.is_unicast_link_local(),
        };
        let is_ours = self
            .config
            .interface
            .vip
            .iter()
            .any(|vip| vip.addr() == address);
        let is_place = self
            .device
            .peers()
            .any(|peer| peer.endpoint().is_some_and(|at| at.remote.ip() == address));
        let is_owned = self
            .config
            .peers
            .iter()
            .any(|peer| peer.allowed_ips.contains(&IpNet::from(address)));
        !(special
            || is_ours
            || is_place
            || is_owned
            || address.is_loopback()
            || address.is_multicast()
            || address.is_unspecified())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(last: u8) -> IpAddr {
        IpAddr::from([192, 0, 2, last])
    }

    #[test]
    fn an_address_stays_for_its_time_and_what_is_added_to_it() {
        let now = Instant::now();
        let second = Duration::from_secs(1);
        let mut table = Table::new(PublicKey([1; 32]), 10 * second);
        let learned = table.learn(&[(address(1), 5 * second), (address(2), second)], now);
        assert_eq!(learned, [address(1), address(2)]);
        assert!(table.expire(now + 10 * second).is_empty());
        assert_eq!(table.expire(now + 11 * second), [address(2)]);
        // Seen again, it stays longer, and is not new.
        let again = table.learn(&[(address(1), 5 * second)], now + 11 * second);
        assert!(again.is_empty());
        assert!(table.expire(now + 25 * second).is_empty());
        assert_eq!(table.expire(now + 26 * second), [address(1)]);
    }

    #[test]
    fn there_is_an_end_to_addresses_and_to_their_time() {
        let now = Instant::now();
        let mut table = Table::new(PublicKey([1; 32]), Duration::ZERO);
        let many: Vec<(IpAddr, Duration)> = (0..5000_u32)
            .map(|number| {
                (
                    IpAddr::from((0x0a00_0000 + number).to_be_bytes()),
                    Duration::MAX,
                )
            })
            .collect();
        assert_eq!(table.learn(&many, now).len(), MOST);
        assert_eq!(table.expire(now + LONGEST).len(), MOST);
    }
}
