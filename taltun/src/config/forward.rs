//! `[[forward]]`: ports of this host that lead to a peer.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use super::PortRange;

/// Ports of this host, and the peer's that they lead to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Forward {
    /// The ports of this host.
    pub listen: ForwardListen,
    /// Who they lead to, as the file names it.
    pub to: ForwardTo,
    /// The addresses of the peer: at most one of each family, that of IPv4 first.
    pub addresses: Vec<IpAddr>,
    /// Whose address the peer sees.
    pub source: ForwardSource,
}

impl Forward {
    /// Its address of a family, if it has one.
    pub fn address(&self, v6: bool) -> Option<IpAddr> {
        let mut addresses = self.addresses.iter().copied();
        addresses.find(|address| address.is_ipv6() == v6)
    }

    /// Whether both take the same port of this host.
    pub(super) fn overlaps(&self, other: &Self) -> bool {
        let is_same_family = [false, true]
            .into_iter()
            .any(|v6| self.address(v6).is_some() && other.address(v6).is_some());
        is_same_family && self.listen.overlaps(&other.listen)
    }

    /// Its address and ports at the peer, for each family.
    pub fn targets(&self) -> Vec<String> {
        let PortRange { first, last } = self.to.ports;
        let target = |address: &IpAddr| {
            let start = SocketAddr::new(*address, first);
            if first == last {
                start.to_string()
            } else {
                format!("{start}-{last}")
            }
        };
        self.addresses.iter().map(target).collect()
    }
}

/// `forward.listen`: ports of this host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ForwardListen {
    /// The protocol that they are of.
    pub protocol: ForwardProtocol,
    /// The one address of this host that counts; `None` for any.
    pub at: Option<IpAddr>,
    /// The ports.
    pub ports: PortRange,
}

impl ForwardListen {
    fn overlaps(&self, other: &Self) -> bool {
        let is_same_place = match (self.at, other.at) {
            (Some(one), Some(other)) => one == other,
            _ => true,
        };
        self.protocol == other.protocol && is_same_place && self.ports.overlaps(other.ports)
    }

    /// Whether what is sent to this place comes to these ports.
    pub fn takes(&self, protocol: ForwardProtocol, place: SocketAddr) -> bool {
        let ip = place.ip().to_canonical();
        let is_here = self.at.is_none_or(|at| at == ip || ip.is_unspecified());
        self.protocol == protocol && is_here && self.ports.contains(place.port())
    }
}

/// The protocols whose ports can be forwarded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ForwardProtocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

impl ForwardProtocol {
    /// Its name, as rules have it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        }
    }
}

/// `forward.to`: a peer and its ports.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ForwardTo {
    /// Its name, its key or an address of it.
    pub whom: String,
    /// The ports, as many as there are of this host.
    pub ports: PortRange,
}

/// `forward.source`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ForwardSource {
    /// The peer sees our vip, to which it can answer.
    Hub,
    /// The peer sees the sender's own address.
    Keep,
}

impl fmt::Display for ForwardListen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/", self.protocol.word())?;
        match self.at {
            Some(IpAddr::V6(at)) => write!(f, "[{at}]:")?,
            Some(IpAddr::V4(at)) => write!(f, "{at}:")?,
            None => {}
        }
        write!(f, "{}", self.ports.short())
    }
}

impl fmt::Display for ForwardTo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.whom.parse::<Ipv6Addr>().is_ok() {
            write!(f, "[{}]:{}", self.whom, self.ports.short())
        } else {
            write!(f, "{}:{}", self.whom, self.ports.short())
        }
    }
}

/// Reads `tcp/8443`, `udp/5000-5010`, `tcp/203.0.113.9:8443` or `tcp/[2001:db8::1]:8443`.
pub(super) fn listen(text: &str) -> Result<ForwardListen, String> {
    let expected = || {
        format!(
            "expected a protocol and a port such as \"tcp/8443\", \"udp/5000-5010\" or \
             \"tcp/203.0.113.9:8443\", found {text:?}"
        )
    };
    let (protocol, place) = text.split_once('/').ok_or_else(expected)?;
    let protocol = match protocol {
        "tcp" => ForwardProtocol::Tcp,
        "udp" => ForwardProtocol::Udp,
        other => {
            return Err(format!(
                "{other:?} has no ports that can be forwarded; write \"tcp/PORT\" or \"udp/PORT\""
            ));
        }
    };
    let (at, ports) = match place.rsplit_once(':') {
        Some((at, ports)) => {
            let at = address(at).ok_or_else(expected)?;
            if at.is_unspecified() {
                return Err(format!(
                    "{at} is no address of one interface; leave it out for all of them: \
                     \"{}/{ports}\"",
                    protocol.word()
                ));
            }
            if at.is_loopback() || at.is_multicast() {
                return Err(format!(
                    "nothing comes to {at} from outside; give an address of this host, or none for \
                     all of them"
                ));
            }
            (Some(at.to_canonical()), ports)
        }
        None => (None, place),
    };
    let ports = self::ports(ports, expected)?;
    Ok(ForwardListen {
        protocol,
        at,
        ports,
    })
}

