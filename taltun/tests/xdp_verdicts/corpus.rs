//! Named frames, and what each program must do with them: the verdict, the source's
//! counters and the counter of the reason.

use std::net::IpAddr;
use std::thread::sleep;
use std::time::Duration;

use aya::Ebpf;
use libtest_mimic::Failed;

use taltun_common::bucket::Rate;
use taltun_common::drops::DropReason;
use taltun_common::maps::{MAX_BUCKETS, Settings, SourceCounters, family};

use crate::frames::{
    Ends, IP, OUR_INDEX, PORT, UDP_V4, UDP_V6, V4, V6, handshake, key, message, udp, unfinished,
};
use crate::programs::{
    self, BURST, PROGRAMS, XDP_DROP, XDP_PASS, counters, deny, loaded, verdict,
    with_fresh_counters, write_settings,
};
use crate::{NamedTest, Test};

const STRANGE_INDEX: u32 = 0x0bad_0bad;

/// What must happen to a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Expect {
    /// Passes, and nothing is counted.
    Untouched,
    /// Passes, and its source is counted.
    Pass,
    /// Is dropped and counted.
    Drop(DropReason),
}
use Expect::{Drop, Pass, Untouched};

struct Case {
    name: String,
    frame: Vec<u8>,
    source: IpAddr,
    /// In driver mode.
    single: Expect,
    /// In generic mode, where datagrams may be merged.
    merged: Expect,
}

const SHAPE: Expect = Drop(DropReason::Shape);
const UNKNOWN: Expect = Drop(DropReason::UnknownIndex);
const DENIED: Expect = Drop(DropReason::Denied);
const MAC1: Expect = Drop(DropReason::Mac1);

/// All frames.
pub fn frames() -> Vec<Vec<u8>> {
    corpus().map(|case| case.frame).collect()
}

fn corpus() -> impl Iterator<Item = Case> {
    plain()
        .into_iter()
        .chain(messages())
        .chain(mac1())
        .chain(lengths())
        .chain(merged())
        .chain(merged_initiations())
        .chain(sources())
}

pub fn tests() -> impl Iterator<Item = Test> {
    let cases = corpus().flat_map(|case| {
        let expects = [case.single, case.merged];
        PROGRAMS
            .into_iter()
            .zip(expects)
            .map(move |(program, expect)| {
                let (frame, source) = (case.frame.clone(), case.source);
                let test = move || check(program, &frame, source, expect);
                let test: Test = (format!("{program}::{}", case.name), Box::new(test));
                test
            })
            .collect::<Vec<_>>()
    });
    let others: [NamedTest; 9] = [
        ("switches::before_settings_all_passes", before_settings),
        ("switches::without_index_check", without_index_check),
        ("switches::without_mac1_check", without_mac1_check),
        ("switches::denying_v6_leaves_v4", denying_v6_leaves_v4),
        ("buckets::a_burst_and_no_more", a_burst_and_no_more),
        ("buckets::tokens_come_back", tokens_come_back),
        (
            "buckets::a_v6_network_is_one_source",
            a_v6_network_is_one_source,
        ),
        (
            "buckets::bad_initiations_take_nothing",
            bad_initiations_take_nothing,
        ),
        ("buckets::the_oldest_makes_room", the_oldest_makes_room),
    ];
    let others = others
        .into_iter()
        .map(|(name, test)| -> Test { (name.into(), Box::new(test)) });
    cases.chain(others)
}

/// A frame that isn't looked into.
fn untouched(name: &str, ends: Ends, frame: Vec<u8>) -> Case {
    Case {
        name: name.into(),
        frame,
        source: ends.source,
        single: Untouched,
        merged: Untouched,
    }
}

