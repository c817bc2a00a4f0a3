//! `cargo xtask chaos`: faults of the machine around a tunnel, one after the other, and after each
//! what must hold. What they are, and what that is: `tests/src/chaos`.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use taltun_tests::chaos::faults::{FAULTS, Fault};
use taltun_tests::chaos::world::World;
use taltun_tests::chaos::{order, suffer};
use taltun_tests::sys;

use crate::build;
use crate::setup;

/// What faults are made with, besides the lab's programs.
const PROGRAMS: &[setup::Program] = &[
    ("ip", "iproute2"),
    ("nft", "nftables"),
    ("nsenter", "util-linux"),
    ("prlimit", "util-linux"),
    ("tc", "iproute2"),
];
/// The namespaces' names begin with it.
const PREFIX: &str = "taltun-chaos";

/// The arguments of `cargo xtask chaos`.
#[derive(clap::Args)]
pub struct Arguments {
    /// How long faults go on.
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    minutes: u32,

    /// Which order they come in: the same one for the same number.
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,

    /// Only faults whose names contain this.
    #[arg(long, value_name = "WORDS")]
    only: Option<String>,
}

/// Makes faults; one after which something doesn't hold is a failure.
pub fn run(arguments: &Arguments) -> Result<ExitCode> {
    if !sys::is_root() {
        bail!("chaos makes network namespaces and needs root: run this as root");
    }
    setup::programs(PROGRAMS)?;
    let taltun = build::taltun()?;
    let only = arguments.only.as_deref().unwrap_or_default();
    let wanted = |fault: &&Fault| fault.name.contains(only);
    if !FAULTS.iter().any(|fault| wanted(&fault)) {
        let names: Vec<_> = FAULTS.iter().map(|fault| fault.name).collect();
        bail!(
            "no fault has {only:?} in its name; there are:\n{}",
            names.join("\n")
        );
    }
    let (begun, lasting) = (
        Instant::now(),
        Duration::from_secs(60 * u64::from(arguments.minutes)),
    );
    let mut world = World::start(PREFIX, &taltun)?;
    let (mut made, mut failed, mut longest) = (0_u32, 0_u32, Duration::ZERO);
    for fault in order(arguments.seed, FAULTS).filter(wanted) {
        if begun.elapsed() >= lasting {
            break;
        }
        let outcome = suffer(&mut world, fault);
        made += 1;
        match outcome.back {
            Ok(back) => {
                longest = longest.max(back);
                println!("{}: back after {:.2} s", outcome.fault, back.as_secs_f64());
            }
            Err(why) => {
                failed += 1;
                println!("{}: FAILED: {why}", outcome.fault);
                // What follows would fail for the same reason.
                break;
            }
        }
    }
    if let Err(why) = world.stop() {
        failed += 1;
        println!("at the end: FAILED: {why:#}");
    }
    println!(
        "{made} faults with the seed {}, {failed} failures; traffic was back after {:.2} s at the most",
        arguments.seed,
        longest.as_secs_f64()
    );
    Ok(if failed == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}
