//! What happens by itself: what the device wants done, what is due, what the network does.

use std::collections::HashSet;
use std::net::IpAddr;

use taltun_common::drops::DropReason;
use tracing::{debug, warn};

use super::Engine;
use crate::control::names::Resolved;
use crate::control::origin::TunnelKind;
use crate::dataplane::clock;
use crate::dataplane::shared::Handshake;
use crate::dataplane::tap::Subject;
use crate::name_service::Learned;
use crate::protocol::device::Event;
use crate::protocol::peer::PeerId;
use crate::system::Host;

/// So many initiations without an answer, and the name of a peer's endpoint is looked up again.
const LOOK_UP_AFTER: u32 = 3;

impl Engine {
    /// Does what workers asked for.
    pub(in crate::control) fn handle_requests(&mut self) {
        let now = self.now();
        self.device.handle_requests(now);
        self.hear_hubs();
    }

    /// Does what is due.
    pub(in crate::control) fn handle_timeout(&mut self) {
        let now = self.now();
        self.device.handle_timeout(now);
    }

    /// Takes handshake messages in their order; so many more are waiting.
    pub(in crate::control) fn handle_handshakes(
        &mut self,
        handshakes: &[Handshake],
        waiting: usize,
    ) {
        let now = self.now();
        let mut lasting = None;
        for _ in handshakes {
            lasting = self.handshake_load.note(waiting, now);
        }
        if let Some(lasting) = lasting {
            self.gate.close_until(now + lasting);
            self.shield.set_under_load(lasting);
        }
        let messages = handshakes.iter();
        let messages: Vec<_> = messages
            .map(|handshake| (handshake.datagram(), handshake.from))
            .collect();
        let (data_plane, diagnosis) = (&self.data_plane, &mut self.diagnosis);
        self.device
            .handle_handshakes(&messages, lasting.is_some(), now, |at, outcome| {
                let from = handshakes[at].from;
                let subject = Subject::Arrived {
                    from,
                    datagram: handshakes[at].datagram(),
                    peer: None,
                };
                if let Err(reason) = outcome {
                    debug!("handshake message from {}: {}", from.remote, reason.label());
                    data_plane.counters().drop_packet(reason, subject);
                    if reason == DropReason::Mac1 {
                        diagnosis.misled(from.remote.ip(), now);
                    }
                } else {
                    data_plane.taps().pass(now, subject);
                }
            });
    }

    /// Does what the device wants done: the filter learns of an index before the message
    /// that carries it leaves.
    pub(in crate::control) fn carry_out(&mut self) {
        while let Some(event) = self.device.poll_event() {
            self.handle_event(event);
        }
        while let Some(transmit) = self.device.poll_transmit() {
            if let Some(errno) = self.data_plane.send(&transmit) {
                self.diagnosis.not_sent(transmit.endpoint.remote, errno);
            }
        }
        while let Some(packet) = self.device.poll_given_up() {
            self.data_plane.tell_unreachable(&packet, clock::now());
        }
    }

    fn handle_event(&mut self, event: Event) {
        let now = clock::now();
        self.diagnosis.note(&event, &self.device, &self.peers, now);
        match event {
            Event::IndexBorn(index) => self.shield.allow_index(index),
            Event::SessionBegun { local, remote } => self.shield.note_session(local, remote),
            Event::IndexDied(index) => self.shield.forget_index(index),
            Event::CookieGiven(source) => {
                if let Some((secret, lasting)) = self.device.cookie_secret(now) {
                    self.shield.give_cookie(source, secret, lasting);
                }
            }
            Event::HandshakeGivenUp(id) => {
                if let Some(key) = self.device.key_of(id).copied() {
                    let now = self.now();
                    let (device, diagnosis) = (&mut self.device, &mut self.diagnosis);
                    self.dialer
                        .given_up(&key, device, &self.peers, diagnosis, now);
                }
            }
            Event::HandshakeFinished(id) => {
                self.remember(id);
                self.peer_came(id);
            }
            Event::Moved(id) => {
                self.remember(id);
                self.peer_roamed(id);
            }
            Event::Unanswered(id, in_a_row) if in_a_row % LOOK_UP_AFTER == 0 => {
                if let Some(key) = self.device.key_of(id) {
                    self.dialer.look_up_again(key, &self.peers);
                }
            }
            Event::Unanswered(..)
            | Event::PathChanged(..)
            | Event::NotConfirmed(_)
            | Event::AnswerRefused(_)
            | Event::ClockBehind(..)
            | Event::UnknownKey(..) => {}
        }
    }

    /// Keeps where a peer is for the next start, which asks it there unless the configuration
    /// knows better.
    fn remember(&mut self, id: PeerId) {
        if let Some(memory) = &mut self.memory
            && let Some(peer) = self.device.peer_by_id(id)
            && let Some(endpoint) = peer.endpoint()
        {
            memory.note(*peer.public_key(), endpoint.remote);
        }
    }

