//! Paths to a peer that takes control messages: which one is used, at which port of it, and the
//! probes that decide it.
//!
//! | what | when |
//! |---|---|
//! | a probe on each path | each `probe_interval`; at once on all of them after one was lost on the path in use, and where there are several addresses, data goes out and nothing comes back for four times the path's delay, 0.3 s at the least |
//! | a hop: a probe at another port of the path in use, and on its answer that port | each `hop_interval`, more or less; at once when a probe is lost |
//! | another path | two probes lost in a row, or more lost than `loss_threshold` |
//! | a handshake, over all paths and their ports | the same, while no other path answers and nothing else arrives either: the peer may have started anew, and answers no probe then |
//! | back to one earlier in the list | three probes answered in a row, and not before `retry_after` |
//! | from anywhere else to the first path that answers | at once: a hub that starts anew speaks first, from its own port |
//!
//! A port is used only after it has answered. So a blocked one costs a probe, and no data. While the
//! tunnel is idle nothing is sent; the next data ends that at once. Only data counts as use: else what
//! keeps the tunnel up would keep itself going.
//!
//! While nothing comes back an answer is waited for as long as the path lets expect, so that a peer that is gone is
//! left within a second. Where data goes one way only, the answers show that nothing is wrong, and such probes get as
//! rare as one in two seconds.
//!
//! The peer follows by WireGuard's rule: it answers to where our last data came from. Its answers
//! that are still on their way to the port before don't move it back, as we choose among its places
//! ourselves: see [`crate::peer::Peer::choose_among`]. Nor does a peer that speaks from another port of
//! the address, as long as ours answers: two hubs that choose among each other's ports both speak from
//! where they listen, and would never settle.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use super::path::Path;
use super::path_choice::{HopSettings, PathChange, PathReport, PathState, Why};
use super::ports::Asker;
use super::probe_queue::{Ask, ProbeQueue, Purpose};
use super::{Control, Device, Event};
use crate::control_message::{ControlMessage, Heard};
use crate::peer::{Endpoint, Peer, PeerId};
use crate::place::Place;
use crate::randomness::Randomness;
use crate::time::Time;

/// A tunnel without data for so long is idle.
const IDLE: Duration = Duration::from_secs(30);
/// How often an idle one is looked at, should a worker's word of data be missed.
const LOOK: Duration = Duration::from_secs(10);
/// Ports that are asked one after the other for one hop.
const TRIES: u32 = 4;
/// From one port that joins the pool to the next, where each batch takes one of them.
const FILL: Duration = Duration::from_millis(200);
/// How long an answer may be late and still tell that nothing was lost.
const LATE: Duration = Duration::from_secs(5);
/// How often it is looked whether anything comes back, while the tunnel is used.
const WATCH: Duration = Duration::from_millis(100);
/// The most that nothing may come back before that is asked about.
const LONGEST_PAUSE: Duration = Duration::from_secs(2);
/// A path with so many lost in a hundred less is better.
const BETTER: u32 = 10;

/// The paths to a peer, in the order of preference.
#[derive(Debug, Default)]
#[allow(
    clippy::struct_excessive_bools,
    reason = "each is true or not beside the others"
)]
pub(super) struct Paths {
    all: Vec<Path>,
    /// Probes that are to be sent.
    queue: ProbeQueue,
    waiting: Vec<Probe>,
    next_probe: Option<Time>,
    next_hop: Option<Time>,
    next_watch: Option<Time>,
    /// How long nothing may come back before that is asked about: longer after each answer, until data
    /// comes. Zero while data does.
    pause: Duration,
    /// Ports that were asked in vain for this hop.
    tries: u32,
    /// The port in use may be blocked.
    urgent: bool,
    is_running: bool,
    /// The tunnel was idle when it was last looked at.
    is_idle: bool,
    /// The peer spoke from where no path leads, and data goes there.
    is_astray: bool,
    /// Where data went when that was decided last: handshakes ask at one place after the other.
    settled: Option<SocketAddr>,
}

