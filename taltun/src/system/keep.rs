//! What was done to the host stays done: what others take away is put back.
//!
//! The kernel tells when addresses, routes, rules or nftables change, and then all of it is
//! looked at. What nobody tells of (settings, iptables, the resolver), and what was told while
//! there was too much to tell, is looked at every [`EVERY`]. Addresses, routes and rules are
//! simply made again: where they are, the kernel says that they exist, and a router's table
//! need not be read. A fight over one of them costs neither the log nor the machine: it is
//! told once a minute, and after a few rounds waits longer.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::TryStreamExt;
use rtnetlink::packet_route::address::AddressMessage;
use rtnetlink::packet_route::link::LinkFlags;
use rtnetlink::packet_route::route::RouteMessage;
use rtnetlink::packet_route::rule::RuleMessage;
use rtnetlink::{Handle, LinkUnspec};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, sleep_until};
use tracing::{debug, warn};

use super::error::errno;
use super::news::News;
use super::sysctl::{self, Settings};
use super::{dns, firewall, interface, network};
use crate::config::Dns;
use crate::report::{Missing, PutBack};

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
/// Times that something is put back without delay while others take it away again and again.
const ROUNDS: u32 = 8;
/// What was left alone for so long is a new story.
const STORY: Duration = Duration::from_secs(60);
/// The longest that a fight waits for its next round; a firewall's is [`EVERY`].
const LONGEST: Duration = Duration::from_secs(30);

/// The state of our interface, as `status` calls it.
const LINK: &str = "link state";

/// What is to be there.
#[derive(Debug, Clone, Default)]
pub(super) struct Made {
    /// The interface's name.
    pub(super) name: String,
    pub(super) addresses: Vec<AddressMessage>,
    pub(super) routes: Vec<RouteMessage>,
    pub(super) rules: Vec<RuleMessage>,
    pub(super) firewall: Option<(firewall::FirewallTool, firewall::Rules)>,
    pub(super) settings: Settings,
    /// Who tells the resolver what, and whether everything goes into the tunnel.
    pub(super) dns: Option<(dns::ResolverTool, Dns, bool)>,
}

