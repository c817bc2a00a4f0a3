//! Flows of UDP that the kernel tracks and that don't go where our rules lead by now.
//!
//! The kernel asks the rules of translation about the first packet of a connection alone. A flow of
//! UDP is a connection to it for as long as packets come. So one that began before its port led
//! anywhere, while the hub started anew perhaps, would never come through, and one whose port is
//! closed would go on for ever. Such entries are removed; the next packet is asked about anew. TCP
//! connections are left alone: they end, and their first packet is sent again.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::ops::RangeInclusive;

use rtnetlink::packet_route::route::RouteType;
use rtnetlink::sys::protocols::NETLINK_NETFILTER;
use rtnetlink::sys::{Socket, SocketAddr as NetlinkAddr};
use tracing::debug;

use crate::os::netlink::{Netlink, route_to};

/// The messages of ctnetlink that are used (`linux/netfilter/nfnetlink_conntrack.h`).
const GET: u16 = 0x0101;
const NEW: u16 = 0x0100;
const DELETE: u16 = 0x0102;
/// Attributes of an entry: its first packet, an answer to that, its number, its zone.
const ORIGINAL: u16 = 1;
const REPLY: u16 = 2;
const ID: u16 = 12;
const ZONE: u16 = 18;
/// Attributes of a packet: its addresses, and its protocol with its ports.
const ADDRESSES: u16 = 1;
const PROTOCOL: u16 = 2;
const V4: [u16; 2] = [1, 2];
const V6: [u16; 2] = [3, 4];
const NUMBER: u16 = 1;
const PORTS: [u16; 2] = [2, 3];
/// A netlink header, and that of netfilter behind it.
const HEADER: usize = 16;
const HEADERS: usize = HEADER + 4;
/// The bits of an attribute's type that say something else.
const TYPE: u16 = 0x3fff;

/// UDP ports of this host that rules lead elsewhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct LedPorts {
    /// The one address that counts; `None` for any.
    pub(super) at: Option<IpAddr>,
    pub(super) ports: RangeInclusive<u16>,
    /// Those among them that other programs have, and keep.
    pub(super) except: Vec<u16>,
    pub(super) to: LedTo,
}

/// Where they lead.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum LedTo {
    /// To one port of this host.
    Own(u16),
    /// To addresses of others, at most one of each family: the first port to this one, and so on.
    Others(Vec<IpAddr>, u16),
}

impl LedPorts {
    /// Whether its rules may have led a flow to this place.
    fn has_led_to(&self, place: SocketAddr) -> bool {
        match &self.to {
            LedTo::Own(port) => place.port() == *port,
            LedTo::Others(addresses, _) => addresses.contains(&place.ip()),
        }
    }
}

/// Removes the flows to ports of `now` that go elsewhere, and those that ports of `before` led away
/// and that no port of `now` leads. Where the kernel tracks nothing, there are none.
pub(super) async fn forget_misled(now: Vec<LedPorts>, before: Vec<LedPorts>) {
    if now.is_empty() && before.is_empty() {
        return;
    }
    // There may be many entries.
    let work = move || forget(&now, &before);
    match tokio::task::spawn_blocking(work).await {
        Ok(Ok(0)) | Err(_) => {}
        Ok(Ok(number)) => debug!("{number} flows of UDP are asked about anew"),
        Ok(Err(error)) => debug!("the table of connections can't be read: {error}"),
    }
}

fn forget(now: &[LedPorts], before: &[LedPorts]) -> io::Result<u32> {
    let mut netlink = Netlink::connect()?;
    // What is only passed on by this host isn't for it.
    let mut known: HashMap<IpAddr, bool> = HashMap::new();
    let mut is_local = |address: IpAddr| {
        let ask = || {
            let route = netlink.route(route_to(address));
            route.is_ok_and(|route| route.header.kind == RouteType::Local)
        };
        *known.entry(address).or_insert_with(ask)
    };
    let mut misled = Vec::new();
    for_each_entry(|entry| {
        if is_misled(entry, now, before) && is_local(entry.to.ip()) {
            misled.push(entry.key());
        }
    })?;
    let socket = connect()?;
    let mut number = 0;
    for key in misled {
        // It may have ended meanwhile.
        number += u32::from(delete(&socket, &key).is_ok());
    }
    Ok(number)
}

