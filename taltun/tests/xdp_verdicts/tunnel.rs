//! The TC programs: packets of the tunnel, and what must happen to them.

use std::net::IpAddr;
use std::thread::sleep;
use std::time::Duration;

use aya::Ebpf;
use aya::maps::lpm_trie::{Key, LpmTrie};
use libtest_mimic::Failed;

use taltun_common::address::Address;
use taltun_common::drops::DropReason;
use taltun_common::maps::{Settings, SourceCounters, family, route};
use taltun_common::wire::OWN_ERROR_TRAILER;

use crate::frames::{PORT, key};
use crate::programs::{counters, dropped, map, pin_to_this_cpu, run_tc, write_settings};
use crate::{NamedTest, Test};

const OUT: &str = "taltun_tun_out";
const IN: &str = "taltun_tun_in";
const TC_ACT_UNSPEC: u32 = u32::MAX;
const TC_ACT_SHOT: u32 = 2;

pub const PEER: &str = "10.0.0.2";
pub const PEER_V6: &str = "fd00::2";
const NOBODY: &str = "10.9.9.9";
const NOBODY_V6: &str = "fd99::9";
const BANNED: &str = "10.0.0.66";
const BANNED_V6: &str = "fd00::66";
pub const US: &str = "10.0.0.1";
pub const US_V6: &str = "fd00::1";

pub const TCP: u8 = 6;
pub const UDP: u8 = 17;
const ICMP: u8 = 1;
const ICMPV6: u8 = 58;

pub fn tests() -> impl Iterator<Item = Test> {
    let tests: [NamedTest; 11] = [
        ("out_to_a_peer", out_to_a_peer),
        ("out_to_nobody", out_to_nobody),
        ("out_without_routes", out_without_routes),
        ("out_closed_by_rules", out_closed_by_rules),
        ("in_from_peers", in_from_peers),
        ("in_banned", in_banned),
        ("in_from_nobody", in_from_nobody),
        ("in_own_errors", in_own_errors),
        ("in_segments", in_segments),
        ("dropped_segments", dropped_segments),
        ("not_ip", not_ip),
    ];
    tests
        .into_iter()
        .map(|(name, test)| (format!("tunnel::{name}"), Box::new(test) as Box<_>))
}

fn out_to_a_peer() -> Result<(), Failed> {
    let ebpf = &mut loaded()?;
    for (source, destination) in [(US, PEER), (US_V6, PEER_V6)] {
        for _ in 0..3 {
            let packet = packet(source, destination, UDP, 60)?;
            expect(ebpf, OUT, &packet, 0, TC_ACT_UNSPEC)?;
        }
    }
    assert_eq!(dropped(ebpf, DropReason::NoPeer)?, 0);
    Ok(())
}

fn out_to_nobody() -> Result<(), Failed> {
    // What may be answered is counted a CPU.
    pin_to_this_cpu()?;
    for (source, destination) in [(US, NOBODY), (US_V6, NOBODY_V6)] {
        let ebpf = &mut loaded()?;
        let packet = packet(source, destination, UDP, 60)?;
        expect(ebpf, OUT, &packet, 0, TC_ACT_UNSPEC)?;
        expect(ebpf, OUT, &packet, 0, TC_ACT_SHOT)?;
        expect(ebpf, OUT, &packet, 0, TC_ACT_SHOT)?;
        assert_eq!(dropped(ebpf, DropReason::NoPeer)?, 2);
        sleep(Duration::from_millis(15));
        expect(ebpf, OUT, &packet, 0, TC_ACT_UNSPEC)?;
        assert_eq!(dropped(ebpf, DropReason::NoPeer)?, 2);
    }
    Ok(())
}

/// An incomplete map of routes proves nothing.
fn out_without_routes() -> Result<(), Failed> {
    let ebpf = &mut loaded()?;
    write_settings(ebpf, settings(0))?;
    for _ in 0..3 {
        expect(ebpf, OUT, &packet(US, NOBODY, UDP, 60)?, 0, TC_ACT_UNSPEC)?;
        expect(ebpf, IN, &packet(NOBODY, US, UDP, 60)?, 0, TC_ACT_UNSPEC)?;
    }
    Ok(())
}

