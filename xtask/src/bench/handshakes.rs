//! `cargo xtask bench handshakes`: how many handshakes a second a core of a hub answers.
//!
//! One program plays all peers ([`start_load`]), on one core, the hub answers on another. At any time so many
//! initiations wait for an answer: with one, a hub does them one by one; with many, as after its
//! restart, it may do several at once. What counts is the CPU time of the hub's process for each
//! handshake from which the peer has a session: the load's own time, and whether the hub waits for
//! it, make no difference. The CPU time of the pauses between two bursts of handshakes is counted, too.
//!
//! The wire is IPv4, and no XDP program is attached: what it would drop isn't sent here.

use std::fmt::{self, Display};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Result, bail, ensure};
use serde::Serialize;
use taltun_tests::command::output_of;
use taltun_tests::lab::PORT;
use taltun_tests::sys;
use taltun_tests::topology::WIRE_A;

use super::contender::{self, Contender, Kind};
use super::machine::Machine;
use super::player::Player;
use super::small::Candidate;
use super::small::field::{Field, LOAD_CORE};
use super::small::hub::Hub;
use super::statistics::median;
use super::table::aligned;
use super::{Common, ended, get_ready, told, turns};
use crate::run;
use crate::setup::{self, Program};
use crate::workspace::{self, cargo, must_succeed};

const PROGRAMS: &[Program] = &[
    ("ip", "iproute2"),
    ("taskset", "util-linux"),
    ("wg", "wireguard-tools"),
];
/// How many times wireguard-go's handshakes a core of Taltun's has to do.
const LEAST: f64 = 2.0;
/// How many initiations wait for an answer at a time. Some hubs send cookies from 128 on.
const WINDOWS: [usize; 2] = [1, 64];

/// The arguments of `cargo xtask bench handshakes`.
#[derive(clap::Args)]
pub struct Arguments {
    /// How often everybody has a turn.
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..=100))]
    rounds: u16,
    /// How many peers there are. From some hundred initiations at once on, hubs ask for cookies.
    #[arg(long, value_name = "N", default_value_t = 450, value_parser = clap::value_parser!(u16).range(100..=450))]
    peers: u16,
    /// How often each of them starts a handshake, 0.7 s apart.
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u16).range(1..=100))]
    bursts: u16,
    /// Only Taltun and these, which then have to be there [default: all that are].
    #[arg(long, value_name = "RIVAL", value_delimiter = ',')]
    rivals: Vec<Kind>,
    #[command(flatten)]
    common: Common,
    /// The program that plays the peers [default: a release build made now].
    #[arg(long, value_name = "PATH")]
    player: Option<PathBuf>,
}

/// What was measured.
#[derive(Debug, Serialize)]
struct Results {
    machine: Machine,
    rounds: usize,
    peers: u16,
    bursts: u16,
    lines: Vec<Line>,
}

/// A contender with so many initiations at a time.
#[derive(Debug, Serialize)]
struct Line {
    contender: &'static str,
    window: usize,
    /// By round.
    samples: Vec<Option<Sample>>,
    failures: Vec<String>,
}

/// What a hub did in one turn.
#[derive(Debug, Clone, Copy, Serialize)]
struct Sample {
    initiations: u64,
    /// Those from which the peer got a session.
    sessions: u64,
    seconds: f64,
    /// CPU time of the hub's process.
    cpu_seconds: f64,
}

impl Sample {
    fn per_core(&self) -> f64 {
        self.sessions as f64 / self.cpu_seconds
    }

    fn per_second(&self) -> f64 {
        self.sessions as f64 / self.seconds
    }
}

impl Display for Sample {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} of {} handshakes, {:.0} a second, {:.0} a second of the hub's CPU time",
            self.sessions,
            self.initiations,
            self.per_second(),
            self.per_core()
        )
    }
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
        None => build()?,
    };
    let contenders = contender::choose_hubs(&arguments.rivals, &taltun)?;
    let cases: Vec<(&Contender, usize)> = WINDOWS
        .iter()
        .flat_map(|window| contenders.iter().map(move |contender| (contender, *window)))
        .collect();
    let mut results = Results {
        machine: get_ready()?,
        rounds: 0,
        peers: arguments.peers,
        bursts: arguments.bursts,
        lines: cases
            .iter()
            .map(|(contender, window)| Line {
                contender: contender.kind.word(),
                window: *window,
                samples: Vec::new(),
                failures: Vec::new(),
            })
            .collect(),
    };
    'rounds: for round in 0..usize::from(arguments.rounds) {
        results.rounds = round + 1;
        for turn in turns(round, cases.len()) {
            let (contender, window) = cases[turn];
            let outcome = measure(arguments, contender, window, &taltun, &player);
            if sys::stop_requested().is_some() {
                break 'rounds;
            }
            let name = contender.kind.word();
            let what = format!("round {}, {name}, {window} at a time", round + 1);
            let outcome = told(&what, outcome);
            let line = &mut results.lines[turn];
            line.samples.push(outcome.as_ref().ok().copied());
            line.failures.extend(outcome.err());
        }
    }
    if results
        .lines
        .iter()
        .all(|line| line.middle(Sample::per_core).is_none())
    {
        bail!("nothing could be measured");
    }
    println!("{}", results.report());
    arguments
        .common
        .write_json("bench-handshakes.json", &results)?;
    Ok(ended(
        results.lines.iter().all(|line| line.failures.is_empty()),
    ))
}

fn build() -> Result<PathBuf> {
    let words = [
        "build",
        "--release",
        "-p",
        "taltun",
        "--example",
        "initiators",
    ];
    must_succeed(cargo()?.args(words), "build the peers")?;
    Ok(workspace::target().join("release/examples/initiators"))
}

