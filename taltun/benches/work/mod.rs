//! The pieces of work that a packet makes, set up to be done over and over: for whoever times
//! them (`hot_path`) and for whoever counts their instructions (`instructions`).

use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use ipnet::Ipv4Net;
use taltun::crypto::{PresharedKey, PrivateKey};
use taltun::dataplane::offload::coalesce::{Coalescer, Join};
use taltun::dataplane::offload::split::Segments;
use taltun::dataplane::offload::vnet::{Gso, NEEDS_CSUM, VnetHeader};
use taltun::protocol::allowed_ips::AllowedIps;
use taltun::protocol::batch::Opened;
use taltun::protocol::device::{Device, HopSettings, PeerSettings, Place, Settings};
use taltun::protocol::messages::Message;
use taltun::protocol::peer::{Endpoint, Handling};
use taltun::protocol::randomness::Randomness;
use taltun::protocol::replay::ReplayWindow;
use taltun::protocol::time::Time;

/// Packets in a batch: what a send with `UDP_SEGMENT` holds of full ones.
pub const PACKETS: usize = 45;

const NOW: Time = Time::START;

/// A peer that devices know and nothing is sent to.
const OTHER: u8 = 9;

/// A batch of packets, each in a buffer with room for header, padding and tag.
pub type Batch = Vec<Vec<u8>>;

/// Sealing and opening batches of packets of one length, between two devices with a session.
pub struct Sealing {
    from: Device,
    to: Device,
    len: usize,
    plain: Batch,
    now: Time,
}

impl Sealing {
    /// Packets of so many bytes.
    pub fn of(len: usize) -> Self {
        let (mut from, mut to) = (device(1), device(2));
        add_peer(&mut from, OTHER);
        add_peer(&mut to, OTHER);
        connect(&mut from, 1, &mut to, 2);
        Self {
            from,
            to,
            len,
            plain: vec![to_seal(&packet(len, 0)); PACKETS],
            now: NOW,
        }
    }

    /// The same to a peer at any of a thousand ports, of which each batch goes to another one.
    pub fn hopping(len: usize) -> Self {
        let mut sealing = Self::of(len);
        let key = *sealing.to.public_key();
        let place = Place::new(endpoint(2).remote, endpoint(2).remote.port() + 999);
        let hop = HopSettings {
            interval: Duration::ZERO,
            ..HopSettings::default()
        };
        sealing.from.set_hop(hop, NOW);
        sealing.from.set_places(&key, &[place], NOW);
        // The session before didn't say that there is something to choose.
        sealing.from.initiate(&key, NOW);
        // While data goes there, ports are asked, and join the pool.
        for _ in 0..400 {
            sealing.now = sealing.now + Duration::from_millis(50);
            sealing.from.handle_timeout(sealing.now);
            let Self { from, to, now, .. } = &mut sealing;
            let mut data = to_seal(&packet(len, 0));
            let sealed = from.tunnel().batch(*now).seal(&mut data, len);
            let sealed = sealed.expect("there is a session");
            deliver(to, &mut data[..sealed.len], endpoint(1), *now);
            exchange(from, endpoint(1), to, *now);
        }
        let mut ports = std::collections::BTreeSet::new();
        for _ in 0..100 {
            let mut sealer = sealing.from.tunnel().batch(sealing.now);
            let sealed = sealer.seal(&mut to_seal(&packet(len, 0)), len);
            ports.insert(sealed.expect("there is a session").endpoint.remote);
        }
        assert_eq!(ports.len(), hop.pool, "each batch goes elsewhere");
        sealing
    }

    /// The same, while the third peer that each of the two knows has limits.
    pub fn beside_limits(len: usize) -> Self {
        let mut sealing = Self::of(len);
        limit_other(&mut sealing.from);
        limit_other(&mut sealing.to);
        sealing
    }

    /// A batch to seal.
    pub fn plain(&self) -> Batch {
        self.plain.clone()
    }

    /// A batch to open.
    pub fn sealed(&self) -> Batch {
        sealed(&self.from, self.plain(), self.len, self.now)
    }

    /// Seals a batch of [`Self::plain`].
    pub fn seal(&self, batch: &mut Batch) {
        let mut sealer = self.from.tunnel().batch(self.now);
        for buffer in batch {
            black_box(sealer.seal(buffer, self.len)).expect("there is a session");
        }
    }

    /// Opens a batch of [`Self::sealed`].
    pub fn open(&self, batch: &mut Batch) {
        let mut opener = self.to.tunnel().batch(self.now);
        for message in batch {
            let Ok(Message::Data { receiver, counter }) = Message::parse(message) else {
                unreachable!("it was sealed as data");
            };
            black_box(opener.open(receiver, counter, message, endpoint(1)))
                .expect("it is fresh and authentic");
            assert!(opener.held_sender().is_none(), "the sender has no limit");
        }
    }
}

