//! Whatever the protocol core accepts, XDP lets through.
//!
//! Two devices talk on a virtual clock, through losses, silences and spoilt copies of their
//! messages. Each datagram for the hub goes through both programs first, whose map of
//! indices follows the hub's events as the controller has it follow them, and then to the
//! hub's core. What the core takes must have passed; alone, and merged behind the one before
//! it. Now and then the hub is under load, and the programs know: they have no cookie reply
//! left for anybody then, so that only a cookie lets an initiation pass.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use aya::Ebpf;
use aya::maps::HashMap;
use libtest_mimic::Failed;
use taltun::crypto::{PresharedKey, PrivateKey};
use taltun::protocol::device::{Device, Event, PeerSettings, Settings};
use taltun::protocol::messages::{DATA_HEADER_LEN, Message};
use taltun::protocol::peer::Endpoint;
use taltun::protocol::randomness::Randomness;
use taltun::protocol::time::Time;
use taltun_common::bucket::Rate;

use crate::Test;
use crate::frames::{Ends, PORT, SOURCE_PORT, V4, V6, udp, unfinished};
use crate::load::{no_replies, write_load};
use crate::programs::{PROGRAMS, XDP_DROP, XDP_PASS, allow_index, loaded_for, map, verdict};

/// Long enough for dozens of handshakes.
const STEPS: usize = 1500;
const INNER: [&str; 2] = ["10.0.0.1", "10.0.0.2"];

pub fn tests() -> impl Iterator<Item = Test> {
    [("v4", V4, 1), ("v6", V6, 2), ("another_seed", V4, 3)]
        .into_iter()
        .map(|(name, ends, seed)| -> Test {
            (
                format!("property::{name}"),
                Box::new(move || accepted_is_never_dropped(ends, seed)),
            )
        })
}

fn accepted_is_never_dropped(ends: Ends, seed: u64) -> Result<(), Failed> {
    let mut world = World::new(ends, seed)?;
    for _ in 0..STEPS {
        world.step()?;
    }
    // It would be easy to keep the promise if nothing ever happened.
    let Tally {
        handshakes,
        data,
        dropped,
        merged,
        cookies,
    } = world.tally;
    if cookies < 5 || handshakes < 20 || data < 200 || dropped < 50 || merged < 50 {
        return Err(format!("too little happened: {:?}", world.tally).into());
    }
    Ok(())
}

#[derive(Debug, Default, Clone, Copy)]
struct Tally {
    /// Accepted messages.
    handshakes: usize,
    data: usize,
    /// Accepted initiations under load, for which it takes a good cookie.
    cookies: usize,
    /// Accepted messages that were also tried behind the one before.
    merged: usize,
    /// Messages that XDP dropped.
    dropped: usize,
}

struct World {
    ends: Ends,
    ebpf: Ebpf,
    /// The hub and the spoke.
    devices: [Device; 2],
    now: Time,
    random: Random,
    /// Whether the hub is under load.
    under_load: bool,
    /// What the spoke sent to the hub last, as it was.
    previous: Vec<u8>,
    tally: Tally,
}

const HUB: usize = 0;
const SPOKE: usize = 1;

