//! What happens in the lab, and what has to be so.
//!
//! First pings, then two TCP streams that last to the end, and in the middle a ban of a's
//! underlay address on the hub for three seconds. Keys do the same and worse at any time. Each step
//! leaves its [`Check`]s; one that fails doesn't keep the others from being made.

use std::net::SocketAddr;
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::Result;
use taltun_tests::lab::{Lab, Options, PORT, Role};
use taltun_tests::netns::Namespace;
use taltun_tests::node::{AfXdp, XdpMode};
use taltun_tests::sys;
use taltun_tests::topology::{Star, WIRE_A, WIRE_B};

use super::console::{Console, Deed, Going};
use super::flow::Flow;
use super::looks;
use super::model::{Host, Link, Mark, Model, State, Track};
use super::ping_watch::PingWatch;
use super::report::{Check, Report, Xdp};
use super::seen::{Seen, show_stage};
use super::shell;
use super::stage::{Place, Stage};
use super::trials::RETURN_LIMIT;
use super::units;
use super::view::View;
use super::watch::{Watch, Watched};

/// The shortest time in which everything happens.
pub const SHORTEST: Duration = Duration::from_secs(8);

/// How long a is banned.
const BAN: Duration = Duration::from_secs(3);
/// When, if there is no end that a middle could be reckoned from.
const BAN_AT: Duration = Duration::from_secs(10);
/// The pause between two looks at everything.
const LOOK: Duration = Duration::from_millis(20);
/// A UDP datagram, or what the kernel has merged before the program sees it, holds no more.
const LARGEST_PACKET: u64 = 65_535;
/// The tracks of the model.
const PING: usize = 0;
const FLOWS: usize = 1;
const DROPS: usize = 3;

/// Plays the scenario for `duration`, or until we are asked to stop, and shows it on `view`.
pub fn play(
    lab: &mut Lab,
    options: Options,
    taltun: &Path,
    duration: Option<Duration>,
    view: &mut View,
) -> Report {
    let watched = Role::ALL.map(|role| Watched {
        name: role.to_string(),
        control: lab.node(role).control(),
        is_hub: role == Role::Hub,
    });
    let Lab { hub, net, .. } = lab;
    let place = Place {
        hub: ("hub", &net.hub),
        spoke: (Role::A.to_string(), WIRE_A.far_v4()),
        attacker: (&net.b, "to-hub".into()),
        victim: ("to-b".into(), WIRE_B.near.0, PORT),
    };
    let mut play = Play {
        net,
        taltun,
        stage: Stage::new(hub, place),
        model: picture(),
        report: Report::of(Vec::new()),
        answered: [0; 2],
        counted_since: None,
        by_key: false,
    };
    view.show(&play.model);
    play.ping("ping a→hub", Role::A, Role::Hub);
    play.ping("ping b→hub", Role::B, Role::Hub);
    play.ping("ping a→b by relay", Role::A, Role::B);
    play.traffic(duration, view, watched.into());
    play.xdp_attached(options.xdp);
    if options.af_xdp == AfXdp::On {
        play.frames_came_by_af_xdp();
    }
    play.sources_counted();
    if duration.is_some() && play.by_key {
        play.report
            .add(Check::failed("ran to the end", "it was interrupted"));
    }
    play.report
}

/// The lab before anything is known of it.
fn picture() -> Model {
    let host = |role: Role, link| Host {
        name: role.to_string(),
        address: role.v4().to_string(),
        link,
        state: State::Up,
        ..Host::default()
    };
    Model {
        title: "Taltun lab".into(),
        centre: host(Role::Hub, Link::Plain),
        left: vec![host(Role::A, Link::Waiting)],
        right: vec![host(Role::B, Link::Waiting)],
        tracks: vec![
            Track::new("ping a→hub"),
            Track::new("tcp a→hub"),
            Track::new("tcp a→b by relay"),
            Track::of_losses("dropped by hub"),
        ],
        ..Model::default()
    }
}

struct Play<'a> {
    net: &'a Star,
    taltun: &'a Path,
    stage: Stage<'a>,
    model: Model,
    report: Report,
    /// How many pings of a's and of b's were answered before the traffic, so how many packets each
    /// has sent at the least.
    answered: [u64; 2],
    /// Since when the hub counts, if it isn't the one that it was at first.
    counted_since: Option<Instant>,
    /// Whether somebody ended it, rather than its duration.
    by_key: bool,
}