/// What isn't a plain datagram to our port.
fn plain() -> Vec<Case> {
    // Would be dropped if it were looked into: each case shows that it isn't.
    let bad = message(9, 64, 0);
    let v4 = || udp(V4, &bad);
    let v6 = || udp(V6, &bad);
    let tagged = |mut frame: Vec<u8>, tags: &[u8]| {
        frame.splice(12..12, tags.iter().copied());
        frame
    };
    let extended = |next_header: u8, header: &[u8]| {
        let mut frame = with(v6(), IP + 6, &[next_header]);
        frame.splice(UDP_V6..UDP_V6, header.iter().copied());
        frame
    };
    vec![
        untouched("runt_ethernet_only", V4, cut(v4(), IP)),
        untouched("runt_in_ip_header", V4, cut(v4(), IP + 19)),
        untouched("runt_in_udp_header", V4, cut(v4(), UDP_V4 + 7)),
        untouched("runt_in_v6_header", V6, cut(v6(), IP + 39)),
        untouched("runt_in_v6_udp_header", V6, cut(v6(), UDP_V6 + 7)),
        untouched("vlan", V4, tagged(v4(), &[0x81, 0x00, 0x00, 0x05])),
        untouched("vlan_v6", V6, tagged(v6(), &[0x81, 0x00, 0x00, 0x05])),
        untouched(
            "qinq",
            V4,
            tagged(v4(), &[0x88, 0xa8, 0x00, 0x07, 0x81, 0x00, 0x00, 0x05]),
        ),
        untouched(
            "qinq_old",
            V4,
            tagged(v4(), &[0x91, 0x00, 0x00, 0x07, 0x81, 0x00, 0x00, 0x05]),
        ),
        untouched("arp", V4, with(v4(), 12, &[0x08, 0x06])),
        untouched("ipv4_options", V4, {
            let mut frame = with(v4(), IP, &[0x46]);
            frame.splice(UDP_V4..UDP_V4, [1, 1, 1, 1]);
            frame
        }),
        untouched("ipv4_ihl_0", V4, with(v4(), IP, &[0x40])),
        untouched("ipv4_ihl_4", V4, with(v4(), IP, &[0x44])),
        untouched("ipv4_ihl_15", V4, with(v4(), IP, &[0x4f])),
        untouched("ipv4_version_6", V4, with(v4(), IP, &[0x65])),
        untouched("ipv4_first_fragment", V4, with(v4(), IP + 6, &[0x20, 0])),
        untouched("ipv4_later_fragment", V4, with(v4(), IP + 6, &[0x20, 185])),
        untouched("ipv4_last_fragment", V4, with(v4(), IP + 6, &[0, 185])),
        untouched(
            "ipv4_total_length_below_header",
            V4,
            with(v4(), IP + 2, &[0, 19]),
        ),
        untouched("ipv6_version_4", V6, with(v6(), IP, &[0x45])),
        untouched(
            "ipv6_hop_by_hop",
            V6,
            extended(0, &[17, 0, 1, 4, 0, 0, 0, 0]),
        ),
        untouched("ipv6_routing", V6, extended(43, &[17, 0, 4, 0, 0, 0, 0, 0])),
        untouched(
            "ipv6_destination_options",
            V6,
            extended(60, &[17, 0, 1, 4, 0, 0, 0, 0]),
        ),
        untouched(
            "ipv6_first_fragment",
            V6,
            extended(44, &[17, 0, 0, 1, 0, 0, 0, 1]),
        ),
        untouched(
            "ipv6_later_fragment",
            V6,
            extended(44, &[17, 0, 0x05, 0xa9, 0, 0, 0, 1]),
        ),
        untouched(
            "ipv6_whole_fragment",
            V6,
            extended(44, &[17, 0, 0, 0, 0, 0, 0, 1]),
        ),
        untouched("ipv6_no_next_header", V6, with(v6(), IP + 6, &[59])),
        untouched("tcp", V4, with(v4(), IP + 9, &[6])),
        untouched("tcp_v6", V6, with(v6(), IP + 6, &[6])),
        untouched("icmp", V4, with(v4(), IP + 9, &[1])),
        untouched(
            "other_port",
            V4,
            with(v4(), UDP_V4 + 2, &(PORT + 1).to_be_bytes()),
        ),
        untouched("from_our_port_only", V4, {
            let frame = with(v4(), UDP_V4, &PORT.to_be_bytes());
            with(frame, UDP_V4 + 2, &53u16.to_be_bytes())
        }),
        untouched(
            "forwarded_to_somebody_else",
            V4,
            with(v4(), IP + 16, &[203, 0, 113, 50]),
        ),
    ]
}

