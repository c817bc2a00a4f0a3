//! Addresses that names in `[dns_routes]` have: routed to their peer while they are, and for
//! a while longer, and let go then.
//!
//! Whoever answers questions about a name decides what its addresses are, so not every address
//! is believed: none that belongs to another peer, to this machine or to a network that it is
//! connected to, and none that the tunnel itself needs. Those are refused, and the question is
//! answered with a failure.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use tokio::time::Instant;
use tracing::{debug, warn};

use super::engine::Engine;
use super::forwarder::Learned;
use super::name_servers;
use crate::config::DnsRoutes;
use crate::crypto::PublicKey;
use crate::protocol::device::RouteEdit;
use crate::system::{self, Host};

/// Addresses that are routed at the most. Names with more are looked up by a machine that
/// wants to know, not by people.
const MOST: usize = 4096;
/// The longest that an address is believed, whatever its name server says.
pub(super) const LONGEST: Duration = Duration::from_secs(86_400);
/// Refusals are told no more often than this.
const TOLD_EVERY: Duration = Duration::from_secs(10);

/// What is routed because of a name.
#[derive(Debug)]
pub(super) struct Table {
    via: PublicKey,
    keep: Duration,
    /// Name servers that the answers come from.
    upstream: Vec<IpAddr>,
    until: HashMap<IpAddr, Instant>,
    /// Those that others own by now, and that the host still leads into the tunnel.
    lost: Vec<IpAddr>,
    refusals: Refusals,
}

/// Tells of refusals, without filling the log with them.
#[derive(Debug, Default)]
struct Refusals {
    told: Option<Instant>,
    untold: u64,
}

/// What is to be done about an address.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    /// Nothing: it goes into the tunnel to the peer already.
    There,
    /// To be led there.
    Lead,
    /// It must not be, and why.
    Refuse(String),
}

impl Table {
    /// Nothing yet; addresses will lead to the peer of `routes`, and stay beyond their time.
    pub(super) fn new(routes: &DnsRoutes) -> Self {
        Self {
            via: routes.via,
            keep: routes.keep,
            upstream: routes.upstream.clone(),
            until: HashMap::new(),
            lost: Vec::new(),
            refusals: Refusals::default(),
        }
    }

    /// Remembers an address that is led for longer; false if it isn't.
    fn renew(&mut self, address: IpAddr, ttl: Duration, now: Instant) -> bool {
        let until = self.end(ttl, now);
        match self.until.get_mut(&address) {
            Some(known) => {
                *known = until.max(*known);
                true
            }
            None => false,
        }
    }

    /// Remembers an address; there must be room for it.
    fn insert(&mut self, address: IpAddr, ttl: Duration, now: Instant) {
        self.until.insert(address, self.end(ttl, now));
        self.lost.retain(|lost| *lost != address);
    }

    fn is_full(&self) -> bool {
        self.until.len() >= MOST
    }