/// What was put back and what couldn't be, for `status`.
#[derive(Debug, Clone, Default)]
pub struct Kept(Arc<Mutex<BTreeMap<&'static str, Story>>>);

/// What became of one kind of thing.
#[derive(Debug, Clone, Default)]
struct Story {
    times: u64,
    last: Option<Instant>,
    told: Option<Instant>,
    rounds: u32,
    not_before: Option<Instant>,
    missing: Option<String>,
}

impl Kept {
    /// What was put back, and how often.
    pub fn put_back(&self) -> Vec<PutBack> {
        let stories = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let told = stories.iter().filter_map(|(what, story)| {
            Some(PutBack {
                what: (*what).to_owned(),
                times: story.times,
                seconds_ago: story.last?.elapsed().as_secs(),
            })
        });
        told.collect()
    }

    /// What isn't there and can't be put back.
    pub fn missing(&self) -> Vec<Missing> {
        let stories = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let told = stories.iter().filter_map(|(what, story)| {
            Some(Missing {
                what: (*what).to_owned(),
                reason: story.missing.clone()?,
            })
        });
        told.collect()
    }

    fn with<T>(&self, what: &'static str, change: impl FnOnce(&mut Story) -> T) -> T {
        let mut stories = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        change(stories.entry(what).or_default())
    }

    /// Whether a fight over it goes into its next round already.
    fn may(&self, what: &'static str) -> bool {
        let stories = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let not_before = stories.get(what).and_then(|story| story.not_before);
        not_before.is_none_or(|at| Instant::now() >= at)
    }

    /// Remembers how putting it back went, and tells the log of it, though not again and again.
    fn note(&self, name: &str, what: &'static str, outcome: Result<(), String>, most: Duration) {
        let now = Instant::now();
        let recent = |at: Option<Instant>| at.is_some_and(|at| now - at < STORY);
        let (tell, times) = self.with(what, |story| {
            story.rounds = if recent(story.last) {
                story.rounds + 1
            } else {
                1
            };
            story.last = Some(now);
            if story.rounds > ROUNDS {
                let doubled = 1 << (story.rounds - ROUNDS).min(5);
                story.not_before = Some(now + Duration::from_secs(doubled).min(most));
            }
            if outcome.is_ok() {
                story.times += 1;
            }
            story.missing = outcome.as_ref().err().cloned();
            let tell = !recent(story.told);
            if tell {
                story.told = Some(now);
            }
            (tell, story.times)
        });
        match outcome {
            Ok(()) if tell && what == LINK => {
                warn!("{name} was set down, and was set up again; stop Taltun to end the tunnel");
            }
            Ok(()) if tell && times > 1 => {
                warn!("{name}: {what} went away again and were put back, {times} times by now");
            }
            Ok(()) if tell => warn!("{name}: {what} went away and were put back"),
            Err(reason) if tell && what == LINK => {
                warn!("{name} was set down, and can't be set up again: {reason}");
            }
            Err(reason) if tell => {
                warn!("{name}: {what} went away and can't be put back: {reason}");
            }
            outcome => debug!("{name}: {what}: {outcome:?}"),
        }
    }

    /// It is there.
    fn fine(&self, what: &'static str) {
        let mut stories = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(story) = stories.get_mut(what) {
            story.missing = None;
        }
    }
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
    let mut look = Look::start(&current()).await;
    let mut all_routes = Instant::now();
    // When last that was looked at which nobody tells of.
    let mut asked = Instant::now();
    let mut next = asked + EVERY;
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
        // An interface on its way out takes all of it along, and ends us.
        if interface::index(&now.name).is_some() {
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
            if due {
                look.resolver(&now, &kept).await;
            }
        }
        sleep(PAUSE).await;
        next = (asked + EVERY).max(Instant::now());
    }
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
        gone |= note(kept, made, "addresses", request.execute().await);
    }
    for rule in &made.rules {
        let mut request = handle.rule().add();
        *request.message_mut() = rule.clone();
        note(kept, made, "policy rules", request.execute().await);
    }
    // Routes go with the address that they are from.
    if !routes && !gone {
        return;
    }
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
        note(kept, made, "routes", added);
    }
}

/// Sets our interface up where somebody has set it down: at an orderly end nobody looks any
/// more. Whether it was down.
async fn set_up(handle: &Handle, made: &Made, kept: &Kept) -> bool {
    let Some(index) = interface::index(&made.name) else {
        return false;
    };
    let mut found = handle.link().get().match_index(index).execute();
    let Ok(Some(link)) = found.try_next().await else {
        return false;
    };
    if link.header.flags.contains(LinkFlags::Up) {
        kept.fine(LINK);
        return false;
    }
    if !kept.may(LINK) {
        return false;
    }
    let up = LinkUnspec::new_with_index(index).up().build();
    let outcome = handle.link().change(up).execute().await;
    let outcome = outcome.map_err(|error| error.to_string());
    kept.note(&made.name, LINK, outcome, LONGEST);
    true
}

/// Whether something was put back.
fn note(
    kept: &Kept,
    made: &Made,
    what: &'static str,
    outcome: Result<(), rtnetlink::Error>,
) -> bool {
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
    const WHAT: &str = "kernel settings";
    let changed = sysctl::differing(&made.settings);
    if changed.is_empty() {
        kept.fine(WHAT);
    } else if kept.may(WHAT) {
        let outcome = sysctl::set(&changed, &changed).map_err(|error| error.to_string());
        kept.note(&made.name, WHAT, outcome, LONGEST);
    }
}