/// Whether a flow doesn't go where it should. One that is led to a place that isn't ours is led by
/// a rule of others, and stays.
fn is_misled(entry: &Entry, now: &[LedPorts], before: &[LedPorts]) -> bool {
    let target = |led: &[LedPorts]| led.iter().find_map(|led| target(led, entry.to));
    let is_ours = || {
        now.iter()
            .chain(before)
            .any(|led| led.has_led_to(entry.leads_to))
    };
    match target(now) {
        Some(target) if target.is(entry.leads_to) => false,
        Some(_) => entry.leads_to == entry.to || is_ours(),
        None => match target(before) {
            Some(Target::Place(place)) => entry.leads_to == place,
            // What went to its own port goes on.
            Some(Target::Port(port)) => port != entry.to.port() && port == entry.leads_to.port(),
            None => false,
        },
    }
}

/// Where one port leads.
enum Target {
    /// To a port of this host, at whichever address the kernel takes.
    Port(u16),
    Place(SocketAddr),
}

impl Target {
    fn is(&self, place: SocketAddr) -> bool {
        match self {
            Self::Port(port) => place.port() == *port,
            Self::Place(target) => place == *target,
        }
    }
}

/// Where a datagram goes that was sent to this place.
fn target(led: &LedPorts, to: SocketAddr) -> Option<Target> {
    let is_here = led.at.is_none_or(|at| at == to.ip());
    if !is_here || !led.ports.contains(&to.port()) {
        return None;
    }
    if led.except.contains(&to.port()) {
        return Some(Target::Port(to.port()));
    }
    match &led.to {
        LedTo::Own(port) => Some(Target::Port(*port)),
        LedTo::Others(addresses, first) => {
            let mut addresses = addresses.iter();
            let address = addresses.find(|address| address.is_ipv6() == to.is_ipv6())?;
            let port = first.checked_add(to.port().checked_sub(*led.ports.start())?)?;
            Some(Target::Place(SocketAddr::new(*address, port)))
        }
    }
}

/// A flow of UDP.
struct Entry<'a> {
    /// Where its first packet was sent.
    to: SocketAddr,
    /// Who answers it.
    leads_to: SocketAddr,
    /// What it is known by: attributes as the kernel sent them.
    attributes: Vec<&'a [u8]>,
}

impl Entry<'_> {
    fn key(&self) -> Key {
        Key {
            family: if self.to.is_ipv4() {
                libc::AF_INET as u8
            } else {
                libc::AF_INET6 as u8
            },
            attributes: self.attributes.concat(),
        }
    }
}

/// What to remove.
struct Key {
    family: u8,
    attributes: Vec<u8>,
}

fn connect() -> io::Result<Socket> {
    let mut socket = Socket::new(NETLINK_NETFILTER)?;
    socket.bind_auto()?;
    socket.connect(&NetlinkAddr::new(0, 0))?;
    Ok(socket)
}

