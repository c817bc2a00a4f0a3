//! Addresses that names in `[dns_routes]` have: routed to their peer while they are, and for
//! a while longer, and let go then.
//!
//! Whoever answers questions about a name decides what its addresses are, so not every address
//! is believed: none that belongs to another peer, to this machine or to a network that it is
//! connected to, and none that the tunnel itself needs. Those are refused, and the question is
//! answered with a failure.
//!
//! Programs remember addresses beyond our end, whatever that was. So what is led is kept on
//! disk, and led again at the next start.
//!
//! Questions are answered by the [name service](crate::name_service), which says what it
//! [learned] and waits for the routes.
//!
//! [learned]: Learned
//!
//! | file | concern |
//! |---|---|
//! | [`table`] | which addresses are led, and until when; pure |
//! | [`tunnel_routes`] | gives addresses to a peer, and says which must not be |
//! | [`watch`] | whether they really go into the tunnel |
//! | [`kept`] | what the next start leads again |

mod kept;
mod refusals;
mod table;
mod tunnel_routes;
mod watch;

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use tokio::sync::watch::Sender;
use tokio::time::Instant;
use tracing::{debug, info};

use self::kept::{Led, LedNames, Names};
use self::refusals::Refusals;
use self::table::{MOST, Table, after};
use self::tunnel_routes::Verdict;
use self::watch::LedWatch;
use super::dirs;
use crate::config::{DnsRoutes, Interface};
use crate::crypto::PublicKey;
use crate::name_service::{LONGEST, Learned};
use crate::report::NameAround;
use crate::system::Host;

pub(super) use self::tunnel_routes::TunnelRoutes;

/// The addresses that are routed because of a name.
#[derive(Debug)]
pub(super) struct RoutedNames {
    table: Table,
    /// Tells the name service what the file says by now.
    told: Sender<Arc<DnsRoutes>>,
    /// Whether they go where they are led.
    watch: LedWatch,
    refusals: Refusals,
    /// What the next start leads again, and what this one does.
    kept: LedNames,
    before: Vec<Led>,
}

impl RoutedNames {
    /// Nothing yet but what the tunnel of this `interface` led before; `told` tells the name service.
    pub(super) fn new(told: Sender<Arc<DnsRoutes>>, interface: &Interface) -> Self {
        let key = interface.private_key.public_key();
        let (kept, before) = LedNames::of(&dirs::state(), &interface.tun_name, &key);
        let routes = Arc::clone(&told.borrow());
        Self {
            table: Table::new(routes),
            told,
            watch: LedWatch::default(),
            refusals: Refusals::default(),
            kept,
            before,
        }
    }

    /// Whether the peer has the network only because a name is there.
    pub(super) fn leads(&self, peer: &PublicKey, net: &IpNet) -> bool {
        self.table.leads(peer, net)
    }

    /// What goes around the tunnel and was told.
    pub(super) fn around(&self) -> Vec<NameAround> {
        self.watch.around()
    }

    /// Routes or rules of the host may have changed.
    pub(super) fn look_again(&mut self) {
        self.watch.look_again();
    }

    /// Leads addresses that a name has into the tunnel, and to its peer.
    pub(super) async fn learn(
        &mut self,
        learned: Learned,
        routes: &mut TunnelRoutes<'_>,
        host: &mut Option<Host>,
    ) {
        let Learned {
            mut names,
            addresses,
            done,
        } = learned;
        // The list may have changed meanwhile.
        names.retain(|name| self.table.routes().includes(name));
        let (mut all, mut led) = (true, Vec::new());
        for (address, ttl) in addresses {
            if names.is_empty() {
                break;
            }
            let lasting = self.table.lasting(ttl);
            match self.lead(address, &names, lasting, routes, host).await {
                Ok(true) => {
                    let names = names.iter();
                    led.extend(names.map(|name| (address, name.clone(), lasting)));
                }
                Ok(false) => {}
                Err(reason) => {
                    let so = "the question is answered with a failure";
                    self.refusals.tell(address, so, &reason, Instant::now());
                    all = false;
                }
            }
        }
        // Who asked may have given up.
        if !all || led.is_empty() {
            let _ = done.send(all);
            return;
        }
        let kept = self.kept.clone();
        tokio::spawn(async move {
            // It comes to an end, or the process does.
            let _ = tokio::task::spawn_blocking(move || kept.keep(&led)).await;
            let _ = done.send(true);
        });
    }

