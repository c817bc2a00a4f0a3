//! Flows that send little have a queue of the TUN of their own.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use taltun_tests::command::output_of;
use taltun_tests::lab::{Options, Role};
use taltun_tests::netns::Namespace;
use taltun_tests::traffic::stream::Stream;

use crate::support::{Case, ensure_answers, lab, take_down};

pub const CASES: &[Case] = &[
    Case {
        name: "sparse queue: pings take it, and a stream takes the other",
        programs: &["tc"],
        run: pings_take_it,
    },
    Case {
        name: "sparse queue: switched off, there is one queue",
        programs: &["tc"],
        run: switched_off,
    },
];

/// How much the stream moves, and for how long it may take.
const MUCH: u64 = 20_000_000;
const LIMIT: Duration = Duration::from_secs(60);

fn pings_take_it() -> Result<()> {
    let lab = lab(Options::default())?;
    let status = lab.a.status()?.sparse_queue;
    ensure!(status.on, "{status:?}");
    let there = lab.namespace(Role::A);
    ensure_answers(there, Role::Hub.v4())?;
    let [_, before] = queues(there)?;
    for to in [Role::Hub.v4(), Role::Hub.v6()] {
        ensure_answers(there, to)?;
    }
    let [bulk, sparse] = queues(there)?;
    ensure!(
        sparse.packets >= before.packets + 10,
        "{before:?}, then {sparse:?}"
    );
    let to = SocketAddr::new(Role::Hub.v4(), 0);
    let stream = Stream::start(there, lab.namespace(Role::Hub), to)?;
    stream.wait_for_more_than(MUCH, LIMIT)?;
    ensure_answers(there, Role::Hub.v4())?;
    stream.finish()?;
    let [bulk_after, sparse_after] = queues(there)?;
    ensure!(
        bulk_after.bytes > bulk.bytes + MUCH / 2,
        "{bulk:?}, then {bulk_after:?}"
    );
    ensure!(
        sparse_after.bytes < sparse.bytes + MUCH / 10 && sparse_after.packets > sparse.packets,
        "{sparse:?}, then {sparse_after:?}"
    );
    take_down(lab)
}

fn switched_off() -> Result<()> {
    let lab = lab(Options {
        more: "[dataplane]\nsparse_queue = false\n",
        ..Options::default()
    })?;
    ensure_answers(lab.namespace(Role::A), Role::Hub.v4())?;
    let status = lab.a.status()?.sparse_queue;
    let said = status.reason.contains("dataplane.sparse_queue");
    ensure!(!status.on && said, "{status:?}");
    let shown = disciplines(lab.namespace(Role::A))?;
    ensure!(!shown.contains("mq"), "{shown}");
    take_down(lab)
}

/// What a queue was given so far.
#[derive(Debug, Clone, Copy)]
struct Given {
    bytes: u64,
    packets: u64,
}

/// The two queues of the tunnel of one worker.
fn queues(namespace: &Namespace) -> Result<[Given; 2]> {
    let shown = disciplines(namespace)?;
    let given = |parent: &str| {
        // "qdisc fq_codel 0: parent :1 ..." and, in the next line, "Sent 84 bytes 1 pkt ..."
        let mut lines = shown.lines();
        lines.find(|line| line.contains(parent))?;
        let mut words = lines.next()?.split_whitespace();
        let bytes = words.nth(1)?.parse().ok()?;
        let packets = words.nth(1)?.parse().ok()?;
        Some(Given { bytes, packets })
    };
    let both = given("parent :1 ").zip(given("parent :2 "));
    let (first, second) = both.with_context(|| shown.clone())?;
    Ok([first, second])
}

fn disciplines(namespace: &Namespace) -> Result<String> {
    let mut tc = namespace.command("tc");
    output_of(tc.args(["-s", "qdisc", "show", "dev", "taltun0"]))
}
