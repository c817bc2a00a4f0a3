//! WireGuard's messages, as they lie in a datagram: the one page of their layout.
//!
//! A message starts with its type, a byte, and three reserved bytes that are zero; read
//! as one little-endian word that is just the type. Handshake messages have one length
//! each. Data has at least that of an empty packet, and *any* length above: senders pad
//! to 16 bytes, but never past the MTU (a full packet at MTU 1420 makes 1452 bytes, which
//! isn't a multiple of 16), and some don't pad at all.
//!
//! Section numbers are those of "WireGuard: Next Generation Kernel Network Tunnel"
//! (Donenfeld, 2017, revision of 2020). All integers are little endian.

use core::mem::offset_of;

use zerocopy::little_endian::{U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// What user space appends to its own ICMP errors, behind what their IP header counts: the TC
/// program recognises them by it, and the kernel removes it.
pub const OWN_ERROR_TRAILER: [u8; 1] = [0];

/// The word a handshake initiation starts with.
pub const INITIATION: u32 = 1;
/// The word a handshake response starts with.
pub const RESPONSE: u32 = 2;
/// The word a cookie reply starts with.
pub const COOKIE: u32 = 3;
/// The word a data message starts with.
pub const DATA: u32 = 4;

/// Bytes of the datagram of a control message, which two Taltuns send each other as data. Nothing
/// else has this length: an empty packet has 32, and one of IP, which has a header of 20 bytes at
/// the least, more than 48, padded or not. So programs that can't open a datagram know by it that
/// this is a probe or its answer.
pub const PROBE_LEN: usize = 48;

/// Bytes of each of the two MACs at the end of a handshake message.
pub const MAC_LEN: usize = 16;
/// Bytes of the tag at the end of what is sealed.
pub const TAG_LEN: usize = 16;

/// A handshake initiation (§5.4.2).
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned,
)]
#[repr(C)]
pub struct Initiation {
    /// [`INITIATION`].
    pub kind: U32,
    /// The sender's index, which the answer addresses.
    pub sender: U32,
    /// The initiator's ephemeral public key, unencrypted.
    pub ephemeral: [u8; 32],
    /// Its static public key, sealed.
    pub sealed_static: [u8; 32 + TAG_LEN],
    /// A TAI64N timestamp, sealed.
    pub sealed_timestamp: [u8; 12 + TAG_LEN],
    /// Over all before it, keyed with the responder's public key.
    pub mac1: [u8; MAC_LEN],
    /// Over all before it, keyed with a cookie; all zero: there is none.
    pub mac2: [u8; MAC_LEN],
}

/// A handshake response (§5.4.3).
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned,
)]
#[repr(C)]
pub struct Response {
    /// [`RESPONSE`].
    pub kind: U32,
    /// The responder's index, which data addresses.
    pub sender: U32,
    /// The initiator's index, from its initiation.
    pub receiver: U32,
    /// The responder's ephemeral public key, unencrypted.
    pub ephemeral: [u8; 32],
    /// Nothing, sealed: authenticates the responder.
    pub sealed_nothing: [u8; TAG_LEN],
    /// Over all before it, keyed with the initiator's public key.
    pub mac1: [u8; MAC_LEN],
    /// Over all before it, keyed with a cookie; all zero: there is none.
    pub mac2: [u8; MAC_LEN],
}

/// A cookie reply: "come again with this cookie" (§5.4.7).
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned,
)]
#[repr(C)]
pub struct CookieReply {
    /// [`COOKIE`].
    pub kind: U32,
    /// The index from the handshake message that this answers.
    pub receiver: U32,
    /// Random nonce of the cookie's encryption.
    pub nonce: [u8; 24],
    /// The cookie, sealed.
    pub sealed_cookie: [u8; 16 + TAG_LEN],
}

/// What comes before the sealed packet in a data message (§5.4.6).
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned,
)]
#[repr(C)]
pub struct DataHeader {
    /// [`DATA`].
    pub kind: U32,
    /// The session, by the index that its receiver chose.
    pub receiver: U32,
    /// The nonce.
    pub counter: U64,
}

/// Bytes of a handshake initiation.
pub const INITIATION_LEN: usize = size_of::<Initiation>();
/// Bytes of a handshake response.
pub const RESPONSE_LEN: usize = size_of::<Response>();
/// Bytes of a cookie reply.
pub const COOKIE_LEN: usize = size_of::<CookieReply>();
/// Bytes before the sealed packet in a data message.
pub const DATA_HEADER_LEN: usize = size_of::<DataHeader>();
/// Bytes of the shortest data message: header and tag, a keepalive.
pub const DATA_MIN_LEN: usize = DATA_HEADER_LEN + TAG_LEN;

/// Where an initiation's mac1 starts, which covers the bytes before it.
pub const INITIATION_MAC1: usize = offset_of!(Initiation, mac1);
/// Where an initiation's mac2 starts, which covers the bytes before it, mac1 included.
pub const INITIATION_MAC2: usize = offset_of!(Initiation, mac2);
/// Where a response's mac1 starts.
pub const RESPONSE_MAC1: usize = offset_of!(Response, mac1);

