//! A tunnel that nobody uses: nothing goes through it, and nothing is counted that would make
//! anybody look.

use std::fs;
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Result, ensure};
use taltun_tests::netns::Namespace;
use taltun_tests::node::{Keys, Node};
use taltun_tests::sys::Signal;
use taltun_tests::topology::{Pair, WIRE_A, private_prefix};
use taltun_tests::traffic::capture::Capture;

use crate::support::{Case, UP_LIMIT, ensure_answers, eventually, taltun};

pub const CASES: &[Case] = &[Case {
    name: "idle: where both sides forward IPv6, nothing goes into the tunnel by itself",
    programs: &[],
    run: both_forward,
}];

/// The kernel sends its reports each second or two.
const IDLE: Duration = Duration::from_secs(10);
const FORWARDING: &str = "/proc/sys/net/ipv6/conf/all/forwarding";
const HUB_VIP: &str = "fd00:7::1";

/// A hub whose kernel forwards already when the interface is made, and a router whose kernel
/// begins to when Taltun starts.
fn both_forward() -> Result<()> {
    let pair = Pair::create(&private_prefix())?;
    forward(&pair.left)?;
    let (hub, router) = files()?;
    let hub = Node::start_with_text(&pair.left, &taltun()?, &hub)?;
    let router = Node::start_with_text(&pair.right, &taltun()?, &router)?;
    ensure_answers(&pair.right, HUB_VIP.parse()?)?;
    eventually("both have the session", UP_LIMIT, || {
        let counts = [hub.status()?, router.status()?].map(|status| status.peers[0].handshakes);
        Ok(counts.iter().all(|count| *count > 0))
    })?;
    let forwards = pair.right.run(|| fs::read_to_string(FORWARDING))??;
    ensure!(forwards.trim() == "1", "the router doesn't forward");

    let dropped = |node: &Node| Ok::<_, anyhow::Error>(node.stats()?.dropped_in_all());
    let before = [dropped(&hub)?, dropped(&router)?];
    let captures = [
        Capture::start(&pair.left, "taltun0")?,
        Capture::start(&pair.right, "taltun0")?,
    ];
    sleep(IDLE);
    for capture in captures {
        let seen: Vec<String> = capture.finish().keys().map(ToString::to_string).collect();
        ensure!(seen.is_empty(), "in the tunnel: {seen:?}");
    }
    let after = [dropped(&hub)?, dropped(&router)?];
    ensure!(
        after == before,
        "dropped by the hub: {:?}, by the router: {:?}",
        hub.stats()?.drops,
        router.stats()?.drops
    );
    ensure_answers(&pair.right, HUB_VIP.parse()?)?;
    router.stop(Signal::Terminate)?;
    hub.stop(Signal::Terminate)
}

fn forward(namespace: &Namespace) -> Result<()> {
    Ok(namespace.run(|| fs::write(FORWARDING, "1"))??)
}

/// The files of a hub, to be on the left, and of a router that sends all to it.
fn files() -> Result<(String, String)> {
    let program = taltun()?;
    let (ours, theirs) = (Keys::generate(&program)?, Keys::generate(&program)?);
    let interface = |vips: &str, private: &str| {
        format!(
            "[interface]\ntun_name = \"taltun0\"\nvip = {vips}\nlocal_addr = \"[::]:9000\"\n\
             private_key = \"{private}\"\nip_forward = true\n"
        )
    };
    let hub = format!(
        "{}[[peers]]\nname = \"router\"\npublic_key = \"{}\"\nvip = [\"10.7.0.2\", \"fd00:7::2\"]\n",
        interface("[\"10.7.0.1/24\", \"fd00:7::1/64\"]", &ours.private),
        theirs.public,
    );
    let router = format!(
        "{}[[peers]]\nname = \"hub\"\npublic_key = \"{}\"\nvip = [\"10.7.0.1\", \"fd00:7::1\"]\n\
         endpoint = \"{}:9000\"\nallowed_ips = [\"0.0.0.0/0\", \"::/0\"]\n",
        interface("[\"10.7.0.2/24\", \"fd00:7::2/64\"]", &theirs.private),
        ours.public,
        WIRE_A.near_v4(),
    );
    Ok((hub, router))
}