/// A probe without an answer yet.
#[derive(Debug, Clone, Copy)]
struct Probe {
    id: u64,
    path: usize,
    port: u16,
    sent: Time,
    due: Time,
    /// It was due, and nobody waits for it.
    late: bool,
    purpose: Purpose,
}

impl Paths {
    /// These are the peer's places now, which are asked at once while data goes there. What is known
    /// of those that stay isn't forgotten.
    pub(super) fn set_places(&mut self, places: &[Place], now: Time) {
        let mut known = std::mem::take(&mut self.all);
        self.all = places
            .iter()
            .map(|place| {
                let at = known.iter().position(|path| path.place == *place);
                at.map_or_else(|| Path::new(*place), |at| known.swap_remove(at))
            })
            .collect();
        // They name paths by their number.
        self.waiting.clear();
        self.queue.clear();
        if self.is_running {
            self.next_probe = Some(now);
        }
    }

    /// When there is something to do.
    pub(super) fn next_at(&self) -> Option<Time> {
        let due = self.waiting.iter().map(|probe| probe.due).min();
        let queued = self.queue.next_at();
        let next = [due, queued, self.next_probe, self.next_hop, self.next_watch];
        next.into_iter().flatten().min().filter(|_| self.is_running)
    }

    /// The path with this number.
    pub(super) fn get_mut(&mut self, number: usize) -> Option<&mut Path> {
        self.all.get_mut(number)
    }

    /// The path to there.
    pub(super) fn leading_to(&mut self, at: SocketAddr) -> Option<&mut Path> {
        let number = self.index_of(at)?;
        self.all.get_mut(number)
    }

    /// Whether the path to there works, as far as its probes say.
    pub(super) fn answers_at(&self, endpoint: Option<Endpoint>) -> bool {
        let path = endpoint.and_then(|endpoint| self.index_of(endpoint.remote));
        path.is_some_and(|path| self.is_running && self.all[path].answers())
    }

    /// Whether what is sent there may not arrive, as far as probes say.
    pub(super) fn is_doubtful(&self, endpoint: Option<Endpoint>) -> bool {
        let number = endpoint.and_then(|endpoint| self.index_of(endpoint.remote));
        let path = number.and_then(|number| self.all.get(number));
        self.is_running && path.is_none_or(Path::is_silent)
    }

    /// Asks on all paths at once as soon as data goes where none leads, idle or not. What they
    /// answered before says nothing: the peer may be there no more. Whether it asks.
    fn note_astray(&mut self, is_astray: bool, now: Time) -> bool {
        let is_new = is_astray && !std::mem::replace(&mut self.is_astray, true);
        if is_new {
            self.waiting.clear();
            self.all.iter_mut().for_each(Path::prove_anew);
            self.next_probe = Some(now);
        }
        is_new
    }

    /// Asks on all paths at once when an idle tunnel is used again, and hops on from then. Nobody waited
    /// for the answers that were due while it was idle.
    fn note_use(&mut self, is_idle: bool, hop: &HopSettings, random: &mut Randomness, now: Time) {
        if is_idle {
            self.waiting.retain(|probe| probe.due > now);
        }
        if std::mem::replace(&mut self.is_idle, is_idle) && !is_idle {
            self.next_probe = Some(now);
            self.next_hop = Some(now + around(hop.interval, random));
        }
    }

    /// A control message went there: probes of other ports have to wait.
    pub(super) fn note_sent(&mut self, to: IpAddr, now: Time) {
        self.queue.note_sent(to, now);
    }

    /// Has what is asked wait for its turn; what is to be sent now.
    fn take_turns(&mut self, asked: Vec<Ask>, now: Time) -> Vec<Ask> {
        for ask in asked {
            if let Some(path) = self.all.get(ask.path) {
                self.queue.push(ask, path.place.at(ask.port).ip());
            }
        }
        self.queue.take_ready(now)
    }

    fn index_of(&self, at: SocketAddr) -> Option<usize> {
        self.all.iter().position(|path| path.place.contains(at))
    }