/// Each type of message, right and wrong.
fn messages() -> Vec<Case> {
    let case = |name: &str, ends: Ends, frame, expect| Case {
        name: name.into(),
        frame,
        source: ends.source,
        single: expect,
        merged: expect,
    };
    let v4 = |name, kind, length, expect| {
        case(name, V4, udp(V4, &message(kind, length, OUR_INDEX)), expect)
    };
    let v6 = |name, kind, length, expect| {
        case(name, V6, udp(V6, &message(kind, length, OUR_INDEX)), expect)
    };
    let strange = |name, kind, length| {
        case(
            name,
            V4,
            udp(V4, &message(kind, length, STRANGE_INDEX)),
            UNKNOWN,
        )
    };
    let data = || message(4, 96, OUR_INDEX);
    vec![
        case("initiation", V4, udp(V4, &handshake(1, 0)), Pass),
        case("response", V4, udp(V4, &handshake(2, OUR_INDEX)), Pass),
        case("v6_initiation", V6, udp(V6, &handshake(1, 0)), Pass),
        case("v6_response", V6, udp(V6, &handshake(2, OUR_INDEX)), Pass),
        v4("initiation_short_by_one", 1, 147, SHAPE),
        v4("initiation_long_by_one", 1, 149, SHAPE),
        v4("response_short_by_one", 2, 91, SHAPE),
        v4("response_long_by_one", 2, 93, SHAPE),
        v4("cookie", 3, 64, Pass),
        v4("cookie_short_by_one", 3, 63, SHAPE),
        v4("cookie_long_by_one", 3, 65, SHAPE),
        v4("keepalive", 4, 32, Pass),
        v4("keepalive_short_by_one", 4, 31, SHAPE),
        v4("data_not_padded", 4, 33, Pass),
        v4("data_full_at_mtu_1420", 4, 1452, Pass),
        v4("type_0", 0, 148, SHAPE),
        v4("type_5", 5, 148, SHAPE),
        v4("empty_datagram", 4, 0, SHAPE),
        v4("one_byte", 4, 1, SHAPE),
        v4("three_bytes", 4, 3, SHAPE),
        v4("four_bytes", 4, 4, SHAPE),
        v6("v6_initiation_short_by_one", 1, 147, SHAPE),
        v6("v6_initiation_long_by_one", 1, 149, SHAPE),
        v6("v6_response_short_by_one", 2, 91, SHAPE),
        v6("v6_response_long_by_one", 2, 93, SHAPE),
        v6("v6_cookie", 3, 64, Pass),
        v6("v6_cookie_short_by_one", 3, 63, SHAPE),
        v6("v6_cookie_long_by_one", 3, 65, SHAPE),
        v6("v6_keepalive", 4, 32, Pass),
        v6("v6_keepalive_short_by_one", 4, 31, SHAPE),
        v6("v6_data", 4, 1452, Pass),
        case(
            "reserved_byte_set",
            V4,
            udp(V4, &with(data(), 1, &[1])),
            SHAPE,
        ),
        case(
            "last_reserved_byte_set",
            V4,
            udp(V4, &with(data(), 3, &[1])),
            SHAPE,
        ),
        strange("response_unknown_index", 2, 92),
        strange("cookie_unknown_index", 3, 64),
        strange("keepalive_unknown_index", 4, 32),
        strange("data_unknown_index", 4, 1452),
        // Our index, but where a response has its sender's.
        case(
            "response_index_in_the_wrong_place",
            V4,
            udp(
                V4,
                &with(message(2, 92, STRANGE_INDEX), 4, &OUR_INDEX.to_le_bytes()),
            ),
            UNKNOWN,
        ),
        case(
            "v6_data_unknown_index",
            V6,
            udp(V6, &message(4, 96, STRANGE_INDEX)),
            UNKNOWN,
        ),
    ]
}

