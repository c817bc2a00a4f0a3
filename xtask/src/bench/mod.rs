//! `cargo xtask bench`: Taltun and its rivals, measured alike, in turn, on one machine.
//!
//! A round measures every contender in every row; the rounds repeat that, each beginning
//! with another contender, and the median over the rounds is what counts. So a machine that
//! is faster now than a minute ago is so for all. What is claimed are ratios within a run,
//! never times.
//!
//! Eleven benches are below here, each of something else: speed, floods, small packets, many peers,
//! handshakes, storms, ranges of ports, neighbours, rules, the UDP gateway, a fleet. What they have in common is said once: who is measured ([`contender`],
//! [`rival`], [`tunnel`]), rounds, tables, medians, what `/proc` says, arguments and files. It
//! doesn't become much shorter than it is, some 4,000 lines without tests and comments: more than
//! half of them are loads, steps, targets and verdicts of one bench alone, which no library has,
//! and the chart, the tables and the medians that one might have are some 270.

mod configs;
mod contender;
mod fleet;
mod handshakes;
mod hop;
mod iperf;
mod machine;
mod measure;
mod neighbour;
mod player;
mod policy;
mod process;
mod results;
mod rival;
mod row;
mod scale;
mod shield;
mod small;
mod socket;
mod statistics;
mod storm;
mod svg;
mod table;
mod tunnel;
mod udpgw;
mod usage;
mod wires;

use std::fmt::{self, Display};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use clap::ValueEnum;
use serde::Serialize;
use taltun_tests::command::find;
use taltun_tests::node::XdpMode;
use taltun_tests::sys;
use taltun_tests::topology::remove_remains_of_dead_tests;

use crate::backports;
use crate::build;
use crate::run;
use crate::setup::{self, Program};
use crate::workspace;
use contender::{Contender, Kind};
use machine::Machine;
use measure::{Sample, Settings};
use results::{Line, Party, Results};
use row::{Name, Row};

/// What the bench can't do without.
const PROGRAMS: &[Program] = &[
    ("ip", "iproute2"),
    ("iperf3", "iperf3"),
    ("wg", "wireguard-tools"),
];
/// How many rounds there are if nobody says.
const ROUNDS: usize = 5;
/// How long a measurement takes if nobody says.
const SECONDS: u64 = 4;
/// The same in a hurry.
const QUICK_SECONDS: u64 = 1;
/// What there is in a hurry, as far as the rounds fit [`QUICK_LIMIT`].
const QUICK_ROUNDS: usize = 3;
/// Another round is begun only if it will be over by then.
const QUICK_LIMIT: Duration = Duration::from_secs(110);
/// With so few rivals the comparison is said in words too.
const FEW: usize = 2;

/// The arguments of `cargo xtask bench`.
#[derive(clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Arguments {
    /// Another bench than that of speed.
    #[command(subcommand)]
    other: Option<Other>,
    /// Two minutes at most: short measurements, no rows with XDP.
    #[arg(long)]
    quick: bool,
    /// How often everything is measured [default: 5, with --quick 3 if they fit].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    rounds: Option<u16>,
    /// How long a measurement takes [default: 4, with --quick 1].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=3600))]
    seconds: Option<u64>,
    /// Only these rows.
    #[arg(long, value_name = "ROW", value_delimiter = ',')]
    only: Vec<Name>,
    /// Only Taltun and these, which then have to be there [default: all that are].
    #[arg(long, value_name = "RIVAL", value_delimiter = ',')]
    rivals: Vec<Kind>,
    /// How Taltun attaches its XDP program, in every row. With `driver` the others get a
    /// program that passes everything, and all get GRO on the veths.
    #[arg(long, value_name = "MODE")]
    xdp: Option<Xdp>,
    /// A line for Taltun's `[dataplane]`, such as `udp_gso=false`; can be given several times.
    #[arg(long, value_name = "KEY=VALUE")]
    dataplane: Vec<String>,
    /// Measure a Taltun that encrypts nothing, too, built for that alone: the figures say what part of what this
    /// machine's I/O allows Taltun has.
    #[arg(long)]
    null_cipher: bool,
    /// Where to write the chart [default: bench.svg in cargo's target directory].
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
    #[command(flatten)]
    common: Common,
}

