//! Requests on `wg`'s socket: taken exactly where each line is one that the protocol's page has, and
//! what was understood, written again, is understood as the same.

use std::net::{IpAddr, SocketAddr};

use taltun::control::fuzzing::set_request;

pub(crate) fn run(lines: &[u8]) {
    let understood = set_request(lines);
    // The names of interfaces are this machine's affair.
    if !lines.contains(&b'%') {
        assert_eq!(understood.is_some(), is_right(lines));
    }
    if let Some(text) = understood {
        let lines = text.trim_end_matches('\n');
        let again = match lines {
            "" => return,
            lines => set_request(lines.as_bytes()),
        };
        assert_eq!(again.as_deref(), Some(&*text), "of what was understood");
    }
}

/// Whether each line is one of the protocol's, in its place.
fn is_right(lines: &[u8]) -> bool {
    let mut in_peer = false;
    lines.split(|byte| *byte == b'\n').all(|line| {
        let Ok(line) = std::str::from_utf8(line) else {
            return false;
        };
        let Some(at) = line.find('=') else {
            return false;
        };
        let (key, value) = (&line[..at], &line[at + 1..]);
        if key == "public_key" {
            in_peer = true;
            return is_key(value);
        }
        match (in_peer, key) {
            (false, "private_key") | (true, "preshared_key") => is_key(value),
            (false, "listen_port") | (true, "persistent_keepalive_interval") => {
                is_number(value, 65_535)
            }
            (false, "fwmark") => match value.strip_prefix("0x") {
                Some(hex) => is_hex(hex) && hex.trim_start_matches('0').len() <= 8,
                None => is_number(value, u64::from(u32::MAX)),
            },
            (false, "replace_peers") | (true, "remove" | "update_only" | "replace_allowed_ips") => {
                value == "true"
            }
            (true, "protocol_version") => value == "1",
            (true, "endpoint") => value.parse().is_ok_and(|to: SocketAddr| to.port() != 0),
            (true, "allowed_ip") => is_net(value.strip_prefix(['+', '-']).unwrap_or(value)),
            _ => false,
        }
    })
}

fn is_hex(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

fn is_key(text: &str) -> bool {
    text.len() == 64 && is_hex(text)
}

fn is_number(text: &str, most: u64) -> bool {
    let digits = text.trim_start_matches('0');
    let is_decimal = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    is_decimal && digits.len() < 19 && digits.parse().unwrap_or(0) <= most
}

fn is_net(text: &str) -> bool {
    let (address, length) = match text.split_once('/') {
        Some((address, length)) => (address, Some(length)),
        None => (text, None),
    };
    match (address.parse(), length) {
        (Ok(_), None) => true,
        (Ok(IpAddr::V4(_)), Some(length)) => is_number(length, 32),
        (Ok(IpAddr::V6(_)), Some(length)) => is_number(length, 128),
        (Err(_), _) => false,
    }
}
