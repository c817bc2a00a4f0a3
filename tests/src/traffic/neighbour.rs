//! A valid peer of a hub at its worst: it has a session, and floods inside of it, or starts handshakes without
//! end.
//!
//! It is the protocol core with a socket in a namespace. Data is sealed as it is sent; handshakes, which cost
//! their sender as much as the hub, are made before. As in a [`flood`](super::flood), the thread that sends
//! has precedence: a hub that is busy doesn't slow its attacker down.

use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail, ensure};
use taltun_crypto::{PresharedKey, PrivateKey, PublicKey};
use taltun_protocol::device::{Device, PeerSettings, Settings};
use taltun_protocol::messages::DATA_HEADER_LEN;
use taltun_protocol::peer::Endpoint;
use taltun_protocol::randomness::Randomness;
use taltun_protocol::time::Time;

use super::pace::{Pace, TICK};
use super::ping::internet_checksum;
use super::sending::{Sending, Sent};
use crate::crowd::Clock;
use crate::netns::Namespace;

/// Its private key.
const KEY: [u8; 32] = [0x6e; 32];
/// The network inside.
const INSIDE: &str = "10.200.0.0/24";
/// Bytes of the small packets, IP and UDP headers included.
const SMALL: usize = 92;
/// Bytes of the largest packet: what fits an IPv4 datagram with all that is around it.
const LARGEST: usize = 65_000;
/// Room behind a packet for its padding and its tag.
const ROOM: usize = 64;
/// How often it tries to begin a session, and how long each try takes.
const TRIES: u32 = 10;
const PATIENCE: Duration = Duration::from_millis(500);
/// From one of its initiations to the next, by its own clock.
const STEP: Duration = Duration::from_secs(6);

/// What it does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Misuse {
    /// Small datagrams to this address inside, which nobody waits for.
    Small(Ipv4Addr),
    /// Packets of nearly 64 KiB to this address, each in one message.
    Large(Ipv4Addr),
    /// First fragments of packets to this address, the rest of which never comes.
    Fragments(Ipv4Addr),
    /// Handshakes: one begins before the last is over.
    Handshakes,
}

/// Who the hub is, and who this is.
#[derive(Debug, Clone)]
pub struct Place {
    /// Where the hub listens.
    pub hub: SocketAddr,
    /// Its public key.
    pub hub_key: [u8; 32],
    /// This one's address inside.
    pub inner: Ipv4Addr,
}

/// A peer with a session.
#[derive(Debug)]
pub struct Neighbour {
    socket: UdpSocket,
    device: Device,
    place: Place,
    clock: Clock,
    /// By how much its own clock is ahead.
    ahead: Duration,
}

/// Its public key, base64.
pub fn public_key() -> String {
    PrivateKey::from_bytes(KEY).public_key().to_string()
}

impl Neighbour {
    /// Begins a session with the hub from `namespace`.
    pub fn connect(namespace: &Namespace, place: Place) -> Result<Self> {
        let socket = namespace.run(|| UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)))??;
        socket.connect(place.hub)?;
        socket.set_read_timeout(Some(PATIENCE))?;
        let clock = Clock::start();
        let mut device = Device::new(Settings {
            private_key: PrivateKey::from_bytes(KEY),
            randomness: Randomness::seeded([7; 32]),
            wall_clock_at_zero: clock.wall(),
            mtu: u16::MAX,
            local_addresses: vec![IpAddr::V4(place.inner)],
            relay: false,
        });
        let peer = PeerSettings {
            public_key: PublicKey(place.hub_key),
            preshared_key: PresharedKey::default(),
            endpoint: Some(Endpoint::from(place.hub)),
            allowed_ips: vec![INSIDE.parse()?],
            persistent_keepalive: None,
        };
        let added = device.add_peer(peer, clock.now());
        added.map_err(|error| anyhow!("{error}"))?;
        let mut neighbour = Self {
            socket,
            device,
            place,
            clock,
            ahead: Duration::ZERO,
        };
        for _ in 0..TRIES {
            if neighbour.shake_hands()? {
                return Ok(neighbour);
            }
        }
        bail!("the hub answers no handshake")
    }

    fn now(&self) -> Time {
        self.clock.now() + self.ahead
    }

    /// One attempt; whether there is a session by now.
    fn shake_hands(&mut self) -> Result<bool> {
        let initiation = self.initiation()?;
        self.socket.send(&initiation)?;
        let mut answer = [0; 2048];
        let length = match self.socket.recv(&mut answer) {
            Ok(length) => length,
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                return Ok(false);
            }
            Err(error) => return Err(error.into()),
        };
        let (hub, now) = (Endpoint::from(self.place.hub), self.now());
        let taken = self
            .device
            .handle_handshake(&answer[..length], hub, false, now);
        // The keepalive by which the hub knows that there is a session here, too.
        while let Some(transmit) = self.device.poll_transmit() {
            self.socket.send(&transmit.payload)?;
        }
        let peer = self.device.peer(&PublicKey(self.place.hub_key));
        Ok(taken.is_ok() && peer.is_some_and(|peer| peer.last_handshake().is_some()))
    }

    /// An initiation that is newer than the last one.
    fn initiation(&mut self) -> Result<Vec<u8>> {
        self.ahead += STEP;
        let now = self.now();
        // Else it would wait for an answer to the last one.
        self.device.start_over(now);
        self.device.initiate(&PublicKey(self.place.hub_key), now);
        let transmit = self.device.poll_transmit();
        Ok(transmit.context("there is no initiation")?.payload)
    }

    /// Does `misuse` so many times a second, for at most `limit`.
    pub fn misuse(mut self, misuse: Misuse, rate: u32, limit: Duration) -> Result<Sending> {
        let mut handshakes = Vec::new();
        if misuse == Misuse::Handshakes {
            let most = u64::from(rate) * limit.as_secs().max(1);
            for _ in 0..most {
                handshakes.push(self.initiation()?);
            }
        }
        self.socket.set_nonblocking(true)?;
        Sending::start("neighbour", move |told| {
            let mut handshakes = handshakes.into_iter();
            let mut packets = Packets::new(misuse, self.place.inner);
            self.send(rate, limit, told, |this, message| {
                let Some(packets) = &mut packets else {
                    message.clone_from(&handshakes.next()?);
                    return Some(());
                };
                this.seal(packets.next(), message)
            })
        })
    }

    /// Seals a packet; `None` if there is no session any more.
    fn seal(&self, packet: &[u8], message: &mut Vec<u8>) -> Option<()> {
        message.resize(DATA_HEADER_LEN + packet.len() + ROOM, 0);
        message[DATA_HEADER_LEN..][..packet.len()].copy_from_slice(packet);
        let mut batch = self.device.tunnel().batch(self.now());
        let sealed = batch.seal(message, packet.len()).ok()?;
        message.truncate(sealed.len);
        Some(())
    }

    /// Sends what `make` makes until that is nothing, time is up, or somebody says so. What the wire has no
    /// room for is lost.
    fn send(
        &self,
        rate: u32,
        limit: Duration,
        told: &AtomicBool,
        mut make: impl FnMut(&Self, &mut Vec<u8>) -> Option<()>,
    ) -> Result<Sent> {
        let mut pace = Pace::start(rate);
        let (mut message, mut packets) = (Vec::new(), 0);
        loop {
            let time = pace.time();
            if time >= limit || told.load(Ordering::Relaxed) {
                return Ok(Sent { packets, time });
            }
            for _ in 0..pace.due(time) {
                if make(self, &mut message).is_none() {
                    return Ok(Sent { packets, time });
                }
                match self.socket.send(&message) {
                    Ok(_) => packets += 1,
                    // The hub's kernel says that nobody listens, or the wire is full.
                    Err(error) => ensure!(
                        matches!(
                            error.kind(),
                            ErrorKind::ConnectionRefused | ErrorKind::WouldBlock
                        ) || error.raw_os_error() == Some(libc::ENOBUFS),
                        "can't send: {error}"
                    ),
                }
            }
            sleep(TICK);
        }
    }
}

