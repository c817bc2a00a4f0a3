//! Addresses that names in `[dns_routes]` have: routed to their peer while they are, and for
//! a while longer, and let go then.
//!
//! Whoever answers questions about a name decides what its addresses are, so not every address
//! is believed: none that belongs to another peer, to this machine or to a network that it is
//! connected to, and none that the tunnel itself needs. Those are refused, and the question is
//! answered with a failure.
//!
//! Programs remember addresses beyond our end, whatever that was. So what is led is kept on
//! disk, and led again at the next start (see [`super::led_names`]).

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use tokio::sync::watch;
use tokio::time::Instant;
use tracing::{debug, info, warn};

use super::engine::Engine;
use super::forwarder::Learned;
use super::led_names::{Led, LedNames, Names};
use super::led_watch::{self, LedWatch};
use super::{dirs, name_servers};
use crate::config::{Config, DnsRoutes, Interface};
use crate::crypto::PublicKey;
use crate::protocol::device::RouteEdit;
use crate::system::{self, Host};

/// Addresses that are routed at the most. Names with more are looked up by a machine that
/// wants to know, not by people.
pub(super) const MOST: usize = 4096;
/// The longest that an address is believed, whatever its name server says.
pub(super) const LONGEST: Duration = Duration::from_secs(86_400);
/// Refusals are told no more often than this.
const TOLD_EVERY: Duration = Duration::from_secs(10);
/// The same one of the same address no more often than this.
const SAME_TOLD_EVERY: Duration = Duration::from_secs(60);

/// What is routed because of a name.
#[derive(Debug)]
pub(super) struct Table {
    /// What the file says by now; the forwarder is told.
    routes: Arc<DnsRoutes>,
    told: watch::Sender<Arc<DnsRoutes>>,
    pub(super) led: HashMap<IpAddr, Names<Instant>>,
    /// Whether they go where they are led.
    pub(super) watch: LedWatch,
    /// Those that others own by now, or whose names aren't of the list any more, and that the
    /// host still leads into the tunnel.
    lost: Vec<IpAddr>,
    pub(super) refusals: Refusals,
    /// What the next start leads again, and what this one does.
    kept: LedNames,
    before: Vec<Led>,
}

/// Tells of refusals, without filling the log with them.
#[derive(Debug, Default)]
pub(super) struct Refusals {
    told: Option<Instant>,
    /// What was told then.
    last: Option<(IpAddr, String)>,
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
    /// Nothing yet but what the tunnel of this `interface` led before; `told` tells the forwarder.
    pub(super) fn new(told: watch::Sender<Arc<DnsRoutes>>, interface: &Interface) -> Self {
        let key = interface.private_key.public_key();
        let (kept, before) = LedNames::of(&dirs::state(), &interface.tun_name, &key);
        let routes = Arc::clone(&told.borrow());
        Self {
            routes,
            told,
            led: HashMap::new(),
            watch: LedWatch::default(),
            lost: Vec::new(),
            refusals: Refusals::default(),
            kept,
            before,
        }
    }

    /// Remembers an address that is led for longer; false if it isn't.
    fn renew(&mut self, address: IpAddr, names: &[String], until: Instant) -> bool {
        let Some(known) = self.led.get_mut(&address) else {
            return false;
        };
        for name in names {
            known.note(name, until);
        }
        true
    }

    /// Remembers an address; there must be room for it.
    fn insert(&mut self, address: IpAddr, names: &[String], until: Instant) {
        let known = self.led.entry(address).or_default();
        for name in names {
            known.note(name, until);
        }
        self.lost.retain(|lost| *lost != address);
    }

    fn is_full(&self) -> bool {
        self.led.len() >= MOST
    }

    /// How long an address is led that may be remembered for `ttl`.
    fn lasting(&self, ttl: Duration) -> Duration {
        ttl.min(LONGEST).saturating_add(self.routes.keep)
    }

    /// Forgets addresses whose time is over, and returns them.
    fn expire(&mut self, now: Instant) -> Vec<IpAddr> {
        let over = |names: &Names<Instant>| names.until().is_none_or(|until| until <= now);
        self.forget(|_, names| over(names))
    }