fn measure(
    arguments: &Arguments,
    contender: &Contender,
    window: usize,
    taltun: &Path,
    player: &Path,
) -> Result<Sample> {
    let candidate = Candidate::by_socket_alone(contender);
    let field = Field::lay()?;
    let printed = output_of(Command::new(player).args(["keys", &arguments.peers.to_string()]))?;
    let keys: Vec<String> = printed.lines().map(str::to_owned).collect();
    let hub = Hub::start(&field, &candidate, &keys, taltun, true)?;
    let mut load = start_load(&field, player, arguments, hub.public_key(), window)?;
    let before = hub.cpu_seconds()?;
    let (answered, seconds) = load.go()?;
    let cpu_seconds = hub.cpu_seconds()? - before;
    let sessions: u64 = load.line()?.parse()?;
    ensure!(answered > 0, "the hub answered nothing");
    ensure!(
        sessions == answered,
        "only {sessions} of {answered} answers led to a session"
    );
    drop(load);
    hub.stop()?;
    Ok(Sample {
        initiations: u64::from(arguments.peers) * u64::from(arguments.bursts),
        sessions,
        seconds,
        cpu_seconds,
    })
}

/// Starts the program that plays the peers, `taltun/examples/initiators.rs`, and waits until it has
/// made its initiations.
fn start_load(
    field: &Field,
    player: &Path,
    arguments: &Arguments,
    hub_key: &str,
    window: usize,
) -> Result<Player> {
    let mut command = field.net.right.command("taskset");
    command
        .args(["-c", &LOAD_CORE.to_string()])
        .arg(player)
        .args(["run", &arguments.peers.to_string()])
        .args([&arguments.bursts.to_string(), hub_key])
        .arg(format!("{}:{PORT}", WIRE_A.near_v4()))
        .arg(window.to_string());
    let mut load = Player::start(&mut command)?;
    load.expect("ready")?;
    Ok(load)
}

impl Line {
    fn middle(&self, figure: impl Fn(&Sample) -> f64) -> Option<f64> {
        let values: Vec<f64> = self.samples.iter().flatten().map(figure).collect();
        median(&values)
    }
}

impl Results {
    /// How many times a contender's handshakes Taltun does in a core's second: the median of the
    /// rounds.
    fn ratio(&self, other: &Line) -> Option<f64> {
        let ours = self
            .lines
            .iter()
            .find(|line| line.contender == Kind::Taltun.word() && line.window == other.window)?;
        let pairs = ours.samples.iter().zip(&other.samples);
        let ratios: Vec<f64> = pairs
            .filter_map(|(ours, theirs)| Some((*ours)?.per_core() / (*theirs)?.per_core()))
            .collect();
        median(&ratios)
    }

    /// The table.
    fn report(&self) -> String {
        let titles = [
            "hub",
            "at a time",
            "a second of CPU",
            "a second",
            "without a session",
            "Taltun's ÷ its",
            "",
        ];
        let mut rows = vec![titles.map(str::to_owned).to_vec()];
        for line in &self.lines {
            let whole = |value: Option<f64>| {
                value.map_or_else(|| "–".to_owned(), |value| format!("{value:.0}"))
            };
            let is_ours = line.contender == Kind::Taltun.word();
            let ratio = self.ratio(line).filter(|_| !is_ours);
            let lost = line.middle(|sample| (sample.initiations - sample.sessions) as f64);
            rows.push(vec![
                line.contender.to_owned(),
                line.window.to_string(),
                whole(line.middle(Sample::per_core)),
                whole(line.middle(Sample::per_second)),
                whole(lost),
                ratio.map_or_else(String::new, |ratio| format!("{ratio:.2}")),
                verdict(line, ratio).to_owned(),
            ]);
        }
        format!(
            "Handshakes that a hub answers ({})\n{} peers, {} bursts; medians of {} rounds, ratios by round.\n\n{}",
            self.machine.line(),
            self.peers,
            self.bursts,
            self.rounds,
            aligned(&rows, 1)
        )
    }
}

/// The target is for a storm, beside wireguard-go.
fn verdict(line: &Line, ratio: Option<f64>) -> &'static str {
    let has_target = line.contender == Kind::WireguardGo.word() && line.window > 1;
    match ratio {
        _ if !has_target => "",
        Some(ratio) if ratio >= LEAST => "at least twice",
        Some(_) => "MISSED: not twice",
        None => "not measured",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(contender: Kind, cpu_seconds: &[f64]) -> Line {
        let sample = |cpu_seconds: &f64| {
            Some(Sample {
                initiations: 1000,
                sessions: 900,
                seconds: 1.0,
                cpu_seconds: *cpu_seconds,
            })
        };
        Line {
            contender: contender.word(),
            window: 64,
            samples: cpu_seconds.iter().map(sample).collect(),
            failures: Vec::new(),
        }
    }

    #[test]
    fn a_ratio_is_of_one_round_and_of_the_same_number_at_a_time() {
        let results = Results {
            machine: Machine::look(),
            rounds: 3,
            peers: 1000,
            bursts: 1,
            lines: vec![
                line(Kind::Taltun, &[0.1, 0.2, 0.1]),
                line(Kind::WireguardGo, &[0.3, 0.4, 0.1]),
            ],
        };
        let rival = &results.lines[1];
        let ratio = results.ratio(rival).unwrap();
        assert!((ratio - 2.0).abs() < 1e-9, "{ratio}");
        assert_eq!(verdict(rival, Some(ratio)), "at least twice");
        let alone = Line {
            window: 1,
            ..line(Kind::WireguardGo, &[0.3])
        };
        assert_eq!(results.ratio(&alone), None);
        assert_eq!(verdict(&alone, Some(1.0)), "");
        assert!(verdict(rival, Some(1.9)).contains("MISSED"));
    }
}
