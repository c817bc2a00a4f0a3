//! A tunnel for some names only: `[dns_routes]`, with a name server of our own.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use taltun_tests::netns::Namespace;
use taltun_tests::node::{Keys, Node};
use taltun_tests::recipes::internet::{self, HOME, HUB, WORLD};
use taltun_tests::snapshot::Snapshot;
use taltun_tests::sys::Signal;
use taltun_tests::topology::private_prefix;
use taltun_tests::traffic::dns::{self, Resolver};
use taltun_tests::traffic::service::{self, Service};

use crate::support::{Case, UP_LIMIT, ensure_answers, eventually, taltun};

const LIMIT: Duration = Duration::from_secs(5);
/// For what is tried again.
const SHORT: Duration = Duration::from_secs(1);
/// Seconds that the name server lets its answers be remembered for.
const TTL: u32 = 5;
/// Names inside and outside the tunnel, and where they are.
const NAMES: &[(&str, &str)] = &[
    ("example.com", "198.18.0.80"),
    ("www.example.net", "198.18.0.80"),
    ("www.example.net", "2001:db8:18::80"),
    ("www.example.org", "198.18.0.81"),
    ("example.net", "198.18.0.81"),
];
const CLIENT: &str = "192.168.1.2";
const CLIENT_V6: &str = "2001:db8:4::2";
const THE_HUB: &str = "203.0.113.1";
const THE_HUB_V6: &str = "2001:db8:1::1";

pub const CASES: &[Case] = &[Case {
    name: "recipes: names choose the tunnel, by IPv4 and IPv6, for as long as they may be remembered",
    programs: &["nft"],
    run: names_choose,
}];

fn names_choose() -> Result<()> {
    let prefix = private_prefix();
    let net = Namespace::create(&format!("{prefix}-net"))?;
    internet::make_router(&net)?;
    let machine = |name: &str, link| -> Result<Namespace> {
        let namespace = Namespace::create(&format!("{prefix}-{name}"))?;
        internet::connect(
            (&namespace, "eth0"),
            (&net, &format!("to-{name}")),
            link,
            true,
        )?;
        Ok(namespace)
    };
    let (hub, client, world) = (
        machine("hub", HUB)?,
        machine("client", HOME)?,
        machine("world", WORLD)?,
    );
    for more in ["198.18.0.81/24", "198.18.0.53/24"] {
        world.ip(&format!("addr add {more} dev eth0"))?;
    }
    let names = NAMES
        .iter()
        .map(|(name, address)| Ok((*name, address.parse()?)))
        .collect::<Result<Vec<(&str, IpAddr)>>>()?;
    let _resolver = Resolver::with_names(&world, "198.18.0.53".parse()?, names, TTL)?;
    let mut services = Vec::new();
    for at in ["198.18.0.80:80", "198.18.0.81:80", "[2001:db8:18::80]:80"] {
        services.push(Service::start(&world, at.parse()?)?);
    }
    let before = Snapshot::take(&client)?;

    let (ours, theirs) = (Keys::generate(&taltun()?)?, Keys::generate(&taltun()?)?);
    let text = format!(
        "[interface]\nmode = \"server\"\nvip = [\"10.4.0.1/24\", \"fd04::1/64\"]\n\
         private_key = \"{}\"\nip_forward = true\n[nat]\nmasquerade = true\n\
         [[peers]]\npublic_key = \"{}\"\nvip = [\"10.4.0.2\", \"fd04::2\"]\n",
        theirs.private, ours.public
    );
    let hub_node = Node::start_with_text(&hub, &taltun()?, &text)?;
    let text = format!(
        "[interface]\nvip = [\"10.4.0.2/24\", \"fd04::2/64\"]\nprivate_key = \"{}\"\n\
         [[peers]]\nname = \"hub\"\npublic_key = \"{}\"\nvip = [\"10.4.0.1\", \"fd04::1\"]\n\
         endpoint = \"203.0.113.1:9000\"\n\
         [dns_routes]\ndomains = [\"example.com\", \"*.example.net\"]\nvia = \"hub\"\n\
         upstream = [\"198.18.0.81\", \"198.18.0.53\"]\nkeep_seconds = 0\n",
        ours.private, theirs.public
    );
    let node = Node::start_with_text(&client, &taltun()?, &text)?;
    ensure_answers(&client, "10.4.0.1".parse()?)?;

    // Before anybody has asked, all of it goes around the tunnel.
    sees(&client, "198.18.0.80", CLIENT)?;
    ask(&client, "www.example.net", false, Some("198.18.0.80"))?;
    sees(&client, "198.18.0.80", THE_HUB)?;
    ask(&client, "www.example.net", true, Some("2001:db8:18::80"))?;
    sees(&client, "2001:db8:18::80", THE_HUB_V6)?;
    // Others go around it still.
    ask(&client, "www.example.org", false, Some("198.18.0.81"))?;
    ask(&client, "example.net", false, Some("198.18.0.81"))?;
    ask(&client, "nobody.example.net", false, None)?;
    sees(&client, "198.18.0.81", CLIENT)?;

    // A reload keeps what was learned, and its end comes all the same.
    ask(&client, "example.com", false, Some("198.18.0.80"))?;
    node.tell(&["reload"])?;
    sees(&client, "198.18.0.80", THE_HUB)?;
    // A visit whose way changes under it comes to nothing.
    let goes_around = |service, from| sees_within(&client, service, from, SHORT).is_ok();
    eventually("the addresses are let go", 2 * UP_LIMIT, || {
        Ok(goes_around("198.18.0.80", CLIENT) && goes_around("2001:db8:18::80", CLIENT_V6))
    })?;
    let status = node.tell(&["status", "--long"])?;
    ensure!(!status.contains("198.18.0.80"), "{status}");

    // In force to the end, and then gone.
    ask(&client, "example.com", false, Some("198.18.0.80"))?;
    node.stop(Signal::Terminate)?;
    hub_node.stop(Signal::Terminate)?;
    let changes = before.difference(&Snapshot::take(&client)?);
    ensure!(changes.is_empty(), "{changes:?}");
    Ok(())
}

fn sees(from: &Namespace, service: &str, expected: &str) -> Result<()> {
    sees_within(from, service, expected, LIMIT)
}

fn sees_within(from: &Namespace, service: &str, expected: &str, limit: Duration) -> Result<()> {
    let service = SocketAddr::new(service.parse()?, 80);
    let seen = service::visit(from, service, limit)?;
    ensure!(
        seen == expected.parse::<IpAddr>()?,
        "{service} saw {seen}, not {expected}"
    );
    Ok(())
}

fn ask(from: &Namespace, name: &str, v6: bool, expected: Option<&str>) -> Result<()> {
    let server = "10.4.0.2".parse()?;
    let answer = dns::ask(from, server, name, v6, LIMIT).with_context(|| name.to_owned())?;
    let expected = expected.map(str::parse::<IpAddr>).transpose()?;
    ensure!(answer == expected, "{name} is at {answer:?}");
    Ok(())
}
