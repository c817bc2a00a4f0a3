//! `[[rules]]`: who may start what with whom, on all three ways of a packet.
//!
//! The hub has two peers, ana and luis. The file says what ana may start with luis; luis may start
//! nothing with her, and his answers pass.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use taltun_tests::node::Keys;
use taltun_tests::topology::private_prefix;
use taltun_tests::traffic::ping::Pinger;
use taltun_tests::traffic::service::{Service, ensure_closed, visit};
use taltun_tests::traffic::stream::Stream;

use crate::support::{Case, ensure_answers, ensure_silent};
use crate::two_peers::{TwoPeers, checked, generate};

pub const CASES: &[Case] = &[
    Case {
        name: "rules: one peer may start, the other may answer, and the hub is apart",
        programs: &[],
        run: || who_may_start(true),
    },
    Case {
        name: "rules: the same where the kernel relays",
        programs: &[],
        run: || who_may_start(false),
    },
    Case {
        name: "rules: a reload judges connections anew",
        programs: &[],
        run: reload,
    },
    Case {
        name: "rules: fragments pass with their first, and are dropped with it",
        programs: &[],
        run: fragments,
    },
    Case {
        name: "rules: check says which can't be meant so",
        programs: &[],
        run: check,
    },
];

const LIMIT: Duration = Duration::from_secs(10);
/// What is dropped has no answer within this.
const SILENCE: Duration = Duration::from_millis(600);
pub const HUB: [&str; 2] = ["10.200.0.1", "fd00:200::1"];
const ANA: [&str; 2] = ["10.200.0.2", "fd00:200::2"];
const LUIS: [&str; 2] = ["10.200.0.3", "fd00:200::3"];

/// Ana prints at luis's, and everybody may ping the hub.
const RULES: &str = r#"
[policy]
default = "deny"
[groups]
staff = ["ana"]
all = ["staff", "luis"]
[[rules]]
from = "staff"
to = "luis"
allow = ["tcp/631", "icmp"]
log = true
[[rules]]
from = "all"
to = "hub"
allow = "icmp"
[[rules]]
from = "hub"
to = ["10.200.0.2/32", "fd00:200::2/128"]
allow = "tcp/80"
"#;

/// A hub with these rules.
pub fn start(rules: &str, relays: bool) -> Result<TwoPeers> {
    TwoPeers::start(|keys| text(keys, relays, rules))
}

/// Has a hub that relays read other rules.
fn reload_with(hub: &TwoPeers, rules: &str) -> Result<String> {
    hub.reload(&text(&hub.keys, true, rules))
}

fn text(keys: &[Keys; 3], relays: bool, rules: &str) -> String {
    format!(
        "[interface]\nmode = \"server\"\nlocal_addr = \":9100\"\nvip = [\"10.200.0.1/24\", \"fd00:200::1/64\"]\n\
         private_key = \"{}\"\nrelay = {relays}\nip_forward = {}\n{}\n\
         [[peers]]\nname = \"ana\"\npublic_key = \"{}\"\nvip = [\"10.200.0.2\", \"fd00:200::2\"]\n\
         [[peers]]\nname = \"luis\"\npublic_key = \"{}\"\nvip = [\"10.200.0.3\", \"fd00:200::3\"]\n{rules}",
        keys[0].private, !relays, "debug = false", keys[1].public, keys[2].public
    )
}

fn at(address: &str, port: u16) -> Result<SocketAddr> {
    Ok(SocketAddr::new(address.parse::<IpAddr>()?, port))
}

