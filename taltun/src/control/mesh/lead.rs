//! The hubs of a group stand in for each other: one of them has the address that they share, and starts
//! handshakes with the peers of hubs that are gone or give theirs up.
//!
//! A peer that isn't Taltun would notice after 15 s at the earliest that its hub doesn't answer. The hub that
//! stands in knows where the peer was, and has the key that it knows. So it starts the handshake, and the
//! peer is here after one round trip.
//!
//! A hub that gives up its peers and the shared address is still there while they move, and no packet is lost: it opens
//! what they send until they have a session with the next hub, which passes that on to it; and answers on these
//! sessions, from the shared address, which it keeps for that without telling the neighbours.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use taltun_fleet::Home;
use taltun_fleet::mesh::lead::{Other, is_to_lead};
use taltun_fleet::mesh::path;
use tracing::info;

use super::{Hub, Mesh, Target, since_start};
use crate::crypto::PublicKey;
use crate::protocol::peer::{Endpoint, Local, Peer, PeerId};
use crate::protocol::time::Time;
use crate::system::{Hold, SharedAddress};

/// How often it looks who leads: a part of what it takes to miss a hub.
const LOOK: Duration = Duration::from_millis(50);
/// How long after the start it waits for hubs that it doesn't hear: a first handshake that was lost is
/// made again after five seconds. One that it hears may lead already.
const SETTLED: Duration = Duration::from_secs(7);
/// How long a peer counts as there that was told of.
const ACTIVE: Duration = Duration::from_secs(180);
/// Handshakes that are started at once, each [`PACE`].
const AT_ONCE: usize = 20;
const PACE: Duration = Duration::from_millis(20);
/// How long until it looks again whether it has the address.
const WAIT: Duration = Duration::from_millis(2);
/// How long after a process was stopped it waits for the others: they speak each [`path::BEAT`], on sessions that are
/// there.
const SETTLED_AGAIN: Duration = Duration::from_secs(1);
/// A process that was stopped for longer may have to make sessions anew.
const SESSIONS_LAST: Duration = Duration::from_secs(120);
/// When a peer that was started with and doesn't speak is spoken to again, each after the one before. A message may
/// be lost, and a peer that has nothing to say doesn't tell that it has the session.
const AGAIN: [Duration; 5] = [
    Duration::from_millis(100),
    Duration::from_millis(200),
    Duration::from_millis(400),
    Duration::from_millis(800),
    Duration::from_millis(1600),
];
/// How long a hub that handed its peers over goes on with their sessions, after the last one has left it.
const LINGER: Duration = Duration::from_secs(3);
/// How long it goes on at the most, and how long others pass on to it what is its.
const LINGER_MOST: Duration = Duration::from_secs(60);

/// What this hub is in its group.
#[derive(Debug)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is something else that this hub does or knows"
)]
pub(super) struct Lead {
    group: String,
    address: Option<IpAddr>,
    /// Holds that address.
    shared: Option<SharedAddress>,
    pub(super) leads: bool,
    /// Whether this hub gives up its peers.
    pub(super) leaving: bool,
    started_at: Time,
    /// Since when it listens for the others.
    begun: Time,
    /// How long it waits for them.
    patience: Duration,
    /// Whether it heard all others since, or has waited for them.
    settled: bool,
    /// Whether it had heard them before its process was stopped.
    is_resuming: bool,
    /// Whether it led when its process was stopped. It goes on if no other hub leads by now, and says nothing until it
    /// knows.
    pub(super) wavers: bool,
    /// From when on it judges which others are gone: they answer again by then.
    judges_from: Time,
    next_look: Time,
    /// Peers to start with, in their order.
    queue: VecDeque<PublicKey>,
    next_start: Option<Time>,
    /// Peers that were started with, and neither came nor went elsewhere.
    started: HashSet<PublicKey>,
    /// When which of these, or of those that came and didn't speak yet, is spoken to again.
    again: BTreeMap<(Time, PublicKey), Again>,
    /// Until when, at the most, this hub keeps the address although another one leads.
    lingers_until: Option<Time>,
    /// Since when no peer is at home here, while it keeps the address.
    left_since: Option<Time>,
    /// Until when, at the most, what is other hubs' is passed on to them.
    passes_until: Option<Time>,
}

