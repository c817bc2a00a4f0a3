//! What happens in the lab, and what has to be so.
//!
//! First pings, then two TCP streams that last to the end, and in the middle a ban of a's
//! underlay address on the hub for three seconds. Each step leaves its [`Check`]s; one that
//! fails doesn't keep the others from being made.

use std::net::{IpAddr, SocketAddr};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Error, Result, bail, ensure};
use taltun_tests::lab::{Lab, Options, Role};
use taltun_tests::node::{AfXdp, XdpMode};
use taltun_tests::report::{Stats, Status};
use taltun_tests::sys;
use taltun_tests::topology::{WIRE_A, WIRE_B};
use taltun_tests::traffic::ping::Pinger;
use taltun_tests::traffic::stream::{Stream, gbps};

use super::ping_watch::{Ping, PingWatch};
use super::report::{Check, Report, Source, Xdp};
use super::view::{Frame, View};

/// The shortest time in which everything happens.
pub const SHORTEST: Duration = Duration::from_secs(8);

/// How long a tunnel may take to come up.
const UP_LIMIT: Duration = Duration::from_secs(10);
/// How long the answer to a ping may take.
const ANSWER_LIMIT: Duration = Duration::from_secs(2);
/// How many pings prove that pings work.
const PINGS: usize = 5;
/// How long a is banned.
const BAN: Duration = Duration::from_secs(3);
/// When, if there is no end that a middle could be reckoned from.
const BAN_AT: Duration = Duration::from_secs(10);
/// A packet that is on its way when the ban begins or ends may go either way.
const MARGIN: Duration = Duration::from_millis(300);
/// How long after the ban a may take to be heard again.
const RETURN_LIMIT: Duration = Duration::from_secs(5);
/// TCP doubles its pauses while nothing gets through, so it notices late that something does.
const TCP_RETURN_LIMIT: Duration = Duration::from_secs(15);
/// A UDP datagram, or what the kernel has merged before the program sees it, holds no more.
const LARGEST_PACKET: u64 = 65_535;

/// Plays the scenario for `duration`, or until we are asked to stop, and shows it on `view`.
pub fn play(lab: &Lab, options: Options, duration: Option<Duration>, view: &mut View) -> Report {
    let mut play = Play {
        lab,
        report: Report::of(Vec::new()),
        answered_a: 0,
        answered_b: 0,
    };
    play.ping("ping a→hub", Role::A, Role::Hub);
    play.ping("ping b→hub", Role::B, Role::Hub);
    play.ping("ping a→b by relay", Role::A, Role::B);
    play.traffic(duration, view);
    play.xdp_attached(options.xdp);
    if options.af_xdp == AfXdp::On {
        play.frames_came_by_af_xdp();
    }
    play.sources_counted();
    if duration.is_some() && sys::stop_requested().is_some() {
        play.report
            .add(Check::failed("ran to the end", "it was interrupted"));
    }
    play.report
}

struct Play<'a> {
    lab: &'a Lab,
    report: Report,
    /// How many pings of a's were answered, so how many packets it has sent at the least.
    answered_a: u64,
    /// The same of b.
    answered_b: u64,
}

