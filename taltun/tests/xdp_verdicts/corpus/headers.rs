//! What isn't a plain datagram to our port, and who is denied: what headers alone decide.

use super::Expect::{Pass, Untouched};
use super::{Case, DENIED, cut, with};
use crate::frames::{Ends, IP, PORT, UDP_V4, UDP_V6, V4, V6, handshake, message, udp};

/// Frames that end too early.
const RUNTS: [(&str, Ends, usize); 5] = [
    ("runt_ethernet_only", V4, IP),
    ("runt_in_ip_header", V4, IP + 19),
    ("runt_in_udp_header", V4, UDP_V4 + 7),
    ("runt_in_v6_header", V6, IP + 39),
    ("runt_in_v6_udp_header", V6, UDP_V6 + 7),
];

/// Tags in front of the type.
const TAGS: [(&str, Ends, &[u8]); 4] = [
    ("vlan", V4, &[0x81, 0, 0, 5]),
    ("vlan_v6", V6, &[0x81, 0, 0, 5]),
    ("qinq", V4, &[0x88, 0xa8, 0, 7, 0x81, 0, 0, 5]),
    ("qinq_old", V4, &[0x91, 0, 0, 7, 0x81, 0, 0, 5]),
];

/// IPv6 headers between ours and UDP's: the type, and what there is.
const EXTENSIONS: [(&str, u8, [u8; 8]); 6] = [
    ("ipv6_hop_by_hop", 0, [17, 0, 1, 4, 0, 0, 0, 0]),
    ("ipv6_routing", 43, [17, 0, 4, 0, 0, 0, 0, 0]),
    ("ipv6_destination_options", 60, [17, 0, 1, 4, 0, 0, 0, 0]),
    ("ipv6_first_fragment", 44, [17, 0, 0, 1, 0, 0, 0, 1]),
    ("ipv6_later_fragment", 44, [17, 0, 5, 0xa9, 0, 0, 0, 1]),
    ("ipv6_whole_fragment", 44, [17, 0, 0, 0, 0, 0, 0, 1]),
];

/// Some bytes of a header are others.
const PATCHES: [(&str, Ends, usize, &[u8]); 17] = [
    ("arp", V4, 12, &[0x08, 0x06]),
    ("ipv4_ihl_0", V4, IP, &[0x40]),
    ("ipv4_ihl_4", V4, IP, &[0x44]),
    ("ipv4_ihl_15", V4, IP, &[0x4f]),
    ("ipv4_version_6", V4, IP, &[0x65]),
    ("ipv4_first_fragment", V4, IP + 6, &[0x20, 0]),
    ("ipv4_later_fragment", V4, IP + 6, &[0x20, 185]),
    ("ipv4_last_fragment", V4, IP + 6, &[0, 185]),
    ("ipv4_total_length_below_header", V4, IP + 2, &[0, 19]),
    ("ipv6_version_4", V6, IP, &[0x45]),
    ("ipv6_no_next_header", V6, IP + 6, &[59]),
    ("tcp", V4, IP + 9, &[6]),
    ("tcp_v6", V6, IP + 6, &[6]),
    ("icmp", V4, IP + 9, &[1]),
    ("other_port", V4, UDP_V4 + 2, &(PORT + 1).to_be_bytes()),
    ("from_our_port_only", V4, UDP_V4, &OUR_PORT_TO_DNS),
    (
        "forwarded_to_somebody_else",
        V4,
        IP + 16,
        &[203, 0, 113, 50],
    ),
];
const OUR_PORT_TO_DNS: [u8; 4] = [PORT.to_be_bytes()[0], PORT.to_be_bytes()[1], 0, 53];

/// Around the deny list of `loaded`.
const SOURCES: [(&str, Ends, &str, super::Expect); 4] = [
    ("denied_v4", V4, "203.0.113.77", DENIED),
    ("next_to_denied_v4", V4, "203.0.114.0", Pass),
    ("denied_v6", V6, "2001:db8:bad::1", DENIED),
    ("next_to_denied_v6", V6, "2001:db8:bae::1", Pass),
];

pub fn cases() -> Vec<Case> {
    let mut cases = untouched();
    cases.extend(SOURCES.map(|(name, ends, source, expect)| {
        let ends = from(ends, source);
        Case::new(name, ends, udp(ends, &handshake(1, 0)), expect)
    }));
    let denied = from(V4, SOURCES[0].2);
    // Denied before lengths and shape are looked at.
    let liar = with(udp(denied, &message(9, 64, 0)), UDP_V4 + 4, &[0, 73]);
    cases.push(Case::new("denied_liar", denied, liar, DENIED));
    // Denied on our port alone.
    let other = with(udp(denied, &message(1, 148, 0)), UDP_V4 + 2, &[0, 53]);
    cases.push(Case::new(
        "denied_to_another_port",
        denied,
        other,
        Untouched,
    ));
    cases
}

/// Each would be dropped if it were looked into, which shows that it isn't.
fn untouched() -> Vec<Case> {
    let bad = |ends| udp(ends, &message(9, 64, 0));
    let case = |name, ends, frame| Case::new(name, ends, frame, Untouched);
    let runts = RUNTS.map(|(name, ends, length)| case(name, ends, cut(bad(ends), length)));
    let tagged = TAGS.map(|(name, ends, tags)| case(name, ends, between(bad(ends), 12, tags)));
    let extended = EXTENSIONS.map(|(name, kind, header)| {
        let frame = with(bad(V6), IP + 6, &[kind]);
        case(name, V6, between(frame, UDP_V6, &header))
    });
    let patched =
        PATCHES.map(|(name, ends, at, bytes)| case(name, ends, with(bad(ends), at, bytes)));
    let options = between(with(bad(V4), IP, &[0x46]), UDP_V4, &[1, 1, 1, 1]);
    let options = [case("ipv4_options", V4, options)];
    let all = runts.into_iter().chain(tagged).chain(extended);
    all.chain(patched).chain(options).collect()
}

fn from(ends: Ends, source: &str) -> Ends {
    let source = source.parse().expect("an address");
    Ends { source, ..ends }
}

/// The frame with some bytes more.
fn between(mut frame: Vec<u8>, at: usize, bytes: &[u8]) -> Vec<u8> {
    frame.splice(at..at, bytes.iter().copied());
    frame
}
