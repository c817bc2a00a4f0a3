//! `cargo xtask run --recipe`: one of the manual's recipes, live.
//!
//! First it is checked, on a thread of its own, so that it can be watched meanwhile; then it runs
//! until it is ended, and keys ban, flood and kill.

use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use taltun_tests::control::Control;
use taltun_tests::files::directory_of;
use taltun_tests::recipes::{Deployment, Recipe, Told};
use taltun_tests::report::{Peer, Status};
use taltun_tests::sys;

use super::console::{Console, Deed, Going};
use super::listing;
use super::model::{Host, Link, Model, State, Track};
use super::ping_watch::PingWatch;
use super::places::{self, Places};
use super::print;
use super::report::{Check, Report, Xdp};
use super::seen::{Seen, show_stage};
use super::shell;
use super::stage::{Place, Stage};
use super::view::{self, View};
use super::watch::{Watch, Watched};
use crate::setup;

/// The pause between two looks at everything.
const LOOK: Duration = Duration::from_millis(20);
/// The tracks of the model.
const DROPS: usize = 0;
const PING: usize = 1;

/// Builds the recipe, checks it, shows it for `duration` or until it is ended, and takes it down.
pub fn play(
    recipe: Recipe,
    prefix: &str,
    taltun: &Path,
    duration: Option<Duration>,
    quiet: bool,
) -> Report {
    setup::step(&format!("starting recipe {}", recipe.title()));
    let mut lab = match Deployment::start(recipe, prefix, taltun) {
        Ok(lab) => lab,
        Err(error) => {
            return Report::of(vec![Check::failed("recipe starts", format!("{error:#}"))]);
        }
    };
    let mut view = View::new(quiet);
    let mut show = Show {
        places: places::of(recipe),
        prefix,
        taltun,
        quiet,
        duration,
        start: Instant::now(),
        model: picture(&lab),
        report: Report::of(Vec::new()),
        console: Console::default(),
        seen: Seen::default(),
        statuses: Vec::new(),
        told: 0,
        by_key: false,
    };
    if !view.is_drawn() && !quiet {
        view::say(false, &listing::what_is_up(&lab));
        setup::step("checking what must work and what must fail");
    }
    let watch = Watch::start(watched(&lab, show.places, taltun));
    let whole = show.check(&mut lab, &mut view, &watch);
    if whole {
        let lived = show.live(&mut lab, &mut view, &watch);
        if let Err(error) = lived {
            show.add(Check::failed("it goes on", format!("{error:#}")), &view);
        }
    }
    drop(watch);
    show.report.xdp = xdp(&lab, show.places.centre);
    drop(view);
    if !whole {
        if duration.is_some() {
            let check = Check::failed("ran to the end", "it was interrupted");
            show.report.add(check);
        } else {
            show.report.cut_short = true;
        }
    }
    setup::step("killing every daemon, starting and stopping it again, taking the recipe down");
    let end = lab
        .end()
        .map(|()| "every machine is as before, also after SIGKILL, a start and a stop".to_owned());
    show.report
        .add(Check::from_result("nothing left behind", end));
    show.report
}

/// A recipe while it is shown.
struct Show<'a> {
    places: Places,
    prefix: &'a str,
    taltun: &'a Path,
    /// Print nothing but the result.
    quiet: bool,
    duration: Option<Duration>,
    start: Instant,
    model: Model,
    report: Report,
    console: Console,
    seen: Seen,
    /// What each machine said last, for lines.
    statuses: Vec<(String, Status)>,
    /// Whole seconds when that was printed last.
    told: u64,
    by_key: bool,
}