    pub(in crate::control) fn handle_resolved(&mut self, resolved: Resolved) {
        let now = self.now();
        self.dialer.resolved(
            resolved,
            &mut self.device,
            &self.peers,
            &mut self.diagnosis,
            now,
        );
    }

    /// Speaks to the next of the peers that were there before this start.
    pub(in crate::control) fn speak_to_remembered(&mut self) {
        if let Some(memory) = &mut self.memory {
            let (device, diagnosis) = (&mut self.device, &mut self.diagnosis);
            memory.speak_to_some(device, &self.peers, diagnosis, clock::now());
        }
    }

    /// Ends the bans whose time is over.
    pub(in crate::control) fn expire_bans(&mut self) {
        self.bans.expire(&mut self.shield);
    }

    /// Tells those who watch what the eBPF programs have dropped.
    pub(in crate::control) fn look_at_kernel(&mut self) {
        self.watches.look(self.data_plane.taps(), &self.shield);
    }

    /// Leads addresses that a name has into the tunnel, and to its peer.
    pub(in crate::control) async fn learn(&mut self, learned: Learned, host: &mut Option<Host>) {
        if let Some((names, mut routes)) = self.names_and_routes() {
            names.learn(learned, &mut routes, host).await;
        }
    }

    /// Ends all sessions, so that no key and nonce is used a second time, and makes new ones.
    pub(in crate::control) fn start_over(&mut self, why: &str) {
        warn!("{why}: all sessions end, and new ones are made");
        let now = self.now();
        self.device.start_over(now);
    }

    /// What is done once a second. Returns whether this is one to look at all peers in.
    pub(in crate::control) async fn each_second(&mut self, host: &mut Option<Host>) -> bool {
        if self.clocks.have_parted(clock::wall(), clock::now()) {
            self.start_over("the wall clock was set, or the machine was stopped or rolled back");
        }
        self.look_at_privileged();
        self.follow_network();
        self.keep_hubs();
        self.follow_rules();
        if let Some(host) = host {
            host.keep_journal();
        }
        self.shield.refresh();
        self.data_plane.tick();
        self.data_plane.rights().tell_refused();
        self.tell_endpoints();
        self.device.follow_places();
        let now = clock::now();
        let port = self.listen_port();
        let dropped_by_shield = self.shield.drops();
        let counters = self.data_plane.counters();
        let dropped = counters.drops() + dropped_by_shield;
        self.rates.look(counters.traffic(), dropped, now);
        self.rates.look_at_standing(&counters.standing(), now);
        self.rates.look_at_peers(&self.device, now);
        self.diagnosis
            .look_for_misled(&self.gate, &self.shield, &dropped_by_shield, now);
        self.diagnosis
            .each_second(port, &mut self.device, &self.peers, now);
        self.by_wg.tell();
        if let Some(metrics) = &mut self.metrics {
            metrics.look(&self.config.interface);
        }
        if let Some(web) = &mut self.web {
            web.served.look(&self.config.interface);
        }
        if let Some(memory) = &mut self.memory {
            memory.tick();
        }
        if let Some(ledger) = &mut self.ledger {
            ledger.each_second(&self.device, &self.peers, now);
        }
        self.follow_limits();
        let look = self.looking.is_due(self.device.len());
        if look {
            self.flaps.follow(&self.device, &self.peers, now);
        }
        self.data_plane.follow_queues(&mut self.shield);
        let taps = self.data_plane.taps();
        self.watches.follow(taps, &self.peers, &self.device);
        self.lead_ports(host).await;
        self.forward_ports(host).await;
        self.follow_kernel_relay(host.as_ref());
        self.refuse_pretenders(host).await;
        if let Some((names, mut routes)) = self.names_and_routes() {
            names.expire(&mut routes, host).await;
            if let Some(host) = host {
                names.look(host);
            }
        }
        look
    }

    /// Takes over what others change of the host's network.
    fn follow_network(&mut self) {
        let name = &self.config.interface.tun_name;
        let changed = self
            .network
            .follow(name, &mut self.device, &self.data_plane);
        if self.kind == TunnelKind::Configured {
            let (refused, mark) = (self.view().refuses_around(), self.data_plane.mark());
            self.underlay.follow(
                changed,
                refused,
                mark,
                &mut self.device,
                &self.peers,
                &self.config,
            );
        }
        if let Some(names) = &mut self.names
            && (changed || self.network.is_blind())
        {
            names.look_again();
        }
    }

    /// Tells those who sort handshakes before us where peers are, if any has moved since.
    fn tell_endpoints(&mut self) {
        let due = self.telling_endpoints.is_due(self.device.len());
        if !due || !self.device.tunnel().take_places_changed() {
            return;
        }
        let peers = self.device.peers();
        let endpoints = peers.filter_map(|peer| Some(peer.endpoint()?.remote.ip().to_canonical()));
        // Those of other hubs may come here, too.
        let elsewhere = self.device.expected_at();
        let endpoints: HashSet<IpAddr> = endpoints.chain(elsewhere).collect();
        self.shield.set_endpoints(endpoints.iter().copied());
        self.gate.set_endpoints(endpoints);
    }
}
