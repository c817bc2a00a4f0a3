//! A range of ports in front of one: what is turned into a datagram to our port, what is left
//! alone, and from which port the reply leaves.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::thread::{available_parallelism, sleep};
use std::time::Duration;

use aya::Ebpf;
use aya::maps::HashMap;
use libtest_mimic::Failed;
use taltun_common::drops::DropReason;
use taltun_common::maps::{HOP_ROW_TICKS, Hopper, Settings};
use taltun_common::wire::PROBE_LEN;

use crate::frames::{
    Ends, OUR_INDEX, PORT, SOURCE_PORT, UDP_V4, UDP_V6, V4, V6, handshake, key, message, udp_to,
    unfinished, with_ports,
};
use crate::programs::{
    PROGRAMS, XDP_DROP, XDP_PASS, allow_index, counters, dropped, loaded, map, pin_to, run, run_tc,
    settings, write_settings,
};
use crate::shield::{in_thread, new_namespace, output};
use crate::{NamedTest, Test};

/// A port of the range, which our port is in.
const HOP: u16 = 8500;
const RANGE: (u16, u16) = (8192, 9215);
/// The receiver index of what we send.
const PEERS_INDEX: u32 = 7;
const REPLY: &str = "taltun_reply_port";

pub fn tests() -> impl Iterator<Item = Test> {
    let tests: [NamedTest; 19] = [
        ("ours_is_turned", ours_is_turned),
        ("checksums_stay_right", checksums_stay_right),
        ("no_checksum_stays_none", no_checksum_stays_none),
        ("what_is_not_ours_is_left", what_is_not_ours_is_left),
        ("merged_data_is_turned_as_one", merged_data_is_turned_as_one),
        ("a_tagged_frame_is_left", a_tagged_frame_is_left),
        ("a_live_sockets_port_is_left", a_live_sockets_port_is_left),
        ("maps_that_prove_nothing", maps_that_prove_nothing),
        ("without_a_range_nothing_is_turned", without_a_range),
        (
            "replies_come_from_the_port_used",
            replies_from_the_port_used,
        ),
        (
            "an_initiation_in_anothers_name_moves_no_session",
            an_initiation_moves_no_session,
        ),
        (
            "anothers_session_moves_nobody",
            anothers_session_moves_nobody,
        ),
        ("the_last_port_counts_by_whichever_cpu", by_several_cpus),
        (
            "other_packets_keep_their_port",
            other_packets_keep_their_port,
        ),
        ("a_first_fragment_is_turned", a_first_fragment_is_turned),
        ("other_fragments_are_left", other_fragments_are_left),
        (
            "a_reply_in_fragments_comes_from_the_port_used",
            a_reply_in_fragments,
        ),
        ("a_probe_moves_no_data", a_probe_moves_no_data),
        (
            "the_smallest_packets_are_no_probes",
            the_smallest_packets_are_no_probes,
        ),
    ];
    tests.into_iter().map(|(name, test)| {
        let alone = move || {
            in_thread(move || {
                // Of its own, or a socket of this machine might have the port.
                new_namespace()?;
                output("ip", &["link", "set", "lo", "up"])?;
                test()
            })
        };
        (format!("hop::{name}"), Box::new(alone) as Box<_>)
    })
}

/// The kernel's longest.
const TICK: Duration = Duration::from_millis(10);

/// The programs of a hub with the range.
fn with_range() -> Result<Ebpf, Failed> {
    let mut ebpf = loaded()?;
    let before = settings(&mut ebpf)?;
    write_settings(
        &mut ebpf,
        Settings {
            hop_first: RANGE.0,
            hop_last: RANGE.1,
            ..before
        },
    )?;
    Ok(ebpf)
}

fn ours() -> [Vec<u8>; 4] {
    [
        handshake(1, 0),
        handshake(2, OUR_INDEX),
        message(3, 64, OUR_INDEX),
        message(4, 96, OUR_INDEX),
    ]
}