/// Whom the value of `forward.to` means, as it is written, and the rest of it.
pub(super) fn split_to(text: &str) -> (&str, &str) {
    let at = text.rfind(':').unwrap_or(text.len());
    text.split_at(at)
}

/// Reads `ana:443`, `10.0.0.2:443`, `[fd00::2]:443` or `ana:5000-5010`.
pub(super) fn to(text: &str) -> Result<ForwardTo, String> {
    let expected = || {
        format!(
            "expected a peer and its port such as \"ana:443\", \"10.0.0.2:443\" or \
             \"[fd00::2]:443\", found {text:?}"
        )
    };
    // An address alone has colons, too.
    if text.parse::<IpAddr>().is_ok() {
        return Err(expected());
    }
    let (whom, ports) = text.rsplit_once(':').ok_or_else(expected)?;
    let ports = self::ports(ports, expected)?;
    let whom = match address(whom) {
        Some(address) => address.to_canonical().to_string(),
        None => whom.to_owned(),
    };
    if whom.trim().is_empty() {
        return Err(expected());
    }
    Ok(ForwardTo { whom, ports })
}

/// An address, that of IPv6 in brackets.
fn address(text: &str) -> Option<IpAddr> {
    match text.strip_prefix('[') {
        Some(rest) => {
            let v6 = rest.strip_suffix(']')?;
            v6.parse().ok().map(IpAddr::V6)
        }
        None => text.parse().ok().map(IpAddr::V4),
    }
}

fn ports(text: &str, expected: impl Fn() -> String) -> Result<PortRange, String> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let port = |text: &str| {
        let digits = text.bytes().all(|byte| byte.is_ascii_digit());
        text.parse::<u16>().ok().filter(|_| digits)
    };
    let (Some(first), Some(last)) = (port(first), port(last)) else {
        return Err(expected());
    };
    if first == 0 {
        return Err(format!("{}; ports begin at 1", expected()));
    }
    if first > last {
        return Err(format!(
            "the first of the ports {first}-{last} is larger than the last; write {last}-{first}"
        ));
    }
    Ok(PortRange { first, last })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_written_as_they_are_read() {
        for text in [
            "tcp/8443",
            "udp/5000-5010",
            "tcp/203.0.113.9:8443",
            "udp/[2001:db8::1]:1-65535",
        ] {
            assert_eq!(listen(text).unwrap().to_string(), text);
        }
        for text in ["ana:443", "10.0.0.2:443", "[fd00::2]:5000-5010", "a:b:7"] {
            assert_eq!(to(text).unwrap().to_string(), text);
        }
        assert_eq!(to("a:b:7").unwrap().whom, "a:b");
    }

    #[test]
    fn what_is_no_port_is_refused_by_its_reason() {
        for (text, reason) in [
            ("8443", "expected a protocol and a port"),
            ("tcp8443", "expected a protocol and a port"),
            ("icmp/1", "\"icmp\" has no ports"),
            ("TCP/1", "\"TCP\" has no ports"),
            ("tcp/0", "ports begin at 1"),
            ("tcp/0-9", "ports begin at 1"),
            ("tcp/65536", "expected a protocol and a port"),
            ("tcp/+80", "expected a protocol and a port"),
            ("tcp/80-", "expected a protocol and a port"),
            ("tcp/90-80", "write 80-90"),
            ("tcp/0.0.0.0:80", "leave it out for all of them: \"tcp/80\""),
            ("tcp/[::]:80", "leave it out for all of them"),
            ("tcp/127.0.0.1:80", "nothing comes to 127.0.0.1"),
            ("tcp/2001:db8::1:80", "expected a protocol and a port"),
            ("tcp/host:80", "expected a protocol and a port"),
        ] {
            let error = listen(text).unwrap_err();
            assert!(error.contains(reason), "{text}: {error}");
        }
        for (text, reason) in [
            ("ana", "expected a peer and its port"),
            ("10.0.0.2", "expected a peer and its port"),
            ("fd00::2", "expected a peer and its port"),
            ("ana:", "expected a peer and its port"),
            (":443", "expected a peer and its port"),
            ("ana:0", "ports begin at 1"),
            ("ana:9-5", "write 5-9"),
        ] {
            let error = to(text).unwrap_err();
            assert!(error.contains(reason), "{text}: {error}");
        }
    }

    #[test]
    fn a_place_is_taken_by_its_protocol_its_address_and_its_port() {
        let listen = listen("udp/192.0.2.1:5000-5010").unwrap();
        for (protocol, place, is_taken) in [
            (ForwardProtocol::Udp, "192.0.2.1:5000", true),
            (ForwardProtocol::Udp, "0.0.0.0:5010", true),
            (ForwardProtocol::Udp, "[::]:5010", true),
            (ForwardProtocol::Udp, "192.0.2.2:5000", false),
            (ForwardProtocol::Udp, "192.0.2.1:5011", false),
            (ForwardProtocol::Tcp, "192.0.2.1:5000", false),
        ] {
            assert_eq!(
                listen.takes(protocol, place.parse().unwrap()),
                is_taken,
                "{place}"
            );
        }
    }
}