impl Show<'_> {
    /// Checks the recipe while it is watched; whether all of it was.
    fn check(&mut self, lab: &mut Deployment, view: &mut View, watch: &Watch) -> bool {
        let (sender, told) = mpsc::channel();
        let (go_on, stop) = mpsc::channel::<()>();
        let mut go_on = Some(go_on);
        thread::scope(|scope| {
            let checking = scope.spawn(move || {
                lab.check_and_tell(&mut |told| {
                    let wanted = stop.try_recv() != Err(mpsc::TryRecvError::Disconnected);
                    sender.send(told).is_ok() && wanted
                });
            });
            while !checking.is_finished() {
                for deed in self.deeds(view) {
                    // The others would be what a check finds.
                    if let Deed::Shell(number) = deed {
                        self.shell(number, view);
                    }
                }
                if self.by_key {
                    self.model.doing = Some("ending".into());
                    go_on = None;
                }
                self.hear(&told, view);
                self.look(watch);
                self.model.keys = self.console.keys(&self.machines(), None, Going::default());
                view.show_drawn(&self.model);
            }
            drop(go_on);
        });
        self.hear(&told, view);
        self.model.doing = None;
        !self.by_key
    }

    /// Takes over what was found.
    fn hear(&mut self, told: &Receiver<Told>, view: &View) {
        for told in told.try_iter() {
            match told {
                Told::Looking(what) => {
                    if !self.by_key {
                        self.model.doing = Some(format!("checking: {what}"));
                    }
                }
                Told::Found(finding) => {
                    self.add(Check::from_result(finding.name, finding.outcome), view);
                }
            }
        }
    }

    /// Adds a check, and shows it.
    fn add(&mut self, check: Check, view: &View) {
        let text = format!("{}: {}", check.name, check.detail);
        self.model.tell(Some(check.ok), text);
        let is_printed = !view.is_drawn() && !self.quiet;
        if is_printed {
            view::say(false, &print::early_line(&check));
        }
        self.report.add(check);
        if is_printed {
            self.report.printed = self.report.checks.len();
        }
    }

    /// Shows the recipe until it is ended, and does what keys ask for.
    fn live(&mut self, lab: &mut Deployment, view: &mut View, watch: &Watch) -> Result<()> {
        if !view.is_drawn() {
            while !self.is_over() {
                self.deeds(view);
                self.look(watch);
                self.print_table(view);
            }
            return Ok(());
        }
        let (from, _, to) = self.places.ping;
        let to = IpAddr::from(Ipv4Addr::from(to));
        let pings = PingWatch::start(lab.namespace(from)?, to)?;
        let banned = self.banned(lab)?;
        let centre = self.places.centre;
        let (node, hub, internet) = lab.node_and_networks(centre)?;
        let victim = outside(hub, "eth0")?;
        let port = node.status()?.listen.port();
        let place = Place {
            hub: (centre, hub),
            spoke: banned,
            attacker: (internet, format!("to-{centre}")),
            victim: ("eth0".into(), victim, port),
        };
        let mut stage = Stage::new(node, place);
        let spoke = stage.spoke().to_owned();
        while !self.is_over() {
            for deed in self.deeds(view) {
                let said = match deed {
                    Deed::Ban => stage.toggle_ban(),
                    Deed::Flood => stage.toggle_flood(),
                    Deed::Kill => stage.kill(),
                    Deed::Shell(number) => {
                        self.shell(number, view);
                        continue;
                    }
                    Deed::End => continue,
                };
                self.model.tell(None, said);
            }
            if let Some(said) = stage.tick() {
                self.model.tell(None, said);
            }
            self.look(watch);
            if self.seen.mark_is_due().is_some() {
                self.seen.pings(&mut self.model.tracks[PING], &pings);
            }
            show_stage(&mut self.model, &stage);
            let going = Going {
                banned: stage.trials.ban_now().is_some(),
                flooded: stage.is_flooded(),
            };
            let stage_keys = Some((spoke.as_str(), centre));
            self.model.keys = self.console.keys(&self.machines(), stage_keys, going);
            view.show_drawn(&self.model);
        }
        self.model.doing = Some("ending".into());
        view.show_now(&self.model);
        stage.settle()?;
        let pings = pings.pings();
        for check in stage.judge(&pings) {
            self.add(check, view);
        }
        Ok(())
    }

    /// Who is banned by a key: the first machine on the left, where the one in the middle hears it.
    fn banned(&self, lab: &Deployment) -> Result<(String, IpAddr)> {
        let name = self.places.left[0];
        let status = lab.node(self.places.centre)?.status()?;
        let is_meant = |peer: &&Peer| peer.name.as_deref() == Some(name);
        let heard = status.peers.iter().find(is_meant);
        let address = match heard.and_then(|peer| peer.endpoint) {
            Some(endpoint) => endpoint.ip().to_canonical(),
            // It was started anew just now, and hears it soon.
            None => outside(lab.namespace(name)?, "eth0")?.into(),
        };
        Ok((name.to_owned(), address))
    }

    /// What the keys ask for.
    fn deeds(&mut self, view: &mut View) -> Vec<Deed> {
        let machines = self.machines().len();
        let deeds: Vec<Deed> = view
            .keys(LOOK)
            .into_iter()
            .filter_map(|key| self.console.deed(key, machines))
            .collect();
        self.by_key |= deeds.contains(&Deed::End) || sys::stop_requested().is_some();
        deeds
    }

    fn is_over(&self) -> bool {
        let over = |duration| self.start.elapsed() >= duration;
        self.by_key || self.duration.is_some_and(over)
    }

    /// Takes over what the machines have said.
    fn look(&mut self, watch: &Watch) {
        self.model.elapsed = self.start.elapsed();
        for answer in watch.answers() {
            self.seen.answer(&mut self.model, &answer, DROPS);
            self.statuses.retain(|(name, _)| *name != answer.name);
            self.statuses
                .extend(answer.status.map(|status| (answer.name, status)));
        }
    }

    fn machines(&self) -> Vec<String> {
        self.model.hosts().map(|host| host.name.clone()).collect()
    }

    fn shell(&mut self, number: usize, view: &mut View) {
        let Some(machine) = self.machines().into_iter().nth(number) else {
            return;
        };
        let namespace = format!("{}-{machine}", self.prefix);
        let shell = shell::command(&namespace, &directory_of(&namespace), self.taltun);
        let said = match shell.and_then(|shell| view.lend(shell)) {
            Ok(()) => format!("a shell on {machine}"),
            Err(error) => format!("{error:#}"),
        };
        self.model.tell(None, said);
    }

    /// Where nothing is drawn: each second who has a tunnel with whom.
    fn print_table(&mut self, view: &View) {
        let seconds = self.model.elapsed.as_secs();
        if !view.is_drawn() && !self.quiet && seconds > self.told {
            self.told = seconds;
            view::say(false, &listing::table(&self.statuses, self.model.elapsed));
        }
    }
}

