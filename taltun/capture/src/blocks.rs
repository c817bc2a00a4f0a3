//! A stream of pcapng blocks, cut into blocks again: so that a file ends behind a whole one.

use std::error::Error;
use std::fmt;

/// What kind of block it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// What begins a file.
    Section,
    /// An interface.
    Interface,
    /// A packet.
    Packet,
    /// What was seen at an interface.
    Statistics,
    /// Anything else.
    Other,
}

/// The longest block: the longest packet with the longest comment fits.
const LONGEST: usize = 1 << 20;
/// The shortest: a type, and the length twice.
const SHORTEST: usize = 12;

/// It is no stream of pcapng blocks of this byte order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotBlocks;

impl fmt::Display for NotBlocks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("expected blocks of pcapng")
    }
}

impl Error for NotBlocks {}

/// The first block of `bytes`, whole; `None` while more bytes have to come first.
pub fn first(bytes: &[u8]) -> Result<Option<(Kind, &[u8])>, NotBlocks> {
    let number = |at: usize| {
        let bytes = bytes.get(at..)?.first_chunk()?;
        Some(u32::from_le_bytes(*bytes))
    };
    let (Some(kind), Some(length)) = (number(0), number(4)) else {
        return Ok(None);
    };
    let length = length as usize;
    if !(SHORTEST..=LONGEST).contains(&length) || !length.is_multiple_of(4) {
        return Err(NotBlocks);
    }
    let Some(block) = bytes.get(..length) else {
        return Ok(None);
    };
    if number(length.saturating_sub(4)) != number(4) {
        return Err(NotBlocks);
    }
    let kind = match kind {
        0x0a0d_0d0a => Kind::Section,
        1 => Kind::Interface,
        5 => Kind::Statistics,
        6 => Kind::Packet,
        _ => Kind::Other,
    };
    Ok(Some((kind, block)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pcapng::{self, Direction, Interface, Packet, Statistics};

    fn stream() -> Vec<u8> {
        let mut to = Vec::new();
        pcapng::section(&mut to, "taltun", "Linux");
        let interface = Interface {
            name: "wg0 inner",
            description: "",
            filter: None,
            snap_length: 0,
        };
        pcapng::interface(&mut to, &interface);
        let packet = Packet {
            interface: 0,
            time: 1,
            bytes: &[0x45; 21],
            length: 21,
            direction: Direction::Inbound,
            comment: Some("passed"),
        };
        pcapng::packet(&mut to, &packet);
        let statistics = Statistics {
            interface: 0,
            start: 1,
            end: 2,
            received: 1,
            dropped: 0,
            accepted: 1,
        };
        pcapng::statistics(&mut to, &statistics);
        to
    }

    #[test]
    fn blocks_are_found_again_however_the_stream_is_cut() {
        let stream = stream();
        let mut kinds = Vec::new();
        let mut begin = 0;
        for end in 0..=stream.len() {
            if let Some((kind, block)) = first(&stream[begin..end]).unwrap() {
                assert_eq!(begin + block.len(), end, "no later than it could be");
                begin = end;
                kinds.push(kind);
            }
        }
        assert_eq!(begin, stream.len());
        let all = [
            Kind::Section,
            Kind::Interface,
            Kind::Packet,
            Kind::Statistics,
        ];
        assert_eq!(kinds, all);
    }

    #[test]
    fn other_bytes_are_refused() {
        for bytes in [
            &b"\x06\0\0\0\x0b\0\0\0"[..],
            b"\x06\0\0\0\x0d\0\0\0",
            b"\x06\0\0\0\xff\xff\xff\xff",
            b"\x06\0\0\0\x0c\0\0\0\x10\0\0\0",
            b"{\"error\":\"no\"}",
        ] {
            assert_eq!(first(bytes), Err(NotBlocks), "{bytes:?}");
        }
    }
}