impl Play<'_> {
    fn ping(&mut self, name: &str, from: Role, to: Role) {
        let result = first_pings(self.lab, from, to);
        if result.is_ok() {
            let count = PINGS as u64;
            // Relayed, they are answered by b.
            self.answered_b += count * u64::from(from == Role::B || to == Role::B);
            self.answered_a += count * u64::from(from == Role::A);
        }
        self.report.add(Check::from_result(name, result));
    }

    /// The streams, with the ban in the middle of them.
    fn traffic(&mut self, duration: Option<Duration>, view: &mut View) {
        let mut flows = [
            Flow::start(self.lab, "tcp a→hub", Role::Hub),
            Flow::start(self.lab, "tcp a→b by relay", Role::B),
        ];
        let watch = match PingWatch::start(self.lab, Role::A, Role::Hub) {
            Ok(watch) => watch,
            Err(error) => {
                self.report
                    .add(Check::failed("ban stops a", format!("{error:#}")));
                return;
            }
        };
        let ban = self.live(duration, view, &mut flows, &watch);
        for flow in &mut flows {
            let check = flow.finish(ban.as_ref());
            self.report.add(check);
            self.report
                .throughput_gbps
                .insert(flow.name.to_owned(), flow.median_gbps());
        }
        if let Some(ban) = ban {
            self.report.add(ban.stopped(&watch.pings()));
            self.report.add(ban.restored(&watch));
        }
        self.answered_a += watch
            .pings()
            .iter()
            .filter(|ping| ping.answer.is_some())
            .count() as u64;
        let sent_by_a: u64 = flows.iter().map(|flow| flow.received).sum();
        self.answered_a += sent_by_a / LARGEST_PACKET;
    }

    /// Shows what is going on, a frame a second, and bans when it is time to. Returns the ban
    /// if it was lived through.
    fn live(
        &self,
        duration: Option<Duration>,
        view: &mut View,
        flows: &mut [Flow],
        watch: &PingWatch,
    ) -> Option<Ban> {
        let start = Instant::now();
        let ban_at = duration.map_or(BAN_AT, |duration| duration.saturating_sub(BAN) / 2);
        let mut ban: Option<Ban> = None;
        let mut last_frame = start;
        loop {
            sleep(Duration::from_millis(20));
            if sys::stop_requested().is_some() {
                return ban.filter(Ban::is_over);
            }
            if ban.is_none() && start.elapsed() >= ban_at {
                ban = Some(Ban::begin(self.lab));
            }
            if let Some(ban) = &ban {
                for flow in &mut *flows {
                    flow.note_ban(ban);
                }
            }
            if last_frame.elapsed() >= Duration::from_secs(1) {
                let elapsed = last_frame.elapsed();
                last_frame = Instant::now();
                let rates = flows
                    .iter_mut()
                    .map(|flow| flow.sample(elapsed, ban.is_some()))
                    .collect();
                view.show(&Frame {
                    elapsed: start.elapsed(),
                    statuses: Role::ALL.map(|role| (role, self.lab.node(role).status())),
                    stats: self.lab.hub.stats(),
                    rates,
                    ping: watch.pings().last().copied(),
                    banned: ban.as_ref().is_some_and(|ban| !ban.is_over()),
                });
            }
            let over = duration.is_some_and(|duration| start.elapsed() >= duration);
            if over && ban.as_ref().is_none_or(Ban::is_over) {
                return ban;
            }
        }
    }

    fn xdp_attached(&mut self, wanted: XdpMode) {
        let result = self
            .lab
            .hub
            .status()
            .and_then(|status| attached(&status, wanted));
        let check = match result {
            Ok((mode, detail)) => {
                self.report.xdp.mode = mode;
                Check::passed("xdp attached", detail)
            }
            Err(error) => Check::failed("xdp attached", format!("{error:#}")),
        };
        self.report.add(check);
    }

    /// Every queue has its socket, and the pings' messages came by it.
    fn frames_came_by_af_xdp(&mut self) {
        const NAME: &str = "packets came by AF_XDP";
        let check = match self.lab.hub.status() {
            Err(error) => Check::failed(NAME, format!("{error:#}")),
            Ok(status) => {
                let received: u64 = status.af_xdp.iter().map(|queue| queue.received).sum();
                match status.queues_over_af_xdp() {
                    Some(queues) if received > 0 => {
                        Check::passed(NAME, format!("{received} on {queues} queues"))
                    }
                    _ => Check::failed(NAME, format!("{:?}", status.af_xdp)),
                }
            }
        };
        self.report.add(check);
    }

    /// Counts come from the XDP program, so without one there is nothing to check.
    fn sources_counted(&mut self) {
        let stats = match self.lab.hub.stats() {
            Ok(stats) => stats,
            Err(error) => {
                self.report
                    .add(Check::failed("sources counted", format!("{error:#}")));
                return;
            }
        };
        if self.report.xdp.mode != XdpMode::Off.name() {
            let result = [
                (WIRE_A.far_v4(), self.answered_a),
                (WIRE_B.far_v4(), self.answered_b),
            ]
            .into_iter()
            .map(|(addr, sent)| counted(&stats, addr, sent))
            .collect::<Result<Vec<_>>>()
            .map(|details| details.join(", "));
            self.report
                .add(Check::from_result("sources counted", result));
        }
        self.report.xdp = Xdp {
            mode: std::mem::take(&mut self.report.xdp.mode),
            sources: stats
                .sources
                .iter()
                .map(|source| Source {
                    addr: source.addr,
                    packets: source.packets,
                    bytes: source.bytes,
                })
                .collect(),
            drops: stats.drops,
        };
    }
}

