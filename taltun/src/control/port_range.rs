//! `[hop] port_range` of a server: ports that lead to the one we listen on.
//!
//! The XDP program turns them where it is attached. Where it can't, a firewall rule redirects them,
//! which costs an entry in the kernel's table of connections for each port that a peer uses. Which
//! of the two it is may change while the tunnel runs, as interfaces come and go.

use std::time::{Duration, Instant};

use tracing::{info, warn};

use crate::accel::Shield;
use crate::config::{Config, Mode, PortRange};
use crate::report::{PortRangeBy, PortRangeStatus};
use crate::system::{Host, Redirect, udp_ports};

/// How long after a failure the same is tried again.
const AGAIN: Duration = Duration::from_secs(60);

/// The range, and what leads it to us.
#[derive(Debug, Default)]
pub(super) struct LedPorts {
    status: Option<PortRangeStatus>,
    /// What was last asked for, and when again if it failed.
    asked: Option<Asked>,
    again: Option<Instant>,
}

/// What decides about the rules.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Asked {
    range: PortRange,
    listen: u16,
    /// Why XDP doesn't turn the range; `None` where it does.
    not_by_xdp: Option<String>,
}

/// The range that is to lead to us.
pub(super) fn of(config: &Config) -> Option<PortRange> {
    let is_server = config.interface.mode == Mode::Server;
    config.hop.port_range.filter(|_| is_server)
}

impl LedPorts {
    /// What `status` tells.
    pub(super) fn status(&self) -> Option<PortRangeStatus> {
        self.status.clone()
    }

    /// Makes it as `config` wants it by now, where we listen on `listen`. Usually all is so
    /// already, and costs nothing; call it once a second and after a reload.
    pub(super) async fn follow(
        &mut self,
        config: &Config,
        listen: u16,
        shield: &mut Shield,
        host: Option<&mut Host>,
    ) {
        let range = of(config);
        shield.set_port_range(range.map(|range| (range.first, range.last)));
        let asked = range.map(|range| Asked {
            range,
            listen,
            not_by_xdp: match shield.turning() {
                Some(Ok(())) => None,
                Some(Err(reason)) => Some(reason),
                None => Some("the eBPF programs know of no range".into()),
            },
        });
        let is_due = self.again.is_some_and(|again| again <= Instant::now());
        if asked == self.asked && !is_due {
            return;
        }
        self.again = None;
        let left = self.left(asked.as_ref());
        let redirect = asked.as_ref().filter(|asked| asked.not_by_xdp.is_some());
        let redirect = redirect.map(|asked| Redirect {
            to: asked.listen,
            except: left.clone(),
        });
        let is_wanted = redirect.is_some();
        let led = match host {
            Some(host) => host.lead_ports(config, redirect).await,
            None => Err("the host's firewall isn't set up for this tunnel".into()),
        };
        if led.is_err() && is_wanted {
            self.again = Some(Instant::now() + AGAIN);
        }
        let status = asked.as_ref().map(|asked| PortRangeStatus {
            first: asked.range.first,
            last: asked.range.last,
            left,
            ..by(asked.not_by_xdp.as_deref(), led)
        });
        if status != self.status {
            tell(status.as_ref());
        }
        self.status = status;
        self.asked = asked;
    }

    /// The ports that other sockets have: looked for once for a range, as programs come and go.
    fn left(&self, asked: Option<&Asked>) -> Vec<u16> {
        let Some(asked) = asked else {
            return Vec::new();
        };
        if let (Some(known), Some(status)) = (&self.asked, &self.status)
            && (known.range, known.listen) == (asked.range, asked.listen)
        {
            return status.left.clone();
        }
        let mut left = udp_ports(asked.range.first..=asked.range.last);
        left.retain(|port| *port != asked.listen);
        left
    }
}

/// What leads the range to us, and why.
fn by(not_by_xdp: Option<&str>, led: Result<Option<&'static str>, String>) -> PortRangeStatus {
    let (by, reason) = match (not_by_xdp, led) {
        (None, Ok(_)) => (
            PortRangeBy::Xdp,
            "replies leave from the port that was used".into(),
        ),
        (None, Err(error)) => (
            PortRangeBy::Xdp,
            format!("translated connections may have ports of it: {error}"),
        ),
        (Some(reason), Ok(Some("iptables"))) => (PortRangeBy::Iptables, reason.to_owned()),
        (Some(reason), Ok(Some(_))) => (PortRangeBy::Nftables, reason.to_owned()),
        (Some(reason), Ok(None)) => (PortRangeBy::None, reason.to_owned()),
        (Some(reason), Err(error)) => (
            PortRangeBy::None,
            format!("XDP: {reason}; firewall: {error}"),
        ),
    };
    PortRangeStatus {
        first: 0,
        last: 0,
        by,
        reason,
        left: Vec::new(),
    }
}

/// Tells the log.
fn tell(status: Option<&PortRangeStatus>) {
    let Some(status) = status else {
        return info!("only the port that we listen on is ours again");
    };
    let PortRangeStatus {
        first,
        last,
        by,
        reason,
        left,
    } = status;
    if *by == PortRangeBy::None {
        warn!(
            "hop.port_range: nothing leads the ports {first}-{last} to us ({reason}), so peers \
             reach only the port that we listen on"
        );
    } else {
        info!("the ports {first}-{last} lead to us, by {by} ({reason})");
    }
    if !left.is_empty() {
        let left: Vec<String> = left.iter().map(u16::to_string).collect();
        warn!(
            "hop.port_range: other programs of this host have ports of {first}-{last}, and keep \
             them: {} (`ss -ulpn` shows who); peers that choose one of these try another",
            left.join(", ")
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_status_says_by_what_and_why() {
        let of = |not_by_xdp, led| {
            let status = by(not_by_xdp, led);
            (status.by, status.reason)
        };
        assert_eq!(of(None, Ok(None)).0, PortRangeBy::Xdp);
        let why = Some("no XDP program is attached");
        assert_eq!(
            of(why, Ok(Some("nftables"))),
            (PortRangeBy::Nftables, "no XDP program is attached".into())
        );
        assert_eq!(of(why, Ok(Some("iptables"))).0, PortRangeBy::Iptables);
        assert_eq!(
            of(why, Err("interface.firewall = \"none\"".into())),
            (
                PortRangeBy::None,
                "XDP: no XDP program is attached; firewall: interface.firewall = \"none\"".into()
            )
        );
    }
}