    /// Forgets addresses, and returns them.
    fn forget(
        &mut self,
        mut is_over: impl FnMut(IpAddr, &mut Names<Instant>) -> bool,
    ) -> Vec<IpAddr> {
        let over = self
            .led
            .extract_if(|address, names| is_over(*address, names));
        over.map(|(address, _)| address).collect()
    }

    /// Whether the peer has the network only because a name is there.
    pub(super) fn leads(&self, peer: &PublicKey, net: &IpNet) -> bool {
        *peer == self.routes.via
            && net.prefix_len() == net.max_prefix_len()
            && self.led.contains_key(&net.addr())
    }
}

/// A point in time, or one that is far away.
fn after(now: Instant, lasting: Duration) -> Instant {
    now.checked_add(lasting).unwrap_or(now + LONGEST)
}

impl Refusals {
    /// An address isn't led, for `reason`, and so `consequence`.
    pub(super) fn tell(&mut self, address: IpAddr, consequence: &str, reason: &str, now: Instant) {
        let is_same = |(last, why): &(IpAddr, String)| *last == address && why == reason;
        let pause = if self.last.as_ref().is_some_and(is_same) {
            SAME_TOLD_EVERY
        } else {
            TOLD_EVERY
        };
        if self.told.is_some_and(|told| now - told < pause) {
            self.untold = self.untold.saturating_add(1);
            return;
        }
        self.told = Some(now);
        self.last = Some((address, reason.to_owned()));
        let others = match std::mem::take(&mut self.untold) {
            0 => String::new(),
            untold => format!(" (and {untold} more refused before)"),
        };
        warn!(
            "dns_routes: {address} isn't led into the tunnel, and {consequence}: {reason}{others}"
        );
    }
}

impl Engine {
    /// Leads addresses that a name has into the tunnel, and to its peer.
    pub(super) async fn learn(&mut self, learned: Learned, host: &mut Option<Host>) {
        let Learned {
            mut names,
            addresses,
            done,
        } = learned;
        let Some(mut table) = self.names_routed.take() else {
            return;
        };
        // The list may have changed meanwhile.
        names.retain(|name| table.routes.includes(name));
        let (mut all, mut led) = (true, Vec::new());
        for (address, ttl) in addresses {
            if names.is_empty() {
                break;
            }
            let lasting = table.lasting(ttl);
            match self
                .lead_name(&mut table, address, &names, lasting, host)
                .await
            {
                Ok(true) => {
                    let names = names.iter();
                    led.extend(names.map(|name| (address, name.clone(), lasting)));
                }
                Ok(false) => {}
                Err(reason) => {
                    let so = "the question is answered with a failure";
                    table.refusals.tell(address, so, &reason, Instant::now());
                    all = false;
                }
            }
        }
        let kept = table.kept.clone();
        self.names_routed = Some(table);
        // Who asked may have given up.
        if !all || led.is_empty() {
            let _ = done.send(all);
            return;
        }
        tokio::spawn(async move {
            // It comes to an end, or the process does.
            let _ = tokio::task::spawn_blocking(move || kept.keep(&led)).await;
            let _ = done.send(true);
        });
    }

    /// Leads one address; false if it goes there by itself. The error is why it isn't led.
    async fn lead_name(
        &mut self,
        table: &mut Table,
        address: IpAddr,
        names: &[String],
        lasting: Duration,
        host: &mut Option<Host>,
    ) -> Result<bool, String> {
        let until = after(Instant::now(), lasting);
        let index = host.as_ref().map_or(0, Host::index);
        let goes_around = |is_made: bool| {
            let around = is_made.then(|| led_watch::around(address, index));
            around.flatten()
        };
        if table.renew(address, names, until) {
            return goes_around(host.is_some()).map_or(Ok(true), Err);
        }
        match self.verdict(table, address, index) {
            Verdict::There => {
                table.watch.note(address, until);
                return goes_around(host.is_some()).map_or(Ok(false), Err);
            }
            Verdict::Refuse(reason) => return Err(reason),
            Verdict::Lead => {}
        }
        if table.is_full() {
            return Err(format!(
                "{MOST} addresses are led already, which is the most"
            ));
        }
        if !self.lead_to(&table.routes.via, &[address]) {
            return Err("the peer that leads there is gone".into());
        }
        debug!("dns_routes: {address} goes into the tunnel");
        if let Some(host) = host {
            let led = host.lead(address.into()).await;
            let refused = match &led {
                Err(error) => Some(error.to_string()),
                Ok(()) => goes_around(true),
            };
            if let Some(reason) = refused {
                if led.is_ok() {
                    host.release(address.into()).await;
                }
                self.take_from(&table.routes.via, &[address]);
                return Err(reason);
            }
        }
        table.insert(address, names, until);
        Ok(true)
    }

