//! A virtual world: devices on one clock, joined by a network that may lose, delay,
//! reorder and duplicate.
//!
//! [`World`] is a shell around each [`Device`] that makes exactly the calls a real one
//! makes, in the same order, and sleeps exactly until [`Device::poll_timeout`]. On the way
//! it checks what must hold in every test: indices are born once and die once, no data is
//! sent to an index its receiver doesn't know, and no deadline is left in the past.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use taltun_common::drops::DropReason;
use taltun_common::wire::PROBE_LEN;

use super::super::batch::{NotSealed, Opened};
use super::super::cookie::Sealer;
use super::super::device::{Device, Event, PathChange, PeerSettings, Place, Settings};
use super::super::ip::Inner;
use super::super::messages::{DATA_HEADER_LEN, Message};
use super::super::noise::{self, Identity, Initiator};
use super::super::peer::{Endpoint, Local, Peer, PeerId};
use super::super::randomness::Randomness;
use super::super::session::Session;
use super::super::tai64n::Tai64n;
use super::super::time::Time;
use taltun_crypto::{PresharedKey, PrivateKey, PublicKey};

/// First node of [`World::pair`]; the hub of [`World::hub`].
pub(super) const A: usize = 0;
/// Second node of [`World::pair`]; first spoke of [`World::hub`].
pub(super) const B: usize = 1;
/// Second spoke of [`World::hub`].
pub(super) const C: usize = 2;

pub(super) const INITIATION: u8 = 1;
pub(super) const RESPONSE: u8 = 2;
pub(super) const COOKIE_REPLY: u8 = 3;
pub(super) const DATA: u8 = 4;

/// Bytes of a keepalive: a data message around nothing.
pub(super) const KEEPALIVE_LEN: usize = 32;

/// Wall-clock time of every device when the virtual clock starts.
pub(super) const WALL_CLOCK: Duration = Duration::from_secs(1_700_000_000);

const MTU: u16 = 1420;

pub(super) const fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

pub(super) const fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// The point `duration` after the clock started.
pub(super) fn at(duration: Duration) -> Time {
    Time::START + duration
}

/// How the network treats a datagram.
#[derive(Debug, Clone, Copy)]
pub(super) struct Network {
    pub(super) latency: Duration,
    /// Largest random addition to the latency: datagrams overtake each other within it.
    pub(super) jitter: Duration,
    pub(super) loss_percent: u64,
    pub(super) duplication_percent: u64,
}

/// A device and what its shell knows.
pub(super) struct Node {
    pub(super) device: Device,
    pub(super) address: SocketAddr,
    /// Where else it is reached. It answers from the place that was used last, as a hub with a range
    /// of ports does: data from where data came to, and a probe from where a probe came to.
    pub(super) also_at: Vec<Place>,
    probed_at: HashMap<(SocketAddr, IpAddr), SocketAddr>,
    answers_from: HashMap<(SocketAddr, IpAddr), SocketAddr>,
    answers_always_from: Option<SocketAddr>,
    /// Packets that reached the TUN.
    pub(super) inbox: Vec<Vec<u8>>,
    /// The ways that data took, one after the other.
    pub(super) changes: Vec<PathChange>,
    /// Keepalives received.
    pub(super) keepalives: usize,
    /// For whom packets were that were to wait for their turn.
    pub(super) held: Vec<PeerId>,
    /// Control messages received.
    pub(super) controls: usize,
    /// What was dropped of what arrived, and why.
    pub(super) drops: Vec<DropReason>,
    /// When handshakes were given up.
    pub(super) given_up: Vec<Time>,
    pub(super) clocks_behind: Vec<Duration>,
    /// How many initiations in a row had no answer, each time that one had none.
    pub(super) unanswered: Vec<u32>,
    pub(super) under_load: bool,
    /// Receiver indices that are this node's, by its events.
    pub(super) indices: HashSet<u32>,
    /// Every index ever born.
    pub(super) births: Vec<u32>,
}

