//! `cargo xtask bench small`: small packets of many spokes, which nothing can merge.
//!
//! One program plays all spokes ([`load`]) on one end of a wire ([`field`]), a hub relays for
//! them on the other ([`hub`]). The rate rises step by step until packets get lost and no
//! more of them come through than before, and then once more, to twice of that ([`ramp`]).
//! What is reported is the last step at which none got lost, what a core of the hub's carried
//! then, the most that came through at any step, and what a core carried there. All of it is
//! done in several rounds, in which every candidate has its turn, and their medians are what
//! counts ([`outcome`], [`targets`]).
//!
//! The hub's work, its NAPI thread's included, is done on one core and the load's on another.
//! With `--unpinned` neither is so: the kernel then receives a packet at a time on whatever
//! core sent it.

pub(super) mod field;
pub(super) mod hub;
pub(super) mod load;
mod outcome;
mod ramp;
mod table;
mod targets;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Result, ensure};
use serde::Serialize;
use taltun_tests::lab::PORT;
use taltun_tests::node::{AfXdp, XdpMode};
use taltun_tests::sys;

use super::contender::{self, Contender, Kind};
use super::machine::Machine;
use super::{Common, ended, get_ready, note};
use crate::run;
use crate::setup::{self, Program};
use field::Field;
use hub::Hub;
use load::{Load, Phase};
use outcome::Outcome;
use ramp::{LAST_RATE, Step};
use targets::Target;

const PROGRAMS: &[Program] = &[
    ("ip", "iproute2"),
    ("ethtool", "ethtool"),
    ("taskset", "util-linux"),
    ("wg", "wireguard-tools"),
];
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
    /// How often everybody has a turn; what counts are the medians. With `--sizes 64` a round
    /// takes half a minute for each hub.
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=100))]
    rounds: u16,
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
    #[command(flatten)]
    common: Common,
    /// The program that plays the spokes [default: a release build made now].
    #[arg(long, value_name = "PATH")]
    player: Option<PathBuf>,
}

/// Somebody to be the hub.
#[derive(Debug, Clone)]
pub struct Candidate {
    /// What it is called in the table.
    pub name: String,
    /// Who it is.
    pub contender: Contender,
    /// For Taltun.
    pub xdp: XdpMode,
    /// For Taltun.
    pub af_xdp: AfXdp,
    /// The ports that lead to Taltun beside its own.
    pub port_range: Option<(u16, u16)>,
}

impl Candidate {
    /// A contender without XDP programs, AF_XDP and a range of ports.
    pub fn by_socket_alone(contender: &Contender) -> Self {
        Self {
            name: contender.kind.word().to_owned(),
            contender: contender.clone(),
            xdp: XdpMode::Off,
            af_xdp: AfXdp::Off,
            port_range: None,
        }
    }

    /// An outcome with nothing measured yet.
    fn nothing(&self, bytes: u64, spokes: u16) -> Outcome {
        let rival = self.contender.kind.is_rival();
        Outcome::new(&self.name, rival, bytes, spokes)
    }
}

#[derive(Debug, Serialize)]
struct Results<'a> {
    machine: &'a Machine,
    pinned: bool,
    rounds: u16,
    outcomes: &'a [Outcome],
    targets: &'a [Target],
}

