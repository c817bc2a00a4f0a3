//! Control messages: what two Taltuns say to each other beside packets.
//!
//! One is the plaintext of a transport message, where a packet would be. Its first byte has the
//! version nibble 0, which no IP packet has, so a receiver that doesn't know it drops it as
//! malformed. It is sent only to peers that are known to understand it: to an initiator that said
//! so by the [mark](super::tai64n) in its timestamp, and from then on in either direction.
//!
//! | bytes | |
//! |---|---|
//! | 0..4 | 0, then "tlt" |
//! | 4 | kind |
//! | 5..8 | zero; not looked at |
//! | 8..16 | id, little endian |
//!
//! So each datagram has [`PROBE_LEN`](taltun_common::wire::PROBE_LEN) bytes, which no packet's has,
//! and those who can't open it know it by that. A control message is authenticated and passes the
//! replay window as data does. It never reaches the TUN, moves no endpoint, and no timer of
//! WireGuard counts it: else probes of one path would hide that another one is silent.

// What comes from outside must not be able to make anything here panic.
#![cfg_attr(
    not(test),
    warn(clippy::arithmetic_side_effects, clippy::indexing_slicing)
)]

use super::endpoint::{Endpoint, PeerId};
use super::time::Time;

/// The bytes of a control message.
pub const CONTROL_LEN: usize = 16;

/// What it begins with.
const MAGIC: [u8; 4] = *b"\0tlt";

/// What a control message says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ControlMessage {
    /// A responder says that it understands these messages. It is answered by a reply.
    Hello(u64),
    /// An initiator asks whether a path works.
    Probe(u64),
    /// The answer to either, with the same id, to where that came from.
    Reply(u64),
}

/// It has no kind that we know, or is cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a known control message")]
pub struct Unknown;

/// Whether a plaintext is a control message, known or not.
pub fn is_control(plaintext: &[u8]) -> bool {
    plaintext.first_chunk() == Some(&MAGIC)
}

impl ControlMessage {
    /// Reads a plaintext. What follows a message isn't looked at.
    pub fn parse(plaintext: &[u8]) -> Result<Self, Unknown> {
        let fields: &[u8; CONTROL_LEN] = plaintext.first_chunk().ok_or(Unknown)?;
        let [m0, m1, m2, m3, kind, _, _, _, id @ ..] = *fields;
        if [m0, m1, m2, m3] != MAGIC {
            return Err(Unknown);
        }
        let id = u64::from_le_bytes(id);
        match kind {
            1 => Ok(Self::Hello(id)),
            2 => Ok(Self::Probe(id)),
            3 => Ok(Self::Reply(id)),
            _ => Err(Unknown),
        }
    }

    /// Writes it.
    pub fn to_bytes(self) -> [u8; CONTROL_LEN] {
        let (kind, id) = match self {
            Self::Hello(id) => (1, id),
            Self::Probe(id) => (2, id),
            Self::Reply(id) => (3, id),
        };
        let [m0, m1, m2, m3] = MAGIC;
        let [i0, i1, i2, i3, i4, i5, i6, i7] = u64::to_le_bytes(id);
        [
            m0, m1, m2, m3, kind, 0, 0, 0, i0, i1, i2, i3, i4, i5, i6, i7,
        ]
    }
}

/// A control message that a worker received.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Heard {
    pub(super) peer: PeerId,
    pub(super) message: ControlMessage,
    /// Where it came from, and the address of ours that it came to.
    pub(super) from: Endpoint,
    pub(super) at: Time,
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [ControlMessage; 3] = [
        ControlMessage::Hello(0),
        ControlMessage::Probe(u64::MAX),
        ControlMessage::Reply(0x0123_4567_89ab_cdef),
    ];

    #[test]
    fn each_is_read_as_it_was_written_with_padding_or_without() {
        for message in ALL {
            let mut bytes = message.to_bytes().to_vec();
            assert_eq!(bytes[0] >> 4, 0, "no version of IP");
            for _ in 0..64 {
                assert!(is_control(&bytes));
                assert_eq!(ControlMessage::parse(&bytes), Ok(message));
                bytes.push(0xff);
            }
        }
    }

    #[test]
    fn the_layout_is_the_documented_one() {
        let bytes = ControlMessage::Reply(0x0807_0605_0403_0201).to_bytes();
        assert_eq!(bytes, *b"\0tlt\x03\0\0\0\x01\x02\x03\x04\x05\x06\x07\x08");
    }

    #[test]
    fn one_that_is_cut_anywhere_is_unknown() {
        for message in ALL {
            for len in 0..CONTROL_LEN {
                let bytes = &message.to_bytes()[..len];
                assert_eq!(ControlMessage::parse(bytes), Err(Unknown));
                assert_eq!(is_control(bytes), len >= 4);
            }
        }
    }

    #[test]
    fn other_kinds_are_unknown_and_no_packet_is_one() {
        for kind in (0..=255).filter(|kind| !(1..=3).contains(kind)) {
            let mut bytes = ALL[0].to_bytes();
            bytes[4] = kind;
            assert!(is_control(&bytes));
            assert_eq!(ControlMessage::parse(&bytes), Err(Unknown));
        }
        for first in 1..=255 {
            let mut bytes = ALL[0].to_bytes();
            bytes[0] = first;
            assert!(!is_control(&bytes));
            assert_eq!(ControlMessage::parse(&bytes), Err(Unknown));
        }
    }
}
