//! `cargo xtask bench neighbour`: what a valid peer at its worst leaves of another peer's tunnel.
//!
//! A TCP stream runs from a to the hub, and pings beside it, while b, another peer, floods inside its session:
//! small packets, the largest there are, fragments, handshakes without end. All share one machine, so b takes
//! its part even where nothing is done with what it sends. Therefore each flood is measured three ways:
//! eaten by a bare `XDP_DROP` on the hub's interface; taken by the hub; and taken by a hub that gives b
//! a rate. What is left of the first is what the hub's work costs a.

use std::fmt::{self, Display};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::ExitCode;
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use clap::ValueEnum;
use serde::Serialize;
use taltun_tests::lab::{PORT, Role};
use taltun_tests::node::XdpMode;
use taltun_tests::sys::{self, Attach};
use taltun_tests::topology::{Star, WIRE_B, private_prefix};
use taltun_tests::traffic::neighbour::{Misuse, Neighbour, Place, public_key};

use super::configs::{Shielding, Wanted};
use super::contender::{self, Contender};
use super::iperf::{Load, Transfer};
use super::machine::Machine;
use super::measure::pings;
use super::statistics::{median, percentile};
use super::table::aligned;
use super::tunnel::Tunnel;
use super::wires::attach_drop;
use super::{Common, Xdp, ended, get_ready, told, turns};
use crate::run;
use crate::setup::{self, Program};

const PROGRAMS: &[Program] = &[("ip", "iproute2"), ("iperf3", "iperf3")];
/// The hub's interface on b's wire.
const TO_B: &str = "to-b";
/// Addresses inside: b's own, that of a peer which is away, and one that is nobody's.
const OWN: Ipv4Addr = Ipv4Addr::new(10, 200, 0, 9);
const AWAY: Ipv4Addr = Ipv4Addr::new(10, 200, 0, 10);
const NOBODYS: Ipv4Addr = Ipv4Addr::new(10, 200, 0, 77);
/// A peer that is away.
const AWAY_KEY: &str = "N6uHQWBlcXDSXySW73QVHVcuVbdAeV4f89nTvZRlAGg=";
/// What b has where it has a rate.
const RATE_UP: &str = "5 Mbit/s";
/// How long b floods before the stream begins, and after it should have ended at the most.
const LEAD: Duration = Duration::from_millis(300);
const GRACE: Duration = Duration::from_secs(4);
/// A flood that is thinner than this part of what was asked for isn't the one to be measured.
const LEAST: f64 = 0.9;

/// The arguments of `cargo xtask bench neighbour`.
#[derive(clap::Args)]
pub struct Arguments {
    /// How often everything is measured.
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..=100))]
    rounds: u16,
    /// How long a stream takes.
    #[arg(long, value_name = "SECONDS", default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..=60))]
    seconds: u64,
    /// Small packets a second; of the largest it sends a fiftieth, and of handshakes a twenty-fifth.
    #[arg(long, value_name = "N", default_value_t = 50_000, value_parser = clap::value_parser!(u32).range(1_000..=200_000))]
    rate: u32,
    /// Only these floods.
    #[arg(long, value_name = "FLOOD", value_delimiter = ',')]
    only: Vec<Flood>,
    /// How the hub attaches its XDP program.
    #[arg(long, value_name = "MODE", value_enum, default_value_t = Xdp::Off)]
    xdp: Xdp,
    #[command(flatten)]
    common: Common,
}

/// A flood, by the name that `--only` takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
enum Flood {
    /// Small packets to the hub's own address.
    Hub,
    /// Small packets to the peer that is measured.
    Spoke,
    /// Small packets to a peer that is away, which wait for a handshake.
    Away,
    /// Small packets to an address that is nobody's.
    Nowhere,
    /// Packets of nearly 64 KiB to the hub's own address.
    Large,
    /// First fragments to the hub's own address.
    Fragments,
    /// Handshakes without end.
    Handshakes,
}