    /// Takes an answer that came from the place that its probe went to; that probe, and whether it
    /// proves the port.
    ///
    /// A hub whose XDP program turns ports answers from the one that the last probe came to, which
    /// may be another one than this went to: then the way there works for the one, the way back for
    /// the other, and neither is known to do both.
    fn take_answer(&mut self, heard: &Heard, id: u64) -> Option<(Probe, bool)> {
        let at = self.waiting.iter().position(|probe| probe.id == id)?;
        let probe = self.waiting[at];
        let path = self.all.get_mut(probe.path)?;
        if !path.place.contains(heard.from.remote) {
            return None;
        }
        self.waiting.swap_remove(at);
        let counts = probe.purpose == Purpose::Measure;
        let delay = heard.at.since(probe.sent);
        if probe.late {
            path.late(delay, counts);
        } else {
            path.answered(delay, counts);
        }
        path.note_answer(heard.at);
        let is_proof = heard.from.remote.port() == probe.port;
        if is_proof {
            path.ports.keep(probe.port, heard.at);
        }
        Some((probe, is_proof))
    }

    /// Gives up probes that were waited for long enough; those of the path in use first set off
    /// whatever finds a way around. Whether there was one by which that path is measured.
    fn expire(&mut self, current: Option<usize>, used: Option<u16>, now: Time) -> bool {
        let mut was_missed = false;
        let (late, waiting) = std::mem::take(&mut self.waiting)
            .into_iter()
            .partition::<Vec<_>, _>(|probe| probe.due <= now);
        self.waiting = waiting;
        let late = late.into_iter().filter(|probe| !probe.late);
        for probe in late {
            self.waiting.push(Probe {
                due: now + LATE,
                late: true,
                ..probe
            });
            let Some(path) = self.all.get_mut(probe.path) else {
                continue;
            };
            let is_current = current == Some(probe.path);
            match probe.purpose {
                // It was left meanwhile.
                Purpose::Measure if is_current && used.is_some_and(|used| used != probe.port) => {
                    path.ports.failed(Asker::Probe, probe.port);
                }
                Purpose::Measure => {
                    path.lost(probe.port, probe.sent);
                    if is_current {
                        was_missed = true;
                        if !path.is_silent() {
                            self.next_probe = Some(now);
                        }
                        self.next_hop = Some(now);
                        (self.urgent, self.tries) = (true, 0);
                    }
                }
                Purpose::Hop => {
                    path.ports.failed(Asker::Probe, probe.port);
                    if is_current {
                        self.try_another_port(now);
                    } else {
                        (self.urgent, self.tries) = (false, 0);
                    }
                }
                Purpose::Pool => path.ports.failed(Asker::Probe, probe.port),
            }
        }
        was_missed
    }

    /// Asks another port, where the last one that was asked is none to hop to.
    fn try_another_port(&mut self, now: Time) {
        self.tries += 1;
        if self.tries < TRIES {
            self.next_hop = Some(now);
        } else {
            (self.urgent, self.tries) = (false, 0);
        }
    }

    /// The path to go on with, if that is another one.
    fn better_than(&self, current: Option<usize>, hop: &HopSettings, now: Time) -> Option<usize> {
        let Some(current) = current else {
            return self.all.iter().position(Path::answers);
        };
        let used = self.all.get(current)?;
        let threshold = hop.loss_threshold;
        if !used.is_silent() && !used.is_lossy(threshold) {
            let returns = |path: &Path| path.may_return(threshold, hop.retry_after, now);
            return self.all[..current].iter().position(returns);
        }
        let lost = |path: &Path| path.loss().unwrap_or_default();
        let is_better =
            |path: &Path| path.answers() && (used.is_silent() || lost(path) + BETTER <= lost(used));
        let others = self.all.iter().enumerate();
        let better = others.filter(|(at, path)| *at != current && is_better(path));
        let best = better.min_by_key(|(at, path)| {
            let aside = path.is_set_aside(hop.retry_after, now);
            (path.is_lossy(threshold), aside && !used.is_silent(), *at)
        });
        best.map(|(at, _)| at)
    }

