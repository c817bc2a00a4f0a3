//! The messages between hubs.
//!
//! Who sends one is known by the session that it came on, so none says it. Numbers are little endian.
//! What follows a message is padding and isn't looked at.
//!
//! | bytes | of | |
//! |---|---|---|
//! | 0 | all | kind |
//! | 1 | all | version, 1 |
//! | 2..4 | all | flags: bit 0, the sender gives up its peers |
//! | 4..12 | all | number of a beat, which its answer repeats; else zero |
//! | 12..20, 20..28 | beat | how far the sender's own [log](super::log) goes |
//! | 28..36, 36..44 | beat | how far it has the receiver's |
//! | 12..20 | homes | which log of the sender's |
//! | 20..28, 28..36 | homes | after which entry these begin, and the last of them |
//! | 36..38 | homes | how many there are |
//! | 38.. | homes | 44 bytes each: a peer's public key, the TAI64N of its newest handshake |

// What comes from outside must not be able to make anything here panic.
#![cfg_attr(
    not(test),
    warn(clippy::arithmetic_side_effects, clippy::indexing_slicing)
)]

use taltun_crypto::{KEY_LEN, PublicKey};

use super::log::Place;

/// Peers in one message at the most: with those it has less than 1200 bytes.
pub const MOST_ENTRIES: usize = 26;

const VERSION: u8 = 1;
const BEAT: u8 = 1;
const ANSWER: u8 = 2;
const HOMES: u8 = 3;
const LEAVING: u16 = 1;
const ENTRY_LEN: usize = KEY_LEN + 12;

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
    /// Each peer with the TAI64N of its newest handshake.
    pub entries: Vec<(PublicKey, [u8; 12])>,
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
        if version != VERSION || flags & !LEAVING != 0 {
            return Err(Unknown);
        }
        match kind {
            BEAT => Ok(Self::Beat(Beat {
                number,
                leaving: flags & LEAVING != 0,
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
                let entry = |_| Ok((PublicKey(rest.take()?), rest.take()?));
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
                let flags = if beat.leaving { LEAVING } else { 0 };
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
                for (peer, at) in entries {
                    bytes.reserve(ENTRY_LEN);
                    bytes.extend(peer.0);
                    bytes.extend(at);
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
            let entry = |number| (PublicKey([number; 32]), [number; 12]);
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
            for (at, value) in [(0, 0), (0, 4), (1, 0), (1, 2), (2, 2), (3, 1)] {
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
