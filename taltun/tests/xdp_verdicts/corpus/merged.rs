//! What may be several datagrams in one, where that can be: in generic mode.

use super::Expect::{self, Pass};
use super::{Case, LIMITED, MAC1, SHAPE, STRANGE_INDEX, UNKNOWN};
use crate::frames::{Ends, OUR_INDEX, V4, V6, handshake, message, udp, unfinished};

/// Name, ends, the messages in one frame, and what driver mode and generic mode make of it.
type Row<'a> = (&'static str, Ends, &'a [&'a [u8]], Expect, Expect);

pub fn cases() -> Vec<Case> {
    let mut cases = messages();
    cases.extend(initiations());
    // Only an unfinished checksum speaks for merging.
    let two = [handshake(1, 0), handshake(1, 0)].concat();
    cases.push(Case::new(
        "two_initiations_checksummed",
        V4,
        udp(V4, &two),
        SHAPE,
    ));
    cases
}

fn messages() -> Vec<Case> {
    let (first, reply) = (&*handshake(1, 0), &*handshake(2, OUR_INDEX));
    let (alive, data) = (&*message(4, 32, OUR_INDEX), &*message(4, 96, OUR_INDEX));
    let lost = |length| message(4, length, STRANGE_INDEX);
    let (lost_short, lost_long, lost_tiny) = (&*lost(512), &*lost(1452), &*lost(63));
    // As large as a run of the program can hold: a page, less what is kept before and behind a
    // frame.
    let (large, lost_large) = (&*message(4, 3000, OUR_INDEX), &*lost(3000));
    let (junk, stub): (&[u8], &[u8]) = (&[0x55; 40], &[4, 0, 0, 0]);
    let garbage = &*message(9, 512, 0);
    table(&[
        ("two_initiations", V4, &[first, first], SHAPE, Pass),
        ("response_and_keepalive", V4, &[reply, alive], SHAPE, Pass),
        (
            "v6_response_and_keepalive",
            V6,
            &[reply, alive],
            SHAPE,
            Pass,
        ),
        ("initiation_and_garbage", V4, &[first, junk], SHAPE, SHAPE),
        ("initiation_and_a_stub", V4, &[first, stub], SHAPE, SHAPE),
        // A lost session's data may have the handshake behind it that makes a new one.
        (
            "lost_data_and_initiation",
            V4,
            &[lost_long, first],
            UNKNOWN,
            Pass,
        ),
        (
            "v6_lost_data_and_initiation",
            V6,
            &[lost_short, first],
            UNKNOWN,
            Pass,
        ),
        // Too short to be two.
        ("lost_keepalive", V4, &[lost_tiny], UNKNOWN, UNKNOWN),
        ("super_packet", V4, &[large], Pass, Pass),
        (
            "super_packet_unknown_index",
            V4,
            &[lost_large],
            UNKNOWN,
            Pass,
        ),
        ("v6_super_packet", V6, &[large], Pass, Pass),
        // No peer sends this, merged or not.
        ("unfinished_garbage", V4, &[garbage], SHAPE, SHAPE),
        ("unfinished_data", V4, &[data], Pass, Pass),
    ])
}

/// They fall if all are bad; more than four are a flood in any case.
fn initiations() -> Vec<Case> {
    let (good, bad) = (&*handshake(1, 0), &*message(1, 148, 0));
    let data = &*message(4, 96, OUR_INDEX);
    table(&[
        ("two_bad_initiations", V4, &[bad; 2], SHAPE, MAC1),
        ("v6_two_bad_initiations", V6, &[bad; 2], SHAPE, MAC1),
        ("four_bad_initiations", V4, &[bad; 4], SHAPE, MAC1),
        (
            "the_fourth_initiation_is_good",
            V4,
            &[bad, bad, bad, good],
            SHAPE,
            Pass,
        ),
        ("five_bad_initiations", V4, &[bad; 5], SHAPE, LIMITED),
        ("bad_initiation_and_data", V4, &[bad, data], SHAPE, Pass),
    ])
}

fn table(rows: &[Row<'_>]) -> Vec<Case> {
    let case = |&(name, ends, parts, single, merged): &Row<'_>| Case {
        name: name.into(),
        frame: unfinished(ends, &parts.concat()),
        source: ends.source,
        single,
        merged,
    };
    rows.iter().map(case).collect()
}
