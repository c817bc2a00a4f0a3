//! Firewall rules of our own: address translation, forwarded ports, segment sizes, the kill
//! switch, and what keeps reverse-path checks happy beside a default route.
//!
//! They stand in a table of ours (nftables), or chains of ours that the usual ones jump to
//! (iptables), so that nobody else's rules are read or changed, and the whole is replaced in
//! one go and removed in one go. Rules of others still have their say: what a host's own
//! firewall drops, we can't let through.

mod forward;
mod hop;
mod iptables;
mod iptables_chains;
mod iptables_standing;
mod known_iptables;
mod known_nft;
mod nftables;
mod others;
mod sources;
mod standing;
mod switches;

pub(super) use hop::Hop;
pub use hop::Redirect;
pub(super) use others::warn_of_others;
pub use sources::Sources;
pub(super) use standing::Standing;
pub(super) use switches::{Listed, kill_switches, marks_of_others};

use std::ops::RangeInclusive;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use tracing::warn;

use super::conntrack::{self, LedPorts, LedTo};
use super::{SystemError, hop_ports, program};
use crate::config::{Config, FirewallChoice, Forward, ForwardProtocol, Masquerade};

/// What rules are made with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum FirewallTool {
    /// nftables, by `nft`.
    Nftables,
    /// iptables and ip6tables.
    Iptables,
}

impl FirewallTool {
    /// Its name.
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Nftables => "nftables",
            Self::Iptables => "iptables",
        }
    }
}

/// The rules that a tunnel wants.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(
    clippy::struct_excessive_bools,
    reason = "each is a group of rules that is there or not"
)]
pub(super) struct Rules {
    tun: String,
    vips: Vec<IpNet>,
    mtu: u16,
    /// The mark on our datagrams, where routing depends on it.
    mark: Option<u32>,
    /// Give answers to our datagrams the mark that they had.
    recall_mark: bool,
    protect_vip: bool,
    mss_clamp: bool,
    kill_switch: bool,
    /// What is translated.
    masquerade: Option<Masquerade>,
    /// A range of ports that leads to ours.
    hop: Option<Hop>,
    /// Ports that lead to peers.
    forwards: Vec<Forward>,
    /// What is forwarded into the tunnel comes from none of these, where rules decide.
    sources: Option<Sources>,
}

impl Rules {
    /// What `config` wants. `policy` is whether routes lead around our own datagrams.
    pub(super) fn of(config: &Config, mark: Option<u32>, policy: bool) -> Self {
        let host = &config.host;
        Self {
            tun: config.interface.tun_name.clone(),
            vips: config.interface.vip.clone(),
            mtu: config.interface.mtu,
            mark,
            recall_mark: policy && mark.is_some(),
            protect_vip: host.protect_vip || policy,
            mss_clamp: host.mss_clamp,
            kill_switch: host.kill_switch,
            masquerade: host.masquerade.clone(),
            hop: hop_ports(config).map(|ports| Hop {
                ports,
                redirect: None,
            }),
            forwards: config.forwards.clone(),
            sources: None,
        }
    }

    /// Those of a kill switch alone, whose marks are recalled.
    fn of_switch(interface: &str, mark: u32) -> Self {
        Self {
            tun: interface.to_owned(),
            vips: Vec::new(),
            mtu: 1280,
            mark: Some(mark),
            recall_mark: true,
            protect_vip: false,
            mss_clamp: false,
            kill_switch: true,
            masquerade: None,
            hop: None,
            forwards: Vec::new(),
            sources: None,
        }
    }

    /// The tunnel's interface.
    pub(super) fn interface(&self) -> &str {
        &self.tun
    }

    /// Whether nothing leaves but through the tunnel.
    pub(super) fn kill_switch(&self) -> bool {
        self.kill_switch
    }

    /// The same rules with the kill switch or without it. It lets datagrams with our mark
    /// pass, so without a mark there can't be one.
    pub(super) fn with_kill_switch(&self, kill_switch: bool) -> Option<Self> {
        (!kill_switch || self.mark.is_some()).then(|| Self {
            kill_switch,
            ..self.clone()
        })
    }

