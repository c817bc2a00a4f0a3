//! What the texts in a configuration mean, one function a kind of value.
//!
//! Every error is the half sentence that follows `file:line: key:`. None of them repeats
//! the text of a secret.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use ipnet::IpNet;
use unicode_width::UnicodeWidthStr;

use super::public_endpoint::{NO_PORTS, PublicEndpoint};
use super::shaping::{LEAST_RATE, MOST_RATE, Rate};
use super::visible::{is_visible, unseen};
use super::words::Words;
use super::{Domain, Endpoint, ListenAt, PortRange, RangedEndpoint, keys, suggest};

/// Longest name of a peer, in characters.
const NAME_MAX: usize = 64;
/// What is shown of a longer one.
const NAME_SHOWN: usize = 16;
/// Longest name of an interface, in bytes: `IFNAMSIZ` less its zero.
const INTERFACE_MAX: usize = 15;
/// Longest path of a Unix socket, in bytes: `sun_path` less its zero.
const SOCKET_PATH_MAX: usize = 107;

/// The name of a network interface that is ours to make or to write into rules: 1 to 15
/// letters, digits and `_=+.-`, as wg-quick takes them. The kernel takes more, but a quote or a
/// brace would be text of a firewall's rules, and `*` a pattern there.
pub(crate) fn interface_name(text: &str) -> Result<String, String> {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"_=+.-".contains(&b);
    if is_link_name(text) && text.bytes().all(plain) {
        Ok(text.to_owned())
    } else {
        Err(format!(
            "expected an interface name of 1 to {INTERFACE_MAX} letters, digits, dots, dashes or \
             `_=+`, found {text:?}"
        ))
    }
}

/// The name of a network interface that somebody else made. Names outside ASCII are refused
/// because they don't survive in file names and tools, and `%` because the kernel takes it for
/// a pattern.
pub(super) fn link_name(text: &str) -> Result<String, String> {
    if is_link_name(text) {
        Ok(text.to_owned())
    } else {
        Err(format!(
            "expected an interface name of 1 to {INTERFACE_MAX} letters, digits, dots or dashes, \
             found {text:?}"
        ))
    }
}

/// What the kernel takes: 1 to 15 bytes without separators.
fn is_link_name(text: &str) -> bool {
    (1..=INTERFACE_MAX).contains(&text.len())
        && text
            .bytes()
            .all(|b| b.is_ascii_graphic() && !matches!(b, b'/' | b':' | b'%'))
        && text != "."
        && text != ".."
}

/// What to call a peer: short and printable, as it appears in tables.
pub(crate) fn peer_name(text: &str) -> Result<String, String> {
    let length = text.chars().count();
    let expected = format!("expected a name of 1 to {NAME_MAX} printable characters");
    if length > NAME_MAX {
        let begin: String = text.chars().take(NAME_SHOWN).collect();
        return Err(format!(
            "{expected}, found {length}, beginning with {begin:?}"
        ));
    }
    // An accent alone has nothing to be on.
    if text.trim().width() == 0 {
        return Err(format!("{expected}, found {text:?}"));
    }
    match unseen(text).next().map(|(_, c)| c) {
        None => Ok(text.to_owned()),
        // It is escaped, so that it is seen here at least.
        Some(c) => Err(format!(
            "{expected}, found {}, in which U+{:04X} isn't one",
            escaped(text),
            u32::from(c)
        )),
    }
}

/// Refuses what isn't fit to be a fleet's or a hub's name: it is a part of keys in etcd.
pub(super) fn label(text: &str) -> Result<(), String> {
    let is_fit = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    let fits = (1..=63).contains(&text.len())
        && text.bytes().all(is_fit)
        && !text.starts_with('-')
        && !text.ends_with('-');
    fits.then_some(()).ok_or_else(|| {
        format!(
            "expected a name of 1 to 63 small letters, digits and hyphens between them, found \
             {text:?}"
        )
    })
}

