//! What is known of the tunnel, and what somebody looks at. Answers and keys change it; pictures are
//! made of it.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use taltun_common::drops::DropReason;

use super::history::{Histories, History};
use super::places::{View, list_rows};
use crate::cli::peers::title;
use crate::control::request::{self, PeerOrder};
use crate::layer::Layer;
use crate::report::{Overview, PeerStatus, RelayPair, Source, per_second};

/// Sources that are asked for where they are the list.
const SOURCES: u32 = 200;
/// The same where they are beside it.
const FEW_SOURCES: u32 = 8;
/// How long what a command did is shown.
const SAID_FOR: Duration = Duration::from_secs(8);
/// Who says nothing for so long is told to be silent, though no look has failed.
const SILENT: Duration = Duration::from_secs(3);

/// What keys mean.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Mode {
    /// To walk through the list.
    List,
    /// Text to find.
    Find,
    /// All of the chosen peer is shown, from this line on.
    Details(u16),
    /// The keys are shown, from this line on.
    Help(u16),
    /// An answer is waited for.
    Question(Question),
}

/// What somebody is asked before it is done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Question {
    /// Whether to ban, and not to end a ban.
    pub(super) ban: bool,
    /// Whom.
    pub(super) whom: Whom,
}

/// Who is banned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Whom {
    /// All addresses of a peer inside.
    Peer {
        /// Its public key.
        key: String,
        /// What it is called.
        title: String,
    },
    /// An address.
    Address(IpAddr, Layer),
}

/// How fast a source sends, packets a second.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct SourceRate {
    /// All.
    pub(super) packets: u64,
    /// Those that were dropped.
    pub(super) drops: u64,
}

/// What is known and what is looked at.
pub(super) struct Model {
    /// Whether there may be colours.
    pub(super) colours: bool,
    /// The last look.
    pub(super) overview: Option<Overview>,
    /// When that was.
    looked_at: Option<Instant>,
    /// What came, went, was relayed (bytes a second) and dropped (packets a second).
    pub(super) received: History,
    pub(super) sent: History,
    pub(super) relayed: History,
    pub(super) dropped: History,
    /// By public key: what came and went, bytes a second.
    pub(super) peers_down: Histories,
    pub(super) peers_up: Histories,
    /// By address, and by reason.
    pub(super) sources: Histories,
    pub(super) reasons: Histories,
    /// By sender and receiver: bytes a second.
    pub(super) pairs: Histories,
    pair_rates: HashMap<String, u64>,
    source_rates: HashMap<(Layer, IpAddr), SourceRate>,
    pub(super) view: View,
    pub(super) mode: Mode,
    pub(super) order: PeerOrder,
    pub(super) find: String,
    /// Which of the list is chosen, and which is the first that is shown.
    pub(super) chosen: usize,
    pub(super) first: usize,
    /// Who that is: it stays chosen where it moves.
    chosen_key: Option<String>,
    /// Lines that the list has.
    pub(super) rows: usize,
    said: Option<(String, Instant)>,
    /// Why there is no answer, and since when.
    trouble: Option<(String, Instant)>,
}

impl Model {
    pub(super) fn new(colours: bool) -> Self {
        Self {
            colours,
            overview: None,
            looked_at: None,
            received: History::default(),
            sent: History::default(),
            relayed: History::default(),
            dropped: History::default(),
            peers_down: Histories::default(),
            peers_up: Histories::default(),
            sources: Histories::default(),
            reasons: Histories::default(),
            pairs: Histories::default(),
            pair_rates: HashMap::new(),
            source_rates: HashMap::new(),
            view: View::Peers,
            mode: Mode::List,
            order: PeerOrder::Rate,
            find: String::new(),
            chosen: 0,
            first: 0,
            chosen_key: None,
            rows: 1,
            said: None,
            trouble: None,
        }
    }

    /// What to ask for, at a terminal of this size: no more than it shows.
    pub(super) fn wanted(&mut self, size: (usize, usize)) -> request::Overview {
        self.rows = list_rows(self.view, size).max(1);
        self.keep_in_sight();
        let is_peers = self.view == View::Peers;
        request::Overview {
            order: self.order,
            find: Some(self.find.clone()).filter(|find| !find.is_empty()),
            skip: if is_peers { self.first as u32 } else { 0 },
            peers: self.rows as u32,
            sources: if is_peers { FEW_SOURCES } else { SOURCES },
            pairs: if self.view == View::Relayed {
                SOURCES
            } else {
                0
            },
        }
    }

