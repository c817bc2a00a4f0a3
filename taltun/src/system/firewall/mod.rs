//! Firewall rules of our own: address translation, segment sizes, the kill switch, and what
//! keeps reverse-path checks happy beside a default route.
//!
//! They stand in a table of ours (nftables), or chains of ours that the usual ones jump to
//! (iptables), so that nobody else's rules are read or changed, and the whole is replaced in
//! one go and removed in one go. Rules of others still have their say: what a host's own
//! firewall drops, we can't let through.

mod iptables;
mod nftables;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use tracing::warn;

use super::{SystemError, program};
use crate::config::{Config, FirewallChoice};

/// What rules are made with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Kind {
    /// nftables, by `nft`.
    Nftables,
    /// iptables and ip6tables.
    Iptables,
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
    /// The interface that translated packets leave by; empty for any.
    masquerade: Option<String>,
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
            masquerade: host
                .masquerade
                .as_ref()
                .map(|nat| nat.out.clone().unwrap_or_default()),
        }
    }

    fn is_empty(&self) -> bool {
        !(self.recall_mark
            || self.protect_vip
            || self.mss_clamp
            || self.kill_switch
            || self.masquerade.is_some())
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

/// Chooses what `rules` are made with; `None` where none are wanted, or can't be made and are
/// no more than advisable. Nothing is touched.
pub(super) fn choose(config: &Config, rules: &Rules) -> Result<Option<Kind>, SystemError> {
    let required = config.host.needs_firewall();
    if rules.is_empty() || config.host.firewall == FirewallChoice::None {
        return Ok(None);
    }
    let candidates: &[(Kind, &str)] = match config.host.firewall {
        FirewallChoice::Nftables => &[(Kind::Nftables, "nft")],
        FirewallChoice::Iptables => &[(Kind::Iptables, "iptables")],
        FirewallChoice::Auto | FirewallChoice::None => {
            &[(Kind::Nftables, "nft"), (Kind::Iptables, "iptables")]
        }
    };
    let chosen = candidates
        .iter()
        .find(|(_, program)| program::find(program).is_some())
        .map(|(kind, _)| *kind);
    let missing = match config.host.firewall {
        FirewallChoice::Nftables => "nft (package nftables)",
        FirewallChoice::Iptables => "iptables (package iptables)",
        FirewallChoice::Auto | FirewallChoice::None => {
            "nft (package nftables), or else iptables (package iptables)"
        }
    };
    match (chosen, required) {
        (Some(kind), _) => Ok(Some(kind)),
        (None, Some(key)) => Err(SystemError::NoFirewall { key, missing }),
        (None, None) => {
            warn!(
                "without {missing} the vips can be reached from beside the tunnel, and where \
                 reverse paths are checked strictly (rp_filter = 1) answers may be dropped"
            );
            Ok(None)
        }
    }
}

/// Makes `rules`, in place of what there may be of ours for the same interface, in one step.
pub(super) async fn apply(kind: Kind, rules: &Rules) -> Result<(), SystemError> {
    let outcome = match kind {
        Kind::Nftables => nftables::apply(rules).await,
        Kind::Iptables => iptables::apply(rules).await,
    };
    outcome.map_err(SystemError::Firewall)?;
    if kind == Kind::Nftables && rules.masquerade.is_some() {
        nftables::warn_of_others(&rules.tun).await;
    }
    Ok(())
}

/// Removes our rules for `interface`. None there are fine.
pub(super) async fn remove(kind: Kind, interface: &str) {
    let outcome = match kind {
        Kind::Nftables => nftables::remove(interface).await,
        Kind::Iptables => iptables::remove(interface).await,
    };
    if let Err(reason) = outcome {
        warn!("firewall rules for {interface} may be left: {reason}");
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
            masquerade: Some("eth0".into()),
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

    #[test]
    fn a_segment_is_what_the_headers_leave_of_the_mtu() {
        assert_eq!(all_rules().segment(false), 1380);
        assert_eq!(all_rules().segment(true), 1360);
    }
}
