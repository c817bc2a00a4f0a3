//! Keeps up the changes of the host: what others take away is put back.
//!
//! The kernel reports changes of addresses, routes, rules and nftables; then all of these are
//! checked. Settings, iptables and the resolver, and reports that were lost, are checked every
//! [`EVERY`]. Addresses, routes and rules are simply made again: if they are there, the kernel says
//! so, and a router's table need not be read. But another's route may have replaced ours, so the
//! kernel is also asked where it leads. Firewall rules are compared with those that were wanted,
//! never with those found at first.
//!
//! A renamed or moved interface is recognised by its number. Firewall and policy rules, which close
//! a kill switch, are kept up wherever the interface is.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::TryStreamExt;
use rtnetlink::packet_route::AddressFamily;
use rtnetlink::packet_route::address::AddressMessage;
use rtnetlink::packet_route::link::LinkFlags;
use rtnetlink::packet_route::route::RouteMessage;
use rtnetlink::packet_route::rule::RuleMessage;
use rtnetlink::{Handle, LinkUnspec};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, sleep_until};
use tracing::warn;

use super::error::errno;
use super::kept::{Kept, LONGEST};
use super::lead::{Lead, lead, take_back};
use super::news::News;
use super::sysctl::{self, Settings};
use super::{dns, firewall, network, policy};
use crate::config::Dns;
use crate::os::interface;
use crate::report::HostPart;

/// Routes, as `status` calls them.
const ROUTES: HostPart = HostPart::Routes;
/// Policy rules, as `status` calls them.
const RULES: HostPart = HostPart::PolicyRules;
/// How long an interface may be missing before the log says so.
const DELETED: Duration = Duration::from_millis(1200);
/// How often what nobody tells of is looked at.
const EVERY: Duration = Duration::from_secs(2);
/// How long more news may follow the first, so that one look does for all.
const GATHER: Duration = Duration::from_millis(50);
/// The least time from one look to the next.
const PAUSE: Duration = Duration::from_millis(500);
/// Beyond so many routes not all of them are tried each time.
const FEW: usize = 256;
/// How often many are tried unless there is news.
const SELDOM: Duration = Duration::from_secs(30);

/// What is to be there.
#[derive(Debug, Clone, Default)]
pub(super) struct Made {
    /// The interface's name.
    pub(super) name: String,
    /// The interface's number, once it is set up.
    pub(super) index: Option<u32>,
    pub(super) addresses: Vec<AddressMessage>,
    pub(super) routes: Vec<RouteMessage>,
    /// Those that the kernel made for the addresses.
    pub(super) connected: Vec<RouteMessage>,
    pub(super) rules: Vec<RuleMessage>,
    pub(super) firewall: Option<(firewall::FirewallTool, firewall::Rules)>,
    pub(super) settings: Settings,
    /// Who tells the resolver what, and whether everything goes into the tunnel.
    pub(super) dns: Option<(dns::ResolverTool, Dns, bool)>,
    /// How much of that the resolver shows.
    pub(super) resolver: dns::Shown,
}

/// Keeps what was made until it is stopped.
#[derive(Debug)]
pub(super) struct Keeper {
    made: Arc<Mutex<Made>>,
    /// Held while firewall rules are looked at and made.
    pub(super) firewall: Arc<tokio::sync::Mutex<()>>,
    task: JoinHandle<()>,
}

impl Keeper {
    /// Starts looking.
    pub(super) fn start(made: Made, kept: Kept) -> Self {
        let made = Arc::new(Mutex::new(made));
        let firewall = Arc::default();
        let task = tokio::spawn(keep(Arc::clone(&made), kept, Arc::clone(&firewall)));
        Self {
            made,
            firewall,
            task,
        }
    }

