//! The kernel's answers and news over netlink, to each of those who read them: whatever comes, messages
//! are read as long as they are understood, each where the headers before it say, and nothing is read
//! twice or without end. What is read of addresses, flows and routes is what a naive reader finds.

use std::net::{IpAddr, SocketAddr};

use taltun::accel::fuzzing::netlink;
use taltun::system::fuzzing as system;
use taltun_udpgw::fuzzing as udpgw;

/// Types of messages: an error, the end of several, a new address, a new route, an entry of the table of
/// connections (`linux/netlink.h`, `rtnetlink.h`, `nfnetlink_conntrack.h`).
const ERROR: u16 = 2;
const DONE: u16 = 3;
const NEW_ADDRESS: u16 = 20;
const NEW_ROUTE: u16 = 24;
const NEW_FLOW: u16 = 0x100;

/// Type and body.
type Message<'m> = (u16, &'m [u8]);
/// Type and value, and all of it with its padding.
type Attribute<'a> = (u16, &'a [u8], &'a [u8]);

fn number(bytes: &[u8], at: usize, size: usize) -> u32 {
    let bytes = bytes[at..at + size].iter().rev();
    bytes.fold(0, |sum, byte| sum << 8 | u32::from(*byte))
}

/// Type and body of each message that is whole.
fn whole_messages(mut datagram: &[u8]) -> Vec<Message<'_>> {
    let mut all = Vec::new();
    while datagram.len() >= 16 {
        let length = number(datagram, 0, 4) as usize;
        if !(16..=datagram.len()).contains(&length) {
            break;
        }
        all.push((number(datagram, 4, 2) as u16, &datagram[16..length]));
        datagram = datagram.get(length.next_multiple_of(4)..).unwrap_or(&[]);
    }
    all
}

/// Type and value of each whole attribute, and all of it with its padding; and whether nothing else follows.
fn attributes(mut bytes: &[u8]) -> (Vec<Attribute<'_>>, bool) {
    let mut all = Vec::new();
    while bytes.len() >= 4 {
        let length = number(bytes, 0, 2) as usize;
        if !(4..=bytes.len()).contains(&length) {
            return (all, false);
        }
        let padded = length.next_multiple_of(4).min(bytes.len());
        let kind = number(bytes, 2, 2) as u16;
        all.push((kind, &bytes[4..length], &bytes[..padded]));
        bytes = &bytes[padded..];
    }
    (all, true)
}

fn ip(bytes: &[u8]) -> Option<IpAddr> {
    let v4 = <[u8; 4]>::try_from(bytes).map(IpAddr::from);
    v4.or_else(|_| <[u8; 16]>::try_from(bytes).map(IpAddr::from))
        .ok()
}

/// The messages up to one that ends them: `Err` where that is an error, else whether there is one.
fn until_end<'m>(
    messages: &'m [Message<'m>],
    is_error: impl Fn(&[u8]) -> bool,
) -> (&'m [Message<'m>], Result<bool, ()>) {
    let is_end = |(kind, _): &Message<'_>| [ERROR, DONE].contains(kind);
    let Some(end) = messages.iter().position(is_end) else {
        return (messages, Ok(false));
    };
    let (kind, body) = messages[end];
    let outcome = if kind == ERROR && is_error(body) {
        Err(())
    } else {
        Ok(true)
    };
    (&messages[..end], outcome)
}

pub(crate) fn run(datagram: &[u8]) {
    links_addresses_and_routes(datagram);
    let whole = whole_messages(datagram);
    news(datagram, &whole);
    own_addresses(datagram, &whole);
    flows(datagram, &whole);
    foreign(datagram);
    way(datagram);
}

fn links_addresses_and_routes(datagram: &[u8]) {
    let read = netlink(datagram);
    let mut at = 0;
    for (nth, message) in read.iter().enumerate() {
        assert!(at < datagram.len(), "a message behind the end");
        let Some(message) = message else {
            assert_eq!(
                nth + 1,
                read.len(),
                "nothing is read behind what isn't understood"
            );
            return;
        };
        let header = (
            number(datagram, at, 4),
            number(datagram, at + 4, 2) as u16,
            number(datagram, at + 6, 2) as u16,
            number(datagram, at + 8, 4),
            number(datagram, at + 12, 4),
        );
        assert_eq!(message.header, header);
        let length = header.0 as usize;
        assert!(
            (16..=datagram.len() - at).contains(&length),
            "{length} bytes"
        );
        // New links, addresses and routes are looked at.
        let is_new = matches!(header.1, 16 | 20 | 24);
        assert_eq!(message.is_looked_at, is_new);
        at += length.next_multiple_of(4);
    }
    assert!(at >= datagram.len(), "bytes are left");
}

