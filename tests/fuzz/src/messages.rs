//! WireGuard's messages: whatever comes in a datagram is one of them or isn't, as sections 5.4.2 to
//! 5.4.7 of the paper draw them, and a message has its MACs where the whole of it says.

use taltun_protocol::messages::{DATA_HEADER_LEN, Message, padded_len, split_macs};

/// The type of a datagram by the paper's pictures, if it is a message.
fn kind(datagram: &[u8]) -> Option<u8> {
    let [kind, 0, 0, 0, ..] = datagram else {
        return None;
    };
    let fits = match kind {
        1 => datagram.len() == 148,
        2 => datagram.len() == 92,
        3 => datagram.len() == 64,
        4 => datagram.len() >= 32,
        _ => false,
    };
    fits.then_some(*kind)
}

pub(crate) fn run(datagram: &[u8]) {
    let parsed = Message::parse(datagram);
    let found = parsed.ok().map(|message| match message {
        Message::Initiation(..) => 1,
        Message::Response(..) => 2,
        Message::CookieReply(..) => 3,
        Message::Data { receiver, counter } => {
            assert_eq!(receiver.to_le_bytes(), datagram[4..8]);
            assert_eq!(counter.to_le_bytes(), datagram[8..DATA_HEADER_LEN]);
            4
        }
    });
    assert_eq!(found, kind(datagram));
    if let Some((covered, mac1, mac2)) = split_macs(datagram) {
        let parts = [covered, mac1.as_slice(), mac2.as_slice()].concat();
        assert_eq!(parts, datagram);
    }
    padding(datagram);
}

/// A packet's padded length, by counting.
fn padding(input: &[u8]) {
    let [a, b, c, d, ..] = *input else { return };
    let len = usize::from(u16::from_be_bytes([a, b]));
    let mtu = usize::from(u16::from_be_bytes([c, d]));
    let padded = padded_len(len, mtu);
    assert!(padded >= len && padded - len < 16, "{len} to {padded}");
    if (1..=mtu).contains(&len) {
        assert!(padded <= mtu && (padded.is_multiple_of(16) || padded == mtu));
    }
}