/// The recipe before anything is known of it but where its machines are.
fn picture(lab: &Deployment) -> Model {
    let places = places::of(lab.recipe);
    let host = |name: &str| {
        let Ok(machine) = lab.machine(name) else {
            return Host::default();
        };
        let has_taltun = machine.node.is_some();
        let interface = if has_taltun { "taltun0" } else { "eth0" };
        let address = outside(&machine.namespace, interface);
        Host {
            name: name.to_owned(),
            address: address.map_or_else(|_| String::new(), |address| address.to_string()),
            link: if has_taltun && name != places.centre {
                Link::Waiting
            } else {
                Link::Plain
            },
            state: if has_taltun { State::Up } else { State::Bare },
            ..Host::default()
        }
    };
    let right = lab.machines.iter().map(|machine| machine.name);
    let right = right.filter(|name| !places.left.contains(name) && *name != places.centre);
    let (from, to, _) = places.ping;
    Model {
        title: format!("Recipe {}", lab.recipe.title()),
        centre: host(places.centre),
        left: places.left.iter().map(|name| host(name)).collect(),
        right: right.map(host).collect(),
        tracks: vec![
            Track::of_losses(&format!("dropped by {}", places.centre)),
            Track::new(&format!("ping {from}→{to}")),
        ],
        ..Model::default()
    }
}

/// Whom to ask: every machine, as one without Taltun may get one meanwhile.
fn watched(lab: &Deployment, places: Places, taltun: &Path) -> Vec<Watched> {
    let watched = |machine: &taltun_tests::recipes::Machine| Watched {
        name: machine.name.to_owned(),
        control: Control::new(taltun, &directory_of(machine.namespace.name())),
        is_hub: machine.name == places.centre,
    };
    lab.machines.iter().map(watched).collect()
}

/// The IPv4 address of an interface.
fn outside(namespace: &taltun_tests::netns::Namespace, interface: &str) -> Result<Ipv4Addr> {
    let shown = namespace.ip(&format!("-o -4 addr show dev {interface}"))?;
    let address = shown.split_whitespace().nth(3).and_then(|address| {
        let (address, _) = address.split_once('/')?;
        address.parse().ok()
    });
    address.with_context(|| format!("{interface} has no address"))
}

/// What the XDP program of the machine in the middle counted.
fn xdp(lab: &Deployment, centre: &str) -> Xdp {
    let Ok(node) = lab.node(centre) else {
        return Report::of(Vec::new()).xdp;
    };
    let mode = node.status().ok();
    let mode = mode.and_then(|status| Some(status.xdp.first()?.mode.clone()));
    let counted = node.stats().map(Xdp::of);
    Xdp {
        mode: mode.unwrap_or_else(|| "off".into()),
        ..counted.unwrap_or_else(|_| Report::of(Vec::new()).xdp)
    }
}