/// Handshake messages with one bit wrong, in each part that mac1 covers and in mac1 itself.
fn mac1() -> Vec<Case> {
    let mut cases = Vec::new();
    let places: [(u8, &[(&'static str, usize)]); 2] = [
        (
            1,
            &[
                ("initiation_sender", 4),
                ("initiation_last_of_first_block", 63),
                ("initiation_first_of_second_block", 64),
                ("initiation_last_covered", 115),
                ("initiation_mac1_first", 116),
                ("initiation_mac1_word_1", 120),
                ("initiation_mac1_word_2", 124),
                ("initiation_mac1_last", 131),
            ],
        ),
        (
            2,
            &[
                ("response_sender", 4),
                ("response_last_covered", 59),
                ("response_mac1_first", 60),
                ("response_mac1_word_1", 64),
                ("response_mac1_word_2", 68),
                ("response_mac1_last", 75),
            ],
        ),
    ];
    for (kind, places) in places {
        for (name, at) in places {
            let mut message = handshake(kind, OUR_INDEX);
            message[*at] ^= 0x80;
            cases.push(Case {
                name: name.to_string(),
                frame: udp(V4, &message),
                source: V4.source,
                single: MAC1,
                merged: MAC1,
            });
            cases.push(Case {
                name: format!("v6_{name}"),
                frame: udp(V6, &message),
                source: V6.source,
                single: MAC1,
                merged: MAC1,
            });
        }
        // mac2 is user space's.
        let mut message = handshake(kind, OUR_INDEX);
        *message.last_mut().expect("it isn't empty") ^= 0x80;
        cases.push(Case {
            name: format!("type_{kind}_mac2"),
            frame: udp(V4, &message),
            source: V4.source,
            single: Pass,
            merged: Pass,
        });
    }
    cases
}

/// Lengths: those that are as they may be, and those that lie.
fn lengths() -> Vec<Case> {
    let case = |name: &str, ends: Ends, frame, expect| Case {
        name: name.into(),
        frame,
        source: ends.source,
        single: expect,
        merged: expect,
    };
    vec![
        // Ethernet's own padding isn't part of the datagram.
        case(
            "padded_short_frame",
            V4,
            padded(udp(V4, &message(9, 1, 0))),
            SHAPE,
        ),
        case(
            "padded_keepalive",
            V4,
            padded(udp(V4, &message(4, 32, OUR_INDEX))),
            Pass,
        ),
        case(
            "trailing_bytes",
            V4,
            padded(udp(V4, &handshake(1, 0))),
            Pass,
        ),
        // Lies are the kernel's business, even in a datagram that looks bad.
        case(
            "lie_udp_longer_than_ip",
            V4,
            with(
                udp(V4, &message(9, 64, 0)),
                UDP_V4 + 4,
                &73u16.to_be_bytes(),
            ),
            Pass,
        ),
        case(
            "lie_udp_shorter_than_ip",
            V4,
            with(
                udp(V4, &message(9, 64, 0)),
                UDP_V4 + 4,
                &71u16.to_be_bytes(),
            ),
            Pass,
        ),
        case(
            "lie_udp_shorter_than_its_header",
            V4,
            with(udp(V4, &message(9, 64, 0)), UDP_V4 + 4, &7u16.to_be_bytes()),
            Pass,
        ),
        case(
            "lie_frame_shorter_than_both",
            V4,
            cut(udp(V4, &message(9, 64, 0)), UDP_V4 + 8 + 63),
            Pass,
        ),
        case(
            "lie_v6_udp_longer_than_ip",
            V6,
            with(
                udp(V6, &message(9, 64, 0)),
                UDP_V6 + 4,
                &73u16.to_be_bytes(),
            ),
            Pass,
        ),
        // As a jumbogram says it, with its length in an option that isn't there.
        case(
            "lie_v6_length_zero",
            V6,
            with(udp(V6, &message(9, 64, 0)), IP + 4, &[0, 0]),
            Pass,
        ),
        case(
            "lie_v6_frame_shorter_than_both",
            V6,
            cut(udp(V6, &message(9, 64, 0)), UDP_V6 + 8),
            Pass,
        ),
    ]
}

/// What may be several datagrams in one, where that can be.
fn merged() -> Vec<Case> {
    let case = |name: &str, ends: Ends, payload: &[u8], merged| Case {
        name: name.into(),
        frame: unfinished(ends, payload),
        source: ends.source,
        single: SHAPE,
        merged,
    };
    let join = |parts: &[Vec<u8>]| parts.concat();
    let initiation = || handshake(1, 0);
    let response = || handshake(2, OUR_INDEX);
    let keepalive = || message(4, 32, OUR_INDEX);
    let lost = |length| message(4, length, STRANGE_INDEX);
    vec![
        case(
            "two_initiations",
            V4,
            &join(&[initiation(), initiation()]),
            Pass,
        ),
        case(
            "response_and_keepalive",
            V4,
            &join(&[response(), keepalive()]),
            Pass,
        ),
        case(
            "v6_response_and_keepalive",
            V6,
            &join(&[response(), keepalive()]),
            Pass,
        ),
        case(
            "initiation_and_garbage",
            V4,
            &join(&[initiation(), vec![0x55; 40]]),
            SHAPE,
        ),
        case(
            "initiation_and_a_stub",
            V4,
            &join(&[initiation(), vec![4, 0, 0, 0]]),
            SHAPE,
        ),
        // Only an unfinished checksum speaks for merging.
        Case {
            frame: udp(V4, &join(&[initiation(), initiation()])),
            ..case("two_initiations_checksummed", V4, &[], SHAPE)
        },
        // A lost session's data may have the handshake behind it that makes a new one.
        Case {
            single: UNKNOWN,
            ..case(
                "lost_data_and_initiation",
                V4,
                &join(&[lost(1452), initiation()]),
                Pass,
            )
        },
        Case {
            single: UNKNOWN,
            ..case(
                "v6_lost_data_and_initiation",
                V6,
                &join(&[lost(512), initiation()]),
                Pass,
            )
        },
        // Too short to be two.
        Case {
            single: UNKNOWN,
            ..case("lost_keepalive", V4, &lost(63), UNKNOWN)
        },
        // As large as a run of the program can hold: a page, less what is kept before and
        // behind a frame.
        Case {
            single: Pass,
            ..case("super_packet", V4, &message(4, 3000, OUR_INDEX), Pass)
        },
        Case {
            single: UNKNOWN,
            ..case("super_packet_unknown_index", V4, &lost(3000), Pass)
        },
        Case {
            single: Pass,
            ..case("v6_super_packet", V6, &message(4, 3000, OUR_INDEX), Pass)
        },
        // No peer sends this, merged or not.
        case("unfinished_garbage", V4, &message(9, 512, 0), SHAPE),
        Case {
            single: Pass,
            ..case("unfinished_data", V4, &message(4, 96, OUR_INDEX), Pass)
        },
    ]
}

/// Merged initiations: they fall if all are bad; more than four are a flood in any case.
fn merged_initiations() -> Vec<Case> {
    let case = |name: &str, ends: Ends, parts: &[Vec<u8>], merged| Case {
        name: name.into(),
        frame: unfinished(ends, &parts.concat()),
        source: ends.source,
        single: SHAPE,
        merged,
    };
    let good = || handshake(1, 0);
    let bad = || message(1, 148, 0);
    vec![
        case("two_bad_initiations", V4, &[bad(), bad()], MAC1),
        case("v6_two_bad_initiations", V6, &[bad(), bad()], MAC1),
        case(
            "four_bad_initiations",
            V4,
            &[bad(), bad(), bad(), bad()],
            MAC1,
        ),
        case(
            "the_fourth_initiation_is_good",
            V4,
            &[bad(), bad(), bad(), good()],
            Pass,
        ),
        case(
            "five_bad_initiations",
            V4,
            &[bad(), bad(), bad(), bad(), bad()],
            Drop(DropReason::RateLimited),
        ),
        case(
            "bad_initiation_and_data",
            V4,
            &[bad(), message(4, 96, OUR_INDEX)],
            Pass,
        ),
    ]
}

/// The deny list of `loaded`.
fn sources() -> Vec<Case> {
    let from = |name: &str, ends: Ends, source: &str, expect| {
        let source = source.parse().expect("an address");
        let ends = Ends { source, ..ends };
        Case {
            name: name.into(),
            frame: udp(ends, &handshake(1, 0)),
            source,
            single: expect,
            merged: expect,
        }
    };
    vec![
        from("denied_v4", V4, "203.0.113.77", DENIED),
        from("next_to_denied_v4", V4, "203.0.114.0", Pass),
        from("denied_v6", V6, "2001:db8:bad::1", DENIED),
        from("next_to_denied_v6", V6, "2001:db8:bae::1", Pass),
        // Denied before lengths and shape are looked at.
        Case {
            frame: {
                let source = "203.0.113.77".parse().expect("an address");
                let ends = Ends { source, ..V4 };
                with(
                    udp(ends, &message(9, 64, 0)),
                    UDP_V4 + 4,
                    &73u16.to_be_bytes(),
                )
            },
            ..from("denied_liar", V4, "203.0.113.77", DENIED)
        },
        // Denied on our port alone.
        Case {
            frame: {
                let source = "203.0.113.77".parse().expect("an address");
                let ends = Ends { source, ..V4 };
                with(
                    udp(ends, &message(1, 148, 0)),
                    UDP_V4 + 2,
                    &53u16.to_be_bytes(),
                )
            },
            ..from("denied_to_another_port", V4, "203.0.113.77", Untouched)
        },
    ]
}

fn before_settings() -> Result<(), Failed> {
    let ebpf = &mut Ebpf::load(taltun::accel::OBJECT)?;
    run(
        ebpf,
        PROGRAMS[0],
        &udp(V4, &message(9, 64, 0)),
        V4.source,
        Untouched,
    )
}

fn without_index_check() -> Result<(), Failed> {
    let ebpf = &mut loaded()?;
    let settings = Settings {
        check_indices: 0,
        ..programs::settings(ebpf)?
    };
    write_settings(ebpf, settings)?;
    let messages = [
        handshake(2, STRANGE_INDEX),
        message(3, 64, STRANGE_INDEX),
        message(4, 96, STRANGE_INDEX),
    ];
    for message in messages {
        let kind = message[0];
        let frame = udp(V4, &message);
        if verdict(ebpf, PROGRAMS[0], &frame)? != XDP_PASS {
            return Err(format!("type {kind} was dropped").into());
        }
    }
    // The shape still counts.
    if verdict(ebpf, PROGRAMS[0], &udp(V4, &message(2, 91, 0)))? != XDP_DROP {
        return Err("a bad shape passed".into());
    }
    Ok(())
}

fn without_mac1_check() -> Result<(), Failed> {
    let ebpf = &mut loaded()?;
    let settings = Settings {
        check_mac1: 0,
        ..programs::settings(ebpf)?
    };
    write_settings(ebpf, settings)?;
    // The limit stays.
    for _ in 0..BURST {
        assert_eq!(initiation(ebpf, V4, &message(1, 148, 0))?, XDP_PASS);
    }
    assert_eq!(initiation(ebpf, V4, &message(1, 148, 0))?, XDP_DROP);
    Ok(())
}

fn a_burst_and_no_more() -> Result<(), Failed> {
    for ends in [V4, V6] {
        let ebpf = &mut loaded()?;
        let good = handshake(1, 0);
        for _ in 0..BURST {
            assert_eq!(initiation(ebpf, ends, &good)?, XDP_PASS);
        }
        assert_eq!(initiation(ebpf, ends, &good)?, XDP_DROP);
        assert_eq!(programs::dropped(ebpf, DropReason::RateLimited)?, 1);
        let counted = counters(ebpf, "SOURCES")?;
        assert_eq!((counted[0].1.packets, counted[0].1.drops), (6, 1));
        // Somebody else isn't concerned, nor is what isn't an initiation.
        let neighbour = Ends {
            source: "198.51.100.8".parse()?,
            ..V4
        };
        assert_eq!(initiation(ebpf, neighbour, &good)?, XDP_PASS);
        let data = message(4, 96, OUR_INDEX);
        assert_eq!(verdict(ebpf, PROGRAMS[0], &udp(ends, &data))?, XDP_PASS);
    }
    Ok(())
}

fn tokens_come_back() -> Result<(), Failed> {
    let ebpf = &mut loaded()?;
    let settings = Settings {
        initiations: Rate::per_second(4),
        ..programs::settings(ebpf)?
    };
    write_settings(ebpf, settings)?;
    let good = handshake(1, 0);
    // Some come back meanwhile, but on no machine as fast as they are taken.
    let passed = |ebpf: &mut Ebpf| initiation(ebpf, V4, &good).map(|verdict| verdict == XDP_PASS);
    let mut tries = 0;
    while passed(ebpf)? {
        tries += 1;
        assert!(tries < 1000, "the bucket has no end");
    }
    sleep(Duration::from_millis(260));
    assert!(passed(ebpf)?, "a token each 250 ms");
    Ok(())
}

fn a_v6_network_is_one_source() -> Result<(), Failed> {
    let ebpf = &mut loaded()?;
    let good = handshake(1, 0);
    let from = |host: u16| -> Result<Ends, Failed> {
        let source = format!("2001:db8:7::{host:x}").parse()?;
        Ok(Ends { source, ..V6 })
    };
    for host in 0..BURST as u16 {
        assert_eq!(initiation(ebpf, from(host)?, &good)?, XDP_PASS);
    }
    assert_eq!(initiation(ebpf, from(99)?, &good)?, XDP_DROP);
    let other = Ends {
        source: "2001:db8:7:1::1".parse()?,
        ..V6
    };
    assert_eq!(initiation(ebpf, other, &good)?, XDP_PASS);
    Ok(())
}

/// Else anybody could lock anybody out.
fn bad_initiations_take_nothing() -> Result<(), Failed> {
    let ebpf = &mut loaded()?;
    for _ in 0..3 * BURST {
        assert_eq!(initiation(ebpf, V4, &message(1, 148, 0))?, XDP_DROP);
    }
    assert_eq!(programs::dropped(ebpf, DropReason::RateLimited)?, 0);
    assert_eq!(initiation(ebpf, V4, &handshake(1, 0))?, XDP_PASS);
    Ok(())
}

/// More sources than there is room for: each is limited as soon as it has a bucket, and
/// none is refused for want of one.
fn the_oldest_makes_room() -> Result<(), Failed> {
    let ebpf = &mut loaded()?;
    let good = handshake(1, 0);
    let from = |number: u32| Ends {
        source: IpAddr::V4((0x0a00_0000 + number).into()),
        ..V4
    };
    for number in 0..MAX_BUCKETS as u32 + 1000 {
        assert_eq!(initiation(ebpf, from(number), &good)?, XDP_PASS);
    }
    let newest = from(0x00ff_ffff);
    for _ in 0..BURST {
        assert_eq!(initiation(ebpf, newest, &good)?, XDP_PASS);
    }
    assert_eq!(initiation(ebpf, newest, &good)?, XDP_DROP);
    Ok(())
}

fn initiation(ebpf: &mut Ebpf, ends: Ends, message: &[u8]) -> Result<u32, Failed> {
    verdict(ebpf, PROGRAMS[0], &udp(ends, message))
}

fn denying_v6_leaves_v4() -> Result<(), Failed> {
    let ebpf = &mut loaded()?;
    deny(ebpf, "::", 0, family::V6)?;
    run(
        ebpf,
        PROGRAMS[0],
        &udp(V4, &handshake(1, 0)),
        V4.source,
        Pass,
    )?;
    let ebpf = &mut loaded()?;
    deny(ebpf, "::", 0, family::V6)?;
    run(
        ebpf,
        PROGRAMS[0],
        &udp(V6, &message(1, 148, 0)),
        V6.source,
        DENIED,
    )
}

/// Runs one frame through a program that has seen no other.
fn check(program: &str, frame: &[u8], source: IpAddr, expect: Expect) -> Result<(), Failed> {
    with_fresh_counters(|ebpf| run(ebpf, program, frame, source, expect))
}

fn run(
    ebpf: &mut Ebpf,
    program: &str,
    frame: &[u8],
    source: IpAddr,
    expect: Expect,
) -> Result<(), Failed> {
    let verdict = verdict(ebpf, program, frame)?;
    let dropped = matches!(expect, Drop(_));
    let expected = if dropped { XDP_DROP } else { XDP_PASS };
    if verdict != expected {
        return Err(format!("verdict {verdict}, expected {expect:?}").into());
    }

    let counted = counters(ebpf, "SOURCES")?;
    let expected = (expect != Untouched).then_some((
        key(source),
        SourceCounters {
            packets: 1,
            bytes: frame.len() as u64,
            drops: u64::from(dropped),
        },
    ));
    if counted != Vec::from_iter(expected) {
        return Err(format!("sources counted as {counted:?}, expected {expected:?}").into());
    }

    for reason in DropReason::ALL {
        let count = programs::dropped(ebpf, *reason)?;
        let expected = u64::from(expect == Drop(*reason));
        if count != expected {
            return Err(format!(
                "{} counted {count} times, expected {expected}",
                reason.label()
            )
            .into());
        }
    }
    Ok(())
}

/// The bytes with some of them replaced.
fn with(mut bytes: Vec<u8>, at: usize, replacement: &[u8]) -> Vec<u8> {
    bytes[at..at + replacement.len()].copy_from_slice(replacement);
    bytes
}

fn cut(mut frame: Vec<u8>, length: usize) -> Vec<u8> {
    frame.truncate(length);
    frame
}

/// As a card pads a short frame; a longer one gets some bytes too.
fn padded(mut frame: Vec<u8>) -> Vec<u8> {
    let length = (frame.len() + 4).max(60);
    frame.resize(length, 0);
    frame
}
