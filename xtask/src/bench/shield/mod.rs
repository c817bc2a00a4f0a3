//! `cargo xtask bench shield`: what a flood at the hub's UDP port leaves of the tunnel.
//!
//! A TCP stream runs from a through the tunnel to the hub, while b floods the hub's UDP port
//! from sources that don't exist. All of it shares one machine, so the flood takes its part
//! even where nothing at all is done with it. Therefore each contender is measured three ways:
//! without a flood; with one that a bare `XDP_DROP`, a program of two instructions, eats on the
//! hub's interface; and with one that the contender has to deal with itself. What it keeps of
//! the second is what its own defence is worth.
//!
//! The flood comes in by a wire of its own. So the tunnel's packets meet the same programs and
//! the same offloads in all three ways, and the bare program need not tell one packet from
//! another. It is attached in the mode in which Taltun's would be: in the driver for `driver`,
//! else in generic mode, since there the path up to the drop is that of the contender.

mod attack;
mod plan;
mod results;
mod table;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result, bail, ensure};
use taltun_tests::sys;

use super::contender::{self, Kind};
use super::{Common, PROGRAMS, Xdp, ended, get_ready, iperf, told, turns, write};
use crate::{run, setup};
use attack::Settings;
use plan::{Case, Column, FloodName};
use results::Results;

/// How many rounds there are if nobody says, and in a hurry.
const ROUNDS: (u16, u16) = (5, 1);
/// How many seconds a measurement takes if nobody says, and in a hurry.
const SECONDS: (u64, u64) = (3, 1);
/// Packets a second if nobody says, and in a hurry.
const RATES: (&[u32], &[u32]) = (&[100_000, 300_000], &[100_000]);
/// A flood with more than this isn't bounded any more.
const MOST_RATE: i64 = 1_000_000;

/// The arguments of `cargo xtask bench shield`.
#[derive(clap::Args)]
pub struct Arguments {
    /// One round of short measurements, at 100,000 packets/s.
    #[arg(long)]
    quick: bool,
    /// How often everything is measured [default: 5, with --quick 1].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    rounds: Option<u16>,
    /// How long a measurement takes [default: 3, with --quick 1].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=60))]
    seconds: Option<u64>,
    /// Only these floods.
    #[arg(long, value_name = "FLOOD", value_delimiter = ',')]
    only: Vec<FloodName>,
    /// Packets a second [default: 100000,300000].
    #[arg(long, value_name = "N", value_delimiter = ',',
          value_parser = clap::value_parser!(u32).range(1000..=MOST_RATE))]
    rate: Vec<u32>,
    /// Only Taltun and these, which then have to be there [default: all that are].
    #[arg(long, value_name = "RIVAL", value_delimiter = ',')]
    rivals: Vec<Kind>,
    /// Taltun alone.
    #[arg(long, conflicts_with = "rivals")]
    no_rivals: bool,
    /// Taltun with these shields only [default: driver, generic and off].
    #[arg(long, value_name = "MODE", value_delimiter = ',')]
    xdp: Vec<Xdp>,
    /// Where to write the table [default: shield.md in cargo's target directory].
    #[arg(long, value_name = "FILE")]
    markdown: Option<PathBuf>,
    #[command(flatten)]
    common: Common,
}

/// Measures.
pub fn run(arguments: &Arguments) -> Result<ExitCode> {
    setup::programs(PROGRAMS)?;
    let taltun = arguments.common.taltun()?;
    if !sys::is_root() {
        return run::as_root(&taltun);
    }
    ensure!(
        !arguments.rivals.contains(&Kind::Bare),
        "without a tunnel there is no UDP port to flood"
    );
    let mut contenders = contender::choose(&arguments.rivals, &taltun)?;
    contenders.retain(|contender| match contender.kind {
        Kind::Bare => false,
        Kind::Taltun => true,
        _ => !arguments.no_rivals,
    });
    let columns = plan::columns(&contenders, &arguments.xdp);
    let cases = plan::cases(&arguments.only, arguments.rates());
    let iperf3 = iperf::version().context("iperf3 doesn't say its version")?;
    let machine = get_ready()?;
    let settings = Settings {
        taltun: &taltun,
        seconds: arguments.seconds(),
    };
    let mut results = Results::new(machine, iperf3, settings.seconds, &columns, &cases);
    measure_all(arguments.rounds(), settings, &columns, &cases, &mut results);
    results.sum_up();
    finish(arguments, &results)
}

/// Measures round after round, until all are done or we are asked to stop. All of a column is
/// measured in one go, so that what is compared lies close together in time.
fn measure_all(
    rounds: u16,
    settings: Settings<'_>,
    columns: &[Column],
    cases: &[Case],
    results: &mut Results,
) {
    for round in 0..usize::from(rounds) {
        results.rounds = round + 1;
        for at in turns(round, columns.len()) {
            let column = &columns[at];
            for (row, case) in cases.iter().enumerate() {
                let outcome = attack::measure(column, *case, settings);
                if sys::stop_requested().is_some() {
                    return;
                }
                let what = format!("round {}, {}, {case}", round + 1, column.name);
                match told(&what, outcome) {
                    Ok(sample) => results.add(row, at, round, sample),
                    Err(why) => results.fail(row, at, why),
                }
            }
        }
    }
}

/// Prints and writes what there is.
fn finish(arguments: &Arguments, results: &Results) -> Result<ExitCode> {
    if results.is_empty() {
        bail!("nothing could be measured");
    }
    let report = table::report(results);
    println!("{report}");
    arguments.common.write_json("shield.json", results)?;
    write(arguments.markdown.as_deref(), "shield.md", &report)?;
    Ok(ended(results.is_complete()))
}

impl Arguments {
    fn rounds(&self) -> u16 {
        let usual = if self.quick { ROUNDS.1 } else { ROUNDS.0 };
        self.rounds.unwrap_or(usual)
    }

    fn seconds(&self) -> u64 {
        let usual = if self.quick { SECONDS.1 } else { SECONDS.0 };
        self.seconds.unwrap_or(usual)
    }

    fn rates(&self) -> &[u32] {
        match (&self.rate[..], self.quick) {
            ([], false) => RATES.0,
            ([], true) => RATES.1,
            (given, _) => given,
        }
    }
}