/// A datagram that left a node, whatever became of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Sent {
    pub(super) at: Time,
    pub(super) from: usize,
    pub(super) source: SocketAddr,
    pub(super) to: SocketAddr,
    pub(super) payload: Vec<u8>,
}

impl Sent {
    pub(super) fn kind(&self) -> u8 {
        self.payload[0]
    }

    pub(super) fn is_keepalive(&self) -> bool {
        self.kind() == DATA && self.payload.len() == KEEPALIVE_LEN
    }
}

#[derive(Clone)]
struct InTransit {
    source: SocketAddr,
    to: SocketAddr,
    payload: Vec<u8>,
}

/// Devices, a clock and a network.
pub(super) struct World {
    pub(super) now: Time,
    pub(super) nodes: Vec<Node>,
    pub(super) network: Network,
    /// Datagrams for which this says true are lost.
    pub(super) lose: fn(&Sent) -> bool,
    /// Everything that was ever sent, in order.
    pub(super) sent: Vec<Sent>,
    /// Whether data for an index that its receiver doesn't know fails the test.
    pub(super) strict: bool,
    in_transit: BTreeMap<(Time, u64), InTransit>,
    posted: u64,
    rng: ChaCha8Rng,
}

pub(super) fn private_key(node: usize) -> PrivateKey {
    PrivateKey::from_bytes([node as u8 + 1; 32])
}

pub(super) fn public_key(node: usize) -> PublicKey {
    private_key(node).public_key()
}

/// The inner IPv4 address of a node.
pub(super) fn inner(node: usize) -> IpAddr {
    IpAddr::from([10, 0, 0, node as u8 + 1])
}

/// The inner IPv6 address of a node.
pub(super) fn inner6(node: usize) -> IpAddr {
    IpAddr::from([0xfd00, 0, 0, 0, 0, 0, 0, node as u16 + 1])
}

pub(super) fn outer(node: usize) -> SocketAddr {
    SocketAddr::from(([192, 0, 2, node as u8 + 1], 51820))
}

/// A packet of `len` bytes that carries `id`, between two inner addresses of one family.
pub(super) fn packet(source: IpAddr, destination: IpAddr, id: u32, len: usize) -> Vec<u8> {
    let mut packet = vec![0; len];
    match (source, destination) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            packet[0] = 0x45;
            packet[2..4].copy_from_slice(&(len as u16).to_be_bytes());
            packet[8] = 64;
            packet[12..16].copy_from_slice(&source.octets());
            packet[16..20].copy_from_slice(&destination.octets());
        }
        (IpAddr::V6(source), IpAddr::V6(destination)) => {
            packet[0] = 0x60;
            packet[4..6].copy_from_slice(&(len as u16 - 40).to_be_bytes());
            packet[7] = 64;
            packet[8..24].copy_from_slice(&source.octets());
            packet[24..40].copy_from_slice(&destination.octets());
        }
        _ => panic!("two families in one packet"),
    }
    packet[len - 4..].copy_from_slice(&id.to_be_bytes());
    packet
}

/// The `id` that [`packet`] wrote.
pub(super) fn id_of(packet: &[u8]) -> u32 {
    u32::from_be_bytes(packet[packet.len() - 4..].try_into().unwrap())
}

/// An initiation from `from` to `to` as of `timestamp`, with its first MAC, made without
/// a device; and what is needed to read its response.
pub(super) fn initiation(
    from: usize,
    to: usize,
    index: u32,
    timestamp: Duration,
) -> (Initiator, Vec<u8>) {
    let identity = Identity::new(private_key(from));
    let static_static = identity.static_static(&public_key(to)).unwrap();
    let ephemeral = PrivateKey::from_bytes([(index % 100) as u8 + 77; 32]);
    let timestamp = Tai64n::from_unix(timestamp);
    let (initiator, mut message) = noise::initiate(
        &identity,
        &public_key(to),
        &static_static,
        ephemeral,
        index,
        timestamp,
    )
    .unwrap();
    Sealer::new(&public_key(to)).seal(&mut message, Time::START);
    (initiator, message.to_vec())
}