    /// The same rules for another range of ports, or for none.
    pub(super) fn with_hop(&self, hop: Option<Hop>) -> Self {
        Self {
            hop,
            ..self.clone()
        }
    }

    /// Whether ports lead to peers.
    pub(super) fn has_forwards(&self) -> bool {
        !self.forwards.is_empty()
    }

    /// The same rules with other ports that lead to peers.
    pub(super) fn with_forwards(&self, forwards: &[Forward]) -> Self {
        Self {
            forwards: forwards.to_vec(),
            ..self.clone()
        }
    }

    /// The same rules with other sources that are refused.
    pub(super) fn with_sources(&self, sources: Option<Sources>) -> Self {
        Self {
            sources,
            ..self.clone()
        }
    }

    /// What redirects a range of ports, and where to.
    fn redirect(&self) -> Option<(&Hop, &Redirect)> {
        let hop = self.hop.as_ref()?;
        Some((hop, hop.redirect.as_ref()?))
    }

    /// The UDP ports of this host that they lead elsewhere.
    pub(super) fn led_ports(&self) -> Vec<LedPorts> {
        let is_udp = |forward: &&Forward| forward.listen.protocol == ForwardProtocol::Udp;
        let forwards = self.forwards.iter().filter(is_udp).map(|forward| LedPorts {
            at: forward.listen.at,
            ports: forward.listen.ports.first..=forward.listen.ports.last,
            except: Vec::new(),
            to: LedTo::Others(forward.addresses.clone(), forward.to.ports.first),
        });
        let redirected = self.redirect().map(|(hop, redirect)| LedPorts {
            at: redirect.at,
            ports: hop.ports.clone(),
            except: redirect.except.clone(),
            to: LedTo::Own(redirect.to),
        });
        forwards.chain(redirected).collect()
    }

    /// The ports that translated connections are given, where it mustn't be any.
    fn translated_ports(&self) -> Option<RangeInclusive<u16>> {
        self.hop.as_ref().and_then(Hop::outside)
    }

    pub(super) fn is_empty(&self) -> bool {
        !(self.recall_mark
            || self.protect_vip
            || self.mss_clamp
            || self.kill_switch
            || self.masquerade.is_some()
            || !self.forwards.is_empty()
            || self.sources.is_some()
            || self.redirect().is_some())
    }

    fn vips_of(&self, v6: bool) -> Vec<String> {
        let vips = self.vips.iter().map(IpNet::addr);
        vips.filter(|vip| vip.is_ipv6() == v6)
            .map(|vip| vip.to_string())
            .collect()
    }

    /// The largest TCP segment that fits the tunnel, bytes: its MTU less the headers.
    fn segment(&self, v6: bool) -> u16 {
        self.mtu - if v6 { 60 } else { 40 }
    }
}

/// What a server loses by a default route without rules.
const NOT_KEPT: &str = "connections that others open to this machine from outside, ssh to its public \
     address for example, are answered through the tunnel and so break: without firewall rules \
     nothing keeps them on the way they came";

/// Chooses what `rules` are made with; `None` where none are wanted, or can't be made and are
/// no more than advisable. Nothing is touched.
pub(super) fn choose(config: &Config, rules: &Rules) -> Result<Option<FirewallTool>, SystemError> {
    let required = config.needs_firewall();
    if rules.recall_mark && config.host.firewall == FirewallChoice::None {
        warn!("{NOT_KEPT}; set interface.firewall = \"auto\" to have it so");
    }
    if rules.is_empty() || config.host.firewall == FirewallChoice::None {
        return Ok(None);
    }
    let chosen = installed(config.host.firewall);
    let missing = missing(config.host.firewall);
    match (chosen, required) {
        (Some(kind), _) => Ok(Some(kind)),
        (None, Some(key)) => Err(SystemError::NoFirewall { key, missing }),
        (None, None) => {
            warn!(
                "without {missing} the vips can be reached from beside the tunnel, and where \
                 reverse paths are checked strictly (rp_filter = 1) answers may be dropped"
            );
            if rules.recall_mark {
                warn!("{NOT_KEPT}; install one of them to have it so");
            }
            Ok(None)
        }
    }
}

