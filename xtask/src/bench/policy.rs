//! `cargo xtask bench policy`: what 10,000 rules, and the limits of others, cost a TCP stream that
//! the hub relays.
//!
//! Without either and with each, in turn, so what counts is the ratio within a round. No rule but
//! the last matches the stream: one that is known is found in the table of flows, and never asks
//! them. The limits are those of a third peer, so that the stream itself waits for nothing.
//!
//! The nanoseconds of one verdict come from another program: `cargo bench -p taltun-policy`.

use std::fmt::{self, Display, Write as _};
use std::process::ExitCode;

use anyhow::{Result, bail, ensure};
use serde::Serialize;
use taltun_tests::node::XdpMode;
use taltun_tests::sys;
use taltun_tests::topology::{Star, private_prefix};

use super::configs::{Shielding, Wanted};
use super::contender::{self, Contender};
use super::iperf::{Load, Transfer};
use super::machine::Machine;
use super::statistics::median;
use super::table::aligned;
use super::tunnel::Tunnel;
use super::{Common, ended, get_ready, told, turns};
use crate::run;
use crate::setup::{self, Program};

const PROGRAMS: &[Program] = &[("ip", "iproute2"), ("iperf3", "iperf3")];
/// How many rules there are.
const RULES: usize = 10_000;
/// A third peer, which has limits and is away.
const LIMITS: &str = r#"
[[peers]]
name = "limited"
public_key = "N6uHQWBlcXDSXySW73QVHVcuVbdAeV4f89nTvZRlAGg="
vip = "10.200.0.99"
rate_up = "5 Mbit/s"
rate_down = "20 Mbit/s"
quota = "100 GB/month"
"#;
/// How much of the throughput without rules has to be left.
const LEAST: f64 = 0.97;

/// The arguments of `cargo xtask bench policy`.
#[derive(clap::Args)]
pub struct Arguments {
    /// How often everything is measured.
    #[arg(long, value_name = "N", default_value_t = 7, value_parser = clap::value_parser!(u16).range(1..=100))]
    rounds: u16,
    /// How long a stream takes.
    #[arg(long, value_name = "SECONDS", default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..=60))]
    seconds: u64,
    #[command(flatten)]
    common: Common,
}

/// What was measured.
#[derive(Debug, Serialize)]
struct Results {
    machine: Machine,
    rounds: usize,
    seconds: u64,
    rules: usize,
    /// By round, Gbit/s: without rules and limits, with rules, with limits of another peer.
    without: Vec<Option<f64>>,
    with_rules: Vec<Option<f64>>,
    with_limits: Vec<Option<f64>>,
    failures: Vec<String>,
}

/// What a stream carried.
#[derive(Debug, Clone, Copy)]
struct Sample {
    gbps: f64,
}

impl Display for Sample {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.2} Gbit/s", self.gbps)
    }
}

/// Measures.
pub fn run(arguments: &Arguments) -> Result<ExitCode> {
    setup::programs(PROGRAMS)?;
    let taltun = arguments.common.taltun()?;
    if !sys::is_root() {
        return run::as_root(&taltun);
    }
    let contender = contender::taltun_alone(&taltun)?;
    let mut results = Results {
        machine: get_ready()?,
        rounds: 0,
        seconds: arguments.seconds,
        rules: RULES,
        without: Vec::new(),
        with_rules: Vec::new(),
        with_limits: Vec::new(),
        failures: Vec::new(),
    };
    let rules = rules();
    let cases = [
        ("without rules and limits", ""),
        ("with rules", rules.as_str()),
        ("with limits of another peer", LIMITS),
    ];
    for round in 0..usize::from(arguments.rounds) {
        results.rounds = round + 1;
        for turn in turns(round, cases.len()) {
            let (words, rules) = cases[turn];
            let outcome = measure(&contender, rules, arguments.seconds);
            let outcome = told(&format!("round {}, {words}", round + 1), outcome);
            let gbps = outcome.as_ref().ok().map(|sample| sample.gbps);
            let of_case = match turn {
                0 => &mut results.without,
                1 => &mut results.with_rules,
                _ => &mut results.with_limits,
            };
            of_case.push(gbps);
            results.failures.extend(outcome.err());
        }
        if sys::stop_requested().is_some() {
            break;
        }
    }
    if results.ratio(&results.with_rules).is_none() {
        bail!("nothing could be measured");
    }
    println!("{}", results.report());
    arguments.common.write_json("bench-policy.json", &results)?;
    Ok(ended(results.failures.is_empty()))
}

