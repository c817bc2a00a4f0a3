//! The ports that sockets of this host have.
//!
//! Of UDP only those that take datagrams from anybody. A connected socket hears one other end
//! alone, and what that one sends belongs to a connection that exists.

use std::collections::BTreeSet;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::ops::RangeInclusive;

use crate::config::ForwardProtocol;

/// How a TCP socket that listens is listed.
const LISTENS: &str = "0A";

/// The ports of `range` that a socket in the network namespace of the calling thread has, in order.
/// `at` is the one address that matters; without it all do, but those that nobody reaches from
/// outside.
pub fn udp_ports(range: RangeInclusive<u16>, at: Option<IpAddr>) -> BTreeSet<u16> {
    let sockets = listening_places(ForwardProtocol::Udp).into_iter();
    let heard = sockets.filter(|place| hears(place.ip(), at));
    let ports = heard.map(|place| place.port());
    ports.filter(|port| range.contains(port)).collect()
}

/// Where sockets in the network namespace of the calling thread wait for anybody.
pub fn listening_places(protocol: ForwardProtocol) -> Vec<SocketAddr> {
    // A kernel without IPv6 has no second list.
    let lists = match protocol {
        ForwardProtocol::Udp => ["/proc/thread-self/net/udp", "/proc/thread-self/net/udp6"],
        ForwardProtocol::Tcp => ["/proc/thread-self/net/tcp", "/proc/thread-self/net/tcp6"],
    };
    let text: String = lists
        .iter()
        .filter_map(|list| fs::read_to_string(list).ok())
        .collect();
    let lines = text.lines();
    let lines = lines.filter(|line| protocol == ForwardProtocol::Udp || listens(line));
    lines.filter_map(socket).collect()
}

/// Whether a line of a list is a TCP socket that listens.
fn listens(line: &str) -> bool {
    line.split_whitespace().nth(3) == Some(LISTENS)
}

/// Whether a socket at this address gets what is sent to `at`.
fn hears(address: IpAddr, at: Option<IpAddr>) -> bool {
    // One for IPv6 may hear IPv4 as well.
    let hears_all = address.is_unspecified();
    hears_all
        || match at {
            None => !address.is_loopback(),
            Some(at) => address == at.to_canonical(),
        }
}

/// Address and port of an unconnected socket in a line of such a list:
/// `  37: 0100007F:14E9 00000000:0000 07 …`.
fn socket(line: &str) -> Option<SocketAddr> {
    let mut words = line.split_whitespace().skip(1);
    let (address, port) = words.next()?.rsplit_once(':')?;
    let (_, far_port) = words.next()?.rsplit_once(':')?;
    if u16::from_str_radix(far_port, 16).ok()? != 0 {
        return None;
    }
    Some(SocketAddr::new(
        ip(address)?,
        u16::from_str_radix(port, 16).ok()?,
    ))
}

/// An address as the kernel lists it: words of four bytes, each as a number of this machine.
fn ip(hex: &str) -> Option<IpAddr> {
    let word = |at: usize| {
        let digits = hex.get(at..at + 8)?;
        Some(u32::from_str_radix(digits, 16).ok()?.to_ne_bytes())
    };
    let address = match hex.len() {
        8 => IpAddr::from(Ipv4Addr::from(word(0)?)),
        32 => {
            let words = [word(0)?, word(8)?, word(16)?, word(24)?];
            let bytes: [u8; 16] = words.concat().try_into().ok()?;
            IpAddr::from(Ipv6Addr::from(bytes))
        }
        _ => return None,
    };
    Some(address.to_canonical())
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream, UdpSocket};

    use super::*;

    #[test]
    fn a_socket_of_either_family_has_its_port() {
        for address in ["0.0.0.0:0", "[::]:0"] {
            let Ok(socket) = UdpSocket::bind(address) else {
                continue;
            };
            let port = socket.local_addr().unwrap().port();
            let at = Some("192.0.2.1".parse().unwrap());
            assert_eq!(udp_ports(port..=port, None), BTreeSet::from([port]));
            assert_eq!(udp_ports(port..=port, at), BTreeSet::from([port]));
            drop(socket);
            assert!(udp_ports(port..=port, None).is_empty());
        }
    }

    #[test]
    fn one_that_nobody_reaches_there_has_no_port() {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let port = socket.local_addr().unwrap().port();
        let at = |at: &str| udp_ports(port..=port, Some(at.parse().unwrap()));
        assert!(udp_ports(port..=port, None).is_empty());
        assert!(at("192.0.2.1").is_empty());
        assert_eq!(at("127.0.0.1"), BTreeSet::from([port]));
        let connected = UdpSocket::bind("0.0.0.0:0").unwrap();
        connected.connect(("127.0.0.1", 9)).unwrap();
        let port = connected.local_addr().unwrap().port();
        assert!(udp_ports(port..=port, None).is_empty());
    }

    #[test]
    fn a_tcp_socket_counts_while_it_listens() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let at = listener.local_addr().unwrap();
        let is_there = |at| listening_places(ForwardProtocol::Tcp).contains(&at);
        assert!(is_there(at));
        let client = TcpStream::connect(at).unwrap();
        assert!(!is_there(client.local_addr().unwrap()));
        drop(listener);
        assert!(!is_there(at));
    }

    #[test]
    fn a_line_has_an_address_and_a_port() {
        assert_eq!(socket("  sl  local_address rem_address   st"), None);
        let line = |local: &str, far: &str| socket(&format!("  37: {local} {far} 07 0:0"));
        let all = "00000000000000000000000000000000:0000";
        assert_eq!(
            line(&hex(&[127, 0, 0, 1], "14E9"), "00000000:0000"),
            Some(([127, 0, 0, 1], 5353).into())
        );
        let mapped = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 255, 255, 192, 0, 2, 1];
        assert_eq!(
            line(&hex(&mapped, "0035"), all),
            Some(([192, 0, 2, 1], 53).into())
        );
        let v6: Ipv6Addr = "2001:db8::9".parse().unwrap();
        assert_eq!(line(&hex(&v6.octets(), "0035"), all), Some((v6, 53).into()));
        assert_eq!(line("00000000:0035", "0100007F:0009"), None);
        assert_eq!(line("0000:0035", "00000000:0000"), None);
    }

    /// As the kernel of this machine lists it.
    fn hex(bytes: &[u8], port: &str) -> String {
        let words = bytes.chunks(4).map(|word| {
            let word: [u8; 4] = word.try_into().unwrap();
            format!("{:08X}", u32::from_ne_bytes(word))
        });
        format!("{}:{port}", words.collect::<String>())
    }
}
