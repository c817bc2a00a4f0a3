//! What is said about a line that can't be taken over.

use crate::config::error::{ConfigError, Spot};

/// Keys of `AmneziaWG`, which changes the messages so that they don't look like WireGuard's.
const AMNEZIA: &[&str] = &[
    "jc", "jmin", "jmax", "s1", "s2", "s3", "s4", "h1", "h2", "h3", "h4", "i1", "i2", "i3", "i4",
    "i5", "j1", "j2", "j3", "itime",
];
/// Keys of the apps for phones.
const APPS: &[&str] = &[
    "includedapplications",
    "excludedapplications",
    "includedapps",
    "excludedapps",
];
const INTERFACE: &[&str] = &[
    "PrivateKey",
    "ListenPort",
    "FwMark",
    "Address",
    "MTU",
    "DNS",
    "Table",
    "PreUp",
    "PostUp",
    "PreDown",
    "PostDown",
    "SaveConfig",
];
const PEER: &[&str] = &[
    "PublicKey",
    "PresharedKey",
    "AllowedIPs",
    "Endpoint",
    "PersistentKeepalive",
];

/// Refuses a key that neither `wg` nor `wg-quick` has in this section. `word` is the key in
/// small letters.
pub(super) fn unknown(spot: &Spot, word: &str, section: &str) -> ConfigError {
    if AMNEZIA.contains(&word) {
        return spot.error(
            "this is a key of AmneziaWG, whose messages Taltun doesn't speak; ask for a file for \
             plain WireGuard",
        );
    }
    if APPS.contains(&word) {
        return spot.error(
            "this is a key of the apps for phones; wg-quick doesn't know it either: take it out",
        );
    }
    let is = |names: &[&str]| names.iter().any(|name| name.eq_ignore_ascii_case(word));
    let (here, there, name) = if section == "[Peer]" {
        (PEER, INTERFACE, "[Interface]")
    } else {
        (INTERFACE, PEER, "[Peer]")
    };
    if is(there) {
        return spot.error(format!("this key belongs to {name}, not to {section}"));
    }
    let near = crate::config::nearest(word, here);
    let hint = near.map_or_else(String::new, |near| format!("; did you mean {near}?"));
    spot.error(format!(
        "neither wg nor wg-quick knows this key in {section}{hint}"
    ))
}

/// What keys of TOML are called in the file that was given.
const CALLED: &[(&str, &str)] = &[
    ("interface.vip", "Address"),
    ("interface.local_addr", "ListenPort"),
    ("interface.private_key", "PrivateKey"),
    ("interface.mtu", "MTU"),
    ("interface.routes", "AllowedIPs"),
    ("interface.fwmark", "FwMark"),
    ("interface.dns", "DNS"),
    ("peers.public_key", "PublicKey"),
    ("peers.preshared_key", "PresharedKey"),
    ("peers.vip", "[Peer]"),
    ("peers.allowed_ips", "AllowedIPs"),
    ("peers.endpoint", "Endpoint"),
    ("peers.persistent_keepalive", "PersistentKeepalive"),
];

/// A complaint about the outcome, which is called `outcome` in it, as one about `file`: `line`
/// tells which of its lines one of the outcome's came from.
pub(super) fn translate(
    message: &str,
    outcome: &str,
    file: &str,
    line: impl Fn(usize) -> usize,
) -> String {
    let mut parts = message.split(outcome);
    let mut text = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        text.push_str(file);
        let digits = part
            .strip_prefix(':')
            .map(|rest| rest.split(|c: char| !c.is_ascii_digit()).next());
        if let Some(digits) = digits.flatten()
            && let Ok(number) = digits.parse()
        {
            text.push(':');
            text.push_str(&line(number).to_string());
            text.extend(part.get(1..).and_then(|rest| rest.strip_prefix(digits)));
        } else {
            text.push_str(part);
        }
    }
    for (toml, called) in CALLED {
        text = text.replacen(&format!(": {toml}: "), &format!(": {called}: "), 1);
    }
    text
}