/// Of news only the types are read, also of a last message that was cut.
fn news(datagram: &[u8], whole: &[Message<'_>]) {
    let kinds = system::kinds(datagram);
    assert!(kinds.len() <= datagram.len() / 16);
    let first: Vec<u16> = whole.iter().map(|(kind, _)| *kind).collect();
    assert!(kinds.starts_with(&first), "{kinds:?}");
}

/// Our end of a link where it has two, else the address; of the last of each.
fn own_addresses(datagram: &[u8], whole: &[Message<'_>]) {
    let address = |body: &[u8]| {
        let (all, is_right) = attributes(body.get(8..)?);
        let mut found = None;
        for (kind, value, _) in all {
            if kind == 2 || kind == 1 && found.is_none() {
                found = ip(value);
            }
        }
        found.filter(|_| is_right)
    };
    let (before, outcome) = until_end(whole, |_| true);
    let expected: Vec<IpAddr> = before
        .iter()
        .filter(|(kind, _)| *kind == NEW_ADDRESS)
        .filter_map(|(_, body)| address(body))
        .collect();
    let found = udpgw::own_addresses(datagram).map_err(drop);
    assert_eq!(found, outcome.map(|is_over| (expected, is_over)));
}

/// Flows of UDP, and what they are known by.
fn flows(datagram: &[u8], whole: &[Message<'_>]) {
    // An error of zero says that all is well.
    let is_error = |body: &[u8]| body.len() < 4 || body[..4] != [0; 4];
    let (before, outcome) = until_end(whole, is_error);
    let flow = |body: &[u8]| {
        let all = attributes(body.get(4..)?).0;
        let (_, to) = ends(inside(&all, 1)?)?;
        let (by, _) = ends(inside(&all, 2)?)?;
        let known_by = all
            .iter()
            .filter(|(kind, ..)| [1, 12, 18].contains(&(kind % 0x4000)))
            .flat_map(|(.., whole)| whole.to_vec());
        Some((to, by, known_by.collect()))
    };
    let expected: Vec<system::Flow> = before
        .iter()
        .filter(|(kind, _)| *kind == NEW_FLOW)
        .filter_map(|(_, body)| flow(body))
        .collect();
    let found = system::flows(datagram).map_err(drop);
    assert_eq!(found, outcome.map(|_| expected));
}

/// The first attribute of this type, without the bits that say what is in it.
fn inside<'a>(all: &[Attribute<'a>], wanted: u16) -> Option<&'a [u8]> {
    let found = all.iter().find(|(kind, ..)| kind % 0x4000 == wanted);
    found.map(|(_, value, _)| *value)
}

/// Where a packet of UDP is from, and where it goes to.
fn ends(packet: &[u8]) -> Option<(SocketAddr, SocketAddr)> {
    let packet = attributes(packet).0;
    let (addresses, protocol) = (
        attributes(inside(&packet, 1)?).0,
        attributes(inside(&packet, 2)?).0,
    );
    (inside(&protocol, 1)? == [17]).then_some(())?;
    let end = |v4: u16, v6: u16, port: u16| {
        let of_length = |kind, length| {
            let bytes = inside(&addresses, kind).filter(|bytes| bytes.len() == length);
            bytes.and_then(ip)
        };
        let port: [u8; 2] = inside(&protocol, port)?.try_into().ok()?;
        let ip = of_length(v4, 4).or_else(|| of_length(v6, 16))?;
        Some(SocketAddr::new(ip, u16::from_be_bytes(port)))
    };
    Some((end(1, 3, 2)?, end(2, 4, 3)?))
}

/// Networks of others: never everything, no more than there are messages, and those of the first reader's
/// messages alone.
fn foreign(datagram: &[u8]) {
    let Ok(routes) = system::routes(datagram, 7) else {
        return;
    };
    let new = netlink(datagram)
        .into_iter()
        .flatten()
        .filter(|message| message.header.1 == NEW_ROUTE)
        .count();
    assert!(routes.len() <= new, "{routes:?}");
    for (net, ..) in routes {
        assert_ne!(net.prefix_len(), 0);
    }
}

/// Whether a destination is led to one host, by the first message that answers.
fn way(datagram: &[u8]) {
    let asked = 7;
    let answer = udpgw::leads_away(datagram, asked);
    let is_answer = datagram.len() >= 12 && number(datagram, 8, 4) == asked;
    let expected = is_answer.then(|| number(datagram, 4, 2) as u16);
    let expected = match expected {
        Some(NEW_ROUTE) => datagram.get(23).map(|kind| Ok(*kind == 1)),
        // No route, or one that refuses: ENETUNREACH, EHOSTUNREACH, EACCES, EINVAL, EAGAIN.
        Some(ERROR) => datagram.get(16..20).map(|_| {
            let code = number(datagram, 16, 4).wrapping_neg();
            let is_none = [101, 113, 13, 22, 11].contains(&code);
            is_none.then_some(true).ok_or(())
        }),
        _ => None,
    };
    assert_eq!(answer.map(|it| it.map_err(drop)), expected);
}
