//! The other hubs of the fleet: WireGuard peers of this one, which no file names and no reload takes
//! away, and what the hubs tell each other over these sessions.
//!
//! Each hub says every 300 ms that it is there; answers give the loss and the delay of each path. A
//! peer is at home at the hub with its newest handshake. That hub tells the others at once, and they
//! lead the peer's addresses to it: a packet for the peer takes one hop between hubs. Nothing of this
//! waits for etcd, which gets the homes in batches ([`SharedHomes`]).
//!
//! In a group one hub leads and stands in for those that are gone: [`lead`]. A peer that sends to another hub of its group
//! than its own is called there: [`nudge`].
//!
//! What a hub says counts as far as hubs trust each other: it may say that any peer of the fleet is at
//! its own place, and nothing else.

mod homes;
mod hubs;
mod lead;
mod nudge;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::Duration;

use taltun_fleet::mesh::log::Heard;
use taltun_fleet::mesh::{Announcement, Beat, Entry, Log, Message, Path, Place, message, path};
use taltun_fleet::{Home, Label};
use tracing::debug;

use self::lead::{Lead, Places};
use self::nudge::Nudges;
use super::dialer::Dialer;
use super::fleet::{FleetHub, Link, SharedHomes, Standing};
use super::peers::Peers;
use crate::accel::Shield;
use crate::config::Config;
use crate::crypto::{PrivateKey, PublicKey};
use crate::protocol::device::Device;
use crate::protocol::hub_message::HubMessage;
use crate::protocol::time::Time;
use crate::report::{FleetStatus, HubPath};

/// How long what is new gathers, so that one message carries it.
const GATHER: Duration = Duration::from_millis(2);
/// How long an announcement may take until it is told again.
const AGAIN: Duration = Duration::from_millis(900);
/// Announcements to one hub at once, at the most.
const MOST_AT_ONCE: usize = 40;
/// How long another hub may be silent on a session until a new one is made.
const SILENT: Duration = Duration::from_secs(3);

/// What the hubs change of the tunnel.
pub(in crate::control) struct Target<'a> {
    pub device: &'a mut Device,
    pub shield: &'a mut Shield,
    pub peers: &'a mut Peers,
    pub dialer: &'a mut Dialer,
    pub now: Time,
}

/// The other hubs, and where peers are.
#[derive(Debug)]
pub(in crate::control) struct Mesh {
    /// This hub's own key, whatever its peers know it by.
    own: PrivateKey,
    homes: SharedHomes,
    standing: Standing,
    log: Log,
    hubs: BTreeMap<String, Hub>,
    /// Names of hubs by their keys.
    names: HashMap<PublicKey, String>,
    /// The peers that all hubs have.
    peers: HashSet<PublicKey>,
    /// Homes of peers that the others know already.
    early: HashMap<PublicKey, Home>,
    /// Where those are that are at home at other hubs.
    places: Places,
    /// What this hub is in its group.
    lead: Option<Lead>,
    nudges: Nudges,
    next_beat: Time,
    flush_at: Option<Time>,
}

/// Another hub.
#[derive(Debug)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is something else that it says or that this hub does"
)]
struct Hub {
    is: FleetHub,
    label: Label,
    path: Path,
    /// How far this one has its log.
    heard: Heard,
    /// How far it has ours, by what it said.
    has: Place,
    /// How far it was told, and when.
    told: (u64, Time),
    /// Whether it said anything since it last began to answer.
    spoke: bool,
    /// Whether this hub waits for its word before it leads.
    awaited: bool,
    /// Whether it says that it leads its group, and whether it did when this hub looked last.
    leads: bool,
    led: bool,
    /// Whether it gives up its peers.
    leaving: bool,
    /// Whether this hub stands in for it.
    stood_in: bool,
    /// What keeps it from being a peer, once that was told.
    refused: Option<String>,
}

impl Mesh {
    /// For the hub of this configuration.
    pub(in crate::control) fn new(link: &Link, config: &Config, now: Time) -> Self {
        let interface = &config.interface;
        let lead = config.fleet.as_ref().and_then(|fleet| {
            let group = fleet.group.clone()?;
            let address = fleet.shared_address;
            Some(Lead::new(group, address, &interface.tun_name, now))
        });
        let mut number = [0; 8];
        // Without randomness there is no handshake, so that nobody hears of this log.
        let _ = getrandom::fill(&mut number);
        Self {
            own: interface.private_key.clone(),
            homes: link.homes().clone(),
            standing: link.standing(),
            log: Log::new(u64::from_ne_bytes(number)),
            hubs: BTreeMap::new(),
            names: HashMap::new(),
            peers: HashSet::new(),
            early: HashMap::new(),
            places: HashMap::new(),
            lead,
            nudges: Nudges::default(),
            next_beat: now,
            flush_at: None,
        }
    }

    /// When to call [`Self::tick`].
    pub(in crate::control) fn next_at(&self) -> Option<Time> {
        let beat = (!self.hubs.is_empty()).then_some(self.next_beat);
        let lead = self.lead.as_ref().map(Lead::next_at);
        beat.into_iter().chain(self.flush_at).chain(lead).min()
    }