/// A text in quotes in which all can be seen.
fn escaped(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        if is_visible(c) && !matches!(c, '"' | '\\') {
            out.push(c);
        } else {
            out.extend(c.escape_default());
        }
    }
    out.push('"');
    out
}

/// One of the few words that there are.
pub(super) fn word<T: Words>(text: &str) -> Result<T, String> {
    if let Some((_, meant)) = T::WORDS.iter().find(|(word, _)| *word == text) {
        return Ok(*meant);
    }
    let quoted: Vec<String> = T::NAMES.iter().map(|word| format!("{word:?}")).collect();
    let expected = format!("expected {}, found {text:?}", quoted.join(" or "));
    let hint = suggest::hint(text, T::NAMES);
    Err(if hint.starts_with("did") {
        format!("{expected}; {hint}")
    } else {
        expected
    })
}

/// One of `interface.dns`.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum DnsItem {
    /// Whom to ask.
    Server(IpAddr),
    /// A domain to look for short names in.
    Search(String),
}

/// A rate, such as `20 Mbit/s`, with up to three digits behind a point.
pub(super) fn rate(text: &str) -> Result<Rate, String> {
    let expected = || format!("expected a rate such as \"20 Mbit/s\", found {text:?}");
    let at = text.find(|c: char| !c.is_ascii_digit() && c != '.');
    let Some((number, unit)) = at.and_then(|at| text.split_at_checked(at)) else {
        return Err(match thousandths(text) {
            Some(_) => format!("{}; the unit is missing: {}", expected(), units()),
            None => expected(),
        });
    };
    let number = thousandths(number).ok_or_else(expected)?;
    let unit = unit.trim_start();
    let Some((_, bits)) = Rate::UNITS.iter().find(|(name, _)| *name == unit) else {
        let same = |(name, _): &&(&str, u64)| name.eq_ignore_ascii_case(unit);
        let hint = match Rate::UNITS.iter().find(same) {
            Some((name, _)) => format!("; did you mean {name}?"),
            None if unit.contains('B') || unit.to_ascii_lowercase().contains("byte") => {
                " (a byte is 8 bits)".to_owned()
            }
            None => String::new(),
        };
        return Err(format!(
            "{unit:?} is no unit of a rate; expected {}{hint}",
            units()
        ));
    };
    let bits = number.checked_mul(*bits).map(|bits| bits / 1000);
    let rate = bits.and_then(Rate::of_bits);
    rate.filter(|rate| (LEAST_RATE..=MOST_RATE).contains(rate))
        .ok_or_else(|| {
            format!(
                "expected a rate from {LEAST_RATE} to {MOST_RATE}, found {text:?}; leave it out \
                 for no limit"
            )
        })
}

fn units() -> String {
    let names: Vec<&str> = Rate::UNITS.iter().rev().map(|(name, _)| *name).collect();
    names.join(", ")
}

/// A number with up to three digits behind a point, times 1000.
fn thousandths(text: &str) -> Option<u64> {
    let (whole, rest) = text.split_once('.').unwrap_or((text, "0"));
    let whole: u64 = whole.parse().ok()?;
    let digits = u32::try_from(rest.len())
        .ok()
        .filter(|digits| (1..=3).contains(digits))?;
    let rest: u64 = rest.parse().ok()?;
    let rest = rest.checked_mul(10_u64.checked_pow(3_u32.checked_sub(digits)?)?)?;
    whole.checked_mul(1000)?.checked_add(rest)
}

/// The address of a name server, or a domain.
pub(super) fn dns(text: &str) -> Result<DnsItem, String> {
    let expected = || {
        format!(
            "expected the address of a name server such as \"10.0.0.1\", or a domain to search \
             such as \"example.org\", found {text:?}"
        )
    };
    if let Ok(server) = text.parse::<IpAddr>() {
        if server.is_unspecified() || server.is_multicast() {
            return Err(expected());
        }
        return Ok(DnsItem::Server(server));
    }
    let is_domain = text.len() <= 253
        && text.bytes().any(|b| b.is_ascii_alphabetic())
        && text.split('.').all(|label| {
            (1..=63).contains(&label.len())
                && label
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
        });
    if is_domain {
        Ok(DnsItem::Search(text.to_owned()))
    } else {
        Err(expected())
    }
}

