//! `cargo xtask bench small`: small packets of many spokes, which nothing can merge.
//!
//! One program plays all spokes ([`load`]) on one end of a wire ([`field`]), a hub relays for
//! them on the other ([`hub`]). The rate rises step by step until packets get lost; what is
//! reported is the last step at which none did, and what a core of the hub's carried then.
//!
//! The hub's work, its NAPI thread's included, is done on one core and the load's on another.
//! With `--unpinned` neither is so: the kernel then receives a packet at a time on whatever
//! core sent it.

mod field;
mod hub;
mod load;
mod table;

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
/// Steps in a row that may fail before it is over: one may be the machine's fault.
const FAILURES: usize = 2;

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
    bytes: u64,
    spokes: u16,
    /// Packets a second at the last step without loss; `None` if there was none.
    sustained: Option<f64>,
    /// CPU time of the hub's a packet then, µs: its process, and its NAPI threads where there
    /// are any.
    cpu_us: Option<f64>,
    /// Why it couldn't be measured.
    failure: Option<String>,
}

impl Outcome {
    /// Packets in a second of one core.
    fn per_core(&self) -> Option<f64> {
        self.cpu_us.map(|us| 1e6 / us)
    }
}

#[derive(Debug, Serialize)]
struct Results<'a> {
    machine: &'a Machine,
    pinned: bool,
    outcomes: &'a [Outcome],
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
                bytes: 0,
                spokes: 0,
                sustained: None,
                cpu_us: None,
                failure: Some(format!("{error:#}")),
            });
        }
        if sys::stop_requested().is_some() {
            break;
        }
    }
    println!("{}", table::report(&outcomes, !arguments.unpinned));
    let results = Results {
        machine: &machine,
        pinned: !arguments.unpinned,
        outcomes: &outcomes,
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
        let mut best: Option<(f64, f64)> = None;
        let mut failures = 0;
        let mut rate = arguments.rate.unwrap_or(FIRST_RATE);
        let last = arguments.rate.unwrap_or(LAST_RATE);
        while rate <= last && failures < FAILURES && sys::stop_requested().is_none() {
            let phase = Phase {
                bytes,
                packets: rate * arguments.step_ms / 1000,
                rate,
                senders,
            };
            load.prepare(phase)?;
            let before = (hub.cpu_seconds()? + field.cpu_seconds(), field.arrived()?);
            let sent = load.send()?;
            // What is still in queues is part of it.
            sleep(Duration::from_millis(100));
            let cpu = hub.cpu_seconds()? + field.cpu_seconds() - before.0;
            let arrived = (field.arrived()? - before.1) as f64;
            let lossless = arrived >= sent.packets as f64 * (1.0 - LOSS);
            if lossless || (arguments.rate.is_some() && arrived > 0.0) {
                failures = 0;
                best = Some((arrived / sent.seconds, cpu / arrived * 1e6));
            } else {
                failures += 1;
            }
            rate += rate / STEP;
        }
        note(&format!(
            "{}, {bytes} bytes, {senders} spokes: {}",
            candidate.name,
            best.map_or("lossy from the first step".into(), |(rate, cpu)| {
                format!("{:.0} k/s, {cpu:.2} µs", rate / 1e3)
            })
        ));
        outcomes.push(Outcome {
            name: candidate.name.clone(),
            bytes,
            spokes: senders,
            sustained: best.map(|(rate, _)| rate),
            cpu_us: best.map(|(_, cpu)| cpu),
            failure: None,
        });
    }
    drop(load);
    hub.stop()
}