fn ours_is_turned() -> Result<(), Failed> {
    for program in PROGRAMS {
        let ebpf = &mut with_range()?;
        for ends in [V4, V6] {
            for message in ours() {
                for port in [RANGE.0, HOP, PORT, RANGE.1] {
                    let turned = run(ebpf, program, &udp_to(ends, port, &message))?;
                    // The whole frame, its checksum too, is as if sent to our port.
                    assert_eq!(turned, (XDP_PASS, udp_to(ends, PORT, &message)), "{port}");
                }
                let map = if message[0] == 1 {
                    "INITIATORS"
                } else {
                    "HOPPERS"
                };
                assert_eq!(used_by(map, ebpf, ends)?, Some(RANGE.1));
            }
            // Back at our own port, replies come from that again.
            run(ebpf, program, &udp_to(ends, PORT, &ours()[3]))?;
            assert_eq!(used(ebpf, ends)?, Some(PORT));
        }
        assert_eq!(counters(ebpf, "SOURCES")?.len(), 2);
    }
    Ok(())
}

/// With each pair of bytes that may lead to a sum of zero.
fn checksums_stay_right() -> Result<(), Failed> {
    let ebpf = &mut with_range()?;
    for ends in [V4, V6] {
        for filler in 0..=u16::MAX {
            if filler % 7 != 0 && filler < 0xff00 {
                continue;
            }
            let mut message = message(4, 32, OUR_INDEX);
            message[30..].copy_from_slice(&filler.to_be_bytes());
            let turned = run(ebpf, PROGRAMS[0], &udp_to(ends, HOP, &message))?;
            assert_eq!(turned.1, udp_to(ends, PORT, &message), "{filler:04x}");
        }
    }
    Ok(())
}

fn no_checksum_stays_none() -> Result<(), Failed> {
    for program in PROGRAMS {
        let ebpf = &mut with_range()?;
        for message in ours() {
            let without = |port| {
                let mut frame = udp_to(V4, port, &message);
                frame[UDP_V4 + 6..UDP_V4 + 8].fill(0);
                frame
            };
            assert_eq!(
                run(ebpf, program, &without(HOP))?,
                (XDP_PASS, without(PORT))
            );
        }
    }
    Ok(())
}

fn what_is_not_ours_is_left() -> Result<(), Failed> {
    let mut wrong_initiation = handshake(1, 0);
    wrong_initiation[120] ^= 1;
    let mut wrong_response = handshake(2, OUR_INDEX);
    wrong_response[62] ^= 1;
    let not_ours = [
        (
            "an answer of a name server",
            b"\x12\x34\x81\x80\0\x01\0\x01\0\0\0\0".to_vec(),
        ),
        ("nothing", Vec::new()),
        ("a wrong type", message(9, 64, OUR_INDEX)),
        ("a wrong length", message(1, 149, 0)),
        ("another's mac1", wrong_initiation),
        ("another's mac1 in a response", wrong_response),
        ("another's response", handshake(2, OUR_INDEX + 1)),
        ("another's cookie", message(3, 64, OUR_INDEX + 1)),
        ("another's data", message(4, 96, OUR_INDEX + 1)),
    ];
    for program in PROGRAMS {
        let ebpf = &mut with_range()?;
        for ends in [V4, V6] {
            for (what, message) in &not_ours {
                let frame = udp_to(ends, HOP, message);
                assert_eq!(run(ebpf, program, &frame)?, (XDP_PASS, frame), "{what}");
            }
            for port in [RANGE.0 - 1, RANGE.1 + 1] {
                let frame = udp_to(ends, port, &ours()[3]);
                assert_eq!(run(ebpf, program, &frame)?, (XDP_PASS, frame), "{port}");
            }
            let elsewhere = Ends {
                destination: ends.source,
                source: ends.destination,
            };
            let frame = udp_to(elsewhere, HOP, &ours()[3]);
            assert_eq!(run(ebpf, program, &frame)?, (XDP_PASS, frame), "forwarded");
            assert_eq!(used(ebpf, ends)?, None);
        }
        // Whose it is counts it.
        assert!(counters(ebpf, "SOURCES")?.is_empty());
        for reason in DropReason::ALL {
            assert_eq!(dropped(ebpf, *reason)?, 0, "{}", reason.label());
        }
        // At our own port the same messages fall.
        for (what, message) in &not_ours {
            let verdict = run(ebpf, program, &udp_to(V4, PORT, message))?.0;
            assert_eq!(verdict, XDP_DROP, "{what}");
        }
    }
    Ok(())
}

