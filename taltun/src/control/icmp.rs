//! What routers and hosts say about datagrams that didn't arrive: that nobody listens at the
//! port, or that there is no way.
//!
//! A raw socket hears them, beside the UDP sockets: asked by `IP_RECVERR`, the kernel would
//! fail their next datagram, to whomever it goes, and wake a worker for each message. Anybody
//! can make such a message up, so it is believed no further than a line of the log, and only
//! as many as a small buffer holds are looked at each second.

// What comes from outside must not be able to make anything here panic.
#![cfg_attr(
    not(test),
    warn(clippy::arithmetic_side_effects, clippy::indexing_slicing)
)]

use std::fs::File;
use std::io::{self, Read};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use taltun_common::headers::protocol::UDP;
use taltun_common::headers::{IPV4_LEN, Ipv4, Ipv6};
use tracing::debug;
use zerocopy::FromBytes;

use crate::os::sockets::{self, V4_UNREACHABLE, V6_UNREACHABLE};
use crate::verbs::{self, Verb};

/// Messages looked at in a second.
const MOST: usize = 64;

/// A datagram that didn't arrive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Undelivered {
    /// Where it was to go.
    pub(super) to: SocketAddr,
    /// The port that it came from.
    pub(super) from_port: u16,
    /// Why it didn't arrive; `None` for a port that nobody has.
    pub(super) why: Option<&'static str>,
}

/// Listens to such messages.
#[derive(Debug, Default)]
pub(super) struct Icmp {
    v4: Option<File>,
    v6: Option<File>,
}

impl Icmp {
    /// Without the right to hear them (`CAP_NET_RAW`) there are none.
    pub(super) fn listen() -> Self {
        let note = |error: &io::Error| debug!("ICMP messages go unnoticed: {error}");
        let hear = |v6| {
            let by_ourselves = || sockets::hear_unreachable(v6);
            verbs::open_one(Verb::Unreachable { v6 }, by_ourselves).map(File::from)
        };
        let (v4, v6) = (hear(false), hear(true));
        Self {
            v4: v4.inspect_err(note).ok(),
            v6: v6.inspect_err(note).ok(),
        }
    }

    /// What came since the last time.
    pub(super) fn take(&mut self) -> Vec<Undelivered> {
        let mut all = Vec::new();
        let mut buffer = [0; 2048];
        let sockets = [
            (&mut self.v4, parse_v4 as fn(&[u8]) -> Option<Undelivered>),
            (&mut self.v6, parse_v6),
        ];
        for (socket, parse) in sockets {
            let Some(socket) = socket else { continue };
            for _ in 0..MOST {
                match socket.read(&mut buffer) {
                    Ok(len) => all.extend(buffer.get(..len).and_then(parse)),
                    Err(_) => break,
                }
            }
        }
        all
    }
}

/// A message with its IP header, as a raw socket gets it.
pub(super) fn parse_v4(packet: &[u8]) -> Option<Undelivered> {
    let (_, message) = v4(packet)?;
    if *message.first()? != V4_UNREACHABLE {
        return None;
    }
    let why = match *message.get(1)? {
        3 => None,
        0 | 6 | 11 => Some("network unreachable"),
        9 | 10 | 13 => Some("administratively prohibited"),
        4 => return None, // too large: the way to find out how large it may be
        _ => Some("host unreachable"),
    };
    let (inner, udp) = v4(message.get(8..)?)?;
    // Only the first fragment has ports.
    if inner.protocol != UDP || inner.is_later_fragment() {
        return None;
    }
    undelivered(Ipv4Addr::from(inner.destination).into(), udp, why)
}

/// An IPv4 header, and what is behind it and its options.
fn v4(packet: &[u8]) -> Option<(&Ipv4, &[u8])> {
    let (header, _) = Ipv4::ref_from_prefix(packet).ok()?;
    let is_one = header.version_and_length >> 4 == 4 && header.header_len() >= IPV4_LEN;
    let rest = packet.get(header.header_len()..)?;
    is_one.then_some((header, rest))
}

