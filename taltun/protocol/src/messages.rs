//! Every constant of WireGuard's protocol, and which message a datagram is. How messages lie
//! in it is in [`taltun_common::wire`], which the eBPF programs go by, too.
//!
//! Section numbers are those of "WireGuard: Next Generation Kernel Network Tunnel"
//! (Donenfeld, 2017, revision of 2020).

// What comes from outside must not be able to make anything here panic.
#![cfg_attr(
    not(test),
    warn(clippy::arithmetic_side_effects, clippy::indexing_slicing)
)]

use std::time::Duration;

pub use taltun_common::wire::{
    COOKIE_LEN, CookieReply, DATA_HEADER_LEN, DataHeader, INITIATION_LEN, Initiation, RESPONSE_LEN,
    Response,
};
use taltun_common::wire::{DATA_MIN_LEN, MAC_LEN, MessageKind};
use zerocopy::little_endian::U32;
use zerocopy::{FromBytes, Immutable, KnownLayout, Unaligned};

/// Noise protocol name, hashed into the first chaining key (§5.4).
pub const CONSTRUCTION: &[u8] = b"Noise_IKpsk2_25519_ChaChaPoly_BLAKE2s";
/// Hashed after the construction (§5.4).
pub const IDENTIFIER: &[u8] = b"WireGuard v1 zx2c4 Jason@zx2c4.com";
/// Prefix of the key of the first MAC (§5.4.4).
pub const LABEL_MAC1: &[u8] = b"mac1----";
/// Prefix of the key that encrypts cookies (§5.4.7).
pub const LABEL_COOKIE: &[u8] = b"cookie--";

/// After so many messages on a session, a new one is negotiated (§6.1).
pub const REKEY_AFTER_MESSAGES: u64 = 1 << 60;
/// Counters behind the newest that are still told apart (§5.4.6, RFC 6479).
pub const REPLAY_WINDOW: u64 = 127 * 64;
/// After so many messages, a session is dead (§6.1). Leaves room for the replay window.
pub const REJECT_AFTER_MESSAGES: u64 = u64::MAX - REPLAY_WINDOW - 1;
/// The initiator of a session negotiates a new one when it sends after this (§6.2).
pub const REKEY_AFTER_TIME: Duration = Duration::from_secs(120);
/// After this a session is dead (§6.2).
pub const REJECT_AFTER_TIME: Duration = Duration::from_secs(180);
/// How long a handshake is retried before giving up (§6.4).
pub const REKEY_ATTEMPT_TIME: Duration = Duration::from_secs(90);
/// How long to wait for a response, and the least time between two initiations (§6.4).
pub const REKEY_TIMEOUT: Duration = Duration::from_secs(5);
/// Largest random addition to a retry, so that two peers don't collide forever (§6.1).
pub const REKEY_TIMEOUT_JITTER: Duration = Duration::from_millis(333);
/// Silence after which received data is acknowledged by an empty packet (§6.5).
pub const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);
/// A session is not used for sending during the last seconds of its life: what leaves then
/// would arrive after its death.
pub const STOP_SENDING_AFTER_TIME: Duration = REJECT_AFTER_TIME.saturating_sub(REKEY_TIMEOUT);
/// The initiator of a session negotiates a new one when it receives after this (§6.2).
pub const REKEY_ON_RECEIVE_AFTER_TIME: Duration = REJECT_AFTER_TIME
    .saturating_sub(KEEPALIVE_TIMEOUT)
    .saturating_sub(REKEY_TIMEOUT);
/// Data without an answer for so long causes a new handshake (§6.5).
pub const NEW_HANDSHAKE_TIME: Duration = KEEPALIVE_TIMEOUT.saturating_add(REKEY_TIMEOUT);
/// Key material without a successor is wiped after this (§6.3).
pub const WIPE_AFTER_TIME: Duration = Duration::from_secs(3 * 180);
/// How long a cookie and the secret it is made of live (§5.4.7).
pub const COOKIE_LIFETIME: Duration = Duration::from_secs(120);
/// A cookie is used a little shorter than its maker honours it, for the way there.
pub const COOKIE_LATENCY: Duration = Duration::from_secs(5);
/// The least time between two initiations accepted from one peer.
pub const INITIATION_INTERVAL: Duration = Duration::from_millis(20);
/// Data packets kept for a peer while a handshake runs.
pub const MAX_STAGED_PACKETS: usize = 128;

/// Data is padded to a multiple of this (§5.4.6).
pub const PADDING: usize = 16;
const _: () = assert!(
    taltun_common::wire::TAG_LEN == taltun_crypto::TAG_LEN,
    "messages have room for the cipher's tag"
);
/// Bytes that a data message adds to its (padded) packet: header and tag.
pub const DATA_OVERHEAD: usize = DATA_MIN_LEN;