/// Its unfinished checksum may be anything; the kernel doesn't look at it.
fn merged_data_is_turned_as_one() -> Result<(), Failed> {
    let ebpf = &mut with_range()?;
    for (ends, at) in [(V4, UDP_V4), (V6, UDP_V6)] {
        let mut merged = message(4, 96, OUR_INDEX);
        merged.extend(message(4, 96, OUR_INDEX));
        merged.extend(message(4, 40, OUR_INDEX));
        let expected = unfinished(ends, &merged);
        let sent = with_ports(unfinished(ends, &merged), SOURCE_PORT, HOP);
        let (verdict, turned) = run(ebpf, "taltun_xdp_skb", &sent)?;
        assert_eq!(verdict, XDP_PASS);
        assert_eq!(turned[..at + 6], expected[..at + 6]);
        assert_eq!(turned[at + 8..], expected[at + 8..]);
    }
    Ok(())
}

/// As at our own port: the interface of the VLAN judges it.
fn a_tagged_frame_is_left() -> Result<(), Failed> {
    for program in PROGRAMS {
        let ebpf = &mut with_range()?;
        for ends in [V4, V6] {
            let mut frame = udp_to(ends, HOP, &ours()[3]);
            frame.splice(12..12, [0x81, 0x00, 0, 5]);
            assert_eq!(run(ebpf, program, &frame)?, (XDP_PASS, frame));
        }
    }
    Ok(())
}

fn a_live_sockets_port_is_left() -> Result<(), Failed> {
    for program in PROGRAMS {
        let ebpf = &mut with_range()?;
        for ends in [V4, V6] {
            let frame = udp_to(ends, HOP, &ours()[3]);
            let turned = udp_to(ends, PORT, &ours()[3]);
            let any: IpAddr = if ends.source.is_ipv4() {
                [0; 4].into()
            } else {
                [0_u8; 16].into()
            };
            let sockets: &[SocketAddr] = &[(any, HOP).into(), ([0_u8; 16], HOP).into()];
            for socket in sockets {
                assert_eq!(run(ebpf, program, &frame)?.1, turned, "before {socket}");
                let live = UdpSocket::bind(socket)?;
                // What follows in a row isn't looked at.
                sleep(TICK * HOP_ROW_TICKS as u32);
                assert_eq!(
                    run(ebpf, program, &frame)?,
                    (XDP_PASS, frame.clone()),
                    "{socket}"
                );
                drop(live);
                assert_eq!(run(ebpf, program, &frame)?.1, turned, "without {socket}");
            }
            // One that another port is for isn't in the way.
            let _other = UdpSocket::bind((any, HOP + 1))?;
            assert_eq!(run(ebpf, program, &frame)?.1, turned);
            // Nor one that is for another address, or connected to somebody else.
            if ends.source.is_ipv4() {
                let _other = UdpSocket::bind(("127.0.0.2", HOP))?;
                assert_eq!(run(ebpf, program, &frame)?.1, turned);
                let connected = UdpSocket::bind((any, HOP + 2))?;
                connected.connect(("127.0.0.3", 53))?;
                let frame = udp_to(ends, HOP + 2, &ours()[3]);
                assert_eq!(run(ebpf, program, &frame)?.1, turned);
            }
        }
    }
    Ok(())
}

/// While a map is incomplete, what it lacks isn't turned.
fn maps_that_prove_nothing() -> Result<(), Failed> {
    for program in PROGRAMS {
        let ebpf = &mut with_range()?;
        let complete = settings(ebpf)?;
        write_settings(
            ebpf,
            Settings {
                check_indices: 0,
                check_mac1: 0,
                ..complete
            },
        )?;
        let unproven = [handshake(1, 0), message(4, 96, OUR_INDEX + 1)];
        for message in unproven {
            let frame = udp_to(V4, HOP, &message);
            assert_eq!(run(ebpf, program, &frame)?, (XDP_PASS, frame));
        }
        let data = message(4, 96, OUR_INDEX);
        let turned = run(ebpf, program, &udp_to(V4, HOP, &data))?.1;
        assert_eq!(turned, udp_to(V4, PORT, &data));
    }
    Ok(())
}