/// The arguments that all benches have.
#[derive(clap::Args)]
struct Common {
    /// Where to write the results [default: a file in cargo's target directory].
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// The taltun to measure [default: a release build made now].
    #[arg(long, value_name = "PATH")]
    taltun: Option<PathBuf>,
}

#[derive(clap::Subcommand)]
enum Other {
    /// What it takes to have 100,000 peers: start, memory, idling, and a change of one of them.
    Scale(scale::Arguments),
    /// What is left of a TCP stream while a flood hits the hub's UDP port.
    Shield(shield::Arguments),
    /// Handshakes that a core of a hub answers, one by one and in a storm, against its rivals.
    Handshakes(handshakes::Arguments),
    /// 10,000 peers at once, as after a restart of their hub, against its rivals.
    Storm(storm::Arguments),
    /// A range of 4,096 ports beside one port: throughput, memory, sockets.
    Hop(hop::Arguments),
    /// Small packets of many spokes, by each way in that Taltun has, against its rivals.
    Small(small::Arguments),
    /// A valid peer at its worst: what its floods leave of another peer's stream and ping.
    Neighbour(neighbour::Arguments),
    /// 10,000 rules beside none: a TCP stream that the hub relays.
    Policy(policy::Arguments),
    /// Many clients of a UDP gateway, by Taltun, by badvpn-udpgw and by a plain server in Python.
    Udpgw(udpgw::Arguments),
    /// Stock clients of a fleet while the hub that they are at is killed, hangs, or gives them up.
    Fleet(fleet::Arguments),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Xdp {
    Off,
    Generic,
    Driver,
}

/// Measures.
pub fn run(arguments: &Arguments) -> Result<ExitCode> {
    match &arguments.other {
        Some(Other::Scale(arguments)) => return scale::run(arguments),
        Some(Other::Shield(arguments)) => return shield::run(arguments),
        Some(Other::Handshakes(arguments)) => return handshakes::run(arguments),
        Some(Other::Storm(arguments)) => return storm::run(arguments),
        Some(Other::Hop(arguments)) => return hop::run(arguments),
        Some(Other::Small(arguments)) => return small::run(arguments),
        Some(Other::Neighbour(arguments)) => return neighbour::run(arguments),
        Some(Other::Policy(arguments)) => return policy::run(arguments),
        Some(Other::Udpgw(arguments)) => return udpgw::run(arguments),
        Some(Other::Fleet(arguments)) => return fleet::run(arguments),
        None => {}
    }
    setup::programs(PROGRAMS)?;
    let taltun = arguments.common.taltun()?;
    let null_cipher = arguments.null_cipher.then(build::taltun_without_cipher);
    let null_cipher = null_cipher.transpose()?;
    if !sys::is_root() {
        return run::as_root(&taltun);
    }
    if find("wireguard-go").is_some()
        && let Err(error) = backports::wireguard_go()
    {
        setup::step(&format!("{error:#}"));
    }
    let mut contenders = contender::choose(&arguments.rivals, &taltun)?;
    contenders.extend(null_cipher.map(contender::null_cipher));
    let rows = rows(arguments)?;
    let iperf3 = iperf::version().context("iperf3 doesn't say its version")?;
    let machine = get_ready()?;
    let mut results = Results {
        limits: limits(&machine, &arguments.dataplane),
        machine,
        iperf3,
        seconds: arguments.seconds(),
        rounds: 0,
        contenders: contenders.iter().map(Party::from).collect(),
        rows: rows
            .iter()
            .map(|row| Line::new(*row, contenders.iter().map(|contender| contender.kind)))
            .collect(),
    };
    measure_all(arguments, &taltun, &contenders, &rows, &mut results);
    for line in &mut results.rows {
        line.sum_up();
    }
    finish(arguments, &results)
}

/// Writes a text to the file that was given, or to the one of this name in cargo's target directory.
fn write(given: Option<&Path>, name: &str, text: &str) -> Result<()> {
    let path = given.map_or_else(|| workspace::target().join(name), Path::to_owned);
    fs::write(&path, text).with_context(|| format!("can't write {}", path.display()))?;
    note(&format!("wrote {}", path.display()));
    Ok(())
}

/// How a bench ends whose results are all written.
fn ended(is_complete: bool) -> ExitCode {
    if sys::stop_requested().is_some() {
        note("interrupted: these are only the measurements until then");
    } else if is_complete {
        return ExitCode::SUCCESS;
    } else {
        note("not everything could be measured, see above");
    }
    ExitCode::FAILURE
}

/// Who has a turn in a round, by their places: each round begins with another one, so that what
/// the machine does meanwhile is shared by all.
fn turns(round: usize, count: usize) -> impl Iterator<Item = usize> {
    (0..count).map(move |turn| (turn + round) % count)
}

/// Says how a measurement went, and passes it on.
fn told<T: Display>(what: &str, outcome: Result<T>) -> Result<T, String> {
    match outcome {
        Ok(sample) => {
            note(&format!("{what}: {sample}"));
            Ok(sample)
        }
        Err(error) => {
            note(&format!("{what} failed: {error:#}"));
            Err(format!("{error:#}"))
        }
    }
}

/// Looks at the machine and cleans up after benches that couldn't. From here on there is
/// something to clean up of our own.
fn get_ready() -> Result<Machine> {
    let machine = Machine::look();
    if machine.is_busy() {
        note(&format!(
            "the load is {:.2}: others are at work, and the figures will say little",
            machine.load_before
        ));
    }
    sys::remember_stop_signals()?;
    remove_remains_of_dead_tests()?;
    socket::remove_dead_sockets();
    Ok(machine)
}

/// The rows to measure. One that was asked for has to be possible; of all, those that aren't
/// are left out.
fn rows(arguments: &Arguments) -> Result<Vec<Row>> {
    let mut rows = row::choose(
        &arguments.only,
        arguments.xdp.map(XdpMode::from),
        arguments.quick,
    );
    if find("ethtool").is_none() {
        const WHY: &str = "ethtool isn't installed, and XDP in the driver needs it for GRO";
        let before = rows.len();
        rows.retain(|row| row.xdp != XdpMode::Driver);
        if rows.len() < before {
            ensure!(arguments.only.is_empty() && !rows.is_empty(), WHY);
            note(WHY);
        }
    }
    Ok(rows)
}

/// Measures round after round, until all are done, time is up or we are asked to stop. A
/// measurement that fails is noted and doesn't keep the others from being made.
fn measure_all(
    arguments: &Arguments,
    taltun: &Path,
    contenders: &[Contender],
    rows: &[Row],
    results: &mut Results,
) {
    let dataplane = arguments.dataplane.join("\n");
    let settings = Settings {
        taltun,
        seconds: arguments.seconds(),
        dataplane: &dataplane,
    };
    let start = Instant::now();
    for round in 0..arguments.rounds() {
        let begun = Instant::now();
        results.rounds = round + 1;
        for (row, line) in rows.iter().zip(&mut results.rows) {
            for index in turns(round, contenders.len()) {
                let (contender, cell) = (&contenders[index], &mut line.cells[index]);
                let outcome = measure::measure(contender, *row, settings);
                if sys::stop_requested().is_some() {
                    return;
                }
                let what = format!(
                    "round {}, {}, {}",
                    round + 1,
                    row.name.word(),
                    contender.kind.word()
                );
                let outcome = outcome.map(|sample| InUnit(sample, row.unit()));
                match told(&what, outcome) {
                    Ok(InUnit(sample, _)) => cell.samples.push(sample),
                    Err(why) => cell.failures.push(why),
                }
            }
        }
        if arguments.quick && start.elapsed() + begun.elapsed() > QUICK_LIMIT {
            return;
        }
    }
}

/// A sample with what its value is in.
struct InUnit(Sample, &'static str);

impl Display for InUnit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", table::number(self.0.value), self.1)
    }
}