    fn report(
        &self,
        current: Option<usize>,
        hop: &HopSettings,
        now: Time,
    ) -> impl Iterator<Item = PathReport> {
        self.all.iter().enumerate().map(move |(at, path)| {
            let state = if current == Some(at) {
                PathState::Used
            } else if !self.is_running {
                PathState::Unknown
            } else if path.is_silent() {
                PathState::Silent
            } else if path.is_set_aside(hop.retry_after, now) || path.is_lossy(hop.loss_threshold) {
                PathState::SetAside
            } else if path.delay().is_some() {
                PathState::Ready
            } else {
                PathState::Unknown
            };
            PathReport {
                place: path.place,
                state,
                // What was measured of an earlier session says nothing of now.
                delay: path.delay().filter(|_| self.is_running),
                loss: path.loss().filter(|_| self.is_running),
            }
        })
    }
}

impl Control {
    /// Where data goes, while paths may be chosen among.
    fn chosen(&self, now: Time) -> Option<SocketAddr> {
        let session = self.peer.sending_session(now)?;
        let is_usable = self.places.are_several() && session.takes_control();
        Some(self.peer.endpoint().filter(|_| is_usable)?.remote)
    }

    /// The path that data takes, while paths may be chosen among; none where the peer spoke from
    /// elsewhere.
    fn current_path(&self, now: Time) -> Option<usize> {
        self.paths.index_of(self.chosen(now)?)
    }

    /// A handshake of ours was answered, and data goes where the peer is by now. What changed by that.
    pub(super) fn settle_path(&mut self) -> Option<PathChange> {
        let to = self.peer.endpoint()?.remote;
        let from = self.paths.settled.replace(to)?;
        let is_other = self.paths.index_of(from)? != self.paths.index_of(to)?;
        let why = Why::Handshake;
        is_other.then_some(PathChange { from, to, why })
    }

    pub(super) fn stop_paths(&mut self) {
        if std::mem::take(&mut self.paths.is_running) {
            self.paths.waiting.clear();
            self.paths.queue.clear();
            self.peer.choose_freely();
        }
    }

    /// Whether no data went either way for a while. If so, a worker tells of the next.
    fn is_idle(&self, now: Time) -> bool {
        let activity = &self.peer.activity;
        let is_idle = || {
            let last = activity.last_data();
            last.is_none_or(|last| now.since(last) >= IDLE)
        };
        is_idle() && {
            activity.await_data();
            is_idle()
        }
    }
}

impl Device {
    /// Says how paths to peers with several addresses or ports are chosen among.
    pub fn set_hop(&mut self, settings: HopSettings, now: Time) {
        let pool = settings.pool.max(1);
        let settings = HopSettings { pool, ..settings };
        if std::mem::replace(&mut self.hop, settings) == settings {
            return;
        }
        let ids: Vec<PeerId> = self.peers.keys().copied().collect();
        for id in ids {
            let Some(control) = self.peers.get_mut(&id) else {
                continue;
            };
            let used = peer_port(&control.peer);
            for path in &mut control.paths.all {
                path.ports.shrink(pool, used);
            }
            if control.paths.is_running {
                control.stop_paths();
                (control.paths.next_probe, control.paths.next_hop) = (None, None);
                self.follow_paths(id, now);
                self.schedule(id, now);
            }
        }
    }

    /// The paths to a peer, in the order of preference; none where there is nothing to choose.
    pub fn paths(&self, peer: &Peer, now: Time) -> Vec<PathReport> {
        let Some(control) = self.peers.get(&peer.id()) else {
            return Vec::new();
        };
        if !control.places.are_several() {
            return Vec::new();
        }
        // Without a session no data goes anywhere.
        let current = peer.sending_session(now).and_then(|_| peer.endpoint());
        let current = current.and_then(|current| control.paths.index_of(current.remote));
        control.paths.report(current, &self.hop, now).collect()
    }