impl Flood {
    fn words(self) -> &'static str {
        match self {
            Self::Hub => "small, to the hub",
            Self::Spoke => "small, to a itself",
            Self::Away => "small, to a peer that is away",
            Self::Nowhere => "small, to nobody",
            Self::Large => "64 KiB, to the hub",
            Self::Fragments => "fragments, to the hub",
            Self::Handshakes => "handshakes",
        }
    }

    fn misuse(self) -> Misuse {
        match self {
            Self::Hub => Misuse::Small(v4(Role::Hub)),
            Self::Spoke => Misuse::Small(v4(Role::A)),
            Self::Away => Misuse::Small(AWAY),
            Self::Nowhere => Misuse::Small(NOBODYS),
            Self::Large => Misuse::Large(v4(Role::Hub)),
            Self::Fragments => Misuse::Fragments(v4(Role::Hub)),
            Self::Handshakes => Misuse::Handshakes,
        }
    }

    /// How many a second, where so many small packets are sent.
    fn rate(self, small: u32) -> u32 {
        match self {
            Self::Large => small / 50,
            Self::Handshakes => small / 25,
            _ => small,
        }
    }
}

/// What the hub does with a flood.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
enum Way {
    /// A bare program drops all of it.
    Eaten,
    /// It takes it.
    Taken,
    /// It takes it, and b has a rate.
    Limited,
}

impl Way {
    fn words(self) -> &'static str {
        match self {
            Self::Eaten => "eaten by a bare XDP_DROP",
            Self::Taken => "taken",
            Self::Limited => "taken, b has 5 Mbit/s",
        }
    }
}

/// A line of the table; `None` without a flood.
type Case = Option<(Flood, Way)>;

/// What was measured.
#[derive(Debug, Serialize)]
struct Results {
    machine: Machine,
    rounds: usize,
    seconds: u64,
    rate: u32,
    lines: Vec<Line>,
}

#[derive(Debug, Serialize)]
struct Line {
    case: Case,
    samples: Vec<Sample>,
    failures: Vec<String>,
}

/// What was left of a's tunnel.
#[derive(Debug, Clone, Copy, Serialize)]
struct Sample {
    gbps: f64,
    /// The 99th percentile of pings beside the stream; one that is lost counts as a second.
    ping_ms: f64,
    /// What b sent a second.
    sent: f64,
}

impl Display for Sample {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            gbps,
            ping_ms,
            sent,
        } = self;
        write!(f, "{gbps:.2} Gbit/s, ping {ping_ms:.1} ms ({sent:.0}/s)")
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
    let cases = cases(&arguments.only);
    let line = |case: &Case| Line {
        case: *case,
        samples: Vec::new(),
        failures: Vec::new(),
    };
    let mut results = Results {
        machine: get_ready()?,
        rounds: 0,
        seconds: arguments.seconds,
        rate: arguments.rate,
        lines: cases.iter().map(line).collect(),
    };
    'rounds: for round in 0..usize::from(arguments.rounds) {
        results.rounds = round + 1;
        for turn in turns(round, cases.len()) {
            let outcome = measure(&contender, cases[turn], arguments, &taltun);
            if sys::stop_requested().is_some() {
                break 'rounds;
            }
            let what = format!("round {}, {}", round + 1, words(cases[turn]));
            match told(&what, outcome) {
                Ok(sample) => results.lines[turn].samples.push(sample),
                Err(why) => results.lines[turn].failures.push(why),
            }
        }
    }
    if results.lines.iter().all(|line| line.samples.is_empty()) {
        bail!("nothing could be measured");
    }
    println!("{}", results.report());
    arguments
        .common
        .write_json("bench-neighbour.json", &results)?;
    let whole = results.lines.iter().all(|line| line.failures.is_empty());
    Ok(ended(whole))
}