/// The receiver index of a response, a cookie reply or data.
pub(super) fn receiver(payload: &[u8]) -> Option<u32> {
    match Message::parse(payload).ok()? {
        Message::Initiation(_) => None,
        Message::Response(message) => Some(message.receiver.get()),
        Message::CookieReply(message) => Some(message.receiver.get()),
        Message::Data { receiver, .. } => Some(receiver),
    }
}

/// What others know of a node that owns nothing.
pub(super) fn settings_of(peer: usize) -> PeerSettings {
    PeerSettings {
        public_key: public_key(peer),
        preshared_key: PresharedKey::default(),
        endpoint: Some(outer(peer).into()),
        allowed_ips: Vec::new(),
        persistent_keepalive: None,
    }
}

impl Node {
    fn new(seed: u64, number: usize, relay: bool) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed.wrapping_mul(1000) + number as u64);
        let mut device_seed = [0; 32];
        rng.fill_bytes(&mut device_seed);
        Self {
            device: Device::new(Settings {
                private_key: private_key(number),
                randomness: Randomness::seeded(device_seed),
                wall_clock_at_zero: WALL_CLOCK,
                mtu: MTU,
                local_addresses: vec![inner(number), inner6(number)],
                relay,
            }),
            address: outer(number),
            also_at: Vec::new(),
            probed_at: HashMap::new(),
            answers_from: HashMap::new(),
            answers_always_from: None,
            inbox: Vec::new(),
            changes: Vec::new(),
            keepalives: 0,
            held: Vec::new(),
            controls: 0,
            drops: Vec::new(),
            given_up: Vec::new(),
            clocks_behind: Vec::new(),
            unanswered: Vec::new(),
            under_load: false,
            indices: HashSet::new(),
            births: Vec::new(),
        }
    }

    fn knows(&mut self, peer: usize, allowed_ips: &[&str]) {
        let settings = PeerSettings {
            allowed_ips: allowed_ips.iter().map(|net| net.parse().unwrap()).collect(),
            ..settings_of(peer)
        };
        self.device.add_peer(settings, Time::START).unwrap();
    }

    /// The shared half of the peer that is node `number`.
    pub(super) fn peer(&self, number: usize) -> &Arc<Peer> {
        self.device.peer(&public_key(number)).unwrap()
    }

    /// From now on it answers everybody from there, whatever port is used.
    pub(super) fn answer_from(&mut self, place: SocketAddr) {
        self.answers_always_from = Some(place);
    }

    /// It forgets from where it answers whom.
    pub(super) fn forget_answers(&mut self) {
        self.answers_from.clear();
        self.probed_at.clear();
    }

    fn is_at(&self, to: SocketAddr) -> bool {
        self.address == to || self.also_at.iter().any(|place| place.contains(to))
    }

    /// The session this node seals on for node `number`.
    pub(super) fn session(&self, number: usize) -> Arc<Session> {
        self.peer(number).current_session().unwrap()
    }

    /// Ids of the packets that reached the TUN.
    pub(super) fn ids(&self) -> Vec<u32> {
        self.inbox.iter().map(|packet| id_of(packet)).collect()
    }
}

impl World {
    /// Two nodes that know each other and each other's endpoint.
    pub(super) fn pair() -> Self {
        Self::pair_from_seed(0)
    }

    pub(super) fn pair_from_seed(seed: u64) -> Self {
        let mut nodes = vec![Node::new(seed, A, false), Node::new(seed, B, false)];
        nodes[A].knows(B, &["10.0.0.2/32", "fd00::2/128"]);
        nodes[B].knows(A, &["10.0.0.1/32", "fd00::1/128"]);
        Self::of(nodes, seed)
    }

    /// A relaying hub, which is [`A`], and two spokes behind it.
    pub(super) fn hub() -> Self {
        let mut nodes: Vec<_> = (A..=C).map(|n| Node::new(0, n, n == A)).collect();
        nodes[A].knows(B, &["10.0.0.2/32", "fd00::2/128"]);
        nodes[A].knows(C, &["10.0.0.3/32", "fd00::3/128"]);
        nodes[B].knows(A, &["10.0.0.0/24", "fd00::/64"]);
        nodes[C].knows(A, &["10.0.0.0/24", "fd00::/64"]);
        Self::of(nodes, 0)
    }