/// Chooses what rules are made with that the start doesn't depend on. The error says why there
/// can't be any.
pub(super) fn choose_late(config: &Config) -> Result<FirewallTool, String> {
    let choice = config.host.firewall;
    if choice == FirewallChoice::None {
        return Err("interface.firewall = \"none\"".into());
    }
    installed(choice).ok_or_else(|| format!("{} isn't installed", missing(choice)))
}

/// The first tool of a choice that is there.
fn installed(choice: FirewallChoice) -> Option<FirewallTool> {
    let candidates: &[(FirewallTool, &str)] = match choice {
        FirewallChoice::Nftables => &[(FirewallTool::Nftables, "nft")],
        FirewallChoice::Iptables => &[(FirewallTool::Iptables, "iptables")],
        FirewallChoice::Auto | FirewallChoice::None => &[
            (FirewallTool::Nftables, "nft"),
            (FirewallTool::Iptables, "iptables"),
        ],
    };
    let mut candidates = candidates.iter();
    let chosen = candidates.find(|(_, program)| program::find(program).is_some());
    chosen.map(|(kind, _)| *kind)
}

/// What a choice needs, for people.
fn missing(choice: FirewallChoice) -> &'static str {
    match choice {
        FirewallChoice::Nftables => "nft (package nftables)",
        FirewallChoice::Iptables => "iptables (package iptables)",
        FirewallChoice::Auto | FirewallChoice::None => {
            "nft (package nftables) or iptables (package iptables)"
        }
    }
}

/// Makes `rules`, in place of what there may be of ours for the same interface, in one step. Flows
/// of UDP that began before follow them.
pub(super) async fn apply(kind: FirewallTool, rules: &Rules) -> Result<(), SystemError> {
    check_name(&rules.tun)?;
    let nat = rules.masquerade.iter();
    for out in nat.flat_map(|nat| nat.out.iter().flatten()) {
        check_name(out)?;
    }
    let redirect = rules.redirect().into_iter();
    for interface in redirect.flat_map(|(_, redirect)| &redirect.not_on) {
        check_name(interface)?;
    }
    let outcome = match kind {
        FirewallTool::Nftables => nftables::apply(rules).await,
        FirewallTool::Iptables => iptables::apply(rules).await,
    };
    outcome.map_err(SystemError::Firewall)?;
    conntrack::forget_misled(rules.led_ports(), Vec::new()).await;
    Ok(())
}

/// Removes our rules for `interface`. None there are fine.
pub(super) async fn remove(kind: FirewallTool, interface: &str) -> Result<(), SystemError> {
    check_name(interface)?;
    let outcome = match kind {
        FirewallTool::Nftables => nftables::remove(interface).await,
        FirewallTool::Iptables => iptables::remove(interface).await,
    };
    outcome.map_err(SystemError::Firewall)
}

/// Our rules for `interface` as their tool lists them, without counters; `None` where it lists
/// none.
pub(super) async fn listed(kind: FirewallTool, interface: &str) -> Option<String> {
    match kind {
        FirewallTool::Nftables => nftables::listed(interface).await,
        FirewallTool::Iptables => iptables::listed(interface).await,
    }
}

/// Whether a listing has each chain that `rules` are made as, with as many rules in each. How a
/// tool writes a rule differs from one version to the next.
pub(super) fn holds(kind: FirewallTool, rules: &Rules, listed: &str) -> bool {
    match kind {
        FirewallTool::Nftables => nftables::holds(rules, listed),
        FirewallTool::Iptables => iptables::holds(rules, listed),
    }
}

/// A rule of others in a listing that lets packets pass before ours could refuse them. Every table
/// of nftables has its say, so there is none.
pub(super) fn overtaken(kind: FirewallTool, listed: &str) -> Option<&str> {
    match kind {
        FirewallTool::Nftables => None,
        FirewallTool::Iptables => iptables::overtaken(listed),
    }
}

