//! What in the controller reads bytes of others, for those who make such bytes: `tests/fuzz`.
//! Only there with the feature `fuzzing`.

use std::fmt::Write;
use std::net::{IpAddr, SocketAddr};
use std::ops::Range;
use std::time::Duration;

use super::icmp;
use super::uapi::SetParser;
use crate::config::{Config, DnsRoutes};
use crate::name_service;
use crate::name_service::dns_message::{self, Section};

/// The longest request on the control socket, bytes.
pub const REQUEST_MAX: usize = super::request::REQUEST_MAX;

/// Reads a request of `wg`'s socket, without its first line and its empty last one, and writes
/// what was understood as lines again; `None` where it is refused.
pub fn set_request(lines: &[u8]) -> Option<String> {
    let mut parser = SetParser::default();
    for line in lines.split(|byte| *byte == b'\n') {
        parser.line(line).ok()?;
    }
    let request = parser.finish();
    let mut text = String::new();
    let mut line = |key: &str, value: &dyn std::fmt::Display| {
        let _ = writeln!(text, "{key}={value}");
    };
    if let Some(key) = &request.private_key {
        let key = key.as_ref().map_or([0; 32], |key| *key.as_bytes());
        line("private_key", &format!("{:x}", base16ct::HexDisplay(&key)));
    }
    if let Some(port) = request.listen_port {
        line("listen_port", &port);
    }
    if let Some(mark) = request.fwmark {
        line("fwmark", &mark);
    }
    if request.replace_peers {
        line("replace_peers", &true);
    }
    for peer in &request.peers {
        let hex = |key: &[u8; 32]| format!("{:x}", base16ct::HexDisplay(key));
        line("public_key", &hex(&peer.public_key.0));
        for (key, is_so) in [
            ("remove", peer.remove),
            ("update_only", peer.update_only),
            ("replace_allowed_ips", peer.replace_allowed_ips),
        ] {
            if is_so {
                line(key, &true);
            }
        }
        if let Some(key) = &peer.preshared_key {
            line("preshared_key", &hex(&key.0));
        }
        if let Some(endpoint) = &peer.endpoint {
            line("endpoint", endpoint);
        }
        if let Some(seconds) = peer.persistent_keepalive {
            line("persistent_keepalive_interval", &seconds);
        }
        for (net, add) in &peer.allowed_ips {
            let sign = if *add { "" } else { "-" };
            line("allowed_ip", &format!("{sign}{net}"));
        }
    }
    Some(text)
}

/// A record of a DNS message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// 0 for an answer, 1 for an authority, 2 for what comes in addition.
    pub section: usize,
    /// Its name, without pointers.
    pub name: Vec<u8>,
    /// Its type.
    pub kind: u16,
    /// Its class.
    pub class: u16,
    /// How long it may be kept, seconds.
    pub ttl: u32,
    /// Where its data is.
    pub data: Range<usize>,
}

/// Name, type and end of the question of a DNS message.
pub fn question(message: &[u8]) -> Option<(String, u16, usize)> {
    dns_message::question(message).map(|it| (it.name, it.kind, it.end))
}

/// All records of a DNS message.
pub fn records(message: &[u8]) -> Option<Vec<Record>> {
    let records = dns_message::records(message)?;
    let record = |it: dns_message::Record| Record {
        section: match it.section {
            Section::Answer => 0,
            Section::Authority => 1,
            Section::Additional => 2,
        },
        name: it.name,
        kind: it.kind,
        class: it.class,
        ttl: it.ttl,
        data: it.data,
    };
    Some(records.into_iter().map(record).collect())
}

/// A question for a name.
pub fn ask_for(host: &str, kind: u16, id: u16) -> Option<Vec<u8>> {
    dns_message::ask_for(host, kind, id)
}

/// The answer to a question that there is nothing.
pub fn nothing(asked: &[u8], code: u8) -> Option<Vec<u8>> {
    dns_message::nothing(asked, code)
}

/// The names of the list that an answer is about.
pub fn concerned(routes: &DnsRoutes, asked: &str, answer: &[u8]) -> Option<Vec<String>> {
    name_service::concerned(routes, asked, answer)
}

/// An address of an answer, and how long it may be remembered.
pub type Address = (IpAddr, Duration);

/// The addresses in an answer about the list, and what of it is passed on.
pub fn listed(routes: &DnsRoutes, answer: &[u8]) -> Option<(Vec<Address>, Vec<u8>)> {
    name_service::listed(routes, answer).map(|it| (it.addresses, it.message))
}

/// An answer by UDP no longer than `room`.
pub fn fit(message: Vec<u8>, room: usize) -> Vec<u8> {
    name_service::fit(message, room)
}

/// The answer to a question about the names of the peers in a file; `None` where it is about others.
pub fn named(config: &Config, asked: &[u8]) -> Option<Vec<u8>> {
    let zone = name_service::Zone::of(config.names.as_ref()?, &config.interface, &config.peers);
    zone.answer(asked, &dns_message::question(asked)?)
}

/// A datagram that didn't arrive: where it was to go, the port that it came from, and why; no reason stands for a
/// port that nobody has.
pub type Undelivered = (SocketAddr, u16, Option<&'static str>);

/// What an ICMP message says, with its IP header.
pub fn undelivered_v4(packet: &[u8]) -> Option<Undelivered> {
    icmp::parse_v4(packet).map(|it| (it.to, it.from_port, it.why))
}

/// What an ICMP message of IPv6 says, without its IP header.
pub fn undelivered_v6(message: &[u8]) -> Option<Undelivered> {
    icmp::parse_v6(message).map(|it| (it.to, it.from_port, it.why))
}