fn for_each_entry(mut each: impl FnMut(&Entry<'_>)) -> io::Result<()> {
    let socket = connect()?;
    let flags = (libc::NLM_F_REQUEST | libc::NLM_F_DUMP) as u16;
    // Both families at once.
    socket.send(&message(GET, flags, libc::AF_UNSPEC as u8, &[]), 0)?;
    loop {
        let (datagram, _) = socket.recv_from_full()?;
        if read(&datagram, &mut each)? {
            return Ok(());
        }
    }
}

/// Hands over the flows in a piece of the kernel's answer; whether it was the last one.
fn read(mut piece: &[u8], each: &mut impl FnMut(&Entry<'_>)) -> io::Result<bool> {
    while let Some((kind, body, more)) = next_message(piece) {
        piece = more;
        match i32::from(kind) {
            libc::NLMSG_DONE => return Ok(true),
            libc::NLMSG_ERROR => return outcome(body).map(|()| true),
            _ if kind == NEW => {
                if let Some(entry) = entry(body.get(4..).unwrap_or_default()) {
                    each(&entry);
                }
            }
            _ => {}
        }
    }
    Ok(false)
}

/// The flows in a piece of the kernel's answer: where each was sent, who answers it, and what it is known by.
#[cfg(feature = "fuzzing")]
pub(super) fn flows(piece: &[u8]) -> io::Result<Vec<(SocketAddr, SocketAddr, Vec<u8>)>> {
    let mut found = Vec::new();
    read(piece, &mut |entry| {
        found.push((entry.to, entry.leads_to, entry.attributes.concat()));
    })?;
    Ok(found)
}

fn delete(socket: &Socket, key: &Key) -> io::Result<()> {
    let flags = (libc::NLM_F_REQUEST | libc::NLM_F_ACK) as u16;
    socket.send(&message(DELETE, flags, key.family, &key.attributes), 0)?;
    let (datagram, _) = socket.recv_from_full()?;
    match next_message(&datagram) {
        Some((kind, body, _)) if i32::from(kind) == libc::NLMSG_ERROR => outcome(body),
        _ => Err(io::ErrorKind::InvalidData.into()),
    }
}

/// What a message of the kind `NLMSG_ERROR` says, which may be that all is well.
fn outcome(body: &[u8]) -> io::Result<()> {
    match body
        .first_chunk::<4>()
        .map(|code| i32::from_ne_bytes(*code))
    {
        Some(0) => Ok(()),
        Some(code) => Err(io::Error::from_raw_os_error(code.wrapping_neg())),
        None => Err(io::ErrorKind::InvalidData.into()),
    }
}

fn message(kind: u16, flags: u16, family: u8, attributes: &[u8]) -> Vec<u8> {
    let length = HEADERS + attributes.len();
    let mut bytes = Vec::with_capacity(length);
    bytes.extend((length as u32).to_ne_bytes());
    bytes.extend(kind.to_ne_bytes());
    bytes.extend(flags.to_ne_bytes());
    // Sequence number and sender: one question at a time.
    bytes.extend([0; 8]);
    // Family, version, no resource.
    bytes.extend([family, 0, 0, 0]);
    bytes.extend(attributes);
    bytes
}

/// The kind and the body of the first message, and what follows it.
fn next_message(datagram: &[u8]) -> Option<(u16, &[u8], &[u8])> {
    let [a, b, c, d, low, high, ..] = *datagram.first_chunk::<HEADER>()?;
    let length = u32::from_ne_bytes([a, b, c, d]) as usize;
    let body = datagram.get(HEADER..length)?;
    let more = datagram.get(length.next_multiple_of(4)..);
    Some((
        u16::from_ne_bytes([low, high]),
        body,
        more.unwrap_or_default(),
    ))
}

/// The attributes in a text of them: the type of each, its value, and the whole with its padding.
fn attributes(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8], &[u8])> {
    std::iter::from_fn(move || {
        let [low, high, kind_low, kind_high] = *bytes.first_chunk::<4>()?;
        let length = usize::from(u16::from_ne_bytes([low, high]));
        let value = bytes.get(4..length)?;
        let whole = length.next_multiple_of(4).min(bytes.len());
        let (this, more) = bytes.split_at(whole);
        bytes = more;
        let kind = u16::from_ne_bytes([kind_low, kind_high]) & TYPE;
        Some((kind, value, this))
    })
}

fn attribute(bytes: &[u8], wanted: u16) -> Option<&[u8]> {
    let mut all = attributes(bytes);
    all.find_map(|(kind, value, _)| (kind == wanted).then_some(value))
}

/// A flow of UDP; `None` for anything else.
fn entry(bytes: &[u8]) -> Option<Entry<'_>> {
    let (_, to) = ends(attribute(bytes, ORIGINAL)?)?;
    let (leads_to, _) = ends(attribute(bytes, REPLY)?)?;
    let is_known_by = |kind: &u16| [ORIGINAL, ID, ZONE].contains(kind);
    let attributes = attributes(bytes).filter(|(kind, ..)| is_known_by(kind));
    Some(Entry {
        to,
        leads_to,
        attributes: attributes.map(|(_, _, whole)| whole).collect(),
    })
}