/// A peer that is spoken to again.
#[derive(Debug, Clone, Copy)]
struct Again {
    at: Endpoint,
    /// How often that was done.
    times: usize,
    /// Whether it is let go where it doesn't answer.
    lets_go: bool,
}

impl Lead {
    pub(super) fn new(group: String, address: Option<IpAddr>, tunnel: &str, now: Time) -> Self {
        Self {
            group,
            shared: address.map(|address| SharedAddress::start(address, tunnel)),
            address,
            leads: false,
            leaving: false,
            started_at: now,
            begun: now,
            patience: SETTLED,
            settled: false,
            is_resuming: false,
            wavers: false,
            judges_from: now,
            next_look: now,
            queue: VecDeque::new(),
            next_start: None,
            started: HashSet::new(),
            again: BTreeMap::new(),
            lingers_until: None,
            left_since: None,
            passes_until: None,
        }
    }

    /// When there is something to do.
    pub(super) fn next_at(&self) -> Time {
        let again = self.again.keys().next().map(|(at, _)| *at);
        let next = self.next_start.into_iter().chain(again);
        next.chain([self.next_look]).min().unwrap_or(self.next_look)
    }

    /// Whether a peer that another hub has by now was handed over to it.
    pub(super) fn hands_over(&self, peer: &Peer) -> bool {
        // It may hear of that before it hears who leads.
        let is_held = self.shared.as_ref().is_some_and(SharedAddress::is_held);
        let local = peer.endpoint().and_then(|at| at.local);
        is_held && local.is_some_and(|local| self.is_shared(local))
    }

    /// Whether this is the address that the group shares.
    pub(super) fn is_shared(&self, local: Local) -> bool {
        Some(local.address.to_canonical()) == self.address
    }

    /// Whether this hub gives its peers up, or did a moment ago.
    pub(super) fn gives_up(&self) -> bool {
        self.leaving || self.lingers_until.is_some()
    }

    /// This process was stopped, or starts: it has to hear the others.
    fn begin_anew(&mut self, stopped_at: Time, now: Time) {
        self.is_resuming |= self.settled;
        self.patience = if self.is_resuming && now.since(stopped_at) < SESSIONS_LAST {
            SETTLED_AGAIN
        } else {
            SETTLED
        };
        (self.settled, self.begun) = (false, now);
        self.judges_from = now + self.patience + path::GONE;
        if self.leads {
            self.wavers = true;
            self.hold(Hold::Sends);
        }
    }

    fn hold(&self, what: Hold) {
        if let Some(shared) = &self.shared {
            shared.hold(what);
        }
    }

    /// A peer is at home here, or elsewhere. Whether this hub was starting with it.
    pub(super) fn settled(&mut self, peer: &PublicKey) -> bool {
        self.started.remove(peer)
    }

    /// Whether this hub is starting with a peer.
    pub(super) fn is_starting(&self, peer: &PublicKey) -> bool {
        self.started.contains(peer)
    }

    fn is_of_group(&self, hub: &Hub) -> bool {
        hub.is.group.as_ref() == Some(&self.group) && hub.is.shared == self.address
    }
}

impl Mesh {
    /// Whether it has heard the other hubs of its group, or has waited for them.
    pub(in crate::control) fn is_settled(&self, now: Time) -> bool {
        let waited = |lead: &Lead| now.since(lead.started_at) >= SETTLED;
        self.lead
            .as_ref()
            .is_none_or(|lead| lead.settled || waited(lead))
    }

