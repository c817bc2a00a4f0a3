//! `[dns_routes]` and what others have on the host: an answer is passed on only if packets to its
//! addresses go into the tunnel, and what goes around it later is told.

use std::net::IpAddr;
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
    ("routed.example.net", "198.18.0.80"),
    ("ruled.example.net", "198.51.100.81"),
    ("www.example.net", "192.0.2.82"),
    ("www6.example.net", "2001:db8:18::80"),
];

pub const CASES: &[Case] = &[Case {
    name: "dns_routes: an address that others' routes or rules lead around the tunnel isn't answered, and is told",
    programs: &[],
    run: around,
}];

fn around() -> Result<()> {
    let lab = NamesLab::start(NAMES, 600)?;
    let NamesLab { hub, client, .. } = &lab;

    let (ours, theirs) = (Keys::generate(&taltun()?)?, Keys::generate(&taltun()?)?);
    let text = format!(
        "[interface]\nmode = \"server\"\nvip = \"10.4.0.1/24\"\nprivate_key = \"{}\"\n\
         [[peers]]\npublic_key = \"{}\"\nvip = \"10.4.0.2\"\n",
        theirs.private, ours.public
    );
    let hub_node = Node::start_with_text(hub, &taltun()?, &text)?;
    let text = format!(
        "[interface]\nvip = [\"10.4.0.2/24\", \"fd04::2/64\"]\nprivate_key = \"{}\"\n\
         routes = [\"198.18.0.64/26\"]\n\
         [[peers]]\nname = \"hub\"\npublic_key = \"{}\"\nvip = \"10.4.0.1\"\n\
         allowed_ips = [\"198.18.0.64/26\"]\nendpoint = \"203.0.113.1:9000\"\n\
         [dns_routes]\ndomains = [\"*.example.net\"]\nvia = \"hub\"\n\
         upstream = [\"198.18.0.53\"]\n",
        ours.private, theirs.public
    );
    let node = Node::start_with_text(client, &taltun()?, &text)?;
    ensure_answers(client, "10.4.0.1".parse()?)?;
    let ask = |name: &str| -> Result<Option<IpAddr>> {
        let v6 = name.starts_with("www6");
        dns::ask(client, OUR_RESOLVER.parse()?, name, v6, LIMIT).with_context(|| name.to_owned())
    };
    let way = |address: &str| client.ip(&format!("route get {address}"));

    // A route of ours to a network, and another's to one address of it.
    client.ip("route add 198.18.0.80/32 via 192.168.1.1")?;
    ensure!(ask("routed.example.net")?.is_none());
    client.ip("route del 198.18.0.80/32 via 192.168.1.1")?;
    ensure!(ask("routed.example.net")?.is_some());

    // A policy rule comes before all routes of the main table.
    client.ip("route add default via 192.168.1.1 table 100")?;
    let rule = "pref 100 to 198.51.100.0/24 lookup 100";
    client.ip(&format!("rule add {rule}"))?;
    ensure!(ask("ruled.example.net")?.is_none());
    let status = node.tell(&["status", "--long"])?;
    ensure!(!status.contains("198.51.100.81"), "{status}");
    client.ip(&format!("rule del {rule}"))?;
    ensure!(ask("ruled.example.net")?.is_some());
    ensure!(way("198.51.100.81")?.contains("dev taltun0"));

    // By IPv6 another route to the same address may stand beside ours.
    ensure!(ask("www6.example.net")?.is_some());
    client.ip("-6 route add 2001:db8:18::80/128 via 2001:db8:4::ff metric 100")?;
    let found = way("2001:db8:18::80")?;
    ensure!(found.contains("dev taltun0"), "{found}");
    ensure!(ask("www6.example.net")?.is_some());

    // What was led, and goes around the tunnel later.
    ensure!(ask("www.example.net")?.is_some());
    let rule = "pref 100 to 192.0.2.0/24 lookup 100";
    client.ip(&format!("rule add {rule}"))?;
    eventually("status shows what goes around", UP_LIMIT, || {
        let status = node.tell(&["status"])?;
        Ok(status.contains("192.0.2.82: a route or a policy rule leads it through eth0"))
    })?;
    ensure!(ask("www.example.net")?.is_none());
    client.ip(&format!("rule del {rule}"))?;
    eventually("it goes into the tunnel again", UP_LIMIT, || {
        Ok(node.log().contains("192.0.2.82 goes into the tunnel again"))
    })?;
    ensure!(ask("www.example.net")?.is_some());
    let status: serde_json::Value = serde_json::from_str(&node.tell(&["status", "--json"])?)?;
    ensure!(status["names_around"] == serde_json::json!([]), "{status}");
    let log = node.log();
    let told = "dns_routes: 198.18.0.80 isn't led into the tunnel";
    ensure!(log.contains(told) && log.contains("through eth0"), "{log}");
    node.stop(Signal::Terminate)?;
    hub_node.stop(Signal::Terminate)
}
