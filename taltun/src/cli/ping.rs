//! `taltun ping`

mod echo;

use std::fmt::Write;
use std::io;
use std::net::IpAddr;
use std::time::Duration;

use clap::Args;
use ipnet::IpNet;
use tokio::signal::ctrl_c;
use tokio::time::{Instant, sleep_until, timeout};

use self::echo::{Echo, Way};
use super::failure::Failure;
use super::peers::{meant, troubles};
use super::table::table;
use super::target::Target;
use super::width::printable;
use super::{human, output};
use crate::control::request;
use crate::dataplane::clock;
use crate::report::{self, PeerStatus, Ping, RoundTrips, Status, UnixTime, VERSION};

/// How long answers are waited for after the last request.
const LAST_WAIT: Duration = Duration::from_secs(1);

/// Measure the round trip to a peer, through the tunnel and beside it.
///
/// Each time an echo request goes to the peer's address in the tunnel, and one past the tunnel to where
/// the peer is: what the first takes longer is what the tunnel and both ends' machines add. Many
/// routers and firewalls answer no requests from outside. The exit code is 0 if something came back
/// through the tunnel, and 1 if nothing did.
#[derive(Args)]
pub(super) struct PingCommand {
    /// The peer, by its name, its public key, or an address inside the tunnel.
    peer: String,

    /// How many requests are sent each way.
    #[arg(long, short, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    count: u32,

    /// Seconds from one to the next, 0.01 to 60.
    #[arg(long, value_name = "SECONDS", default_value = "0.5", value_parser = interval)]
    every: Duration,

    /// Print JSON, once all is over.
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    target: Target,
}

impl PingCommand {
    pub(super) fn run(self) -> Result<(), Failure> {
        let status = self.target.ask(request::Status)?;
        let (peer, address) = self.whom(&status)?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| Failure::Other(format!("cannot start: {error}")))?;
        let (tunnel, path) = runtime.block_on(async {
            let (mut tunnel, mut path) = open(&status, peer, address)?;
            if !self.json {
                output::print(&greeting(&status, peer, address))?;
            }
            self.exchange(&mut tunnel, path.as_mut()).await?;
            Ok::<_, Failure>((tunnel.round_trips(), path.as_ref().map(Echo::round_trips)))
        })?;
        let ping = Ping {
            version: VERSION,
            timestamp: UnixTime::at(clock::wall()),
            interface: status.interface.clone(),
            peer: peer.label().to_owned(),
            tunnel,
            path,
        };
        if self.json {
            output::print_json(&ping)?;
        } else {
            // As it is by now: the pings may have shown what is amiss.
            let status = self.target.ask(request::Status);
            let now = status.as_ref().ok().and_then(|status| {
                let mut peers = status.peers.iter();
                peers.find(|it| it.public_key == peer.public_key)
            });
            let summary = summary(&ping, now.unwrap_or(peer));
            output::print(&self.target.advice(&summary))?;
        }
        if ping.tunnel.received > 0 {
            Ok(())
        } else {
            Err(Failure::Told)
        }
    }

    /// The peer that is meant, and its address to send to.
    fn whom<'a>(&self, status: &'a Status) -> Result<(&'a PeerStatus, IpAddr), Failure> {
        let outcome = match self.peer.parse() {
            Ok(address) => owner(status, address).map(|peer| (peer, address)),
            Err(_) => meant(&status.peers, &self.peer)
                .and_then(|peer| first_address(peer).map(|address| (peer, address))),
        };
        outcome.map_err(|reason| Failure::Other(self.target.advice(&reason)))
    }

    /// Sends all requests, and prints a line for each pair of them unless JSON is asked for. Ctrl-C ends it.
    async fn exchange(
        &self,
        tunnel: &mut Echo,
        mut path: Option<&mut Echo>,
    ) -> Result<(), Failure> {
        for number in 0..self.count as usize {
            let next = Instant::now() + self.every;
            tunnel.send().await;
            if let Some(path) = &mut path {
                path.send().await;
            }
            let is_last = number + 1 == self.count as usize;
            let end = if is_last {
                Instant::now() + LAST_WAIT
            } else {
                next
            };
            let goes_on = listen(tunnel, path.as_deref_mut(), number, end).await;
            let is_read = self.json || told(number, tunnel, path.as_deref())?;
            if !goes_on || !is_read {
                return Ok(());
            }
            if !is_last {
                // Answers that are late come in meanwhile.
                let rest = async {
                    loop {
                        hear(tunnel, path.as_deref_mut()).await;
                    }
                };
                tokio::select! {
                    () = rest => {}
                    () = sleep_until(next) => {}
                    _ = ctrl_c() => return Ok(()),
                }
            }
        }
        let late = async {
            while !(tunnel.is_done() && path.as_ref().is_none_or(|path| path.is_done())) {
                hear(tunnel, path.as_deref_mut()).await;
            }
        };
        // Late ones are seldom; the last wait had most of them.
        let _ = timeout(LAST_WAIT / 4, late).await;
        Ok(())
    }
}

