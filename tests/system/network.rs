//! A full tunnel, and the network that it runs over: what comes in from outside, what goes
//! around, what fits, and where there is no way.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use taltun_tests::command::find;
use taltun_tests::node::{Keys, Node};
use taltun_tests::sys::Signal;
use taltun_tests::topology::{Pair, WIRE_A, private_prefix};
use taltun_tests::traffic::service::{Service, visit};

use crate::support::{Case, UP_LIMIT, eventually, taltun};

pub const CASES: &[Case] = &[
    Case {
        name: "network: what others open from outside is answered around a full tunnel, by nftables",
        programs: &["nft"],
        run: || from_outside("nftables"),
    },
    Case {
        name: "network: what others open from outside is answered around a full tunnel, by iptables",
        programs: &["iptables"],
        run: || from_outside("iptables"),
    },
    Case {
        name: "network: status names the routes that lead out of a full tunnel, as they come and go",
        programs: &[],
        run: around,
    },
    Case {
        name: "network: the MTU follows the way to the endpoint, and one that doesn't fit is named",
        programs: &[],
        run: mtu,
    },
    Case {
        name: "network: an endpoint without a route is named, and so is one on this machine",
        programs: &[],
        run: no_way,
    },
    Case {
        name: "network: the vip's own network on another interface is told with the remedy",
        programs: &[],
        run: same_network,
    },
];

/// A client with a full tunnel to `endpoint`.
fn client(endpoint: &str, more: &str) -> Result<String> {
    let program = taltun()?;
    let (ours, theirs) = (Keys::generate(&program)?, Keys::generate(&program)?);
    Ok(format!(
        "[interface]\ntun_name = \"taltun0\"\nvip = \"10.200.0.2/24\"\nlocal_addr = \"[::]:9000\"\n\
         private_key = \"{}\"\nroutes = [\"0.0.0.0/0\", \"::/0\"]\n{more}\n\
         [[peers]]\nname = \"hub\"\npublic_key = \"{}\"\nendpoint = \"{endpoint}\"\n\
         allowed_ips = [\"0.0.0.0/0\", \"::/0\"]\n",
        ours.private, theirs.public
    ))
}

fn start(pair: &Pair, endpoint: &str, more: &str) -> Result<Node> {
    Node::start_with_text(&pair.left, &taltun()?, &client(endpoint, more)?)
}

fn status(node: &Node) -> Result<Value> {
    Ok(serde_json::from_str(&node.tell(&["status", "--json"])?)?)
}

/// A server on the left, and somebody on the internet behind the right one.
fn from_outside(firewall: &str) -> Result<()> {
    let pair = Pair::create(&private_prefix())?;
    pair.right.ip("addr add 198.51.100.9/32 dev lo")?;
    pair.right.ip("addr add fd77::9/128 dev lo")?;
    pair.left
        .ip(&format!("route add default via {}", WIRE_A.far_v4()))?;
    pair.left
        .ip(&format!("-6 route add default via {}", WIRE_A.far_v6()))?;
    for (near, from) in [
        (
            WIRE_A.near_v4(),
            "route replace {} dev to-left src 198.51.100.9",
        ),
        (
            WIRE_A.near_v6(),
            "-6 route add {} dev to-left src fd77::9 metric 1",
        ),
    ] {
        let route = from.replace("{}", &near.to_string());
        pair.right.ip(&route)?;
    }
    let node = start(
        &pair,
        "203.0.113.1:9000",
        &format!("firewall = \"{firewall}\""),
    )?;
    for (near, from) in [
        (WIRE_A.near_v4(), "198.51.100.9"),
        (WIRE_A.near_v6(), "fd77::9"),
    ] {
        let service = Service::start(&pair.left, SocketAddr::new(near, 7777))?;
        let seen = visit(&pair.right, service.address(), Duration::from_secs(5))?;
        ensure!(seen == from.parse::<std::net::IpAddr>()?, "it saw {seen}");
    }
    // What the server itself opens goes into the tunnel as ever.
    let way = pair.left.ip("route get 198.51.100.9")?;
    ensure!(way.contains("dev taltun0"), "{way}");
    node.stop(Signal::Terminate)
}

