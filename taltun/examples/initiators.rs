//! Many peers in one program that all start handshakes with a hub, as after a hub's restart. The
//! load of `cargo xtask bench handshakes`.
//!
//! ```text
//! initiators keys COUNT
//!     prints the peers' public keys, one a line
//! initiators run COUNT BURSTS HUB_KEY HUB_ADDRESS:PORT WINDOW
//!     makes one initiation of each peer for each burst and prints `ready`. On `go` it sends them,
//!     burst after burst, of which WINDOW wait for an answer at a time, and prints how many were
//!     answered in how many nanoseconds, pauses not counted. Then it reads the answers, and prints for
//!     how many a session came of them
//! ```
//!
//! Between two bursts it pauses: for a while, hubs that are under attack take only who has shown a cookie.
//!
//! Initiations are made before and answers read after the time that counts, as both cost as much as
//! what the hub does. An initiation that isn't answered in [`PATIENCE`] is given up, so a hub that
//! drops some is no faster for it. Peer `n` has the inner address `10.201.n/250.n%250+1`, and all
//! send from one socket.

use std::collections::HashMap;
use std::io::{self, BufRead, ErrorKind, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use base64::Engine as _;
use taltun::crypto::{PresharedKey, PrivateKey, PublicKey};
use taltun::dataplane::clock;
use taltun::protocol::device::{Device, PeerSettings, Settings};
use taltun::protocol::peer::Endpoint;
use taltun::protocol::randomness::Randomness;
use taltun::protocol::time::Time;

/// How long an answer is waited for.
const PATIENCE: Duration = Duration::from_millis(200);
/// Between two bursts. Taltun takes two thousand initiations a second for no attack.
const PAUSE: Duration = Duration::from_millis(700);
/// Where a response says whose initiation it answers.
const RECEIVER: std::ops::Range<usize> = 8..12;
const RESPONSE: u8 = 2;
const RESPONSE_LEN: usize = 92;

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        ["keys", count] => {
            for number in 0..count.parse()? {
                println!("{}", key(number).public_key());
            }
            Ok(())
        }
        ["run", count, bursts, hub_key, hub, window] => {
            let bytes = base64::engine::general_purpose::STANDARD.decode(hub_key)?;
            let hub = Hub {
                key: PublicKey(bytes.try_into().ok().context("a key has 32 bytes")?),
                address: hub.parse()?,
            };
            run(&hub, count.parse()?, bursts.parse()?, window.parse()?)
        }
        _ => bail!("initiators keys COUNT | initiators run COUNT BURSTS HUB_KEY HUB WINDOW"),
    }
}

struct Hub {
    key: PublicKey,
    address: SocketAddr,
}

/// A handshake that a peer has begun.
struct Initiation {
    /// Knows what the answer has to look like.
    device: Device,
    message: Vec<u8>,
    answer: Option<[u8; RESPONSE_LEN]>,
}

fn run(hub: &Hub, count: u16, bursts: u32, window: usize) -> Result<()> {
    let start = clock::now();
    let mut initiations = Vec::new();
    for burst in 0..bursts {
        for number in 0..count {
            initiations.push(initiation(hub, number, burst, start)?);
        }
    }
    say("ready")?;
    let mut lines = io::stdin().lock().lines();
    ensure!(lines.next().context("no go")?? == "go");
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
    socket.connect(hub.address)?;
    socket.set_read_timeout(Some(PATIENCE))?;
    let (mut answered, mut took) = (0, Duration::ZERO);
    for burst in initiations.chunks_mut(count.into()) {
        let begun = Instant::now();
        answered += storm(&socket, burst, window)?;
        took += begun.elapsed();
        std::thread::sleep(PAUSE);
    }
    say(&format!("{answered} {}", took.as_nanos()))?;
    let sessions = initiations.into_iter().filter_map(|initiation| {
        let mut device = initiation.device;
        let from = Endpoint::from(hub.address);
        let taken = device.handle_handshake(&initiation.answer?, from, false, clock::now());
        let peer = device.peer(&hub.key);
        (taken.is_ok() && peer?.last_handshake().is_some()).then_some(())
    });
    say(&sessions.count().to_string())?;
    Ok(())
}

/// Sends initiations, of which `window` wait for an answer at a time; how many got one.
fn storm(socket: &UdpSocket, initiations: &mut [Initiation], window: usize) -> Result<usize> {
    let places: HashMap<[u8; 4], usize> = initiations
        .iter()
        .enumerate()
        .map(|(place, initiation)| (sender(&initiation.message), place))
        .collect();
    ensure!(places.len() == initiations.len(), "two have one index");
    let (mut sent, mut waiting, mut answered) = (0, 0, 0);
    let mut buffer = [0; 2048];
    loop {
        while waiting < window && sent < initiations.len() {
            socket.send(&initiations[sent].message)?;
            sent += 1;
            waiting += 1;
        }
        if waiting == 0 {
            return Ok(answered);
        }
        let length = match socket.recv(&mut buffer) {
            Ok(length) => length,
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                waiting = 0;
                continue;
            }
            Err(error) => return Err(error.into()),
        };
        if length != RESPONSE_LEN || buffer[0] != RESPONSE {
            continue;
        }
        let receiver: [u8; 4] = buffer[RECEIVER].try_into()?;
        let Some(place) = places.get(&receiver) else {
            continue;
        };
        let answer = &mut initiations[*place].answer;
        if answer.is_none() {
            *answer = Some(buffer[..RESPONSE_LEN].try_into()?);
            answered += 1;
            waiting = waiting.saturating_sub(1);
        }
    }
}

/// The index that an initiation's sender gave.
fn sender(message: &[u8]) -> [u8; 4] {
    message[4..8].try_into().expect("an initiation is longer")
}

fn initiation(hub: &Hub, number: u16, burst: u32, start: Time) -> Result<Initiation> {
    let mut seed = [0; 32];
    seed[..2].copy_from_slice(&number.to_be_bytes());
    seed[2..6].copy_from_slice(&burst.to_be_bytes());
    let inner = Ipv4Addr::new(10, 201, (number / 250) as u8, (number % 250 + 1) as u8);
    let mut device = Device::new(Settings {
        private_key: key(number),
        randomness: Randomness::seeded(seed),
        wall_clock_at_zero: clock::wall_clock_at_zero(),
        mtu: 1420,
        local_addresses: vec![IpAddr::V4(inner)],
        relay: false,
    });
    let peer = PeerSettings {
        public_key: hub.key,
        preshared_key: PresharedKey::default(),
        endpoint: Some(Endpoint::from(hub.address)),
        allowed_ips: vec!["10.201.0.0/16".parse()?],
        persistent_keepalive: None,
    };
    // A hub takes only a newer timestamp than the last, and nobody minds that it is of the future.
    let now = start + burst * Duration::from_secs(1);
    device
        .add_peer(peer, now)
        .map_err(|error| anyhow::anyhow!("{error}"))?;
    device.initiate(&hub.key, now);
    let transmit = device.poll_transmit().context("no initiation")?;
    Ok(Initiation {
        device,
        message: transmit.payload,
        answer: None,
    })
}

fn key(number: u16) -> PrivateKey {
    let mut bytes = [0x5a; 32];
    // Not at the start: three bits of the first byte aren't part of a key.
    bytes[1..3].copy_from_slice(&number.to_be_bytes());
    PrivateKey::from_bytes(bytes)
}

fn say(what: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{what}")?;
    out.flush()
}