/// The address of a name server.
pub(super) fn name_server(text: &str) -> Result<IpAddr, String> {
    match dns(text)? {
        DnsItem::Server(server) => Ok(server),
        DnsItem::Search(_) => Err(format!(
            "expected the address of a name server such as \"192.0.2.53\", found {text:?}"
        )),
    }
}

/// `example.com`, or `*.example.net` for all names below.
pub(super) fn domain(text: &str) -> Result<Domain, String> {
    let (below, name) = match text.strip_prefix("*.") {
        Some(name) => (true, name),
        None => (false, text),
    };
    let name = name.trim_end_matches('.').to_ascii_lowercase();
    match dns(&name) {
        Ok(DnsItem::Search(name)) if below => Ok(Domain::Below(name)),
        Ok(DnsItem::Search(name)) => Ok(Domain::Name(name)),
        _ => Err(format!(
            "expected a name such as \"example.com\", or \"*.example.net\" for all names below \
             it, found {text:?}"
        )),
    }
}

/// A command for `sh -c`.
pub(super) fn command(text: &str) -> Result<String, String> {
    if text.trim().is_empty() || text.contains('\0') {
        return Err(format!("expected a command for the shell, found {text:?}"));
    }
    Ok(text.to_owned())
}

/// Our own address in the tunnel with its subnet; a bare address means /24, or /64 for
/// IPv6.
pub(super) fn own_vip(text: &str) -> Result<IpNet, String> {
    let expected =
        || format!("expected an address such as \"10.0.0.1/24\" or \"fd00::1/64\", found {text:?}");
    let net: IpNet = if text.contains('/') {
        text.parse().map_err(|_| expected())?
    } else {
        let addr: IpAddr = text.parse().map_err(|_| expected())?;
        let bits = if addr.is_ipv4() { 24 } else { 64 };
        IpNet::new(addr, bits).map_err(|_| expected())?
    };
    host_address(net.addr())?;
    if let IpNet::V4(v4) = net
        && v4.prefix_len() < 31
        && (v4.addr() == v4.network() || v4.addr() == v4.broadcast())
    {
        return Err(format!(
            "{} is not for a host: it is the first or last address of {}; take one between them",
            v4.addr(),
            net.trunc()
        ));
    }
    Ok(net)
}

/// A peer's own address: bare, because what lies behind it goes into `allowed_ips`.
pub(super) fn peer_vip(text: &str) -> Result<IpAddr, String> {
    let addr = text.parse().map_err(|_| {
        format!(
            "expected a bare address such as \"10.0.0.2\", found {text:?} \
             (networks behind the peer go into allowed_ips)"
        )
    })?;
    host_address(addr)?;
    Ok(addr)
}

/// A network; a bare address means itself. The second value tells whether bits beyond the
/// prefix were set and have been cleared.
pub(crate) fn network(text: &str) -> Result<(IpNet, bool), String> {
    let net: IpNet = text
        .parse()
        .or_else(|_| text.parse::<IpAddr>().map(IpNet::from))
        .map_err(|_| {
            format!(
                "expected a network such as \"192.168.50.0/24\" or \"fd00::/48\", found {text:?}"
            )
        })?;
    Ok((net.trunc(), net.trunc() != net))
}

/// Where to listen: `ADDRESS:PORT`, or `:PORT` for every address, as Go writes it.
pub(super) fn local_addr(text: &str) -> Result<SocketAddr, String> {
    let expected = || {
        format!("expected ADDRESS:PORT such as \"0.0.0.0:9000\" or \"[::]:9000\", found {text:?}")
    };
    if let Some(port) = text.strip_prefix(':') {
        let port = port.parse().map_err(|_| expected())?;
        return Ok(SocketAddr::from((Ipv6Addr::UNSPECIFIED, port)));
    }
    let addr: SocketAddr = text.parse().map_err(|_| expected())?;
    if addr.ip().is_multicast() {
        return Err(format!(
            "{} is a multicast address; {}",
            addr.ip(),
            expected()
        ));
    }
    Ok(addr)
}

