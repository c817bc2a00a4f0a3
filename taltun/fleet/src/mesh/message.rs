//! The messages between hubs.
//!
//! Who sends one is known by the session that it came on, so none says it. Numbers are little endian.
//! What follows a message is padding and isn't looked at.
//!
//! | bytes | of | |
//! |---|---|---|
//! | 0 | all | kind |
//! | 1 | all | version, 1 |
//! | 2..4 | beat | flags: bit 0, the sender gives up its peers; bit 1, it has the shared address |
//! | 2..4 | others | zero |
//! | 4..12 | all | number of a beat, which its answer repeats; else zero |
//! | 12..20, 20..28 | beat | how far the sender's own [log](super::log) goes |
//! | 28..36, 36..44 | beat | how far it has the receiver's |
//! | 12..20 | homes | which log of the sender's |
//! | 20..28, 28..36 | homes | after which entry these begin, and the last of them |
//! | 36..38 | homes | how many there are |
//! | 38.. | homes | 62 bytes each: a peer's public key, the TAI64N of its newest handshake, its address (IPv6, or IPv4 mapped
//! into it) and port, which are zero where they aren't known |

// What comes from outside must not be able to make anything here panic.
#![cfg_attr(
    not(test),
    warn(clippy::arithmetic_side_effects, clippy::indexing_slicing)
)]

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use taltun_crypto::{KEY_LEN, PublicKey};

use super::log::Place;

/// Peers in one message at the most: with those it has less than 1200 bytes.
pub const MOST_ENTRIES: usize = 18;

const VERSION: u8 = 1;
const BEAT: u8 = 1;
const ANSWER: u8 = 2;
const HOMES: u8 = 3;
const LEAVING: u16 = 1;
const LEADS: u16 = 2;
const ENTRY_LEN: usize = KEY_LEN + 12 + 16 + 2;

/// A message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Message {
    /// The sender is there.
    Beat(Beat),
    /// It has heard this beat.
    Answer(u64),
    /// Peers are at home at the sender.
    Homes(Announcement),
}

/// Says that a hub is there, and what it knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Beat {
    /// Which of the sender's beats this is.
    pub number: u64,
    /// Whether the sender gives up its peers: `taltun fleet hub drain`.
    pub leaving: bool,
    /// Whether the sender has the address that hubs of its group share.
    pub leads: bool,
    /// How far the sender's own log goes.
    pub own: Place,
    /// How far it has the receiver's.
    pub has: Place,
}

/// A part of the sender's log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Announcement {
    /// Which log, and the last entry of these.
    pub until: Place,
    /// After which entry they begin: nothing between is left out.
    pub after: u64,
    /// The peers.
    pub entries: Vec<Entry>,
}

/// A peer that is at home at the sender.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    /// Who it is.
    pub peer: PublicKey,
    /// The TAI64N of its newest handshake.
    pub at: [u8; 12],
    /// Where it is, outside of the tunnel.
    pub endpoint: Option<SocketAddr>,
}

/// It is no message that this version knows, or is cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a message of a hub")]
pub struct Unknown;

impl Message {
    /// Reads one.
    pub fn parse(bytes: &[u8]) -> Result<Self, Unknown> {
        let mut rest = Reader(bytes);
        let [kind, version] = rest.take()?;
        let flags = u16::from_le_bytes(rest.take()?);
        let number = rest.number()?;
        if version != VERSION || flags & !(LEAVING | LEADS) != 0 {
            return Err(Unknown);
        }
        match kind {
            BEAT => Ok(Self::Beat(Beat {
                number,
                leaving: flags & LEAVING != 0,
                leads: flags & LEADS != 0,
                own: rest.place()?,
                has: rest.place()?,
            })),
            ANSWER if flags == 0 => Ok(Self::Answer(number)),
            HOMES if flags == 0 && number == 0 => {
                let (log, after, last) = (rest.number()?, rest.number()?, rest.number()?);
                let count = usize::from(u16::from_le_bytes(rest.take()?));
                if count > MOST_ENTRIES || after > last {
                    return Err(Unknown);
                }
                let entry = |_| {
                    Ok(Entry {
                        peer: PublicKey(rest.take()?),
                        at: rest.take()?,
                        endpoint: rest.endpoint()?,
                    })
                };
                let entries = (0..count).map(entry).collect::<Result<_, Unknown>>()?;
                let until = Place { log, entry: last };
                Ok(Self::Homes(Announcement {
                    until,
                    after,
                    entries,
                }))
            }
            _ => Err(Unknown),
        }
    }