/// Only what starts a TCP connection for sure is dropped, and only where and while rules say so.
fn out_closed_by_rules() -> Result<(), Failed> {
    const CLOSED: &str = "10.0.0.9";
    const CLOSED_V6: &str = "fd00::9";
    const SYN: u8 = 2;
    const SYN_ACK: u8 = 18;
    const ACK: u8 = 16;
    let ebpf = &mut loaded()?;
    for (address, family) in [(CLOSED, family::V4), (CLOSED_V6, family::V6)] {
        let mut routes: LpmTrie<_, Address, u8> = map(ebpf, "ROUTES")?.try_into()?;
        let net = Key::new(128, key(address.parse()?));
        routes.insert(&net, family | route::NO_TCP, 0)?;
    }
    let checked = settings(1);
    let checked = Settings {
        check_rules: 1,
        ..checked
    };
    write_settings(ebpf, checked)?;
    let tcp = |source, destination, flags| -> Result<Vec<u8>, Failed> {
        let mut packet = packet(source, destination, TCP, 80)?;
        let header = if packet[14] >> 4 == 4 {
            14 + 20
        } else {
            14 + 40
        };
        packet[header + 12] = 0x50;
        packet[header + 13] = flags;
        Ok(packet)
    };
    for (us, closed, peer) in [(US, CLOSED, PEER), (US_V6, CLOSED_V6, PEER_V6)] {
        let starts = tcp(us, closed, SYN)?;
        expect(ebpf, OUT, &starts, 0, TC_ACT_SHOT)?;
        // With ECN, too.
        expect(ebpf, OUT, &tcp(us, closed, SYN | 0xc0)?, 0, TC_ACT_SHOT)?;
        for flags in [ACK, SYN_ACK, 0, 4, 17] {
            expect(ebpf, OUT, &tcp(us, closed, flags)?, 0, TC_ACT_UNSPEC)?;
        }
        expect(ebpf, OUT, &packet(us, closed, UDP, 80)?, 0, TC_ACT_UNSPEC)?;
        expect(ebpf, OUT, &tcp(us, peer, SYN)?, 0, TC_ACT_UNSPEC)?;
        for unsure in [
            Settings {
                check_rules: 0,
                ..checked
            },
            Settings {
                check_routes: 0,
                ..checked
            },
        ] {
            write_settings(ebpf, unsure)?;
            expect(ebpf, OUT, &starts, 0, TC_ACT_UNSPEC)?;
        }
        write_settings(ebpf, checked)?;
    }
    let mut later = tcp(US, CLOSED, SYN)?;
    later[14 + 7] = 185;
    expect(ebpf, OUT, &later, 0, TC_ACT_UNSPEC)?;
    let mut first = tcp(US, CLOSED, SYN)?;
    first[14 + 6] = 0x20;
    expect(ebpf, OUT, &first, 0, TC_ACT_SHOT)?;
    // Options move what is behind them.
    let mut padded = tcp(US, CLOSED, SYN)?;
    padded[14] = 0x46;
    expect(ebpf, OUT, &padded, 0, TC_ACT_UNSPEC)?;
    padded[14 + 24 + 13] = SYN;
    expect(ebpf, OUT, &padded, 0, TC_ACT_SHOT)?;
    // As IPv6 this is another address than as IPv4.
    let mapped = tcp(US_V6, &format!("::ffff:{CLOSED}"), SYN)?;
    expect(ebpf, OUT, &mapped, 0, TC_ACT_UNSPEC)?;
    assert_eq!(dropped(ebpf, DropReason::Rule)?, 6);
    // It is somebody's all the same.
    assert_eq!(dropped(ebpf, DropReason::NoPeer)?, 0);
    Ok(())
}

fn in_from_peers() -> Result<(), Failed> {
    for (source, destination) in [(PEER, US), (PEER_V6, US_V6)] {
        let ebpf = &mut loaded()?;
        let packet = packet(source, destination, UDP, 60)?;
        expect(ebpf, IN, &packet, 0, TC_ACT_UNSPEC)?;
        expect(ebpf, IN, &packet, 0, TC_ACT_UNSPEC)?;
        counted(ebpf, source, 2, 120, 0)?;
    }
    Ok(())
}