    /// Sends what is due.
    pub(in crate::control) fn tick(&mut self, target: &mut Target<'_>) {
        let now = target.now;
        self.stand_in(target);
        let is_beat = self.next_beat <= now;
        let wavers = self.lead.as_ref().is_some_and(|lead| lead.wavers);
        if is_beat && wavers {
            self.next_beat = now + path::BEAT;
        } else if is_beat {
            let next = self.next_beat + path::BEAT;
            // A machine that slept makes no beats good.
            self.next_beat = if next > now { next } else { now + path::BEAT };
            let (leads, leaving) = self
                .lead
                .as_ref()
                .map_or((false, false), |lead| (lead.leads, lead.leaving));
            for hub in self.hubs.values_mut() {
                let beat = Beat {
                    number: hub.path.beat(since_start(now)),
                    leaving,
                    leads,
                    own: self.log.end(),
                    has: hub.heard.place(),
                };
                hub.beat(beat, target);
            }
        }
        if is_beat || self.flush_at.is_some_and(|at| at <= now) {
            self.flush_at = None;
            for hub in self.hubs.values_mut() {
                hub.tell(&self.log, &self.homes, target);
            }
        }
    }

    /// Takes what other hubs said.
    pub(in crate::control) fn hear(&mut self, messages: Vec<HubMessage>, target: &mut Target<'_>) {
        let mut moved = Vec::new();
        for heard in messages {
            let key = target.device.key_of(heard.peer);
            let Some(name) = key.and_then(|key| self.names.get(key)) else {
                continue;
            };
            let Some(hub) = self.hubs.get_mut(name) else {
                continue;
            };
            match Message::parse(&heard.content) {
                Ok(Message::Beat(beat)) => {
                    hub.has = beat.has;
                    (hub.leads, hub.leaving, hub.spoke) = (beat.leads, beat.leaving, true);
                    hub.send(&Message::Answer(beat.number), target);
                }
                Ok(Message::Answer(number)) => {
                    hub.path.answer(number, since_start(heard.at));
                }
                Ok(Message::Homes(told)) => {
                    hub.heard.hear(told.after, told.until);
                    let label = hub.label.clone();
                    moved.extend(self.learn(told, &label, target));
                }
                Err(error) => debug!("from the hub {name}: {error}"),
            }
        }
        self.lead(moved, target);
    }

    /// What is known of the ways to the other hubs, and of who is at home where.
    pub(in crate::control) fn fill(&self, status: &mut FleetStatus, now: Time) {
        let mut counts: BTreeMap<String, u64> = BTreeMap::new();
        self.homes.with(|homes| {
            for (_, home) in homes.all() {
                *counts.entry(home.hub.to_string()).or_default() += 1;
            }
        });
        let now = since_start(now);
        for shown in &mut status.hubs {
            let hub = self.hubs.get(&shown.name);
            let own = self.lead.as_ref().filter(|_| shown.own);
            shown.leads = hub.map_or_else(|| own.is_some_and(|own| own.leads), |hub| hub.leads);
            shown.leaving =
                hub.map_or_else(|| own.is_some_and(|own| own.leaving), |hub| hub.leaving);
            shown.homes = counts.get(&shown.name).copied().unwrap_or_default();
            shown.path = self.hubs.get(&shown.name).map(|hub| HubPath {
                up: hub.path.is_up(now),
                loss: hub.path.loss(now),
                delay_ms: hub.path.delay().map(|delay| delay.as_secs_f64() * 1e3),
            });
        }
        status.nudges = self.nudges.count();
        let refused = self.hubs.values().filter_map(|hub| hub.refused.clone());
        status.problems.extend(refused);
    }
}

impl Hub {
    /// Says that this hub is there, and sees to it that there is a session to say it on.
    fn beat(&mut self, beat: Beat, target: &mut Target<'_>) {
        let now = target.now;
        self.send(&Message::Beat(beat), target);
        let key = &self.is.public_key;
        let Some(peer) = target.device.peer(key) else {
            return;
        };
        // It may have started anew, and doesn't know the session any more.
        let handshake = peer.last_handshake().map(since_start);
        let last = self.path.last_answer().max(handshake);
        if last.is_some_and(|last| since_start(now).saturating_sub(last) > SILENT) {
            target.device.initiate(key, now);
        }
    }

    /// Tells it what it hasn't of our log.
    fn tell(&mut self, log: &Log, homes: &SharedHomes, target: &mut Target<'_>) {
        let now = target.now;
        let mut after = log.after(self.has);
        let (told, at) = self.told;
        if now.since(at) < AGAIN {
            after = after.max(told);
        }
        for _ in 0..MOST_AT_ONCE {
            let (peers, last) = log.part(after, message::MOST_ENTRIES);
            if peers.is_empty() {
                return;
            }
            let own = homes.own.clone();
            let entries = homes.with(|homes| {
                let entry = |peer: &PublicKey| {
                    let home = homes.get(peer).filter(|home| home.hub == own)?;
                    let known = target.device.peer(peer);
                    let endpoint = known.and_then(|peer| peer.endpoint());
                    Some(Entry {
                        peer: *peer,
                        at: home.at,
                        endpoint: endpoint.map(|endpoint| endpoint.remote),
                    })
                };
                peers.iter().filter_map(entry).collect()
            });
            let until = Place {
                entry: last,
                ..log.end()
            };
            let homes = Message::Homes(Announcement {
                until,
                after,
                entries,
            });
            if !self.send(&homes, target) {
                return;
            }
            (after, self.told) = (last, (last, now));
        }
    }

    fn send(&self, message: &Message, target: &mut Target<'_>) -> bool {
        let (key, now) = (&self.is.public_key, target.now);
        target.device.send_to_hub(key, &message.to_bytes(), now)
    }
}

fn since_start(time: Time) -> Duration {
    Duration::from_nanos(time.as_nanos())
}