/// The kind of message, by its first word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum MessageKind {
    /// Handshake initiation.
    Initiation = INITIATION,
    /// Handshake response.
    Response = RESPONSE,
    /// Cookie reply.
    Cookie = COOKIE,
    /// Data, keepalives included.
    Data = DATA,
}

/// How a length fits a kind of message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fit {
    /// The length of one message.
    One,
    /// Too long for one, but one followed by another is possible: where the kernel has
    /// merged datagrams into one packet. Holds the offset of the second message.
    Several(usize),
    /// No message of this kind has it, nor starts with one that has.
    Wrong,
}

impl MessageKind {
    /// The kind of message that starts with this word, its first four bytes read as
    /// little-endian; `None` if none does.
    #[inline(always)]
    #[must_use]
    pub const fn of(word: u32) -> Option<Self> {
        match word {
            INITIATION => Some(Self::Initiation),
            RESPONSE => Some(Self::Response),
            COOKIE => Some(Self::Cookie),
            DATA => Some(Self::Data),
            _ => None,
        }
    }

    /// How `length`, the bytes of a UDP payload, fits this kind.
    #[inline(always)]
    #[must_use]
    pub const fn fit(self, length: usize) -> Fit {
        let exact = match self {
            Self::Initiation => INITIATION_LEN,
            Self::Response => RESPONSE_LEN,
            Self::Cookie => COOKIE_LEN,
            Self::Data if length >= DATA_MIN_LEN => return Fit::One,
            Self::Data => return Fit::Wrong,
        };
        if length == exact {
            Fit::One
        } else if length >= exact + DATA_MIN_LEN {
            Fit::Several(exact)
        } else {
            Fit::Wrong
        }
    }

    /// Where the receiver's index is: a little-endian word that the receiver of the
    /// message once gave out. An initiation has none.
    #[inline(always)]
    #[must_use]
    pub const fn receiver_offset(self) -> Option<usize> {
        match self {
            Self::Initiation => None,
            // A response carries its sender's index first.
            Self::Response => Some(offset_of!(Response, receiver)),
            Self::Cookie => Some(offset_of!(CookieReply, receiver)),
            Self::Data => Some(offset_of!(DataHeader, receiver)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_four_types_with_zero_reserved_bytes_are_messages() {
        assert_eq!(
            MessageKind::of(u32::from_le_bytes([1, 0, 0, 0])),
            Some(MessageKind::Initiation)
        );
        assert_eq!(
            MessageKind::of(u32::from_le_bytes([2, 0, 0, 0])),
            Some(MessageKind::Response)
        );
        assert_eq!(
            MessageKind::of(u32::from_le_bytes([3, 0, 0, 0])),
            Some(MessageKind::Cookie)
        );
        assert_eq!(
            MessageKind::of(u32::from_le_bytes([4, 0, 0, 0])),
            Some(MessageKind::Data)
        );
        for wrong in [
            [0, 0, 0, 0],
            [5, 0, 0, 0],
            [4, 1, 0, 0],
            [4, 0, 1, 0],
            [4, 0, 0, 1],
        ] {
            assert_eq!(MessageKind::of(u32::from_le_bytes(wrong)), None);
        }
    }

    #[test]
    fn handshake_messages_have_one_length() {
        for (kind, exact) in [
            (MessageKind::Initiation, 148),
            (MessageKind::Response, 92),
            (MessageKind::Cookie, 64),
        ] {
            assert_eq!(kind.fit(exact), Fit::One);
            assert_eq!(kind.fit(exact - 1), Fit::Wrong);
            assert_eq!(kind.fit(exact + 1), Fit::Wrong);
            assert_eq!(kind.fit(0), Fit::Wrong);
        }
    }

    #[test]
    fn a_handshake_message_may_have_a_keepalive_behind_it() {
        assert_eq!(MessageKind::Response.fit(92 + 31), Fit::Wrong);
        assert_eq!(MessageKind::Response.fit(92 + 32), Fit::Several(92));
        assert_eq!(MessageKind::Initiation.fit(2 * 148), Fit::Several(148));
        assert_eq!(
            MessageKind::Cookie.fit(usize::from(u16::MAX)),
            Fit::Several(64)
        );
    }

    #[test]
    fn data_has_any_length_from_a_keepalive_up() {
        assert_eq!(MessageKind::Data.fit(31), Fit::Wrong);
        assert_eq!(MessageKind::Data.fit(32), Fit::One);
        // A full packet at MTU 1420: padded to the MTU, not to 16.
        assert_eq!(MessageKind::Data.fit(1452), Fit::One);
        assert_eq!(MessageKind::Data.fit(usize::from(u16::MAX)), Fit::One);
    }

    #[test]
    fn the_receiver_stands_behind_the_sender() {
        assert_eq!(MessageKind::Initiation.receiver_offset(), None);
        assert_eq!(MessageKind::Response.receiver_offset(), Some(8));
        assert_eq!(MessageKind::Cookie.receiver_offset(), Some(4));
        assert_eq!(MessageKind::Data.receiver_offset(), Some(4));
    }
}
