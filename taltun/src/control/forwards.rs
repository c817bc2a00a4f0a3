//! `[[forward]]`: ports of this host that lead to peers, by firewall rules.
//!
//! The rules are the host's. Here is what depends on more than the file: a port that the tunnel
//! listens on by now is left out, and what can't be as it was meant is told.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use tracing::{info, warn};

use crate::config::{Config, Forward, ForwardProtocol, ForwardSource};
use crate::report::{ForwardStatus, ForwardedBy, SourceSeen};
use crate::system::{Host, listening_places};

/// How long after a failure the same is tried again.
const AGAIN: Duration = Duration::from_secs(60);
/// How often the ports of other programs are looked for.
const LOOK: Duration = Duration::from_secs(60);

/// Ports that lead to peers.
#[derive(Debug, Default)]
pub(super) struct Forwards {
    /// What was last asked for, and when again if it failed.
    asked: Vec<Forward>,
    again: Option<Instant>,
    /// What it came to.
    led: Option<Result<Option<&'static str>, String>>,
    /// The ports of other programs, for each of the file's, and when they were looked for.
    taken: Vec<Vec<u16>>,
    looked: Option<Instant>,
    status: Vec<ForwardStatus>,
}

impl Forwards {
    /// What `status` tells.
    pub(super) fn status(&self) -> &[ForwardStatus] {
        &self.status
    }

    /// Why ports lead nowhere, if that is so.
    pub(super) fn failure(&self) -> Option<String> {
        let mut closed = self.status.iter();
        let closed = closed.find(|forward| forward.by == ForwardedBy::None)?;
        let reason = closed.reason.as_deref().unwrap_or_default();
        Some(format!("{} isn't open: {reason}", closed.listen))
    }

    /// Looks for other programs' ports at the next call of [`follow`](Self::follow).
    pub(super) fn look_again(&mut self) {
        self.looked = None;
    }

    /// Makes it as `config` wants it by now, where the tunnel listens on `listen` and the host has
    /// the addresses `own`. Usually all is so already; call it once a second and after a reload.
    pub(super) async fn follow(
        &mut self,
        config: &Config,
        listen: SocketAddr,
        own: &[IpAddr],
        host: Option<&mut Host>,
    ) {
        let filed = &config.forwards;
        if filed.is_empty() && self.asked.is_empty() && self.status.is_empty() {
            return;
        }
        let is_ours = |forward: &Forward| forward.listen.takes(ForwardProtocol::Udp, listen);
        let wanted = || filed.iter().filter(|forward| !is_ours(forward));
        let is_due = self.again.is_some_and(|again| again <= Instant::now());
        if self.led.is_none() || is_due || !wanted().eq(&self.asked) {
            self.asked = wanted().cloned().collect();
            let led = match host {
                Some(host) => host.forward_ports(config, &self.asked).await,
                None => Err("the host's firewall isn't set up for this tunnel".into()),
            };
            self.again = led.is_err().then(|| Instant::now() + AGAIN);
            self.led = Some(led);
        }
        self.look(config);
        let told = |(place, forward): (usize, &Forward)| ForwardStatus {
            taken: self.taken.get(place).cloned().unwrap_or_default(),
            ..self.tell_of(forward, is_ours(forward).then_some(listen), own)
        };
        let status: Vec<ForwardStatus> = filed.iter().enumerate().map(told).collect();
        if status != self.status {
            log_changes(&self.status, &status);
            self.status = status;
        }
    }

    /// Looks for the ports that other programs listen on, now and then.
    fn look(&mut self, config: &Config) {
        let filed = &config.forwards;
        let is_recent = self.looked.is_some_and(|looked| looked.elapsed() < LOOK);
        if is_recent && self.taken.len() == filed.len() {
            return;
        }
        self.looked = Some(Instant::now());
        self.taken = taken(config);
    }