    fn of(nodes: Vec<Node>, seed: u64) -> Self {
        Self {
            now: Time::START,
            nodes,
            network: Network {
                latency: millis(10),
                jitter: Duration::ZERO,
                loss_percent: 0,
                duplication_percent: 0,
            },
            lose: |_| false,
            sent: Vec::new(),
            strict: true,
            in_transit: BTreeMap::new(),
            posted: 0,
            rng: ChaCha8Rng::seed_from_u64(seed),
        }
    }

    // ---- what people do ----------------------------------------------------------------

    /// A node's operating system sends a packet of 84 bytes, a ping's, that carries `id`.
    pub(super) fn ping(&mut self, from: usize, to: usize, id: u32) -> Result<(), NotSealed> {
        self.send(from, &packet(inner(from), inner(to), id, 84))
    }

    /// A node's operating system sends a packet.
    pub(super) fn send(&mut self, from: usize, packet: &[u8]) -> Result<(), NotSealed> {
        let mut buffer = vec![0xee; DATA_HEADER_LEN + packet.len() + 64];
        buffer[DATA_HEADER_LEN..DATA_HEADER_LEN + packet.len()].copy_from_slice(packet);
        let tunnel = Arc::clone(self.nodes[from].device.tunnel());
        let outcome = tunnel.batch(self.now).seal(&mut buffer, packet.len());
        if let Ok(sealed) = outcome {
            buffer.truncate(sealed.len);
            self.post(from, sealed.endpoint, &buffer);
        }
        self.settle(from);
        outcome.map(|_| ())
    }

    /// A node's shell acts on its device, then does what came of it.
    pub(super) fn with<T>(&mut self, node: usize, act: impl FnOnce(&mut Device, Time) -> T) -> T {
        let outcome = act(&mut self.nodes[node].device, self.now);
        self.settle(node);
        outcome
    }

    /// Lets a pair have a session made by [`A`].
    pub(super) fn connected() -> Self {
        let mut world = Self::pair();
        world.ping(A, B, 0).unwrap_err();
        world.run(secs(1));
        assert_eq!(world.nodes[B].inbox.len(), 1);
        world.nodes[B].inbox.clear();
        world
    }

    /// A node forgets everything, as by a restart; the other nodes don't know.
    pub(super) fn restart(&mut self, node: usize, seed: u64) {
        let address = self.nodes[node].address;
        self.nodes[node] = Node::new(seed, node, false);
        self.nodes[node].address = address;
        let peer = 1 - node;
        let allowed_ips = format!("{}/32", inner(peer));
        self.nodes[node].knows(peer, &[&allowed_ips]);
    }

    // ---- the clock ---------------------------------------------------------------------

    pub(super) fn run(&mut self, duration: Duration) {
        self.run_until(self.now + duration);
    }

    pub(super) fn run_until(&mut self, end: Time) {
        while let Some(next) = self.next_happening().filter(|next| *next <= end) {
            self.now = self.now.max(next);
            while let Some(datagram) = self.next_arrival() {
                self.arrive(&datagram);
            }
            self.wake_all();
        }
        self.now = self.now.max(end);
    }

    /// Time passes without anybody waking, as while a machine sleeps. What is on its way
    /// is lost.
    pub(super) fn sleep_through(&mut self, duration: Duration) {
        self.now = self.now + duration;
        self.in_transit.clear();
    }

    /// When something happens next by itself.
    fn next_happening(&self) -> Option<Time> {
        let arrival = self.in_transit.keys().next().map(|(time, _)| *time);
        self.nodes
            .iter()
            .filter_map(|node| node.device.poll_timeout())
            .chain(arrival)
            .min()
    }

