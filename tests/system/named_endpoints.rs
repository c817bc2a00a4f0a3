//! Endpoints given by name: several addresses of which not all work, and a network that comes
//! up after the tunnel that everything goes into.

use std::fs;
use std::net::IpAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use taltun_tests::netns::Namespace;
use taltun_tests::node::{Keys, Node};
use taltun_tests::programs;
use taltun_tests::recipes::internet::{self, HOME, HUB, WORLD};
use taltun_tests::sys::Signal;
use taltun_tests::topology::private_prefix;
use taltun_tests::traffic::dns::Resolver;

use crate::support::{Case, ensure_answers_within, eventually, taltun};

/// Three initiations, each at most 5.3 s after the one before, and some for the machine.
const THREE_INITIATIONS: Duration = Duration::from_secs(20);
/// A peer notices after 15 s that nothing comes back; then three initiations, and the one that
/// goes to the new address. A handshake alone is given up after 90 s.
const MOVED: Duration = Duration::from_secs(70);
/// How long a tunnel whose network is there at last may take: the longest pause between two
/// look-ups by then, and a handshake.
const LATE: Duration = Duration::from_secs(30);
const NAME_SERVER: &str = "198.18.0.80";
const NAME: &str = "hub.example.net";
const THE_HUB: &str = "203.0.113.1";
/// In the hub's network, where nobody is.
const NOBODY_V6: &str = "2001:db8:1::dead";
const NOBODY: &str = "203.0.113.99";
const THE_NEW_HUB: &str = "203.0.113.50";

pub const CASES: &[Case] = &[
    Case {
        name: "an endpoint's name with an address that doesn't answer and one that does: it comes up by the second, and keeps it",
        programs: &["unshare", "mount"],
        run: several_addresses,
    },
    Case {
        name: "a full tunnel to a name, with name servers inside and a kill switch, that starts before its network connects once that is there",
        programs: &["unshare", "mount", "nft"],
        run: network_comes_later,
    },
    Case {
        name: "a full tunnel to a name that leads elsewhere now follows it once three initiations had no answer",
        programs: &["unshare", "mount", "nft"],
        run: name_moves,
    },
    Case {
        name: "an endpoint's name that can't be looked up is named in status and its JSON, until it can",
        programs: &["unshare", "mount"],
        run: no_such_name,
    },
];

fn no_such_name() -> Result<()> {
    let lab = lab()?;
    lab.connect_client()?;
    // The name server knows another name only.
    let resolver = Resolver::with_names(&lab.world, NAME_SERVER.parse()?, Vec::new(), 60)?;
    let node = lab.start("", "")?;
    let problem = || -> Result<serde_json::Value> {
        let status: serde_json::Value = serde_json::from_str(&node.tell(&["status", "--json"])?)?;
        let peer = &status["peers"][0];
        ensure!(peer["endpoint_name"] == format!("{NAME}:9000"), "{peer}");
        Ok(peer["problem"].clone())
    };
    eventually("the problem is told", LATE, || {
        Ok(problem()?["cause"] == "not_resolved")
    })?;
    let status = node.tell(&["status"])?;
    let unresolved = format!("{NAME}:9000 (not resolved)");
    ensure!(status.contains(&unresolved), "{status}");
    ensure!(
        status.contains(&format!("cannot look up {NAME}: ")),
        "{status}"
    );
    drop(resolver);
    let _resolver = lab.resolver(&[THE_HUB])?;
    eventually("it is looked up", 2 * LATE, || Ok(problem()?.is_null()))?;
    ensure_answers_within(&lab.client, "10.4.0.1".parse()?, LATE)?;
    node.stop(Signal::Terminate)?;
    lab.hub_node.stop(Signal::Terminate)
}

/// A hub and its client, with a name server in the world.
struct Lab {
    net: Namespace,
    hub: Namespace,
    client: Namespace,
    world: Namespace,
    files: tempfile::TempDir,
    ours: Keys,
    theirs: Keys,
    hub_node: Node,
}

fn lab() -> Result<Lab> {
    let prefix = private_prefix();
    let namespace = |name: &str| Namespace::create(&format!("{prefix}-{name}"));
    let (net, hub) = (namespace("net")?, namespace("hub")?);
    let (client, world) = (namespace("client")?, namespace("world")?);
    internet::make_router(&net)?;
    internet::connect((&hub, "eth0"), (&net, "to-hub"), HUB, true)?;
    internet::connect((&world, "eth0"), (&net, "to-world"), WORLD, true)?;
    let (ours, theirs) = (Keys::generate(&taltun()?)?, Keys::generate(&taltun()?)?);
    let text = format!(
        "[interface]\nmode = \"server\"\nvip = \"10.4.0.1/24\"\nprivate_key = \"{}\"\n\
         [[peers]]\npublic_key = \"{}\"\nvip = \"10.4.0.2\"\n",
        theirs.private, ours.public
    );
    let hub_node = Node::start_with_text(&hub, &taltun()?, &text)?;
    let files = tempfile::tempdir()?;
    fs::write(
        files.path().join("resolv.conf"),
        format!("nameserver {NAME_SERVER}\noptions timeout:1\n"),
    )?;
    // As resolvconf does with -x: nothing is left of other name servers.
    let resolvconf = files.path().join("resolvconf");
    programs::write(
        &resolvconf,
        "#!/bin/sh\n[ \"$1\" != -a ] || cat > /etc/resolv.conf\n",
    )?;
    Ok(Lab {
        net,
        hub,
        client,
        world,
        files,
        ours,
        theirs,
        hub_node,
    })
}

