//! Many clients at all ports of a range: each is answered from the port that it sent to, by a hub of
//! one socket, whose memory stays as it is.
//!
//! The clients are in this program: each is a socket and the protocol.

use std::fmt::Write as _;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, anyhow, bail, ensure};
use taltun_crypto::{PresharedKey, PrivateKey, PublicKey};
use taltun_protocol::batch::Opened;
use taltun_protocol::device::{Device, PeerSettings, Settings};
use taltun_protocol::endpoint::Endpoint;
use taltun_protocol::messages::{DATA_HEADER_LEN, Message};
use taltun_protocol::randomness::Randomness;
use taltun_protocol::time::Time;
use taltun_protocol::tunnel::Tunnel;
use taltun_tests::command::output_of;
use taltun_tests::lab::PORT;
use taltun_tests::node::{Keys, Node};
use taltun_tests::sys::Signal;
use taltun_tests::topology::{Pair, WIRE_A, private_prefix};
use taltun_tests::traffic::ping::echo_request;

use crate::support::{ANSWER_LIMIT, Case, taltun};

pub const CASES: &[Case] = &[Case {
    name: "hop: 200 clients at all of 4,096 ports are each answered from the port they used, by one socket and in the same memory",
    programs: &["ss"],
    run: many,
}];

const CLIENTS: u16 = 200;
const FIRST: u16 = 4096;
const PORTS: u16 = 4096;
/// The hub's address in the tunnel.
const HUB: Ipv4Addr = Ipv4Addr::new(10, 4, 0, 1);
/// More than the hub's memory may grow by, KiB.
const GROWTH: u64 = 4096;
/// How long one of many answers may take beside other tests.
const WAIT: Duration = Duration::from_millis(500);

fn many() -> Result<()> {
    let pair = Pair::create(&private_prefix())?;
    let keys = Keys::generate(&taltun()?)?;
    let hub = Node::start_with_text(&pair.right, &taltun()?, &hub_text(&keys))?;
    let status: serde_json::Value = serde_json::from_str(&hub.tell(&["status", "--json"])?)?;
    ensure!(
        status["port_range"]["by"] == "xdp",
        "{}",
        status["port_range"]
    );
    let key = PublicKey(decode(&keys.public)?);
    let now = Clock::new();
    let clients: Vec<Client> = (0..CLIENTS)
        .map(|number| {
            let socket = pair.left.run(|| UdpSocket::bind((WIRE_A.near_v4(), 0)))??;
            Client::connect(number, socket, key, &now).with_context(|| format!("client {number}"))
        })
        .collect::<Result<_>>()?;
    let before = (memory(&hub)?, sockets(&pair)?);
    // Each client has ports all over the range, and all together have each port.
    for round in 0..PORTS.div_ceil(CLIENTS) {
        for client in &clients {
            let port = FIRST + (round * CLIENTS + client.number) % PORTS;
            client
                .is_answered_from(port, &now)
                .with_context(|| format!("client {} at port {port}", client.number))?;
        }
    }
    let after = (memory(&hub)?, sockets(&pair)?);
    println!("memory and sockets: {before:?}, then {after:?}");
    ensure!(after.1 == before.1, "sockets: {before:?}, then {after:?}");
    ensure!(
        after.0 < before.0 + GROWTH,
        "KiB of memory: {before:?}, then {after:?}"
    );
    hub.stop(Signal::Terminate)
}

fn hub_text(keys: &Keys) -> String {
    let mut text = format!(
        "[interface]\nmode = \"server\"\nvip = \"{HUB}/16\"\nlocal_addr = \"[::]:{PORT}\"\n\
         private_key = \"{}\"\n[accel]\nxdp = \"generic\"\nhandshakes_per_second = 1000\n\
         [hop]\nport_range = [{FIRST}, {}]\n",
        keys.private,
        FIRST + PORTS - 1
    );
    for number in 0..CLIENTS {
        let key = private_key(number).public_key();
        let vip = inner(number);
        // Writing to a String can't fail.
        let _ = write!(
            text,
            "[[peers]]\nname = \"c{number}\"\npublic_key = \"{key}\"\nvip = \"{vip}\"\n"
        );
    }
    text
}

/// KiB that the hub has in use.
fn memory(hub: &Node) -> Result<u64> {
    let status = fs::read_to_string(format!("/proc/{}/status", hub.pid()))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let number = line.and_then(|line| line.split_whitespace().next());
    Ok(number.context("no VmRSS")?.parse()?)
}

/// UDP sockets at the hub.
fn sockets(pair: &Pair) -> Result<usize> {
    let listed = output_of(pair.right.command("ss").args(["-Huan"]))?;
    Ok(listed.lines().count())
}

fn private_key(number: u16) -> PrivateKey {
    let mut bytes = [0x5a; 32];
    bytes[..2].copy_from_slice(&number.to_be_bytes());
    PrivateKey::from_bytes(bytes)
}

