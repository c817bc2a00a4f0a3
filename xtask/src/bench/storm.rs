//! `cargo xtask bench storm`: all peers of a hub at once, as after its restart.
//!
//! Each peer is a WireGuard client of its own, with an address of its own outside
//! ([`taltun_tests::crowd`]). All of them play on one core, the hub works on another. They begin at one
//! moment; ten seconds after the last was answered the hub is killed and started again, with what it wrote down of them by itself: how long
//! each peer waits for its first answer through the tunnel is what its user notices. A hub may ask for
//! cookies meanwhile; peers do as the paper says.
//!
//! The wire is IPv4, and no XDP program is attached.

use std::fmt::{self, Display};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::ExitCode;
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Result, bail};
use serde::Serialize;
use taltun_tests::crowd::{self, Crowd, Plan};
use taltun_tests::lab::PORT;
use taltun_tests::sys;
use taltun_tests::topology::WIRE_A;

use super::contender::{self, Contender, Kind};
use super::machine::Machine;
use super::small::Candidate;
use super::small::field::{Field, LOAD_CORE, pin};
use super::small::hub::Hub;
use super::statistics::median;
use super::table::aligned;
use super::{Common, ended, get_ready, told, turns, usage};
use crate::run;
use crate::setup::{self, Program};

const PROGRAMS: &[Program] = &[
    ("ip", "iproute2"),
    ("taskset", "util-linux"),
    ("wg", "wireguard-tools"),
];
/// How often each peer pings.
const INTERVAL: Duration = Duration::from_secs(2);
/// How long all may take to be answered: peers give up after 90 s.
const LIMIT: Duration = Duration::from_secs(120);

/// Between the last peer's first answer and the hub's end.
const BEFORE_RESTART: Duration = Duration::from_secs(10);

/// The arguments of `cargo xtask bench storm`.
#[derive(clap::Args)]
pub struct Arguments {
    /// How often everybody has a turn.
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=100))]
    rounds: u16,
    /// How many peers there are.
    #[arg(long, value_name = "N", default_value_t = 10_000, value_parser = clap::value_parser!(u16).range(1..=16_000))]
    peers: u16,
    /// Only Taltun and these, which then have to be there [default: all that are].
    #[arg(long, value_name = "RIVAL", value_delimiter = ',')]
    rivals: Vec<Kind>,
    #[command(flatten)]
    common: Common,
}

/// What was measured.
#[derive(Debug, Serialize)]
struct Results {
    machine: Machine,
    rounds: usize,
    peers: u16,
    lines: Vec<Line>,
}

/// A contender.
#[derive(Debug, Serialize)]
struct Line {
    contender: &'static str,
    /// By round.
    samples: Vec<Option<Sample>>,
    failures: Vec<String>,
}

/// What a hub did in one turn.
#[derive(Debug, Clone, Copy, Serialize)]
struct Sample {
    begin: Wave,
    restart: Wave,
    /// With all sessions up.
    memory_mb: f64,
}

/// All peers, from a moment on, in seconds.
#[derive(Debug, Clone, Copy, Serialize)]
struct Wave {
    /// Until half of them had their first answer.
    half: f64,
    /// Until 99 % of them had it.
    p99: f64,
    /// Until the last one had it.
    last: f64,
    /// CPU time of the hub's process until then.
    cpu: f64,
}

impl Display for Wave {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            half,
            p99,
            last,
            cpu,
        } = self;
        write!(
            f,
            "half after {half:.2} s, 99 % after {p99:.2} s, all after {last:.2} s, \
             {cpu:.2} s of CPU"
        )
    }
}

impl Display for Sample {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (begin, restart) = (self.begin, self.restart);
        write!(
            f,
            "begin: {begin}; restart: {restart}; {:.0} MB",
            self.memory_mb
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
    let contenders = contender::choose_hubs(&arguments.rivals, &taltun)?;
    let mut results = Results {
        machine: get_ready()?,
        rounds: 0,
        peers: arguments.peers,
        lines: contenders
            .iter()
            .map(|contender| Line {
                contender: contender.kind.word(),
                samples: Vec::new(),
                failures: Vec::new(),
            })
            .collect(),
    };
    'rounds: for round in 0..usize::from(arguments.rounds) {
        results.rounds = round + 1;
        for turn in turns(round, contenders.len()) {
            let outcome = measure(arguments.peers, &contenders[turn], &taltun);
            if sys::stop_requested().is_some() {
                break 'rounds;
            }
            let what = format!("round {}, {}", round + 1, contenders[turn].kind.word());
            let outcome = told(&what, outcome);
            let line = &mut results.lines[turn];
            line.samples.push(outcome.as_ref().ok().copied());
            line.failures.extend(outcome.err());
        }
    }
    if results.lines.iter().all(Line::is_empty) {
        bail!("nothing could be measured");
    }
    println!("{}", results.report());
    arguments.common.write_json("bench-storm.json", &results)?;
    Ok(ended(
        results.lines.iter().all(|line| line.failures.is_empty()),
    ))
}

