//! `[interface]` beyond the interface itself, and `[nat]`: what the host does for the tunnel.

use std::net::IpAddr;

use ipnet::IpNet;

use super::declared::{self, settings};
use super::{Config, Mode, PublicEndpoint};

declared::interface::declared! { settings! {
    /// What the host does for the tunnel beyond carrying its interface.
    #[derive(Debug, Clone, PartialEq, Eq)]
    #[allow(
        clippy::struct_excessive_bools,
        reason = "each is a switch of the file of its own"
    )]
    pub struct HostSettings {
        /// `nat.masquerade`, if it is on.
        pub masquerade: Option<Masquerade>,
    }
} }

/// `interface.dns`
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Dns {
    /// Whom to ask, the first one first.
    pub servers: Vec<IpAddr>,
    /// Domains to look for short names in.
    pub search: Vec<String>,
}

/// `[nat]`: what leaves by these interfaces takes this machine's address.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Masquerade {
    /// What came out of the tunnel and leaves by one of these; `None` for any but the tunnel's.
    pub out: Option<Vec<String>>,
    /// What goes into the tunnel from other interfaces takes our vip, as it does where `out`
    /// names [`TUNNEL`](Self::TUNNEL).
    pub into_tunnel: bool,
}

impl Masquerade {
    /// What stands for the tunnel's own interface in `nat.out`, whatever that is called.
    pub const TUNNEL: &str = "tunnel";

    /// What the value of `nat.out` means; empty for a file that doesn't say.
    pub fn to(out: Vec<String>) -> Self {
        let any = out.is_empty();
        let (tunnel, others): (Vec<_>, Vec<_>) =
            out.into_iter().partition(|name| name == Self::TUNNEL);
        Self {
            out: (!any).then_some(others),
            into_tunnel: !tunnel.is_empty(),
        }
    }

    /// The value of `nat.out` that means this; empty for none.
    pub fn written(&self) -> Vec<&str> {
        let names = self.out.iter().flatten().map(String::as_str);
        names
            .chain(self.into_tunnel.then_some(Self::TUNNEL))
            .collect()
    }
}

/// `interface.firewall`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FirewallChoice {
    /// nftables, else iptables.
    Auto,
    /// nftables, by `nft`.
    Nftables,
    /// iptables and ip6tables.
    Iptables,
    /// No rules at all.
    None,
}

/// Commands to run, each a text for `sh -c`, or for `bash -c`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Hooks {
    /// What runs them.
    pub shell: Shell,
    /// Before the interface is made. If one fails, it isn't made.
    pub before_up: Vec<String>,
    /// Once the tunnel answers.
    pub on_up: Vec<String>,
    /// Before it is taken down, and while it still works.
    pub on_down: Vec<String>,
    /// When the interface is gone, and all that was done to the host with it.
    pub after_down: Vec<String>,
    /// When a peer has a session after it had none.
    pub on_peer_up: Vec<String>,
    /// When it has none any more.
    pub on_peer_down: Vec<String>,
    /// When a peer has used up its quota or passed its last day.
    pub on_peer_refused: Vec<String>,
    /// When such a peer is allowed again.
    pub on_peer_allowed: Vec<String>,
}

/// `interface.shell`
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Shell {
    /// Whatever this host has as `sh`.
    #[default]
    Sh,
    /// `bash`, which wg-quick runs its commands by, with the options that it has then: a
    /// command ends at its first part that fails.
    Bash,
}

impl Shell {
    /// The program.
    pub fn program(self) -> &'static str {
        match self {
            Self::Sh => "sh",
            Self::Bash => "bash",
        }
    }

    /// What the program is told before `-c` and the command.
    pub fn options(self) -> &'static [&'static str] {
        match self {
            Self::Sh => &[],
            Self::Bash => &["-e", "-o", "pipefail", "-O", "extglob"],
        }
    }
}

impl HostSettings {
    /// The same as [`Config::relays`], in that mode.
    pub(super) fn relays(&self, mode: Mode) -> bool {
        self.relay.unwrap_or(mode == Mode::Server)
    }

    /// The key that can't do without firewall rules, if one was given.
    pub(super) fn needs_firewall(&self, forwards: bool) -> Option<&'static str> {
        [
            (self.kill_switch, "interface.kill_switch"),
            (self.masquerade.is_some(), "nat.masquerade"),
            (self.mss_clamp, "interface.mss_clamp"),
            (self.protect_vip, "interface.protect_vip"),
            (forwards, "[[forward]]"),
        ]
        .into_iter()
        .find_map(|(wanted, key)| wanted.then_some(key))
    }
}