fn without_a_range() -> Result<(), Failed> {
    for program in PROGRAMS {
        let ebpf = &mut loaded()?;
        for ends in [V4, V6] {
            for message in ours() {
                let frame = udp_to(ends, HOP, &message);
                assert_eq!(run(ebpf, program, &frame)?, (XDP_PASS, frame));
                run(ebpf, program, &udp_to(ends, PORT, &message))?;
            }
            assert_eq!(used(ebpf, ends)?, None);
            let reply = reply_frame(ends, PORT);
            assert_eq!(leaves(ebpf, &reply, 0)?, reply);
        }
    }
    Ok(())
}

fn replies_from_the_port_used() -> Result<(), Failed> {
    let ebpf = &mut with_range()?;
    for ends in [V4, V6] {
        // Nobody is known yet.
        let reply = reply_frame(ends, PORT);
        assert_eq!(leaves(ebpf, &reply, 0)?, reply);
        for port in [RANGE.0, HOP, RANGE.1, PORT] {
            run(ebpf, PROGRAMS[0], &udp_to(ends, port, &ours()[3]))?;
            assert_eq!(leaves(ebpf, &reply, 0)?, reply_frame(ends, port), "{port}");
            // Of several datagrams in one there is one header.
            assert_eq!(leaves(ebpf, &reply, 32)?, reply_frame(ends, port), "{port}");
        }
    }
    run(ebpf, PROGRAMS[0], &udp_to(V4, HOP, &ours()[3]))?;
    let without = |port| {
        let mut frame = reply_frame(V4, port);
        frame[UDP_V4 + 6..UDP_V4 + 8].fill(0);
        frame
    };
    assert_eq!(leaves(ebpf, &without(PORT), 0)?, without(HOP));
    Ok(())
}

/// Whoever knows our public key can make it, and the port that data leaves from stays.
fn an_initiation_moves_no_session() -> Result<(), Failed> {
    let ebpf = &mut with_range()?;
    for ends in [V4, V6] {
        let to = |port, kind: usize| udp_to(ends, port, &ours()[kind]);
        let data = reply_frame(ends, PORT);
        let response = reply_with(ends, PORT, &handshake(2, 7));
        let cookie = reply_with(ends, PORT, &message(3, 64, 7));
        // Of a sender that has no session, too.
        run(ebpf, PROGRAMS[0], &to(HOP + 1, 0))?;
        assert_eq!(leaves(ebpf, &data, 0)?, data);
        run(ebpf, PROGRAMS[0], &to(HOP, 3))?;
        run(ebpf, PROGRAMS[0], &to(HOP + 1, 0))?;
        assert_eq!(leaves(ebpf, &data, 0)?, reply_frame(ends, HOP));
        let initiation = reply_with(ends, PORT, &handshake(1, 0));
        assert_eq!(
            leaves(ebpf, &initiation, 0)?,
            reply_with(ends, HOP, &handshake(1, 0))
        );
        // It is answered where it came to itself.
        let answers = [(response, handshake(2, 7)), (cookie, message(3, 64, 7))];
        for (answer, payload) in &answers {
            let expected = reply_with(ends, HOP + 1, payload);
            assert_eq!(leaves(ebpf, answer, 0)?, expected);
        }
        run(ebpf, PROGRAMS[0], &to(PORT, 0))?;
        for (answer, _) in &answers {
            assert_eq!(leaves(ebpf, answer, 0)?, *answer);
        }
        assert_eq!(leaves(ebpf, &data, 0)?, reply_frame(ends, HOP));
    }
    Ok(())
}

