//! `[hop] port_range` of a server: ports that lead to the one we listen on.
//!
//! The XDP program turns them on interfaces where it is attached. On all others a firewall rule
//! redirects them, which costs an entry in the kernel's table of connections for each port that a
//! peer uses. Which of the two it is may change while the tunnel runs, as interfaces come and go.
//!
//! XDP sees with each datagram whether another socket waits for it. A rule can only leave alone the
//! ports that were found to be others', so they are looked for again and again. A port that somebody
//! has for a moment, to ask a name server for example, isn't worth new rules: it counts once it was
//! there twice in a row.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use tracing::{info, warn};

use crate::accel::{Shield, Turning};
use crate::config::{Config, Mode, PortRange};
use crate::report::{PortRangeBy, PortRangeStatus};
use crate::system::{Host, Redirect, udp_ports};

/// How long after a failure the same is tried again.
const AGAIN: Duration = Duration::from_secs(60);

/// How often the ports of other sockets are looked for.
const LOOK: Duration = Duration::from_secs(5);

/// The range, and what leads it to us.
#[derive(Debug, Default)]
pub(super) struct LedPorts {
    status: Option<PortRangeStatus>,
    /// What was last asked for, and when again if it failed.
    asked: Option<Asked>,
    again: Option<Instant>,
    others: Others,
}

/// What decides about the rules.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Asked {
    range: PortRange,
    listen: u16,
    /// The one address that we listen at, unless it is any.
    at: Option<IpAddr>,
    /// Where XDP turns the range, or why it doesn't.
    turning: Result<Turning, String>,
    /// Ports of the range that others have.
    left: Vec<u16>,
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

    /// Looks for the ports of others at the next call of [`follow`](Self::follow), and takes each for
    /// one that stays.
    pub(super) fn look_again(&mut self) {
        self.others = Others::default();
    }

    /// Makes it as `config` wants it by now, where we listen on `listen`. Usually all is so
    /// already, and costs little; call it once a second and after a reload.
    pub(super) async fn follow(
        &mut self,
        config: &Config,
        listen: SocketAddr,
        shield: &mut Shield,
        host: Option<&mut Host>,
    ) {
        let (at, listen) = (listen.ip().to_canonical(), listen.port());
        let at = Some(at).filter(|at| !at.is_unspecified());
        // A range of our port alone is none.
        let range = of(config).filter(|range| (range.first, range.last) != (listen, listen));
        shield.set_port_range(range.map(|range| (range.first, range.last)));
        let turning = shield.turning();
        let turning =
            turning.unwrap_or_else(|| Err("the eBPF programs know of no range".to_owned()));
        let others = &mut self.others;
        let asked = range.map(|range| Asked {
            range,
            listen,
            at,
            left: others.left((range, listen, at), needs_rule(&turning), Instant::now()),
            turning,
        });
        let is_due = self.again.is_some_and(|again| again <= Instant::now());
        if asked == self.asked && !is_due {
            return;
        }
        self.again = None;
        let redirect = asked.as_ref().and_then(Asked::redirect);
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
            left: asked.left.clone(),
            ..by(&asked.turning, led)
        });
        if status != self.status {
            tell(self.status.as_ref(), status.as_ref());
        }
        self.status = status;
        self.asked = asked;
    }
}

/// Whether XDP doesn't do all.
fn needs_rule(turning: &Result<Turning, String>) -> bool {
    turning
        .as_ref()
        .map_or(true, |turning| !turning.elsewhere.is_empty())
}

impl Asked {
    /// What a rule has to do, if there is to be one.
    fn redirect(&self) -> Option<Redirect> {
        let on = self.turning.as_ref().map(|turning| turning.on.clone());
        needs_rule(&self.turning).then(|| Redirect {
            to: self.listen,
            except: self.left.clone(),
            at: self.at,
            not_on: on.unwrap_or_default(),
        })
    }
}

/// The ports of the range that other sockets have.
#[derive(Debug, Default)]
struct Others {
    /// When, for which ports and at which address they were last looked for.
    looked: Option<(Instant, Sought)>,
    /// What was found then, be it for a moment.
    seen: BTreeSet<u16>,
    /// What stays with them.
    left: BTreeSet<u16>,
}

/// Range, our port in it, and our address.
type Sought = (PortRange, u16, Option<IpAddr>);

impl Others {
    /// Those that stay with them, in order. Looks only now and then, or only once without a rule.
    fn left(&mut self, sought: Sought, for_rule: bool, now: Instant) -> Vec<u16> {
        let (range, listen, at) = sought;
        let before = self.looked.filter(|(_, before)| *before == sought);
        let is_old = |looked| for_rule && now.saturating_duration_since(looked) >= LOOK;
        if before.is_none_or(|(looked, _)| is_old(looked)) {
            let mut seen = udp_ports(range.first..=range.last, at);
            seen.remove(&listen);
            self.found(seen, before.is_none());
            self.looked = Some((now, sought));
        }
        self.left.iter().copied().collect()
    }

    /// Judges what a look has found.
    fn found(&mut self, seen: BTreeSet<u16>, is_first: bool) {
        let stays = |port: &u16| is_first || self.seen.contains(port);
        self.left = seen.iter().copied().filter(stays).collect();
        self.seen = seen;
    }
}