    /// Writes it.
    pub fn to_bytes(&self) -> Vec<u8> {
        let head = |kind: u8, flags: u16, number: u64| {
            let mut bytes = vec![kind, VERSION];
            bytes.extend(flags.to_le_bytes());
            bytes.extend(number.to_le_bytes());
            bytes
        };
        match self {
            Self::Beat(beat) => {
                let flag = |is_so: bool, flag: u16| if is_so { flag } else { 0 };
                let flags = flag(beat.leaving, LEAVING) | flag(beat.leads, LEADS);
                let mut bytes = head(BEAT, flags, beat.number);
                for place in [beat.own, beat.has] {
                    bytes.extend(place.log.to_le_bytes());
                    bytes.extend(place.entry.to_le_bytes());
                }
                bytes
            }
            Self::Answer(number) => head(ANSWER, 0, *number),
            Self::Homes(told) => {
                let mut bytes = head(HOMES, 0, 0);
                for number in [told.until.log, told.after, told.until.entry] {
                    bytes.extend(number.to_le_bytes());
                }
                let entries = told.entries.iter().take(MOST_ENTRIES);
                let count = u16::try_from(entries.len()).unwrap_or(u16::MAX);
                bytes.extend(count.to_le_bytes());
                for entry in entries {
                    bytes.reserve(ENTRY_LEN);
                    bytes.extend(entry.peer.0);
                    bytes.extend(entry.at);
                    let ip = entry.endpoint.map(|it| match it.ip() {
                        IpAddr::V4(ip) => ip.to_ipv6_mapped(),
                        IpAddr::V6(ip) => ip,
                    });
                    bytes.extend(ip.map_or([0; 16], |ip| ip.octets()));
                    let port = entry.endpoint.map_or(0, |it| it.port());
                    bytes.extend(port.to_le_bytes());
                }
                bytes
            }
        }
    }
}

/// What isn't read yet.
struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn take<const N: usize>(&mut self) -> Result<[u8; N], Unknown> {
        let (taken, rest) = self.0.split_first_chunk().ok_or(Unknown)?;
        self.0 = rest;
        Ok(*taken)
    }

    fn number(&mut self) -> Result<u64, Unknown> {
        Ok(u64::from_le_bytes(self.take()?))
    }

    fn endpoint(&mut self) -> Result<Option<SocketAddr>, Unknown> {
        let ip = Ipv6Addr::from(self.take::<16>()?);
        let port = u16::from_le_bytes(self.take()?);
        match (ip.is_unspecified(), port) {
            (true, 0) => Ok(None),
            (true, _) | (_, 0) => Err(Unknown),
            _ => Ok(Some(SocketAddr::new(ip.to_canonical(), port))),
        }
    }

    fn place(&mut self) -> Result<Place, Unknown> {
        Ok(Place {
            log: self.number()?,
            entry: self.number()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all() -> [Message; 4] {
        let place = |log, entry| Place { log, entry };
        let homes = |count: usize| {
            let endpoints = ["192.0.2.1:9000", "[2001:db8::1]:1"].map(|it| it.parse().ok());
            let entry = |number: u8| Entry {
                peer: PublicKey([number; 32]),
                at: [number; 12],
                endpoint: [endpoints[0], endpoints[1], None][usize::from(number) % 3],
            };
            Message::Homes(Announcement {
                until: place(7, 300),
                after: 200,
                entries: (0..count as u8).map(entry).collect(),
            })
        };
        [
            Message::Beat(Beat {
                number: u64::MAX,
                leaving: true,
                leads: true,
                own: place(7, 300),
                has: place(9, 1),
            }),
            Message::Answer(12),
            homes(0),
            homes(MOST_ENTRIES),
        ]
    }

    #[test]
    fn each_is_read_as_it_was_written_and_fits() {
        for message in all() {
            let mut bytes = message.to_bytes();
            assert!(bytes.len() <= 1196, "{}", bytes.len());
            for _ in 0..20 {
                assert_eq!(Message::parse(&bytes).as_ref(), Ok(&message));
                bytes.push(0);
            }
        }
    }

    #[test]
    fn one_that_is_cut_or_of_another_version_is_unknown() {
        for message in all() {
            let bytes = message.to_bytes();
            for len in 0..bytes.len() {
                assert_eq!(Message::parse(&bytes[..len]), Err(Unknown));
            }
            for (at, value) in [(0, 0), (0, 4), (1, 0), (1, 2), (2, 4), (3, 1)] {
                let mut other = bytes.clone();
                other[at] = value;
                assert_eq!(Message::parse(&other), Err(Unknown), "{at} {value}");
            }
        }
        // More than fit, or an end before the beginning.
        let mut bytes = all()[3].to_bytes();
        bytes[36] += 1;
        bytes.extend([0; ENTRY_LEN]);
        assert_eq!(Message::parse(&bytes), Err(Unknown));
        let mut bytes = all()[2].to_bytes();
        bytes[20..28].copy_from_slice(&301_u64.to_le_bytes());
        assert_eq!(Message::parse(&bytes), Err(Unknown));
    }
}