    /// Looks whether this hub is to stand in for others, and does what is due of that.
    pub(super) fn stand_in(&mut self, target: &mut Target<'_>) {
        let now = target.now;
        let Some(lead) = &mut self.lead else { return };
        if lead.next_look <= now {
            // A process that was stopped knows nothing of the others, and they had to do without it.
            let before = lead.next_look;
            let was_stopped = now.since(before) >= path::GONE;
            lead.next_look = now + LOOK;
            if was_stopped {
                lead.begin_anew(before, now);
                for hub in self.hubs.values_mut() {
                    // Who was away before is nobody to wait for, but at the start.
                    hub.awaited = !lead.is_resuming || hub.path.is_up(since_start(before));
                    (hub.spoke, hub.leads, hub.led) = (false, false, false);
                }
            }
            self.look_who_leads(target);
            self.end_handing_over(target);
        }
        let due = |lead: &Lead| lead.next_start.is_some_and(|at| at <= now);
        if self.lead.as_ref().is_some_and(due) {
            self.start_some(target);
        }
        self.speak_again(target);
    }

    fn look_who_leads(&mut self, target: &mut Target<'_>) {
        let now = since_start(target.now);
        let Some(lead) = &mut self.lead else { return };
        // Who isn't in the fleet, or isn't any more, hears none of its hubs, and may have been replaced. Once it is
        // in it, it has to hear them before it leads.
        let is_believed = self.standing.is_believed();
        if !is_believed {
            (lead.settled, lead.begun, lead.patience) = (false, target.now, SETTLED);
            lead.is_resuming = false;
            for hub in self.hubs.values_mut() {
                hub.awaited = true;
            }
        }
        let is_up = |hub: &Hub| hub.path.is_up(now);
        let mut of_group = self.hubs.values().filter(|hub| lead.is_of_group(hub));
        let wavers = lead.wavers;
        let is_heard = |hub: &Hub| !hub.awaited || hub.spoke && (wavers || is_up(hub));
        let hears_all = !self.hubs.is_empty() && of_group.all(is_heard);
        lead.settled |= is_believed && hears_all || target.now.since(lead.begun) >= lead.patience;
        if wavers && !lead.settled && is_believed {
            return;
        }
        if hears_all && !wavers {
            lead.judges_from = lead.judges_from.min(target.now);
        }
        lead.wavers = false;
        // Who spoke since this process went on is there, though it had no time to answer.
        let judges = target.now >= lead.judges_from;
        let is_there = |hub: &Hub| is_up(hub) || !judges && hub.spoke;
        let others = self.hubs.values();
        let others = others.filter(|hub| lead.is_of_group(hub) && is_there(hub));
        let others = others.map(|hub| Other {
            name: &hub.label,
            leads: hub.leads,
            leaving: hub.leaving,
        });
        let own = &self.homes.own;
        let mut given_up = Vec::new();
        // Who leads by now goes on with it.
        let is_replaced = wavers && others.clone().any(|other| other.leads && !other.leaving);
        let leads = is_believed
            && lead.settled
            && !is_replaced
            && is_to_lead(own, lead.leads, lead.leaving, &others);
        if wavers && leads {
            lead.hold(Hold::Leads);
        }
        if leads != lead.leads {
            let what = if leads { "leads" } else { "doesn't lead" };
            info!(
                "fleet: this hub {what} the group {} from now on",
                lead.group
            );
            lead.leads = leads;
            lead.lingers_until = None;
            if leads {
                lead.hold(Hold::Leads);
            } else {
                // Who leads now starts with them.
                lead.queue.clear();
                given_up.extend(lead.started.drain());
                lead.again.clear();
                // One that was stopped has nothing to go on with: the other hub has its peers already.
                if lead.settled && is_believed && !wavers {
                    (lead.lingers_until, lead.left_since) = (Some(target.now + LINGER_MOST), None);
                    lead.hold(Hold::Sends);
                } else {
                    lead.hold(Hold::No);
                }
            }
            // The others hear of it at once.
            self.next_beat = target.now;
        }
        // Those that didn't come are left to who has them.
        if !given_up.is_empty() {
            return self.lead(given_up, target);
        }
        self.look_who_is_gone(target);
    }

