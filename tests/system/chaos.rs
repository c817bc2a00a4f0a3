//! Two faults of `cargo xtask chaos`, in each run of the tests: those that nobody can prevent.

use anyhow::{Context, Result, ensure};
use taltun_tests::chaos::faults::FAULTS;
use taltun_tests::chaos::suffer;
use taltun_tests::chaos::world::World;
use taltun_tests::topology::private_prefix;

use crate::support::{Case, taltun};

pub const CASES: &[Case] = &[Case {
    name: "chaos: a killed client and a link that went down are back, and nothing leaked",
    programs: &["nft"],
    run: two_faults,
}];

const CHOSEN: [&str; 2] = [
    "the client is killed and starts again",
    "the link goes down",
];

fn two_faults() -> Result<()> {
    let mut world = World::start(&private_prefix(), &taltun()?)?;
    for name in CHOSEN {
        let fault = FAULTS.iter().find(|fault| fault.name == name);
        let outcome = suffer(
            &mut world,
            fault.with_context(|| format!("no fault: {name}"))?,
        );
        ensure!(outcome.back.is_ok(), "{name}: {:?}", outcome.back);
    }
    world.stop()
}
