//! Packets of a flow arrive in the order in which they were sent, each once and whole, whatever carries
//! them: many threads on few cores, offloads or none, the relay, and at any pace.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};
use taltun_tests::lab::{Lab, Options, Role};
use taltun_tests::netns::Namespace;
use taltun_tests::node::Node;
use taltun_tests::topology;
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
    Case {
        name: "order: nor with realtime and two workers",
        programs: &[],
        run: || in_order("[dataplane]\nworkers = 2\npriority = \"realtime\"\n"),
    },
    Case {
        name: "order: nor with one queue of the TUN",
        programs: &[],
        run: || in_order("[dataplane]\nsparse_queue = false\n"),
    },
    Case {
        name: "order: nor while elsewhere interfaces come and go, for which the kernel locks its tables",
        programs: &[],
        run: || beside_churn(|| in_order("")),
    },
];

/// How fast, and how many, one after the other and in the last line together: as fast as possible,
/// in bursts, and alone as a game sends. The last two send about as much as a flow may that has the sparse
/// queue, so that they go to the bulk queue and come back while others fill it.
const PACES: &[&[(Pace, u64)]] = &[
    &[(Pace::Fast, 20_000)],
    &[(Pace::Groups(Duration::from_millis(1)), 4_000)],
    &[(Pace::Single(Duration::from_millis(2)), 400)],
    &[
        (Pace::Fast, 20_000),
        (Pace::Single(Duration::from_millis(5)), 400),
        (Pace::Single(Duration::from_millis(8)), 250),
    ],
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
    let sparse_queue = lab.a.status()?.sparse_queue;
    let wanted = !more.contains("sparse_queue = false");
    ensure!(sparse_queue.on == wanted, "{sparse_queue:?}");
    let carried = PACES.iter().try_for_each(|paces| at_once(&lab, paces));
    carried.map_err(|error| anyhow!("{error:#}\n{}", accounts(&lab)))?;
    for (name, node, _) in nodes(&lab) {
        let stats = node.stats()?;
        for reason in ["authentication", "replay", "inner_malformed"] {
            let dropped = stats.dropped(reason);
            ensure!(dropped == 0, "{name} dropped {dropped} for {reason}");
        }
    }
    take_down(lab)
}

/// Does something while interfaces are made and removed as fast as can be, as on a host of containers.
/// Whoever asks the kernel about links or neighbours then waits, for a second at times.
fn beside_churn(what: impl FnOnce() -> Result<()>) -> Result<()> {
    let elsewhere = Namespace::create(&topology::name_beside_lab("churn"))?;
    let go_on = AtomicBool::new(true);
    let outcome = thread::scope(|scope| {
        let churn = |number: usize| {
            while go_on.load(Ordering::Relaxed) {
                elsewhere.ip(&format!("link add x{number} type veth peer name y{number}"))?;
                elsewhere.ip(&format!("link set x{number} up"))?;
                elsewhere.ip(&format!("link delete x{number}"))?;
            }
            anyhow::Ok(())
        };
        let churning = [0, 1, 2].map(|number| scope.spawn(move || churn(number)));
        let outcome = what();
        go_on.store(false, Ordering::Relaxed);
        let churned =
            churning.map(|thread| thread.join().map_err(|_| anyhow!("a thread panicked")));
        outcome.and_then(|()| churned.into_iter().try_for_each(|churned| churned?))
    });
    elsewhere.delete()?;
    outcome
}

fn nodes(lab: &Lab) -> [(&'static str, &Node, Role); 3] {
    [
        ("the hub", &lab.hub, Role::Hub),
        ("a", &lab.a, Role::A),
        ("b", &lab.b, Role::B),
    ]
}

/// What Taltun and the kernel have counted of packets that came nowhere, to be read when a test failed.
fn accounts(lab: &Lab) -> String {
    let account = |(name, node, role): (&str, &Node, Role)| {
        let stats = node.stats();
        let stats = stats.map(|stats| format!("{:?} {:?}", stats.drops, stats.fallbacks));
        let sockets = node.status().map(|status| format!("{:?}", status.af_xdp));
        let links = lab.namespace(role).ip("-s link");
        format!(
            "{name}: {stats:?}\n{sockets:?}\n{}",
            links.unwrap_or_default()
        )
    };
    nodes(lab).map(account).join("\n")
}

/// Sends at all of these paces on all ways at once.
fn at_once(lab: &Lab, paces: &[(Pace, u64)]) -> Result<()> {
    let flows = paces.iter().flat_map(|&(pace, count)| {
        WAYS.iter().enumerate().map(move |(at, &(from, to))| {
            // By IPv4 and IPv6 in turn.
            let address = if at % 2 == 0 { to.v4() } else { to.v6() };
            (pace, count, from, to, SocketAddr::new(address, 0))
        })
    });
    let what = |pace, from, to| format!("{from:?} to {to:?}, {pace:?} of {paces:?}");
    let outcomes: Vec<_> = thread::scope(|scope| {
        let send = |(pace, count, from, to, address)| {
            let (client, server) = (lab.namespace(from), lab.namespace(to));
            let sending = scope.spawn(move || send_at(pace, client, server, address, count));
            (pace, what(pace, from, to), sending)
        };
        let running: Vec<_> = flows.map(send).collect();
        let join = |(pace, what, flow): (_, _, thread::ScopedJoinHandle<'_, Result<Outcome>>)| {
            let outcome = flow.join().map_err(|_| anyhow!("a sender panicked"))?;
            outcome.map(|outcome| (pace, outcome)).context(what)
        };
        running.into_iter().map(join).collect()
    });
    for outcome in outcomes {
        let (pace, outcome) = outcome?;
        ensure!(outcome.overtaken == 0, "{pace:?} of {paces:?}: {outcome:?}");
        // Queues may overflow where all is as fast as possible, and do little.
        let is_fast = paces.iter().any(|(pace, _)| *pace == Pace::Fast);
        let wanted = if is_fast {
            outcome.sent / 2
        } else {
            outcome.sent * 99 / 100
        };
        ensure!(
            outcome.arrived >= wanted,
            "{pace:?} of {paces:?}: {outcome:?}"
        );
    }
    Ok(())
}
