//! Machines beside the tunnel that would send into it in the name of a peer or of this host.
//!
//! Where rules decide, the host's firewall refuses them, see `system/firewall/sources.rs`. Here is
//! what of the file and of the host's routes it depends on, and what is told where it can't.

use std::time::{Duration, Instant};

use ipnet::IpNet;
use tracing::{info, warn};

use crate::config::{Config, Mode, Peer};
use crate::system::{Host, Sources, firewall_lack, passes_on};

/// How long after a failure the same is tried again.
const AGAIN: Duration = Duration::from_secs(10);
/// What it means that it can't be.
const MEANS: &str = "whoever is outside of the tunnel can send into it what rules take for a peer's or the \
                     hub's, where this host passes it on";

/// Those that are refused.
#[derive(Debug, Default)]
pub(super) struct Pretenders {
    /// What was last asked for.
    asked: Option<Sources>,
    /// When to ask again if that failed, and what was told of it.
    again: Option<Instant>,
    told: Option<String>,
    /// Whether what it depends on may have changed.
    is_known: bool,
}

impl Pretenders {
    /// Looks at the file and the routes again at the next call of [`follow`](Self::follow).
    pub(super) fn look_again(&mut self) {
        self.is_known = false;
    }

    /// Makes it as `config` wants it by now, with these peers, where this host reaches `foreign` within
    /// their networks by other interfaces. Usually all is so already; call it once a second, and after
    /// [`look_again`](Self::look_again).
    pub(super) async fn follow(
        &mut self,
        config: &Config,
        peers: &[Peer],
        foreign: &[IpNet],
        host: Option<&mut Host>,
    ) {
        // A tunnel whose host isn't set up by us has no rules in a file.
        let Some(host) = host else { return };
        let is_due = self.again.is_some_and(|again| again <= Instant::now());
        if self.is_known && !is_due {
            return;
        }
        if !self.is_known {
            self.is_known = true;
            let wanted =
                is_wanted(config).then(|| Sources::new(&peers_networks(config, peers), foreign));
            if wanted == self.asked && self.again.is_none() {
                return;
            }
            self.asked = wanted;
        }
        self.again = None;
        match host.refuse_sources(config, self.asked.clone()).await {
            Ok(()) => {
                if self.told.take().is_some() {
                    info!(
                        "nobody outside of the tunnel can send into it in another's name any more"
                    );
                }
            }
            Err(reason) => {
                self.again = Some(Instant::now() + AGAIN);
                if self.told.as_ref() != Some(&reason) && passes_on(config) {
                    warn!("{MEANS}: {reason}");
                    self.told = Some(reason);
                }
            }
        }
    }
}

/// Whether rules decide by who sends.
fn is_wanted(config: &Config) -> bool {
    config.policy.is_any() && config.interface.mode == Mode::Server
}

/// The networks of the tunnel and of `peers`, which a running tunnel keeps apart from `config`. Of one
/// that has half of the internet nobody can tell who is outside of it.
pub(super) fn peers_networks(config: &Config, peers: &[Peer]) -> Vec<IpNet> {
    if !is_wanted(config) {
        return Vec::new();
    }
    let of_peers = peers.iter().flat_map(|peer| &peer.allowed_ips);
    let nets = config.interface.vip.iter().chain(of_peers);
    nets.map(IpNet::trunc)
        .filter(|net| net.prefix_len() > 1)
        .collect()
}

/// What `check` says of a file whose host passes packets on that nothing refuses.
pub(crate) fn unrefused(config: &Config) -> Option<String> {
    let forwards = config.host.ip_forward || !config.forwards.is_empty();
    let lack = (is_wanted(config) && forwards).then(|| firewall_lack(config))?;
    lack.map(|reason| format!("interface.firewall: {MEANS}: {reason}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{FirewallChoice, parse};

    fn config(rules: &str) -> Config {
        let text = format!(
            "[interface]\nmode = \"server\"\nvip = \"10.0.0.1/24\"\nip_forward = true\n\
             private_key = \"QEEnPbLtQ7Pk1mIyzvH0yuBrXcPVpE1bGL1C9cs9AWU=\"\n\
             [[peers]]\nname = \"ana\"\npublic_key = \"{}\"\nvip = \"10.0.0.2\"\n\
             allowed_ips = [\"0.0.0.0/0\", \"::/1\", \"192.168.0.0/16\"]\n{rules}",
            "xTIBA5rboUvnH4htodjb6e697QjLERt1NAB4mZqp8Dg="
        );
        parse(&text, "hub.toml").unwrap().config
    }

    #[test]
    fn networks_are_refused_where_rules_decide_and_an_exit_s_internet_is_not() {
        let networks = |config: Config| peers_networks(&config, &config.peers);
        assert!(networks(config("")).is_empty());
        let nets = networks(config("[policy]\ndefault = \"deny\"\n"));
        let nets: Vec<String> = nets.iter().map(IpNet::to_string).collect();
        assert_eq!(nets, ["10.0.0.0/24", "10.0.0.2/32", "192.168.0.0/16"]);
    }

    #[test]
    fn check_tells_where_nothing_refuses() {
        let mut judged = config("[policy]\ndefault = \"deny\"\n");
        judged.host.firewall = FirewallChoice::None;
        let said = unrefused(&judged).unwrap();
        assert!(said.contains("firewall = \"none\""), "{said}");
        judged.host.ip_forward = false;
        assert_eq!(unrefused(&judged), None);
        let mut free = config("");
        free.host.firewall = FirewallChoice::None;
        assert_eq!(unrefused(&free), None);
    }
}
