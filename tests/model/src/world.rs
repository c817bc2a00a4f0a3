//! All of them, a clock and a network: what each shell does with what comes, and what is checked at each
//! step.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use taltun_common::drops::DropReason;
use taltun_crypto::PublicKey;
use taltun_policy::{Ends, Side};
use taltun_protocol::batch::{NotSealed, Opened, Sealed};
use taltun_protocol::device::Event;
use taltun_protocol::endpoint::{Endpoint, Local};
use taltun_protocol::ip;
use taltun_protocol::messages::{DATA_HEADER_LEN, Message};

use crate::cast::{self, ALL, HUB};
use crate::ledger::Ledger;
use crate::network::{Network, Sent};
use crate::node::{Disk, Node};
use crate::packet::{self, Said};
use crate::rules::{Routed, Rules};
use crate::tally::Tally;

/// How long a message is on its way, where the network works.
const DELAY: Duration = Duration::from_millis(20);
/// Room behind a packet for its padding and its tag.
const ROOM: usize = 64;
/// Indices of a peer: the current session, three before it, the next one, and two initiations.
const INDICES: usize = 7;
/// Wake-ups of one of them in a stretch of time, at the most: so many, and so many more a second.
const WAKES: (u64, u64) = (200, 100);

/// All of them.
#[derive(Debug)]
pub(crate) struct World {
    pub(crate) nodes: Vec<Node>,
    /// Nanoseconds since the world began.
    pub(crate) now: u64,
    pub(crate) network: Network,
    pub(crate) ledger: Ledger,
    pub(crate) rules: Rules,
    /// What was saved of each disk.
    pub(crate) saved: Vec<Disk>,
    pub(crate) tally: Tally,
}

/// From which side of the hub a packet comes.
const FROM_PEER: Side = Side::Peer;

impl World {
    pub(crate) fn new(seed: [u8; 4]) -> Self {
        let nodes: Vec<_> = (0..ALL).map(|who| Node::new(who, seed)).collect();
        Self {
            saved: nodes.iter().map(|node| node.disk.clone()).collect(),
            nodes,
            now: 0,
            network: Network::default(),
            ledger: Ledger::default(),
            rules: Rules::new(u64::from(u32::from_le_bytes(seed))),
            tally: Tally::default(),
        }
    }

    // ---- packets -----------------------------------------------------------------------

    /// Somebody's operating system sends a packet.
    pub(crate) fn talk(&mut self, who: usize, said: Said, payload: usize) {
        if self.nodes[who].is_asleep {
            return;
        }
        let bytes = packet::build(&said, payload);
        self.ledger.write(said, bytes.clone());
        self.route(who, said.number, &bytes);
    }

    /// A packet from the interface of one of them goes into the tunnel.
    fn route(&mut self, who: usize, number: u32, bytes: &[u8]) {
        let said = self.ledger.said(number);
        let owner = Routed(&self.nodes[who].routes).find(said.destination);
        let ends = Ends {
            from: Side::Host,
            to: Side::Peer,
        };
        if who == HUB && owner.is_some() && !self.judge(number, bytes, ends) {
            return;
        }
        let mut buffer = vec![0xee; DATA_HEADER_LEN + bytes.len() + ROOM];
        buffer[DATA_HEADER_LEN..][..bytes.len()].copy_from_slice(bytes);
        let tunnel = Arc::clone(self.nodes[who].device.tunnel());
        let mut batch = tunnel.batch(self.nodes[who].clock(self.now));
        let sealed = batch.seal(&mut buffer, bytes.len());
        let receiver = batch.receiver_of(&sealed).map(|peer| *peer.public_key());
        drop(batch);
        assert_eq!(
            receiver, owner,
            "{who} seals packet {number} for another one"
        );
        self.after_sealing(who, number, sealed, receiver, buffer);
        self.settle(who);
    }

    /// What comes of a packet that was to be sealed for a receiver.
    fn after_sealing(
        &mut self,
        who: usize,
        number: u32,
        sealed: Result<Sealed, NotSealed>,
        receiver: Option<PublicKey>,
        mut buffer: Vec<u8>,
    ) {
        let receiver = receiver.as_ref().and_then(cast::owner);
        let waits = matches!(sealed, Err(NotSealed::Staged { .. }));
        if let Some(receiver) = receiver.filter(|_| waits || sealed.is_ok()) {
            self.ledger.sealed(number, who, receiver);
        }
        if let Ok(sealed) = sealed {
            buffer.truncate(sealed.len);
            self.post(who, sealed.endpoint, buffer);
        }
    }

    /// Whether the hub's rules let a packet pass, which they do exactly if they should.
    fn judge(&mut self, number: u32, bytes: &[u8], ends: Ends) -> bool {
        let said = self.ledger.said(number);
        let routed = Routed(&self.nodes[HUB].routes);
        let now = Duration::from_nanos(self.now);
        let passes = self.rules.pass(bytes, ends, &routed, now);
        let may_start = self.rules.may_start(&said);
        assert!(
            passes || !may_start,
            "rules stop packet {number}, which they allow"
        );
        if passes && !may_start {
            let mut asked = self.ledger.asked(&said);
            assert!(
                asked.any(|asked| self.rules.may_start(asked)),
                "rules pass packet {number}, which nobody asked for: {said:?}"
            );
        }
        if passes {
            self.ledger.pass(number);
        } else {
            self.tally.denied += 1;
        }
        passes
    }

