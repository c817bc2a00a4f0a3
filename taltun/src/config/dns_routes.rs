//! `[dns_routes]`: names whose addresses are reached through the tunnel.

use std::net::IpAddr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::crypto::PublicKey;

/// Names whose addresses are reached through a peer, however they change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DnsRoutes {
    /// Which names.
    pub domains: Vec<Domain>,
    /// By way of whom. The process that answers for these names doesn't ask.
    #[serde(skip, default = "nobody")]
    pub via: PublicKey,
    /// Name servers that know them, the first one first.
    pub upstream: Vec<IpAddr>,
    /// How long an address stays beyond the time that it may be remembered for.
    pub keep: Duration,
}

/// A name, or all names below one. In small letters, without a dot at the end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Domain {
    /// This name alone.
    Name(String),
    /// Every name that ends in a dot and this.
    Below(String),
}

fn nobody() -> PublicKey {
    PublicKey([0; 32])
}

impl DnsRoutes {
    /// Whether `name`, as a question has it, is one of them.
    pub fn includes(&self, name: &str) -> bool {
        let name = name.trim_end_matches('.').to_ascii_lowercase();
        self.domains.iter().any(|domain| match domain {
            Domain::Name(wanted) => name == *wanted,
            Domain::Below(parent) => name
                .strip_suffix(parent.as_str())
                .is_some_and(|rest| rest.len() > 1 && rest.ends_with('.')),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_itself_and_a_star_is_all_below() {
        let routes = DnsRoutes {
            domains: vec![
                Domain::Name("example.com".into()),
                Domain::Below("example.net".into()),
            ],
            via: PublicKey([1; 32]),
            upstream: Vec::new(),
            keep: Duration::ZERO,
        };
        for (name, expected) in [
            ("example.com", true),
            ("EXAMPLE.com.", true),
            ("www.example.com", false),
            ("example.net", false),
            ("www.Example.net", true),
            ("a.b.example.net.", true),
            ("badexample.net", false),
            (".example.net", false),
            ("example.net.evil.org", false),
            ("", false),
        ] {
            assert_eq!(routes.includes(name), expected, "{name}");
        }
    }
}
