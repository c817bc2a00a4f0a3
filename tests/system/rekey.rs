//! The session is renewed after two minutes, by the side that had started it, and no packet
//! is lost over it.

use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use taltun_tests::lab::Role;
use taltun_tests::topology::{Pair, private_prefix};
use taltun_tests::traffic::ping::Pinger;

use crate::interop::{Starts, plain_pair};
use crate::support::{ANSWER_LIMIT, Case, KERNEL_WIREGUARD, UP_LIMIT};
use crate::watch::{MessageKind, Watch};
use crate::wireguard::Program;

/// They run beside the others.
pub const CASES: &[Case] = &[
    Case {
        name: "interop: Taltun renews the session with wireguard-go after two minutes without a loss",
        programs: &["wireguard-go", "wg", "nft"],
        run: || rekey(Program::WireguardGo, Starts::Taltun),
    },
    Case {
        name: "interop: wireguard-go renews the session after two minutes without a loss",
        programs: &["wireguard-go", "wg", "nft"],
        run: || rekey(Program::WireguardGo, Starts::Other),
    },
    Case {
        name: "interop: Taltun renews the session with the kernel's WireGuard after two minutes without a loss",
        programs: &["wg", "nft", KERNEL_WIREGUARD],
        run: || rekey(Program::Kernel, Starts::Taltun),
    },
    Case {
        name: "interop: the kernel's WireGuard renews the session after two minutes without a loss",
        programs: &["wg", "nft", KERNEL_WIREGUARD],
        run: || rekey(Program::Kernel, Starts::Other),
    },
];

/// The paper's `REKEY_AFTER_TIME`, less what a session may be older than we know.
const NOT_BEFORE: Duration = Duration::from_secs(115);
/// By then it must have happened.
const LIMIT: Duration = Duration::from_secs(150);
/// Between two pings.
const PAUSE: Duration = Duration::from_millis(50);

fn rekey(program: Program, starts: Starts) -> Result<()> {
    let pair = Pair::create(&private_prefix())?;
    let watch = Watch::start(&pair.left)?;
    let _both = plain_pair(&pair, program, starts, false, None)?;
    let (from, to) = match starts {
        Starts::Taltun => (&pair.left, Role::A.v4()),
        Starts::Other => (&pair.right, Role::Hub.v4()),
    };
    let initiations = || -> Result<(u64, u64)> {
        let ours = watch.sent(MessageKind::Initiation)?;
        let theirs = watch.received(MessageKind::Initiation)?;
        Ok(match starts {
            Starts::Taltun => (ours, theirs),
            Starts::Other => (theirs, ours),
        })
    };
    let mut pinger = Pinger::new(from, to)?;
    pinger.wait_until_answered(UP_LIMIT)?;
    let start = Instant::now();
    let (at_first, _) = initiations()?;
    let mut ping = || -> Result<()> {
        let answer = pinger.ping(ANSWER_LIMIT)?;
        let age = start.elapsed().as_secs();
        answer.with_context(|| format!("a ping was lost after {age} s"))?;
        sleep(PAUSE);
        Ok(())
    };
    while initiations()?.0 == at_first {
        ensure!(start.elapsed() < LIMIT, "no new session within {LIMIT:?}");
        for _ in 0..10 {
            ping()?;
        }
    }
    let age = start.elapsed();
    ensure!(age > NOT_BEFORE, "it was renewed after {age:?} already");
    // On the new session as well, and on the one before while both are there.
    for _ in 0..40 {
        ping()?;
    }
    let (starter, other) = initiations()?;
    ensure!(
        other == 0,
        "{starter} initiations were sent by who had started, {other} by the other"
    );
    Ok(())
}