    /// Leads one address; false if it goes there by itself. The error is why it isn't led.
    async fn lead(
        &mut self,
        address: IpAddr,
        names: &[String],
        lasting: Duration,
        routes: &mut TunnelRoutes<'_>,
        host: &mut Option<Host>,
    ) -> Result<bool, String> {
        let until = after(Instant::now(), lasting);
        let index = host.as_ref().map_or(0, Host::index);
        let goes_around = |is_made: bool| {
            let around = is_made.then(|| watch::around(address, index));
            around.flatten()
        };
        if self.table.renew(address, names, until) {
            return goes_around(host.is_some()).map_or(Ok(true), Err);
        }
        match routes.verdict(self.table.routes(), address, index) {
            Verdict::There => {
                self.watch.note(address, until);
                return goes_around(host.is_some()).map_or(Ok(false), Err);
            }
            Verdict::Refuse(reason) => return Err(reason),
            Verdict::Lead => {}
        }
        if self.table.is_full() {
            return Err(format!(
                "{MOST} addresses are led already, which is the most"
            ));
        }
        let via = self.table.routes().via;
        if !routes.give(&via, &[address]) {
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
                routes.take(&via, &[address]);
                return Err(reason);
            }
        }
        self.table.insert(address, names, until);
        Ok(true)
    }

    /// Leads addresses that were led before this start, as programs may remember them still:
    /// those of names that are of the list by now.
    pub(super) async fn lead_remembered(
        &mut self,
        routes: &mut TunnelRoutes<'_>,
        host: &mut Option<Host>,
    ) {
        let (now, longest) = (Instant::now(), self.table.lasting(LONGEST));
        let mut before: HashMap<IpAddr, Names<Instant>> = HashMap::new();
        for (address, name, left) in std::mem::take(&mut self.before) {
            if self.table.routes().includes(&name) {
                let until = after(now, left.min(longest));
                before.entry(address).or_default().note(&name, until);
            }
        }
        let index = host.as_ref().map_or(0, Host::index);
        let so = "what remembers it from before this start goes around the tunnel";
        before.retain(
            |address, _| match routes.verdict(self.table.routes(), *address, index) {
                Verdict::There => false,
                Verdict::Lead => true,
                Verdict::Refuse(reason) => {
                    self.refusals.tell(*address, so, &reason, now);
                    false
                }
            },
        );
        // All to the peer at once, as each edit goes through all routes.
        let addresses: Vec<IpAddr> = before.keys().copied().take(MOST).collect();
        let via = self.table.routes().via;
        if !routes.give(&via, &addresses) {
            return;
        }
        let mut refused = Vec::new();
        for address in addresses {
            if let Some(host) = host
                && let Err(error) = host.lead(address.into()).await
            {
                self.refusals.tell(address, so, &error.to_string(), now);
                refused.push(address);
            } else if let Some(names) = before.remove(&address) {
                self.table.insert_names(address, names);
            }
        }
        self.watch.look_again();
        if !refused.is_empty() {
            routes.take(&via, &refused);
        }
        match self.table.len() {
            0 => {}
            1 => info!("dns_routes: 1 address of before this start leads into the tunnel again"),
            number => info!(
                "dns_routes: {number} addresses of before this start lead into the tunnel again"
            ),
        }
    }

    /// Takes over what the file says of names by now: those that aren't of the list any more
    /// are let go at the next look, and the others lead to the peer that it names. What peers
    /// own comes after this, and [`Self::lead_again`] after that.
    pub(super) fn change(&mut self, new: &DnsRoutes, routes: &mut TunnelRoutes<'_>) {
        let before = self.table.routes().via;
        if **self.table.routes() == *new {
            return;
        }
        let new = Arc::new(new.clone());
        let lost = self.table.replace(Arc::clone(&new));
        if before != new.via {
            let all: Vec<IpAddr> = self.table.addresses().chain(lost).collect();
            routes.take(&before, &all);
        }
        self.told.send_replace(new);
    }

    /// Lets go of addresses whose time is over; call it once a second.
    pub(super) async fn expire(&mut self, routes: &mut TunnelRoutes<'_>, host: &mut Option<Host>) {
        let over = self.table.take_expired(Instant::now());
        if over.is_empty() {
            return;
        }
        for address in &over {
            debug!("dns_routes: {address} goes its own way again");
            if let Some(host) = host.as_mut() {
                host.release((*address).into()).await;
            }
        }
        routes.take(&self.table.routes().via, &over);
    }

    /// Gives the peer all of them again, after networks of peers were set anew. Those that
    /// another peer owns by now are let go.
    pub(super) fn lead_again(&mut self, routes: &mut TunnelRoutes<'_>) {
        if self.table.len() == 0 {
            return;
        }
        let via = self.table.routes().via;
        let lost = self.table.lose(|address| routes.is_anothers(address, &via));
        routes.take(&via, &lost);
        let kept: Vec<IpAddr> = self.table.addresses().collect();
        routes.give(&via, &kept);
    }

    /// Looks where addresses go that names have; call it once a second.
    pub(super) fn look(&mut self, host: &Host) {
        let now = Instant::now();
        for address in self.watch.due(self.table.addresses(), now) {
            let found = watch::around(address, host.index());
            if let Some(reason) = self.watch.take(address, found) {
                let so = "what remembers it goes around the tunnel";
                self.refusals.tell(address, so, &reason, now);
            }
        }
    }
}
