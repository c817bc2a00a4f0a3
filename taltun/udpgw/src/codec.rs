//! The frames of BadVPN's UDP gateway, as bytes: no I/O, no clock.
//!
//! A frame is a length (16 bits, little-endian) and a message of so many bytes:
//!
//! ```text
//! flags     1 byte    1 keepalive, 2 rebind, 4 DNS, 8 IPv6
//! id        2 bytes   little-endian: which of the client's connections
//! address   4 bytes, or 16 with the flag IPv6
//! port      2 bytes   big-endian
//! datagram  the rest
//! ```
//!
//! A keepalive ends after the id. The server answers with the same header: the address that
//! the client named, and no flag but IPv6.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// Flag: the message only says that the client is there.
pub const KEEPALIVE: u8 = 1;
/// Flag: the connection starts anew, with another socket.
pub const REBIND: u8 = 2;
/// Flag: the datagram is for a name server, whichever the server asks.
pub const DNS: u8 = 4;
/// Flag: the address is IPv6.
pub const IPV6: u8 = 8;

const LENGTH: usize = 2;
const FLAGS_AND_ID: usize = 3;
const PORT: usize = 2;
/// The longest that comes before a datagram, without the length.
pub const MAX_HEADER: usize = FLAGS_AND_ID + 16 + PORT;
/// The longest frame, with its length.
pub const MAX_FRAME: usize = LENGTH + u16::MAX as usize;

/// What a client says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Message<'a> {
    /// It is there.
    Keepalive {
        /// The connection that it names, which means nothing.
        id: u16,
    },
    /// A datagram to send.
    Datagram(Datagram<'a>),
    /// Something with flags that the protocol doesn't have.
    Unknown {
        /// All of its flags.
        flags: u8,
    },
}

/// A datagram, with where it goes to or comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Datagram<'a> {
    /// Which of the client's connections it belongs to.
    pub id: u16,
    /// The other end of the connection.
    pub address: SocketAddr,
    /// Whether the connection gets a new socket first.
    pub rebind: bool,
    /// Whether it is for a name server instead of for `address`.
    pub dns: bool,
    /// What it carries.
    pub payload: &'a [u8],
}

/// Why a client's bytes are no frames. Nothing after them can be understood.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// It announces more than a message can be.
    #[error("a length of {0} bytes, which is more than a message can be")]
    TooLong(usize),
    /// It announces less than its header.
    #[error("a length of {0} bytes, which is less than a header")]
    TooShort(usize),
}

/// Finds the messages in what a client sends, however it is cut into pieces.
///
/// It keeps only a message that isn't complete yet, so it has no memory between messages and
/// at most [`MAX_FRAME`] bytes within one.
#[derive(Debug)]
pub struct Decoder {
    /// The beginning of a frame; a whole one between two calls of [`Decoder::next`].
    partial: Vec<u8>,
    whole: bool,
    /// The longest message.
    limit: usize,
}

impl Decoder {
    /// For datagrams of at most `mtu` bytes.
    pub fn new(mtu: usize) -> Self {
        Self {
            partial: Vec::new(),
            whole: false,
            limit: mtu.saturating_add(MAX_HEADER).min(u16::MAX.into()),
        }
    }