fn in_banned() -> Result<(), Failed> {
    for (source, destination) in [(BANNED, US), (BANNED_V6, US_V6)] {
        let ebpf = &mut loaded()?;
        let packet = packet(source, destination, UDP, 60)?;
        expect(ebpf, IN, &packet, 0, TC_ACT_SHOT)?;
        counted(ebpf, source, 1, 60, 1)?;
        assert_eq!(dropped(ebpf, DropReason::InnerDenied)?, 1);
    }
    Ok(())
}

fn in_from_nobody() -> Result<(), Failed> {
    for (source, destination, icmp) in [(NOBODY, US, ICMP), (NOBODY_V6, US_V6, ICMPV6)] {
        let ebpf = &mut loaded()?;
        let udp = packet(source, destination, UDP, 60)?;
        expect(ebpf, IN, &udp, 0, TC_ACT_SHOT)?;
        counted(ebpf, source, 1, 60, 1)?;
        // A peer's error is like any packet.
        let header = if icmp == ICMP { 20 } else { 40 };
        let mut error = packet(source, destination, icmp, 60)?;
        error[14 + header] = if icmp == ICMP { 3 } else { 1 };
        expect(ebpf, IN, &error, 0, TC_ACT_SHOT)?;
        assert_eq!(dropped(ebpf, DropReason::InnerSource)?, 2);
    }
    Ok(())
}

/// Nobody sent them, whoever's address they have.
fn in_own_errors() -> Result<(), Failed> {
    let cases = [
        (NOBODY, US, ICMP),
        (NOBODY_V6, US_V6, ICMPV6),
        (PEER, US, ICMP),
        (BANNED_V6, US_V6, ICMPV6),
    ];
    for (source, destination, icmp) in cases {
        let ebpf = &mut loaded()?;
        let mut error = packet(source, destination, icmp, 60)?;
        error.extend(OWN_ERROR_TRAILER);
        expect(ebpf, IN, &error, 0, TC_ACT_UNSPEC)?;
        assert!(counters(ebpf, "SOURCES_INNER")?.is_empty());
        // Nothing else passes for one by being too long.
        let mut other = packet(NOBODY, US, UDP, 60)?;
        other.extend(OWN_ERROR_TRAILER);
        expect(ebpf, IN, &other, 0, TC_ACT_SHOT)?;
    }
    Ok(())
}

/// A packet of several segments is several packets, with headers each.
fn in_segments() -> Result<(), Failed> {
    let cases = [
        (PEER, US, TCP, 20 + 20),
        (PEER_V6, US_V6, TCP, 40 + 20),
        (PEER, US, UDP, 20 + 8),
        (PEER_V6, US_V6, UDP, 40 + 8),
    ];
    for (source, destination, protocol, headers) in cases {
        let ebpf = &mut loaded()?;
        let packet = packet(source, destination, protocol, headers + 2 * 500 + 1)?;
        expect(ebpf, IN, &packet, 500, TC_ACT_UNSPEC)?;
        counted(ebpf, source, 3, 3 * headers as u64 + 1001, 0)?;
    }
    Ok(())
}

/// It is dropped as as many packets as it is counted.
fn dropped_segments() -> Result<(), Failed> {
    for (us, peer, banned, nobody, headers) in [
        (US, PEER, BANNED, NOBODY, 20 + 20),
        (US_V6, PEER_V6, BANNED_V6, NOBODY_V6, 40 + 20),
    ] {
        let ebpf = &mut loaded()?;
        let length = headers + 2 * 500 + 1;
        let merged = packet(banned, us, TCP, length)?;
        expect(ebpf, IN, &merged, 500, TC_ACT_SHOT)?;
        counted(ebpf, banned, 3, 3 * headers as u64 + 1001, 3)?;
        assert_eq!(dropped(ebpf, DropReason::InnerDenied)?, 3);
        expect(
            ebpf,
            IN,
            &packet(nobody, peer, TCP, length)?,
            500,
            TC_ACT_SHOT,
        )?;
        assert_eq!(dropped(ebpf, DropReason::InnerSource)?, 3);
        let merged = packet(us, nobody, TCP, length)?;
        pin_to_this_cpu()?;
        expect(ebpf, OUT, &merged, 500, TC_ACT_UNSPEC)?;
        expect(ebpf, OUT, &merged, 500, TC_ACT_SHOT)?;
        assert_eq!(dropped(ebpf, DropReason::NoPeer)?, 3);
    }
    Ok(())
}