/// Rules about ports and networks that nobody uses here, and at the end those that allow the stream,
/// and the pings that show that the tunnel is up.
fn rules() -> String {
    let mut text = "\n[policy]\ndefault = \"deny\"\n".to_owned();
    for number in 1..RULES - 1 {
        let (high, low) = (number / 250, number % 250);
        // Writing to a String can't fail.
        let _ = write!(
            text,
            "\n[[rules]]\nfrom = \"10.201.{high}.{low}\"\nto = \"any\"\ndeny = \"tcp/{}\"\n",
            1 + number % 500
        );
    }
    text + "\n[[rules]]\nfrom = \"a\"\nto = \"b\"\nallow = \"tcp\"\n\
            \n[[rules]]\nfrom = \"any\"\nto = \"any\"\nallow = \"icmp\"\n"
}

/// Measures a stream from one client to another by way of the hub, which has these rules.
fn measure(contender: &Contender, rules: &str, seconds: u64) -> Result<Sample> {
    let net = Star::create(&private_prefix())?;
    let wanted = Wanted {
        relay: true,
        shield: Shielding::Everyone(XdpMode::Off),
        dataplane: "",
        port_range: None,
        rules,
    };
    let tunnel = Tunnel::start(contender, &net, wanted, &contender.program)?;
    let address = tunnel.address(true);
    let transfer = Transfer::start(Load::Tcp(1), &net.a, &net.b, address, seconds)?;
    let received = transfer.finish(|| {})?;
    ensure!(received.bytes > 0.0, "nothing arrived");
    tunnel.stop()?;
    net.delete()?;
    Ok(Sample {
        gbps: received.gbps(),
    })
}

impl Results {
    /// What is left with something: the median of the rounds.
    fn ratio(&self, with: &[Option<f64>]) -> Option<f64> {
        let pairs = self.without.iter().zip(with);
        let ratios: Vec<f64> = pairs
            .filter_map(|(without, with)| Some((*with)? / (*without)?))
            .collect();
        median(&ratios)
    }

    /// The table.
    fn report(&self) -> String {
        let middle = |values: &[Option<f64>]| {
            let values: Vec<f64> = values.iter().copied().flatten().collect();
            median(&values).map_or_else(|| "–".to_owned(), |value| format!("{value:.2}"))
        };
        let row = |name: &str, values: &[Option<f64>]| {
            let ratio = self.ratio(values);
            let number = ratio.map_or_else(|| "–".to_owned(), |ratio| format!("{ratio:.3}"));
            let verdict = verdict(ratio).to_owned();
            vec![name.to_owned(), middle(values), number, verdict]
        };
        let titles = ["TCP relay, one stream", "Gbit/s", "ratio", ""];
        let none = ["no rules, no limits", &middle(&self.without), "", ""];
        let rows = [
            titles.map(str::to_owned).to_vec(),
            none.map(str::to_owned).to_vec(),
            row("10,000 rules", &self.with_rules),
            row("limits of another peer", &self.with_limits),
        ];
        format!(
            "Rules, and limits of others, beside none ({})\nMedians of {} rounds of {} s, ratio by round.\n\n{}",
            self.machine.line(),
            self.rounds,
            self.seconds,
            aligned(&rows, 1)
        )
    }
}

fn verdict(ratio: Option<f64>) -> &'static str {
    match ratio {
        Some(ratio) if ratio >= LEAST => "within 3 %",
        Some(_) => "MISSED: not within 3 %",
        None => "not measured",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_are_as_many_rules_as_it_says_and_taltun_takes_their_like() {
        let rules = rules();
        assert_eq!(rules.matches("[[rules]]").count(), RULES);
        assert!(rules.contains("from = \"10.201.39.248\""));
        assert!(!rules.contains("tcp/0"));
    }

    #[test]
    fn three_of_a_hundred_may_be_missing() {
        assert_eq!(verdict(Some(0.97)), "within 3 %");
        assert!(verdict(Some(0.969)).contains("MISSED"));
        assert_eq!(verdict(None), "not measured");
    }
}
