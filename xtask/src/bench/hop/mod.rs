//! `cargo xtask bench hop`: what a range of ports costs a hub, beside one port.
//!
//! Two loads. A TCP stream between a client and the hub, up and down ([`stream`]): each batch that
//! the client sends goes to another port of the range. And many clients whose packets the hub
//! relays ([`crowd`]), each of which uses every port of it. Both are measured with one port and
//! with the range, in turn, so what counts is the ratio within a round.
//!
//! The nanoseconds of one verdict come from another program: `cargo test -p taltun --test
//! xdp_verdicts -- --bench latency::hop`.

mod crowd;
mod stream;

use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Result, bail};
use clap::ValueEnum;
use serde::Serialize;
use taltun_tests::sys;

use super::contender;
use super::machine::Machine;
use super::small::load;
use super::statistics::median;
use super::table::aligned;
use super::{Common, Xdp, ended, get_ready, told, turns};
use crate::run;
use crate::setup::{self, Program};
use crowd::Crowd;
use stream::Way;

const PROGRAMS: &[Program] = &[
    ("ip", "iproute2"),
    ("iperf3", "iperf3"),
    ("nft", "nftables"),
    ("ethtool", "ethtool"),
    ("taskset", "util-linux"),
];
/// The range: 4,096 ports.
const RANGE: (u16, u16) = (4096, 8191);
/// How much of the throughput with one port has to be left.
const LEAST: f64 = 0.97;

/// The arguments of `cargo xtask bench hop`.
#[derive(clap::Args)]
pub struct Arguments {
    /// How often everything is measured.
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..=100))]
    rounds: u16,
    /// How long a stream takes.
    #[arg(long, value_name = "SECONDS", default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..=60))]
    seconds: u64,
    /// How many clients use the whole range.
    #[arg(long, value_name = "N", default_value_t = 200, value_parser = clap::value_parser!(u16).range(2..=1000))]
    clients: u16,
    /// Only these modes of the XDP program [default: driver and generic].
    #[arg(long, value_name = "MODE", value_delimiter = ',')]
    xdp: Vec<Xdp>,
    #[command(flatten)]
    common: Common,
    /// The program that plays the clients [default: a release build made now].
    #[arg(long, value_name = "PATH")]
    player: Option<PathBuf>,
}

/// On how many ports the hub is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ports {
    One,
    Range,
}

impl Ports {
    const BOTH: [Self; 2] = [Self::One, Self::Range];

    /// What the hub's file says.
    fn range(self) -> Option<(u16, u16)> {
        (self == Self::Range).then_some(RANGE)
    }

    fn words(self) -> &'static str {
        match self {
            Self::One => "one port",
            Self::Range => "4,096 ports",
        }
    }
}

/// What was measured.
#[derive(Debug, Serialize)]
struct Results {
    machine: Machine,
    rounds: usize,
    seconds: u64,
    clients: u16,
    streams: Vec<Line>,
    crowds: Vec<CrowdLine>,
}

/// A stream one way with the program in one mode, Gbit/s.
#[derive(Debug, Serialize)]
struct Line {
    #[serde(skip)]
    at: (Xdp, Way),
    title: String,
    /// By round: with one port, and with the range.
    one_port: Vec<Option<f64>>,
    range: Vec<Option<f64>>,
    failures: Vec<String>,
}

/// The clients with the program in one mode.
#[derive(Debug, Serialize)]
struct CrowdLine {
    title: String,
    one_port: Option<Crowd>,
    range: Option<Crowd>,
    failures: Vec<String>,
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
    let contender = contender::taltun_alone(&taltun)?;
    let machine = get_ready()?;
    let modes = match &arguments.xdp[..] {
        [] => &[Xdp::Driver, Xdp::Generic],
        given => given,
    };
    let mut results = Results::nothing(machine, arguments, modes);
    for round in 0..usize::from(arguments.rounds) {
        results.rounds = round + 1;
        for line in &mut results.streams {
            for turn in turns(round, Ports::BOTH.len()) {
                let ports = Ports::BOTH[turn];
                let outcome = stream::measure(&contender, line.at, ports, arguments.seconds);
                let what = format!("round {}, {}, {}", round + 1, line.title, ports.words());
                line.add(ports, told(&what, outcome));
            }
            if sys::stop_requested().is_some() {
                break;
            }
        }
        if sys::stop_requested().is_some() {
            break;
        }
    }
    for (xdp, line) in modes.iter().zip(&mut results.crowds) {
        for ports in Ports::BOTH {
            if sys::stop_requested().is_some() {
                break;
            }
            let outcome = crowd::measure(&contender, *xdp, ports, arguments.clients, &player);
            let what = format!("{}, {}", line.title, ports.words());
            line.add(ports, told(&what, outcome));
        }
    }
    if results.is_empty() {
        bail!("nothing could be measured");
    }
    println!("{}", results.report());
    arguments.common.write_json("bench-hop.json", &results)?;
    Ok(ended(results.is_complete()))
}

