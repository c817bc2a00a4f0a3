//! The hubs of a group stand in for each other: one of them has the address that they share, and starts
//! handshakes with the peers of hubs that are gone or give theirs up.
//!
//! A peer that isn't Taltun would notice after 15 s at the earliest that its hub doesn't answer. The hub that
//! stands in knows where the peer was, and has the key that it knows. So it starts the handshake, and the
//! peer is here after one round trip.

use std::collections::{HashMap, HashSet, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use taltun_fleet::mesh::lead::{Other, is_to_lead};
use taltun_fleet::mesh::path;
use tracing::info;

use super::{Hub, Mesh, Target, since_start};
use crate::crypto::PublicKey;
use crate::protocol::peer::{Endpoint, Local};
use crate::protocol::time::Time;
use crate::system::SharedAddress;

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

/// What this hub is in its group.
#[derive(Debug)]
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
    /// Whether it heard all others since, or has waited for them.
    settled: bool,
    next_look: Time,
    /// Peers to start with, in their order.
    queue: VecDeque<PublicKey>,
    next_start: Option<Time>,
    /// Peers that were started with, and neither came nor went elsewhere.
    started: HashSet<PublicKey>,
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
            settled: false,
            next_look: now,
            queue: VecDeque::new(),
            next_start: None,
            started: HashSet::new(),
        }
    }

    /// When there is something to do.
    pub(super) fn next_at(&self) -> Time {
        self.next_start
            .map_or(self.next_look, |start| start.min(self.next_look))
    }

    /// A peer is at home here, or elsewhere.
    pub(super) fn settled(&mut self, peer: &PublicKey) {
        self.started.remove(peer);
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
            let was_stopped = now.since(lead.next_look) >= path::GONE;
            lead.next_look = now + LOOK;
            if was_stopped {
                (lead.settled, lead.begun) = (false, now);
                for hub in self.hubs.values_mut() {
                    hub.spoke = false;
                }
            }
            self.look_who_leads(target);
        }
        let due = |lead: &Lead| lead.next_start.is_some_and(|at| at <= now);
        if self.lead.as_ref().is_some_and(due) {
            self.start_some(target);
        }
    }

    fn look_who_leads(&mut self, target: &mut Target<'_>) {
        let now = since_start(target.now);
        let Some(lead) = &mut self.lead else { return };
        // Who isn't in the fleet, or isn't any more, hears none of its hubs, and may have been replaced. Once it is
        // in it, it has to hear them before it leads.
        let is_believed = self.standing.is_believed();
        if !is_believed {
            (lead.settled, lead.begun) = (false, target.now);
        }
        let is_up = |hub: &Hub| hub.path.is_up(now);
        let mut of_group = self.hubs.values().filter(|hub| lead.is_of_group(hub));
        let hears_all = !self.hubs.is_empty() && of_group.all(|hub| hub.spoke && is_up(hub));
        lead.settled |= is_believed && hears_all || target.now.since(lead.begun) >= SETTLED;
        let others = self
            .hubs
            .values()
            .filter(|hub| lead.is_of_group(hub) && is_up(hub));
        let others = others.map(|hub| Other {
            name: &hub.label,
            leads: hub.leads,
            leaving: hub.leaving,
        });
        let own = &self.homes.own;
        let mut given_up = Vec::new();
        let leads =
            is_believed && lead.settled && is_to_lead(own, lead.leads, lead.leaving, &others);
        if leads != lead.leads {
            let what = if leads { "leads" } else { "doesn't lead" };
            info!(
                "fleet: this hub {what} the group {} from now on",
                lead.group
            );
            lead.leads = leads;
            if let Some(shared) = &lead.shared {
                shared.lead(leads);
            }
            if !leads {
                // Who leads now starts with them.
                lead.queue.clear();
                given_up.extend(lead.started.drain());
            }
            // The others hear of it at once.
            self.next_beat = target.now;
        }
        // Those that didn't come are left to who has them.
        if !given_up.is_empty() {
            return self.lead(given_up, target);
        }
        let mut gone = Vec::new();
        for hub in self.hubs.values_mut().filter(|hub| lead.is_of_group(hub)) {
            // One that led until now has peers that come here from now on.
            let is_gone = !is_up(hub) || hub.leaving || (hub.led && !hub.leads);
            if is_gone && leads && !hub.stood_in {
                hub.stood_in = true;
                gone.push(hub.label.clone());
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
    }

    fn start_some(&mut self, target: &mut Target<'_>) {
        let now = target.now;
        let Some(lead) = &mut self.lead else { return };
        if lead.shared.as_ref().is_some_and(|shared| !shared.is_held()) {
            // Nothing can leave from it yet. A hub that leads no more doesn't get it.
            lead.next_start = lead.leads.then_some(now + WAIT);
            return;
        }
        for _ in 0..AT_ONCE {
            let Some(peer) = lead.queue.pop_front() else {
                lead.next_start = None;
                return;
            };
            let home = self.homes.with(|homes| homes.get(&peer).cloned());
            let is_here = home.is_none_or(|home| home.hub == self.homes.own);
            let Some((at, _)) = self.places.get(&peer).filter(|_| !is_here) else {
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
            lead.started.insert(peer);
            target.device.take_over(&peer, endpoint, now);
        }
        lead.next_start = Some(now + PACE);
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