/// The same packet again and again, but for its identification.
struct Packets {
    packet: Vec<u8>,
    is_fragment: bool,
    number: u16,
}

impl Packets {
    /// `None` for what isn't packets.
    fn new(misuse: Misuse, from: Ipv4Addr) -> Option<Self> {
        let (to, length, is_fragment) = match misuse {
            Misuse::Small(to) => (to, SMALL, false),
            Misuse::Large(to) => (to, LARGEST, false),
            Misuse::Fragments(to) => (to, SMALL, true),
            Misuse::Handshakes => return None,
        };
        let mut packet = vec![0; length];
        packet[0] = 0x45;
        packet[2..4].copy_from_slice(&(length as u16).to_be_bytes());
        if is_fragment {
            // More fragments; what is behind the header is a multiple of eight.
            packet[6] = 0x20;
        }
        (packet[8], packet[9]) = (64, 17);
        packet[12..16].copy_from_slice(&from.octets());
        packet[16..20].copy_from_slice(&to.octets());
        packet[20..22].copy_from_slice(&4000_u16.to_be_bytes());
        packet[22..24].copy_from_slice(&4001_u16.to_be_bytes());
        packet[24..26].copy_from_slice(&(length as u16 - 20).to_be_bytes());
        Some(Self {
            packet,
            is_fragment,
            number: 0,
        })
    }

    fn next(&mut self) -> &[u8] {
        self.number = self.number.wrapping_add(1);
        self.packet[4..6].copy_from_slice(&self.number.to_be_bytes());
        self.packet[10..12].fill(0);
        let sum = internet_checksum(&self.packet[..20]);
        self.packet[10..12].copy_from_slice(&sum.to_be_bytes());
        debug_assert!(!self.is_fragment || (self.packet.len() - 20).is_multiple_of(8));
        &self.packet
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FROM: Ipv4Addr = Ipv4Addr::new(10, 200, 0, 9);
    const TO: Ipv4Addr = Ipv4Addr::new(10, 200, 0, 1);

    #[test]
    fn packets_are_right_and_differ() {
        for misuse in [Misuse::Small(TO), Misuse::Large(TO), Misuse::Fragments(TO)] {
            let mut packets = Packets::new(misuse, FROM).unwrap();
            let first = packets.next().to_vec();
            assert_eq!(internet_checksum(&first[..20]), 0);
            assert_eq!(
                usize::from(first[2]) << 8 | usize::from(first[3]),
                first.len()
            );
            assert_eq!(first[6] == 0x20, misuse == Misuse::Fragments(TO));
            assert_ne!(packets.next()[4..6], first[4..6]);
        }
        assert!(Packets::new(Misuse::Handshakes, FROM).is_none());
    }

    #[test]
    fn the_largest_packet_fits_a_datagram() {
        assert!(u16::try_from(LARGEST + DATA_HEADER_LEN + ROOM + 28).is_ok());
    }
}
