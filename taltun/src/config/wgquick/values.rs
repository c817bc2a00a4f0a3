//! Values of a wg-quick file, each read as `wg` or `ip` reads it and written as TOML has it.
//!
//! What they take and Taltun doesn't is told when the outcome is checked.

use std::net::IpAddr;

use ipnet::IpNet;

use crate::config::error::{ConfigError, Spot};
use crate::config::{RangedEndpoint, values};

/// A base64 text, in TOML. It may be a secret, and isn't repeated.
pub(super) fn secret(value: &str, spot: &Spot) -> Result<String, ConfigError> {
    let base64 = |b: u8| b.is_ascii_alphanumeric() || b"+/=".contains(&b);
    if value.len() == 44 && value.bytes().all(base64) {
        Ok(format!("\"{value}\""))
    } else {
        Err(spot.error("expected a key of 44 base64 characters"))
    }
}

pub(super) fn number<T: std::str::FromStr>(value: &str, spot: &Spot) -> Result<T, ConfigError> {
    let digits = !value.is_empty() && value.bytes().all(|b| b.is_ascii_digit());
    value
        .parse()
        .ok()
        .filter(|_| digits)
        .ok_or_else(|| spot.error(format!("expected a number up to 65535, found {value:?}")))
}

/// The mark, as TOML writes it; `None` for none.
pub(super) fn mark(text: &str, spot: &Spot) -> Result<Option<String>, ConfigError> {
    if text.eq_ignore_ascii_case("off") {
        return Ok(None);
    }
    let number = match text.strip_prefix("0x") {
        Some(digits) if !digits.starts_with('+') => u32::from_str_radix(digits, 16).ok(),
        Some(_) => None,
        None if text.starts_with('+') => None,
        None => text.parse().ok(),
    };
    match number {
        Some(0) => Ok(None),
        Some(mark) if text.starts_with("0x") => Ok(Some(format!("{mark:#x}"))),
        Some(mark) => Ok(Some(mark.to_string())),
        None => Err(spot.error(format!(
            "expected off or a number up to 0xffffffff, found {text:?}"
        ))),
    }
}

/// A network as `wg` reads it: without a length it is a single address.
pub(super) fn network(text: &str) -> Option<IpNet> {
    let Some((address, bits)) = text.split_once('/') else {
        return text.parse::<IpAddr>().ok().map(IpNet::from);
    };
    let digits = !bits.is_empty() && bits.bytes().all(|b| b.is_ascii_digit());
    let bits: u8 = bits.parse().ok().filter(|_| digits)?;
    IpNet::new(address.parse().ok()?, bits).ok()
}

/// An address of ours, as `ip address add` reads it: without a length it is a single one, and
/// an IPv4 one may have its mask written out.
pub(super) fn address(text: &str) -> Option<IpNet> {
    let Some((address, mask)) = text.split_once('/') else {
        return text.parse::<IpAddr>().ok().map(IpNet::from);
    };
    let address: IpAddr = address.parse().ok()?;
    let bits = match mask.parse::<IpAddr>() {
        Ok(mask) if address.is_ipv4() => ipnet::ip_mask_to_prefix(mask).ok()?,
        Ok(_) => return None,
        // `ip` takes 024 for octal.
        Err(_) if mask.len() > 1 && mask.starts_with('0') => return None,
        Err(_) => return network(text),
    };
    IpNet::new(address, bits).ok()
}

/// `HOST:PORT`, in TOML. An IPv6 address may stand without brackets, anything may stand in
/// them.
pub(super) fn endpoint(value: &str, spot: &Spot) -> Result<String, ConfigError> {
    let expected = || {
        spot.error(several_ports(value).unwrap_or_else(|| {
            format!(
                "expected HOST:PORT such as 203.0.113.1:51820, [2001:db8::1]:51820 or \
                 vpn.example.org:51820, found {value:?}"
            )
        }))
    };
    let (host, port) = value.rsplit_once(':').ok_or_else(expected)?;
    let host = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'))
        .unwrap_or(host);
    let port: u16 = number(port, spot).map_err(|_| expected())?;
    let plain = |c: char| c.is_ascii_graphic() && !matches!(c, '"' | '\\');
    if host.is_empty() || !host.chars().all(plain) {
        return Err(expected());
    }
    if host.contains(':') {
        let address: std::net::Ipv6Addr = host.parse().map_err(|_| expected())?;
        return Ok(format!("\"[{address}]:{port}\""));
    }
    Ok(format!("\"{host}:{port}\""))
}

/// What is to be done about an endpoint with a range of ports, where it is one.
fn several_ports(value: &str) -> Option<String> {
    let ranged = values::endpoint(&values::plainly(value), None).ok()?;
    let RangedEndpoint { first, last_port } = &ranged;
    (!ranged.is_single()).then(|| {
        format!(
            "wg-quick has no ranges of ports, Taltun has; write Endpoint = {first} here, and in the \
             result endpoint = \"{ranged}\", or port_range = [{}, {last_port}] in [hop] and the \
             endpoint without a port",
            first.port()
        )
    })
}
