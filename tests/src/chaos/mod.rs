//! Faults, one after the other, in a tunnel that carries everything of a client with a kill switch; and
//! after each, what must hold whatever happens:
//!
//! * traffic comes back by itself within [`BACK`](world::BACK);
//! * of datagrams that are sent without end, none leaves the client beside the tunnel ([`watch`]), while the
//!   fault lasts and after it;
//! * both programs run, and say how they are;
//! * at the end, stopped in order, they leave nothing behind.
//!
//! ```text
//!  client 10.200.0.2 ═══ to-right ═══ wire ═══ to-left ═══ server 10.200.0.1
//!  0.0.0.0/0 and ::/0 go into the tunnel, kill_switch = true
//! ```
//!
//! Which faults come, and in which order, is a matter of the seed alone.

pub mod faults;
pub mod watch;
pub mod world;

use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::random::Random;
use faults::Fault;
use watch::Watch;
use world::World;

/// How long a kill switch may be open that somebody took away: it is noticed and put back within three seconds.
pub const CLOSED_AGAIN: Duration = Duration::from_secs(3);

/// What became of a fault.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// Its name.
    pub fault: &'static str,
    /// How long traffic took to come back once it was over; or why it didn't, or what else was wrong.
    pub back: Result<Duration, String>,
}

/// Has a fault happen, and looks at what came of it.
pub fn suffer(world: &mut World, fault: &Fault) -> Outcome {
    let outcome = (|| -> Result<Duration> {
        let before = (!fault.opens).then(|| Watch::start(&world.pair));
        let before = before.transpose()?;
        (fault.begin)(world).context("it can't be made")?;
        let watch = if let Some(watch) = before {
            watch
        } else {
            thread::sleep(CLOSED_AGAIN);
            Watch::start(&world.pair)?
        };
        let meanwhile = (fault.meanwhile)(world).context("while it lasts");
        thread::sleep(fault.lasts);
        (fault.end)(world).context("it can't be ended")?;
        meanwhile?;
        let back = world.is_back()?;
        let leaked = watch.finish()?;
        ensure!(leaked == 0, "{leaked} packets left beside the tunnel");
        for (who, node) in [("client", &world.client), ("server", &world.server)] {
            node.status().with_context(|| format!("the {who}"))?;
        }
        Ok(back)
    })();
    Outcome {
        fault: fault.name,
        back: outcome.map_err(|error| format!("{error:#}")),
    }
}

/// Faults in the order of a seed, each once before any comes again.
pub fn order(seed: u64, faults: &'static [Fault]) -> impl Iterator<Item = &'static Fault> {
    let mut random = Random::new(seed);
    let mut left: Vec<&'static Fault> = Vec::new();
    std::iter::from_fn(move || {
        if left.is_empty() {
            left.extend(faults);
        }
        let at = random.below(left.len() as u64) as usize;
        Some(left.swap_remove(at))
    })
}
