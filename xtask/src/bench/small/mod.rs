//! `cargo xtask bench small`: small packets of many spokes, which nothing can merge.
//!
//! One program plays all spokes ([`load`]) on one end of a wire ([`field`]), a hub relays for
//! them on the other ([`hub`]). The rate rises step by step until packets get lost and no
//! more of them come through than before, and then once more, to twice of that. What is
//! reported is the last step at which none got lost, what a core of the hub's carried then,
//! and the most that came through at any step.
//!
//! The hub's work, its NAPI thread's included, is done on one core and the load's on another.
//! With `--unpinned` neither is so: the kernel then receives a packet at a time on whatever
//! core sent it.

mod field;
mod hub;
mod load;
mod table;
mod targets;

use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde::Serialize;
use taltun_tests::node::{AfXdp, XdpMode};
use taltun_tests::sys;
use taltun_tests::topology::remove_remains_of_dead_tests;

use super::contender::{self, Contender, Kind};
use super::machine::Machine;
use super::{note, socket};
use crate::run;
use crate::setup::{self, Program};
use crate::workspace;
use field::Field;
use hub::Hub;
use load::{Load, Phase};
use targets::Target;

const PROGRAMS: &[Program] = &[
    ("ip", "iproute2"),
    ("ethtool", "ethtool"),
    ("taskset", "util-linux"),
    ("wg", "wireguard-tools"),
];
/// The first step of the rate, packets a second.
const FIRST_RATE: u64 = 20_000;
/// Each step is higher than the one before it by one part in so many.
const STEP: u64 = 4;
/// More than a hub on one core will carry.
const LAST_RATE: u64 = 1_200_000;
/// What may be lost at a step that counts: the sender's scheduler isn't perfect.
const LOSS: f64 = 0.01;
/// Steps in a row that may lose packets, and bring no more of them than others did, before it
/// is over: one may be the machine's fault.
const FAILURES: usize = 2;
/// How much more it has to be, to be more.
const GROWTH: f64 = 1.02;
/// How much more than the most that came through has to be offered, to be enough.
const ENOUGH: f64 = 1.2;
/// Bytes of packets that are sealed beforehand, at most.
const MOST_SEALED: u64 = 600_000_000;
/// Bytes around an inner packet.
const AROUND: u64 = 74;

/// The arguments of `cargo xtask bench small`.
#[derive(clap::Args)]
pub struct Arguments {
    /// How many spokes send in turn.
    #[arg(long, value_name = "N", default_value_t = 200, value_parser = clap::value_parser!(u16).range(2..=5000))]
    spokes: u16,
    /// Inner packets of so many bytes.
    #[arg(long, value_name = "BYTES", value_delimiter = ',', default_values_t = [64_u64, 256, 1300])]
    sizes: Vec<u64>,
    /// How long each step takes.
    #[arg(long, value_name = "MS", default_value_t = 700, value_parser = clap::value_parser!(u64).range(100..=10_000))]
    step_ms: u64,
    /// Only one step, of so many packets a second, whatever is lost at it: the work a packet
    /// is, compared at one rate.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1000..=LAST_RATE))]
    rate: Option<u64>,
    /// Only these.
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    only: Vec<String>,
    /// Leave everything to the scheduler: no threaded NAPI, nobody on a core of his own.
    #[arg(long)]
    unpinned: bool,
    /// Where to write the results [default: bench-small.json in cargo's target directory].
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// The taltun to measure [default: a release build made now].
    #[arg(long, value_name = "PATH")]
    taltun: Option<PathBuf>,
    /// The program that plays the spokes [default: a release build made now].
    #[arg(long, value_name = "PATH")]
    player: Option<PathBuf>,
}

/// Somebody to be the hub.
#[derive(Debug, Clone)]
pub struct Candidate {
    /// What it is called in the table.
    name: String,
    contender: Contender,
    /// For Taltun.
    xdp: XdpMode,
    af_xdp: AfXdp,
}

/// What came of one candidate with packets of one size.
#[derive(Debug, Clone, Serialize)]
pub struct Outcome {
    name: String,
    /// Whether it is somebody to be better than.
    rival: bool,
    bytes: u64,
    spokes: u16,
    /// Packets a second at the last step without loss; `None` if there was none.
    sustained: Option<f64>,
    /// CPU time of the hub's a packet then, µs: its process, and its NAPI threads where there
    /// are any.
    cpu_us: Option<f64>,
    /// The most packets a second that came through at any step, lost ones or not: those that
    /// did while the others were being sent.
    most: Option<f64>,
    /// The most packets a second that were sent.
    offered: Option<f64>,
    /// Why it couldn't be measured.
    failure: Option<String>,
}