/// How things looked when they were as they should be.
struct Look {
    /// The rules as listed, and what they were made of.
    listed: Option<(firewall::Rules, String)>,
    /// When they were last looked at.
    firewall_seen: Instant,
    /// Whether they have to be looked at again without news.
    again: bool,
    /// Whether the resolver is one that can be looked at.
    resolver: bool,
}

impl Look {
    async fn start(made: &Made) -> Self {
        let mut look = Self {
            listed: None,
            firewall_seen: Instant::now(),
            again: false,
            resolver: false,
        };
        if let Some((kind, rules)) = &made.firewall {
            look.learn(*kind, rules, &made.name).await;
        }
        if let Some((kind, dns, _)) = &made.dns {
            look.resolver = dns::is_set(*kind, &made.name, dns).await;
        }
        look
    }

    async fn learn(&mut self, kind: firewall::FirewallTool, rules: &firewall::Rules, name: &str) {
        if let Some(text) = firewall::listed(kind, name).await {
            self.listed = Some((rules.clone(), text));
        }
    }

    /// `told` is whether nftables changed, `due` whether what tells nothing is to be looked at.
    async fn firewall(&mut self, made: &Made, kept: &Kept, told: bool, due: bool) {
        const WHAT: &str = "firewall rules";
        // Where they can't be listed, nobody knows whether they are there.
        let (Some((kind, rules)), true) = (&made.firewall, self.listed.is_some()) else {
            return;
        };
        let look = match kind {
            firewall::FirewallTool::Nftables => {
                told || self.again || self.firewall_seen.elapsed() >= SELDOM
            }
            firewall::FirewallTool::Iptables => due,
        };
        if !look {
            return;
        }
        self.firewall_seen = Instant::now();
        self.again = false;
        let now = firewall::listed(*kind, &made.name).await;
        match &self.listed {
            // Others were made since.
            Some((of, _)) if of != rules => {
                self.listed = now.map(|text| (rules.clone(), text));
            }
            Some((_, before)) if now.as_ref() == Some(before) => kept.fine(WHAT),
            _ if kept.may(WHAT) => {
                let outcome = firewall::apply(*kind, rules).await;
                let failed = outcome.is_err();
                let most = if rules.kill_switch() { EVERY } else { LONGEST };
                kept.note(
                    &made.name,
                    WHAT,
                    outcome.map_err(|error| error.to_string()),
                    most,
                );
                if !failed {
                    self.learn(*kind, rules, &made.name).await;
                }
            }
            // Looked at again in the next round.
            _ => self.again = true,
        }
    }

    async fn resolver(&self, made: &Made, kept: &Kept) {
        const WHAT: &str = "name servers";
        let Some((kind, dns, everything)) = made.dns.as_ref().filter(|_| self.resolver) else {
            return;
        };
        if dns::is_set(*kind, &made.name, dns).await {
            kept.fine(WHAT);
        } else if kept.may(WHAT) {
            let outcome = dns::set_again(*kind, &made.name, dns, *everything).await;
            kept.note(
                &made.name,
                WHAT,
                outcome.map_err(|error| error.to_string()),
                LONGEST,
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_fight_is_told_once_a_minute_and_waits_longer_and_longer() {
        let kept = Kept::default();
        for round in 1..=40_u64 {
            assert!(round > u64::from(ROUNDS) || kept.may("routes"), "{round}");
            kept.note("t0", "routes", Ok(()), LONGEST);
            tokio::time::advance(Duration::from_millis(500)).await;
        }
        assert!(!kept.may("routes"));
        assert_eq!(kept.put_back()[0].times, 40);
        tokio::time::advance(LONGEST).await;
        assert!(kept.may("routes"));
        tokio::time::advance(STORY).await;
        kept.note("t0", "routes", Err("no".into()), LONGEST);
        assert!(kept.may("routes"));
        assert_eq!(kept.missing()[0].reason, "no");
        kept.fine("routes");
        assert!(kept.missing().is_empty());
    }
}