fn inner(number: u16) -> Ipv4Addr {
    Ipv4Addr::new(10, 4, (number / 250) as u8 + 1, (number % 250) as u8 + 1)
}

fn decode(key: &str) -> Result<[u8; 32]> {
    use base64::Engine as _;
    let bytes = base64::engine::general_purpose::STANDARD.decode(key)?;
    bytes.try_into().map_err(|_| anyhow!("a key has 32 bytes"))
}

/// The clock that the protocol is told.
struct Clock {
    start: Instant,
    wall: Duration,
}

impl Clock {
    fn new() -> Self {
        Self {
            start: Instant::now(),
            wall: SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .unwrap_or_default(),
        }
    }

    fn now(&self) -> Time {
        Time::START + self.start.elapsed()
    }
}

struct Client {
    number: u16,
    socket: UdpSocket,
    tunnel: Arc<Tunnel>,
}

impl Client {
    /// Shakes hands at a port of the range.
    fn connect(number: u16, socket: UdpSocket, hub_key: PublicKey, clock: &Clock) -> Result<Self> {
        socket.set_read_timeout(Some(WAIT))?;
        let hub = SocketAddr::new(WIRE_A.far_v4(), FIRST + 20 * number);
        let endpoint = Endpoint::from(hub);
        let mut device = Device::new(Settings {
            private_key: private_key(number),
            randomness: Randomness::seeded([number as u8; 32]),
            wall_clock_at_zero: clock.wall,
            mtu: 1420,
            local_addresses: vec![IpAddr::V4(inner(number))],
            relay: false,
        });
        let peer = PeerSettings {
            public_key: hub_key,
            preshared_key: PresharedKey::default(),
            endpoint: Some(endpoint),
            allowed_ips: vec!["10.4.0.0/16".parse()?],
            persistent_keepalive: None,
        };
        device
            .add_peer(peer, clock.now())
            .map_err(|error| anyhow!("{error}"))?;
        for attempt in 0..20 {
            // One that gets no answer is due again five seconds later: for this device, time flies.
            let now = clock.now() + 6 * attempt * Duration::from_secs(1);
            device.initiate(&hub_key, now);
            while let Some(transmit) = device.poll_transmit() {
                socket.send_to(&transmit.payload, hub)?;
            }
            let mut answer = [0; 2048];
            let Ok((length, from)) = socket.recv_from(&mut answer) else {
                continue;
            };
            ensure!(from == hub, "shook hands with {hub}, answered from {from}");
            let taken = device.handle_handshake(&answer[..length], endpoint, false, now);
            // The keepalive by which the hub knows that we have the session, too.
            while let Some(transmit) = device.poll_transmit() {
                socket.send_to(&transmit.payload, hub)?;
            }
            let peer = device.peer(&hub_key);
            if taken.is_ok() && peer.is_some_and(|peer| peer.last_handshake().is_some()) {
                return Ok(Self {
                    number,
                    socket,
                    tunnel: Arc::clone(device.tunnel()),
                });
            }
        }
        bail!("no handshake with {hub}")
    }

    /// Pings the hub by this port of its.
    fn is_answered_from(&self, port: u16, clock: &Clock) -> Result<()> {
        let hub = SocketAddr::new(WIRE_A.far_v4(), port);
        let start = Instant::now();
        while start.elapsed() < ANSWER_LIMIT {
            let packet = echo_request(inner(self.number), HUB, 1, port);
            let mut buffer = vec![0; DATA_HEADER_LEN + packet.len() + 64];
            buffer[DATA_HEADER_LEN..DATA_HEADER_LEN + packet.len()].copy_from_slice(&packet);
            let sealed = self
                .tunnel
                .batch(clock.now())
                .seal(&mut buffer, packet.len())
                .map_err(|error| anyhow!("{error:?}"))?;
            self.socket.send_to(&buffer[..sealed.len], hub)?;
            while let Some((answered, from)) = self.receive(clock)? {
                if answered == port {
                    ensure!(from == hub, "answered from {from}");
                    return Ok(());
                }
            }
        }
        bail!("no answer")
    }

    /// The number of the ping that the next packet answers, and where it came from; `None` after
    /// a while without any.
    fn receive(&self, clock: &Clock) -> Result<Option<(u16, SocketAddr)>> {
        let mut bytes = [0; 2048];
        loop {
            let Ok((length, from)) = self.socket.recv_from(&mut bytes) else {
                return Ok(None);
            };
            let datagram = &mut bytes[..length];
            let Ok(Message::Data { receiver, counter }) = Message::parse(datagram) else {
                continue;
            };
            let mut batch = self.tunnel.batch(clock.now());
            let opened = batch.open(receiver, counter, datagram, Endpoint::from(from));
            if let Ok(Opened::Local(_)) = opened {
                let packet = &datagram[DATA_HEADER_LEN..];
                let sequence = &packet[26..28];
                return Ok(Some((u16::from_be_bytes([sequence[0], sequence[1]]), from)));
            }
        }
    }
}