    /// Leads addresses that were led before this start, as programs may remember them still:
    /// those of names that are of the list by now.
    pub(super) async fn lead_remembered(&mut self, host: &mut Option<Host>) {
        let Some(mut table) = self.names_routed.take() else {
            return;
        };
        let (now, longest) = (Instant::now(), table.lasting(LONGEST));
        let mut before: HashMap<IpAddr, Names<Instant>> = HashMap::new();
        for (address, name, left) in std::mem::take(&mut table.before) {
            if table.routes.includes(&name) {
                let until = after(now, left.min(longest));
                before.entry(address).or_default().note(&name, until);
            }
        }
        let index = host.as_ref().map_or(0, Host::index);
        let so = "what remembers it from before this start goes around the tunnel";
        before.retain(|address, _| match self.verdict(&table, *address, index) {
            Verdict::There => false,
            Verdict::Lead => true,
            Verdict::Refuse(reason) => {
                table.refusals.tell(*address, so, &reason, now);
                false
            }
        });
        // All to the peer at once, as each edit goes through all routes.
        let addresses: Vec<IpAddr> = before.keys().copied().take(MOST).collect();
        if !self.lead_to(&table.routes.via, &addresses) {
            self.names_routed = Some(table);
            return;
        }
        let mut refused = Vec::new();
        for address in addresses {
            if let Some(host) = host
                && let Err(error) = host.lead(address.into()).await
            {
                table.refusals.tell(address, so, &error.to_string(), now);
                refused.push(address);
            } else if let Some(names) = before.remove(&address) {
                table.led.insert(address, names);
            }
        }
        table.watch.look_again();
        if !refused.is_empty() {
            self.take_from(&table.routes.via, &refused);
        }
        if !table.led.is_empty() {
            let number = table.led.len();
            info!(
                "dns_routes: {number} address{} of before this start lead{} into the tunnel again",
                if number == 1 { "" } else { "es" },
                if number == 1 { "s" } else { "" },
            );
        }
        self.names_routed = Some(table);
    }

