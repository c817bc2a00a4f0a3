//! What `[dns_routes]` led stays led: programs remember an address beyond a crash or a restart.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use taltun_tests::node::{Keys, Node};
use taltun_tests::sys::Signal;
use taltun_tests::traffic::dns;

use crate::name_routes_lab::NamesLab;
use crate::support::{Case, UP_LIMIT, ensure_answers, eventually, taltun};

const LIMIT: Duration = Duration::from_secs(15);
const OUR_RESOLVER: &str = "10.4.0.2";
const NAMES: &[(&str, &str)] = &[
    ("www.example.net", "198.18.0.80"),
    ("api.example.net", "198.18.0.81"),
    ("www.example.com", "198.18.0.82"),
    // One address of two names.
    ("www.example.org", "198.18.0.81"),
];

pub const CASES: &[Case] = &[Case {
    name: "dns_routes lead what programs may remember after a crash, a restart and a changed list, and no more",
    programs: &[],
    run: remembered,
}];

fn remembered() -> Result<()> {
    let lab = NamesLab::start(NAMES, 600)?;
    let NamesLab { hub, client, .. } = &lab;

    let (ours, theirs) = (Keys::generate(&taltun()?)?, Keys::generate(&taltun()?)?);
    let text = format!(
        "[interface]\nmode = \"server\"\nvip = \"10.4.0.1/24\"\nprivate_key = \"{}\"\n\
         [[peers]]\npublic_key = \"{}\"\nvip = \"10.4.0.2\"\n",
        theirs.private, ours.public
    );
    let hub_node = Node::start_with_text(hub, &taltun()?, &text)?;
    let text = |domains: &str| {
        format!(
            "[interface]\nvip = \"10.4.0.2/24\"\nprivate_key = \"{}\"\n\
             [[peers]]\nname = \"hub\"\npublic_key = \"{}\"\nvip = \"10.4.0.1\"\n\
             endpoint = \"203.0.113.1:9000\"\n\
             [dns_routes]\ndomains = [{domains}]\nvia = \"hub\"\n\
             upstream = [\"198.18.0.53\"]\n",
            ours.private, theirs.public
        )
    };
    let mut node = Node::start_with_text(client, &taltun()?, &text("\"*.example.net\""))?;
    ensure_answers(client, "10.4.0.1".parse()?)?;
    let ask = |name: &str| -> Result<()> {
        let answer = dns::ask(client, OUR_RESOLVER.parse()?, name, false, LIMIT)?;
        answer.map(drop).with_context(|| format!("no {name}"))
    };
    let inside = |address: &str| -> Result<bool> {
        let route = client.ip(&format!("route get {address}"))?;
        Ok(route.contains("dev taltun0"))
    };
    ask("www.example.net")?;
    ask("api.example.net")?;
    ensure!(inside("198.18.0.80")? && inside("198.18.0.81")?);
    // It is no change of the peer that a name has an address.
    let told = node.tell(&["reload"])?;
    ensure!(told.contains("nothing has changed"), "{told}");

    for signal in [None, Some(Signal::Terminate), None] {
        match signal {
            Some(signal) => node.end(signal)?,
            None => node.kill()?,
        }
        ensure!(!inside("198.18.0.80")?);
        node.start_again(client)?;
        for address in ["198.18.0.80", "198.18.0.81"] {
            ensure!(inside(address)?, "{address} after {signal:?}");
        }
        let status = node.tell(&["status", "--long"])?;
        ensure!(status.contains("198.18.0.80/32"), "{status}");
    }

    // Another list: what isn't on it is let go, and what is new on it is led.
    let list = "\"api.example.net\", \"*.example.com\"";
    std::fs::write(node.config(), text(list))?;
    let told = node.tell(&["reload"])?;
    ensure!(told.contains("dns_routes changed"), "{told}");
    eventually("the name that went is let go", UP_LIMIT, || {
        Ok(!inside("198.18.0.80")?)
    })?;
    ensure!(inside("198.18.0.81")?);
    ask("www.example.com")?;
    ask("www.example.net")?;
    ensure!(inside("198.18.0.82")? && !inside("198.18.0.80")?);

    // A list that changes while nothing runs.
    node.kill()?;
    std::fs::write(node.config(), text("\"api.example.net\""))?;
    node.start_again(client)?;
    for (address, expected) in [
        ("198.18.0.80", false),
        ("198.18.0.81", true),
        ("198.18.0.82", false),
    ] {
        ensure!(inside(address)? == expected, "{address}");
    }

    // Nonsense in the file is a warning; the next answer is kept again.
    let state = node.directory().join("state/taltun0");
    let file = std::fs::read_dir(&state)?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .find(|path| path.to_string_lossy().contains("dns_routes."))
        .context("no file of led names")?;
    node.kill()?;
    std::fs::write(&file, "nonsense")?;
    node.start_again(client)?;
    ensure!(!inside("198.18.0.81")?);
    let log = node.log();
    ensure!(log.contains("not the names of this version"), "{log}");
    ask("api.example.net")?;
    node.kill()?;
    node.start_again(client)?;
    ensure!(inside("198.18.0.81")?);
    node.stop(Signal::Terminate)?;
    hub_node.stop(Signal::Terminate)
}
