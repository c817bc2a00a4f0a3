//! `taltun ban`

use std::str::FromStr;

use clap::Args;
use ipnet::IpNet;

use super::duration::Duration;
use super::failure::Failure;
use super::target::Target;
use crate::config;
use crate::control::request;
use crate::crypto::PublicKey;
use crate::layer::Layer;

/// Drop everything that comes from a network or from a peer.
///
/// A network is on the underlay: the XDP program drops its datagrams before they cost anything.
/// With --inner it is inside the tunnel. For a peer, by name or public key, all addresses that it
/// owns inside the tunnel now are banned; with --outer the address that it was last heard from. A
/// ban ends after --for, with `unban`, or when the tunnel stops; for lasting bans use `deny` and
/// `deny_inner` in the configuration. On a hub of a fleet, a ban with --for is one of all hubs.
///
/// Refused without --force: a network larger than a /8 (IPv6: /16), and one of this machine's own
/// addresses. Refused without --inner or --outer: an address inside the tunnel.
#[derive(Args)]
pub(super) struct Ban {
    /// A network, a bare address, or a peer.
    #[arg(value_name = "CIDR|PEER")]
    whom: Whom,

    /// The network is inside the tunnel.
    #[arg(long)]
    inner: bool,

    /// The network is outside, although it looks like one inside; or, for a peer, its address
    /// outside.
    #[arg(long, conflicts_with = "inner")]
    outer: bool,

    /// For how long: 90s, 10m, 1h30m, 2d.
    #[arg(long = "for", value_name = "DURATION")]
    duration: Option<Duration>,

    /// Ban even what may be a mistake.
    #[arg(long)]
    force: bool,

    #[command(flatten)]
    target: Target,
}

impl Ban {
    pub(super) fn run(self) -> Result<(), Failure> {
        let named = (self.inner || self.outer).then_some(Layer::from(self.inner));
        let force = self.force;
        let seconds = self.duration.map(|duration| duration.seconds);
        match self.whom {
            Whom::Network(net) => self.target.command(request::Ban {
                net,
                layer: named,
                force,
                seconds,
            }),
            Whom::Peer(peer) => self.target.command(request::BanPeer {
                peer,
                layer: Layer::from(!self.outer),
                force,
                seconds,
            }),
        }
    }
}

/// Who is banned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Whom {
    /// A network; bits beyond the prefix are cleared.
    Network(IpNet),
    /// A peer, by its name or public key.
    Peer(String),
}

impl FromStr for Whom {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match config::network(text) {
            Ok((net, _)) => Ok(Self::Network(net)),
            Err(_) if text.parse::<PublicKey>().is_ok() => Ok(Self::Peer(text.to_owned())),
            // Nobody calls a peer so, and an address may well be mistyped so.
            // Whoever shows the error says what was found.
            Err(error) if looks_like_a_network(text) => {
                let (expected, _) = error.split_once(", found ").unwrap_or((&error, ""));
                Err(expected.to_owned())
            }
            Err(_) => Ok(Self::Peer(text.to_owned())),
        }
    }
}

fn looks_like_a_network(text: &str) -> bool {
    let number = |c: char| c.is_ascii_digit() || c == '.';
    text.contains(['/', ':']) || text.chars().all(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_and_peers_are_told_apart() {
        let net = |text: &str| Whom::Network(text.parse().unwrap());
        for (text, expected) in [
            ("198.51.100.7", net("198.51.100.7/32")),
            ("198.51.100.7/24", net("198.51.100.0/24")),
            ("fd00::1", net("fd00::1/128")),
            ("ana", Whom::Peer("ana".into())),
            ("box-1.lan", Whom::Peer("box-1.lan".into())),
        ] {
            assert_eq!(text.parse(), Ok(expected), "{text}");
        }
        let key = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
        assert_eq!(key.parse(), Ok(Whom::Peer(key.into())));
        for text in ["", "10.0.0.0/33", "10.0.0", "fd00::g", "203.0.113.0/24/24"] {
            assert!(text.parse::<Whom>().is_err(), "{text}");
        }
    }
}