impl Config {
    /// The mark on our datagrams: the one asked for, or where they need one to be led
    /// around the tunnel, one made of the interface's name, so that two tunnels have two and
    /// the next start knows what this one left.
    pub fn mark(&self, endpoints: &[IpAddr]) -> Option<u32> {
        let host = &self.host;
        let needed = host.kill_switch || self.routes_around(endpoints).next().is_some();
        host.fwmark
            .or_else(|| needed.then(|| mark_for(&self.interface.tun_name)))
    }

    /// The key that can't do without firewall rules, if one was given.
    pub fn needs_firewall(&self) -> Option<&'static str> {
        self.host.needs_firewall(!self.forwards.is_empty())
    }

    /// Whether packets between peers go straight from one to the other: by itself, on a server.
    pub fn relays(&self) -> bool {
        self.host.relays(self.interface.mode)
    }

    /// Those of the routes that would lead our own datagrams into the tunnel again: the
    /// default routes, whole or in halves, and any that an endpoint is in.
    pub fn routes_around<'a>(&'a self, endpoints: &'a [IpAddr]) -> impl Iterator<Item = &'a IpNet> {
        let routes = self.interface.routes.iter();
        routes.filter(|net| leads_around(net, endpoints))
    }
}

/// Whether a route to `net` would take what we send to one of `endpoints`, or to nearly
/// everybody.
pub fn leads_around(net: &IpNet, endpoints: &[IpAddr]) -> bool {
    net.prefix_len() <= 1 || endpoints.iter().any(|endpoint| net.contains(endpoint))
}

/// Marks to choose from for a tunnel, the first one first, by the interface's name (FNV-1a).
///
/// Others use bits of the mark by masks, and a mark of ours must not mean anything to them:
/// Kubernetes has 0x4000 and 0x8000, Tailscale 0xff0000, Calico 0xffff0000, Cilium 0x0f00 and the
/// upper half, and 0x2000 is ours for what is translated by iptables. That leaves 0x1000, which
/// all of ours have, and the lowest byte.
pub(crate) fn marks_for(tun_name: &str) -> impl Iterator<Item = u32> {
    let hash = tun_name.bytes().fold(0x811c_9dc5_u32, |hash, byte| {
        (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193)
    });
    // Each of 1 to 255 once.
    let start = (hash ^ hash >> 16) % 255;
    let steps = (start..255).chain(0..start);
    steps.map(|step| 0x1000 | step.saturating_add(1))
}

/// The one that a tunnel has where nobody else uses it.
fn mark_for(tun_name: &str) -> u32 {
    marks_for(tun_name).next().unwrap_or(0x1001)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mark_follows_the_name() {
        assert_eq!(mark_for("taltun0"), mark_for("taltun0"));
        assert_ne!(mark_for("taltun0"), mark_for("taltun1"));
        let all: Vec<u32> = marks_for("x").collect();
        assert_eq!(all[0], mark_for("x"));
        let different: std::collections::HashSet<&u32> = all.iter().collect();
        assert_eq!(different.len(), 255);
    }

    #[test]
    fn a_mark_means_nothing_to_those_who_use_bits_of_it() {
        // Kubernetes, Tailscale, Calico, Cilium, and what we ourselves mark for iptables.
        let claimed = 0x8000 | 0x4000 | 0x00ff_0000 | 0xffff_0000 | 0x0f00 | 0x2000;
        for name in ["taltun0", "wg0", "x", "fifteen-letters"] {
            assert!(marks_for(name).all(|mark| mark & claimed == 0 && mark & 0xff != 0));
        }
    }

    #[test]
    fn default_routes_and_those_to_an_endpoint_lead_around() {
        let endpoint: IpAddr = "203.0.113.1".parse().unwrap();
        for (net, expected) in [
            ("0.0.0.0/0", true),
            ("128.0.0.0/1", true),
            ("8000::/1", true),
            ("203.0.113.0/24", true),
            ("192.168.0.0/16", false),
            ("2001:db8::/32", false),
        ] {
            assert_eq!(
                leads_around(&net.parse().unwrap(), &[endpoint]),
                expected,
                "{net}"
            );
        }
    }
}