/// What leads the range to us, and why.
fn by(
    turning: &Result<Turning, String>,
    led: Result<Option<&'static str>, String>,
) -> PortRangeStatus {
    let rule = |tool: Option<&str>| match tool {
        Some("iptables") => PortRangeBy::Iptables,
        Some(_) => PortRangeBy::Nftables,
        None => PortRangeBy::None,
    };
    let mut interfaces = Vec::new();
    let mut elsewhere = None;
    let (by, reason) = match turning {
        Ok(turning) => {
            interfaces.clone_from(&turning.on);
            let mut reason = "replies leave from the port that was used".to_owned();
            let without = turning.elsewhere.join(", ");
            if !without.is_empty() {
                elsewhere = Some(rule(led.as_ref().ok().copied().flatten()));
                reason = format!("{reason}; without the XDP program: {without}");
            }
            if let Err(error) = led {
                let what = if without.is_empty() {
                    "translated connections may have ports of it"
                } else {
                    "firewall"
                };
                reason = format!("{reason}; {what}: {error}");
            }
            (PortRangeBy::Xdp, reason)
        }
        Err(reason) => match led {
            Ok(tool) => (rule(tool), reason.clone()),
            Err(error) => (
                PortRangeBy::None,
                format!("XDP: {reason}; firewall: {error}"),
            ),
        },
    };
    PortRangeStatus {
        first: 0,
        last: 0,
        by,
        reason,
        interfaces,
        elsewhere,
        left: Vec::new(),
    }
}

/// Tells the log what has changed.
fn tell(before: Option<&PortRangeStatus>, status: Option<&PortRangeStatus>) {
    let Some(status) = status else {
        return info!("only the port that we listen on is ours again");
    };
    let PortRangeStatus {
        first,
        last,
        by,
        reason,
        interfaces,
        elsewhere,
        left,
    } = status;
    let is_led_alike = before.is_some_and(|before| {
        let left = left.clone();
        PortRangeStatus {
            left,
            ..before.clone()
        } == *status
    });
    if is_led_alike {
        if left.is_empty() {
            info!("hop.port_range: no other program has a port of {first}-{last} any more");
        }
    } else if *by == PortRangeBy::None {
        warn!(
            "hop.port_range: nothing leads the ports {first}-{last} to us ({reason}), so peers \
             reach only the port that we listen on"
        );
    } else {
        let elsewhere = elsewhere.map_or_else(String::new, |elsewhere| {
            format!(" on {}, by {elsewhere} elsewhere", interfaces.join(", "))
        });
        info!("the ports {first}-{last} lead to us, by {by}{elsewhere} ({reason})");
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

    fn turning(elsewhere: &[&str]) -> Turning {
        Turning {
            on: vec!["eth0".into()],
            elsewhere: elsewhere.iter().map(|name| (*name).to_owned()).collect(),
        }
    }

    #[test]
    fn the_status_says_by_what_and_why() {
        let of = |turning: Result<Turning, String>, led| {
            let status = by(&turning, led);
            (status.by, status.elsewhere, status.reason)
        };
        let by_xdp = of(Ok(turning(&[])), Ok(None));
        assert_eq!((by_xdp.0, by_xdp.1), (PortRangeBy::Xdp, None));
        let why = || Err("no XDP program is attached".to_owned());
        assert_eq!(
            of(why(), Ok(Some("nftables"))),
            (
                PortRangeBy::Nftables,
                None,
                "no XDP program is attached".into()
            )
        );
        assert_eq!(of(why(), Ok(Some("iptables"))).0, PortRangeBy::Iptables);
        assert_eq!(
            of(why(), Err("interface.firewall = \"none\"".into())),
            (
                PortRangeBy::None,
                None,
                "XDP: no XDP program is attached; firewall: interface.firewall = \"none\"".into()
            )
        );
        let both = of(Ok(turning(&["eth1"])), Ok(Some("iptables")));
        assert_eq!(
            (both.0, both.1),
            (PortRangeBy::Xdp, Some(PortRangeBy::Iptables))
        );
        assert!(
            both.2.contains("without the XDP program: eth1"),
            "{}",
            both.2
        );
        let half = of(Ok(turning(&["eth1"])), Err("no tool".into()));
        assert_eq!(half.1, Some(PortRangeBy::None));
        assert!(half.2.ends_with("firewall: no tool"), "{}", half.2);
    }

    #[test]
    fn a_rule_is_for_the_interfaces_without_the_program() {
        let asked = |turning| Asked {
            range: PortRange {
                first: 4096,
                last: 8191,
            },
            listen: 9000,
            at: None,
            turning,
            left: Vec::new(),
        };
        assert_eq!(asked(Ok(turning(&[]))).redirect(), None);
        let some = asked(Ok(turning(&["eth1"]))).redirect().unwrap();
        assert_eq!(some.not_on, ["eth0"]);
        let all = asked(Err("off".into())).redirect().unwrap();
        assert!(all.not_on.is_empty());
    }

    #[test]
    fn a_port_that_somebody_has_for_a_moment_changes_nothing() {
        let mut others = Others::default();
        let mut look = |ports: &[u16], is_first| {
            others.found(ports.iter().copied().collect(), is_first);
            others.left.iter().copied().collect::<Vec<u16>>()
        };
        assert_eq!(look(&[5000], true), [5000]);
        assert_eq!(look(&[5000, 6000], false), [5000]);
        assert_eq!(look(&[5000, 6001], false), [5000]);
        assert_eq!(look(&[6001], false), [6001]);
        assert!(look(&[], false).is_empty());
    }
}