impl Outcome {
    /// Packets in a second of one core.
    fn per_core(&self) -> Option<f64> {
        self.cpu_us.map(|us| 1e6 / us)
    }

    /// Whether more might have come through if more had been sent.
    fn is_limited_by_load(&self) -> bool {
        self.offered
            .zip(self.most)
            .is_some_and(|(offered, most)| offered < most * ENOUGH)
    }
}

#[derive(Debug, Serialize)]
struct Results<'a> {
    machine: &'a Machine,
    pinned: bool,
    outcomes: &'a [Outcome],
    targets: &'a [Target],
}

/// Measures.
pub fn run(arguments: &Arguments) -> Result<ExitCode> {
    setup::programs(PROGRAMS)?;
    let taltun = match &arguments.taltun {
        Some(path) => path.canonicalize()?,
        None => workspace::taltun()?,
    };
    if !sys::is_root() {
        return run::as_root(&taltun);
    }
    let player = match &arguments.player {
        Some(path) => path.canonicalize()?,
        None => load::build()?,
    };
    let machine = Machine::look();
    sys::remember_stop_signals()?;
    remove_remains_of_dead_tests()?;
    socket::remove_dead_sockets();
    let mut candidates = candidates(&contender::choose(&[], &taltun)?);
    if !arguments.only.is_empty() {
        candidates.retain(|candidate| arguments.only.contains(&candidate.name));
        ensure!(!candidates.is_empty(), "none of these is here");
    }
    let mut outcomes = Vec::new();
    for candidate in &candidates {
        let measured = measure(arguments, candidate, &taltun, &player, &mut outcomes);
        if let Err(error) = measured {
            note(&format!("{} failed: {error:#}", candidate.name));
            outcomes.push(Outcome {
                name: candidate.name.clone(),
                rival: candidate.contender.kind.is_rival(),
                bytes: 0,
                spokes: 0,
                sustained: None,
                cpu_us: None,
                most: None,
                offered: None,
                failure: Some(format!("{error:#}")),
            });
        }
        if sys::stop_requested().is_some() {
            break;
        }
    }
    let targets = targets::judge(&outcomes, arguments.rate.is_some());
    println!("{}", table::report(&outcomes, !arguments.unpinned));
    println!("{}", targets::verdict(&targets));
    let results = Results {
        machine: &machine,
        pinned: !arguments.unpinned,
        outcomes: &outcomes,
        targets: &targets,
    };
    let path = arguments.json.clone();
    let path = path.unwrap_or_else(|| workspace::target().join("bench-small.json"));
    let json = serde_json::to_string_pretty(&results)? + "\n";
    fs::write(&path, json).with_context(|| format!("can't write {}", path.display()))?;
    note(&format!("wrote {}", path.display()));
    let complete = outcomes.iter().all(|outcome| outcome.failure.is_none());
    Ok(if complete && sys::stop_requested().is_none() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// Taltun with every back end, and its rivals.
fn candidates(contenders: &[Contender]) -> Vec<Candidate> {
    let of = |contender: &Contender, name: &str, xdp, af_xdp| Candidate {
        name: name.to_owned(),
        contender: contender.clone(),
        xdp,
        af_xdp,
    };
    let mut candidates = Vec::new();
    for contender in contenders {
        match contender.kind {
            // The spokes speak nothing but WireGuard.
            Kind::Bare => {}
            Kind::Taltun => candidates.extend([
                of(contender, "socket", XdpMode::Generic, AfXdp::Off),
                of(contender, "socket-driver", XdpMode::Driver, AfXdp::Off),
                of(contender, "af_xdp-driver", XdpMode::Driver, AfXdp::On),
                of(contender, "af_xdp-generic", XdpMode::Generic, AfXdp::On),
            ]),
            kind => candidates.push(of(contender, kind.word(), XdpMode::Off, AfXdp::Off)),
        }
    }
    candidates
}

/// Measures one candidate with packets of each size, of all spokes and of one alone.
fn measure(
    arguments: &Arguments,
    candidate: &Candidate,
    taltun: &std::path::Path,
    player: &std::path::Path,
    outcomes: &mut Vec<Outcome>,
) -> Result<()> {
    let pinned = !arguments.unpinned;
    let field = Field::lay()?;
    let keys = load::keys(player, arguments.spokes)?;
    let hub = Hub::start(&field, candidate, &keys, taltun, pinned)?;
    let mut load = Load::start(&field, player, arguments.spokes, hub.public_key(), pinned)?;
    let field = field.ready(pinned)?;
    let all = arguments
        .sizes
        .iter()
        .map(|bytes| (*bytes, arguments.spokes));
    for (bytes, senders) in all.chain([(64, 1)]) {
        let mut seen = Seen::default();
        let mut failures = 0;
        let mut rate = arguments.rate.unwrap_or(FIRST_RATE);
        let last = arguments.rate.unwrap_or(LAST_RATE);
        let mut step = |rate: u64| -> Result<Step> {
            let phase = Phase {
                bytes,
                packets: (rate * arguments.step_ms / 1000).min(MOST_SEALED / (bytes + AROUND)),
                rate,
                senders,
            };
            load.prepare(phase)?;
            let before = (hub.cpu_seconds()? + field.cpu_seconds(), field.arrived()?);
            let sent = load.send()?;
            let through = (field.arrived()? - before.1) as f64;
            // What is still in queues is part of it, too, where nothing is to get lost.
            sleep(Duration::from_millis(100));
            let cpu = hub.cpu_seconds()? + field.cpu_seconds() - before.0;
            let arrived = (field.arrived()? - before.1) as f64;
            Ok(Step {
                sent: sent.packets as f64,
                through,
                arrived,
                seconds: sent.seconds,
                cpu,
            })
        };
        while rate <= last && failures < FAILURES && sys::stop_requested().is_none() {
            let most = seen.most;
            let lossless = seen.add(&step(rate)?, arguments.rate.is_some());
            let grew = seen.most > most * GROWTH;
            failures = if lossless || grew { 0 } else { failures + 1 };
            rate += rate / STEP;
        }
        if arguments.rate.is_none() && sys::stop_requested().is_none() {
            // More than enough.
            seen.add(&step((2 * rate).min(2 * LAST_RATE))?, false);
        }
        note(&format!(
            "{}, {bytes} bytes, {senders} spokes: {}; at most {:.0} k/s of {:.0} k/s came through",
            candidate.name,
            seen.best
                .map_or("lossy from the first step".into(), |(rate, cpu)| {
                    format!("{:.0} k/s, {cpu:.2} µs", rate / 1e3)
                }),
            seen.most / 1e3,
            seen.offered / 1e3,
        ));
        outcomes.push(Outcome {
            name: candidate.name.clone(),
            rival: candidate.contender.kind.is_rival(),
            bytes,
            spokes: senders,
            sustained: seen.best.map(|(rate, _)| rate),
            cpu_us: seen.best.map(|(_, cpu)| cpu),
            most: Some(seen.most),
            offered: Some(seen.offered),
            failure: None,
        });
    }
    drop(load);
    hub.stop()
}

/// What was measured at one rate.
struct Step {
    /// Packets sent.
    sent: f64,
    /// Those of them that had arrived when the last one was sent.
    through: f64,
    /// Those that arrived at all.
    arrived: f64,
    /// How long sending took.
    seconds: f64,
    /// CPU seconds of the hub's.
    cpu: f64,
}

/// What was seen so far.
#[derive(Default)]
struct Seen {
    /// Packets a second at the last step without loss, and the CPU time a packet then, µs.
    best: Option<(f64, f64)>,
    most: f64,
    offered: f64,
}

impl Seen {
    /// Adds a step; whether it counts as one without loss, as it does with `any_loss` if
    /// anything arrived at all.
    fn add(&mut self, step: &Step, any_loss: bool) -> bool {
        self.offered = self.offered.max(step.sent / step.seconds);
        self.most = self.most.max(step.through / step.seconds);
        let lossless = step.arrived >= step.sent * (1.0 - LOSS);
        let counts = lossless || (any_loss && step.arrived > 0.0);
        if counts {
            let rate = step.arrived / step.seconds;
            self.best = Some((rate, step.cpu / step.arrived * 1e6));
        }
        if lossless {
            self.most = self.most.max(step.arrived / step.seconds);
        }
        counts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_is_that_of_any_step_and_what_lay_in_queues_is_no_part_of_it() {
        let step = |sent: f64, through: f64, arrived: f64| Step {
            sent,
            through,
            arrived,
            seconds: 0.5,
            cpu: 0.25,
        };
        let mut seen = Seen::default();
        assert!(seen.add(&step(100.0, 98.0, 100.0), false));
        assert_eq!(seen.best, Some((200.0, 2500.0)));
        assert!((seen.most - 200.0).abs() < 1e-9);
        assert!(!seen.add(&step(200.0, 150.0, 180.0), false));
        assert!((seen.most - 300.0).abs() < 1e-9);
        assert_eq!(seen.best, Some((200.0, 2500.0)));
        assert!(!seen.add(&step(400.0, 90.0, 95.0), false));
        assert!((seen.most - 300.0).abs() < 1e-9);
        assert!((seen.offered - 800.0).abs() < 1e-9);
        assert!(seen.add(&step(400.0, 90.0, 95.0), true));
    }
}
