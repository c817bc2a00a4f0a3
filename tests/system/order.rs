//! Packets of a flow arrive in the order in which they were sent, each once and whole, whatever carries
//! them: many threads on few cores, offloads or none, the relay, and at any pace.

use std::net::SocketAddr;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};
use taltun_tests::lab::{Options, Role};
use taltun_tests::traffic::checked_datagrams::{Outcome, Pace, send_at};

use crate::support::{Case, ensure_answers, lab, take_down};

pub const CASES: &[Case] = &[
    Case {
        name: "order: no packet overtakes another of its flow, with what is set by default",
        programs: &[],
        run: || in_order(""),
    },
    Case {
        name: "order: nor with eight workers and eight threads for the cipher",
        programs: &[],
        run: || in_order("[dataplane]\nworkers = 8\ncrypto_threads = 8\n"),
    },
    Case {
        name: "order: nor with three workers that look before they sleep, and no offload",
        programs: &[],
        run: || {
            in_order(
                "[dataplane]\nworkers = 3\nbusy_poll_us = 50\ntun_offload = false\nudp_gso = false\nudp_gro = false\n",
            )
        },
    },
];

/// How fast, and how many: as fast as possible, in bursts, and alone as a game sends.
const PACES: [(Pace, u64); 3] = [
    (Pace::Fast, 20_000),
    (Pace::Groups(Duration::from_millis(1)), 4_000),
    (Pace::Single(Duration::from_millis(2)), 400),
];

/// Into the tunnel, out of it and through the relay, all at once.
const WAYS: [(Role, Role); 4] = [
    (Role::A, Role::Hub),
    (Role::Hub, Role::A),
    (Role::A, Role::B),
    (Role::B, Role::A),
];

fn in_order(more: &'static str) -> Result<()> {
    let lab = lab(Options {
        more,
        ..Options::default()
    })?;
    for from in [Role::A, Role::B] {
        ensure_answers(lab.namespace(from), Role::Hub.v4())?;
    }
    for (pace, count) in PACES {
        let flows = WAYS.iter().enumerate().map(|(at, (from, to))| {
            // By IPv4 and IPv6 in turn.
            let address = if at % 2 == 0 { to.v4() } else { to.v6() };
            let (from, to) = (lab.namespace(*from), lab.namespace(*to));
            (from, to, SocketAddr::new(address, 0))
        });
        let outcomes: Vec<Result<Outcome>> = thread::scope(|scope| {
            let send =
                |(from, to, address)| scope.spawn(move || send_at(pace, from, to, address, count));
            let running: Vec<_> = flows.map(send).collect();
            let join = |flow: thread::ScopedJoinHandle<'_, Result<Outcome>>| {
                flow.join().map_err(|_| anyhow!("a sender panicked"))?
            };
            running.into_iter().map(join).collect()
        });
        for (outcome, (from, to)) in outcomes.into_iter().zip(WAYS) {
            let outcome = outcome.with_context(|| format!("{from:?} to {to:?}, {pace:?}"))?;
            ensure!(
                outcome.overtaken == 0,
                "{from:?} to {to:?}, {pace:?}: {outcome:?}"
            );
            // Queues may overflow where all is as fast as possible, and do little.
            let wanted = match pace {
                Pace::Fast => outcome.sent / 2,
                Pace::Groups(_) | Pace::Single(_) => outcome.sent * 99 / 100,
            };
            ensure!(
                outcome.arrived >= wanted,
                "{from:?} to {to:?}, {pace:?}: {outcome:?}"
            );
        }
    }
    for (name, node) in [("the hub", &lab.hub), ("a", &lab.a), ("b", &lab.b)] {
        let stats = node.stats()?;
        for reason in ["authentication", "replay", "inner_malformed"] {
            let dropped = stats.dropped(reason);
            ensure!(dropped == 0, "{name} dropped {dropped} for {reason}");
        }
    }
    take_down(lab)
}
