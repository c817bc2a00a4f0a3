//! The TC programs on any packet, run by the kernel (`BPF_PROG_TEST_RUN`), against user space's lists and a
//! naive reader of headers:
//!
//! * into the tunnel only that falls which no peer has, or which starts TCP where rules let nobody start it;
//! * out of it exactly that falls whose source is banned or is no peer's, but never our own ICMP errors;
//! * what leaves by the underlay never falls; its source port alone is turned, exactly where its receiver is known
//!   to use another port of ours.
//!
//! They need what [`verdicts`](crate::verdicts) need.

use std::error::Error;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::{Mutex, PoisonError};

use aya::Ebpf;
use aya::maps::lpm_trie::{Key, LpmTrie};
use aya::maps::{Array, HashMap};
use aya::programs::{SchedClassifier, TestRun, TestRunOptions};
use ipnet::IpNet;
use taltun::dataplane::filter::Filter;
use taltun::layer::Layer;
use taltun_common::address::Address;
use taltun_common::maps::{Hopper, Settings, family, route};
use taltun_protocol::allowed_ips::AllowedIps;

use crate::verdicts::{as_key, is_port_changed};

const OUT: &str = "taltun_tun_out";
const IN: &str = "taltun_tun_in";
const REPLY: &str = "taltun_reply_port";
const GO_ON: u32 = u32::MAX;
const DROP: u32 = 2;
/// The peers' networks, and whether rules let nobody start TCP with them.
const ROUTES: [(&str, bool); 5] = [
    ("10.0.0.0/24", false),
    ("10.0.0.128/25", true),
    ("10.0.1.7/32", true),
    ("fd00::/64", false),
    ("fd00:0:0:1::/64", true),
];
const BANNED: [&str; 2] = ["10.0.0.66/32", "fd00::66/128"];
/// Our port, and those that a peer used for data and for initiations.
const PORT: u16 = 9000;
const FOR_DATA: u16 = 9105;
const FOR_INITIATIONS: u16 = 9106;
/// Us and the peer.
const ENDS: [([IpAddr; 2], u16); 2] = [
    (
        [
            IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)),
            IpAddr::V4(Ipv4Addr::new(198, 51, 100, 7)),
        ],
        40_000,
    ),
    (
        [
            IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1)),
            IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 7, 0, 0, 0, 0, 7)),
        ],
        40_000,
    ),
];

/// What user space knows.
struct UserSpace {
    filter: Filter,
    routes: AllowedIps<bool>,
}

pub(crate) fn run(packet: &[u8]) {
    static BOTH: Mutex<Option<(UserSpace, Ebpf)>> = Mutex::new(None);
    let mut both = BOTH.lock().unwrap_or_else(PoisonError::into_inner);
    let (user_space, ebpf) = both.get_or_insert_with(|| {
        let filter = Filter::default();
        filter.set(&[], &BANNED.map(|net| net.parse::<IpNet>().unwrap()));
        let mut routes = AllowedIps::default();
        for (net, no_tcp) in ROUTES {
            routes.insert(net.parse().unwrap(), no_tcp);
        }
        let ebpf = loaded_programs().expect("the programs can be loaded");
        (UserSpace { filter, routes }, ebpf)
    });
    // The kernel runs no test with less than an IP header, or more than a page.
    let least = if packet.first().is_some_and(|first| first / 16 == 6) {
        40
    } else {
        20
    };
    if !(least..=3000).contains(&packet.len()) {
        return;
    }
    let mut frame = vec![2; 12];
    frame.extend(if packet[0] / 16 == 6 {
        [0x86, 0xdd]
    } else {
        [8, 0]
    });
    frame.extend(packet);
    let header = header(packet);
    into_the_tunnel(user_space, ebpf, &frame, header.as_ref());
    out_of_it(user_space, ebpf, &frame, header.as_ref());
    reply(ebpf, &frame);
}

/// What an IP header says, by RFC 791 and 8200.
struct Header<'p> {
    source: IpAddr,
    destination: IpAddr,
    protocol: u8,
    /// Bytes of the packet, by the header.
    length: usize,
    /// Whether it isn't the first fragment, as far as the header itself tells.
    is_later: bool,
    /// What is behind the header; `None` where that is shorter than it must be.
    rest: Option<&'p [u8]>,
}

