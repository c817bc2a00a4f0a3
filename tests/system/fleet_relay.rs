//! What the second hub costs: a stream between two peers of one hub, and between peers of two hubs, in one run.
//!
//! `cargo xtask bench fleet` runs more rounds; the figures are printed.

use std::net::{IpAddr, SocketAddr};
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use taltun_tests::etcd::Etcd;
use taltun_tests::netns::Namespace;
use taltun_tests::node::Node;
use taltun_tests::sys::Signal;
use taltun_tests::topology::{Lan, private_prefix};
use taltun_tests::traffic::ping::Pinger;
use taltun_tests::traffic::stream::Stream;

use crate::fleet_mesh::{Hubs, vip, vip_of};
use crate::support::{Case, ensure_answers, taltun};

pub const CASES: &[Case] = &[Case {
    name: "fleet relay: a stream between peers of two hubs arrives whole, as one between peers of one hub does",
    programs: &["etcd", "etcdctl"],
    run: relay,
}];

/// How often each is measured, unless [`ROUNDS_VARIABLE`] says otherwise.
const ROUNDS: usize = 1;
/// `cargo xtask bench fleet` asks for more by it.
const ROUNDS_VARIABLE: &str = "TALTUN_FLEET_ROUNDS";
/// How long a stream goes on.
const STREAM: Duration = Duration::from_secs(3);
const PINGS: usize = 100;

/// A rate in Gbit/s, and a round trip.
type Measured = (f64, Duration);

fn relay() -> Result<()> {
    let rounds = match std::env::var(ROUNDS_VARIABLE) {
        Ok(rounds) => rounds.parse().context(ROUNDS_VARIABLE)?,
        Err(_) => ROUNDS,
    };
    let lan = Lan::create(&private_prefix(), 4)?;
    let etcd = Etcd::start(&lan.bridge, 1)?;
    let hubs = Hubs::joined(&lan, &etcd, 2, "")?;
    let (ana, bea) = (hubs.peer("ana")?, hubs.peer("bea")?);
    let at = vip_of(&bea)?;
    let (here, there) = (&lan.hosts[2], &lan.hosts[3]);
    let ana = Node::start_with_text(here, &taltun()?, &hubs.for_hub(&ana, 0))?;
    ensure_answers(here, vip(0))?;
    let mut results: [Vec<Measured>; 2] = [Vec::new(), Vec::new()];
    for _ in 0..rounds {
        for hub in [0, 1] {
            let bea = Node::start_with_text(there, &taltun()?, &hubs.for_hub(&bea, hub))?;
            ensure_answers(there, vip(hub))?;
            ensure_answers(here, at)?;
            results[usize::from(hub)].push(measure(here, there, at)?);
            bea.stop(Signal::Terminate)?;
        }
    }
    let [one, two] = results.map(|mut all| {
        all.sort_by(|a, b| a.0.total_cmp(&b.0));
        all[all.len() / 2]
    });
    println!(
        "between peers of one hub {:.2} Gbit/s and {:.2?}, of two hubs {:.2} Gbit/s and {:.2?}: {:.0} % (median of \
         {rounds}; all on one machine)",
        one.0,
        one.1,
        two.0,
        two.1,
        100.0 * two.0 / one.0
    );
    ana.stop(Signal::Terminate)?;
    hubs.stop()
}

fn measure(here: &Namespace, there: &Namespace, at: IpAddr) -> Result<Measured> {
    let mut pinger = Pinger::new(here, at)?;
    let mut trips = Vec::new();
    for _ in 0..PINGS {
        trips.extend(pinger.ping(Duration::from_secs(1))?);
    }
    trips.sort_unstable();
    ensure!(trips.len() > PINGS / 2, "{} of {PINGS} pings", trips.len());
    let stream = Stream::start(here, there, SocketAddr::new(at, 0))?;
    sleep(STREAM);
    // It fails where a byte is wrong or missing.
    let outcome = stream.finish()?;
    Ok((outcome.gbps(), trips[trips.len() / 2]))
}