    /// Changes what is to be there.
    pub(super) fn change(&self, change: impl FnOnce(&mut Made)) {
        change(&mut self.made.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// Stops: from now on nothing is put back.
    pub(super) async fn stop(mut self) {
        self.task.abort();
        let _ = (&mut self.task).await;
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn keep(made: Arc<Mutex<Made>>, kept: Kept, firewall: Arc<tokio::sync::Mutex<()>>) {
    let Ok((connection, handle)) = network::connect() else {
        return warn!("what others change of this host isn't put back: no netlink");
    };
    let _connection = AbortOnDrop(connection);
    let mut news = News::listen();
    let current = || made.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let mut look = Look::new();
    let mut all_routes = Instant::now();
    // When last that was looked at which nobody tells of.
    let mut asked = Instant::now();
    // Something may be gone already.
    let mut next = asked;
    // Since when the interface isn't found.
    let mut gone = None;
    loop {
        let told = tokio::select! {
            told = news.next() => told,
            () = sleep_until(next) => super::news::Told::default(),
        };
        if told.any() {
            sleep(GATHER).await;
        }
        let start = Instant::now();
        let due = start >= asked + EVERY;
        if due {
            asked = start;
        }
        let now = current();
        let is_called = whereabouts(&now, &kept, &mut gone);
        let again = told.network || now.routes.len() <= FEW || all_routes.elapsed() > SELDOM;
        if again {
            all_routes = start;
        }
        put_back_network(&handle, &now, &kept, again, &made).await;
        put_back_settings(&now, &kept);
        {
            let _held = firewall.lock().await;
            let look_at = told.firewall || due && !news.tells_of_nftables();
            look.firewall(&current(), &kept, look_at, due).await;
        }
        if due && is_called {
            resolver(&now, &kept).await;
        }
        sleep(PAUSE).await;
        // Whether it was moved or deleted shows soon.
        let soon = gone.is_some_and(|since: Instant| since.elapsed() < 2 * DELETED);
        next = if soon { start } else { asked + EVERY }.max(Instant::now());
    }
}

/// Whether the interface is called what it was made as. Tells where it isn't.
fn whereabouts(made: &Made, kept: &Kept, gone: &mut Option<Instant>) -> bool {
    let name = &made.name;
    let Some(index) = made.index else {
        return true;
    };
    let closed = made
        .firewall
        .as_ref()
        .is_some_and(|(_, rules)| rules.kill_switch());
    let reason = match interface::name(index) {
        Some(now) if now == *name => {
            *gone = None;
            kept.is_here();
            return true;
        }
        Some(now) => {
            *gone = None;
            let outcome = if closed {
                "the kill switch stays closed and refuses what goes by it"
            } else {
                "firewall rules don't know it by that name"
            };
            format!(
                "it was renamed to {now}: {outcome}; rename it back (`ip link set {now} down`, \
                 then `ip link set {now} name {name}`), or start Taltun again"
            )
        }
        // One that was deleted ends us in a moment.
        None if gone.get_or_insert_with(Instant::now).elapsed() < DELETED => return false,
        None => {
            let outcome = if closed {
                "the kill switch stays closed, so nothing leaves"
            } else {
                "nothing is led into the tunnel here any more"
            };
            format!(
                "it isn't in this network namespace any more: {outcome}; move it back and start \
                 Taltun again, or run Taltun in the other namespace"
            )
        }
    };
    kept.is_away(name, &reason);
    false
}

struct AbortOnDrop(JoinHandle<()>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Makes addresses, routes and rules again; what exists stays as it is.
async fn put_back_network(
    handle: &Handle,
    made: &Made,
    kept: &Kept,
    routes: bool,
    shared: &Arc<Mutex<Made>>,
) {
    // Addresses and routes of an interface that is down go, or can't be made.
    let mut gone = set_up(handle, made, kept).await;
    for address in &made.addresses {
        let mut request = handle.address().add(0, [0, 0, 0, 0].into(), 0);
        *request.message_mut() = address.clone();
        gone |= note(kept, made, HostPart::Addresses, request.execute().await);
    }
    put_back_rules(handle, made, kept, shared).await;
    // Routes go with the address that they are from.
    if !routes && !gone {
        return;
    }
    for route in &made.connected {
        let added = handle.route().add(route.clone()).execute().await;
        note(kept, made, ROUTES, added);
    }
    let mut missing = false;
    let mut overruled = None;
    for route in &made.routes {
        let added = handle.route().add(route.clone()).execute().await;
        let wanted = || {
            let shared = shared.lock().unwrap_or_else(PoisonError::into_inner);
            shared.routes.contains(route)
        };
        if added.is_ok() && !wanted() {
            // It was released while we looked.
            let _ = handle.route().del(route.clone()).execute().await;
            continue;
        }
        if !exists(&added) {
            missing |= added.is_err();
            note(kept, made, ROUTES, added);
            continue;
        }
        // Or another, which the kernel takes for ours.
        match lead(handle, route).await {
            Lead::Ours => {}
            Lead::Another(_) if kept.may(ROUTES) => match take_back(handle, route).await {
                Ok(()) if !wanted() => {
                    let _ = handle.route().del(route.clone()).execute().await;
                }
                Ok(()) => kept.note(&made.name, ROUTES, Ok(()), LONGEST),
                Err(reason) => overruled = Some(reason),
            },
            Lead::Another(reason) | Lead::OtherTable(reason) => overruled = Some(reason),
        }
    }
    match overruled {
        Some(reason) => kept.overruled(&made.name, ROUTES, &reason),
        None if !missing => kept.fine(ROUTES),
        None => {}
    }
}

/// Makes policy rules again, and sees to it that they come first.
async fn put_back_rules(handle: &Handle, made: &Made, kept: &Kept, shared: &Arc<Mutex<Made>>) {
    let mut missing = false;
    for rule in &made.rules {
        let added = policy::make(handle, rule).await;
        if !exists(&added) {
            missing |= added.is_err();
            note(kept, made, RULES, added);
        }
    }
    for family in [AddressFamily::Inet, AddressFamily::Inet6] {
        let of_it = |rule: &&RuleMessage| rule.header.family == family;
        let ours: Vec<RuleMessage> = made.rules.iter().filter(of_it).cloned().collect();
        match policy::keep_first(handle, &ours).await {
            Ok(None) => {}
            Ok(Some(moved)) => {
                let mut shared = shared.lock().unwrap_or_else(PoisonError::into_inner);
                shared.rules.retain(|rule| rule.header.family != family);
                shared.rules.extend(moved);
                drop(shared);
                kept.note(&made.name, RULES, Ok(()), LONGEST);
            }
            Err(reason) => {
                kept.overruled(&made.name, RULES, &reason.to_string());
                missing = true;
            }
        }
    }
    if !missing {
        kept.fine(RULES);
    }
}

/// Whether the kernel says of what was to be added that it is there.
fn exists(added: &Result<(), rtnetlink::Error>) -> bool {
    added
        .as_ref()
        .err()
        .is_some_and(|error| errno(error) == Some(libc::EEXIST))
}

/// Sets our interface up where somebody has set it down: at an orderly end nobody looks any
/// more. Whether it was down.
async fn set_up(handle: &Handle, made: &Made, kept: &Kept) -> bool {
    let Some(index) = made.index else {
        return false;
    };
    let mut found = handle.link().get().match_index(index).execute();
    let Ok(Some(link)) = found.try_next().await else {
        return false;
    };
    if link.header.flags.contains(LinkFlags::Up) {
        kept.fine(HostPart::LinkState);
        return false;
    }
    if !kept.may(HostPart::LinkState) {
        return false;
    }
    let up = LinkUnspec::new_with_index(index).up().build();
    let outcome = handle.link().change(up).execute().await;
    let outcome = outcome.map_err(|error| error.to_string());
    kept.note(&made.name, HostPart::LinkState, outcome, LONGEST);
    true
}

/// Whether something was put back.
fn note(kept: &Kept, made: &Made, what: HostPart, outcome: Result<(), rtnetlink::Error>) -> bool {
    match outcome {
        Ok(()) => {
            kept.note(&made.name, what, Ok(()), LONGEST);
            true
        }
        Err(error) => match errno(&error) {
            Some(libc::EEXIST) => {
                kept.fine(what);
                false
            }
            // The interface is down, or on its way out.
            Some(libc::ENETDOWN | libc::ENODEV) => false,
            _ => {
                kept.note(&made.name, what, Err(error.to_string()), LONGEST);
                false
            }
        },
    }
}

fn put_back_settings(made: &Made, kept: &Kept) {
    const WHAT: HostPart = HostPart::KernelSettings;
    let changed = sysctl::differing(&made.settings);
    if changed.is_empty() {
        kept.fine(WHAT);
    } else if kept.may(WHAT) {
        let outcome = sysctl::set(&changed, &changed).map_err(|error| error.to_string());
        kept.note(&made.name, WHAT, outcome, LONGEST);
    }
}

/// Looks at the firewall.
struct Look {
    /// The rules as listed when all were there, and what they were made of.
    listed: Option<(firewall::Rules, String)>,
    /// When they were last looked at.
    firewall_seen: Instant,
    /// Whether they have to be looked at again without news.
    again: bool,
    /// A rule of others that was put before them.
    overtaken: Option<String>,
}

impl Look {
    fn new() -> Self {
        Self {
            listed: None,
            firewall_seen: Instant::now(),
            again: true,
            overtaken: None,
        }
    }

    /// Whether `rules` are there. Their listing is what they are compared with from then on;
    /// the first one has to have all that was made.
    async fn is_right(
        &mut self,
        kind: firewall::FirewallTool,
        rules: &firewall::Rules,
        name: &str,
    ) -> bool {
        let Some(now) = firewall::listed(kind, name).await else {
            return false;
        };
        self.overtaken = firewall::overtaken(kind, &now).map(str::to_owned);
        match &self.listed {
            Some((of, before)) if of == rules => now == *before,
            _ if firewall::holds(kind, rules, &now) => {
                self.listed = Some((rules.clone(), now));
                true
            }
            _ => false,
        }
    }

    /// `told` is whether nftables changed, `due` whether what tells nothing is to be looked at.
    async fn firewall(&mut self, made: &Made, kept: &Kept, told: bool, due: bool) {
        let Some((kind, rules)) = &made.firewall else {
            self.listed = None;
            return;
        };
        let changed = self.listed.as_ref().is_none_or(|(of, _)| of != rules);
        let look = match kind {
            firewall::FirewallTool::Nftables => told || self.firewall_seen.elapsed() >= SELDOM,
            firewall::FirewallTool::Iptables => due,
        };
        if !(look || changed || self.again) {
            return;
        }
        self.firewall_seen = Instant::now();
        self.again = false;
        if self.is_right(*kind, rules, &made.name).await {
            kept.fine(HostPart::FirewallRules);
        } else if kept.may(HostPart::FirewallRules) {
            let how = match self.overtaken.take() {
                Some(rule) => format!("had `{rule}` put before them"),
                None => "went away".to_owned(),
            };
            let outcome = firewall::apply(*kind, rules).await;
            let mut outcome = outcome.map_err(|error| error.to_string());
            // What it looks like is found out anew.
            self.listed = None;
            if outcome.is_ok() && !self.is_right(*kind, rules, &made.name).await {
                outcome = Err("they aren't there though they were made".to_owned());
            }
            self.again = outcome.is_err();
            let most = if rules.kill_switch() { EVERY } else { LONGEST };
            kept.note_how(&made.name, HostPart::FirewallRules, &how, outcome, most);
        } else {
            // Looked at again in the next round.
            self.again = true;
        }
    }
}

async fn resolver(made: &Made, kept: &Kept) {
    const WHAT: HostPart = HostPart::NameServers;
    let shown = made.resolver;
    let looked_at = made.dns.as_ref().filter(|_| shown != dns::Shown::Nothing);
    let Some((kind, dns, everything)) = looked_at else {
        return;
    };
    if dns::is_set(*kind, &made.name, dns, *everything, shown).await {
        kept.fine(WHAT);
    } else if kept.may(WHAT) {
        let outcome = dns::set_again(*kind, &made.name, dns, *everything, shown).await;
        kept.note(
            &made.name,
            WHAT,
            outcome.map_err(|error| error.to_string()),
            LONGEST,
        );
    }
}
