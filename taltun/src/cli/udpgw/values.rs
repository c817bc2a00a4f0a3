//! How the values of `taltun udpgw`'s options are written.

use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::str::FromStr;
use std::time::Duration;

use ipnet::IpNet;
use taltun_udpgw::LocalPorts;
use tracing::level_filters::LevelFilter;

/// The longest time that makes sense, seconds: a hundred years.
const LONGEST: f64 = 100.0 * 365.0 * 86_400.0;

/// How much to log, in the words and numbers of badvpn-udpgw and the words of UDP-PY.
#[derive(Debug, Clone, Copy)]
pub(super) struct Level(LevelFilter);

impl From<Level> for LevelFilter {
    fn from(level: Level) -> Self {
        level.0
    }
}

impl FromStr for Level {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Ok(Self(match text {
            "none" | "0" => LevelFilter::OFF,
            "error" | "1" => LevelFilter::ERROR,
            "warning" | "2" => LevelFilter::WARN,
            "notice" | "3" | "info" | "4" => LevelFilter::INFO,
            "debug" | "5" => LevelFilter::DEBUG,
            _ => return Err("expected none, error, warning, notice, info, debug or 0 to 5".into()),
        }))
    }
}

/// Why there is nothing of syslog.
pub(super) const NO_SYSLOG: &str = "systemd's journal takes standard error, and so does `taltun \
                                    udpgw … 2>&1 | logger -t udpgw`";

/// Where to log.
#[derive(Debug, Clone, Copy)]
pub(super) enum Logger {
    Stderr,
    Stdout,
}

impl FromStr for Logger {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "stderr" => Ok(Self::Stderr),
            "stdout" => Ok(Self::Stdout),
            "syslog" => Err(format!("syslog isn't supported: {NO_SYSLOG}")),
            _ => Err("expected stderr or stdout".into()),
        }
    }
}

/// Where to listen: an address and a port, or a name that has addresses.
#[derive(Debug, Clone)]
pub(super) enum Place {
    Address(SocketAddr),
    Name(String),
}

impl FromStr for Place {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let address = address(text);
        let is_name = text.rsplit_once(':').is_some_and(|(name, port)| {
            !name.is_empty() && !name.contains([':', '[', ',']) && port.parse::<u16>().is_ok()
        });
        match address {
            Ok(address) => Ok(Self::Address(address)),
            Err(_) if is_name => Ok(Self::Name(text.to_owned())),
            Err(error) if text.contains(',') => {
                Err(format!("{error}; give the option once for each"))
            }
            Err(error) => Err(error),
        }
    }
}

impl Place {
    /// Its addresses. A name may have some later, as when a name server isn't up yet.
    pub(super) fn addresses(&self) -> Result<Vec<SocketAddr>, String> {
        let name = match self {
            Self::Address(address) => return Ok(vec![*address]),
            Self::Name(name) => name,
        };
        let found = name.to_socket_addrs().map(Iterator::collect);
        let found: Vec<SocketAddr> = found.map_err(|error| {
            format!(
                "--listen-addr {name}: {error}; write the address in place of the name, which \
                 needs nobody to look it up"
            )
        })?;
        if found.is_empty() {
            return Err(format!("--listen-addr {name}: the name has no address"));
        }
        Ok(found)
    }
}

/// An address and a port.
fn address(text: &str) -> Result<SocketAddr, String> {
    let expected = "expected an address and a port such as 127.0.0.1:7300 or [::1]:7300";
    text.parse().map_err(|_| expected.into())
}

/// A network that clients may send to.
pub(super) fn destination(text: &str) -> Result<IpNet, String> {
    let net = network(text)?;
    crate::config::not_unspecified(net)?;
    Ok(net)
}

/// A whole number within limits.
pub(super) fn number(
    least: u32,
    most: u32,
) -> impl Fn(&str) -> Result<u32, String> + Clone + Send + Sync + 'static {
    move |text| {
        let number = text.parse().ok();
        let number = number.filter(|number| (least..=most).contains(number));
        number.ok_or_else(|| format!("expected a whole number from {least} to {most}"))
    }
}

/// A network, or an address.
pub(super) fn network(text: &str) -> Result<IpNet, String> {
    let expected = "expected a network such as 10.0.0.0/8 or an address";
    let address = text.parse::<IpAddr>().map(IpNet::from);
    address
        .or_else(|_| text.parse())
        .map_err(|_| expected.into())
}

/// A number of seconds, parts of one included.
pub(super) fn seconds(text: &str) -> Result<Duration, String> {
    let seconds = text.parse().unwrap_or(f64::NAN);
    if (0.0..=LONGEST).contains(&seconds) {
        Ok(Duration::from_secs_f64(seconds))
    } else {
        Err("expected a number of seconds".into())
    }
}

/// The size of a kernel's buffer, which the kernel counts as a C `int`, twice.
pub(super) fn buffer() -> impl Fn(&str) -> Result<u32, String> + Clone + Send + Sync + 'static {
    number(0, i32::MAX as u32 / 2)
}

/// What `option` says about local ports: the first one, with an address of the right kind, and
/// how many there are.
pub(super) fn local_ports(
    option: &str,
    words: &[String],
    right: impl Fn(&IpAddr) -> bool,
) -> Result<Option<LocalPorts>, String> {
    let [first, count] = words else {
        return if words.is_empty() {
            Ok(None)
        } else {
            Err(format!("{option} is given more than once"))
        };
    };
    let parsed = address(first).map_err(|error| format!("{option} {first}: {error}"))?;
    if !right(&parsed.ip()) {
        let (expected, other) = match parsed {
            SocketAddr::V4(_) => ("an IPv6 address", "--local-udp-addrs is for IPv4"),
            SocketAddr::V6(_) => ("an IPv4 address", "--local-udp-ip6-addrs is for IPv6"),
        };
        return Err(format!("{option} {first}: expected {expected}; {other}"));
    }
    let room = u32::from(u16::MAX) + 1 - u32::from(parsed.port());
    if parsed.port() == 0 {
        return Err(format!(
            "{option} {first}: expected a first port from 1 to 65535"
        ));
    }
    let count = count.parse::<u16>().ok();
    let count = count.filter(|count| *count > 0 && u32::from(*count) <= room);
    let count = count.ok_or_else(|| {
        format!("{option} {first}: expected a count from 1 to {room}: the last port is 65535")
    })?;
    Ok(Some(LocalPorts {
        address: parsed.ip(),
        first: parsed.port(),
        count,
    }))
}
