//! The page of protocol truth: every constant and every wire layout of WireGuard.
//!
//! Section numbers are those of "WireGuard: Next Generation Kernel Network Tunnel"
//! (Donenfeld, 2017, revision of 2020). All integers on the wire are little endian.

use std::time::Duration;

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
/// Data that nobody answered for so long asks for a new handshake (§6.5).
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
/// Bytes of a handshake initiation.
pub const INITIATION_LEN: usize = 148;
/// Bytes of a handshake response.
pub const RESPONSE_LEN: usize = 92;
/// Bytes of a cookie reply.
pub const COOKIE_REPLY_LEN: usize = 64;
/// Bytes before the encrypted packet in a data message.
pub const DATA_HEADER_LEN: usize = 16;
/// Bytes that a data message adds to its (padded) packet: header and tag.
pub const DATA_OVERHEAD: usize = DATA_HEADER_LEN + taltun_crypto::TAG_LEN;

const TYPE_INITIATION: u32 = 1;
const TYPE_RESPONSE: u32 = 2;
const TYPE_COOKIE_REPLY: u32 = 3;
const TYPE_DATA: u32 = 4;

/// A datagram of WireGuard's shape; what it says is not verified yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Message<'a> {
    /// First message of a handshake (§5.4.2).
    Initiation(Initiation<'a>),
    /// Second message of a handshake (§5.4.3).
    Response(Response<'a>),
    /// "Come again with this cookie" (§5.4.7).
    CookieReply(CookieReply<'a>),
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
        if datagram.len() < 4 {
            return Err(Malformed);
        }
        // The type is one byte and the three behind it are zero: one integer tells both.
        match read_u32(datagram, 0) {
            TYPE_INITIATION => Ok(Self::Initiation(Initiation(exact(datagram)?))),
            TYPE_RESPONSE => Ok(Self::Response(Response(exact(datagram)?))),
            TYPE_COOKIE_REPLY => Ok(Self::CookieReply(CookieReply(exact(datagram)?))),
            TYPE_DATA if datagram.len() >= DATA_OVERHEAD => Ok(Self::Data {
                receiver: read_u32(datagram, 4),
                counter: read_u64(datagram, 8),
            }),
            _ => Err(Malformed),
        }
    }
}

/// Handshake initiation: type, sender, ephemeral, static, timestamp, mac1, mac2.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Initiation<'a>(pub &'a [u8; INITIATION_LEN]);

impl<'a> Initiation<'a> {
    /// Index the initiator wants to be addressed by.
    pub fn sender(self) -> u32 {
        read_u32(self.0, 4)
    }
    /// Unencrypted ephemeral public key.
    pub fn ephemeral(self) -> &'a [u8; 32] {
        field(self.0, 8)
    }
    /// Static public key, sealed.
    pub fn sealed_static(self) -> &'a [u8; 48] {
        field(self.0, 40)
    }
    /// TAI64N timestamp, sealed.
    pub fn sealed_timestamp(self) -> &'a [u8; 28] {
        field(self.0, 88)
    }
}

/// Writes an initiation up to, without, its MACs.
pub fn write_initiation(
    sender: u32,
    ephemeral: &[u8; 32],
    sealed_static: &[u8; 48],
    sealed_timestamp: &[u8; 28],
) -> [u8; INITIATION_LEN] {
    let mut out = [0; INITIATION_LEN];
    out[0..4].copy_from_slice(&TYPE_INITIATION.to_le_bytes());
    out[4..8].copy_from_slice(&sender.to_le_bytes());
    out[8..40].copy_from_slice(ephemeral);
    out[40..88].copy_from_slice(sealed_static);
    out[88..116].copy_from_slice(sealed_timestamp);
    out
}

/// Handshake response: type, sender, receiver, ephemeral, empty, mac1, mac2.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Response<'a>(pub &'a [u8; RESPONSE_LEN]);

impl<'a> Response<'a> {
    /// Index the responder wants to be addressed by.
    pub fn sender(self) -> u32 {
        read_u32(self.0, 4)
    }
    /// The initiator's index, from its initiation.
    pub fn receiver(self) -> u32 {
        read_u32(self.0, 8)
    }
    /// Unencrypted ephemeral public key.
    pub fn ephemeral(self) -> &'a [u8; 32] {
        field(self.0, 12)
    }
    /// Nothing, sealed: proves who answers.
    pub fn sealed_nothing(self) -> &'a [u8; 16] {
        field(self.0, 44)
    }
}