    // ---- messages ----------------------------------------------------------------------

    pub(crate) fn post(&mut self, who: usize, to: Endpoint, bytes: Vec<u8>) {
        let node = &mut self.nodes[who];
        if let Ok(Message::Data { receiver, counter }) = Message::parse(&bytes) {
            node.nonces.spend(receiver, counter);
        }
        self.network.post(Sent {
            author: who,
            from: node.source(to, &bytes),
            to: to.remote,
            bytes,
            is_spoilt: false,
        });
    }

    /// Who gets a message, if anybody does.
    pub(crate) fn target(&self, sent: &Sent) -> Option<usize> {
        let who = if cast::is_hub(sent.to) {
            HUB
        } else {
            self.nodes.iter().position(|node| node.address == sent.to)?
        };
        let is_open = self.network.is_open(sent.author, who, sent.to);
        (is_open && !self.nodes[who].is_asleep).then_some(who)
    }

    /// A message arrives.
    pub(crate) fn arrive(&mut self, sent: &Sent) {
        let Some(who) = self.target(sent) else { return };
        self.tally.messages += 1;
        match Message::parse(&sent.bytes) {
            Ok(Message::Data { receiver, counter }) => self.open(who, sent, receiver, counter),
            Ok(Message::Initiation(initiation)) => {
                let begun = self.tally.sessions;
                self.shake_hands(who, &[sent]);
                self.settle(who);
                let is_answered = self.tally.sessions > begun;
                let answered = &mut self.nodes[who].answered;
                let fresh = !is_answered || answered.insert(initiation.ephemeral);
                assert!(fresh, "{who} answers an initiation again");
            }
            Ok(_) => self.shake_hands(who, &[sent]),
            Err(_) => assert!(sent.is_spoilt, "what was sent is no message"),
        }
        self.settle(who);
    }

    /// Handshake messages arrive together.
    pub(crate) fn shake_hands(&mut self, who: usize, all: &[&Sent]) {
        let node = &mut self.nodes[who];
        node.tell_time(self.now);
        let now = node.clock(self.now);
        let tunnel = Arc::clone(node.device.tunnel());
        let mut taken = Vec::new();
        for sent in all {
            node.note_used(sent.to, sent.from, &sent.bytes);
            let Ok(message) = Message::parse(&sent.bytes) else {
                continue;
            };
            if tunnel
                .batch(now)
                .vet(&message, &sent.bytes, sent.from)
                .is_ok()
            {
                taken.push((sent.bytes.as_slice(), heard_from(sent.from, sent.to)));
            }
        }
        let under_load = node.under_load;
        let device = &mut node.device;
        device.handle_handshakes(&taken, under_load, now, |_, _| ());
    }

    fn open(&mut self, who: usize, sent: &Sent, receiver: u32, counter: u64) {
        let node = &mut self.nodes[who];
        node.note_used(sent.to, sent.from, &sent.bytes);
        let tunnel = Arc::clone(node.device.tunnel());
        let mut batch = tunnel.batch(node.clock(self.now));
        let mut buffer = sent.bytes.clone();
        buffer.resize(sent.bytes.len() + ROOM, 0xee);
        let message = &mut buffer[..sent.bytes.len()];
        let opened = batch.open(receiver, counter, message, heard_from(sent.from, sent.to));
        let authentic = opened.is_ok() || opened == Err(DropReason::InnerSource);
        if !authentic {
            return;
        }
        let key = *batch.sender().expect("one was opened").public_key();
        let sender = cast::owner(&key).expect("nobody has this key");
        assert!(!sent.is_spoilt, "a spoilt message is opened");
        assert!(node.indices.contains(&receiver), "by a dead index");
        assert_eq!(sender, sent.author, "another one sent it");
        assert_eq!(node.key_of(sender), Some(key), "of a peer that isn't there");
        assert!(!node.refused.contains(&sender), "of a peer that is refused");
        let (inner, relayed) = match opened {
            Ok(Opened::Keepalive | Opened::Control) => return,
            Ok(Opened::Local(inner)) => (inner, false),
            Ok(Opened::Relay(inner)) => (inner, true),
            Err(_) => {
                let inner = ip::parse(&buffer[DATA_HEADER_LEN..]);
                let source = inner.expect("its source was read").source;
                let owner = Routed(&node.routes).find(source);
                assert!(
                    owner != Some(key) || node.has(source),
                    "its source is right"
                );
                self.tally.foreign_sources += 1;
                return;
            }
        };
        let routed = Routed(&node.routes);
        assert_eq!(
            routed.find(inner.source),
            Some(key),
            "a source of somebody else"
        );
        assert!(!node.has(inner.source), "a source of ours");
        let owner = routed.find(inner.destination);
        let is_others = owner.is_some_and(|owner| owner != key) && !node.has(inner.destination);
        assert_eq!(
            relayed,
            node.relay && is_others,
            "whether it is to be relayed"
        );
        let forwards = who == HUB && owner.is_some() && !node.has(inner.destination);
        let bytes = buffer[DATA_HEADER_LEN..][..inner.len].to_vec();
        let number = self.ledger.opened(&bytes, who, sender);
        let ends = Ends {
            from: FROM_PEER,
            to: if relayed { Side::Peer } else { Side::Host },
        };
        if who == HUB && !self.judge(number, &bytes, ends) {
            return;
        }
        if relayed {
            let sealed = batch.relay(&mut buffer, &inner);
            let receiver = batch.receiver_of(&sealed).map(|peer| *peer.public_key());
            assert_eq!(receiver, owner, "packet {number} is relayed to another one");
            drop(batch);
            self.after_sealing(who, number, sealed, receiver, buffer);
            self.tally.relayed += 1;
            return;
        }
        drop(batch);
        if forwards {
            // Its kernel sends it back into the tunnel.
            let mut bytes = bytes;
            if ip::take_hop(&mut bytes) {
                self.route(who, number, &bytes);
            }
            return;
        }
        self.ledger.deliver(number);
        self.tally.delivered += 1;
    }