/// Prints and writes what there is.
fn finish(arguments: &Arguments, results: &Results) -> Result<ExitCode> {
    let interrupted = sys::stop_requested().is_some();
    let measured = results.rows.iter().flat_map(|line| &line.cells);
    if interrupted && measured.into_iter().all(|cell| cell.samples.is_empty()) {
        bail!("interrupted before anything was measured");
    }
    println!("{}", table::report(results));
    let rivals = results
        .contenders
        .iter()
        .filter(|party| party.kind.is_rival());
    if rivals.count() <= FEW {
        println!("{}", table::sentences(results));
    }
    arguments.common.write_json("bench.json", results)?;
    write(arguments.svg.as_deref(), "bench.svg", &svg::chart(results))?;
    Ok(ended(results.is_complete()))
}

/// What has to be said with the figures.
fn limits(machine: &Machine, dataplane: &[String]) -> Vec<String> {
    let mut limits = vec![
        format!(
            "All ends, iperf3's included, share the {} cores of one machine and are joined by veth pairs: no wire, no NIC, no other machine's help.",
            machine.cores
        ),
        "CPU time is that of the tunnel's processes, in the kernel on their behalf included; work the kernel does in softirqs isn't in it.".to_owned(),
        "Tunnels have an MTU of 1420; the rivals relay by the hub's forwarding kernel, Taltun by itself.".to_owned(),
        format!(
            "iperf3's sockets for UDP have buffers of {} KiB, all contenders' alike: by default most of what arrives is lost in them and not in the tunnel.",
            iperf::udp_buffer() >> 10
        ),
    ];
    if machine.groups_by_session {
        limits.push("All processes are in one session, so in one scheduling group.".to_owned());
    }
    if !dataplane.is_empty() {
        limits.push(format!("Taltun ran with {}.", dataplane.join(", ")));
    }
    if machine.is_busy() {
        limits.push(format!(
            "The machine was busy with other things (load {:.2}): repeat it on a quiet one.",
            machine.load_before
        ));
    }
    limits
}