    /// Stands in for other hubs that are gone or give their peers up, if this one leads.
    fn look_who_is_gone(&mut self, target: &mut Target<'_>) {
        let now = since_start(target.now);
        let Some(lead) = &mut self.lead else { return };
        let (leads, judges) = (lead.leads, target.now >= lead.judges_from);
        let is_up = |hub: &Hub| hub.path.is_up(now) || !judges;
        let (mut gone, mut given) = (Vec::new(), Vec::new());
        for hub in self.hubs.values_mut().filter(|hub| lead.is_of_group(hub)) {
            // One that led until now has peers that come here from now on.
            let is_gone = !is_up(hub) || hub.leaving || (hub.led && !hub.leads);
            if is_gone && leads && !hub.stood_in {
                hub.stood_in = true;
                gone.push(hub.label.clone());
                if is_up(hub) {
                    given.push(hub.is.public_key);
                }
            } else if !is_gone {
                hub.stood_in = false;
            }
            if !is_up(hub) {
                // What it said before is over. It says what it is once it is back.
                (hub.leads, hub.leaving, hub.spoke) = (false, false, false);
            }
            hub.led = hub.leads || (hub.led && !leads);
        }
        if gone.is_empty() {
            return;
        }
        let peers = self.homes.with(|homes| {
            let theirs = homes.all().filter(|(_, home)| gone.contains(&home.hub));
            theirs.map(|(peer, _)| *peer).collect::<Vec<_>>()
        });
        let places = &self.places;
        let active = peers.into_iter().filter(|peer| {
            places
                .get(peer)
                .is_some_and(|(_, at)| target.now.since(*at) < ACTIVE)
        });
        let before = lead.queue.len();
        lead.queue.extend(active);
        let names: Vec<&str> = gone.iter().map(taltun_fleet::Label::as_str).collect();
        info!(
            "fleet: this hub stands in for {}: {} active peers",
            names.join(", "),
            lead.queue.len() - before
        );
        lead.next_start = Some(target.now);
        // Before the neighbours send here what is theirs.
        let given = given.iter().filter_map(|key| target.device.peer(key));
        let given: Vec<PeerId> = given.map(|hub| hub.id()).collect();
        if !given.is_empty() {
            lead.passes_until = Some(target.now + LINGER_MOST);
            target.device.pass_misrouted_to(given);
            target.shield.set_passes_misrouted(true);
        }
    }

    /// Ends what is done only while peers move from a hub that gives them up: of this hub's peers, and of others'.
    fn end_handing_over(&mut self, target: &mut Target<'_>) {
        let now = target.now;
        let Some(lead) = &mut self.lead else { return };
        if let Some(until) = lead.lingers_until {
            let own = &self.homes.own;
            let is_own = |home: &Home| home.hub == *own;
            let has_any = || {
                self.homes
                    .with(|homes| homes.all().any(|(_, home)| is_own(home)))
            };
            lead.left_since = if has_any() {
                None
            } else {
                lead.left_since.or(Some(now))
            };
            let is_left = lead
                .left_since
                .is_some_and(|since| now.since(since) >= LINGER);
            if is_left || now >= until {
                lead.lingers_until = None;
                lead.hold(Hold::No);
            }
        }
        let is_busy = !lead.queue.is_empty() || !lead.again.is_empty();
        if let Some(until) = lead.passes_until
            && (!is_busy || now >= until)
        {
            lead.passes_until = None;
            target.device.pass_misrouted_to(Vec::new());
            target.shield.set_passes_misrouted(false);
        }
    }