    /// The next message of `input`, whose beginning it takes; none if more bytes are needed,
    /// and `input` is empty then.
    pub fn next<'a, 'b: 'a>(
        &'a mut self,
        input: &mut &'b [u8],
    ) -> Result<Option<Message<'a>>, Malformed> {
        self.forget();
        if self.partial.is_empty() {
            let wanted = self.frame_length(input)?;
            if let Some((frame, rest)) = wanted.and_then(|length| input.split_at_checked(length)) {
                *input = rest;
                return parse(&frame[LENGTH..]).map(Some);
            }
            self.partial = input.to_vec();
            *input = &[];
            return Ok(None);
        }
        if self.partial.len() < LENGTH {
            self.take(LENGTH, input);
        }
        if let Some(length) = self.frame_length(&self.partial)? {
            self.take(length, input);
            if self.partial.len() == length {
                self.whole = true;
                return parse(&self.partial[LENGTH..]).map(Some);
            }
        }
        Ok(None)
    }

    /// Lets go of the memory of the last message.
    pub fn forget(&mut self) {
        if self.whole {
            self.partial = Vec::new();
            self.whole = false;
        }
    }

    /// The length of the frame that begins with `bytes`, its length included, if they tell.
    fn frame_length(&self, bytes: &[u8]) -> Result<Option<usize>, Malformed> {
        let &[low, high, ..] = bytes else {
            return Ok(None);
        };
        let length = usize::from(u16::from_le_bytes([low, high]));
        if length > self.limit {
            return Err(Malformed::TooLong(length));
        }
        if length < FLAGS_AND_ID {
            return Err(Malformed::TooShort(length));
        }
        Ok(Some(LENGTH + length))
    }

    /// Moves bytes from `input` until there are `wanted`, if it has so many.
    fn take(&mut self, wanted: usize, input: &mut &[u8]) {
        let missing = wanted.saturating_sub(self.partial.len()).min(input.len());
        let (taken, rest) = input.split_at(missing);
        if self.partial.capacity() - self.partial.len() < missing {
            // By doubling, and never beyond the frame.
            let more = missing.max(self.partial.len());
            let most = wanted - self.partial.len();
            self.partial.reserve_exact(more.min(most));
        }
        self.partial.extend_from_slice(taken);
        *input = rest;
    }
}

/// Reads a message of which the length is known.
fn parse(message: &[u8]) -> Result<Message<'_>, Malformed> {
    const KNOWN: u8 = KEEPALIVE | REBIND | DNS | IPV6;
    let too_short = Malformed::TooShort(message.len());
    let &[flags, low, high, ref rest @ ..] = message else {
        return Err(too_short);
    };
    let id = u16::from_le_bytes([low, high]);
    if flags & !KNOWN != 0 {
        return Ok(Message::Unknown { flags });
    }
    if flags & KEEPALIVE != 0 {
        return Ok(Message::Keepalive { id });
    }
    let (address, rest) = if flags & IPV6 == 0 {
        let (octets, rest) = rest.split_first_chunk::<4>().ok_or(too_short)?;
        (IpAddr::from(Ipv4Addr::from(*octets)), rest)
    } else {
        let (octets, rest) = rest.split_first_chunk::<16>().ok_or(too_short)?;
        (IpAddr::from(Ipv6Addr::from(*octets)), rest)
    };
    let (port, payload) = rest.split_first_chunk::<PORT>().ok_or(too_short)?;
    Ok(Message::Datagram(Datagram {
        id,
        address: SocketAddr::new(address, u16::from_be_bytes(*port)),
        rebind: flags & REBIND != 0,
        dns: flags & DNS != 0,
        payload,
    }))
}

/// How long the frame of a datagram from `address` is; none if a frame can't hold it.
pub fn frame_length(address: SocketAddr, payload: usize) -> Option<usize> {
    let header = if address.is_ipv4() { 9 } else { MAX_HEADER };
    let length = header + payload;
    u16::try_from(length).is_ok().then_some(LENGTH + length)
}

/// Appends the frame of a datagram that came for connection `id`, whose other end the client
/// calls `address`. Whether it fits a frame; nothing is appended if it doesn't.
pub fn encode(frames: &mut Vec<u8>, id: u16, address: SocketAddr, payload: &[u8]) -> bool {
    let Some(length) = frame_length(address, payload.len()) else {
        return false;
    };
    let length = (length - LENGTH) as u16;
    frames.extend_from_slice(&length.to_le_bytes());
    match address.ip() {
        IpAddr::V4(ip) => {
            frames.push(0);
            frames.extend_from_slice(&id.to_le_bytes());
            frames.extend_from_slice(&ip.octets());
        }
        IpAddr::V6(ip) => {
            frames.push(IPV6);
            frames.extend_from_slice(&id.to_le_bytes());
            frames.extend_from_slice(&ip.octets());
        }
    }
    frames.extend_from_slice(&address.port().to_be_bytes());
    frames.extend_from_slice(payload);
    true
}

#[cfg(test)]
mod tests;