/// A peer knows its own index, and can send in the name of another's socket.
fn anothers_session_moves_nobody() -> Result<(), Failed> {
    const ANOTHERS: u32 = OUR_INDEX + 1;
    let ebpf = &mut with_range()?;
    allow_index(ebpf, ANOTHERS)?;
    let mut sessions: HashMap<_, u32, u32> = map(ebpf, "SESSIONS")?.try_into()?;
    sessions.insert(PEERS_INDEX, OUR_INDEX, 0)?;
    sessions.insert(PEERS_INDEX + 1, ANOTHERS, 0)?;
    for ends in [V4, V6] {
        let forged = udp_to(ends, HOP + 1, &message(4, 96, ANOTHERS));
        let data = reply_frame(ends, PORT);
        // Of one that stays at our own port, and that isn't known.
        run(ebpf, PROGRAMS[0], &forged)?;
        assert_eq!(leaves(ebpf, &data, 0)?, data);
        for port in [HOP, PORT, HOP + 2] {
            run(ebpf, PROGRAMS[0], &udp_to(ends, port, &ours()[3]))?;
            run(ebpf, PROGRAMS[0], &forged)?;
            assert_eq!(leaves(ebpf, &data, 0)?, reply_frame(ends, port), "{port}");
        }
        // Its own answers would go there.
        let own = |port| reply_with(ends, port, &message(4, 96, PEERS_INDEX + 1));
        assert_eq!(leaves(ebpf, &own(PORT), 0)?, own(HOP + 1));
        // From elsewhere, too: it roamed.
        let from_elsewhere =
            |port| with_ports(udp_to(ends, port, &ours()[3]), SOURCE_PORT + 1, port);
        run(ebpf, PROGRAMS[0], &from_elsewhere(HOP + 3))?;
        let back = |port| with_ports(reply_frame(ends, PORT), port, SOURCE_PORT + 1);
        let left = leaves(ebpf, &back(PORT), 0)?;
        let at = if ends.source.is_ipv4() {
            UDP_V4
        } else {
            UDP_V6
        };
        assert_eq!(left[at..at + 2], (HOP + 3).to_be_bytes());
    }
    Ok(())
}

/// Cards spread datagrams by their ports, so a client's two ports may be two CPUs'.
fn by_several_cpus() -> Result<(), Failed> {
    let cpus = available_parallelism()?.get();
    let ebpf = &mut with_range()?;
    let data = |port| udp_to(V4, port, &ours()[3]);
    for (cpu, port) in [
        (0, HOP),
        (1, HOP + 1),
        (0, HOP),
        (1, HOP + 1),
        (1, HOP),
        (0, PORT),
    ] {
        pin_to(cpu % cpus)?;
        for _ in 0..2 {
            run(ebpf, PROGRAMS[0], &data(port))?;
        }
        let reply = leaves(ebpf, &reply_frame(V4, PORT), 0)?;
        assert_eq!(reply, reply_frame(V4, port), "{port} by CPU {cpu}");
    }
    Ok(())
}

fn other_packets_keep_their_port() -> Result<(), Failed> {
    let ebpf = &mut with_range()?;
    for (ends, next_header, udp) in [(V4, 14 + 9, UDP_V4), (V6, 14 + 6, UDP_V6)] {
        run(ebpf, PROGRAMS[0], &udp_to(ends, HOP, &ours()[3]))?;
        let reply = reply_frame(ends, PORT);
        assert_ne!(leaves(ebpf, &reply, 0)?, reply);
        let mut tcp = reply.clone();
        tcp[next_header] = 6;
        let mut tagged = reply.clone();
        tagged.splice(12..12, [0x81, 0x00, 0, 5]);
        let others = [
            with_ports(reply.clone(), PORT + 1, SOURCE_PORT),
            with_ports(reply.clone(), PORT, SOURCE_PORT + 1),
            tcp,
            tagged,
            // Cut off in its UDP header.
            reply[..udp + 7].to_vec(),
        ];
        for other in others {
            assert_eq!(leaves(ebpf, &other, 0)?, other);
        }
    }
    // Only the first fragment has a port.
    let mut fragment = reply_frame(V4, PORT);
    fragment[14 + 7] = 9;
    assert_eq!(leaves(ebpf, &fragment, 0)?, fragment);
    Ok(())
}