    /// Takes over what `new` says of names: those that aren't of the list any more are let go
    /// at the next look, and the others lead to the peer that it names. What peers own comes
    /// after this, and [`Self::lead_names_again`] after that.
    pub(super) fn change_names(&mut self, new: &Config) {
        let (Some(mut table), Some(routes)) = (self.names_routed.take(), &new.dns_routes) else {
            return;
        };
        if *table.routes != *routes {
            let is_out = |address: IpAddr, names: &mut Names<Instant>| {
                !names.retain(|name| routes.includes(name)) || routes.upstream.contains(&address)
            };
            let lost = table.forget(is_out);
            let before = table.routes.via;
            if before != routes.via {
                let all: Vec<IpAddr> = table.led.keys().chain(&lost).copied().collect();
                self.take_from(&before, &all);
            }
            table.lost.extend(lost);
            table.routes = Arc::new(routes.clone());
            table.told.send_replace(Arc::clone(&table.routes));
        }
        self.names_routed = Some(table);
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
        let via = table.routes.via;
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
        if !table.led.is_empty() {
            let via = table.routes.via;
            let id = self.device.peer(&via).map(|peer| peer.id());
            let tunnel = self.device.tunnel();
            let lost = table.forget(|address, _| {
                let owners = tunnel.owners(address);
                let mut others = owners.into_iter().filter(|(_, owner)| Some(*owner) != id);
                others.any(|(length, _)| length > 1)
            });
            self.take_from(&via, &lost);
            // The next look lets them go.
            table.lost.extend(lost);
            let kept: Vec<IpAddr> = table.led.keys().copied().collect();
            self.lead_to(&via, &kept);
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
        let configured = self.peers.in_file(via);
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
    fn verdict(&mut self, table: &Table, address: IpAddr, tunnel: u32) -> Verdict {
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
        let via = self.device.peer(&table.routes.via).map(|peer| peer.id());
        // Who owns everything owns nothing in particular.
        if let Some((length, owner)) = owner
            && length > 1
        {
            if Some(owner) != via {
                let label = self.device.key_of(owner).map(|key| self.label(key));
                return refuse(&format!("it belongs to {}", label.unwrap_or_default()));
            }
            let routed = interface.vip.iter().chain(&interface.routes);
            if routed.into_iter().any(|net| net.contains(&address)) {
                return Verdict::There;
            }
        } else if interface.vip.iter().any(|vip| vip.contains(&address)) {
            return refuse("it is on the tunnel's own network, and no peer's");
        }
        if !self.device.peers_at(address.into()).is_empty() {
            return refuse("a peer is reached there, outside the tunnel");
        }
        let is_server = |server: &SocketAddr| server.ip() == address;
        if table.routes.upstream.contains(&address)
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
    use crate::config::Domain;

    fn table(keep: Duration) -> Table {
        let routes = DnsRoutes {
            domains: vec![Domain::Below("example.net".into())],
            via: PublicKey([1; 32]),
            upstream: Vec::new(),
            keep,
        };
        let key = crate::crypto::PrivateKey::from_bytes([2; 32]);
        let interface = Config::plain("no-such-tunnel", key).interface;
        Table::new(watch::Sender::new(Arc::new(routes)), &interface)
    }

    fn address(last: u8) -> IpAddr {
        IpAddr::from([192, 0, 2, last])
    }

    fn www() -> Vec<String> {
        vec!["www.example.net".into()]
    }

    #[test]
    fn an_address_stays_for_its_time_and_what_is_added_to_it() {
        let now = Instant::now();
        let second = Duration::from_secs(1);
        let mut table = table(10 * second);
        let until = |table: &Table, ttl| now + table.lasting(ttl);
        let (short, long) = (until(&table, second), until(&table, 5 * second));
        table.insert(address(1), &www(), long);
        table.insert(address(2), &www(), short);
        assert!(table.expire(now + 10 * second).is_empty());
        assert_eq!(table.expire(now + 11 * second), [address(2)]);
        // Seen again, it stays longer, and is not new.
        let later = long + 11 * second;
        assert!(table.renew(address(1), &www(), later));
        assert!(!table.renew(address(2), &www(), later));
        assert!(table.expire(now + 25 * second).is_empty());
        assert_eq!(table.expire(now + 26 * second), [address(1)]);
    }

    #[test]
    fn there_is_an_end_to_addresses_and_to_their_time() {
        let now = Instant::now();
        let mut table = table(Duration::MAX);
        let end = after(now, table.lasting(Duration::MAX));
        for number in 0..MOST as u32 {
            assert!(!table.is_full());
            let address = IpAddr::from((0x0a00_0000 + number).to_be_bytes());
            table.insert(address, &www(), end);
        }
        assert!(table.is_full());
        assert_eq!(table.expire(now + LONGEST).len(), MOST);
        assert_eq!(
            self::table(Duration::ZERO).lasting(Duration::MAX),
            LONGEST,
            "whatever the server says"
        );
    }

    #[test]
    fn what_is_led_by_a_name_is_no_setting_of_the_peer() {
        let mut table = table(Duration::ZERO);
        table.insert(address(1), &www(), Instant::now() + LONGEST);
        let leads = |peer, net: &str| table.leads(&PublicKey([peer; 32]), &net.parse().unwrap());
        assert!(leads(1, "192.0.2.1/32"));
        assert!(!leads(2, "192.0.2.1/32"));
        assert!(!leads(1, "192.0.2.2/32"));
        assert!(!leads(1, "192.0.2.1/31"));
    }
}