fn who_may_start(relays: bool) -> Result<()> {
    let hub = start(RULES, relays)?;
    let (ana, luis) = (&hub.star.a, &hub.star.b);
    for family in 0..2 {
        let of_luis = Service::start(luis, at(LUIS[family], 631)?)?;
        let beside = Service::start(luis, at(LUIS[family], 632)?)?;
        let of_ana = Service::start(ana, at(ANA[family], 631)?)?;
        let of_hub = Service::start(&hub.star.hub, at(HUB[family], 631)?)?;
        let web = Service::start(ana, at(ANA[family], 80)?)?;
        let web_of_luis = Service::start(luis, at(LUIS[family], 80)?)?;

        let seen = visit(ana, of_luis.address(), LIMIT)?;
        ensure!(seen == ANA[family].parse::<IpAddr>()?, "{seen}");
        visit(&hub.star.hub, web.address(), LIMIT)?;
        let closed = [
            (ana, &beside),
            (ana, &of_hub),
            (luis, &of_ana),
            (luis, &web),
            (&hub.star.hub, &web_of_luis),
        ];
        for (from, service) in closed {
            ensure_closed(from, service.address(), SILENCE)?;
        }
        ensure_answers(ana, LUIS[family].parse()?)?;
        ensure_silent(luis, ANA[family].parse()?)?;
        ensure_answers(ana, HUB[family].parse()?)?;
        ensure_answers(luis, HUB[family].parse()?)?;
        ensure_silent(&hub.star.hub, LUIS[family].parse()?)?;
    }
    let status = hub.status()?;
    let policy = &status["policy"];
    ensure!(policy["default"] == "deny", "{policy}");
    let allowed = |rule: usize| policy["rules"][rule]["allowed"].as_u64();
    // A connection and a ping in each family.
    ensure!(allowed(0) >= Some(4), "{policy}");
    ensure!(allowed(1) >= Some(4) && allowed(2) >= Some(2), "{policy}");
    let count = |value: &Value| value.as_u64().context("no count");
    let by_tc = count(&policy["denied_by_tc"])?;
    let denied = count(&policy["by_default"]["denied"])?;
    ensure!(
        denied + by_tc == count(&status["drops"]["rule"])?,
        "{status}"
    );
    // Five pings of luis and five of the hub in each family, and five connections, of which TC may
    // have dropped the hub's.
    ensure!(denied >= 28 && denied + by_tc >= 30, "{policy}");
    let log = hub.node.log();
    ensure!(
        log.contains("allows 10.200.0.2 -> 10.200.0.3 tcp/631"),
        "{log}"
    );
    hub.end()
}

fn reload() -> Result<()> {
    let hub = start(RULES, true)?;
    let (ana, luis) = (&hub.star.a, &hub.star.b);
    let stream = Stream::start(ana, luis, at(LUIS[0], 631)?)?;
    stream.wait_for_more_than(1 << 20, LIMIT)?;
    // The same file again changes nothing.
    ensure!(reload_with(&hub, RULES)?.contains("nothing has changed"));
    let said = reload_with(&hub, &RULES.replace("tcp/631", "tcp/632"))?;
    ensure!(said.contains("rules changed"), "{said}");
    std::thread::sleep(Duration::from_millis(300));
    let before = stream.received();
    std::thread::sleep(Duration::from_millis(500));
    ensure!(stream.received() == before, "it goes on");
    reload_with(&hub, RULES)?;
    stream.wait_for_more_than(before + (1 << 20), 3 * LIMIT)?;
    stream.finish()?;
    // Without rules all is as it was before there were any.
    reload_with(&hub, "")?;
    ensure!(hub.status()?["policy"].is_null());
    ensure_answers(luis, ANA[0].parse()?)?;
    // What can't be meant so changes nothing.
    let refused = reload_with(
        &hub,
        "[[rules]]\nfrom = \"nobody\"\nto = \"hub\"\ndeny = \"any\"\n",
    );
    let refused = format!("{:#}", refused.err().context("it was taken")?);
    ensure!(refused.contains("nobody called \"nobody\""), "{refused}");
    ensure_answers(luis, ANA[0].parse()?)?;
    hub.end()
}