impl<'a> Play<'a> {
    fn at(&self, role: Role) -> &'a Namespace {
        match role {
            Role::Hub => &self.net.hub,
            Role::A => &self.net.a,
            Role::B => &self.net.b,
        }
    }

    fn add(&mut self, check: Check) {
        let text = format!("{}: {}", check.name, check.detail);
        self.model.tell(Some(check.ok), text);
        self.report.add(check);
    }

    fn ping(&mut self, name: &str, from: Role, to: Role) {
        let result = looks::first_pings(self.at(from), to.v4());
        if result.is_ok() {
            let count = looks::PINGS as u64;
            // Relayed, they are answered by b.
            self.answered[0] += count * u64::from(from == Role::A);
            self.answered[1] += count * u64::from(from == Role::B || to == Role::B);
        }
        self.add(Check::from_result(name, result));
    }

    /// The streams, with the ban in the middle of them.
    fn traffic(&mut self, duration: Option<Duration>, view: &mut View, watched: Vec<Watched>) {
        let to = |role: Role| SocketAddr::new(role.v4(), 0);
        let [hub, a, b] = Role::ALL.map(|role| self.at(role));
        let mut flows = [
            Flow::start("tcp a→hub", a, hub, to(Role::Hub)),
            Flow::start("tcp a→b by relay", a, b, to(Role::B)),
        ];
        let pings = match PingWatch::start(a, Role::Hub.v4()) {
            Ok(pings) => pings,
            Err(error) => {
                self.add(Check::failed("ban stops a", format!("{error:#}")));
                return;
            }
        };
        let watch = Watch::start(watched);
        self.live(duration, view, &mut flows, &pings, &watch);
        drop(watch);
        self.model.doing = Some("ending".into());
        view.show_now(&self.model);
        let was_away = self.stage.away().is_some();
        let settled = self.stage.settle();
        if was_away {
            self.count_anew(&mut flows);
        }
        if let Err(error) = settled {
            self.add(Check::failed("hub comes back", format!("{error:#}")));
        }
        for flow in &mut flows {
            flow.note(true);
            let check = flow.finish(self.by_key);
            self.add(check);
            let rate = flow.median_gbps();
            self.report
                .throughput_gbps
                .insert(flow.name.to_owned(), rate);
        }
        self.wait_for_return(&pings);
        for check in self.stage.judge(&pings.pings()) {
            self.add(check);
        }
        let all = pings.pings();
        let since = |ping: &&super::ping_watch::Ping| {
            ping.answer.is_some() && self.counted_since.is_none_or(|since| ping.sent > since)
        };
        self.answered[0] += all.iter().filter(since).count() as u64;
        let sent_by_a: u64 = flows.iter().map(Flow::received_since_mark).sum();
        self.answered[0] += sent_by_a / LARGEST_PACKET;
    }

    /// What was done last is judged as soon as a is heard again, or too late.
    fn wait_for_return(&self, pings: &PingWatch) {
        let Some(end) = self.stage.trials.end_of_last() else {
            return;
        };
        while Instant::now() < end + RETURN_LIMIT
            && !self.stage.trials.is_heard_after(&pings.pings())
        {
            sleep(LOOK);
        }
    }

    /// Shows what is going on, does what keys ask for, and bans when it is time to.
    fn live(
        &mut self,
        duration: Option<Duration>,
        view: &mut View,
        flows: &mut [Flow<'_>; 2],
        pings: &PingWatch,
        watch: &Watch,
    ) {
        let start = Instant::now();
        let ban_at = duration.map_or(BAN_AT, |duration| duration.saturating_sub(BAN) / 2);
        let mut console = Console::default();
        let mut seen = Seen::default();
        let mut sampled = start;
        loop {
            for key in view.keys(LOOK) {
                let machines = self.model.hosts().count();
                match console.deed(key, machines) {
                    Some(Deed::End) => self.by_key = true,
                    Some(deed) => self.act(deed, view, flows),
                    None => {}
                }
            }
            self.by_key |= sys::stop_requested().is_some();
            let over = duration.is_some_and(|duration| start.elapsed() >= duration);
            if self.by_key || over && self.stage.trials.is_over() {
                return;
            }
            self.model.elapsed = start.elapsed();
            // Somebody who was faster with a key has shown it already.
            if self.stage.trials.is_empty() && start.elapsed() >= ban_at {
                let said = self.stage.ban(Some(BAN));
                self.model.tell(None, said);
            }
            self.tick(flows, pings);
            for answer in watch.answers() {
                seen.answer(&mut self.model, &answer, DROPS);
            }
            if sampled.elapsed() >= Duration::from_secs(1) {
                let elapsed = sampled.elapsed();
                sampled = Instant::now();
                for (flow, track) in flows.iter_mut().zip(&mut self.model.tracks[FLOWS..]) {
                    track.value = units::rate(flow.sample(elapsed));
                }
            }
            if let Some(elapsed) = seen.mark_is_due() {
                seen.pings(&mut self.model.tracks[PING], pings);
                for (flow, track) in flows.iter_mut().zip(&mut self.model.tracks[FLOWS..]) {
                    track.add(Mark::Level(flow.level(elapsed)));
                }
            }
            show_stage(&mut self.model, &self.stage);
            if view.is_drawn() {
                let machines: Vec<String> =
                    self.model.hosts().map(|host| host.name.clone()).collect();
                let going = Going {
                    banned: self.stage.trials.ban_now().is_some(),
                    flooded: self.stage.is_flooded(),
                };
                self.model.keys = console.keys(&machines, Some(("a", "hub")), going);
            }
            view.show(&self.model);
        }
    }

    /// Does what a key asks for.
    fn act(&mut self, deed: Deed, view: &mut View, flows: &mut [Flow<'_>; 2]) {
        let said = match deed {
            Deed::Ban => self.stage.toggle_ban(),
            Deed::Flood => self.stage.toggle_flood(),
            Deed::Kill => {
                // Before it: nothing that the streams carry now is for the next hub.
                for flow in flows {
                    flow.note(false);
                }
                self.stage.kill()
            }
            Deed::Shell(number) => {
                let role = Role::ALL[number.min(Role::ALL.len() - 1)];
                match self.shell(role).and_then(|shell| view.lend(shell)) {
                    Ok(()) => format!("a shell on {role}"),
                    Err(error) => format!("{error:#}"),
                }
            }
            Deed::End => return,
        };
        self.model.tell(None, said);
    }

    fn shell(&self, role: Role) -> Result<std::process::Command> {
        let namespace = self.at(role).name();
        let directory = taltun_tests::files::directory_of(namespace);
        shell::command(namespace, &directory, self.taltun)
    }

    /// Goes on with what is being done to the lab, and keeps the streams going through it.
    fn tick(&mut self, flows: &mut [Flow<'_>; 2], pings: &PingWatch) {
        let was_away = self.stage.away().is_some();
        if let Some(said) = self.stage.tick() {
            self.model.tell(None, said);
        }
        if was_away && self.stage.away().is_none() {
            self.count_anew(flows);
        }
        let is_calm = self.stage.is_calm();
        let is_heard = is_calm && pings.last_is_answered();
        for flow in flows {
            flow.note(is_calm);
            if is_heard {
                flow.revive();
            }
        }
    }

    /// A hub that was killed counts from zero.
    fn count_anew(&mut self, flows: &mut [Flow<'_>]) {
        self.answered = [0; 2];
        self.counted_since = Some(Instant::now());
        flows.iter_mut().for_each(Flow::mark);
    }

    fn xdp_attached(&mut self, wanted: XdpMode) {
        let status = self.stage.control().status();
        let result = status.and_then(|status| looks::attached(&status, wanted));
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
        let check = match self.stage.control().status() {
            Err(error) => Check::failed(NAME, format!("{error:#}")),
            Ok(status) => {
                let received: u64 = status.af_xdp.iter().map(|queue| queue.received).sum();
                match status.queues_over_af_xdp() {
                    Some(queues) if received > 0 => {
                        let queues = units::counted(queues as u64, "queue");
                        Check::passed(NAME, format!("{} on {queues}", units::count(received)))
                    }
                    _ => Check::failed(NAME, format!("{:?}", status.af_xdp)),
                }
            }
        };
        self.report.add(check);
    }

    /// Counts come from the XDP program, so without one there is nothing to check.
    fn sources_counted(&mut self) {
        let stats = match self.stage.control().stats() {
            Ok(stats) => stats,
            Err(error) => {
                self.report
                    .add(Check::failed("sources counted", format!("{error:#}")));
                return;
            }
        };
        if self.report.xdp.mode != XdpMode::Off.name() {
            let spokes = [WIRE_A.far_v4(), WIRE_B.far_v4()];
            let result = spokes
                .into_iter()
                .zip(self.answered)
                .map(|(addr, sent)| looks::counted(&stats, addr, sent))
                .collect::<Result<Vec<_>>>()
                .map(|details| details.join("; "));
            self.report
                .add(Check::from_result("sources counted", result));
        }
        self.report.xdp = Xdp {
            mode: std::mem::take(&mut self.report.xdp.mode),
            ..Xdp::of(stats)
        };
    }
}