/// Nothing, and each flood each way. A rate is for data: handshakes have limits of their own.
fn cases(only: &[Flood]) -> Vec<Case> {
    let floods = Flood::value_variants().iter();
    let floods = floods.filter(|flood| only.is_empty() || only.contains(flood));
    let ways = [Way::Eaten, Way::Taken, Way::Limited];
    let all = floods.flat_map(|flood| ways.map(|way| Some((*flood, way))));
    let all = all.filter(|case| *case != Some((Flood::Handshakes, Way::Limited)));
    std::iter::once(None).chain(all).collect()
}

fn words(case: Case) -> String {
    match case {
        None => "no flood".to_owned(),
        Some((flood, way)) => format!("{}: {}", flood.words(), way.words()),
    }
}

/// Measures a's stream to the hub, and pings beside it.
fn measure(
    contender: &Contender,
    case: Case,
    arguments: &Arguments,
    taltun: &Path,
) -> Result<Sample> {
    let net = Star::create(&private_prefix())?;
    let limit = case.filter(|(_, way)| *way == Way::Limited);
    let peers = peers(limit.map(|_| RATE_UP));
    let wanted = Wanted {
        relay: false,
        shield: match case {
            // Two programs have no room on one interface.
            Some((_, Way::Eaten)) => Shielding::HubTowardsA(arguments.xdp.into()),
            _ => Shielding::Hub(arguments.xdp.into()),
        },
        dataplane: "",
        port_range: None,
        rules: &peers,
    };
    let tunnel = Tunnel::start(contender, &net, wanted, taltun)?;
    let sample = stream(&net, &tunnel, case, arguments)?;
    tunnel.stop()?;
    net.delete()?;
    Ok(sample)
}

/// b, and a peer that is away, for the hub's file.
fn peers(rate_up: Option<&str>) -> String {
    let rate = rate_up.map_or_else(String::new, |rate| format!("rate_up = \"{rate}\"\n"));
    format!(
        "\n[[peers]]\nname = \"b\"\npublic_key = \"{}\"\nvip = \"{OWN}\"\n{rate}\
         \n[[peers]]\nname = \"away\"\npublic_key = \"{AWAY_KEY}\"\nvip = \"{AWAY}\"\n",
        public_key()
    )
}

fn stream(net: &Star, tunnel: &Tunnel, case: Case, arguments: &Arguments) -> Result<Sample> {
    let place = Place {
        hub: SocketAddr::new(WIRE_B.near_v4(), PORT),
        hub_key: tunnel.hub_key()?,
        inner: OWN,
    };
    let neighbour = case
        .map(|_| Neighbour::connect(&net.b, place))
        .transpose()?;
    let eaten = matches!(case, Some((_, Way::Eaten)));
    let eat = || attach_drop(&net.hub, TO_B, eater(arguments.xdp));
    let _eater = eaten.then(eat).transpose()?;
    let limit = LEAD + Duration::from_secs(arguments.seconds) + GRACE;
    let flood = match (neighbour, case) {
        (Some(neighbour), Some((flood, _))) => {
            let rate = flood.rate(arguments.rate);
            Some((neighbour.misuse(flood.misuse(), rate, limit)?, rate))
        }
        _ => None,
    };
    sleep(LEAD);
    let (address, seconds) = (tunnel.address(false), arguments.seconds);
    let mut transfer = Transfer::start(Load::Tcp(1), &net.a, &net.hub, address, seconds)?;
    let times = pings(&net.a, address, seconds, || transfer.is_running())?;
    let received = transfer.finish(|| {})?;
    let sent = match flood {
        Some((flood, rate)) => {
            let sent = flood.stop()?.rate();
            ensure!(
                sent >= LEAST * f64::from(rate),
                "only {sent:.0} of {rate} a second were sent"
            );
            sent
        }
        None => 0.0,
    };
    ensure!(received.bytes > 0.0, "nothing arrived");
    Ok(Sample {
        gbps: received.gbps(),
        ping_ms: percentile(&times, 99).context("nothing was pinged")? / 1e3,
        sent,
    })
}