/// A datagram of WireGuard's shape; what it says is not verified yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Message<'a> {
    /// First message of a handshake (§5.4.2).
    Initiation(&'a Initiation),
    /// Second message of a handshake (§5.4.3).
    Response(&'a Response),
    /// "Come again with this cookie" (§5.4.7).
    CookieReply(&'a CookieReply),
    /// A sealed packet (§5.4.6).
    Data {
        /// The session, by the index its receiver chose.
        receiver: u32,
        /// The nonce.
        counter: u64,
    },
}

/// The datagram has not the shape of any message: wrong type, reserved bytes or length.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a WireGuard message")]
pub struct Malformed;

impl<'a> Message<'a> {
    /// Tells which message a datagram is, from its type, its reserved bytes and its length.
    pub fn parse(datagram: &'a [u8]) -> Result<Self, Malformed> {
        let (word, _) = U32::ref_from_prefix(datagram).map_err(|_| Malformed)?;
        // The type is one byte and the three behind it are zero: one integer tells both.
        match MessageKind::of(word.get()).ok_or(Malformed)? {
            MessageKind::Initiation => exact(datagram).map(Self::Initiation),
            MessageKind::Response => exact(datagram).map(Self::Response),
            MessageKind::Cookie => exact(datagram).map(Self::CookieReply),
            MessageKind::Data if datagram.len() < DATA_OVERHEAD => Err(Malformed),
            MessageKind::Data => {
                let (header, _) = DataHeader::ref_from_prefix(datagram).map_err(|_| Malformed)?;
                Ok(Self::Data {
                    receiver: header.receiver.get(),
                    counter: header.counter.get(),
                })
            }
        }
    }
}

/// A handshake message before its two MACs, and these; `None` where it is shorter.
pub fn split_macs(message: &[u8]) -> Option<(&[u8], &[u8; MAC_LEN], &[u8; MAC_LEN])> {
    let (rest, mac2) = message.split_last_chunk()?;
    let (signed, mac1) = rest.split_last_chunk()?;
    Some((signed, mac1, mac2))
}

/// Bytes a packet of `len` occupies once padded: the next multiple of 16, but not past
/// the MTU, so that padding never makes a datagram too large (§5.4.6).
pub const fn padded_len(len: usize, mtu: usize) -> usize {
    if mtu == 0 {
        return len.next_multiple_of(PADDING);
    }
    // A packet above the MTU comes from a device whose MTU just shrank: only what is
    // beyond the last full MTU is padded, as the kernel does.
    let last = if len > mtu { rest(len, mtu) } else { len };
    let padded = last.next_multiple_of(PADDING);
    // `last` is part of `len`, and no packet's length is near the largest number.
    len.wrapping_sub(last)
        .wrapping_add(if padded > mtu { mtu } else { padded })
}

/// The bytes beyond whole MTUs; `mtu` isn't 0.
const fn rest(len: usize, mtu: usize) -> usize {
    match len.checked_rem(mtu) {
        Some(rest) => rest,
        None => 0,
    }
}

fn exact<T: FromBytes + Immutable + KnownLayout + Unaligned>(
    datagram: &[u8],
) -> Result<&T, Malformed> {
    T::ref_from_bytes(datagram).map_err(|_| Malformed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_message_is_known_by_type_and_exact_length() {
        for (kind, len) in [(1, 148), (2, 92), (3, 64)] {
            let mut datagram = vec![0; len];
            datagram[0] = kind;
            assert!(Message::parse(&datagram).is_ok());
            datagram.push(0);
            assert_eq!(Message::parse(&datagram), Err(Malformed));
            datagram.truncate(len - 1);
            assert_eq!(Message::parse(&datagram), Err(Malformed));
        }
    }

    #[test]
    fn data_needs_header_and_tag_and_no_multiple_of_sixteen() {
        let mut datagram = vec![0; 32];
        datagram[0] = 4;
        assert!(Message::parse(&datagram).is_ok());
        // A packet padded only up to an odd MTU is as good as any other.
        datagram.push(0);
        assert!(Message::parse(&datagram).is_ok());
        assert_eq!(Message::parse(&datagram[..31]), Err(Malformed));
    }

    #[test]
    fn reserved_bytes_must_be_zero() {
        for reserved in 1..4 {
            let mut datagram = vec![0; 148];
            datagram[0] = 1;
            datagram[reserved] = 1;
            assert_eq!(Message::parse(&datagram), Err(Malformed));
        }
    }

    #[test]
    fn any_datagram_of_any_length_parses_or_is_malformed() {
        for len in 0..200 {
            for kind in 0..=255 {
                let mut datagram = vec![kind; len];
                let _ = Message::parse(&datagram);
                if len >= 4 {
                    datagram[1..4].fill(0);
                    let _ = Message::parse(&datagram);
                }
            }
        }
    }

    #[test]
    fn padding_reaches_sixteen_but_never_passes_the_mtu() {
        assert_eq!(padded_len(0, 1420), 0);
        assert_eq!(padded_len(1, 1420), 16);
        assert_eq!(padded_len(84, 1420), 96);
        assert_eq!(padded_len(1408, 1420), 1408);
        assert_eq!(padded_len(1409, 1420), 1420);
        assert_eq!(padded_len(1420, 1420), 1420);
        for mtu in [576, 1280, 1300, 1420, 9000] {
            for len in 0..=mtu {
                let padded = padded_len(len, mtu);
                assert!(padded >= len && padded <= mtu && padded - len < 16);
            }
        }
    }

    #[test]
    fn a_packet_above_a_shrunk_mtu_still_fits_its_padding() {
        for len in 1421..5000 {
            let padded = padded_len(len, 1420);
            assert!(padded >= len && padded - len < 16);
        }
    }
}
