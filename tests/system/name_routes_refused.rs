//! What `[dns_routes]` must not do: lead others' addresses into the tunnel, let an answer out
//! whose addresses aren't led, and answer those who don't come through the tunnel.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use taltun_tests::node::{Keys, Node};
use taltun_tests::sys::Signal;
use taltun_tests::traffic::dns;

use crate::name_routes_lab::NamesLab;
use crate::support::{Case, ensure_answers, taltun};

const LIMIT: Duration = Duration::from_secs(15);
/// For an answer that must not come.
const SILENCE: Duration = Duration::from_secs(1);
const OUR_RESOLVER: &str = "10.4.0.2";
/// Names, all of the list but the last, and where they are.
const NAMES: &[(&str, &str)] = &[
    ("good.example.net", "198.18.0.80"),
    ("inside.example.net", "10.4.0.1"),
    ("peer.example.net", "192.168.77.5"),
    ("other.example.net", "10.4.0.9"),
    ("self.example.net", "10.4.0.2"),
    ("host.example.net", "192.168.1.2"),
    ("home.example.net", "192.168.1.9"),
    ("router.example.net", "192.168.1.1"),
    ("hub.example.net", "203.0.113.1"),
    ("server.example.net", "198.18.0.53"),
    ("local.example.net", "127.0.0.1"),
    ("link.example.net", "169.254.1.1"),
    ("many.example.net", "224.0.0.251"),
    ("home6.example.net", "2001:db8:4::9"),
    ("peer.example.org", "192.168.77.5"),
];
/// Those that are answered.
const ANSWERED: [&str; 3] = ["good.example.net", "inside.example.net", "peer.example.org"];

pub const CASES: &[Case] = &[Case {
    name: "dns_routes lead no address of another peer's, of this machine's networks or of the tunnel's own, and answer only through the tunnel",
    programs: &[],
    run: refused,
}];

fn refused() -> Result<()> {
    let lab = NamesLab::start(NAMES, 60)?;
    let NamesLab {
        hub, client, net, ..
    } = &lab;

    let key = || Keys::generate(&taltun()?);
    let (ours, theirs, office) = (key()?, key()?, key()?);
    let text = format!(
        "[interface]\nmode = \"server\"\nvip = \"10.4.0.1/24\"\nprivate_key = \"{}\"\n\
         [[peers]]\npublic_key = \"{}\"\nvip = \"10.4.0.2\"\n",
        theirs.private, ours.public
    );
    let hub_node = Node::start_with_text(hub, &taltun()?, &text)?;
    let text = |office_nets: &str| {
        format!(
            "[interface]\nvip = [\"10.4.0.2/24\", \"fd04::2/64\"]\nprivate_key = \"{}\"\n\
             [[peers]]\nname = \"hub\"\npublic_key = \"{}\"\nvip = \"10.4.0.1\"\n\
             allowed_ips = [\"0.0.0.0/0\", \"::/0\"]\n\
             endpoint = \"203.0.113.1:9000\"\n\
             [[peers]]\nname = \"office\"\npublic_key = \"{}\"\nvip = \"10.4.0.3\"\n\
             allowed_ips = [{office_nets}]\n\
             [dns_routes]\ndomains = [\"*.example.net\"]\nvia = \"hub\"\n\
             upstream = [\"198.18.0.53\"]\n",
            ours.private, theirs.public, office.public
        )
    };
    let node = Node::start_with_text(client, &taltun()?, &text("\"192.168.77.0/24\""))?;
    ensure_answers(client, "10.4.0.1".parse()?)?;

    for (name, address) in NAMES {
        let v6 = address.contains(':');
        let answer = dns::ask(client, OUR_RESOLVER.parse()?, name, v6, LIMIT)
            .with_context(|| (*name).to_owned())?;
        let expected = ANSWERED
            .contains(name)
            .then(|| address.parse())
            .transpose()?;
        ensure!(answer == expected, "{name}: {answer:?}");
    }
    let owned = |peer: usize| -> Result<Vec<String>> {
        let status: serde_json::Value = serde_json::from_str(&node.tell(&["status", "--json"])?)?;
        let nets = status["peers"][peer]["allowed_ips"].as_array();
        let nets = nets.context("a peer is missing")?.iter();
        Ok(nets.map(ToString::to_string).collect())
    };
    let of_hub = owned(0)?;
    ensure!(of_hub.len() == 4, "the hub owns {of_hub:?}");
    let log = node.log();
    ensure!(
        log.contains("dns_routes: ") && log.contains("isn't led into the tunnel"),
        "{log}"
    );

    // What another peer owns by now is let go: the live peers count.
    std::fs::write(
        node.config(),
        text("\"192.168.77.0/24\", \"198.18.0.0/25\""),
    )?;
    node.tell(&["reload"])?;
    let of_hub = owned(0)?;
    ensure!(of_hub.len() == 3, "the hub owns {of_hub:?}");
    let resolver = OUR_RESOLVER.parse()?;
    let answer = dns::ask(client, resolver, "good.example.net", false, LIMIT)?;
    ensure!(answer.is_none(), "{answer:?}");

    // The router reaches the vip, and gets no answer.
    net.ip("route add 10.4.0.2/32 via 192.168.1.2")?;
    let from_outside = dns::ask(net, resolver, "www.example.org", false, SILENCE);
    ensure!(from_outside.is_err(), "{from_outside:?}");
    // The hub comes through the tunnel.
    let from_inside = dns::ask(hub, resolver, "peer.example.org", false, LIMIT)?;
    ensure!(from_inside.is_some(), "{from_inside:?}");
    node.stop(Signal::Terminate)?;
    hub_node.stop(Signal::Terminate)
}