/// What tools have rules of ours for `interface`, whoever left them.
pub(super) async fn left(interface: &str) -> Vec<FirewallTool> {
    let mut left = Vec::new();
    for kind in [FirewallTool::Nftables, FirewallTool::Iptables] {
        if check_name(interface).is_ok() && listed(kind, interface).await.is_some() {
            left.push(kind);
        }
    }
    left
}

/// Whether our rules for `interface` by this tool are a kill switch.
pub(super) async fn is_kill_switch(kind: FirewallTool, interface: &str) -> bool {
    let chain = match kind {
        FirewallTool::Nftables => format!("chain {} ", nftables::KILL_SWITCH),
        FirewallTool::Iptables => iptables::kill_switch(interface),
    };
    let listed = listed(kind, interface).await;
    listed.is_some_and(|text| text.contains(&chain))
}

/// The last look at a name before it is text of a rule, wherever it came from: no quote, brace
/// or space, and none of the patterns of either tool.
fn check_name(name: &str) -> Result<(), SystemError> {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"_.-".contains(&b);
    if (1..=15).contains(&name.len()) && name.bytes().all(plain) {
        Ok(())
    } else {
        Err(SystemError::Firewall(format!(
            "rules can't name the interface {name:?}; use letters, digits, dots, dashes and \
             underscores"
        )))
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// Rules of every group.
    pub(in crate::system) fn all_rules() -> Rules {
        Rules {
            tun: "t0".into(),
            vips: vec![
                "10.0.0.1/24".parse().unwrap(),
                "fd00::1/64".parse().unwrap(),
            ],
            mtu: 1420,
            mark: Some(0x7a12_3456),
            recall_mark: true,
            protect_vip: true,
            mss_clamp: true,
            kill_switch: true,
            masquerade: Some(Masquerade::to(vec!["eth0".into(), "tunnel".into()])),
            hop: Some(Hop {
                ports: 4096..=8191,
                redirect: Some(Redirect {
                    to: 9000,
                    except: vec![5000, 5353],
                    at: Some([192, 0, 2, 1].into()),
                    not_on: vec!["eth0".into()],
                }),
            }),
            forwards: forward::tests::forwards(&["listen = \"tcp/8443\"; to = \"ana:443\""]),
            sources: Some(Sources::new(
                &[
                    "10.0.0.1/24".parse().unwrap(),
                    "fd00::1/64".parse().unwrap(),
                ],
                &[],
            )),
        }
    }

    #[test]
    fn a_plain_tunnel_wants_no_rules() {
        let config =
            crate::config::parse(include_str!("../../../dist/examples/hub.toml"), "hub.toml")
                .unwrap()
                .config;
        let rules = Rules::of(&config, None, false);
        assert!(rules.is_empty());
        assert_eq!(choose(&config, &rules).unwrap(), None);
    }

    #[tokio::test]
    async fn a_name_that_would_be_text_of_a_rule_reaches_no_rule() {
        for name in [
            "t\"",
            "t; x",
            "t{",
            "t*",
            "t+",
            "t\n",
            "",
            "sixteen-letters-",
        ] {
            let error = remove(FirewallTool::Nftables, name)
                .await
                .unwrap_err()
                .to_string();
            assert!(error.contains("rules can't name"), "{error}");
            let rules = Rules {
                tun: name.into(),
                ..all_rules()
            };
            apply(FirewallTool::Nftables, &rules).await.unwrap_err();
        }
        let rules = Rules {
            masquerade: Some(Masquerade::to(vec!["eth0\" accept".into()])),
            ..all_rules()
        };
        apply(FirewallTool::Iptables, &rules).await.unwrap_err();
    }

    #[test]
    fn a_segment_is_what_the_headers_leave_of_the_mtu() {
        assert_eq!(all_rules().segment(false), 1380);
        assert_eq!(all_rules().segment(true), 1360);
    }
}