/// Until both requests of this number are answered, at most until `end`; false after Ctrl-C.
async fn listen(
    tunnel: &mut Echo,
    mut path: Option<&mut Echo>,
    number: usize,
    end: Instant,
) -> bool {
    loop {
        let is_answered = |echo: &Echo| echo.answer(number).is_some();
        if is_answered(tunnel) && path.as_deref().is_none_or(is_answered) {
            return true;
        }
        tokio::select! {
            () = hear(tunnel, path.as_deref_mut()) => {}
            () = sleep_until(end) => return true,
            _ = ctrl_c() => return false,
        }
    }
}

/// Until something is heard, of whichever.
async fn hear(tunnel: &mut Echo, path: Option<&mut Echo>) {
    match path {
        Some(path) => tokio::select! {
            () = tunnel.hear() => {}
            () = path.hear() => {}
        },
        None => tunnel.hear().await,
    }
}

/// Prints the line of this number; false when nobody reads any more.
fn told(number: usize, tunnel: &Echo, path: Option<&Echo>) -> Result<bool, Failure> {
    let outside = match path {
        Some(path) => format!("   path {:>9}", time(path.answer(number))),
        None => String::new(),
    };
    let line = format!(
        "{:>5}   tunnel {:>9}{outside}\n",
        number + 1,
        time(tunnel.answer(number))
    );
    output::print_while_read(&line)
}

/// The sockets: for the tunnel, and for the path if there is one.
fn open(
    status: &Status,
    peer: &PeerStatus,
    address: IpAddr,
) -> Result<(Echo, Option<Echo>), Failure> {
    let identifier = std::process::id() as u16;
    let tunnel = Echo::new(address, Way::Interface(&status.interface), identifier);
    let tunnel = tunnel.map_err(|error| cannot(address, &error))?;
    let outside = peer.endpoint.map(|endpoint| endpoint.ip().to_canonical());
    // The other identifier, as both may go to one address.
    let path = outside.map(|outside| {
        let way = Way::Mark(status.fwmark);
        Echo::new(outside, way, identifier.wrapping_add(1)).map_err(|error| cannot(outside, &error))
    });
    let path = match path {
        Some(Ok(path)) => Some(path),
        Some(Err(failure)) => {
            // The tunnel's is worth something by itself.
            output::warn(&failure.to_string());
            None
        }
        None => None,
    };
    Ok((tunnel, path))
}

fn cannot(address: IpAddr, error: &io::Error) -> Failure {
    let what = match error.kind() {
        io::ErrorKind::PermissionDenied => "this needs root, or CAP_NET_RAW",
        _ => "",
    };
    let separator = if what.is_empty() { "" } else { ": " };
    Failure::Other(format!(
        "cannot send to {address}: {error}{separator}{what}"
    ))
}

fn interval(text: &str) -> Result<Duration, String> {
    let wrong = || "expected seconds from 0.01 to 60".to_owned();
    let seconds: f64 = text.parse().map_err(|_| wrong())?;
    if !(0.01..=60.0).contains(&seconds) {
        return Err(wrong());
    }
    Ok(Duration::from_secs_f64(seconds))
}

/// The peer that packets to this address go to.
fn owner(status: &Status, address: IpAddr) -> Result<&PeerStatus, String> {
    if status.vip.iter().any(|net| net.addr() == address) {
        return Err(format!(
            "{address} is this machine's own address in {}",
            status.interface
        ));
    }
    let owner = report::owner(&status.peers, address).map(|(peer, _)| peer);
    owner.ok_or_else(|| {
        format!(
            "{address} is no peer's address in {}; `taltun peer list` lists them",
            status.interface
        )
    })
}