/// The checksum in it is that of the whole datagram.
fn a_first_fragment_is_turned() -> Result<(), Failed> {
    let data = message(4, 1400, OUR_INDEX);
    for program in PROGRAMS {
        let ebpf = &mut with_range()?;
        for ends in [V4, V6] {
            for port in [RANGE.0, HOP, RANGE.1, PORT] {
                let to = |port| first_fragment(&udp_to(ends, port, &data));
                assert_eq!(run(ebpf, program, &to(port))?, (XDP_PASS, to(PORT)));
            }
            run(
                ebpf,
                program,
                &first_fragment(&udp_to(ends, HOP + 1, &data)),
            )?;
            assert_eq!(used(ebpf, ends)?, Some(HOP + 1));
            assert_eq!(
                leaves(ebpf, &reply_frame(ends, PORT), 0)?,
                reply_frame(ends, HOP + 1)
            );
            run(ebpf, program, &first_fragment(&udp_to(ends, PORT, &data)))?;
            assert_eq!(used(ebpf, ends)?, Some(PORT));
        }
    }
    Ok(())
}

fn other_fragments_are_left() -> Result<(), Failed> {
    let data = message(4, 1400, OUR_INDEX);
    for program in PROGRAMS {
        let ebpf = &mut with_range()?;
        for ends in [V4, V6] {
            let first = |message: &[u8]| first_fragment(&udp_to(ends, HOP, message));
            let mut later = first(&data);
            let offset = if ends.source.is_ipv4() {
                14 + 7
            } else {
                UDP_V6 + 3
            };
            later[offset] |= 0x10;
            let elsewhere = Ends {
                destination: ends.source,
                source: ends.destination,
            };
            let whole = first(&data);
            let udp = if ends.source.is_ipv4() {
                UDP_V4
            } else {
                UDP_V6 + 8
            };
            let frames = [
                ("a later one", later),
                ("another's index", first(&message(4, 1400, OUR_INDEX + 1))),
                ("an initiation", first(&handshake(1, 0))),
                ("no message", first(&[9; 1400])),
                (
                    "a port outside",
                    first_fragment(&udp_to(ends, RANGE.1 + 1, &data)),
                ),
                ("forwarded", first_fragment(&udp_to(elsewhere, HOP, &data))),
                ("cut off", whole[..udp + 8 + 7].to_vec()),
            ];
            for (what, frame) in frames {
                assert_eq!(run(ebpf, program, &frame)?, (XDP_PASS, frame), "{what}");
            }
            let any: IpAddr = if ends.source.is_ipv4() {
                [0; 4].into()
            } else {
                [0_u8; 16].into()
            };
            let live = UdpSocket::bind((any, HOP))?;
            let frame = first(&data);
            assert_eq!(run(ebpf, program, &frame)?, (XDP_PASS, frame), "a socket's");
            drop(live);
            assert_eq!(used(ebpf, ends)?, None);
        }
        let ebpf = &mut loaded()?;
        let frame = first_fragment(&udp_to(V4, HOP, &data));
        assert_eq!(run(ebpf, program, &frame)?, (XDP_PASS, frame), "no range");
    }
    Ok(())
}

fn a_reply_in_fragments() -> Result<(), Failed> {
    let ebpf = &mut with_range()?;
    let data = message(4, 1400, PEERS_INDEX);
    for ends in [V4, V6] {
        run(ebpf, PROGRAMS[0], &udp_to(ends, HOP, &ours()[3]))?;
        let reply = |port| first_fragment(&reply_with(ends, port, &data));
        assert_eq!(leaves(ebpf, &reply(PORT), 0)?, reply(HOP));
    }
    let mut later = first_fragment(&reply_with(V6, PORT, &data));
    later[UDP_V6 + 3] |= 0x10;
    assert_eq!(leaves(ebpf, &later, 0)?, later);
    Ok(())
}

/// It is answered where it came to itself, once; data goes on from where data came to.
fn a_probe_moves_no_data() -> Result<(), Failed> {
    let probe = message(4, PROBE_LEN, OUR_INDEX);
    let answer = message(4, PROBE_LEN, PEERS_INDEX);
    for told in [false, true] {
        for program in PROGRAMS {
            let ebpf = &mut with_range()?;
            if told {
                let mut sessions: HashMap<_, u32, u32> = map(ebpf, "SESSIONS")?.try_into()?;
                sessions.insert(PEERS_INDEX, OUR_INDEX, 0)?;
            }
            for ends in [V4, V6] {
                let from = |port| reply_with(ends, port, &answer);
                let data = |port| reply_frame(ends, port);
                for (used, probed) in [(PORT, HOP), (HOP, HOP + 1), (HOP, PORT), (PORT, PORT)] {
                    run(ebpf, program, &udp_to(ends, used, &ours()[3]))?;
                    let turned = run(ebpf, program, &udp_to(ends, probed, &probe))?;
                    assert_eq!(turned, (XDP_PASS, udp_to(ends, PORT, &probe)));
                    assert_eq!(leaves(ebpf, &data(PORT), 0)?, data(used), "{probed}");
                    assert_eq!(leaves(ebpf, &from(PORT), 0)?, from(probed), "{used}");
                    // What else has its length is data.
                    assert_eq!(leaves(ebpf, &from(PORT), 0)?, from(used), "{probed}");
                    assert_eq!(leaves(ebpf, &data(PORT), 0)?, data(used), "{probed}");
                }
            }
        }
    }
    Ok(())
}