/// Relaying batches of packets of one length from one peer of a hub to another.
pub struct Relaying {
    from: Device,
    hub: Device,
    len: usize,
    plain: Batch,
}

impl Relaying {
    /// Packets of so many bytes.
    pub fn of(len: usize) -> Self {
        let (mut from, mut hub, mut to) = (device(1), device(2), device(3));
        add_peer(&mut hub, OTHER);
        connect(&mut from, 1, &mut hub, 2);
        connect(&mut hub, 2, &mut to, 3);
        // To the third by way of the hub.
        let everybody = Ipv4Net::new(Ipv4Addr::new(10, 0, 0, 0), 24).expect("24 bits");
        from.set_allowed_ips(hub.public_key(), &[everybody.into()]);
        let mut packet = packet(len, 0);
        packet[19] = 3;
        Self {
            from,
            hub,
            len,
            plain: vec![to_seal(&packet); PACKETS],
        }
    }

    /// The same, while the third peer that the hub knows has limits.
    pub fn beside_limits(len: usize) -> Self {
        let mut relaying = Self::of(len);
        limit_other(&mut relaying.hub);
        relaying
    }

    /// A batch to relay.
    pub fn sealed(&self) -> Batch {
        sealed(&self.from, self.plain.clone(), self.len, NOW)
    }

    /// Opens a batch of [`Self::sealed`] and seals it again.
    pub fn relay(&self, batch: &mut Batch) {
        let mut relaying = self.hub.tunnel().batch(NOW);
        for message in batch {
            let Ok(Message::Data { receiver, counter }) = Message::parse(message) else {
                unreachable!("it was sealed as data");
            };
            let opened = relaying.open(receiver, counter, message, endpoint(1));
            let Ok(Opened::Relay(inner)) = opened else {
                unreachable!("it is for another peer: {opened:?}");
            };
            assert!(relaying.held_sender().is_none(), "the sender has no limit");
            black_box(relaying.relay(message, &inner)).expect("there is a session");
        }
    }
}

/// The longest of 100,000 prefixes.
pub struct Prefixes {
    table: AllowedIps<u32>,
    number: u32,
}

impl Prefixes {
    /// A table of prefixes all over IPv4.
    pub fn new() -> Self {
        let mut table = AllowedIps::default();
        for number in 0..100_000_u32 {
            let address = Ipv4Addr::from(number.wrapping_mul(2_654_435_761));
            let len = 16 + (number % 17) as u8;
            let net = Ipv4Net::new(address, len).expect("16 to 32 bits");
            table.insert(net.trunc().into(), number);
        }
        Self { table, number: 0 }
    }

    /// Looks up one more address.
    pub fn look_up(&mut self) {
        self.number = self.number.wrapping_add(0x9e37_79b9);
        black_box(self.table.lookup(IpAddr::V4(self.number.into())).is_some());
    }
}

/// A replay window that counters come to in order.
#[derive(Default)]
pub struct Counters {
    window: ReplayWindow,
    counter: u64,
}

impl Counters {
    /// Takes note of the next one.
    pub fn accept(&mut self) {
        self.counter += 1;
        black_box(self.window.accept(self.counter));
    }
}

/// A piece of a TCP stream to cut into [`PACKETS`] packets.
pub struct Cutting {
    whole: Vec<u8>,
    header: VnetHeader,
    out: Vec<u8>,
}

impl Cutting {
    /// A piece as the TUN hands it over.
    pub fn new() -> Self {
        Self {
            whole: packet(40 + PACKETS * 1380, 0),
            header: VnetHeader {
                flags: NEEDS_CSUM,
                gso: Gso::Tcp,
                gso_size: 1380,
                csum_start: 20,
                csum_offset: 16,
                ..VnetHeader::default()
            },
            out: vec![0; 1500],
        }
    }

    /// Bytes of the whole.
    pub fn len(&self) -> usize {
        self.whole.len()
    }

    /// Cuts it.
    pub fn cut(&mut self) {
        let mut segments =
            Segments::new(&self.header, &self.whole).expect("header and packet agree");
        while let Some(len) = segments.next_len() {
            segments.write_next(&mut self.out[..len]);
            black_box(&self.out);
        }
    }
}

/// [`PACKETS`] segments of a TCP stream to join.
pub struct Joining {
    arena: Vec<u8>,
    coalescer: Coalescer,
}