fn word(bytes: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([bytes[at], bytes[at + 1]])
}

fn header(packet: &[u8]) -> Option<Header<'_>> {
    match packet[0] / 16 {
        4 if packet.len() >= 20 => {
            let address = |at: usize| IpAddr::from(*packet[at..].first_chunk::<4>().unwrap());
            let own_length = usize::from(packet[0] % 16) * 4;
            Some(Header {
                source: address(12),
                destination: address(16),
                protocol: packet[9],
                length: usize::from(word(packet, 2)),
                is_later: word(packet, 6) & 0x1fff != 0,
                rest: (own_length >= 20).then(|| packet.get(own_length..).unwrap_or_default()),
            })
        }
        6 if packet.len() >= 40 => {
            let address = |at: usize| IpAddr::from(*packet[at..].first_chunk::<16>().unwrap());
            Some(Header {
                source: address(8),
                destination: address(24),
                protocol: packet[6],
                length: 40 + usize::from(word(packet, 4)),
                is_later: false,
                rest: Some(&packet[40..]),
            })
        }
        _ => None,
    }
}

/// Whether the maps take an address of IPv6 for one of IPv4: nobody has it, in user space either.
fn is_mapped(address: IpAddr) -> bool {
    address.to_canonical() != address
}

fn into_the_tunnel(
    user_space: &UserSpace,
    ebpf: &mut Ebpf,
    frame: &[u8],
    header: Option<&Header<'_>>,
) {
    let (verdict, after) = verdict(ebpf, OUT, frame);
    assert_eq!(after, frame, "the packet was changed");
    let Some(header) = header else {
        assert_eq!(verdict, GO_ON, "of {frame:02x?}");
        return;
    };
    if is_mapped(header.destination) {
        return;
    }
    let Some(route) = user_space.routes.lookup(header.destination) else {
        // Some are answered by user space, by the clock.
        assert!([GO_ON, DROP].contains(&verdict), "of {frame:02x?}");
        return;
    };
    // A header that is shorter than itself is nobody's packet.
    let Some(rest) = header.rest else { return };
    let starts_tcp =
        header.protocol == 6 && !header.is_later && rest.len() >= 20 && rest[13] & 0b1_0010 == 0b10;
    let expected = if *route.value && starts_tcp {
        DROP
    } else {
        GO_ON
    };
    assert_eq!(verdict, expected, "of {frame:02x?}");
}

fn out_of_it(user_space: &UserSpace, ebpf: &mut Ebpf, frame: &[u8], header: Option<&Header<'_>>) {
    let (verdict, after) = verdict(ebpf, IN, frame);
    assert_eq!(after, frame, "the packet was changed");
    let Some(header) = header else {
        assert_eq!(verdict, GO_ON, "of {frame:02x?}");
        return;
    };
    if is_mapped(header.source) {
        return;
    }
    // Ours are longer than they say.
    let is_own_error = matches!(header.protocol, 1 | 58) && frame.len() - 14 > header.length;
    let is_banned = user_space.filter.read().denies(Layer::Inner, header.source);
    let is_peers = user_space.routes.lookup(header.source).is_some();
    let passes = is_own_error || is_peers && !is_banned;
    let expected = if passes { GO_ON } else { DROP };
    assert_eq!(verdict, expected, "of {frame:02x?}");
}

fn reply(ebpf: &mut Ebpf, frame: &[u8]) {
    let (verdict, after) = verdict(ebpf, REPLY, frame);
    assert_eq!(verdict, GO_ON);
    let packet = &frame[14..];
    // Where the header counts the link's, too, it says that there is no such header.
    let whole =
        packet[0] / 16 == 4 && packet.len() >= 20 && usize::from(word(packet, 2)) == frame.len()
            || packet.len() >= 40 && usize::from(word(packet, 4)) + 40 == frame.len();
    if whole {
        return;
    }
    match turned(packet) {
        Some((udp, port)) => assert!(
            is_port_changed(frame, &after, (14 + udp, 14 + udp + 6), PORT, port),
            "{frame:02x?} to {after:02x?}"
        ),
        None => assert_eq!(after, frame),
    }
}