/// A message without its IP header, as a raw socket gets it.
pub(super) fn parse_v6(message: &[u8]) -> Option<Undelivered> {
    if *message.first()? != V6_UNREACHABLE {
        return None;
    }
    let why = match *message.get(1)? {
        4 => None,
        0 => Some("no route"),
        1 | 5 | 6 => Some("administratively prohibited"),
        _ => Some("address unreachable"),
    };
    let (inner, udp) = Ipv6::ref_from_prefix(message.get(8..)?).ok()?;
    if inner.version() != 6 || inner.next_header != UDP {
        return None;
    }
    undelivered(Ipv6Addr::from(inner.destination).into(), udp, why)
}

fn undelivered(to: IpAddr, udp: &[u8], why: Option<&'static str>) -> Option<Undelivered> {
    let port = |at: usize| {
        let bytes = udp.get(at..)?.first_chunk()?;
        Some(u16::from_be_bytes(*bytes))
    };
    Some(Undelivered {
        to: SocketAddr::new(to.to_canonical(), port(2)?),
        from_port: port(0)?,
        why,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn v4_message(code: u8) -> Vec<u8> {
        let mut packet = vec![0x45];
        packet.resize(20, 0);
        packet.extend([V4_UNREACHABLE, code, 0, 0, 0, 0, 0, 0]);
        let mut inner = vec![0x46];
        inner.resize(24, 0);
        inner[9] = UDP;
        inner[16..20].copy_from_slice(&[192, 0, 2, 1]);
        packet.extend(inner);
        packet.extend([0x23, 0x28, 0x23, 0x29, 0, 8, 0, 0]);
        packet
    }

    fn v6_message(code: u8) -> Vec<u8> {
        let mut message = vec![V6_UNREACHABLE, code, 0, 0, 0, 0, 0, 0];
        let mut inner = vec![0x60];
        inner.resize(40, 0);
        inner[6] = UDP;
        inner[24..40].copy_from_slice(&"2001:db8::1".parse::<Ipv6Addr>().unwrap().octets());
        message.extend(inner);
        message.extend([0x23, 0x28, 0x23, 0x29, 0, 8, 0, 0]);
        message
    }

    #[test]
    fn a_closed_port_is_told_from_a_missing_way() {
        let closed = parse_v4(&v4_message(3)).unwrap();
        assert_eq!(closed.to, "192.0.2.1:9001".parse().unwrap());
        assert_eq!((closed.from_port, closed.why), (9000, None));
        assert_eq!(
            parse_v4(&v4_message(1)).unwrap().why,
            Some("host unreachable")
        );
        assert_eq!(parse_v4(&v4_message(4)), None);
        let closed = parse_v6(&v6_message(4)).unwrap();
        assert_eq!(closed.to, "[2001:db8::1]:9001".parse().unwrap());
        assert_eq!((closed.from_port, closed.why), (9000, None));
        assert_eq!(parse_v6(&v6_message(0)).unwrap().why, Some("no route"));
    }

    #[test]
    fn what_has_no_ports_or_no_header_is_no_datagram() {
        let changed = |at: usize, byte: u8| {
            let mut message = v4_message(3);
            message[at] = byte;
            parse_v4(&message)
        };
        let inner = 28;
        assert!(changed(inner + 8, 1).is_some());
        // A later fragment, a header shorter than its own fields, another version.
        assert_eq!(changed(inner + 7, 1), None);
        assert_eq!(changed(inner, 0x44), None);
        assert_eq!(changed(inner, 0x65), None);
        assert_eq!(changed(0, 0x42), None);
        let mut message = v6_message(4);
        message[8] = 0x40;
        assert_eq!(parse_v6(&message), None);
    }

    #[test]
    fn no_message_is_too_short() {
        for (parse, message) in [
            (parse_v4 as fn(&[u8]) -> Option<Undelivered>, v4_message(3)),
            (parse_v6, v6_message(4)),
        ] {
            // The lengths of the ports' own header are all that is needed.
            for len in 0..message.len() - 4 {
                assert_eq!(parse(&message[..len]), None, "{len}");
            }
        }
    }
}