fn fragments() -> Result<()> {
    let hub = start(RULES, true)?;
    let (ana, luis) = (&hub.star.a, &hub.star.b);
    let server = luis.udp((LUIS[0], 5000))?;
    server.set_read_timeout(Some(SILENCE))?;
    let client = ana.udp((ANA[0], 0))?;
    let large = vec![7; 4000];
    let mut buffer = vec![0; 5000];
    client.send_to(&large, (LUIS[0], 5000))?;
    ensure!(server.recv(&mut buffer).is_err(), "it is denied");
    let drops = hub.status()?["drops"].clone();
    ensure!(drops["rule"] == 1 && drops["lost_fragment"] == 2, "{drops}");
    reload_with(&hub, &RULES.replace("\"icmp\"]", "\"icmp\", \"udp/5000\"]"))?;
    server.set_read_timeout(Some(LIMIT))?;
    client.send_to(&large, (LUIS[0], 5000))?;
    let (len, from) = server.recv_from(&mut buffer)?;
    ensure!(len == 4000, "{len} bytes");
    // And the answer, in fragments as well.
    client.set_read_timeout(Some(LIMIT))?;
    server.send_to(&large, from)?;
    ensure!(client.recv(&mut buffer)? == 4000);
    // A packet too large for the path is told of: that belongs to what was started.
    ensure!(Pinger::new(ana, LUIS[0].parse()?)?.ping(LIMIT)?.is_some());
    hub.end()
}

fn check() -> Result<()> {
    let keys = generate()?;
    let name = private_prefix();
    let said = |rules: &str| checked(&name, &text(&keys, true, rules));
    let rule =
        |from: &str, to: &str, what: &str| format!("[[rules]]\nfrom = {from}\nto = {to}\n{what}\n");
    let any = rule("\"ana\"", "\"any\"", "allow = \"any\"");
    let refused = [
        (
            rule("\"anna\"", "\"hub\"", "allow = \"any\""),
            "rules.from: there is nobody called \"anna\"; did you mean \"ana\"?",
        ),
        (
            rule("\"ana\"", "\"hub\"", "allow = \"http\""),
            "rules.allow: \"http\": no protocol",
        ),
        (
            rule("\"ana\"", "\"hub\"", "allow = \"tcp/9-5\""),
            "the range ends before it starts",
        ),
        (rule("\"ana\"", "\"hub\"", ""), "rules.allow: missing"),
        (
            rule("\"ana\"", "\"hub\"", "allow = \"any\"\ndeny = \"any\""),
            "allow is given too",
        ),
        (
            rule("[]", "\"hub\"", "allow = \"any\""),
            "the list is empty",
        ),
        (
            "[groups]\na = [\"b\"]\nb = [\"c\"]\nc = [\"a\"]\n".to_owned(),
            "is a member of itself",
        ),
        (
            "[groups]\nana = [\"luis\"]\n".to_owned(),
            "groups.ana: a peer is called that, too",
        ),
        (
            "[groups]\nhub = [\"luis\"]\n".to_owned(),
            "give the group another name",
        ),
        ("[groups]\nx = 5\n".to_owned(), "groups.x: expected "),
        (
            "[policy]\ndefault = \"drop\"\n".to_owned(),
            "policy.default: expected",
        ),
    ];
    for (rules, expected) in refused {
        let said = said(&rules)?;
        ensure!(said.contains(expected), "{rules}: {said}");
        ensure!(said.contains(".toml:"), "{said}");
    }
    let shadowed = said(&format!(
        "{any}{}",
        rule("\"ana\"", "\"luis\"", "deny = \"tcp/25\"")
    ))?;
    ensure!(shadowed.contains("this rule never decides"), "{shadowed}");
    let fine = said(&format!(
        "{}{any}",
        rule("\"ana\"", "\"luis\"", "deny = \"tcp/25\"")
    ))?;
    ensure!(!fine.contains("never decides"), "{fine}");
    let families = said(&rule("\"ana\"", "\"fd50::/64\"", "deny = \"ip/1\""))?;
    ensure!(
        families.contains("nothing goes from IPv4 to IPv6"),
        "{families}"
    );
    let anyway = said(&rule("\"ana\"", "\"luis\"", "allow = \"tcp/25\""))?;
    ensure!(anyway.contains("set default = \"deny\""), "{anyway}");
    Ok(())
}
