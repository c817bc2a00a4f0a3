//! Faults of `cargo xtask chaos` in each run of the tests: three that nobody can prevent, and, in a machine of
//! their own, those of the clock.

use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use taltun_tests::chaos::faults::{CLOCK_FAULTS, FAULTS, Fault};
use taltun_tests::chaos::watch::Watch;
use taltun_tests::chaos::world::World;
use taltun_tests::chaos::{CLOSED_AGAIN, suffer};
use taltun_tests::topology::private_prefix;

use crate::support::{Case, OWN_CLOCK, taltun};

pub const CASES: &[Case] = &[
    Case {
        name: "chaos: a killed client, a link that went down and a full disk are back, and nothing leaked",
        programs: &["nft"],
        run: three_faults,
    },
    Case {
        name: "chaos: what leaves beside the tunnel is seen, and nothing does once the rules are put back",
        programs: &["nft"],
        run: leaks_are_seen,
    },
    Case {
        name: "chaos: a clock that goes back, ahead and to 1970 stops nothing",
        programs: &["nft", OWN_CLOCK],
        run: || make(CLOCK_FAULTS.iter()),
    },
];

const CHOSEN: [&str; 3] = [
    "the client is killed and starts again",
    "the link goes down",
    "the client's disk is full",
];

/// Nothing would leak where nothing is looked for.
fn leaks_are_seen() -> Result<()> {
    let world = World::start(&private_prefix(), &taltun()?)?;
    let watch = Watch::start(&world.pair)?;
    let mut flush = world.pair.left.command("nft");
    let flushed = flush.args(["flush", "ruleset"]).status()?;
    ensure!(flushed.success(), "nft flush ruleset: {flushed}");
    sleep(CLOSED_AGAIN);
    let leaked = watch.finish()?;
    ensure!(leaked > 0, "the rules were gone, and nothing was seen");
    let watch = Watch::start(&world.pair)?;
    sleep(Duration::from_millis(500));
    let leaked = watch.finish()?;
    ensure!(leaked == 0, "{leaked} packets leave for longer than that");
    world.stop()
}

fn three_faults() -> Result<()> {
    let chosen = CHOSEN.map(|name| FAULTS.iter().find(|fault| fault.name == name));
    let chosen: Option<Vec<_>> = chosen.into_iter().collect();
    make(chosen.context("a fault has another name")?.into_iter())
}

fn make<'f>(faults: impl Iterator<Item = &'f Fault>) -> Result<()> {
    let mut world = World::start(&private_prefix(), &taltun()?)?;
    for fault in faults {
        let outcome = suffer(&mut world, fault);
        ensure!(outcome.back.is_ok(), "{}: {:?}", fault.name, outcome.back);
    }
    world.stop()
}
