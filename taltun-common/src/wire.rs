//! The outside of WireGuard's messages: what can be told without a key.
//!
//! A message starts with its type, a byte, and three reserved bytes that are zero; read
//! as one little-endian word that is just the type. Handshake messages have one length
//! each. Data has at least that of an empty packet, and *any* length above: senders pad
//! to 16 bytes, but never past the MTU (a full packet at MTU 1420 makes 1452 bytes, which
//! isn't a multiple of 16), and some don't pad at all.

/// What user space appends to its own ICMP errors, behind what their IP header counts: the TC
/// program knows them by it, and the kernel takes it off.
pub const OWN_ERROR_TRAILER: [u8; 1] = [0];

/// The word a handshake initiation starts with.
pub const INITIATION: u32 = 1;
/// The word a handshake response starts with.
pub const RESPONSE: u32 = 2;
/// The word a cookie reply starts with.
pub const COOKIE: u32 = 3;
/// The word a data message starts with.
pub const DATA: u32 = 4;

/// Bytes of a handshake initiation.
pub const INITIATION_LEN: usize = 148;
/// Bytes of a handshake response.
pub const RESPONSE_LEN: usize = 92;
/// Bytes of a cookie reply.
pub const COOKIE_LEN: usize = 64;
/// Bytes of the shortest data message: 16 of header, 16 of tag, a keepalive.
pub const DATA_MIN_LEN: usize = 32;

/// Where an initiation's mac1 starts: it is made over the bytes before it.
pub const INITIATION_MAC1: usize = 116;
/// Where an initiation's mac2 starts, which is over the bytes before it, mac1 included. All
/// zero: there is none.
pub const INITIATION_MAC2: usize = 132;
/// Where a response's mac1 starts.
pub const RESPONSE_MAC1: usize = 60;

/// What a message claims to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum Kind {
    /// Handshake initiation.
    Initiation = INITIATION,
    /// Handshake response.
    Response = RESPONSE,
    /// Cookie reply.
    Cookie = COOKIE,
    /// Data, keepalives included.
    Data = DATA,
}

/// How a length suits a kind of message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fit {
    /// Just right for one message.
    One,
    /// Too long for one, but one followed by another is possible: where the kernel has
    /// merged datagrams into one packet. Holds the offset of the second message.
    Several(usize),
    /// No message of this kind has it, nor starts with one that has.
    Wrong,
}

impl Kind {
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

    /// How `length`, the bytes of a UDP payload, suits this kind.
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
            Self::Response => Some(8),
            Self::Cookie | Self::Data => Some(4),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_four_types_with_zero_reserved_bytes_are_messages() {
        assert_eq!(
            Kind::of(u32::from_le_bytes([1, 0, 0, 0])),
            Some(Kind::Initiation)
        );
        assert_eq!(
            Kind::of(u32::from_le_bytes([2, 0, 0, 0])),
            Some(Kind::Response)
        );
        assert_eq!(
            Kind::of(u32::from_le_bytes([3, 0, 0, 0])),
            Some(Kind::Cookie)
        );
        assert_eq!(Kind::of(u32::from_le_bytes([4, 0, 0, 0])), Some(Kind::Data));
        for wrong in [
            [0, 0, 0, 0],
            [5, 0, 0, 0],
            [4, 1, 0, 0],
            [4, 0, 1, 0],
            [4, 0, 0, 1],
        ] {
            assert_eq!(Kind::of(u32::from_le_bytes(wrong)), None);
        }
    }

    #[test]
    fn handshake_messages_have_one_length() {
        for (kind, exact) in [
            (Kind::Initiation, 148),
            (Kind::Response, 92),
            (Kind::Cookie, 64),
        ] {
            assert_eq!(kind.fit(exact), Fit::One);
            assert_eq!(kind.fit(exact - 1), Fit::Wrong);
            assert_eq!(kind.fit(exact + 1), Fit::Wrong);
            assert_eq!(kind.fit(0), Fit::Wrong);
        }
    }

    #[test]
    fn a_handshake_message_may_have_a_keepalive_behind_it() {
        assert_eq!(Kind::Response.fit(92 + 31), Fit::Wrong);
        assert_eq!(Kind::Response.fit(92 + 32), Fit::Several(92));
        assert_eq!(Kind::Initiation.fit(2 * 148), Fit::Several(148));
        assert_eq!(Kind::Cookie.fit(usize::from(u16::MAX)), Fit::Several(64));
    }

    #[test]
    fn data_has_any_length_from_a_keepalive_up() {
        assert_eq!(Kind::Data.fit(31), Fit::Wrong);
        assert_eq!(Kind::Data.fit(32), Fit::One);
        // A full packet at MTU 1420: padded to the MTU, not to 16.
        assert_eq!(Kind::Data.fit(1452), Fit::One);
        assert_eq!(Kind::Data.fit(usize::from(u16::MAX)), Fit::One);
    }

    #[test]
    fn the_receiver_stands_behind_the_sender() {
        assert_eq!(Kind::Initiation.receiver_offset(), None);
        assert_eq!(Kind::Response.receiver_offset(), Some(8));
        assert_eq!(Kind::Cookie.receiver_offset(), Some(4));
        assert_eq!(Kind::Data.receiver_offset(), Some(4));
    }
}