    pub(super) fn wake_all(&mut self) {
        for node in 0..self.nodes.len() {
            let device = &mut self.nodes[node].device;
            if device.poll_timeout().is_some_and(|due| due <= self.now) {
                device.handle_timeout(self.now);
                let next = device.poll_timeout();
                assert!(
                    next.is_none_or(|next| next > self.now),
                    "a deadline stays in the past"
                );
                self.settle(node);
            }
        }
    }

    // ---- the shell ---------------------------------------------------------------------

    /// What a shell does after each call into a device.
    fn settle(&mut self, number: usize) {
        let node = &mut self.nodes[number];
        if node.device.tunnel().take_wake() {
            node.device.handle_requests(self.now);
        }
        while let Some(event) = node.device.poll_event() {
            match event {
                Event::IndexBorn(index) => {
                    assert!(node.indices.insert(index), "an index is given out twice");
                    node.births.push(index);
                }
                Event::IndexDied(index) => {
                    assert!(node.indices.remove(&index), "an index dies twice");
                }
                Event::SessionBegun { local, .. } => assert!(node.indices.contains(&local)),
                Event::CookieGiven(_)
                | Event::HandshakeFinished(_)
                | Event::AnswerRefused(_)
                | Event::NotConfirmed(_)
                | Event::Moved(_)
                | Event::UnknownKey(..) => {}
                Event::Unanswered(_, in_a_row) => node.unanswered.push(in_a_row),
                Event::PathChanged(_, change) => node.changes.push(change),
                Event::HandshakeGivenUp(_) => node.given_up.push(self.now),
                Event::ClockBehind(_, behind) => node.clocks_behind.push(behind),
            }
        }
        while let Some(transmit) = self.nodes[number].device.poll_transmit() {
            self.post(number, transmit.endpoint, &transmit.payload);
        }
    }

    /// A datagram arrives at a node at once, from anywhere: what became of it.
    pub(super) fn inject(
        &mut self,
        number: usize,
        source: SocketAddr,
        payload: &[u8],
    ) -> Result<(), DropReason> {
        let to = self.nodes[number].address;
        self.inject_at(number, to, source, payload)
    }

    /// The same at one of the places where it is.
    fn inject_at(
        &mut self,
        number: usize,
        to: SocketAddr,
        source: SocketAddr,
        payload: &[u8],
    ) -> Result<(), DropReason> {
        let outcome = self.receive(number, to, source, payload);
        if let Err(reason) = outcome {
            self.nodes[number].drops.push(reason);
        }
        self.settle(number);
        outcome
    }

    fn receive(
        &mut self,
        number: usize,
        to: SocketAddr,
        source: SocketAddr,
        payload: &[u8],
    ) -> Result<(), DropReason> {
        let node = &mut self.nodes[number];
        if !node.also_at.is_empty() {
            let book = if is_probe(payload) {
                &mut node.probed_at
            } else {
                &mut node.answers_from
            };
            book.insert((source, to.ip()), to);
        }
        let from = Endpoint {
            remote: source,
            local: Some(Local {
                address: to.ip(),
                interface: 2,
            }),
            local_port: None,
        };
        match Message::parse(payload) {
            Ok(Message::Data { receiver, counter }) => {
                let tunnel = Arc::clone(node.device.tunnel());
                let mut batch = tunnel.batch(self.now);
                let mut buffer = payload.to_vec();
                buffer.resize(payload.len() + 64, 0xee);
                let message = &mut buffer[..payload.len()];
                match batch.open(receiver, counter, message, from)? {
                    Opened::Keepalive => node.keepalives += 1,
                    Opened::Control => node.controls += 1,
                    Opened::Local(Inner { len, .. }) => {
                        let packet = &buffer[DATA_HEADER_LEN..DATA_HEADER_LEN + len];
                        node.inbox.push(packet.to_vec());
                    }
                    Opened::Relay(inner) => match batch.relay(&mut buffer, &inner) {
                        Ok(sealed) => {
                            buffer.truncate(sealed.len);
                            self.post(number, sealed.endpoint, &buffer);
                        }
                        Err(NotSealed::Staged { .. }) => {}
                        Err(NotSealed::Held { peer, hop_limit }) => {
                            node.held.push(peer);
                            let sealed = batch.release(&mut buffer, inner.len, hop_limit);
                            let sealed = sealed.expect("there is a session");
                            buffer.truncate(sealed.len);
                            self.post(number, sealed.endpoint, &buffer);
                        }
                        Err(NotSealed::Dropped(reason)) => return Err(reason),
                    },
                }
                Ok(())
            }
            Ok(message) => {
                let tunnel = node.device.tunnel();
                tunnel.batch(self.now).vet(&message, payload, source)?;
                node.device
                    .handle_handshake(payload, from, node.under_load, self.now)
            }
            Err(_) => Err(DropReason::Shape),
        }
    }

