//! What a rule allows or denies: a protocol, with ports where it has some.

use std::fmt;
use std::str::FromStr;

use taltun_common::headers::protocol;
use thiserror::Error;

/// A protocol, with ports where it has some.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Service {
    /// Everything: `any`.
    Any,
    /// ICMP, that of IPv4 and that of IPv6: `icmp`.
    Icmp,
    /// All of a protocol: `tcp`, `gre`, `ip/47`.
    Protocol(u8),
    /// TCP to the ports from one to another: `tcp/631`, `tcp/8000-8099`.
    Tcp(u16, u16),
    /// The same of UDP: `udp/53`.
    Udp(u16, u16),
}

/// Why a text names no service.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ServiceError {
    /// No such protocol.
    #[error(
        "no protocol is called that; write \"tcp/443\", \"udp/5000-5099\", \"icmp\", \"ip/47\" or \"any\""
    )]
    Protocol,
    /// Ports for one that has none.
    #[error("only tcp and udp have ports")]
    NoPorts,
    /// A port that is none.
    #[error("a port is a number from 1 to 65535")]
    Port,
    /// A range that ends before it starts.
    #[error("the range ends before it starts")]
    Range,
    /// A protocol's number that is none.
    #[error("a protocol's number is from 0 to 255")]
    Number,
}

/// Protocols with a name of their own, beside those with ports and ICMP.
const NAMED: &[(&str, u8)] = &[
    ("gre", 47),
    ("esp", 50),
    ("ah", 51),
    ("ospf", 89),
    ("sctp", 132),
];

impl FromStr for Service {
    type Err = ServiceError;

    fn from_str(text: &str) -> Result<Self, ServiceError> {
        let (name, ports) = match text.split_once('/') {
            Some((name, ports)) => (name, Some(ports)),
            None => (text, None),
        };
        let name = name.to_ascii_lowercase();
        let named = NAMED.iter().find(|(known, _)| *known == name);
        match (name.as_str(), ports) {
            ("tcp", None) => Ok(Self::Protocol(protocol::TCP)),
            ("udp", None) => Ok(Self::Protocol(protocol::UDP)),
            ("tcp", Some(ports)) => range(ports).map(|(first, last)| Self::Tcp(first, last)),
            ("udp", Some(ports)) => range(ports).map(|(first, last)| Self::Udp(first, last)),
            ("any", None) => Ok(Self::Any),
            ("icmp", None) => Ok(Self::Icmp),
            ("ip", Some(number)) => {
                let number = decimal(number).ok_or(ServiceError::Number)?;
                Ok(Self::Protocol(number))
            }
            ("any" | "icmp", Some(_)) => Err(ServiceError::NoPorts),
            (_, ports) => match (named, ports) {
                (Some((_, number)), None) => Ok(Self::Protocol(*number)),
                (Some(_), Some(_)) => Err(ServiceError::NoPorts),
                (None, _) => Err(ServiceError::Protocol),
            },
        }
    }
}

impl fmt::Display for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ports = |f: &mut fmt::Formatter<'_>, name, first: u16, last: u16| {
            if first == last {
                write!(f, "{name}/{first}")
            } else {
                write!(f, "{name}/{first}-{last}")
            }
        };
        match *self {
            Self::Any => f.write_str("any"),
            Self::Icmp => f.write_str("icmp"),
            Self::Protocol(protocol::TCP) => f.write_str("tcp"),
            Self::Protocol(protocol::UDP) => f.write_str("udp"),
            Self::Protocol(number) => match NAMED.iter().find(|(_, known)| *known == number) {
                Some((name, _)) => f.write_str(name),
                None => write!(f, "ip/{number}"),
            },
            Self::Tcp(first, last) => ports(f, "tcp", first, last),
            Self::Udp(first, last) => ports(f, "udp", first, last),
        }
    }
}

/// One port, or the first and the last of several.
fn range(text: &str) -> Result<(u16, u16), ServiceError> {
    let port = |text| match decimal(text) {
        None | Some(0) => Err(ServiceError::Port),
        Some(port) => Ok(port),
    };
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let (first, last) = (port(first)?, port(last)?);
    if last < first {
        return Err(ServiceError::Range);
    }
    Ok((first, last))
}

/// A number of digits alone: a sign, which the library takes, is a mistake here.
fn decimal<T: FromStr>(text: &str) -> Option<T> {
    let is_digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    is_digits.then(|| text.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_is_written_as_it_is_read() {
        for text in [
            "any",
            "icmp",
            "tcp",
            "udp",
            "tcp/631",
            "tcp/8000-8099",
            "udp/53",
            "gre",
            "ip/4",
        ] {
            let service: Service = text.parse().unwrap();
            assert_eq!(service.to_string(), text);
        }
        assert_eq!("ip/47".parse(), Ok(Service::Protocol(47)));
        assert_eq!("TCP/1-65535".parse(), Ok(Service::Tcp(1, 65_535)));
    }

    #[test]
    fn what_names_no_service_is_refused_with_its_reason() {
        use ServiceError::*;
        for (text, error) in [
            ("", Protocol),
            ("http", Protocol),
            ("tcp/", Port),
            ("tcp/0", Port),
            ("tcp/+5", Port),
            ("tcp/65536", Port),
            ("udp/5-", Port),
            ("udp/9-5", Range),
            ("tcp/1-2-3", Port),
            ("icmp/8", NoPorts),
            ("any/1", NoPorts),
            ("gre/1", NoPorts),
            ("ip/256", Number),
            ("ip", Protocol),
        ] {
            assert_eq!(text.parse::<Service>(), Err(error), "{text}");
        }
    }
}