/// Says something on stderr, as stdout is for the result.
fn note(what: &str) {
    eprintln!("bench: {what}");
}

impl Common {
    /// The `taltun` to measure: the one given, or a release build made now.
    fn taltun(&self) -> Result<PathBuf> {
        match &self.taltun {
            Some(path) => path
                .canonicalize()
                .with_context(|| format!("can't find {}", path.display())),
            None => build::released_taltun(),
        }
    }

    /// Writes what was measured as JSON: to the file that was given, or to the one of this name.
    fn write_json(&self, name: &str, results: &impl Serialize) -> Result<()> {
        let json = serde_json::to_string_pretty(results)? + "\n";
        write(self.json.as_deref(), name, &json)
    }
}

impl Arguments {
    fn rounds(&self) -> usize {
        match (self.rounds, self.quick) {
            (Some(rounds), _) => rounds.into(),
            (None, true) => QUICK_ROUNDS,
            (None, false) => ROUNDS,
        }
    }

    fn seconds(&self) -> u64 {
        match (self.seconds, self.quick) {
            (Some(seconds), _) => seconds,
            (None, true) => QUICK_SECONDS,
            (None, false) => SECONDS,
        }
    }
}

impl From<Xdp> for XdpMode {
    fn from(mode: Xdp) -> Self {
        match mode {
            Xdp::Off => Self::Off,
            Xdp::Generic => Self::Generic,
            Xdp::Driver => Self::Driver,
        }
    }
}