/// How the bare program is attached: where the hub's would be.
fn eater(xdp: Xdp) -> Attach {
    match XdpMode::from(xdp) {
        XdpMode::Driver => Attach::Driver,
        _ => Attach::Generic,
    }
}

fn v4(role: Role) -> Ipv4Addr {
    match role.v4() {
        IpAddr::V4(address) => address,
        IpAddr::V6(_) => unreachable!("it is asked for its IPv4 address"),
    }
}

impl Line {
    fn middle(&self, value: impl Fn(&Sample) -> f64) -> Option<f64> {
        let values: Vec<f64> = self.samples.iter().map(value).collect();
        median(&values)
    }
}

impl Results {
    /// The table.
    fn report(&self) -> String {
        let titles = [
            "TCP from a to the hub, beside b's",
            "sent a second",
            "Gbit/s",
            "of eaten",
            "ping p99, ms",
        ];
        let mut rows = vec![titles.map(str::to_owned).to_vec()];
        for line in &self.lines {
            let number = |value: Option<f64>, digits: usize| {
                value.map_or_else(|| "–".to_owned(), |value| format!("{value:.digits$}"))
            };
            rows.push(vec![
                words(line.case),
                number(line.middle(|sample| sample.sent), 0),
                number(line.middle(|sample| sample.gbps), 2),
                number(self.of_eaten(line), 2),
                number(line.middle(|sample| sample.ping_ms), 1),
            ]);
        }
        format!(
            "A valid peer at its worst ({})\nMedians of {} rounds of {} s.\n\n{}",
            self.machine.line(),
            self.rounds,
            self.seconds,
            aligned(&rows, 1)
        )
    }

    /// What is left of the stream where the same flood is eaten.
    fn of_eaten(&self, line: &Line) -> Option<f64> {
        let (flood, _) = line.case?;
        let eaten = |other: &&Line| other.case == Some((flood, Way::Eaten));
        let eaten = self.lines.iter().find(eaten)?;
        Some(line.middle(|sample| sample.gbps)? / eaten.middle(|sample| sample.gbps)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_flood_is_eaten_taken_and_limited_but_handshakes_have_no_rate() {
        let all = cases(&[]);
        assert_eq!(all.len(), 1 + 3 * Flood::value_variants().len() - 1);
        assert_eq!(all[0], None);
        let handshakes = cases(&[Flood::Handshakes]);
        let ways = [Way::Eaten, Way::Taken].map(|way| Some((Flood::Handshakes, way)));
        assert_eq!(handshakes[1..], ways);
    }

    #[test]
    fn a_rate_is_only_in_the_file_of_a_hub_that_limits() {
        assert!(!peers(None).contains("rate_up"));
        assert!(peers(Some(RATE_UP)).contains("rate_up = \"5 Mbit/s\"\n\n[[peers]]"));
        assert!(Way::Limited.words().contains(RATE_UP));
    }

    #[test]
    fn what_is_left_is_compared_with_the_same_flood() {
        let line = |case, gbps| Line {
            case,
            samples: vec![Sample {
                gbps,
                ping_ms: 1.0,
                sent: 1.0,
            }],
            failures: Vec::new(),
        };
        let results = Results {
            machine: Machine::look(),
            rounds: 1,
            seconds: 1,
            rate: 1,
            lines: vec![
                line(None, 5.0),
                line(Some((Flood::Hub, Way::Eaten)), 4.0),
                line(Some((Flood::Hub, Way::Taken)), 3.0),
                line(Some((Flood::Away, Way::Taken)), 2.0),
            ],
        };
        let left = results.lines.iter().map(|line| results.of_eaten(line));
        assert_eq!(
            left.collect::<Vec<_>>(),
            [None, Some(1.0), Some(0.75), None]
        );
        assert!(results.report().contains("0.75"));
    }
}
