//! From what the parts of a lab say to the [`Model`]: rates from counters, marks from pings.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use taltun_tests::report::{Peer, Stats, Status};

use super::model::{Link, Mark, Model, State, Track};
use super::ping_watch::{Ping, PingWatch};
use super::stage::Stage;
use super::units;
use super::watch::Answer;

/// How much time a mark of a track stands for.
pub const MARK: Duration = Duration::from_millis(250);
/// A session that is older than this without a new handshake can't be used any more.
const SESSION: f64 = 180.0;

/// What was known before, of which the new is the difference.
#[derive(Default)]
pub struct Seen {
    /// Bytes sent and received by each machine, and when that was so.
    bytes: HashMap<String, (Instant, u64, u64)>,
    /// Packets that the hub had dropped.
    dropped: Option<(Instant, u64)>,
    /// Pings that have their mark.
    pings: usize,
    /// When the last mark was made.
    marked: Option<Instant>,
}

impl Seen {
    /// Takes over what a machine said; its drops go to the `drops`th track.
    pub fn answer(&mut self, model: &mut Model, answer: &Answer, drops: usize) {
        let is_centre = model.centre.name == answer.name;
        let rates = answer.status.as_ref().and_then(|status| {
            let sent: u64 = status.peers.iter().map(|peer| peer.tx_bytes).sum();
            let received: u64 = status.peers.iter().map(|peer| peer.rx_bytes).sum();
            let now = (answer.at, sent, received);
            let (then, sent_then, received_then) = self.bytes.insert(answer.name.clone(), now)?;
            let seconds = (answer.at - then).as_secs_f64().max(0.001);
            // One that was started anew counts from zero.
            let rate = |now: u64, then: u64| now.saturating_sub(then) as f64 * 8.0 / seconds;
            Some((rate(sent, sent_then), rate(received, received_then)))
        });
        if let Some(host) = model.host_mut(&answer.name) {
            match &answer.status {
                Some(status) => {
                    host.state = State::Up;
                    host.rates = rates.or(host.rates);
                    if !is_centre {
                        host.link = link(status);
                    }
                }
                None if !is_centre => {
                    (host.state, host.rates) = (State::Bare, None);
                    if host.link == Link::Tunnel {
                        host.link = Link::Waiting;
                    }
                }
                None => {}
            }
        }
        if is_centre && let Some(status) = &answer.status {
            model.centre.note = mode(status);
        }
        if let Some(stats) = &answer.stats
            && let Some(track) = model.tracks.get_mut(drops)
        {
            self.drops(track, stats, answer.at);
        }
    }

    fn drops(&mut self, track: &mut Track, stats: &Stats, at: Instant) {
        let total = stats.dropped_in_all();
        let before = self.dropped.replace((at, total));
        let Some((then, before)) = before else { return };
        let millis = (at - then).as_millis().max(1) as u64;
        let rate = total.saturating_sub(before) * 1000 / millis;
        // It is asked less often than marks are made.
        for _ in 0..millis / MARK.as_millis() as u64 {
            track.add(Mark::Level(rate as f64));
        }
        track.value = if rate > 0 {
            format!("{}/s", units::short_count(rate))
        } else {
            format!("{} in all", units::short_count(total))
        };
    }

    /// Whether it is time for the next mark, and how long it has been since the last.
    pub fn mark_is_due(&mut self) -> Option<Duration> {
        let now = Instant::now();
        let last = *self.marked.get_or_insert(now);
        let elapsed = now - last;
        if elapsed < MARK {
            return None;
        }
        self.marked = Some(now);
        Some(elapsed)
    }

    /// The pings since the last mark, as one: a miss among them counts.
    pub fn pings(&mut self, track: &mut Track, watch: &PingWatch) {
        let new = watch.since(self.pings);
        self.pings += new.len();
        let Some(last) = new.last() else { return };
        let slowest = new
            .iter()
            .map(|ping| ping.answer)
            .collect::<Option<Vec<_>>>();
        let slowest = slowest.and_then(|answers| answers.into_iter().max());
        track.add(slowest.map_or(Mark::Miss, |time| Mark::Level(time.as_secs_f64())));
        track.value = ping_value(*last);
    }
}

/// What is being done to the lab, on its drawing.
pub fn show_stage(model: &mut Model, stage: &Stage<'_>) {
    if let Some((time, starting)) = stage.away() {
        model.centre.rates = None;
        model.centre.state = if starting {
            State::Starting
        } else {
            State::Killed(time)
        };
    } else if model.centre.state != State::Bare {
        model.centre.state = State::Up;
    }
    let banned = stage.trials.ban_now();
    if let Some(spoke) = model.host_mut(stage.spoke()) {
        match (banned, spoke.link) {
            (Some(ban), _) => spoke.link = Link::Banned(ban.left),
            (None, Link::Banned(_)) => spoke.link = Link::Tunnel,
            (None, _) => {}
        }
    }
}

/// How a machine's packets come in, in a word.
fn mode(status: &Status) -> String {
    if status.af_xdp.iter().any(|queue| queue.mode != "off") {
        return "AF_XDP".into();
    }
    let modes = status.xdp.iter().map(|entry| entry.mode.as_str());
    match modes.into_iter().find(|mode| *mode != "off") {
        Some(mode) => format!("XDP {mode}"),
        None => "no XDP".into(),
    }
}

/// The tunnel of a spoke stands while it has a session.
fn link(status: &Status) -> Link {
    let stands = |peer: &Peer| {
        peer.latest_handshake_seconds
            .is_some_and(|age| age < SESSION)
    };
    if status.peers.iter().any(stands) {
        Link::Tunnel
    } else {
        Link::Waiting
    }
}

fn ping_value(ping: Ping) -> String {
    ping.answer
        .map_or_else(|| "no answer".to_owned(), units::span)
}
