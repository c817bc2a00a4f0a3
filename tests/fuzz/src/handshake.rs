//! Two devices on a virtual clock, through any series of events: packets, silences, losses, copies,
//! other orders, spoilt messages, restarts, other keys, moves, load and refusals. Of all these must
//! hold:
//!
//! * what is delivered was sent by the other one, and is delivered once;
//! * no counter is used twice on a session;
//! * an index is born once and dies once, and nothing is opened under a dead one;
//! * a wake-up is never in the past, and there are no more of them than timers explain;
//! * once nobody sends, all sessions end and nobody wakes any more;
//! * after whatever came before, two that agree on their keys talk within 10 s.

use std::collections::{BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use taltun_crypto::{PresharedKey, PrivateKey};
use taltun_protocol::batch::Opened;
use taltun_protocol::device::{Device, Event, PeerSettings, Settings};
use taltun_protocol::messages::{DATA_HEADER_LEN, Message};
use taltun_protocol::randomness::Randomness;
use taltun_protocol::time::Time;

use crate::choices::Choices;

/// Most events of an input: each may cost a handshake.
const MOST: usize = 300;
/// Most messages on their way.
const IN_TRANSIT: usize = 32;

pub(crate) fn run(input: &[u8]) {
    let mut world = World::new();
    let mut choices = Choices::new(input);
    for _ in 0..MOST {
        if choices.is_over() {
            break;
        }
        world.step(&mut choices);
    }
    world.end();
}

struct Node {
    device: Device,
    address: SocketAddr,
    indices: BTreeSet<u32>,
    born: BTreeSet<u32>,
    /// Receiver and counter of each data message that it sent.
    nonces: BTreeSet<(u32, u64)>,
    under_load: bool,
    /// What was delivered to it, by number.
    got: BTreeSet<u32>,
    wakes: u64,
}

/// A message on its way.
#[derive(Clone)]
struct Sent {
    from: SocketAddr,
    to: SocketAddr,
    bytes: Vec<u8>,
    is_spoilt: bool,
}

struct World {
    nodes: [Node; 2],
    now: Time,
    transit: VecDeque<Sent>,
    /// How many packets were sent; each carries its number, and the next one's sender.
    numbers: u32,
    senders: Vec<usize>,
    restarts: u8,
    psk: u8,
}

fn key(who: usize) -> PrivateKey {
    PrivateKey::from_bytes([who as u8 + 1; 32])
}

fn address(who: usize, place: u8) -> SocketAddr {
    SocketAddr::from(([192, 0, place, who as u8 + 1], 9000))
}

fn inner(who: usize) -> [u8; 4] {
    [10, 0, 0, who as u8 + 1]
}

fn node(who: usize, restarts: u8, psk: u8, now: Time) -> Node {
    let mut device = Device::new(Settings {
        private_key: key(who),
        randomness: Randomness::seeded([who as u8 * 128 + restarts; 32]),
        wall_clock_at_zero: Duration::from_secs(1_700_000_000),
        mtu: 1420,
        local_addresses: vec![inner(who).into()],
        relay: false,
    });
    let other = 1 - who;
    let peer = PeerSettings {
        public_key: key(other).public_key(),
        preshared_key: PresharedKey([psk; 32]),
        endpoint: Some(address(other, 2).into()),
        allowed_ips: vec![std::net::IpAddr::from(inner(other)).into()],
        persistent_keepalive: None,
    };
    device.add_peer(peer, now).expect("it is the first one");
    Node {
        device,
        address: address(who, 2),
        indices: BTreeSet::new(),
        born: BTreeSet::new(),
        nonces: BTreeSet::new(),
        under_load: false,
        got: BTreeSet::new(),
        wakes: 0,
    }
}

impl World {
    fn new() -> Self {
        Self {
            nodes: [0, 1].map(|who| node(who, 0, 0, Time::START)),
            now: Time::START,
            transit: VecDeque::new(),
            numbers: 0,
            senders: Vec::new(),
            restarts: 0,
            psk: 0,
        }
    }

    fn step(&mut self, choices: &mut Choices<'_>) {
        let event = choices.byte();
        let who = usize::from(event & 1);
        let theirs = key(1 - who).public_key();
        let at = choices.byte();
        match event >> 1 & 15 {
            0..=2 => self.talk(who),
            3..=5 => self.deliver(at, false),
            6 => drop(self.take(at)),
            7 => self.deliver(at, true),
            8 => {
                let bit = choices.word();
                if let Some(mut sent) = self.take(at) {
                    let len = sent.bytes.len();
                    sent.bytes[usize::from(bit >> 3) % len] ^= 1 << (bit & 7);
                    sent.is_spoilt = true;
                    self.arrive(&sent);
                }
            }
            9 => self.pass(Duration::from_millis(u64::from(at) * 4)),
            10 => self.pass(Duration::from_secs(u64::from(at))),
            11 => self.nodes[who].device.initiate(&theirs, self.now),
            12 => {
                self.restarts = self.restarts.saturating_add(1) & 127;
                self.nodes[who] = node(who, self.restarts, self.psk, self.now);
            }
            13 => {
                // Both, or one of them alone.
                self.psk = at & 3;
                let key_of = |psk| PresharedKey([psk; 32]);
                self.nodes[who]
                    .device
                    .set_preshared_key(&theirs, key_of(self.psk));
                if at & 4 != 0 {
                    let ours = key(who).public_key();
                    let other = &mut self.nodes[1 - who].device;
                    other.set_preshared_key(&ours, key_of(self.psk));
                }
            }
            14 => {
                self.nodes[who].address = address(who, 2 + (at & 1));
                self.nodes[who].under_load = at & 2 != 0;
            }
            _ => {
                let refused = at & 1 != 0;
                self.nodes[who]
                    .device
                    .set_refused(&theirs, refused, self.now);
            }
        }
        self.settle();
    }

    /// A packet with a number of its own, from one to the other.
    fn talk(&mut self, who: usize) {
        let len = 24;
        let mut packet = [0; 24];
        packet[0] = 0x45;
        packet[3] = len as u8;
        packet[12..16].copy_from_slice(&inner(who));
        packet[16..20].copy_from_slice(&inner(1 - who));
        packet[20..].copy_from_slice(&self.numbers.to_be_bytes());
        self.numbers += 1;
        self.senders.push(who);
        let mut buffer = vec![0; DATA_HEADER_LEN + len + 64];
        buffer[DATA_HEADER_LEN..][..len].copy_from_slice(&packet);
        let tunnel = Arc::clone(self.nodes[who].device.tunnel());
        if let Ok(sealed) = tunnel.batch(self.now).seal(&mut buffer, len) {
            buffer.truncate(sealed.len);
            self.post(who, sealed.endpoint.remote, buffer);
        }
    }

    fn post(&mut self, who: usize, to: SocketAddr, bytes: Vec<u8>) {
        if let Ok(Message::Data { receiver, counter }) = Message::parse(&bytes) {
            let fresh = self.nodes[who].nonces.insert((receiver, counter));
            assert!(fresh, "counter {counter} twice on session {receiver:#x}");
        }
        if self.transit.len() < IN_TRANSIT {
            self.transit.push_back(Sent {
                from: self.nodes[who].address,
                to,
                bytes,
                is_spoilt: false,
            });
        }
    }

    fn take(&mut self, at: u8) -> Option<Sent> {
        let many = self.transit.len();
        let at = usize::from(at).checked_rem(many)?;
        self.transit.remove(at)
    }

    /// Whatever is on its way arrives, in any order, and may do so again.
    fn deliver(&mut self, at: u8, keep: bool) {
        if let Some(sent) = self.take(at) {
            self.arrive(&sent);
            if keep {
                self.transit.push_back(sent);
            }
        }
    }

    fn arrive(&mut self, sent: &Sent) {
        let Some(who) = self.nodes.iter().position(|node| node.address == sent.to) else {
            return;
        };
        let now = self.now;
        let node = &mut self.nodes[who];
        match Message::parse(&sent.bytes) {
            Ok(Message::Data { receiver, counter }) => {
                let mut buffer = sent.bytes.clone();
                let tunnel = Arc::clone(node.device.tunnel());
                let opened =
                    tunnel
                        .batch(now)
                        .open(receiver, counter, &mut buffer, sent.from.into());
                let Ok(opened) = opened else { return };
                assert!(!sent.is_spoilt, "a spoilt message is opened");
                assert!(node.indices.contains(&receiver), "by a dead index");
                if let Opened::Local(inner) = opened {
                    let packet = &buffer[DATA_HEADER_LEN..][..inner.len];
                    let number = u32::from_be_bytes(packet[20..24].try_into().unwrap());
                    assert_eq!(self.senders.get(number as usize), Some(&(1 - who)));
                    assert!(node.got.insert(number), "packet {number} came twice");
                }
            }
            Ok(message) => {
                let tunnel = Arc::clone(node.device.tunnel());
                let vetted = tunnel.batch(now).vet(&message, &sent.bytes, sent.from);
                if vetted.is_ok() {
                    let from = sent.from.into();
                    let under_load = node.under_load;
                    let _ = node
                        .device
                        .handle_handshake(&sent.bytes, from, under_load, now);
                }
            }
            Err(_) => assert!(sent.is_spoilt, "what was sent is no message"),
        }
    }

    /// What a shell does after each call.
    fn settle(&mut self) {
        for who in [0, 1] {
            let node = &mut self.nodes[who];
            if node.device.tunnel().take_wake() {
                node.device.handle_requests(self.now);
            }
            while let Some(event) = node.device.poll_event() {
                match event {
                    Event::IndexBorn(index) => {
                        assert!(node.born.insert(index), "index {index:#x} is born twice");
                        node.indices.insert(index);
                    }
                    Event::IndexDied(index) => {
                        assert!(node.indices.remove(&index), "index {index:#x} dies twice");
                    }
                    Event::SessionBegun { local, .. } => assert!(node.indices.contains(&local)),
                    _ => {}
                }
            }
            // Three sessions before the current one, the next one, and two initiations: the one before
            // the newest is still answered.
            assert!(
                node.indices.len() <= 7,
                "{} indices of a peer",
                node.indices.len()
            );
            while let Some(transmit) = self.nodes[who].device.poll_transmit() {
                self.post(who, transmit.endpoint.remote, transmit.payload);
            }
            while self.nodes[who].device.poll_given_up().is_some() {}
        }
    }

    fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        loop {
            let due = self
                .nodes
                .iter()
                .filter_map(|node| node.device.poll_timeout())
                .min();
            let Some(due) = due.filter(|due| *due <= end) else {
                break;
            };
            self.now = self.now.max(due);
            for node in &mut self.nodes {
                if node
                    .device
                    .poll_timeout()
                    .is_some_and(|due| due <= self.now)
                {
                    node.device.handle_timeout(self.now);
                    node.wakes += 1;
                    let next = node.device.poll_timeout();
                    assert!(
                        next.is_none_or(|next| next > self.now),
                        "a wake-up in the past"
                    );
                }
            }
            self.settle();
        }
        self.now = end;
    }

    /// Everything on its way arrives, and time passes, until this long is over.
    fn run(&mut self, time: Duration) {
        let end = self.now + time;
        while self.now < end {
            while let Some(sent) = self.transit.pop_front() {
                self.arrive(&sent);
                self.settle();
            }
            self.pass(Duration::from_millis(50));
        }
    }

    fn end(&mut self) {
        // Both mean the same again, and are where the other looks for them.
        for who in [0, 1] {
            let theirs = key(1 - who).public_key();
            let node = &mut self.nodes[who];
            node.address = address(who, 2);
            node.under_load = false;
            node.device.set_refused(&theirs, false, self.now);
            node.device
                .set_preshared_key(&theirs, PresharedKey([self.psk; 32]));
            node.device
                .set_endpoint(&theirs, Some(address(1 - who, 2).into()));
        }
        self.transit.clear();
        self.settle();
        // Sessions by other keys are over by then, and a limit on handshakes has passed.
        self.pass(Duration::from_secs(200));
        self.transit.clear();
        for who in [1, 0] {
            let number = self.numbers;
            self.talk(who);
            self.settle();
            self.run(Duration::from_secs(10));
            assert!(
                self.nodes[1 - who].got.contains(&number),
                "{who} isn't heard"
            );
        }
        // Silence: what is left to do is done with.
        let before = self.nodes.each_ref().map(|node| node.wakes);
        for _ in 0..40 {
            self.transit.clear();
            self.pass(Duration::from_secs(30));
        }
        for (node, before) in self.nodes.iter().zip(before) {
            assert!(
                node.indices.is_empty(),
                "sessions without end: {:?}",
                node.indices
            );
            assert_eq!(node.device.poll_timeout(), None, "it wakes for nothing");
            assert!(
                node.wakes - before < 200,
                "{} wake-ups",
                node.wakes - before
            );
        }
    }
}