impl Results {
    fn nothing(machine: Machine, arguments: &Arguments, modes: &[Xdp]) -> Self {
        let lines = modes.iter().flat_map(|xdp| {
            Way::BOTH.map(|way| Line {
                at: (*xdp, way),
                title: format!("{}, {}", xdp.name(), way.words()),
                one_port: Vec::new(),
                range: Vec::new(),
                failures: Vec::new(),
            })
        });
        let crowds = modes.iter().map(|xdp| CrowdLine {
            title: format!("{}, {} clients", xdp.name(), arguments.clients),
            one_port: None,
            range: None,
            failures: Vec::new(),
        });
        Self {
            machine,
            rounds: 0,
            seconds: arguments.seconds,
            clients: arguments.clients,
            streams: lines.collect(),
            crowds: crowds.collect(),
        }
    }

    fn is_empty(&self) -> bool {
        self.streams.iter().all(|line| line.ratio().is_none())
            && self.crowds.iter().all(|line| line.range.is_none())
    }

    fn is_complete(&self) -> bool {
        self.streams.iter().all(|line| line.failures.is_empty())
            && self.crowds.iter().all(|line| line.failures.is_empty())
    }

    /// The tables.
    fn report(&self) -> String {
        let mut rows = vec![cells([
            "TCP, Gbit/s",
            "one port",
            "4,096 ports",
            "ratio",
            "",
        ])];
        for line in &self.streams {
            let ratio = line.ratio();
            rows.push(vec![
                line.title.clone(),
                figure(middle(&line.one_port), 2),
                figure(middle(&line.range), 2),
                figure(ratio, 3),
                verdict(ratio).to_owned(),
            ]);
        }
        let mut text = format!(
            "A range of 4,096 ports beside one port ({})\nMedians of {} rounds of {} s, ratios by round.\n\n{}\n",
            self.machine.line(),
            self.rounds,
            self.seconds,
            aligned(&rows, 1)
        );
        let titles = [
            "64-byte packets",
            "",
            "arrived",
            "µs of CPU a packet",
            "UDP sockets",
        ];
        let titles = titles.into_iter().chain(["MB before", "MB after"]);
        let mut rows = vec![titles.map(str::to_owned).collect::<Vec<_>>()];
        for line in &self.crowds {
            for (ports, crowd) in Ports::BOTH.into_iter().zip([&line.one_port, &line.range]) {
                let mut row = vec![line.title.clone(), ports.words().to_owned()];
                row.extend(match crowd {
                    Some(crowd) => crowd.cells(),
                    None => cells(["–"; 5]),
                });
                rows.push(row);
            }
        }
        // Writing to a String can't fail.
        let _ = write!(text, "\n{}", aligned(&rows, 2));
        text
    }
}

impl Line {
    fn add(&mut self, ports: Ports, outcome: Result<stream::Sample, String>) {
        let gbps = outcome.as_ref().ok().map(|sample| sample.gbps);
        match ports {
            Ports::One => self.one_port.push(gbps),
            Ports::Range => self.range.push(gbps),
        }
        self.failures.extend(outcome.err());
    }

    /// What is left with the range: the median of the rounds.
    fn ratio(&self) -> Option<f64> {
        let pairs = self.one_port.iter().zip(&self.range);
        let ratios: Vec<f64> = pairs
            .filter_map(|(one, range)| Some((*range)? / (*one)?))
            .collect();
        median(&ratios)
    }
}

impl CrowdLine {
    fn add(&mut self, ports: Ports, outcome: Result<Crowd, String>) {
        match (ports, outcome) {
            (Ports::One, Ok(crowd)) => self.one_port = Some(crowd),
            (Ports::Range, Ok(crowd)) => self.range = Some(crowd),
            (_, Err(why)) => self.failures.push(why),
        }
    }
}

fn verdict(ratio: Option<f64>) -> &'static str {
    match ratio {
        Some(ratio) if ratio >= LEAST => "within 3 %",
        Some(_) => "MISSED: not within 3 %",
        None => "not measured",
    }
}

fn middle(values: &[Option<f64>]) -> Option<f64> {
    median(&values.iter().copied().flatten().collect::<Vec<_>>())
}

fn figure(value: Option<f64>, digits: usize) -> String {
    value.map_or_else(|| "–".to_owned(), |value| format!("{value:.digits$}"))
}

fn cells<const N: usize>(words: [&str; N]) -> Vec<String> {
    words.map(str::to_owned).to_vec()
}

impl Xdp {
    /// As `--xdp` takes it.
    fn name(self) -> String {
        let value = self.to_possible_value();
        value.map_or_else(String::new, |value| value.get_name().to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_round_of_which_half_failed_is_no_ratio() {
        let mut line = Line {
            at: (Xdp::Driver, Way::Up),
            title: String::new(),
            one_port: Vec::new(),
            range: Vec::new(),
            failures: Vec::new(),
        };
        let sample = |gbps| Ok(stream::Sample { gbps });
        line.add(Ports::One, sample(2.0));
        line.add(Ports::Range, Err("it broke".into()));
        assert_eq!(line.ratio(), None);
        line.add(Ports::One, sample(4.0));
        line.add(Ports::Range, sample(3.0));
        assert_eq!(line.ratio(), Some(0.75));
        assert_eq!(line.failures, ["it broke"]);
    }

    #[test]
    fn three_of_a_hundred_may_be_missing() {
        assert_eq!(verdict(Some(0.97)), "within 3 %");
        assert!(verdict(Some(0.969)).contains("MISSED"));
        assert_eq!(verdict(None), "not measured");
    }
}