    // ---- the network -------------------------------------------------------------------

    fn post(&mut self, from: usize, endpoint: Endpoint, payload: &[u8]) {
        let to = endpoint.remote;
        let node = &mut self.nodes[from];
        let mut source = node.address;
        if !node.also_at.is_empty() {
            let ours = endpoint.local.map_or(source.ip(), |ours| ours.address);
            // Each probe is answered once.
            let probed = is_probe(payload).then(|| node.probed_at.remove(&(to, ours)));
            let used = probed.flatten();
            let used = used.or(node.answers_from.get(&(to, ours)).copied());
            source = used.unwrap_or(SocketAddr::new(ours, source.port()));
            source = node.answers_always_from.unwrap_or(source);
        }
        let sent = Sent {
            at: self.now,
            from,
            source,
            to,
            payload: payload.to_vec(),
        };
        if self.strict
            && sent.kind() == DATA
            && let Some(target) = self.nodes.iter().find(|node| node.address == to)
        {
            let index = receiver(payload).unwrap();
            assert!(
                target.indices.contains(&index),
                "data is sent to an index that its receiver doesn't know"
            );
        }
        let lost = self.percent(self.network.loss_percent) || (self.lose)(&sent);
        self.sent.push(sent);
        if lost {
            return;
        }
        let copies = 1 + u64::from(self.percent(self.network.duplication_percent));
        for _ in 0..copies {
            let jitter = match self.network.jitter.as_nanos() as u64 {
                0 => 0,
                most => self.rng.next_u64() % most,
            };
            let arrival = self.now + self.network.latency + Duration::from_nanos(jitter);
            self.posted += 1;
            let datagram = InTransit {
                source,
                to,
                payload: payload.to_vec(),
            };
            self.in_transit.insert((arrival, self.posted), datagram);
        }
    }

    /// Takes from the network what has arrived by now.
    fn next_arrival(&mut self) -> Option<InTransit> {
        let entry = self.in_transit.first_entry()?;
        (entry.key().0 <= self.now).then(|| entry.remove())
    }

    fn arrive(&mut self, datagram: &InTransit) {
        let target = self.nodes.iter().position(|node| node.is_at(datagram.to));
        if let Some(target) = target {
            let _ = self.inject_at(target, datagram.to, datagram.source, &datagram.payload);
        }
    }

    fn percent(&mut self, percent: u64) -> bool {
        percent > 0 && self.rng.next_u64() % 100 < percent
    }

    // ---- looking back ------------------------------------------------------------------

    /// What `from` sent of a kind, in order.
    pub(super) fn sent_by(&self, from: usize, kind: u8) -> Vec<&Sent> {
        self.sent
            .iter()
            .filter(|sent| sent.from == from && sent.kind() == kind)
            .collect()
    }

    /// What `from` sent since `since`.
    pub(super) fn sent_since(&self, from: usize, since: Time) -> Vec<&Sent> {
        self.sent
            .iter()
            .filter(|sent| sent.from == from && sent.at >= since)
            .collect()
    }

    /// The last thing `from` sent.
    pub(super) fn last_sent(&self, from: usize) -> &Sent {
        self.sent
            .iter()
            .rev()
            .find(|sent| sent.from == from)
            .unwrap()
    }
}

/// By its length, as who can't open it has it.
fn is_probe(payload: &[u8]) -> bool {
    payload.first() == Some(&DATA) && payload.len() == PROBE_LEN
}