/// A peer's first address. What is behind it isn't its own, and single addresses beside networks may be that.
fn first_address(peer: &PeerStatus) -> Result<IpAddr, String> {
    let nets = &peer.allowed_ips;
    let is_single = |net: &IpNet| net.prefix_len() == net.max_prefix_len();
    let single = nets.first().filter(|_| nets.iter().all(is_single));
    let own = peer.vip.first().copied().or(single.map(IpNet::addr));
    own.ok_or_else(|| {
        let label = printable(peer.label());
        let nets: Vec<String> = nets.iter().map(ToString::to_string).collect();
        if nets.is_empty() {
            return format!("{label} has no address in the tunnel");
        }
        let nets = nets.join(", ");
        format!(
            "{label} has networks ({nets}) and no address of its own: give the address instead of the name"
        )
    })
}

/// The first lines.
fn greeting(status: &Status, peer: &PeerStatus, address: IpAddr) -> String {
    let outside = match peer.endpoint {
        Some(endpoint) => format!("{} outside", endpoint.ip().to_canonical()),
        None => "nowhere outside yet".to_owned(),
    };
    let mut text = format!(
        "{} over {}: {address} in the tunnel, {outside}\n",
        printable(peer.label()),
        status.interface
    );
    match peer.latest_handshake_seconds {
        None => text.push_str("there was no handshake yet: one has to come first\n"),
        Some(seconds) if !peer.has_session() => {
            let ago = human::ago(seconds);
            let _ = writeln!(
                text,
                "the last handshake was {ago}: another has to come first"
            );
        }
        Some(_) => {}
    }
    text
}

/// The table, and what it means.
fn summary(ping: &Ping, peer: &PeerStatus) -> String {
    let row = |what: &str, trips: &RoundTrips| {
        let mut row = vec![
            what.to_owned(),
            trips.address.to_string(),
            format!("{} of {}", trips.received, trips.sent),
        ];
        let times = [
            trips.min_seconds,
            trips.median_seconds,
            trips.p99_seconds,
            trips.max_seconds,
        ];
        row.extend(times.map(time));
        row
    };
    let mut rows = vec![row("tunnel", &ping.tunnel)];
    rows.extend(ping.path.as_ref().map(|path| row("path", path)));
    let head = ["", "to", "answered", "fastest", "median", "99 %", "slowest"];
    let mut text = table(&head, &rows);
    let outside = ping.path.as_ref();
    match (
        ping.tunnel.median_seconds,
        outside.and_then(|path| path.median_seconds),
    ) {
        (Some(tunnel), Some(path)) if tunnel >= path => {
            let _ = writeln!(text, "the tunnel adds {}", time(Some(tunnel - path)));
        }
        (Some(_), None) if outside.is_some() => {
            text.push_str(
                "nothing came back past the tunnel: many routers and firewalls answer no pings\n",
            );
        }
        (Some(_), _) => {}
        (None, _) => text.push_str(&why_not(peer)),
    }
    let problems = [Some(&ping.tunnel), outside];
    for problem in problems
        .iter()
        .flatten()
        .filter_map(|trips| trips.problem.as_ref())
    {
        let _ = writeln!(text, "not all could be sent: {problem}");
    }
    text
}

/// Why nothing may have come back through the tunnel.
fn why_not(peer: &PeerStatus) -> String {
    let troubles = troubles(peer);
    if !troubles.is_empty() {
        let mut text = "nothing came back\n".to_owned();
        for (what, why) in troubles {
            let _ = writeln!(text, "{what}: {why}");
        }
        return text;
    }
    if !peer.has_session() {
        return "nothing came back: there was no session with it. `taltun status` says more\n"
            .to_owned();
    }
    "nothing came back: it, or a rule, may hold pings back. `taltun trace --drops` shows what this side drops\n"
        .to_owned()
}

/// A round trip for people: `1.23 ms`.
fn time(seconds: Option<f64>) -> String {
    match seconds {
        None => "–".to_owned(),
        Some(seconds) if seconds < 0.1 => format!("{:.2} ms", seconds * 1e3),
        Some(seconds) if seconds < 10.0 => format!("{:.0} ms", seconds * 1e3),
        Some(seconds) => format!("{seconds:.0} s"),
    }
}