    /// The tunnel has told how it is.
    pub(super) fn take_in(&mut self, overview: Overview, now: Instant) {
        let over = self.looked_at.map(|at| now - at);
        if let (Some(before), Some(over)) = (&self.overview, over) {
            self.source_rates = source_rates(before, &overview, over);
            self.pair_rates = pair_rates(before, &overview, over);
        }
        self.trouble = None;
        self.remember(&overview);
        self.looked_at = Some(now);
        self.overview = Some(overview);
        if let (Some(key), View::Peers) = (&self.chosen_key, self.view)
            && let Some(at) = self.peers().iter().position(|peer| peer.public_key == *key)
        {
            self.chosen = self.first + at;
        }
        self.stay_in_list();
    }

    fn remember(&mut self, overview: &Overview) {
        let rates = overview.stats.rates.unwrap_or_default();
        self.received.push(rates.traffic.rx_bytes);
        self.sent.push(rates.traffic.tx_bytes);
        self.relayed.push(rates.traffic.relayed_bytes);
        self.dropped.push(rates.drops.sum());
        let reasons = rates.drops.iter();
        self.reasons
            .push(reasons.map(|(reason, rate)| (reason.label(), rate)));
        let peers = || {
            let peers = overview.status.peers.iter();
            peers.map(|peer| (peer.public_key.as_str(), peer.rates.unwrap_or_default()))
        };
        self.peers_down
            .push(peers().map(|(key, rates)| (key, rates.rx_bytes)));
        self.peers_up
            .push(peers().map(|(key, rates)| (key, rates.tx_bytes)));
        let named: Vec<(String, u64)> = self
            .source_rates
            .iter()
            .map(|((layer, address), rate)| (source_name(*layer, *address), rate.packets))
            .collect();
        self.sources
            .push(named.iter().map(|(name, rate)| (name.as_str(), *rate)));
        let pairs = self.pair_rates.iter();
        self.pairs
            .push(pairs.map(|(name, rate)| (name.as_str(), *rate)));
    }

    /// Who sends to whom, those first that send most now, with bytes a second.
    pub(super) fn pairs(&self) -> Vec<(&RelayPair, u64)> {
        let all = self.overview.iter().flat_map(|overview| &overview.pairs);
        let rate = |pair: &RelayPair| self.pair_rates.get(&pair_name(pair)).copied();
        let mut rated: Vec<_> = all.map(|pair| (pair, rate(pair).unwrap_or(0))).collect();
        rated.sort_by_key(|(_, rate)| std::cmp::Reverse(*rate));
        let find = self.find.to_lowercase();
        rated.retain(|(pair, _)| pair_name(pair).to_lowercase().contains(&find));
        rated
    }

    /// It doesn't tell.
    pub(super) fn no_answer(&mut self, reason: &str, now: Instant) {
        let since = self.trouble.as_ref().map_or(now, |(_, since)| *since);
        self.trouble = Some((reason.to_owned(), since));
        // What comes next is compared with nothing: it may be another process.
        self.looked_at = None;
    }

    /// Why there is no answer and since when, if that is so.
    pub(super) fn trouble(&self, now: Instant) -> Option<(String, Duration)> {
        if let Some((reason, since)) = &self.trouble {
            return Some((reason.clone(), now.saturating_duration_since(*since)));
        }
        let age = now.saturating_duration_since(self.looked_at?);
        (age >= SILENT).then(|| ("no answer".to_owned(), age))
    }

    /// Something is to be shown for a while.
    pub(super) fn say(&mut self, text: String) {
        self.said = Some((text, Instant::now()));
    }

    /// That is read, or in the way.
    pub(super) fn hush(&mut self) {
        self.said = None;
    }

    /// What is to be shown now.
    pub(super) fn said(&self, now: Instant) -> Option<&str> {
        let (text, at) = self.said.as_ref()?;
        (now.saturating_duration_since(*at) < SAID_FOR).then_some(text)
    }

    /// Whether a picture made a while ago shows what isn't so any more.
    pub(super) fn is_older_than_shown(&self, now: Instant) -> bool {
        let ends = self
            .said
            .as_ref()
            .is_some_and(|(_, at)| now.saturating_duration_since(*at) >= SAID_FOR);
        ends || self.trouble(now).is_some()
    }

    /// The peers that are shown.
    pub(super) fn peers(&self) -> &[PeerStatus] {
        self.overview.as_ref().map_or(&[], |it| &it.status.peers)
    }

    /// The sources of a layer, those first that send most now, with their rates.
    pub(super) fn sources(&self, layer: Layer) -> Vec<(&Source, SourceRate)> {
        let Some(overview) = &self.overview else {
            return Vec::new();
        };
        let all = match layer {
            Layer::Outer => &overview.stats.sources,
            Layer::Inner => &overview.stats.sources_inner,
        };
        let rate = |source: &Source| {
            let rate = self.source_rates.get(&(layer, source.addr));
            rate.copied().unwrap_or_default()
        };
        let mut rated: Vec<_> = all.iter().map(|source| (source, rate(source))).collect();
        rated.sort_by_key(|(_, rate)| std::cmp::Reverse((rate.drops, rate.packets)));
        // Beside the peers the text is a peer's, and no address.
        if self.view != View::Peers {
            let find = self.find.to_lowercase();
            rated.retain(|(source, _)| source.addr.to_string().contains(&find));
        }
        rated
    }

