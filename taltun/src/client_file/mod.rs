//! The file of a peer: what a hub tells about itself, with the peer's own keys, which the hub's
//! process never sees.

pub mod code;
mod file_name;

use std::fmt::{Display, Write};

use ipnet::IpNet;
use zeroize::Zeroizing;

use crate::crypto::{PresharedKey, PrivateKey};
use crate::report::ClientAccess;

pub use self::file_name::{TAKEN_NAMES, is_taken, stem};

/// A peer's keys.
#[derive(Debug, Clone, Default)]
pub struct Keys {
    /// Its own; `None` where the peer itself made it, and has it already.
    pub private_key: Option<PrivateKey>,
    /// That which both sides share, if they do.
    pub preshared_key: Option<PresharedKey>,
}

/// What stands for a key that the peer itself has.
const OWN_KEY: &str = "the peer has its private key itself: add it here";
/// Longer than any file of a peer; what a growing text leaves behind isn't wiped.
const ROOM: usize = 16 << 10;

/// The file for Taltun.
pub fn toml(access: &ClientAccess, keys: &Keys) -> Zeroizing<String> {
    let mut text = Zeroizing::new(String::with_capacity(ROOM));
    text.push_str("[interface]\nmode = \"client\"\n");
    match &keys.private_key {
        Some(key) => quoted_line(&mut text, "private_key", &key.to_base64()),
        None => comment(&mut text, OWN_KEY),
    }
    line(&mut text, "vip", one_or_list(&access.addresses));
    // The kernel has a route to the subnet of the vip by itself.
    let subnets: Vec<IpNet> = access.addresses.iter().map(IpNet::trunc).collect();
    let routes = access.routes.iter().filter(|net| !subnets.contains(net));
    let routes: Vec<IpNet> = routes.copied().collect();
    if !routes.is_empty() {
        line(&mut text, "routes", list(&routes));
    }
    if !access.dns.is_empty() {
        line(&mut text, "dns", list(&access.dns));
    }
    if let Some(mtu) = access.mtu {
        line(&mut text, "mtu", mtu);
    }
    text.push_str("\n[[peers]]\nname = \"hub\"\n");
    quoted_line(&mut text, "public_key", &access.hub_public_key);
    if let Some(key) = &keys.preshared_key {
        quoted_line(&mut text, "preshared_key", &key.to_base64());
    }
    quoted_line(&mut text, "endpoint", &access.endpoint);
    line(&mut text, "allowed_ips", list(&allowed(access)));
    if access.persistent_keepalive > 0 {
        line(
            &mut text,
            "persistent_keepalive",
            access.persistent_keepalive,
        );
    }
    text
}

/// The file for any other WireGuard client: as `wg-quick` reads it, and no word more, so that its
/// code stays small.
pub fn wg_quick(access: &ClientAccess, keys: &Keys) -> Zeroizing<String> {
    let mut text = Zeroizing::new(String::with_capacity(ROOM));
    text.push_str("[Interface]\n");
    match &keys.private_key {
        Some(key) => line(&mut text, "PrivateKey", &*key.to_base64()),
        None => comment(&mut text, OWN_KEY),
    }
    line(&mut text, "Address", joined(&access.addresses));
    if !access.dns.is_empty() {
        line(&mut text, "DNS", joined(&access.dns));
    }
    if let Some(mtu) = access.mtu {
        line(&mut text, "MTU", mtu);
    }
    text.push_str("\n[Peer]\n");
    line(&mut text, "PublicKey", &access.hub_public_key);
    if let Some(key) = &keys.preshared_key {
        line(&mut text, "PresharedKey", &*key.to_base64());
    }
    line(&mut text, "Endpoint", &access.plain_endpoint);
    line(&mut text, "AllowedIPs", joined(&allowed(access)));
    if access.persistent_keepalive > 0 {
        line(
            &mut text,
            "PersistentKeepalive",
            access.persistent_keepalive,
        );
    }
    text
}

/// What may come from the hub: what is sent to it, and its own addresses.
fn allowed(access: &ClientAccess) -> Vec<IpNet> {
    let own = access.hub_addresses.iter().copied().map(IpNet::from);
    let own = own.filter(|own| !access.routes.iter().any(|net| net.contains(own)));
    access.routes.iter().copied().chain(own).collect()
}

fn line(text: &mut String, key: &str, value: impl Display) {
    // Writing to a String can't fail.
    let _ = writeln!(text, "{key} = {value}");
}

fn comment(text: &mut String, words: &str) {
    let _ = writeln!(text, "# {words}");
}

/// The same with a text as TOML has it; there are no quotes in keys, addresses and names of hosts.
fn quoted_line(text: &mut String, key: &str, value: &str) {
    let _ = writeln!(text, "{key} = \"{value}\"");
}

fn list<T: Display>(all: &[T]) -> String {
    let all: Vec<String> = all.iter().map(|one| format!("\"{one}\"")).collect();
    format!("[{}]", all.join(", "))
}

fn one_or_list<T: Display>(all: &[T]) -> String {
    match all {
        [one] => format!("\"{one}\""),
        several => list(several),
    }
}

fn joined<T: Display>(all: &[T]) -> String {
    let all: Vec<String> = all.iter().map(ToString::to_string).collect();
    all.join(", ")
}

#[cfg(test)]
mod tests;