/// Headers of IP and UDP alone, padded or not, and nothing at all.
fn the_smallest_packets_are_no_probes() -> Result<(), Failed> {
    for program in PROGRAMS {
        let ebpf = &mut with_range()?;
        for ends in [V4, V6] {
            for (length, port) in [(32, HOP), (52, HOP + 1), (60, HOP), (64, HOP + 1)] {
                let data = message(4, length, OUR_INDEX);
                run(ebpf, program, &udp_to(ends, port, &data))?;
                for length in [32, 52, 60, 64, 96] {
                    let answer = message(4, length, PEERS_INDEX);
                    let from = |port| reply_with(ends, port, &answer);
                    assert_eq!(leaves(ebpf, &from(PORT), 0)?, from(port), "{length}");
                }
            }
        }
    }
    Ok(())
}

/// The first of the fragments that a datagram's frame is cut into.
fn first_fragment(frame: &[u8]) -> Vec<u8> {
    let mut frame = frame[..frame.len().min(14 + 40 + 8 + 48)].to_vec();
    if frame[12..14] == [0x08, 0x00] {
        frame[14 + 6] = 0x20;
        let length = (frame.len() - 14) as u16;
        frame[14 + 2..14 + 4].copy_from_slice(&length.to_be_bytes());
    } else {
        let next_header = std::mem::replace(&mut frame[14 + 6], 44);
        frame.splice(UDP_V6..UDP_V6, [next_header, 0, 0, 1, 0, 0, 0, 7]);
        let length = (frame.len() - UDP_V6) as u16;
        frame[14 + 4..14 + 6].copy_from_slice(&length.to_be_bytes());
    }
    frame
}

/// What we answer from this port.
fn reply_frame(ends: Ends, port: u16) -> Vec<u8> {
    reply_with(ends, port, &message(4, 96, PEERS_INDEX))
}

/// This message of ours, from this port.
fn reply_with(ends: Ends, port: u16, message: &[u8]) -> Vec<u8> {
    let back = Ends {
        source: ends.destination,
        destination: ends.source,
    };
    crate::frames::udp_between(back, port, SOURCE_PORT, message)
}

/// The port of ours that the sender of test frames used.
fn used(ebpf: &mut Ebpf, ends: Ends) -> Result<Option<u16>, Failed> {
    used_by("HOPPERS", ebpf, ends)
}

/// The same, in the map of this name.
fn used_by(name: &str, ebpf: &mut Ebpf, ends: Ends) -> Result<Option<u16>, Failed> {
    let hoppers: HashMap<_, Hopper, u16> = map(ebpf, name)?.try_into()?;
    let hopper = Hopper {
        remote: key(ends.source),
        local: key(ends.destination),
        port: SOURCE_PORT.to_be_bytes(),
        reserved: [0; 2],
        index: Hopper::ANY_SESSION,
    };
    match hoppers.get(&hopper, 0) {
        Ok(port) => Ok(Some(port)),
        Err(aya::maps::MapError::KeyNotFound) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// What becomes of a packet that leaves; `segment` is the size of its segments.
fn leaves(ebpf: &mut Ebpf, packet: &[u8], segment: u32) -> Result<Vec<u8>, Failed> {
    let (verdict, out) = run_tc(ebpf, REPLY, packet, segment)?;
    // It goes on, whatever it is.
    assert_eq!(verdict, u32::MAX);
    Ok(out)
}