fn around() -> Result<()> {
    let pair = Pair::create(&private_prefix())?;
    let far = WIRE_A.far_v4();
    pair.left.ip(&format!("route add default via {far}"))?;
    pair.left
        .ip(&format!("route add 8.0.0.0/7 via {far} proto dhcp"))?;
    pair.left.ip("addr add 11.0.0.7/8 dev to-right")?;
    let node = start(&pair, "203.0.113.1:9000", "")?;
    let nets = || -> Result<Vec<String>> {
        let status = status(&node)?;
        let routes = status["routes_around"].as_array().context("no routes")?;
        Ok(routes
            .iter()
            .filter_map(|route| route["net"].as_str().map(str::to_owned))
            .filter(|net| !net.contains(':'))
            .collect())
    };
    // The network 10.99.1.0/24 that the interface is on is private, and wanted.
    eventually("both are named", UP_LIMIT, || {
        Ok(nets()? == ["8.0.0.0/7", "11.0.0.0/8"])
    })?;
    let text = node.tell(&["status"])?;
    ensure!(
        text.contains(&format!("8.0.0.0/7 via {far} dev to-right (dhcp)")),
        "{text}"
    );
    ensure!(
        node.log().contains("goes around the tunnel"),
        "{}",
        node.log()
    );
    let advice = |net: &str| {
        let log = node.log();
        let mut lines = log.lines();
        let line = lines.find(|line| line.contains(net) && line.contains("goes around"));
        line.map_or_else(String::new, str::to_owned)
    };
    let theirs = advice("8.0.0.0/7");
    ensure!(
        theirs.contains("remove it if you don't know it"),
        "{theirs}"
    );
    // Without its own network a machine has no router.
    let own = advice("11.0.0.0/8");
    ensure!(
        own.contains("this machine is on that network itself"),
        "{own}"
    );
    ensure!(!own.contains("remove it"), "{own}");
    pair.left.ip(&format!("route add 203.0.0.0/8 via {far}"))?;
    eventually("a route added since is named", UP_LIMIT, || {
        Ok(nets()?.contains(&"203.0.0.0/8".to_owned()))
    })?;
    pair.left.ip("route delete 203.0.0.0/8")?;
    pair.left.ip("route delete 8.0.0.0/7")?;
    eventually("those that are gone aren't", UP_LIMIT, || {
        Ok(nets()? == ["11.0.0.0/8"])
    })?;
    node.stop(Signal::Terminate)?;
    // A kill switch lets nothing go there, which status says and the log doesn't warn of.
    if find("nft").is_some() {
        let node = start(&pair, "203.0.113.1:9000", "kill_switch = true")?;
        let expected = "11.0.0.0/8 dev to-right (kernel), refused by the kill switch";
        eventually("status says it", UP_LIMIT, || {
            Ok(node.tell(&["status"])?.contains(expected))
        })?;
        ensure!(!node.log().contains("goes around"), "{}", node.log());
        node.stop(Signal::Terminate)?;
    }
    Ok(())
}

fn mtu() -> Result<()> {
    let pair = Pair::create(&private_prefix())?;
    let endpoint = format!("{}:9000", WIRE_A.far_v4());
    let is = |namespace: &taltun_tests::netns::Namespace, mtu: &str| -> Result<bool> {
        Ok(namespace
            .ip("link show taltun0")?
            .contains(&format!("mtu {mtu} ")))
    };
    for side in [&pair.left, &pair.right] {
        let name = if side.name() == pair.left.name() {
            "to-right"
        } else {
            "to-left"
        };
        side.ip(&format!("link set {name} mtu 1492"))?;
    }
    let node = start(&pair, &endpoint, "")?;
    ensure!(
        is(&pair.left, "1412")?,
        "{}",
        pair.left.ip("link show taltun0")?
    );
    // Another way takes over.
    let far = WIRE_A.far_v4();
    pair.left
        .ip(&format!("route add {far} dev to-right mtu 1400"))?;
    eventually("the MTU follows", UP_LIMIT, || is(&pair.left, "1320"))?;
    node.stop(Signal::Terminate)?;
    let node = start(&pair, &endpoint, "mtu = 1420")?;
    eventually("a warning", UP_LIMIT, || {
        Ok(node.log().contains("set interface.mtu = 1320 (up to 1340"))
    })?;
    ensure!(is(&pair.left, "1420")?, "it was changed");
    node.stop(Signal::Terminate)
}

fn same_network() -> Result<()> {
    let pair = Pair::create(&private_prefix())?;
    pair.left.ip("addr add 10.200.0.9/24 dev to-right")?;
    let node = start(&pair, "203.0.113.1:9000", "")?;
    for expected in [
        "10.200.0.0/24 is the network of to-right too",
        "choose a vip in another network, or vip = \"10.200.0.2/32\" and the peers' networks in routes",
    ] {
        ensure!(node.log().contains(expected), "{}", node.log());
    }
    node.stop(Signal::Terminate)
}

fn no_way() -> Result<()> {
    let pair = Pair::create(&private_prefix())?;
    let node = start(&pair, "203.0.113.1:9000", "")?;
    eventually("it is named", UP_LIMIT, || {
        Ok(status(&node)?["peers"][0]["unreachable"] == "no route to 203.0.113.1")
    })?;
    ensure!(
        node.log().contains("hub: no route to 203.0.113.1"),
        "{}",
        node.log()
    );
    ensure!(node.tell(&["status"])?.contains("no route to 203.0.113.1"));
    pair.left
        .ip(&format!("route add default via {}", WIRE_A.far_v4()))?;
    eventually("a route came", UP_LIMIT, || {
        Ok(status(&node)?["peers"][0]["unreachable"].is_null())
    })?;
    node.stop(Signal::Terminate)?;
    for endpoint in [
        "127.0.0.1:51821".to_owned(),
        format!("{}:51821", WIRE_A.near_v4()),
    ] {
        let node = start(&pair, &endpoint, "")?;
        let expected = format!("its endpoint {endpoint} is this machine itself");
        eventually("a warning", UP_LIMIT, || Ok(node.log().contains(&expected)))?;
        node.stop(Signal::Terminate)?;
    }
    Ok(())
}
