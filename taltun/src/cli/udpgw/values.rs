//! How the values of `taltun udpgw`'s options are written.

use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;
use std::time::Duration;

use clap::builder::RangedI64ValueParser;
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
            "syslog" => Err(
                "syslog isn't supported: systemd's journal takes standard error, and so does \
                 `taltun udpgw … 2>&1 | logger -t udpgw`"
                    .into(),
            ),
            _ => Err("expected stderr or stdout".into()),
        }
    }
}

/// An address and a port.
pub(super) fn address(text: &str) -> Result<SocketAddr, String> {
    let expected = "expected an address and a port such as 127.0.0.1:7300 or [::1]:7300";
    text.parse().map_err(|_| expected.into())
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
pub(super) fn buffer() -> RangedI64ValueParser<u32> {
    clap::value_parser!(u32).range(0..=i64::from(i32::MAX / 2))
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
        return Err(format!("{option} {first}: the wrong kind of address"));
    }
    let room = u32::from(u16::MAX) + 1 - u32::from(parsed.port());
    let count = count.parse::<u16>().ok();
    let count = count.filter(|count| *count > 0 && u32::from(*count) <= room && parsed.port() > 0);
    let count = count.ok_or_else(|| {
        format!("{option} {first}: expected how many ports from there, none above 65535")
    })?;
    Ok(Some(LocalPorts {
        address: parsed.ip(),
        first: parsed.port(),
        count,
    }))
}
