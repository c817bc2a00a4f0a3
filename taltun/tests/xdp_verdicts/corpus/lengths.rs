//! Lengths: those that are as they may be, and those that lie.

use super::Expect::Pass;
use super::{Case, SHAPE, cut, padded, with};
use crate::frames::{Ends, IP, OUR_INDEX, UDP_V4, UDP_V6, V4, V6, handshake, message, udp};

/// Bytes of payload, which a header then contradicts.
const PAYLOAD: usize = 64;
/// What UDP's header says of these.
const TRUE: u16 = PAYLOAD as u16 + 8;

/// A length field that lies. That is the kernel's business, even where a datagram looks bad.
const LIES: [(&str, Ends, usize, u16); 5] = [
    ("lie_udp_longer_than_ip", V4, UDP_V4 + 4, TRUE + 1),
    ("lie_udp_shorter_than_ip", V4, UDP_V4 + 4, TRUE - 1),
    ("lie_udp_shorter_than_its_header", V4, UDP_V4 + 4, 7),
    ("lie_v6_udp_longer_than_ip", V6, UDP_V6 + 4, TRUE + 1),
    // As a jumbogram says it, with its length in an option that isn't there.
    ("lie_v6_length_zero", V6, IP + 4, 0),
];

/// A frame that is shorter than both headers say.
const CUT: [(&str, Ends, usize); 2] = [
    ("lie_frame_shorter_than_both", V4, UDP_V4 + 8 + PAYLOAD - 1),
    ("lie_v6_frame_shorter_than_both", V6, UDP_V6 + 8),
];

pub fn cases() -> Vec<Case> {
    let bad = |ends| udp(ends, &message(9, PAYLOAD, 0));
    let keepalive = message(4, 32, OUR_INDEX);
    // Ethernet's own padding isn't part of the datagram.
    let pads = [
        ("padded_short_frame", message(9, 1, 0), SHAPE),
        ("padded_keepalive", keepalive, Pass),
        ("trailing_bytes", handshake(1, 0), Pass),
    ];
    let pads =
        pads.map(|(name, payload, expect)| Case::new(name, V4, padded(udp(V4, &payload)), expect));
    let lies = LIES.map(|(name, ends, at, says)| {
        Case::new(name, ends, with(bad(ends), at, &says.to_be_bytes()), Pass)
    });
    let cuts = CUT.map(|(name, ends, length)| Case::new(name, ends, cut(bad(ends), length), Pass));
    pads.into_iter().chain(lies).chain(cuts).collect()
}