    /// A peer answered a probe.
    pub(super) fn take_answer(&mut self, heard: &Heard, id: u64, now: Time) {
        let Some(control) = self.peers.get_mut(&heard.peer) else {
            return;
        };
        let current = control.current_path(now);
        let Some((probe, is_proof)) = control.paths.take_answer(heard, id) else {
            return;
        };
        if current != Some(probe.path) || probe.purpose == Purpose::Pool {
            return;
        }
        if probe.purpose == Purpose::Hop && !is_proof {
            return control.paths.try_another_port(now);
        }
        control.paths.urgent = false;
        if probe.purpose == Purpose::Hop {
            control.use_port(probe.port);
            let next = now + around(self.hop.interval, &mut self.randomness);
            control.paths.next_hop = Some(next);
            control.paths.tries = 0;
        }
    }

    /// Does what is due for the paths of a peer.
    pub(super) fn follow_paths(&mut self, id: PeerId, now: Time) {
        let Some(control) = self.peers.get_mut(&id) else {
            return;
        };
        let Some(at) = control.chosen(now) else {
            return control.stop_paths();
        };
        let current = control.paths.index_of(at);
        let random = &mut self.randomness;
        let hop = self.hop;
        control.begin_paths(&hop, random, now);
        let is_idle = control.is_idle(now);
        control.paths.note_use(is_idle, &hop, random, now);
        let is_lost = control.paths.note_astray(current.is_none(), now);
        let used = peer_port(&control.peer).filter(|_| !hop.interval.is_zero());
        let was_missed = control.paths.expire(current, used, now);
        let mut asked = Vec::new();
        let moved = control.paths.better_than(current, &hop, now);
        if let Some(to) = moved {
            let why = control.why(current, hop.loss_threshold);
            control.use_path(current, to, &hop, random, now);
            let to = control.peer.endpoint().map(|endpoint| endpoint.remote);
            control.paths.settled = to;
            self.events.extend(to.map(|to| {
                let from = at;
                Event::PathChanged(id, PathChange { from, to, why })
            }));
            control.paths.next_hop = Some(now + around(hop.interval, random));
        }
        let current = moved.or(current);
        control.paths.is_astray = current.is_none();
        let is_gone = was_missed && !is_idle && control.seems_gone(current, now);
        if is_idle && !is_lost {
            control.paths.queue.clear();
            let next = &mut control.paths.next_probe;
            *next = next.filter(|next| *next > now).or(Some(now + LOOK));
            (control.paths.next_hop, control.paths.next_watch) = (None, None);
        } else {
            control.paths.next_watch = Some(now + WATCH);
            let is_doubted = control.hears_nothing(current, now);
            if is_doubted || control.paths.next_probe.is_none_or(|next| next <= now) {
                control.measure(current, &hop, random, &mut asked, now);
                let next = now + around(hop.probe_interval, random) / 2 + hop.probe_interval / 2;
                control.paths.next_probe = Some(next);
            }
            if control.paths.next_hop.is_some_and(|next| next <= now) {
                if let Some(current) = current {
                    control.hop(current, &hop, random, &mut asked, now);
                } else {
                    let pause = around(hop.interval, random).max(FILL);
                    control.paths.next_hop = Some(now + pause);
                }
            }
        }
        match current {
            Some(current) => control.follow_pool(current, &hop, random),
            // Until a path answers, it is where it says.
            None => control.peer.choose_freely(),
        }
        let peer = Arc::clone(&control.peer);
        for ask in control.paths.take_turns(asked, now) {
            self.send_probe(&peer, ask, now);
        }
        if moved.is_some() {
            // So that it answers there from now on.
            self.send_keepalive(id, now);
            self.tunnel.note_place(id);
        }
        if is_gone {
            if let Some(control) = self.peers.get_mut(&id)
                && control.places.all.len() > 1
            {
                control.timers.hasten(now);
            }
            self.want_handshake(id, now);
        }
    }