impl World {
    fn new(ends: Ends, seed: u64) -> Result<Self, Failed> {
        let keys = [1, 2].map(|byte| PrivateKey::from_bytes([byte; 32]));
        let device = |own: usize| {
            let mut device = Device::new(Settings {
                private_key: keys[own].clone(),
                randomness: Randomness::seeded([seed as u8 + own as u8; 32]),
                wall_clock_at_zero: Duration::from_secs(1_700_000_000),
                mtu: 1420,
                local_addresses: vec![INNER[own].parse()?],
                relay: false,
            });
            let address = [ends.destination, ends.source][1 - own];
            device
                .add_peer(
                    PeerSettings {
                        public_key: keys[1 - own].public_key(),
                        preshared_key: PresharedKey::default(),
                        endpoint: Some(SocketAddr::new(address, PORT).into()),
                        allowed_ips: vec![format!("{}/32", INNER[1 - own]).parse()?],
                        persistent_keepalive: None,
                    },
                    Time::START,
                )
                .map_err(|error| error.to_string())?;
            Ok::<_, Failed>(device)
        };
        let devices = [device(HUB)?, device(SPOKE)?];
        // Virtual time flies, and buckets are filled by the real one: no limit here.
        let mut ebpf = loaded_for(devices[HUB].mac1_key(), Rate::default())?;
        no_replies(&mut ebpf)?;
        Ok(Self {
            ends,
            ebpf,
            devices,
            now: Time::START,
            random: Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15)),
            under_load: false,
            previous: Vec::new(),
            tally: Tally::default(),
        })
    }

    /// Somebody says something, or time passes.
    fn step(&mut self) -> Result<(), Failed> {
        let who = self.random.below(2) as usize;
        let milliseconds = self.random.below(10_000);
        if self.random.below(20) == 0 {
            self.under_load = !self.under_load;
        }
        match self.random.below(10) {
            // Up to 200 s, past the lifetime of a session.
            0 => self.pass_time(Duration::from_millis(20 * milliseconds))?,
            1 => {
                let theirs = *self.devices[1 - who].public_key();
                self.devices[who].initiate(&theirs, self.now);
            }
            2 | 3 => self.pass_time(Duration::from_millis(milliseconds))?,
            _ => self.talk(who)?,
        }
        self.settle()
    }

    fn pass_time(&mut self, time: Duration) -> Result<(), Failed> {
        let end = self.now + time;
        loop {
            let due = self.devices.iter().filter_map(Device::poll_timeout).min();
            let Some(due) = due.filter(|due| *due <= end) else {
                break;
            };
            self.now = self.now.max(due);
            for device in &mut self.devices {
                device.handle_timeout(self.now);
            }
            self.settle()?;
        }
        self.now = end;
        Ok(())
    }

    /// A packet of any size from one to the other.
    fn talk(&mut self, who: usize) -> Result<(), Failed> {
        let length = 20 + self.random.below(1400) as usize;
        let mut packet = vec![0; length];
        packet[0] = 0x45;
        packet[2..4].copy_from_slice(&(length as u16).to_be_bytes());
        for (at, inner) in [(12, INNER[who]), (16, INNER[1 - who])] {
            if let IpAddr::V4(address) = inner.parse()? {
                packet[at..at + 4].copy_from_slice(&address.octets());
            }
        }
        let mut buffer = vec![0; DATA_HEADER_LEN + length + 64];
        buffer[DATA_HEADER_LEN..DATA_HEADER_LEN + length].copy_from_slice(&packet);
        let tunnel = Arc::clone(self.devices[who].tunnel());
        let sealed = tunnel.batch(self.now).seal(&mut buffer, length);
        if let Ok(sealed) = sealed {
            buffer.truncate(sealed.len);
            self.deliver(who, buffer)?;
        }
        Ok(())
    }

    /// Carries over what the devices want sent, until they are silent.
    fn settle(&mut self) -> Result<(), Failed> {
        loop {
            let mut messages = Vec::new();
            for who in [HUB, SPOKE] {
                let device = &mut self.devices[who];
                if device.tunnel().take_wake() {
                    device.handle_requests(self.now);
                }
                while let Some(event) = device.poll_event() {
                    match event {
                        Event::IndexBorn(index) if who == HUB => {
                            allow_index(&mut self.ebpf, index)?;
                        }
                        Event::IndexDied(index) if who == HUB => {
                            let mut indices: HashMap<_, u32, u8> =
                                map(&mut self.ebpf, "INDICES")?.try_into()?;
                            indices.remove(&index)?;
                        }
                        _ => {}
                    }
                }
                while let Some(transmit) = device.poll_transmit() {
                    messages.push((who, transmit.payload));
                }
            }
            if messages.is_empty() {
                return Ok(());
            }
            for (who, message) in messages {
                self.deliver(who, message)?;
            }
        }
    }

    /// One message on the wire: perhaps lost, perhaps with a spoilt copy before it.
    fn deliver(&mut self, from: usize, message: Vec<u8>) -> Result<(), Failed> {
        if self.random.below(10) == 0 {
            return Ok(());
        }
        if from == HUB {
            // The hub's answers don't come by its own XDP.
            self.accept(SPOKE, &message);
            return Ok(());
        }
        if self.random.below(3) == 0 {
            let mut spoilt = message.clone();
            let at = self.random.below(spoilt.len() as u64) as usize;
            if self.random.below(4) == 0 {
                spoilt.truncate(at);
            } else {
                spoilt[at] ^= 1 << self.random.below(8);
            }
            self.arrive(&spoilt, false)?;
        }
        self.arrive(&message, true)?;
        self.previous = message;
        Ok(())
    }

    /// A datagram reaches the hub.
    fn arrive(&mut self, datagram: &[u8], may_merge: bool) -> Result<(), Failed> {
        self.tell_load()?;
        let kind = datagram.first().copied().unwrap_or_default();
        // Under load several initiations at once are a flood; and no peer sends them.
        let may_merge = may_merge && !(self.under_load && kind == 1);
        let mut passed = Vec::new();
        for program in PROGRAMS {
            passed.push(verdict(&mut self.ebpf, program, &udp(self.ends, datagram))?);
        }
        // The kernel merges what is as long as the first, or shorter and the last.
        if may_merge && !self.previous.is_empty() && datagram.len() <= self.previous.len() {
            let both = [&self.previous, datagram].concat();
            let frame = unfinished(self.ends, &both);
            passed.push(verdict(&mut self.ebpf, PROGRAMS[1], &frame)?);
        }
        if self.accept(HUB, datagram) {
            if passed.iter().any(|verdict| *verdict != XDP_PASS) {
                return Err(format!(
                    "a message of type {kind}, {} bytes, that the core accepts: {passed:?}",
                    datagram.len()
                )
                .into());
            }
            self.tally.merged += usize::from(passed.len() > 2);
            if kind == 4 {
                self.tally.data += 1;
            } else {
                self.tally.handshakes += 1;
                self.tally.cookies += usize::from(self.under_load && kind == 1);
            }
        } else {
            self.tally.dropped += usize::from(passed[0] == XDP_DROP);
        }
        Ok(())
    }

    /// Tells the programs what the controller tells them, on a clock that flies.
    fn tell_load(&mut self) -> Result<(), Failed> {
        let secret = self.devices[HUB].cookie_secret(self.now);
        let until = if self.under_load { u64::MAX } else { 0 };
        write_load(&mut self.ebpf, until, secret.map(|(it, _)| (it, u64::MAX)))
    }

    /// Whether the core takes it.
    fn accept(&mut self, who: usize, datagram: &[u8]) -> bool {
        let remote = [self.ends.source, self.ends.destination][who];
        let port = if who == HUB { SOURCE_PORT } else { PORT };
        let from = Endpoint::from(SocketAddr::new(remote, port));
        match Message::parse(datagram) {
            Ok(Message::Data { receiver, counter }) => {
                let tunnel = Arc::clone(self.devices[who].tunnel());
                let mut buffer = datagram.to_vec();
                let mut batch = tunnel.batch(self.now);
                batch.open(receiver, counter, &mut buffer, from).is_ok()
            }
            Ok(_) => {
                let under_load = who == HUB && self.under_load;
                self.devices[who]
                    .handle_handshake(datagram, from, under_load, self.now)
                    .is_ok()
            }
            Err(_) => false,
        }
    }
}

/// A small generator of our own, so that a failure comes back (xorshift64*).
struct Random(u64);

impl Random {
    fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % end
    }
}