/// A TCP stream from a.
struct Flow {
    name: &'static str,
    stream: Result<Stream>,
    /// Gbit/s in each undisturbed second so far.
    rates: Vec<f64>,
    received: u64,
    /// How much had been received when the ban ended.
    received_by_ban_end: Option<u64>,
}

impl Flow {
    fn start(lab: &Lab, name: &'static str, to: Role) -> Self {
        let address = SocketAddr::new(to.v4(), 0);
        Self {
            name,
            stream: Stream::start(&lab.net.a, lab.namespace(to), address),
            rates: Vec::new(),
            received: 0,
            received_by_ban_end: None,
        }
    }

    /// The rate since the last call, which was `elapsed` ago. It isn't remembered if it was
    /// touched by the ban or by TCP's wait after it.
    fn sample(&mut self, elapsed: Duration, banned_yet: bool) -> (&'static str, f64) {
        let received = self.stream.as_ref().map_or(0, Stream::received);
        let rate = gbps(received - self.received, elapsed);
        let has_returned = self
            .received_by_ban_end
            .is_some_and(|by_ban_end| self.received > by_ban_end);
        if !banned_yet || has_returned {
            self.rates.push(rate);
        }
        self.received = received;
        (self.name, rate)
    }

    fn note_ban(&mut self, ban: &Ban) {
        if ban.is_over() && self.received_by_ban_end.is_none() {
            self.received_by_ban_end = Some(self.stream.as_ref().map_or(0, Stream::received));
        }
    }

    /// Ends the stream; it has to have moved again after the ban, if there was one.
    fn finish(&mut self, ban: Option<&Ban>) -> Check {
        let stream = std::mem::replace(&mut self.stream, Err(Error::msg("it was ended")));
        let result = stream.and_then(|stream| {
            if let (Some(received), Some(_)) = (self.received_by_ban_end, ban) {
                stream
                    .wait_for_more_than(received, TCP_RETURN_LIMIT)
                    .context("after the ban")?;
            }
            let outcome = stream.finish()?;
            self.received = outcome.bytes;
            ensure!(outcome.bytes > 0, "not a byte arrived");
            Ok(format!(
                "{} bytes, each of them right, at a median of {:.2} Gbit/s",
                outcome.bytes,
                self.median_gbps()
            ))
        });
        Check::from_result(self.name, result)
    }

    /// The median over the undisturbed seconds.
    fn median_gbps(&self) -> f64 {
        let mut rates = self.rates.clone();
        rates.sort_by(f64::total_cmp);
        rates.get(rates.len() / 2).copied().unwrap_or_default()
    }
}

/// The ban of a's underlay address.
struct Ban {
    command: Result<String>,
    /// Just before the command.
    asked: Instant,
    /// Just after it.
    done: Instant,
}

impl Ban {
    fn begin(lab: &Lab) -> Self {
        let address = WIRE_A.far_v4().to_string();
        let time = format!("{}s", BAN.as_secs());
        let asked = Instant::now();
        let command = lab.hub.tell(&["ban", &address, "--for", &time]);
        Self {
            command,
            asked,
            done: Instant::now(),
        }
    }

    /// The latest time at which it can have ended.
    fn end(&self) -> Instant {
        self.done + BAN
    }

    fn is_over(&self) -> bool {
        Instant::now() > self.end() + MARGIN
    }

    /// No ping was answered while it lasted, though there were answers right before.
    fn stopped(&self, pings: &[Ping]) -> Check {
        let result = (|| {
            if let Err(error) = &self.command {
                bail!("the ban was refused: {error:#}");
            }
            let count = |is_meant: &dyn Fn(Instant) -> bool| {
                let meant: Vec<_> = pings.iter().filter(|ping| is_meant(ping.sent)).collect();
                let answered = meant.iter().filter(|ping| ping.answer.is_some()).count();
                (answered, meant.len())
            };
            let (before, _) = count(&|sent| sent < self.asked && sent + BAN > self.asked);
            ensure!(before > 0, "a wasn't heard before the ban either");
            let (answers, sent) =
                count(&|sent| sent > self.done + MARGIN && sent + MARGIN < self.asked + BAN);
            ensure!(sent >= 3, "only {sent} pings were sent during the ban");
            ensure!(
                answers == 0,
                "{answers} of {sent} pings were answered during the ban"
            );
            Ok(format!(
                "none of {sent} pings answered in {} s of ban",
                BAN.as_secs()
            ))
        })();
        Check::from_result("ban stops a", result)
    }