    /// What a shell does after each call.
    pub(crate) fn settle(&mut self, who: usize) {
        let node = &mut self.nodes[who];
        let now = node.clock(self.now);
        if node.device.tunnel().take_wake() {
            node.tell_time(self.now);
            node.device.handle_requests(now);
        }
        while let Some(event) = node.device.poll_event() {
            match event {
                Event::IndexBorn(index) => {
                    let fresh = node.born.insert(index) && node.indices.insert(index);
                    assert!(fresh, "index {index:#x} is born twice");
                }
                Event::IndexDied(index) => {
                    assert!(node.indices.remove(&index), "index {index:#x} dies twice");
                }
                Event::SessionBegun { local, remote } => {
                    assert!(node.indices.contains(&local), "a session without an index");
                    node.nonces.begin(local, remote);
                    self.tally.sessions += 1;
                }
                Event::Moved(_) => self.tally.moves += 1,
                Event::PathChanged(..) => self.tally.path_changes += 1,
                Event::CookieGiven(_) => self.tally.cookies += 1,
                Event::ClockBehind(..) => self.tally.clocks_behind += 1,
                Event::HandshakeGivenUp(_) => self.tally.given_up += 1,
                Event::UnknownKey(..) => self.tally.strangers += 1,
                Event::HandshakeFinished(_)
                | Event::Unanswered(..)
                | Event::AnswerRefused(_)
                | Event::NotConfirmed(_) => {}
            }
        }
        assert!(
            node.indices.len() <= INDICES * node.device.len(),
            "{} indices of {} peers",
            node.indices.len(),
            node.device.len()
        );
        while self.nodes[who].device.poll_given_up().is_some() {}
        while let Some(transmit) = self.nodes[who].device.poll_transmit() {
            self.post(who, transmit.endpoint, transmit.payload);
        }
    }

    /// What is on its way arrives after a moment, as on a network that works.
    pub(crate) fn flow(&mut self) {
        self.pass(DELAY);
        self.deliver_all();
    }

    /// All that is on its way arrives.
    pub(crate) fn deliver_all(&mut self) {
        // What comes of it is on its way for as long.
        for sent in self.network.take_all(|_| true) {
            self.arrive(&sent);
        }
    }

    // ---- time --------------------------------------------------------------------------

    /// Time passes, and who wants to be woken is.
    pub(crate) fn pass(&mut self, time: Duration) {
        let end = self.now + time.as_nanos() as u64;
        let before: Vec<_> = self.nodes.iter().map(|node| node.wakes).collect();
        loop {
            let awake = self.nodes.iter().filter(|node| !node.is_asleep);
            let due = awake.filter_map(Node::due).min();
            let Some(due) = due.filter(|due| *due <= end) else {
                break;
            };
            self.now = self.now.max(due);
            for who in 0..self.nodes.len() {
                let node = &mut self.nodes[who];
                let is_due = node.due().is_some_and(|due| due <= self.now);
                if node.is_asleep || !is_due {
                    continue;
                }
                node.tell_time(self.now);
                let now = node.clock(self.now);
                node.device.handle_timeout(now);
                node.wakes += 1;
                self.tally.wakes += 1;
                let next = node.device.poll_timeout();
                assert!(next.is_none_or(|next| next > now), "a wake-up in the past");
                self.settle(who);
            }
            for (node, before) in self.nodes.iter().zip(&before) {
                let most = WAKES.0 + WAKES.1 * time.as_secs();
                assert!(
                    node.wakes - before <= most,
                    "{} wakes without end",
                    node.who
                );
            }
        }
        self.now = end;
    }
}

/// From where a message came, and to which of our addresses.
fn heard_from(from: SocketAddr, to: SocketAddr) -> Endpoint {
    let local = Local {
        address: to.ip(),
        interface: 2,
    };
    Endpoint {
        local: Some(local),
        ..from.into()
    }
}