/// Where a datagram is from, and where it goes to.
fn ends(packet: &[u8]) -> Option<(SocketAddr, SocketAddr)> {
    let (addresses, protocol) = (attribute(packet, ADDRESSES)?, attribute(packet, PROTOCOL)?);
    if attribute(protocol, NUMBER)? != [libc::IPPROTO_UDP as u8] {
        return None;
    }
    let end = |at: usize| {
        let v4 = || {
            let bytes: [u8; 4] = attribute(addresses, V4[at])?.try_into().ok()?;
            Some(IpAddr::from(Ipv4Addr::from(bytes)))
        };
        let v6 = || {
            let bytes: [u8; 16] = attribute(addresses, V6[at])?.try_into().ok()?;
            Some(IpAddr::from(Ipv6Addr::from(bytes)))
        };
        let port: [u8; 2] = attribute(protocol, PORTS[at])?.try_into().ok()?;
        Some(SocketAddr::new(v4().or_else(v6)?, u16::from_be_bytes(port)))
    };
    Some((end(0)?, end(1)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attribute_of(kind: u16, value: &[u8]) -> Vec<u8> {
        let mut bytes = ((value.len() + 4) as u16).to_ne_bytes().to_vec();
        bytes.extend(kind.to_ne_bytes());
        bytes.extend(value);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    }

    /// As the kernel sends a packet of an entry: nested attributes are marked so.
    fn packet(kind: u16, protocol: i32, from: SocketAddr, to: SocketAddr) -> Vec<u8> {
        const NESTED: u16 = 0x8000;
        let address = |at: usize, place: SocketAddr| match place.ip() {
            IpAddr::V4(v4) => attribute_of(V4[at], &v4.octets()),
            IpAddr::V6(v6) => attribute_of(V6[at], &v6.octets()),
        };
        let port =
            |at: usize, place: SocketAddr| attribute_of(PORTS[at], &place.port().to_be_bytes());
        let addresses = [address(0, from), address(1, to)].concat();
        let protocol = [
            attribute_of(NUMBER, &[u8::try_from(protocol).unwrap()]),
            port(0, from),
            port(1, to),
        ];
        let inside = [
            attribute_of(ADDRESSES | NESTED, &addresses),
            attribute_of(PROTOCOL | NESTED, &protocol.concat()),
        ];
        attribute_of(kind | NESTED, &inside.concat())
    }

    /// A flow to the second place that the third one answers.
    fn flow(protocol: i32, [from, to, by]: [&str; 3]) -> Vec<u8> {
        let [from, to, by] = [from, to, by].map(|place| place.parse().unwrap());
        [
            packet(ORIGINAL, protocol, from, to),
            packet(REPLY, protocol, by, from),
            attribute_of(3, &[0; 4]),
            attribute_of(ID, &[1, 2, 3, 4]),
        ]
        .concat()
    }

    fn led(ports: RangeInclusive<u16>, first: u16) -> LedPorts {
        let addresses = ["10.0.0.2".parse().unwrap(), "fd00::2".parse().unwrap()];
        LedPorts {
            at: None,
            ports,
            except: Vec::new(),
            to: LedTo::Others(addresses.to_vec(), first),
        }
    }

    const SENDER: &str = "198.51.100.7:7";

    #[test]
    fn a_flow_is_misled_that_goes_elsewhere_than_its_port() {
        let redirected = LedPorts {
            except: vec![8005],
            to: LedTo::Own(9000),
            ..led(8000..=8010, 0)
        };
        let at = LedPorts {
            at: Some("192.0.2.9".parse().unwrap()),
            ..led(4000..=4000, 4000)
        };
        let now = [led(5000..=5003, 6000), redirected, at];
        let no_more = LedPorts {
            except: vec![3005],
            to: LedTo::Own(9000),
            ..led(3000..=3010, 0)
        };
        let before = [led(7000..=7000, 7000), no_more];
        for (to, by, expected) in [
            // Not translated, and translated as it should be.
            ("192.0.2.1:5001", "192.0.2.1:5001", true),
            ("192.0.2.1:5001", "10.0.0.2:6001", false),
            ("192.0.2.1:5001", "10.0.0.2:6002", true),
            // By rules of others.
            ("192.0.2.1:5001", "10.66.0.2:5001", false),
            ("192.0.2.1:8001", "10.66.0.2:8001", false),
            ("192.0.2.1:8005", "10.66.0.2:8005", false),
            ("192.0.2.1:8001", "192.0.2.1:53", false),
            ("192.0.2.1:5004", "192.0.2.1:5004", false),
            // By a port that isn't forwarded any more, and beside it.
            ("192.0.2.1:7000", "10.0.0.2:7000", true),
            ("192.0.2.1:7000", "192.0.2.1:7000", false),
            ("192.0.2.1:7000", "10.9.9.9:7000", false),
            // To a port of this host, at another of its addresses perhaps.
            ("192.0.2.1:8001", "192.0.2.1:8001", true),
            ("192.0.2.1:8001", "192.0.2.8:9000", false),
            ("192.0.2.1:8005", "192.0.2.1:8005", false),
            ("192.0.2.1:8005", "192.0.2.1:9000", true),
            // By a port that leads to ours no more, and one that never did.
            ("192.0.2.1:3001", "192.0.2.1:9000", true),
            ("192.0.2.1:3001", "192.0.2.1:3001", false),
            ("192.0.2.1:3005", "192.0.2.1:3005", false),
            // At one address alone.
            ("192.0.2.9:4000", "192.0.2.9:4000", true),
            ("192.0.2.1:4000", "192.0.2.1:4000", false),
        ] {
            let bytes = flow(libc::IPPROTO_UDP, [SENDER, to, by]);
            let entry = entry(&bytes).unwrap();
            assert_eq!(is_misled(&entry, &now, &before), expected, "{to} by {by}");
        }
        let sender = "[2001:db8::7]:7";
        let bytes = flow(
            libc::IPPROTO_UDP,
            [sender, "[2001:db8::1]:5000", "[2001:db8::1]:5000"],
        );
        assert!(is_misled(&entry(&bytes).unwrap(), &now, &before));
    }

    #[test]
    fn an_entry_is_known_by_its_first_packet_and_its_number() {
        let bytes = flow(
            libc::IPPROTO_UDP,
            [SENDER, "192.0.2.1:5001", "192.0.2.1:5001"],
        );
        let key = entry(&bytes).unwrap().key();
        let kinds: Vec<u16> = attributes(&key.attributes).map(|(kind, ..)| kind).collect();
        assert_eq!(kinds, [ORIGINAL, ID]);
        assert_eq!(key.family, libc::AF_INET as u8);
        let tcp = flow(
            libc::IPPROTO_TCP,
            [SENDER, "192.0.2.1:5001", "192.0.2.1:5001"],
        );
        assert!(entry(&tcp).is_none());
    }

    #[test]
    fn nonsense_is_no_entry_and_ends_a_datagram() {
        for nonsense in [&[0_u8; 3][..], &[0; 40], &[0xff; 40], &[4, 0, 1, 0]] {
            assert!(entry(nonsense).is_none());
            assert!(next_message(nonsense).is_none_or(|(_, body, _)| body.is_empty()));
        }
        let bytes = flow(libc::IPPROTO_UDP, [SENDER, "192.0.2.1:1", "192.0.2.1:1"]);
        for length in 0..bytes.len() {
            let _ = entry(&bytes[..length]);
        }
    }
}