impl Joining {
    /// Segments as they come out of the tunnel.
    pub fn new() -> Self {
        let segments = (0..PACKETS as u32).flat_map(|number| packet(1420, number * 1380));
        Self {
            arena: segments.collect(),
            coalescer: Coalescer::with_capacity(PACKETS),
        }
    }

    /// Joins them.
    pub fn join(&mut self) {
        let join = Join {
            tcp: true,
            udp: true,
        };
        self.coalescer.clear();
        for number in 0..PACKETS {
            self.coalescer.push(&self.arena, number * 1420, 1420, join);
        }
        black_box(self.coalescer.len());
    }
}

/// A device at `10.0.0.of` that relays.
fn device(of: u8) -> Device {
    Device::new(Settings {
        private_key: private_key(of),
        randomness: Randomness::seeded([of; 32]),
        wall_clock_at_zero: Duration::from_secs(1_700_000_000),
        mtu: 1420,
        local_addresses: vec![IpAddr::from([10, 0, 0, of])],
        relay: true,
    })
}

fn private_key(of: u8) -> PrivateKey {
    PrivateKey::from_bytes([of; 32])
}

/// Lets a device know the one at `10.0.0.of`.
fn add_peer(device: &mut Device, of: u8) {
    let peer = PeerSettings {
        public_key: private_key(of).public_key(),
        preshared_key: PresharedKey::default(),
        endpoint: Some(endpoint(of)),
        allowed_ips: vec![IpAddr::from([10, 0, 0, of]).into()],
        persistent_keepalive: None,
    };
    device.add_peer(peer, NOW).expect("a peer of its own key");
}

/// Holds the peer to limits of each kind that nothing is sent to.
fn limit_other(device: &mut Device) {
    let peer = device.peer(&private_key(OTHER).public_key());
    peer.expect("it was added").set_handling(Handling {
        hold_up: true,
        hold_down: true,
        copy_dscp: true,
    });
}

fn endpoint(of: u8) -> Endpoint {
    Endpoint::from(SocketAddr::from(([192, 0, 2, of], 9000)))
}

/// Gives two devices, which are called so, a session that both may use.
fn connect(a: &mut Device, of_a: u8, b: &mut Device, of_b: u8) {
    add_peer(a, of_b);
    add_peer(b, of_a);
    let key = *b.public_key();
    a.initiate(&key, NOW);
    exchange(a, endpoint(of_a), b, NOW);
}

/// Has each of two devices get what the other sends, until they have nothing to say: `a` from this
/// place, `b` from wherever it was asked at.
fn exchange(a: &mut Device, at: Endpoint, b: &mut Device, now: Time) {
    while let Some(mut transmit) = a.poll_transmit() {
        deliver(b, &mut transmit.payload, at, now);
        while let Some(mut answer) = b.poll_transmit() {
            let from = Endpoint::from(transmit.endpoint.remote);
            deliver(a, &mut answer.payload, from, now);
        }
    }
}

fn deliver(device: &mut Device, payload: &mut [u8], from: Endpoint, now: Time) {
    match Message::parse(payload) {
        Ok(Message::Data { receiver, counter }) => {
            let _ = device
                .tunnel()
                .batch(now)
                .open(receiver, counter, payload, from);
        }
        _ => device
            .handle_handshake(payload, from, false, now)
            .expect("the two know each other"),
    }
    device.handle_requests(now);
}

/// A packet in a buffer that it can be sealed in.
fn to_seal(packet: &[u8]) -> Vec<u8> {
    let mut buffer = vec![0; 16 + packet.len() + 32];
    buffer[16..16 + packet.len()].copy_from_slice(packet);
    buffer
}

/// What a device makes of a batch of packets of so many bytes.
fn sealed(by: &Device, mut batch: Batch, len: usize, now: Time) -> Batch {
    let mut sealer = by.tunnel().batch(now);
    for buffer in &mut batch {
        let sealed = sealer.seal(buffer, len).expect("there is a session");
        buffer.truncate(sealed.len);
    }
    batch
}

/// An IPv4 packet of `len` bytes from `10.0.0.1` to `10.0.0.2`, a plain TCP segment.
fn packet(len: usize, sequence: u32) -> Vec<u8> {
    let mut packet = vec![0; len];
    packet[0] = 0x45;
    packet[2..4].copy_from_slice(&(len as u16).to_be_bytes());
    packet[8] = 64;
    packet[9] = 6;
    packet[12..20].copy_from_slice(&[10, 0, 0, 1, 10, 0, 0, 2]);
    packet[24..28].copy_from_slice(&sequence.to_be_bytes());
    packet[32] = 5 << 4;
    packet[33] = 0x10;
    packet
}