fn measure(peers: u16, contender: &Contender, taltun: &Path) -> Result<Sample> {
    let candidate = Candidate::by_socket_alone(contender);
    let field = Field::lay()?;
    let keys: Vec<String> = (0..peers).map(crowd::public_key).collect();
    let mut hub = Hub::start(&field, &candidate, &keys, taltun, true)?;
    let plan = Plan {
        count: peers,
        hub_key: hub.public_key().to_owned(),
        hub: SocketAddr::new(WIRE_A.near_v4(), PORT),
        hub_inner: Ipv4Addr::new(10, 201, 255, 1),
        interval: INTERVAL,
        roams: false,
    };
    let crowd = Crowd::ready(&field.net, plan)?;
    pin(crowd.thread(), LOAD_CORE)?;
    let begin = wave(&crowd, &hub)?;
    let memory_mb = usage::largest_resident_mb(&hub.pids()).unwrap_or_default();
    // A hub that has run for a while has written down where its peers are.
    sleep(BEFORE_RESTART);
    hub.kill_and_start_again(&field, &candidate)?;
    let restart = wave(&crowd, &hub)?;
    drop(crowd);
    hub.stop()?;
    Ok(Sample {
        begin,
        restart,
        memory_mb,
    })
}

/// From now on, until all peers have been answered.
fn wave(crowd: &Crowd, hub: &Hub) -> Result<Wave> {
    let before = hub.cpu_seconds()?;
    crowd.go();
    let took = crowd.wait(LIMIT)?;
    let after = |percent: usize| took[(took.len() - 1) * percent / 100].as_secs_f64();
    Ok(Wave {
        half: after(50),
        p99: after(99),
        last: after(100),
        cpu: hub.cpu_seconds()? - before,
    })
}

impl Line {
    fn is_empty(&self) -> bool {
        self.samples.iter().flatten().next().is_none()
    }

    fn middle(&self, figure: impl Fn(&Sample) -> f64) -> Option<f64> {
        let values: Vec<f64> = self.samples.iter().flatten().map(figure).collect();
        median(&values)
    }
}

impl Results {
    /// The table.
    fn report(&self) -> String {
        let titles = [
            "hub",
            "begin: half",
            "99 %",
            "all",
            "CPU",
            "restart: half",
            "99 %",
            "all",
            "CPU",
            "KB a peer",
        ];
        let mut rows = vec![titles.map(str::to_owned).to_vec()];
        for line in &self.lines {
            let seconds = |figure: fn(&Sample) -> f64| match line.middle(figure) {
                Some(value) => format!("{value:.2} s"),
                None => "–".to_owned(),
            };
            let memory = line.middle(|sample| sample.memory_mb * 1000.0);
            let memory = memory.map(|kb| format!("{:.1}", kb / f64::from(self.peers)));
            rows.push(vec![
                line.contender.to_owned(),
                seconds(|sample| sample.begin.half),
                seconds(|sample| sample.begin.p99),
                seconds(|sample| sample.begin.last),
                seconds(|sample| sample.begin.cpu),
                seconds(|sample| sample.restart.half),
                seconds(|sample| sample.restart.p99),
                seconds(|sample| sample.restart.last),
                seconds(|sample| sample.restart.cpu),
                memory.unwrap_or_else(|| "–".to_owned()),
            ]);
        }
        format!(
            "{} peers at once: until they are answered through the tunnel ({})\nMedians of {} rounds; \
             memory is all of the hub's process.\n\n{}",
            self.peers,
            self.machine.line(),
            self.rounds,
            aligned(&rows, 1)
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_has_medians_and_says_what_is_missing() {
        let wave = |seconds| Wave {
            half: seconds,
            p99: seconds,
            last: seconds,
            cpu: seconds,
        };
        let sample = |seconds| {
            Some(Sample {
                begin: wave(seconds),
                restart: wave(2.0 * seconds),
                memory_mb: 20.0,
            })
        };
        let line = |contender: Kind, samples| Line {
            contender: contender.word(),
            samples,
            failures: Vec::new(),
        };
        let results = Results {
            machine: Machine::look(),
            rounds: 3,
            peers: 1000,
            lines: vec![
                line(Kind::Taltun, vec![sample(1.0), sample(3.0), sample(2.0)]),
                line(Kind::WireguardGo, vec![None]),
            ],
        };
        let report = results.report();
        assert!(report.contains("2.00 s"), "{report}");
        assert!(report.contains("4.00 s"), "{report}");
        assert!(report.contains("20.0"), "{report}");
        assert!(report.contains('–'), "{report}");
    }
}
