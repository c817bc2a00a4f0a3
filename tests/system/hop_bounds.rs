//! What a client that hops costs where something doesn't answer: a hub that is down, and a firewall
//! that drops what half of the ports answer.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use taltun_tests::node::Node;
use taltun_tests::sys::Signal;

use crate::hopping::{EACH_SECOND, Lab, REDIRECT, XDP, lost, range};
use crate::support::{Case, eventually, taltun};

pub const CASES: &[Case] = &[
    Case {
        name: "hop: a hub that is down is asked at as many ports as the pool has, by handshakes too",
        programs: &["nft"],
        run: hub_down,
    },
    Case {
        name: "hop: a client comes up and hops where answers of half of the ports are dropped, by a redirecting hub",
        programs: &["nft"],
        run: || answers_of_half(REDIRECT),
    },
    Case {
        name: "hop: so it does where XDP leads the range to the hub",
        programs: &["nft"],
        run: || answers_of_half(XDP),
    },
];

/// Each start at a port whose answers are dropped takes five seconds, and there are several of them.
const START_LIMIT: Duration = Duration::from_secs(120);

fn hub_down() -> Result<()> {
    let lab = Lab::new("")?;
    let text = lab.client_text(&range(), "hop_pool = 3\n");
    let client = Node::start_with_text(&lab.net.a, &taltun()?, &text)?;
    eventually("three ports are asked", START_LIMIT, || {
        Ok(lab.seen()?.len() == 3)
    })?;
    // Several handshakes more.
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(16) {
        let seen = lab.seen()?;
        ensure!(seen.len() <= 3, "{seen:?}");
        std::thread::sleep(Duration::from_millis(500));
    }
    // Where no data goes, no path is in use.
    let paths = client.status()?.peers[0].paths.clone();
    ensure!(format!("{paths:?}").contains("unknown"), "{paths:?}");
    client.stop(Signal::Terminate)?;
    lab.net.delete()
}

fn answers_of_half(led_by: &str) -> Result<()> {
    let dropped = "chain answers { type filter hook forward priority 0; \
         ip saddr 10.99.2.0/24 udp sport 4096-8191 udp sport & 1 == 0 counter drop; }\n";
    let lab = Lab::new(dropped)?;
    let hub = lab.hub(led_by)?;
    // Of so many ports hardly ever all but one are blocked.
    let text = lab.client_text(&range(), &format!("{EACH_SECOND}hop_pool = 16\n"));
    let client = Node::start_with_text(&lab.net.a, &taltun()?, &text)?;
    eventually("a handshake", START_LIMIT, || {
        Ok(client.status()?.peers[0].handshakes > 0)
    })?;
    let before = client.status()?.peers[0].handshakes;
    let mut used = std::collections::BTreeSet::new();
    let mut missed = 0;
    for _ in 0..10 {
        missed += lost(&lab.net.a, Duration::from_secs(2))?;
        let endpoint = client.status()?.peers[0].endpoint;
        used.extend(endpoint.map(|endpoint| endpoint.port()));
    }
    ensure!(missed == 0, "{missed} pings lost\n{}", client.log());
    ensure!(
        client.status()?.peers[0].handshakes == before,
        "a session was lost\n{}",
        client.log()
    );
    ensure!(used.len() >= 2, "{used:?}");
    ensure!(used.iter().all(|port| port % 2 == 1), "{used:?}");
    lab.end([client, hub])
}