    /// The reasons that came up, those first that come up most now.
    pub(super) fn reasons(&self) -> Vec<(DropReason, u64)> {
        let Some(overview) = &self.overview else {
            return Vec::new();
        };
        let rates = overview.stats.rates.unwrap_or_default();
        let mut all = overview.stats.drops.largest_first();
        all.sort_by_key(|(reason, _)| std::cmp::Reverse(rates.drops[*reason]));
        all
    }

    /// How long the list is.
    pub(super) fn length(&self) -> usize {
        match self.view {
            View::Peers => self.overview.as_ref().map_or(0, |it| it.found as usize),
            View::Outside => self.sources(Layer::Outer).len(),
            View::Inside => self.sources(Layer::Inner).len(),
            View::Drops => self.reasons().len(),
            View::Relayed => self.pairs().len(),
        }
    }

    /// The chosen peer, where peers are the list.
    pub(super) fn chosen_peer(&self) -> Option<&PeerStatus> {
        if self.view != View::Peers {
            return None;
        }
        self.peers().get(self.chosen.checked_sub(self.first)?)
    }

    /// Who is chosen, and may be banned.
    pub(super) fn chosen_whom(&self) -> Option<Whom> {
        let address = |layer| {
            let sources = self.sources(layer);
            let (source, _) = sources.get(self.chosen)?;
            (!source.addr.is_unspecified()).then_some(Whom::Address(source.addr, layer))
        };
        match self.view {
            View::Peers => self.chosen_peer().map(|peer| Whom::Peer {
                key: peer.public_key.clone(),
                title: title(peer).into_owned(),
            }),
            View::Outside => address(Layer::Outer),
            View::Inside => address(Layer::Inner),
            View::Drops | View::Relayed => None,
        }
    }

    /// Goes through the list; far beyond its end is its end.
    pub(super) fn go(&mut self, steps: isize) {
        self.chosen = self.chosen.saturating_add_signed(steps);
        self.stay_in_list();
        self.keep_in_sight();
        self.chosen_key = self.chosen_peer().map(|peer| peer.public_key.clone());
    }

    /// Begins at the top of another list, or of the same in another order.
    pub(super) fn begin(&mut self) {
        (self.chosen, self.first) = (0, 0);
        self.chosen_key = None;
    }

    fn stay_in_list(&mut self) {
        self.chosen = self.chosen.min(self.length().saturating_sub(1));
    }

    fn keep_in_sight(&mut self) {
        let lowest = (self.chosen + 1).saturating_sub(self.rows);
        let highest = self.length().saturating_sub(self.rows);
        self.first = self
            .first
            .min(highest)
            .clamp(lowest, self.chosen.max(lowest));
    }
}

/// What a source's history is called.
pub(super) fn source_name(layer: Layer, address: IpAddr) -> String {
    match layer {
        Layer::Outer => format!("outside {address}"),
        Layer::Inner => format!("inside {address}"),
    }
}

/// What a pair's history is called.
pub(super) fn pair_name(pair: &RelayPair) -> String {
    format!("{} → {}", pair.from, pair.to)
}

/// How fast pairs send, bytes a second, by two looks. One that is new began to send in between, or
/// the counting did: that is what it sent since.
fn pair_rates(before: &Overview, now: &Overview, over: Duration) -> HashMap<String, u64> {
    let old: HashMap<String, u64> = before
        .pairs
        .iter()
        .map(|pair| (pair_name(pair), pair.bytes))
        .collect();
    let rate = |pair: &RelayPair| {
        let name = pair_name(pair);
        let old = old.get(&name).copied().unwrap_or(0);
        (name, per_second(old, pair.bytes, over))
    };
    now.pairs.iter().map(rate).collect()
}

/// How fast sources send, by two looks. Who is new may have sent for long, and wasn't among the largest:
/// nobody knows how fast.
fn source_rates(
    before: &Overview,
    now: &Overview,
    over: Duration,
) -> HashMap<(Layer, IpAddr), SourceRate> {
    let mut rates = HashMap::new();
    let layers = [
        (Layer::Outer, &before.stats.sources, &now.stats.sources),
        (
            Layer::Inner,
            &before.stats.sources_inner,
            &now.stats.sources_inner,
        ),
    ];
    for (layer, before, now) in layers {
        let before: HashMap<IpAddr, &Source> = before.iter().map(|it| (it.addr, it)).collect();
        for source in now {
            if let Some(old) = before.get(&source.addr) {
                let rate = SourceRate {
                    packets: per_second(old.packets, source.packets, over),
                    drops: per_second(old.drops, source.drops, over),
                };
                rates.insert((layer, source.addr), rate);
            }
        }
    }
    rates
}
