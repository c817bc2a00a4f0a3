//! Faults of `cargo xtask chaos` in each run of the tests: two that nobody can prevent, and, in a machine of
//! their own, those of the clock.

use anyhow::{Context, Result, ensure};
use taltun_tests::chaos::faults::{CLOCK_FAULTS, FAULTS, Fault};
use taltun_tests::chaos::suffer;
use taltun_tests::chaos::world::World;
use taltun_tests::topology::private_prefix;

use crate::support::{Case, OWN_CLOCK, taltun};

pub const CASES: &[Case] = &[
    Case {
        name: "chaos: a killed client and a link that went down are back, and nothing leaked",
        programs: &["nft"],
        run: two_faults,
    },
    Case {
        name: "chaos: a clock that goes back, ahead and to 1970 stops nothing",
        programs: &["nft", OWN_CLOCK],
        run: || make(CLOCK_FAULTS.iter()),
    },
];

const CHOSEN: [&str; 2] = [
    "the client is killed and starts again",
    "the link goes down",
];

fn two_faults() -> Result<()> {
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
