//! The frames of the UDP gateway: whatever a client sends, decoding ends with messages or with a
//! reason, in bounded memory, and the same however the bytes come in pieces.
//!
//! The input's first four bytes choose the largest datagram and where the rest is cut.

use taltun_udpgw::codec::{self, DNS, Decoder, IPV6, MAX_FRAME, MAX_HEADER, Malformed, Message};

use crate::allocations;

/// A message that outlives the bytes that it was in.
#[derive(Debug, PartialEq)]
enum Seen {
    Keepalive(u16),
    Unknown(u8),
    Datagram(u16, std::net::SocketAddr, bool, bool, Vec<u8>),
}

impl From<Message<'_>> for Seen {
    fn from(message: Message<'_>) -> Self {
        match message {
            Message::Keepalive { id } => Self::Keepalive(id),
            Message::Unknown { flags } => Self::Unknown(flags),
            Message::Datagram(it) => {
                Self::Datagram(it.id, it.address, it.rebind, it.dns, it.payload.to_vec())
            }
        }
    }
}

/// All messages of bytes that come in `pieces`, and why there are no more.
fn decode<'a>(
    mtu: usize,
    pieces: impl Iterator<Item = &'a [u8]>,
) -> (Vec<Seen>, Option<Malformed>) {
    let mut decoder = Decoder::new(mtu);
    let mut seen = Vec::new();
    for mut piece in pieces {
        loop {
            allocations::largest();
            let next = decoder.next(&mut piece);
            let largest = allocations::largest();
            // One frame at the most, or what came in one piece.
            assert!(largest <= MAX_FRAME, "{largest} bytes at once");
            match next {
                Ok(Some(message)) => seen.push(message.into()),
                Ok(None) => break,
                Err(malformed) => return (seen, Some(malformed)),
            }
        }
        assert!(piece.is_empty(), "bytes are left, and no message");
    }
    (seen, None)
}

pub(crate) fn run(input: &[u8]) {
    let [low, high, first, second, bytes @ ..] = input else {
        return;
    };
    let mtu = usize::from(u16::from_le_bytes([*low, *high])).max(1);
    // The worker reads so much at once.
    let whole = decode(mtu, bytes.chunks(64 << 10));

    // Cut anywhere, it is the same.
    let (one, rest) = bytes.split_at(usize::from(*first).min(bytes.len()));
    let (two, three) = rest.split_at(usize::from(*second).min(rest.len()));
    let cut = decode(mtu, [one, two].into_iter().chain(three.chunks(64 << 10)));
    assert_eq!(whole, cut);
    let step = usize::from(*first % 7) + 1;
    assert_eq!(whole, decode(mtu, bytes.chunks(step)));

    // What was understood can be written again, and is the same then.
    let mut frames = Vec::new();
    let mut expected = Vec::new();
    for message in whole.0 {
        if let Seen::Datagram(id, address, _, _, payload) = message {
            assert!(payload.len() <= mtu + MAX_HEADER);
            let before = frames.len();
            assert!(codec::encode(&mut frames, id, address, &payload));
            let length = codec::frame_length(address, payload.len());
            assert_eq!(length, Some(frames.len() - before));
            let flags = frames[before + 2];
            assert_eq!(flags & !IPV6, 0);
            assert_eq!(flags & DNS, 0);
            expected.push(Seen::Datagram(id, address, false, false, payload));
        }
    }
    let again = decode(usize::from(u16::MAX), frames.chunks(64 << 10));
    assert_eq!(again, (expected, None));
}
