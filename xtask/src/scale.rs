//! `cargo xtask scale`: what a hub would carry on machines that nobody had at hand, by simulation.
//!
//! A worker takes a batch, works on it, and touches what all workers share: locks that it reads through and counters that
//! it adds to. A cache line that another core had last has to come from there, and only one core has it at a time; all
//! else is done side by side. So each worker is simulated as that: work, then a wait for the line, then the line. The costs
//! are measured elsewhere, and `taltun/docs/scale.md` says where; it has the table that this prints.

use std::fmt::Write as _;
use std::process::ExitCode;

use anyhow::Result;

/// The arguments of `cargo xtask scale`.
#[derive(clap::Args)]
pub struct Arguments {
    /// What it takes until a cache line is here that another core had last, nanoseconds.
    #[arg(long, value_name = "NANOSECONDS", default_value_t = LINE_NANOS)]
    line: u64,
}

/// Between two cores of one socket of a server; between two sockets it is two to three times that.
const LINE_NANOS: u64 = 60;
/// How often a batch touches the line that it touches most: the tables of sessions and prefixes are locked and
/// unlocked for reading, packets and bytes are counted, and how long they stood, in two counters.
const TOUCHES: u64 = 6;
/// A touch of a line that is already here.
const OWN_TOUCH_NANOS: u64 = 6;
/// Batches that are simulated, of all workers together.
const BATCHES: u64 = 200_000;
const CORES: [u64; 3] = [8, 32, 64];
const PEERS: [u64; 3] = [1, 10, 1000];
/// By itself Taltun starts no more workers than this (`dataplane.workers`).
const DEFAULT_WORKERS: u64 = 8;
/// There can't be more.
const MOST_WORKERS: u64 = 64;
/// Helpers in all, and parts of a batch, at the most (`taltun/src/dataplane/crew.rs`).
const MOST_HELPERS: u64 = 8;
const MOST_PARTS: u64 = 7;

/// What is relayed.
struct Load {
    name: &'static str,
    /// Packets of a batch, where workers have enough to do.
    batch: u64,
    /// Work on a packet that nobody else can do, nanoseconds: receiving, looking up, sending.
    alone_nanos: u64,
    /// Opening it and sealing it again, which helpers can share in for large batches.
    cipher_nanos: u64,
    /// Whether a batch is large enough for that.
    is_shared: bool,
    /// Bits of a packet inside the tunnel.
    bits: u64,
}

const LOADS: [Load; 4] = [
    Load {
        name: "bulk, 1420 bytes, merged",
        batch: 45,
        alone_nanos: 1100,
        cipher_nanos: 1040,
        is_shared: true,
        bits: 1420 * 8,
    },
    Load {
        name: "64 bytes, by sockets",
        batch: 16,
        alone_nanos: 6840,
        cipher_nanos: 160,
        is_shared: false,
        bits: 64 * 8,
    },
    Load {
        name: "64 bytes, each alone",
        batch: 1,
        alone_nanos: 9000,
        cipher_nanos: 400,
        is_shared: false,
        bits: 64 * 8,
    },
    Load {
        name: "64 bytes, AF_XDP",
        batch: 32,
        alone_nanos: 3040,
        cipher_nanos: 160,
        is_shared: false,
        bits: 64 * 8,
    },
];

/// Workers and helpers of a machine.
struct Threads {
    workers: u64,
    helpers: u64,
}

/// What comes of a load.
struct Outcome {
    /// Packets a second.
    packets: f64,
    /// The part of the time in which somebody had the line.
    line_busy: f64,
}

/// Prints the table.
#[allow(clippy::unnecessary_wraps, reason = "as all tasks have it")]
pub fn run(arguments: &Arguments) -> Result<ExitCode> {
    print!("{}", table(arguments.line));
    Ok(ExitCode::SUCCESS)
}

/// All machines, numbers of peers and loads.
fn table(line: u64) -> String {
    let mut text = String::from(
        "| relayed | peers | cores | workers (default) | Mpps | Gbit/s | line busy | workers = cores ÷ 2 | Mpps | Gbit/s | line busy |\n\
         |---|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|\n",
    );
    for load in &LOADS {
        for peers in PEERS {
            for cores in CORES {
                let most = (cores / 2).min(MOST_WORKERS);
                let by_default = most.min(DEFAULT_WORKERS);
                let _ = write!(text, "| {} | {peers} | {cores} |", load.name);
                for workers in [by_default, most] {
                    let threads = Threads {
                        workers,
                        // A core for each worker, which are one thread each where all is relayed.
                        helpers: cores.saturating_sub(workers).min(MOST_HELPERS),
                    };
                    let outcome = simulate(load, &threads, peers, line);
                    let _ = write!(
                        text,
                        " {workers} | {:.2} | {:.1} | {:.0} % |",
                        outcome.packets / 1e6,
                        outcome.packets * load.bits as f64 / 1e9,
                        outcome.line_busy * 100.0
                    );
                }
                text.push('\n');
            }
        }
    }
    text
}