    fn end(&self, ttl: Duration, now: Instant) -> Instant {
        let lasting = ttl.min(LONGEST).saturating_add(self.keep);
        now.checked_add(lasting).unwrap_or(now + LONGEST)
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

impl Refusals {
    fn tell(&mut self, address: IpAddr, reason: &str, now: Instant) {
        if self.told.is_some_and(|told| now - told < TOLD_EVERY) {
            self.untold = self.untold.saturating_add(1);
            return;
        }
        self.told = Some(now);
        let others = match std::mem::take(&mut self.untold) {
            0 => String::new(),
            untold => format!(" (and {untold} more refused before)"),
        };
        warn!(
            "dns_routes: {address} isn't led into the tunnel, and the question is answered with \
             a failure: {reason}{others}"
        );
    }
}

impl Engine {
    /// Leads addresses that a name has into the tunnel, and to its peer.
    pub(super) async fn learn(&mut self, learned: Learned, host: &mut Option<Host>) {
        let Some(mut table) = self.names_routed.take() else {
            return;
        };
        let mut all = true;
        for (address, ttl) in learned.addresses {
            if let Err(reason) = self.lead_name(&mut table, address, ttl, host).await {
                table.refusals.tell(address, &reason, Instant::now());
                all = false;
            }
        }
        self.names_routed = Some(table);
        // Who asked may have given up.
        let _ = learned.done.send(all);
    }

    /// Leads one address; the error is why it isn't led.
    async fn lead_name(
        &mut self,
        table: &mut Table,
        address: IpAddr,
        ttl: Duration,
        host: &mut Option<Host>,
    ) -> Result<(), String> {
        let now = Instant::now();
        if table.renew(address, ttl, now) {
            return Ok(());
        }
        match self.verdict(table, address, host.as_ref().map_or(0, Host::index)) {
            Verdict::There => return Ok(()),
            Verdict::Refuse(reason) => return Err(reason),
            Verdict::Lead => {}
        }
        if table.is_full() {
            return Err(format!(
                "{MOST} addresses are led already, which is the most"
            ));
        }
        if !self.lead_to(&table.via, &[address]) {
            return Err("the peer that leads there is gone".into());
        }
        debug!("dns_routes: {address} goes into the tunnel");
        if let Some(host) = host
            && let Err(error) = host.lead(address.into()).await
        {
            self.take_from(&table.via, &[address]);
            return Err(error.to_string());
        }
        table.insert(address, ttl, now);
        Ok(())
    }

    /// Lets go of addresses whose time is over.
    pub(super) async fn forget_names(&mut self, host: &mut Option<Host>) {
        let Some(table) = &mut self.names_routed else {
            return;
        };
        let mut over = table.expire(Instant::now());
        over.append(&mut table.lost);
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
        self.take_from(&via, &over);
    }

    /// Gives the peer all of them again, after networks of peers were set anew. Those that
    /// another peer owns by now are let go.
    pub(super) fn lead_names_again(&mut self) {
        let Some(mut table) = self.names_routed.take() else {
            return;
        };
        if !table.until.is_empty() {
            let owned = self.owned_nets();
            let is_anothers = |address: &IpAddr| {
                owned.iter().any(|(net, owner)| {
                    net.prefix_len() > 1 && *owner != table.via && net.contains(address)
                })
            };
            let (lost, kept): (Vec<IpAddr>, Vec<IpAddr>) =
                table.until.keys().copied().partition(is_anothers);
            for address in &lost {
                table.until.remove(address);
            }
            self.take_from(&table.via, &lost);
            // The next look lets them go.
            table.lost.extend(lost);
            self.lead_to(&table.via, &kept);
        }
        self.names_routed = Some(table);
    }

    /// Gives addresses to a peer; false if there is no such peer.
    fn lead_to(&mut self, via: &PublicKey, addresses: &[IpAddr]) -> bool {
        let Some(peer) = self.device.peer(via).map(Arc::clone) else {
            return false;
        };
        let nets: Vec<IpNet> = addresses.iter().copied().map(IpNet::from).collect();
        // What somebody gains is let through before.
        self.shield.add_routes(&nets);
        let add = |net: &IpNet| RouteEdit::Add(Arc::clone(&peer), *net);
        let edits: Vec<RouteEdit> = nets.iter().map(add).collect();
        self.device.edit_routes(&edits);
        true
    }

    /// Takes addresses from a peer, but for those that the file gives it.
    fn take_from(&mut self, via: &PublicKey, addresses: &[IpAddr]) {
        let configured = self
            .config
            .peers
            .iter()
            .find(|peer| peer.public_key == *via);
        let is_own = |net: &IpNet| configured.is_some_and(|peer| peer.allowed_ips.contains(net));
        if let Some(peer) = self.device.peer(via).map(|peer| peer.id()) {
            let nets = addresses.iter().copied().map(IpNet::from);
            let edits: Vec<RouteEdit> = nets
                .filter(|net| !is_own(net))
                .map(|net| RouteEdit::Remove(peer, net))
                .collect();
            self.device.edit_routes(&edits);
        }
        self.tell_shield();
    }

    /// Whether an address may be led into the tunnel because a name has it.
    fn verdict(&self, table: &Table, address: IpAddr, tunnel: u32) -> Verdict {
        let refuse = |reason: &str| Verdict::Refuse(reason.to_owned());
        let special = match address {
            IpAddr::V4(v4) => v4.is_link_local() || v4.is_broadcast() || v4.octets()[0] == 0,
            IpAddr::V6(v6) => v6.is_unicast_link_local() || v6.to_ipv4_mapped().is_some(),
        };
        if special || address.is_loopback() || address.is_multicast() || address.is_unspecified() {
            return refuse("it isn't one host's on the network");
        }
        let interface = &self.config.interface;
        let mut vips = interface.vip.iter();
        if !vips.any(|vip| vip.addr().is_ipv4() == address.is_ipv4()) {
            return refuse("the tunnel has no address of its family");
        }
        if interface.vip.iter().any(|vip| vip.addr() == address) {
            return refuse("it is our own inside the tunnel");
        }
        let owner = self.device.tunnel().owner(address);
        let via = self.device.peer(&table.via).map(|peer| peer.id());
        // Who owns everything owns nothing in particular.
        if let Some((length, owner)) = owner
            && length > 1
        {
            if Some(owner) != via {
                let peer = self.device.peers().find(|peer| peer.id() == owner);
                let label = peer.map(|peer| self.label(peer.public_key()));
                return refuse(&format!("it belongs to {}", label.unwrap_or_default()));
            }
            let routed = interface.vip.iter().chain(&interface.routes);
            if routed.into_iter().any(|net| net.contains(&address)) {
                return Verdict::There;
            }
        } else if interface.vip.iter().any(|vip| vip.contains(&address)) {
            return refuse("it is on the tunnel's own network, and no peer's");
        }
        let is_endpoint = |at: SocketAddr| at.ip().to_canonical() == address;
        let mut peers = self.device.peers();
        if peers.any(|peer| peer.endpoint().is_some_and(|at| is_endpoint(at.remote))) {
            return refuse("a peer is reached there, outside the tunnel");
        }
        let is_server = |server: &SocketAddr| server.ip() == address;
        if table.upstream.contains(&address)
            || self.config.host.dns.servers.contains(&address)
            || name_servers::Host::look_around(&[])
                .servers()
                .iter()
                .any(is_server)
        {
            return refuse("it is a name server's that is asked");
        }
        match system::local_address(address, tunnel) {
            Ok(None) => Verdict::Lead,
            Ok(Some(reason)) => Verdict::Refuse(reason),
            Err(error) => Verdict::Refuse(format!("the kernel doesn't say where it is: {error}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(keep: Duration) -> Table {
        Table::new(&DnsRoutes {
            domains: Vec::new(),
            via: PublicKey([1; 32]),
            upstream: Vec::new(),
            keep,
        })
    }

    fn address(last: u8) -> IpAddr {
        IpAddr::from([192, 0, 2, last])
    }

    #[test]
    fn an_address_stays_for_its_time_and_what_is_added_to_it() {
        let now = Instant::now();
        let second = Duration::from_secs(1);
        let mut table = table(10 * second);
        table.insert(address(1), 5 * second, now);
        table.insert(address(2), second, now);
        assert!(table.expire(now + 10 * second).is_empty());
        assert_eq!(table.expire(now + 11 * second), [address(2)]);
        // Seen again, it stays longer, and is not new.
        assert!(table.renew(address(1), 5 * second, now + 11 * second));
        assert!(!table.renew(address(2), 5 * second, now + 11 * second));
        assert!(table.expire(now + 25 * second).is_empty());
        assert_eq!(table.expire(now + 26 * second), [address(1)]);
    }

    #[test]
    fn there_is_an_end_to_addresses_and_to_their_time() {
        let now = Instant::now();
        let mut table = table(Duration::MAX);
        for number in 0..MOST as u32 {
            assert!(!table.is_full());
            let address = IpAddr::from((0x0a00_0000 + number).to_be_bytes());
            table.insert(address, Duration::MAX, now);
        }
        assert!(table.is_full());
        table.keep = Duration::ZERO;
        table.until.clear();
        table.insert(address(1), Duration::MAX, now);
        assert_eq!(table.expire(now + LONGEST), [address(1)]);
    }
}