/// Where a UDP gateway listens: `ADDRESS:PORT`.
pub(super) fn udpgw_listen(text: &str) -> Result<SocketAddr, String> {
    listen_address(text).ok_or_else(|| {
        format!(
            "expected ADDRESS:PORT such as \"127.0.0.1:7300\" or \"[::1]:7300\", \
             with a port from 1 and without a name, found {text:?}"
        )
    })
}

/// An address and a port that a TCP socket can listen on.
fn listen_address(text: &str) -> Option<SocketAddr> {
    let address = text.parse::<SocketAddr>().ok();
    address.filter(|at| at.port() != 0 && !at.ip().is_multicast())
}

/// A network that a gateway may send to: 0.0.0.0 alone is no place, and meant as everywhere.
pub(crate) fn not_unspecified(net: IpNet) -> Result<(), String> {
    if net.addr().is_unspecified() && net.prefix_len() == net.max_prefix_len() {
        let addr = net.addr();
        Err(format!(
            "{addr} is no address to send to; write {addr}/0 for everywhere"
        ))
    } else {
        Ok(())
    }
}

/// Where browsers connect to.
pub(super) fn web_listen(text: &str) -> Result<SocketAddr, String> {
    listen_address(text).ok_or_else(|| {
        format!(
            "expected ADDRESS:PORT such as \"10.0.0.1:8080\" or \"[fd00::1]:8080\", with a port \
             from 1 and without a name, found {text:?}"
        )
    })
}

/// A name by which browsers ask for the page, in small letters.
pub(super) fn web_host(text: &str) -> Result<String, String> {
    match domain(text) {
        Ok(Domain::Name(name)) => Ok(name),
        _ => Err(format!(
            "expected a name such as \"vpn.example.org\", without a port, found {text:?}"
        )),
    }
}

/// Where scrapers connect to: `ADDRESS:PORT`, or the path of a Unix socket.
pub(super) fn metrics_listen(text: &str) -> Result<ListenAt, String> {
    if text.starts_with('/') {
        return if text.len() <= SOCKET_PATH_MAX && !text.ends_with('/') && !text.contains('\0') {
            Ok(ListenAt::File(text.into()))
        } else {
            Err(format!(
                "expected the path of a socket of at most {SOCKET_PATH_MAX} bytes, found {text:?}"
            ))
        };
    }
    listen_address(text).map(ListenAt::Address).ok_or_else(|| {
        format!(
            "expected ADDRESS:PORT such as \"127.0.0.1:9586\" or \"[::1]:9586\", with a port from \
             1 and without a name, or a path such as \"/run/taltun/metrics\", found {text:?}"
        )
    })
}

