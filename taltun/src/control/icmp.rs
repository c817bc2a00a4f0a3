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
use tracing::debug;

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
fn parse_v4(packet: &[u8]) -> Option<Undelivered> {
    let message = packet.get(v4_header_len(packet)?..)?;
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
    let inner = message.get(8..)?;
    if *inner.get(9)? != UDP {
        return None;
    }
    let to: [u8; 4] = inner.get(16..20)?.try_into().ok()?;
    let udp = inner.get(v4_header_len(inner)?..)?;
    undelivered(Ipv4Addr::from(to).into(), udp, why)
}

fn v4_header_len(packet: &[u8]) -> Option<usize> {
    Some(usize::from(packet.first()? & 0x0f) * 4)
}

/// A message without its IP header, as a raw socket gets it.
fn parse_v6(message: &[u8]) -> Option<Undelivered> {
    if *message.first()? != V6_UNREACHABLE {
        return None;
    }
    let why = match *message.get(1)? {
        4 => None,
        0 => Some("no route"),
        1 | 5 | 6 => Some("administratively prohibited"),
        _ => Some("address unreachable"),
    };
    let inner = message.get(8..)?;
    if *inner.get(6)? != UDP {
        return None;
    }
    let to: [u8; 16] = inner.get(24..40)?.try_into().ok()?;
    undelivered(Ipv6Addr::from(to).into(), inner.get(40..)?, why)
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

    fn v4(code: u8) -> Vec<u8> {
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

    fn v6(code: u8) -> Vec<u8> {
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
        let closed = parse_v4(&v4(3)).unwrap();
        assert_eq!(closed.to, "192.0.2.1:9001".parse().unwrap());
        assert_eq!((closed.from_port, closed.why), (9000, None));
        assert_eq!(parse_v4(&v4(1)).unwrap().why, Some("host unreachable"));
        assert_eq!(parse_v4(&v4(4)), None);
        let closed = parse_v6(&v6(4)).unwrap();
        assert_eq!(closed.to, "[2001:db8::1]:9001".parse().unwrap());
        assert_eq!((closed.from_port, closed.why), (9000, None));
        assert_eq!(parse_v6(&v6(0)).unwrap().why, Some("no route"));
    }

    #[test]
    fn no_message_is_too_short() {
        for (parse, message) in [
            (parse_v4 as fn(&[u8]) -> Option<Undelivered>, v4(3)),
            (parse_v6, v6(4)),
        ] {
            // The lengths of the ports' own header are all that is needed.
            for len in 0..message.len() - 4 {
                assert_eq!(parse(&message[..len]), None, "{len}");
            }
        }
    }
}