fn not_ip() -> Result<(), Failed> {
    let ebpf = &mut loaded()?;
    let mut strange = packet(BANNED, NOBODY, UDP, 60)?;
    strange[14] = 0x15;
    for program in [IN, OUT] {
        expect(ebpf, program, &strange, 0, TC_ACT_UNSPEC)?;
        expect(ebpf, program, &strange, 0, TC_ACT_UNSPEC)?;
    }
    assert!(counters(ebpf, "SOURCES_INNER")?.is_empty());
    Ok(())
}

fn settings(check_routes: u8) -> Settings {
    Settings {
        listen_port: PORT,
        check_routes,
        ..Settings::default()
    }
}

fn loaded() -> Result<Ebpf, Failed> {
    let mut ebpf = Ebpf::load(taltun::accel::OBJECT)?;
    write_settings(&mut ebpf, settings(1))?;
    let lists = [
        ("ROUTES", "10.0.0.0", 96 + 24, family::V4),
        ("ROUTES", "fd00::", 64, family::V6),
        ("DENIED_INNER", BANNED, 128, family::V4),
        ("DENIED_INNER", BANNED_V6, 128, family::V6),
    ];
    for (name, address, bits, meant) in lists {
        let mut list: LpmTrie<_, Address, u8> = map(&mut ebpf, name)?.try_into()?;
        list.insert(&Key::new(bits, key(address.parse()?)), meant, 0)?;
    }
    Ok(ebpf)
}

/// Runs a packet through a program; `segment` is what the kernel says of its segments' size.
fn expect(
    ebpf: &mut Ebpf,
    program: &str,
    packet: &[u8],
    segment: u32,
    expected: u32,
) -> Result<(), Failed> {
    let (verdict, _) = run_tc(ebpf, program, packet, segment)?;
    if verdict != expected {
        let (verdict, expected) = (verdict.cast_signed(), expected.cast_signed());
        return Err(format!("verdict {verdict}, expected {expected}").into());
    }
    Ok(())
}

fn counted(
    ebpf: &mut Ebpf,
    source: &str,
    packets: u64,
    bytes: u64,
    drops: u64,
) -> Result<(), Failed> {
    let counted = counters(ebpf, "SOURCES_INNER")?;
    // Why they were dropped is known of those that were.
    let reason = counted.first().map_or(0, |(_, counters)| counters.reason);
    assert_eq!(reason != 0, drops != 0, "{source}: reason {reason}");
    let expected = SourceCounters {
        packets,
        bytes,
        drops,
        reason,
        last_drop: 0,
    };
    let address: IpAddr = source.parse()?;
    assert_eq!(counted, [(key(address), expected)], "{source}");
    Ok(())
}

/// An IP packet of this length behind an Ethernet header, which the kernel's harness wants.
pub fn packet(
    source: &str,
    destination: &str,
    protocol: u8,
    length: usize,
) -> Result<Vec<u8>, Failed> {
    let mut ip = vec![0; length];
    let (header, ethertype) = match (source.parse()?, destination.parse()?) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            ip[0] = 0x45;
            ip[2..4].copy_from_slice(&(length as u16).to_be_bytes());
            ip[8] = 64;
            ip[9] = protocol;
            ip[12..16].copy_from_slice(&source.octets());
            ip[16..20].copy_from_slice(&destination.octets());
            (20, [0x08, 0x00])
        }
        (IpAddr::V6(source), IpAddr::V6(destination)) => {
            ip[0] = 0x60;
            ip[4..6].copy_from_slice(&(length as u16 - 40).to_be_bytes());
            ip[6] = protocol;
            ip[7] = 64;
            ip[8..24].copy_from_slice(&source.octets());
            ip[24..40].copy_from_slice(&destination.octets());
            (40, [0x86, 0xdd])
        }
        _ => return Err("two families in one packet".into()),
    };
    if protocol == TCP {
        ip[header + 12] = 0x50;
    }
    let mut frame = vec![0x02; 12];
    frame.extend(ethertype);
    frame.extend(ip);
    Ok(frame)
}