    fn tell_of(
        &self,
        forward: &Forward,
        ours: Option<SocketAddr>,
        own: &[IpAddr],
    ) -> ForwardStatus {
        let (by, mut reason) = match &self.led {
            Some(Ok(Some("iptables"))) => (ForwardedBy::Iptables, None),
            Some(Ok(Some(_))) => (ForwardedBy::Nftables, None),
            Some(Err(error)) => (ForwardedBy::None, Some(error.clone())),
            Some(Ok(None)) | None => (ForwardedBy::None, None),
        };
        let at = forward.listen.at;
        if reason.is_none()
            && let Some(at) = at.filter(|at| !own.is_empty() && !own.contains(at))
        {
            reason = Some(format!("no interface of this host has {at}"));
        }
        let (by, reason) = match ours {
            Some(listen) => (
                ForwardedBy::None,
                Some(format!(
                    "the tunnel itself listens on UDP port {}",
                    listen.port()
                )),
            ),
            None => (by, reason),
        };
        ForwardStatus {
            listen: forward.listen.to_string(),
            to: forward.to.to_string(),
            addresses: forward.targets(),
            source: match forward.source {
                ForwardSource::Hub => SourceSeen::Hub,
                ForwardSource::Keep => SourceSeen::Keep,
            },
            by,
            reason,
            taken: Vec::new(),
        }
    }
}

/// The ports of each of the file's on which sockets of this host wait for others from outside.
pub(crate) fn taken(config: &Config) -> Vec<Vec<u16>> {
    let vips = || config.interface.vip.iter().map(ipnet::IpNet::addr);
    // What listens inside the tunnel is no matter.
    let is_outside =
        |place: &SocketAddr| !place.ip().is_loopback() && !vips().any(|vip| vip == place.ip());
    let all = |protocol| {
        let is_wanted = |forward: &Forward| forward.listen.protocol == protocol;
        let mut places = Vec::new();
        if config.forwards.iter().any(is_wanted) {
            places = listening_places(protocol);
            places.retain(is_outside);
        }
        places
    };
    let (tcp, udp) = (all(ForwardProtocol::Tcp), all(ForwardProtocol::Udp));
    let of_each = config.forwards.iter().map(|forward| {
        let listen = &forward.listen;
        let places = match listen.protocol {
            ForwardProtocol::Tcp => &tcp,
            ForwardProtocol::Udp => &udp,
        };
        let taken = places
            .iter()
            .filter(|place| listen.takes(listen.protocol, **place));
        let mut ports: Vec<u16> = taken.map(SocketAddr::port).collect();
        ports.sort_unstable();
        ports.dedup();
        ports
    });
    of_each.collect()
}

/// What other programs don't get any more, a half sentence for each port of the file.
pub(crate) fn kept_from_others(config: &Config) -> Vec<String> {
    let taken = taken(config);
    let told = config.forwards.iter().zip(&taken);
    told.filter(|(_, taken)| !taken.is_empty())
        .map(|(forward, taken)| {
            from_others(&forward.listen.to_string(), &forward.to.to_string(), taken)
        })
        .collect()
}

fn from_others(listen: &str, to: &str, taken: &[u16]) -> String {
    let ports: Vec<String> = taken.iter().map(u16::to_string).collect();
    let protocol = listen.split('/').next().unwrap_or_default().to_uppercase();
    let what = match taken.len() {
        1 => "port",
        _ => "ports",
    };
    format!(
        "forward.listen: {listen}: another program of this host listens on {protocol} {what} {} (`ss \
         -lntup` shows which), and what comes there from outside goes to {to} instead; take another \
         port, or end the program",
        ports.join(", ")
    )
}

fn log_changes(before: &[ForwardStatus], after: &[ForwardStatus]) {
    let known = |listen: &str| before.iter().find(|old| old.listen == listen);
    for gone in before {
        if !after.iter().any(|new| new.listen == gone.listen) {
            info!("{} doesn't lead to {} any more", gone.listen, gone.to);
        }
    }
    for new in after {
        let ForwardStatus {
            listen, to, taken, ..
        } = new;
        let old = known(listen);
        let is_led_alike = old.is_some_and(|old| {
            let taken = taken.clone();
            ForwardStatus {
                taken,
                ..old.clone()
            } == *new
        });
        match (&new.reason, new.by) {
            _ if is_led_alike => {}
            (Some(reason), ForwardedBy::None) => {
                warn!("{listen} doesn't lead to {to}: {reason}");
            }
            (reason, by) => {
                let addresses = new.addresses.join(", ");
                info!("{listen} leads to {to} ({addresses}), by {by}");
                if let Some(reason) = reason {
                    warn!("forward.listen: {listen}: {reason}");
                }
            }
        }
        if !taken.is_empty() && old.is_none_or(|old| old.taken != *taken) {
            warn!("{}", from_others(listen, to, taken));
        }
    }
}