/// Writes a response up to, without, its MACs.
pub fn write_response(
    sender: u32,
    receiver: u32,
    ephemeral: &[u8; 32],
    sealed_nothing: &[u8; 16],
) -> [u8; RESPONSE_LEN] {
    let mut out = [0; RESPONSE_LEN];
    out[0..4].copy_from_slice(&TYPE_RESPONSE.to_le_bytes());
    out[4..8].copy_from_slice(&sender.to_le_bytes());
    out[8..12].copy_from_slice(&receiver.to_le_bytes());
    out[12..44].copy_from_slice(ephemeral);
    out[44..60].copy_from_slice(sealed_nothing);
    out
}

/// Cookie reply: type, receiver, nonce, sealed cookie.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CookieReply<'a>(pub &'a [u8; COOKIE_REPLY_LEN]);

impl<'a> CookieReply<'a> {
    /// The index from the handshake message that this answers.
    pub fn receiver(self) -> u32 {
        read_u32(self.0, 4)
    }
    /// Random nonce of the cookie's encryption.
    pub fn nonce(self) -> &'a [u8; 24] {
        field(self.0, 8)
    }
    /// The cookie, sealed.
    pub fn sealed_cookie(self) -> &'a [u8; 32] {
        field(self.0, 32)
    }
}

/// Writes a cookie reply.
pub fn write_cookie_reply(
    receiver: u32,
    nonce: &[u8; 24],
    sealed_cookie: &[u8; 32],
) -> [u8; COOKIE_REPLY_LEN] {
    let mut out = [0; COOKIE_REPLY_LEN];
    out[0..4].copy_from_slice(&TYPE_COOKIE_REPLY.to_le_bytes());
    out[4..8].copy_from_slice(&receiver.to_le_bytes());
    out[8..32].copy_from_slice(nonce);
    out[32..64].copy_from_slice(sealed_cookie);
    out
}

/// The header of a data message.
pub fn data_header(receiver: u32, counter: u64) -> [u8; DATA_HEADER_LEN] {
    let mut out = [0; DATA_HEADER_LEN];
    out[0..4].copy_from_slice(&TYPE_DATA.to_le_bytes());
    out[4..8].copy_from_slice(&receiver.to_le_bytes());
    out[8..16].copy_from_slice(&counter.to_le_bytes());
    out
}

/// Where the two MACs of a handshake message of `len` bytes start: `(mac1, mac2)`.
pub const fn mac_offsets(len: usize) -> (usize, usize) {
    (len - 32, len - 16)
}

/// Bytes a packet of `len` occupies once padded: the next multiple of 16, but not past
/// the MTU, so that padding never makes a datagram too large (§5.4.6).
pub const fn padded_len(len: usize, mtu: usize) -> usize {
    if mtu == 0 {
        return len.next_multiple_of(PADDING);
    }
    // A packet above the MTU comes from a device whose MTU just shrank: only what is
    // beyond the last full MTU is padded, as the kernel does.
    let last = if len > mtu { len % mtu } else { len };
    let padded = last.next_multiple_of(PADDING);
    len - last + if padded > mtu { mtu } else { padded }
}

fn exact<const N: usize>(datagram: &[u8]) -> Result<&[u8; N], Malformed> {
    datagram.try_into().map_err(|_| Malformed)
}

fn field<const LEN: usize, const N: usize>(message: &[u8; LEN], at: usize) -> &[u8; N] {
    message[at..at + N]
        .try_into()
        .expect("a slice of N bytes is an array of N bytes")
}

fn read_u32(bytes: &[u8], at: usize) -> u32 {
    let mut out = [0; 4];
    out.copy_from_slice(&bytes[at..at + 4]);
    u32::from_le_bytes(out)
}

fn read_u64(bytes: &[u8], at: usize) -> u64 {
    let mut out = [0; 8];
    out.copy_from_slice(&bytes[at..at + 8]);
    u64::from_le_bytes(out)
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