/// Has the workers that have peers carry batches. A session is one worker's, and peers are dealt out in turn, so
/// with fewer peers than workers some have nothing to do; all peers want as much as they can get.
fn simulate(load: &Load, threads: &Threads, peers: u64, line: u64) -> Outcome {
    let busy = threads.workers.min(peers);
    let work = load.batch * (load.alone_nanos + cipher(load, threads, busy));
    let mut chance = 1_u64;
    // When each has done its work and comes for the line.
    let mut ready: Vec<u64> = (0..busy).map(|worker| worker * work / busy).collect();
    let (mut free, mut held, mut last) = (0_u64, 0_u64, usize::MAX);
    for _ in 0..BATCHES {
        let (next, at) = ready
            .iter()
            .copied()
            .enumerate()
            .min_by_key(|(_, at)| *at)
            .unwrap_or_default();
        let touch = if next == last { OWN_TOUCH_NANOS } else { line };
        // Only the first touch has to fetch it, unless somebody else wants it meanwhile.
        let wanted = free > at;
        let takes = if wanted {
            TOUCHES * touch
        } else {
            touch + (TOUCHES - 1) * OWN_TOUCH_NANOS
        };
        free = free.max(at) + takes;
        held += takes;
        last = next;
        // Batches aren't alike: a tenth more or less.
        chance = chance
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        let part = (chance >> 33) % 201;
        ready[next] = free + work * (900 + part) / 1000;
    }
    let seconds = free as f64 / 1e9;
    Outcome {
        packets: (BATCHES * load.batch) as f64 / seconds,
        line_busy: held as f64 / free as f64,
    }
}

/// What the cipher's work on a packet takes of a worker's time. Helpers share in it, and each is one worker's at a time.
fn cipher(load: &Load, threads: &Threads, busy: u64) -> u64 {
    if !load.is_shared {
        return load.cipher_nanos;
    }
    let shared = load.cipher_nanos * busy / (busy + threads.helpers);
    shared.max(load.cipher_nanos / MOST_PARTS)
}

#[cfg(test)]
mod tests {
    use super::*;

    const BULK: &Load = &LOADS[0];

    fn packets(workers: u64, helpers: u64, peers: u64, line: u64) -> f64 {
        let threads = Threads { workers, helpers };
        simulate(BULK, &threads, peers, line).packets
    }

    fn assert_about(found: f64, expected: f64) {
        assert!(
            (found / expected - 1.0).abs() < 0.02,
            "{found} for {expected}"
        );
    }

    #[test]
    fn one_worker_carries_what_its_time_allows_and_helpers_take_the_cipher_off_it() {
        let alone = 1e9 / (BULK.alone_nanos + BULK.cipher_nanos) as f64;
        assert_about(packets(1, 0, 1000, LINE_NANOS), alone);
        let helped = 1e9 / (BULK.alone_nanos + BULK.cipher_nanos / 4) as f64;
        assert_about(packets(1, 3, 1000, LINE_NANOS), helped);
    }

    #[test]
    fn workers_without_peers_carry_nothing_and_the_others_add_up() {
        let one = packets(1, 0, 1, LINE_NANOS);
        assert_about(packets(8, 0, 1, LINE_NANOS), one);
        assert_about(packets(8, 0, 1000, LINE_NANOS), 8.0 * one);
    }

    #[test]
    fn a_line_that_takes_long_is_all_that_counts() {
        let line = 100_000;
        let found = packets(32, 0, 1000, line);
        assert_about(found, BULK.batch as f64 * 1e9 / (TOUCHES * line) as f64);
    }

    #[test]
    fn the_page_has_this_table() {
        let page = crate::workspace::root().join("taltun/docs/scale.md");
        let page = std::fs::read_to_string(page).unwrap();
        let table = table(LINE_NANOS);
        assert!(page.contains(&table), "the page should have:\n{table}");
    }
}