    fn send_probe(&mut self, peer: &Peer, ask: Ask, now: Time) {
        let Ask {
            path,
            port,
            purpose,
        } = ask;
        let Some(control) = self.peers.get_mut(&peer.id()) else {
            return;
        };
        let (Some(on), Ok(random)) = (control.paths.all.get_mut(path), self.randomness.bytes())
        else {
            return;
        };
        on.ports.sent(port, now);
        let to = on.place.at(port);
        let is_hasty = !control.paths.pause.is_zero();
        let probe = Probe {
            id: u64::from_ne_bytes(random),
            path,
            port,
            sent: now,
            due: now + if is_hasty { on.short_wait() } else { on.wait() },
            late: false,
            purpose,
        };
        control.paths.waiting.push(probe);
        let mut endpoint = Endpoint::from(to);
        let used = peer.endpoint();
        endpoint.local = used
            .filter(|used| used.remote.ip() == to.ip())
            .and_then(|used| used.local);
        self.send_control(peer, ControlMessage::Probe(probe.id), endpoint, now);
    }
}

impl Control {
    /// Whether nothing of the peer arrived since the path in use fell silent. Data that arrives, where
    /// probes don't, shows that its session lives on.
    fn seems_gone(&self, current: Option<usize>, now: Time) -> bool {
        let path = current.and_then(|current| self.paths.all.get(current));
        let Some(path) = path.filter(|path| path.is_silent()) else {
            return false;
        };
        let since = path.unanswered_since().unwrap_or(now);
        let last = self.peer.activity.last_received();
        last.is_none_or(|last| last < since)
    }

    /// Whether data goes out and nothing comes back, no answer either, for longer than the path lets expect. Where
    /// that is asked about already, the answer is waited for no longer than in haste.
    fn hears_nothing(&mut self, current: Option<usize>, now: Time) -> bool {
        let Some(since) = self.peer.activity.unanswered_since() else {
            self.paths.pause = Duration::ZERO;
            return false;
        };
        let path = current.and_then(|current| self.paths.all.get(current));
        let Some(path) = path.filter(|path| !path.is_silent() && self.places.all.len() > 1) else {
            return false;
        };
        let Some(pause) = path.pause() else {
            return false;
        };
        let wait = path.short_wait();
        let heard = path.last_answer().max(Some(since)).unwrap_or(since);
        let pause = self.paths.pause.max(pause);
        if now.since(heard) < pause {
            return false;
        }
        self.paths.pause = (pause * 2).min(LONGEST_PAUSE);
        let asked = self.paths.waiting.iter_mut();
        let mut is_asked = false;
        for probe in asked.filter(|probe| Some(probe.path) == current && !probe.late) {
            probe.due = probe.due.min(probe.sent + wait);
            is_asked = true;
        }
        !is_asked
    }

    /// From now on its places are chosen among.
    fn begin_paths(&mut self, hop: &HopSettings, random: &mut Randomness, now: Time) {
        if std::mem::replace(&mut self.paths.is_running, true) {
            return;
        }
        let is_late = |next: Option<Time>| next.is_none_or(|next| next < now);
        let number = self
            .peer
            .endpoint()
            .and_then(|at| self.paths.index_of(at.remote));
        let path = number.and_then(|number| self.paths.all.get(number));
        if is_late(self.paths.next_probe) || path.is_none_or(|path| !path.answers()) {
            self.paths.next_probe = Some(now);
        }
        if is_late(self.paths.next_hop) {
            self.paths.next_hop = Some(now + around(hop.interval, random));
        }
    }

    /// The ports that each batch takes one of, where that is wanted.
    fn follow_pool(&mut self, current: usize, hop: &HopSettings, random: &mut Randomness) {
        let Some(path) = self.paths.all.get(current) else {
            return;
        };
        let ports: Vec<u16> = if hop.interval.is_zero() {
            path.ports.good().collect()
        } else {
            Vec::new()
        };
        let works = path.answers();
        self.peer
            .choose_among(&self.places.all, &ports, works, random);
    }

    /// Asks on all paths how they do.
    fn measure(
        &mut self,
        current: Option<usize>,
        hop: &HopSettings,
        random: &mut Randomness,
        asked: &mut Vec<Ask>,
        now: Time,
    ) {
        let used = peer_port(&self.peer);
        for (at, path) in self.paths.all.iter_mut().enumerate() {
            let port = used.filter(|_| Some(at) == current);
            let port = port.or_else(|| path.measured_port(hop.pool, random, now));
            asked.extend(port.map(|port| Ask {
                path: at,
                port,
                purpose: Purpose::Measure,
            }));
        }
    }