/// Measures.
pub fn run(arguments: &Arguments) -> Result<ExitCode> {
    setup::programs(PROGRAMS)?;
    let taltun = arguments.common.taltun()?;
    if !sys::is_root() {
        return run::as_root(&taltun);
    }
    let player = match &arguments.player {
        Some(path) => path.canonicalize()?,
        None => load::build()?,
    };
    let machine = get_ready()?;
    let mut candidates = candidates(&contender::choose(&[], &taltun)?);
    if !arguments.only.is_empty() {
        for name in &arguments.only {
            let is_here = candidates.iter().any(|candidate| candidate.name == *name);
            ensure!(is_here, "{name} isn't here: {}", names(&candidates));
        }
        candidates.retain(|candidate| arguments.only.contains(&candidate.name));
    }
    let mut outcomes = Vec::new();
    for (round, candidate) in turns(arguments.rounds, &candidates) {
        let measured = measure(arguments, candidate, round, &taltun, &player, &mut outcomes);
        if let Err(error) = measured {
            let failure = format!("round {round}: {error:#}");
            note(&format!("{} failed: {failure}", candidate.name));
            outcomes.push(Outcome {
                failure: Some(failure),
                ..candidate.nothing(0, 0)
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
        rounds: arguments.rounds,
        outcomes: &outcomes,
        targets: &targets,
    };
    arguments.common.write_json("bench-small.json", &results)?;
    let complete = outcomes.iter().all(|outcome| outcome.failure.is_none());
    Ok(ended(complete))
}

/// Taltun with every back end, and its rivals.
fn candidates(contenders: &[Contender]) -> Vec<Candidate> {
    let of = |contender: &Contender, name: &str, xdp, af_xdp| Candidate {
        name: name.to_owned(),
        contender: contender.clone(),
        xdp,
        af_xdp,
        port_range: None,
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

/// All that are here, as a list to choose from.
fn names(candidates: &[Candidate]) -> String {
    let names: Vec<&str> = candidates.iter().map(|it| it.name.as_str()).collect();
    format!("there are {}", names.join(", "))
}

/// Who is measured in which round: in each of them everybody, one after the other.
fn turns(rounds: u16, candidates: &[Candidate]) -> impl Iterator<Item = (usize, &Candidate)> {
    let rounds = 1..=usize::from(rounds);
    rounds.flat_map(move |round| candidates.iter().map(move |candidate| (round, candidate)))
}

/// Measures one candidate with packets of each size, of all spokes and of one alone.
fn measure(
    arguments: &Arguments,
    candidate: &Candidate,
    round: usize,
    taltun: &Path,
    player: &Path,
    outcomes: &mut Vec<Outcome>,
) -> Result<()> {
    let pinned = !arguments.unpinned;
    let field = Field::lay()?;
    let keys = load::keys(player, arguments.spokes)?;
    let hub = Hub::start(&field, candidate, &keys, taltun, pinned)?;
    let mut load = Load::start(
        &field,
        player,
        arguments.spokes,
        hub.public_key(),
        (PORT, PORT),
        pinned,
    )?;
    let field = field.ready(pinned)?;
    let all = arguments
        .sizes
        .iter()
        .map(|bytes| (*bytes, arguments.spokes));
    for (bytes, senders) in all.chain([(64, 1)]) {
        let offer = |rate: u64| -> Result<Step> {
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
        let begin = ramp::first_rate(sustained_before(outcomes, candidate, bytes));
        let stop = || sys::stop_requested().is_some();
        let figures = match arguments.rate {
            Some(rate) => ramp::once(rate, offer)?,
            None => ramp::climb(begin, offer, stop)?,
        };
        if stop() {
            // Half a round would count as a whole one.
            break;
        }
        outcome_of(outcomes, candidate, bytes, senders).add(round, figures);
        note(&format!(
            "round {round}, {}, {bytes} bytes, {senders} spokes: {}",
            candidate.name,
            table::in_words(&figures)
        ));
    }
    drop(load);
    hub.stop()
}

/// The least that a candidate has sustained so far with packets of this size, of however many
/// spokes.
fn sustained_before(outcomes: &[Outcome], candidate: &Candidate, bytes: u64) -> Option<f64> {
    let known = outcomes
        .iter()
        .filter(|it| it.name == candidate.name && it.bytes == bytes && it.failure.is_none());
    let sustained: Option<Vec<f64>> = known.map(Outcome::least_sustained).collect();
    sustained?.into_iter().min_by(f64::total_cmp)
}

/// Where to write down what comes of a candidate.
fn outcome_of<'a>(
    outcomes: &'a mut Vec<Outcome>,
    candidate: &Candidate,
    bytes: u64,
    spokes: u16,
) -> &'a mut Outcome {
    let known = outcomes
        .iter()
        .position(|it| it.name == candidate.name && (it.bytes, it.spokes) == (bytes, spokes));
    let place = known.unwrap_or_else(|| {
        outcomes.push(candidate.nothing(bytes, spokes));
        outcomes.len() - 1
    });
    &mut outcomes[place]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn candidate(name: &str) -> Candidate {
        Candidate {
            name: name.into(),
            contender: Contender {
                kind: Kind::Taltun,
                program: PathBuf::new(),
                version: String::new(),
            },
            xdp: XdpMode::Driver,
            af_xdp: AfXdp::Off,
            port_range: None,
        }
    }

    #[test]
    fn in_each_round_everybody_has_a_turn() {
        let both = [candidate("one"), candidate("two")];
        let turns: Vec<_> = turns(2, &both)
            .map(|(round, candidate)| (round, candidate.name.as_str()))
            .collect();
        assert_eq!(turns, [(1, "one"), (1, "two"), (2, "one"), (2, "two")]);
    }

    #[test]
    fn what_comes_of_a_candidate_is_in_one_place_for_all_rounds() {
        let mut outcomes = Vec::new();
        for (name, spokes) in [("one", 200), ("one", 1), ("two", 200), ("one", 200)] {
            outcome_of(&mut outcomes, &candidate(name), 64, spokes);
        }
        let found: Vec<_> = outcomes
            .iter()
            .map(|it| (it.name.as_str(), it.spokes))
            .collect();
        assert_eq!(found, [("one", 200), ("one", 1), ("two", 200)]);
    }

    #[test]
    fn what_was_sustained_before_is_that_of_the_same_hub_and_size() {
        let mut outcomes = Vec::new();
        let one = candidate("one");
        assert_eq!(sustained_before(&outcomes, &one, 64), None);
        let mut add = |name: &str, bytes, spokes, sustained| {
            let figures = outcome::Figures {
                sustained,
                ..outcome::Figures::default()
            };
            outcome_of(&mut outcomes, &candidate(name), bytes, spokes).add(1, figures);
            sustained_before(&outcomes, &one, 64)
        };
        assert_eq!(add("two", 64, 200, Some(20e3)), None);
        assert_eq!(add("one", 256, 200, Some(30e3)), None);
        assert_eq!(add("one", 64, 200, Some(150e3)), Some(150e3));
        assert_eq!(add("one", 64, 1, Some(140e3)), Some(140e3));
        // One in which nothing was: from the beginning again.
        assert_eq!(add("one", 64, 1, None), None);
    }
}