/// Where UDP is in a packet that is to leave from another port, and from which.
fn turned(packet: &[u8]) -> Option<(usize, u16)> {
    let header = header(packet)?;
    (header.length == packet.len() && !header.is_later).then_some(())?;
    let (protocol, at) = match packet[0] {
        0x45 => (packet[9], 20),
        first if first / 16 == 6 && packet[6] == 44 => {
            let fragment = packet.get(40..48)?;
            (word(fragment, 2) < 8).then_some((fragment[0], 48))?
        }
        first if first / 16 == 6 => (packet[6], 40),
        _ => return None,
    };
    let udp = packet.get(at..).filter(|udp| udp.len() >= 12)?;
    let ends = ([header.source, header.destination], word(udp, 2));
    (protocol == 17 && word(udp, 0) == PORT && ENDS.contains(&ends)).then_some(())?;
    match udp[8..12] {
        [2 | 3, 0, 0, 0] => Some((at, FOR_INITIATIONS)),
        // The receiver's index has to be there, though none is known.
        [4, 0, 0, 0] => (udp.len() >= 16).then_some((at, FOR_DATA)),
        _ => Some((at, FOR_DATA)),
    }
}

/// What a program says of a packet, and the packet after it.
fn verdict(ebpf: &mut Ebpf, program: &str, frame: &[u8]) -> (u32, Vec<u8>) {
    let program: &mut SchedClassifier = ebpf.program_mut(program).unwrap().try_into().unwrap();
    let mut after = vec![0; frame.len()];
    let result = program.test_run(TestRunOptions {
        data_in: Some(frame),
        data_out: Some(&mut after),
        ..TestRunOptions::default()
    });
    (result.expect("the kernel runs it").return_value, after)
}

fn loaded_programs() -> Result<Ebpf, Box<dyn Error>> {
    let mut ebpf = Ebpf::load(taltun::accel::OBJECT)?;
    for program in [OUT, IN, REPLY] {
        let program: &mut SchedClassifier =
            ebpf.program_mut(program).ok_or("no program")?.try_into()?;
        program.load()?;
    }
    let settings = Settings {
        listen_port: PORT,
        hop_first: 9100,
        hop_last: 9110,
        check_routes: 1,
        check_rules: 1,
        ..Settings::default()
    };
    let mut map: Array<_, Settings> = ebpf.map_mut("SETTINGS").ok_or("no map")?.try_into()?;
    map.set(0, settings, 0)?;
    let key = |net: IpNet| match net {
        IpNet::V4(_) => (96, family::V4),
        IpNet::V6(_) => (0, family::V6),
    };
    let banned = BANNED.map(|net| (net, false));
    for (name, nets) in [("ROUTES", &ROUTES[..]), ("DENIED_INNER", &banned[..])] {
        let mut map: LpmTrie<_, Address, u8> = ebpf.map_mut(name).ok_or("no map")?.try_into()?;
        for (net, no_tcp) in nets {
            let net: IpNet = net.parse()?;
            let (bits, family) = key(net);
            let bits = bits + u32::from(net.prefix_len());
            let flag = if *no_tcp { route::NO_TCP } else { 0 };
            map.insert(&Key::new(bits, as_key(net.addr())), family | flag, 0)?;
        }
    }
    for (name, used) in [("HOPPERS", FOR_DATA), ("INITIATORS", FOR_INITIATIONS)] {
        let mut map: HashMap<_, Hopper, u16> = ebpf.map_mut(name).ok_or("no map")?.try_into()?;
        for ([local, remote], port) in ENDS {
            let hopper = Hopper {
                remote: as_key(remote),
                local: as_key(local),
                port: port.to_be_bytes(),
                index: Hopper::ANY_SESSION,
                ..Hopper::default()
            };
            map.insert(hopper, used, 0)?;
        }
    }
    Ok(ebpf)
}