    /// Speaks again to peers that were started with and didn't speak since.
    fn speak_again(&mut self, target: &mut Target<'_>) {
        let now = target.now;
        let Some(lead) = &mut self.lead else { return };
        let (mut ended, mut let_go) = (Vec::new(), Vec::new());
        while let Some(first) = lead.again.first_entry()
            && first.key().0 <= now
        {
            let ((_, key), again) = first.remove_entry();
            let Again { at, times, .. } = again;
            if lead.started.contains(&key) {
                // It may be far away: each second time is early enough.
                if times % 2 == 1 {
                    target.device.take_over(&key, at, now);
                }
            } else {
                let home = self.homes.with(|homes| homes.get(&key).cloned());
                let is_here = home.is_some_and(|home| home.hub == self.homes.own);
                let peer = target.device.peer(&key);
                if !is_here || peer.is_none_or(|peer| peer.has_spoken()) {
                    ended.push(key);
                    continue;
                }
                target.device.keep_alive(&key, now);
            }
            let times = times + 1;
            if let Some(wait) = AGAIN.get(times) {
                lead.again
                    .insert((now + *wait, key), Again { times, ..again });
            } else {
                ended.push(key);
                if again.lets_go && lead.started.remove(&key) {
                    let_go.push(key);
                }
            }
        }
        for key in ended {
            self.expect_misrouted(&key, target);
        }
        self.lead(let_go, target);
    }

    /// Starts a handshake with a peer of another hub, where that hub said that it is. Where it doesn't answer within
    /// some seconds, it is let go, if that is wanted, and not tried for longer.
    pub(super) fn start_with(
        &mut self,
        key: &PublicKey,
        at: Endpoint,
        lets_go: bool,
        target: &mut Target<'_>,
    ) {
        let now = target.now;
        let Some(lead) = &mut self.lead else { return };
        lead.started.insert(*key);
        let first = Again {
            at,
            times: 0,
            lets_go,
        };
        lead.again.insert((now + AGAIN[0], *key), first);
        target.device.take_over(key, at, now);
    }

    fn start_some(&mut self, target: &mut Target<'_>) {
        let now = target.now;
        let Some(lead) = &mut self.lead else { return };
        if lead.shared.as_ref().is_some_and(|shared| !shared.is_held()) {
            // Nothing can leave from it yet. A hub that leads no more doesn't get it.
            lead.next_start = lead.leads.then_some(now + WAIT);
            return;
        }
        let mut started = Vec::new();
        for _ in 0..AT_ONCE {
            let Some(peer) = lead.queue.pop_front() else {
                break;
            };
            let home = self.homes.with(|homes| homes.get(&peer).cloned());
            let is_here = home.is_none_or(|home| home.hub == self.homes.own);
            let is_started = is_here || lead.is_starting(&peer);
            let Some((at, _)) = self.places.get(&peer).filter(|_| !is_started) else {
                continue;
            };
            let endpoint = Endpoint {
                // Its answer has to come here.
                local: lead.address.map(|address| Local {
                    address,
                    interface: 0,
                }),
                ..Endpoint::from(*at)
            };
            started.push((peer, endpoint));
        }
        lead.next_start = (!lead.queue.is_empty()).then_some(now + PACE);
        for (peer, endpoint) in started {
            self.start_with(&peer, endpoint, false, target);
        }
    }

    /// Gives up this hub's peers, or has peers again. Returns how many it has.
    pub(in crate::control) fn drain(
        &mut self,
        leaving: bool,
        target: &Target<'_>,
    ) -> Result<u64, String> {
        let lead = self.lead.as_mut().ok_or(
            "this hub is in no group, so that no other hub can take its peers; give the hubs the same \
             fleet.group",
        )?;
        let now = since_start(target.now);
        let mut others = self.hubs.values();
        let can_take =
            others.any(|hub| lead.is_of_group(hub) && hub.path.is_up(now) && !hub.leaving);
        if leaving && !can_take {
            return Err(format!(
                "no other hub of the group {} answers, so that none can take the peers (nothing was \
                 changed)",
                lead.group
            ));
        }
        lead.leaving = leaving;
        self.next_beat = target.now;
        let own = &self.homes.own;
        let count = self
            .homes
            .with(|homes| homes.all().filter(|(_, home)| home.hub == *own).count());
        Ok(count as u64)
    }
}

/// Where peers of other hubs are, and when that was told.
pub(super) type Places = HashMap<PublicKey, (SocketAddr, Time)>;