    /// Asks at another port of the path in use.
    fn hop(
        &mut self,
        current: usize,
        hop: &HopSettings,
        random: &mut Randomness,
        asked: &mut Vec<Ask>,
        now: Time,
    ) {
        // An answer sets it anew, and so does the lack of one.
        self.paths.next_hop = None;
        let used = peer_port(&self.peer);
        let (Some(path), Some(used)) = (self.paths.all.get_mut(current), used) else {
            return;
        };
        if !self.paths.urgent && path.is_sound() {
            path.ports.keep(used, now);
        }
        let urgent = self.paths.urgent;
        let candidate = path.ports.choose_hop(used, hop.pool, urgent, random, now);
        let is_new = |port: u16| !path.ports.is_good(port);
        if hop.interval.is_zero() && !urgent {
            // A new port for the pool, or one of the pool after the other. Never two at once: the
            // answer may come from the last that was asked.
            let new = candidate.filter(|port| is_new(*port));
            let port = new.or_else(|| path.ports.longest_unasked(used));
            asked.extend(port.map(|port| Ask {
                path: current,
                port,
                purpose: Purpose::Pool,
            }));
            let count = path.ports.good().count().max(1) as u32;
            let pause = match new {
                Some(_) => FILL,
                None => hop.probe_interval / count,
            };
            let answer = path.delay().map_or(FILL, |delay| delay * 3 / 2);
            self.paths.next_hop = Some(now + pause.max(FILL).max(answer));
            return;
        }
        asked.extend(candidate.map(|port| Ask {
            path: current,
            port,
            purpose: Purpose::Hop,
        }));
        let pause = around(hop.interval, random).max(path.wait() + FILL);
        self.paths.next_hop = Some(now + pause);
    }

    /// Goes on at another port of the path in use.
    fn use_port(&mut self, port: u16) {
        if let Some(mut endpoint) = self.peer.endpoint() {
            endpoint.remote.set_port(port);
            self.peer.set_endpoint(Some(endpoint));
        }
    }

    /// Why a path is left.
    fn why(&self, current: Option<usize>, threshold: u32) -> Why {
        match current.and_then(|current| self.paths.all.get(current)) {
            None => Why::Astray,
            Some(path) if path.is_silent() => Why::Silent,
            Some(path) if path.is_lossy(threshold) => Why::Lossy(path.loss().unwrap_or(100)),
            Some(_) => Why::Returned,
        }
    }

    /// Goes on with another path.
    fn use_path(
        &mut self,
        from: Option<usize>,
        to: usize,
        hop: &HopSettings,
        random: &mut Randomness,
        now: Time,
    ) {
        let threshold = hop.loss_threshold;
        if let Some(left) = from.and_then(|from| self.paths.all.get_mut(from))
            && (left.is_silent() || left.is_lossy(threshold))
        {
            left.leave(now);
        }
        if let Some(path) = self.paths.all.get_mut(to)
            && let Some(port) = path.measured_port(hop.pool, random, now)
        {
            let at = path.place.at(port);
            self.peer.set_endpoint(Some(Endpoint::from(at)));
        }
        (self.paths.urgent, self.paths.tries) = (false, 0);
    }
}

/// The port that a peer is at.
fn peer_port(peer: &Peer) -> Option<u16> {
    peer.endpoint().map(|endpoint| endpoint.remote.port())
}

/// Between half of it and one and a half times as much.
fn around(interval: Duration, random: &mut Randomness) -> Duration {
    let nanos = u64::try_from(interval.as_nanos()).unwrap_or(u64::MAX >> 2);
    // It keeps no secret: where there is no randomness there is no handshake either.
    let drawn = random.bytes().map_or(0, u64::from_ne_bytes);
    Duration::from_nanos(nanos / 2 + drawn % nanos.max(1))
}