/// Where a peer is: `ADDRESS:PORT`, `[V6ADDRESS]:PORT` or `NAME:PORT`, with `FIRST-LAST` for
/// several ports, or without a port where `ports` says which.
pub(super) fn endpoint(text: &str, ports: Option<PortRange>) -> Result<RangedEndpoint, String> {
    let expected = || {
        let plain = plainly(text);
        let instead = if plain == text || endpoint(&plain, ports).is_err() {
            String::new()
        } else {
            format!("; write {plain:?}")
        };
        format!(
            "expected HOST:PORT such as \"203.0.113.1:9000\", \"[2001:db8::1]:9000\" or \
             \"hub.example.org:9000\", or HOST:FIRST-LAST such as \"hub.example.org:4096-8191\", \
             found {text:?}{instead}"
        )
    };
    // An address alone has colons, too.
    let (host, ports) = match (without_port(text), ports) {
        (true, Some(ports)) if text.parse::<Ipv6Addr>().is_ok() => (&*format!("[{text}]"), ports),
        (true, Some(ports)) => (text, ports),
        (true, None) => {
            return Err(format!(
                "{}; without a port it needs the port_range of [hop]",
                expected()
            ));
        }
        (false, _) => {
            let (host, ports) = text.rsplit_once(':').ok_or_else(expected)?;
            let (first, last) = ports.split_once('-').unwrap_or((ports, ports));
            let port = |text: &str| text.parse::<u16>().map_err(|_| expected());
            let (first, last) = (port(first)?, port(last)?);
            if first == 0 {
                return Err(expected());
            }
            if first > last {
                return Err(format!(
                    "the first of the ports {first}-{last} is larger than the last; write \
                     {last}-{first}"
                ));
            }
            (host, PortRange { first, last })
        }
    };
    let first = if let Ok(address) = format!("{host}:{}", ports.first).parse::<SocketAddr>() {
        Endpoint::Address(address)
    } else {
        // A name made of digits and dots alone is a mistyped address, not a name.
        let is_name = (1..=253).contains(&host.len())
            && host
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_'))
            && host.bytes().any(|b| b.is_ascii_alphabetic())
            // RFC 1035, section 2.3.4; the last dot may stand for the root.
            && host
                .strip_suffix('.')
                .unwrap_or(host)
                .split('.')
                .all(|label| (1..=63).contains(&label.len()));
        if !is_name {
            return Err(expected());
        }
        Endpoint::Name(host.to_owned(), ports.first)
    };
    if let Endpoint::Address(address) = &first
        && let Some(why) = no_host(address.ip())
    {
        let host = host.trim_matches(['[', ']']);
        return Err(format!("{host} {why}; expected the address of one host"));
    }
    Ok(RangedEndpoint {
        first,
        last_port: ports.last,
    })
}

/// Where others reach this machine: an address or a name, with a port, a range of ports, or none.
pub(crate) fn public_endpoint(text: &str) -> Result<PublicEndpoint, String> {
    let endpoint = endpoint(text, Some(NO_PORTS))?;
    Ok(PublicEndpoint::new(endpoint, !without_port(text)))
}

/// Why an address is none of one host, be it an IPv4 address in IPv6's clothes.
pub(crate) fn no_host(address: IpAddr) -> Option<&'static str> {
    let address = address.to_canonical();
    if address.is_unspecified() {
        Some("means \"any address\"")
    } else if address.is_multicast() {
        Some("is a multicast address")
    } else if address == Ipv4Addr::BROADCAST {
        Some("is the broadcast address")
    } else {
        None
    }
}

/// An endpoint without spaces, and with a plain hyphen for other dashes.
pub(super) fn plainly(text: &str) -> String {
    let kept = text.chars().filter(|c| !c.is_whitespace());
    kept.map(|c| match c {
        '\u{2010}'..='\u{2015}' | '\u{2212}' => '-',
        other => other,
    })
    .collect()
}

/// Whether an endpoint is an address or a name alone.
fn without_port(text: &str) -> bool {
    let bracketed = text.starts_with('[') && text.ends_with(']');
    bracketed || text.parse::<Ipv6Addr>().is_ok() || !text.contains(':')
}

/// The MTU as a flag gives it.
pub(super) fn mtu(text: &str) -> Result<u16, String> {
    let range = keys::interface::MTU.range();
    text.parse()
        .ok()
        .filter(|mtu| range.contains(&u32::from(*mtu)))
        .ok_or_else(|| {
            format!(
                "expected a whole number from {} to {}, found {text:?}",
                range.start(),
                range.end()
            )
        })
}

fn host_address(addr: IpAddr) -> Result<(), String> {
    let loopback = || addr.is_loopback().then_some("is a loopback address");
    match no_host(addr).or_else(loopback) {
        Some(why) => Err(format!("{addr} {why}; expected the address of one host")),
        None => Ok(()),
    }
}