    /// Pings are answered again once it is over.
    fn restored(&self, watch: &PingWatch) -> Check {
        let limit = self.end() + RETURN_LIMIT;
        loop {
            let back = watch
                .pings()
                .into_iter()
                .filter(|ping| (self.asked + BAN..limit).contains(&ping.sent))
                .find(|ping| ping.answer.is_some());
            if let Some(ping) = back {
                let late = ping.sent.saturating_duration_since(self.end()).as_millis();
                return Check::passed(
                    "unban restores a",
                    format!("a ping sent {late} ms after the ban was answered"),
                );
            }
            if Instant::now() > limit {
                return Check::failed(
                    "unban restores a",
                    format!("no ping was answered in {RETURN_LIMIT:?} after the ban"),
                );
            }
            sleep(Duration::from_millis(50));
        }
    }
}

/// Waits until pings are answered at all and then wants every one answered.
fn first_pings(lab: &Lab, from: Role, to: Role) -> Result<String> {
    let mut pinger = Pinger::new(lab.namespace(from), to.v4())?;
    let start = Instant::now();
    pinger.wait_until_answered(UP_LIMIT)?;
    let up = start.elapsed();
    let mut fastest = ANSWER_LIMIT;
    for number in 1..=PINGS {
        match pinger.ping(ANSWER_LIMIT)? {
            Some(time) => fastest = fastest.min(time),
            None => bail!("ping {number} of {PINGS} wasn't answered"),
        }
    }
    Ok(format!(
        "first answer after {} ms, then {PINGS} of {PINGS}, the fastest in {} µs",
        up.as_millis(),
        fastest.as_micros()
    ))
}

/// Checks how the XDP program is attached to the hub's two interfaces; returns the mode and
/// a sentence.
fn attached(status: &Status, wanted: XdpMode) -> Result<(String, String)> {
    let mut modes = Vec::new();
    let mut details = Vec::new();
    for interface in ["to-a", "to-b"] {
        // With XDP off there may be one entry for all of them.
        let entry = status
            .xdp
            .iter()
            .find(|entry| entry.interface == interface || entry.interface.is_empty());
        let (mode, reason) = match (entry, wanted) {
            (Some(entry), _) => (entry.mode.as_str(), entry.reason.as_str()),
            (None, XdpMode::Off) => (XdpMode::Off.name(), "as asked"),
            (None, _) => bail!("status says nothing of {interface}"),
        };
        let fits = match wanted {
            XdpMode::Auto => mode != XdpMode::Off.name(),
            _ => mode == wanted.name(),
        };
        ensure!(
            fits,
            "{} was asked for, {interface} is {mode}: {reason}",
            wanted.name()
        );
        modes.push(mode.to_owned());
        details.push(format!("{interface} {mode} ({reason})"));
    }
    ensure!(modes[0] == modes[1], "not the same: {}", details.join(", "));
    Ok((modes.swap_remove(0), details.join(", ")))
}

/// Checks that at least `sent` packets were counted of `addr`, which is what we know it sent;
/// handshakes and acknowledgements come on top.
fn counted(stats: &Stats, addr: IpAddr, sent: u64) -> Result<String> {
    let source = stats
        .source(addr)
        .with_context(|| format!("{addr} isn't among the sources"))?;
    ensure!(
        source.packets >= sent,
        "{addr} sent {sent} packets at the least, {} were counted",
        source.packets
    );
    // The shortest message, a keepalive, with its headers.
    let shortest = 32 + 8 + 20 + 14;
    ensure!(
        source.bytes >= source.packets * shortest,
        "{} packets of {addr} can't have only {} bytes",
        source.packets,
        source.bytes
    );
    Ok(format!(
        "{addr}: {} packets, {} bytes, of which {sent} packets at the least are known",
        source.packets, source.bytes
    ))
}
