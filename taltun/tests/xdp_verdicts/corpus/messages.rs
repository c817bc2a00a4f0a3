//! Each type of message, right and wrong, over either family.

use super::Expect::{self, Pass};
use super::{Case, MAC1, SHAPE, STRANGE_INDEX, UNKNOWN, with};
use crate::frames::{OUR_INDEX, V4, V6, handshake, message, udp};

/// Types and lengths, with our index where it belongs.
const LENGTHS: [(&str, u8, usize, Expect); 19] = [
    ("initiation_short_by_one", 1, 147, SHAPE),
    ("initiation_long_by_one", 1, 149, SHAPE),
    ("response_short_by_one", 2, 91, SHAPE),
    ("response_long_by_one", 2, 93, SHAPE),
    ("cookie", 3, 64, Pass),
    ("cookie_short_by_one", 3, 63, SHAPE),
    ("cookie_long_by_one", 3, 65, SHAPE),
    ("keepalive", 4, 32, Pass),
    ("keepalive_short_by_one", 4, 31, SHAPE),
    ("data", 4, 96, Pass),
    ("data_not_padded", 4, 33, Pass),
    ("data_full_at_mtu_1420", 4, 1452, Pass),
    ("type_0", 0, 148, SHAPE),
    ("type_5", 5, 148, SHAPE),
    ("type_255", 255, 148, SHAPE),
    ("empty_datagram", 4, 0, SHAPE),
    ("one_byte", 4, 1, SHAPE),
    ("three_bytes", 4, 3, SHAPE),
    ("four_bytes", 4, 4, SHAPE),
];

/// Types and lengths, with an index that is nobody's.
const STRANGE: [(&str, u8, usize); 4] = [
    ("response_unknown_index", 2, 92),
    ("cookie_unknown_index", 3, 64),
    ("keepalive_unknown_index", 4, 32),
    ("data_unknown_index", 4, 1452),
];

/// Handshake messages with one bit wrong, in each part that mac1 covers and in mac1 itself;
/// mac2 isn't looked at while there is no load.
const WRONG_BITS: [(&str, u8, usize, Expect); 16] = [
    ("initiation_sender", 1, 4, MAC1),
    ("initiation_last_of_first_block", 1, 63, MAC1),
    ("initiation_first_of_second_block", 1, 64, MAC1),
    ("initiation_last_covered", 1, 115, MAC1),
    ("initiation_mac1_first", 1, 116, MAC1),
    ("initiation_mac1_word_1", 1, 120, MAC1),
    ("initiation_mac1_word_2", 1, 124, MAC1),
    ("initiation_mac1_last", 1, 131, MAC1),
    ("initiation_mac2", 1, 147, Pass),
    ("response_sender", 2, 4, MAC1),
    ("response_last_covered", 2, 59, MAC1),
    ("response_mac1_first", 2, 60, MAC1),
    ("response_mac1_word_1", 2, 64, MAC1),
    ("response_mac1_word_2", 2, 68, MAC1),
    ("response_mac1_last", 2, 75, MAC1),
    ("response_mac2", 2, 91, Pass),
];

pub fn cases() -> Vec<Case> {
    let families = [("", V4), ("v6_", V6)];
    let cases = families.map(|(prefix, ends)| {
        let frames = frames();
        let case = |(name, message, expect): (&str, Vec<u8>, Expect)| {
            Case::new(format!("{prefix}{name}"), ends, udp(ends, &message), expect)
        };
        frames.into_iter().map(case).collect::<Vec<_>>()
    });
    cases.into_iter().flatten().collect()
}

fn frames() -> Vec<(&'static str, Vec<u8>, Expect)> {
    let data = || message(4, 96, OUR_INDEX);
    let elsewhere = with(message(2, 92, STRANGE_INDEX), 4, &OUR_INDEX.to_le_bytes());
    let mut frames = vec![
        ("initiation", handshake(1, 0), Pass),
        ("response", handshake(2, OUR_INDEX), Pass),
        ("reserved_byte_set", with(data(), 1, &[1]), SHAPE),
        ("last_reserved_byte_set", with(data(), 3, &[1]), SHAPE),
        // Our index, but where a response has its sender's.
        ("response_index_in_the_wrong_place", elsewhere, UNKNOWN),
    ];
    frames.extend(
        LENGTHS
            .map(|(name, kind, length, expect)| (name, message(kind, length, OUR_INDEX), expect)),
    );
    frames.extend(
        STRANGE.map(|(name, kind, length)| (name, message(kind, length, STRANGE_INDEX), UNKNOWN)),
    );
    frames.extend(WRONG_BITS.map(|(name, kind, at, expect)| {
        let mut message = handshake(kind, OUR_INDEX);
        message[at] ^= 0x80;
        (name, message, expect)
    }));
    frames
}