impl Lab {
    /// The name server, which says that the hub is there.
    fn resolver(&self, addresses: &[&'static str]) -> Result<Resolver> {
        let names = addresses.iter().map(|address| Ok((NAME, address.parse()?)));
        let names = names.collect::<Result<Vec<(&str, IpAddr)>>>()?;
        Resolver::with_names(&self.world, NAME_SERVER.parse()?, names, 60)
    }

    fn connect_client(&self) -> Result<()> {
        let end = (&self.net, "to-client");
        internet::connect((&self.client, "eth0"), end, HOME, true)
    }

    /// Starts the client, whose `/etc/resolv.conf` is its own.
    fn start(&self, interface: &str, peer: &str) -> Result<Node> {
        let text = format!(
            "[interface]\nmode = \"client\"\nvip = \"10.4.0.2/24\"\nprivate_key = \"{}\"\n{interface}\
             [[peers]]\nname = \"hub\"\npublic_key = \"{}\"\nvip = \"10.4.0.1\"\n\
             endpoint = \"{NAME}:9000\"\n{peer}",
            self.ours.private, self.theirs.public
        );
        let files = self.files.path();
        let script = format!(
            "mount --make-rprivate / && mount --bind {0}/resolv.conf /etc/resolv.conf && \
             PATH={0}:$PATH && export PATH && exec \"$@\"",
            files.display()
        );
        let through = ["unshare", "-m", "sh", "-c", &script, "sh"];
        Node::start_through(&self.client, &taltun()?, &text, &through)
    }

    fn stop(self, node: Node) -> Result<()> {
        node.stop(Signal::Terminate)?;
        self.hub_node.stop(Signal::Terminate)?;
        drop(self.hub);
        Ok(())
    }
}

fn several_addresses() -> Result<()> {
    let lab = lab()?;
    lab.connect_client()?;
    let resolver = lab.resolver(&[NOBODY_V6, THE_HUB])?;
    let node = lab.start("", "persistent_keepalive = 1\n")?;
    ensure_answers_within(&lab.client, "10.4.0.1".parse()?, THREE_INITIATIONS)?;
    let endpoint = || -> Result<String> {
        let status = node.status()?;
        let peer = status.peers.first().context("no peer")?;
        Ok(format!("{:?}", peer.endpoint))
    };
    ensure!(endpoint()?.contains(THE_HUB), "{}", endpoint()?);
    // A reload looks nothing up that works.
    let asked = resolver.asked();
    node.tell(&["reload"])?;
    ensure_answers_within(&lab.client, "10.4.0.1".parse()?, LATE)?;
    ensure!(endpoint()?.contains(THE_HUB), "{}", endpoint()?);
    ensure!(resolver.asked() == asked, "it was looked up again");
    lab.stop(node)
}

fn name_moves() -> Result<()> {
    let lab = lab()?;
    lab.connect_client()?;
    lab.hub.ip(&format!("addr add {THE_NEW_HUB}/24 dev eth0"))?;
    let resolver = lab.resolver(&[THE_HUB])?;
    let node = lab.start(
        "routes = [\"0.0.0.0/0\"]\nkill_switch = true\n",
        "allowed_ips = [\"0.0.0.0/0\"]\npersistent_keepalive = 1\n",
    )?;
    ensure_answers_within(&lab.client, "10.4.0.1".parse()?, LATE)?;
    drop(resolver);
    // Silence: nobody says that the old address is gone, and what the hub itself sends from it
    // doesn't arrive either.
    lab.net.ip(&format!("route add blackhole {THE_HUB}/32"))?;
    let silent = format!("rule add from {THE_HUB} pref 1 blackhole");
    lab.net.ip(&silent)?;
    let _resolver = lab.resolver(&[THE_NEW_HUB])?;
    let start = Instant::now();
    ensure_answers_within(&lab.client, "10.4.0.1".parse()?, MOVED).with_context(|| node.log())?;
    println!("followed after {:?}", start.elapsed());
    let status = node.tell(&["status"])?;
    ensure!(status.contains(THE_NEW_HUB), "{status}");
    lab.stop(node)
}

fn network_comes_later() -> Result<()> {
    let lab = lab()?;
    let _resolver = lab.resolver(&[NOBODY_V6, NOBODY, THE_HUB])?;
    // Only the first IPv4 address is told by that server; the hub gets both.
    lab.hub.ip(&format!("addr add {NOBODY}/24 dev eth0"))?;
    let node = lab.start(
        "routes = [\"0.0.0.0/0\", \"::/0\"]\nkill_switch = true\ndns = [\"10.4.0.1\"]\n",
        "allowed_ips = [\"0.0.0.0/0\"]\n",
    )?;
    let resolv_conf = fs::read_to_string(lab.files.path().join("resolv.conf"))?;
    ensure!(resolv_conf.contains("10.4.0.1"), "{resolv_conf}");
    ensure!(!resolv_conf.contains(NAME_SERVER), "{resolv_conf}");
    // So that a look-up has failed while everything goes into the tunnel.
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(3) {
        ensure!(Path::new("/proc").join(node.pid().to_string()).exists());
        std::thread::sleep(Duration::from_millis(100));
    }
    lab.connect_client()?;
    ensure_answers_within(&lab.client, "10.4.0.1".parse()?, LATE).with_context(|| node.log())?;
    lab.stop(node)
}
