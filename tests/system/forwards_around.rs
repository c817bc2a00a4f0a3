//! `[[forward]]` among what else there is: peers that see who sent, a default route into the tunnel, other
//! programs' ports and the tunnel's own.

use std::fs;
use std::net::{IpAddr, SocketAddr};

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use taltun_tests::node::Node;
use taltun_tests::sys::Signal;
use taltun_tests::topology::{Star, WIRE_A, WIRE_B, private_prefix};
use taltun_tests::traffic::service::{Service, visit};

use crate::forwards::{ANA, HUB, LIMIT, SILENCE, Tool, ask, at, forward, outside, sh, text};
use crate::support::{Case, ensure_answers, taltun};
use crate::two_peers::{TwoPeers, generate};

pub const CASES: &[Case] = &[
    Case {
        name: "forward: a peer that answers by the hub may see who sent, with nftables",
        programs: &["nft"],
        run: || keeps_the_source(Tool::Nftables),
    },
    Case {
        name: "forward: a peer that answers by the hub may see who sent, with iptables",
        programs: &["iptables", "ip6tables"],
        run: || keeps_the_source(Tool::Iptables),
    },
    Case {
        name: "forward: answers leave as the question came where all else goes into the tunnel, with nftables",
        programs: &["nft"],
        run: || beside_a_default_route(Tool::Nftables),
    },
    Case {
        name: "forward: answers leave as the question came where all else goes into the tunnel, with iptables",
        programs: &["iptables", "ip6tables"],
        run: || beside_a_default_route(Tool::Iptables),
    },
    Case {
        name: "forward: a flow of datagrams that goes on all the while follows its port, with nftables",
        programs: &["nft"],
        run: || old_flows(Tool::Nftables),
    },
    Case {
        name: "forward: a flow of datagrams that goes on all the while follows its port, with iptables",
        programs: &["iptables", "ip6tables"],
        run: || old_flows(Tool::Iptables),
    },
    Case {
        name: "forward: a port that another program has is told",
        programs: &["nft"],
        run: taken,
    },
    Case {
        name: "forward: the port that the tunnel itself has by now isn't forwarded",
        programs: &["nft"],
        run: own_port,
    },
];

/// Ana sends to luis's network by the tunnel, and the hub's `[nat]` would translate what goes in.
fn keeps_the_source(tool: Tool) -> Result<()> {
    let star = Star::create(&private_prefix())?;
    let keys = generate()?;
    let more =
        "ip_forward = true\n[nat]\nmasquerade = true\nout = \"tunnel\"\n[[peers]]\nname = \"ana\"";
    let forwards = format!(
        "{}source = \"keep\"\n{}",
        forward("tcp/8443", "ana:443"),
        forward("tcp/8444", "ana:443")
    );
    let hub = text(&keys, tool, &forwards).replace("[[peers]]\nname = \"ana\"", more);
    let hub = Node::start_with_text(&star.hub, &taltun()?, &hub)?;
    let ana = format!(
        "[interface]\nmode = \"client\"\nvip = [\"10.200.0.2/24\", \"fd00:200::2/64\"]\n\
         private_key = \"{}\"\nroutes = [\"10.99.2.0/24\", \"fd99:2::/64\"]\n\
         [[peers]]\npublic_key = \"{}\"\nendpoint = \"{}:9100\"\npersistent_keepalive = 25\n\
         allowed_ips = [\"10.200.0.0/24\", \"fd00:200::/64\", \"10.99.2.0/24\", \"fd99:2::/64\"]\n",
        keys[1].private,
        keys[0].public,
        WIRE_A.near_v4()
    );
    let _ana = Node::start_with_text(&star.a, &taltun()?, &ana)?;
    ensure_answers(&star.a, HUB[0].parse()?)?;
    for family in 0..2 {
        let _service = Service::start(&star.a, at(ANA[family], 443)?)?;
        let seen = visit(&star.b, outside(family, 8443), LIMIT)?;
        let sender = [WIRE_B.far_v4(), WIRE_B.far_v6()][family];
        ensure!(seen == sender, "ana saw {seen}");
        let seen = visit(&star.b, outside(family, 8444), LIMIT)?;
        ensure!(seen == HUB[family].parse::<IpAddr>()?, "ana saw {seen}");
    }
    let status = hub.tell(&["status"])?;
    ensure!(status.contains("the sender's address is kept"), "{status}");
    hub.stop(Signal::Terminate)
}

/// The hub's own way out is luis. Somebody far away, behind a's machine, asks ana.
fn beside_a_default_route(tool: Tool) -> Result<()> {
    let hub = TwoPeers::start(|keys| {
        let text = text(keys, tool, &forward("udp/5000", "ana:6000"));
        let routes = "routes = [\"0.0.0.0/0\"]\n[[peers]]\nname = \"ana\"";
        let luis = "vip = [\"10.200.0.3\", \"fd00:200::3\"]\nallowed_ips = [\"0.0.0.0/0\"]";
        text.replace("[[peers]]\nname = \"ana\"", routes)
            .replace("vip = [\"10.200.0.3\", \"fd00:200::3\"]", luis)
    })?;
    let TwoPeers { star, .. } = &hub;
    star.a.ip("addr add 192.0.2.9/32 dev lo")?;
    star.hub
        .ip(&format!("route add default via {}", WIRE_A.far_v4()))?;
    let way = star.hub.ip("route get 192.0.2.9")?;
    ensure!(way.contains("dev taltun0"), "{way}");
    let client = star.a.udp("192.0.2.9:0")?;
    let server = star.a.udp(at(ANA[0], 6000)?)?;
    ask(
        &client,
        &server,
        SocketAddr::new(WIRE_A.near_v4(), 5000),
        HUB[0].parse()?,
    )?;
    hub.end()
}

/// The kernel asks the rules about its first packet alone, and that came before them.
fn old_flows(tool: Tool) -> Result<()> {
    let mut hub = TwoPeers::start(|keys| text(keys, tool, ""))?;
    // The host's own firewall has the kernel track connections.
    let (track, take_away) = match tool {
        Tool::Nftables => (
            "nft 'table inet others { chain in { type filter hook input priority 0; \
             ct state new counter; }; }'",
            "nft delete table inet taltun-taltun0",
        ),
        Tool::Iptables => (
            "for tool in iptables ip6tables; do $tool -A INPUT -m conntrack --ctstate NEW; done",
            "for tool in iptables ip6tables; do $tool -t nat -F; $tool -t nat -X; done",
        ),
    };
    sh(&hub.star.hub, track)?;
    let open = format!(
        "{}{}",
        forward("udp/5000", "ana:6000"),
        forward("udp/5001-5002", "ana:7001-7002")
    );
    let mut flows = Vec::new();
    for (family, port, target) in [(0, 5000, 6000), (1, 5000, 6000), (0, 5002, 7002)] {
        let server = hub.star.a.udp(at(ANA[family], target)?)?;
        let any = ["0.0.0.0:0", "[::]:0"][family];
        let client = hub.star.b.udp(any)?;
        flows.push((client, server, outside(family, port), HUB[family].parse()?));
    }
    let follow = |star: &Star| -> Result<()> {
        for (client, server, to, us) in &flows {
            ask(client, server, *to, *us)
                .with_context(|| format!("to {to} of {}", star.hub.name()))?;
        }
        Ok(())
    };
    let lead_nowhere = || -> Result<()> {
        for (client, server, to, _) in &flows {
            server.set_read_timeout(Some(SILENCE))?;
            client.send_to(b"early", to)?;
            ensure!(server.recv(&mut [0; 64]).is_err(), "{to} leads to ana");
        }
        Ok(())
    };
    lead_nowhere()?;
    hub.reload(&text(&hub.keys, tool, &open))?;
    follow(&hub.star)?;
    hub.reload(&text(&hub.keys, tool, ""))?;
    lead_nowhere()?;
    hub.reload(&text(&hub.keys, tool, &open))?;
    follow(&hub.star)?;
    // To another port of hers, and back.
    let moved = open.replace("ana:6000", "ana:6001");
    hub.reload(&text(&hub.keys, tool, &moved))?;
    let (client, _, to, us) = &flows[0];
    ask(client, &hub.star.a.udp(at(ANA[0], 6001)?)?, *to, *us)?;
    hub.reload(&text(&hub.keys, tool, &open))?;
    follow(&hub.star)?;

    hub.node.kill()?;
    sh(&hub.star.hub, take_away)?;
    lead_nowhere()?;
    hub.node.start_again(&hub.star.hub)?;
    ensure_answers(&hub.star.a, HUB[0].parse()?)?;
    follow(&hub.star)?;
    hub.end()
}

fn taken() -> Result<()> {
    let forwards = format!(
        "{}{}{}",
        forward("tcp/8443", "ana:443"),
        forward("udp/5000-5003", "ana:5000-5003"),
        forward("tcp/192.0.2.77:8444", "ana:444")
    );
    let hub = TwoPeers::start(|keys| text(keys, Tool::Nftables, &forwards))?;
    let told = |place: usize| -> Result<Value> { Ok(hub.status()?["forwards"][place].clone()) };
    ensure!(told(0)?["taken"] == serde_json::json!([]));
    let first = told(2)?;
    ensure!(
        first["reason"] == "no interface of this host has 192.0.2.77",
        "{first}"
    );

    // A program of the host: who comes from outside reaches ana all the same.
    let own = Service::start(&hub.star.hub, "0.0.0.0:8443".parse()?)?;
    let _inside = Service::start(&hub.star.hub, at(HUB[0], 8444)?)?;
    let _ana = Service::start(&hub.star.a, at(ANA[0], 443)?)?;
    ensure!(hub.node.tell(&["reload"])?.contains("nothing has changed"));
    ensure!(
        told(0)?["taken"] == serde_json::json!([8443]),
        "{}",
        told(0)?
    );
    let log = hub.node.log();
    let said = "tcp/8443: another program of this host listens on TCP port 8443";
    ensure!(log.matches(said).count() == 1, "{log}");
    let words = hub.node.tell(&["status"])?;
    ensure!(words.contains("kept from other programs: 8443"), "{words}");
    let mut check = hub.star.hub.command(taltun()?);
    let check = check.args(["check", "--config"]).arg(hub.node.config());
    let output = check.output()?;
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(text.contains(said) && output.status.success(), "{text}");
    ensure!(visit(&hub.star.b, outside(0, 8443), LIMIT)? == at(HUB[0], 0)?.ip());
    // The host itself reaches it.
    let own_address = SocketAddr::new(WIRE_B.near_v4(), 8443);
    ensure!(visit(&hub.star.hub, own_address, LIMIT)? == WIRE_B.near_v4());
    drop(own);
    hub.end()
}

/// The file doesn't say which port that is: the kernel chose it.
fn own_port() -> Result<()> {
    let star = Star::create(&private_prefix())?;
    let keys = generate()?;
    let file = |more: &str| text(&keys, Tool::Nftables, more).replace(":9100", ":0");
    let hub = Node::start_with_text(&star.hub, &taltun()?, &file(""))?;
    let status =
        || -> Result<Value> { Ok(serde_json::from_str(&hub.tell(&["status", "--json"])?)?) };
    let listen: SocketAddr = serde_json::from_value(status()?["listen"].clone())?;
    let port = listen.port();
    let both = format!(
        "{}{}",
        forward(&format!("udp/{port}"), "ana:5000"),
        forward("udp/5001", "ana:5001")
    );
    fs::write(hub.config(), file(&both))?;
    let refused = format!("{:#}", hub.tell(&["reload"]).err().context("it was taken")?);
    let said = format!("the tunnel itself listens on UDP port {port}");
    ensure!(refused.contains(&said), "{refused}");
    let told = status()?["forwards"].clone();
    ensure!(
        told[0]["by"] == "none" && told[0]["reason"] == said.as_str(),
        "{told}"
    );
    ensure!(
        told[1]["by"] == "nftables" && told[1]["reason"].is_null(),
        "{told}"
    );
    let words = hub.tell(&["status"])?;
    ensure!(
        words.contains(&format!("-> ana:5000, not open: {said}")),
        "{words}"
    );
    let rules = Tool::Nftables.list(&star.hub)?;
    ensure!(
        !rules.contains(&format!(" {port} ")) && rules.contains(" 5001 "),
        "{rules}"
    );
    fs::write(hub.config(), file(&forward("udp/5001", "ana:5001")))?;
    hub.tell(&["reload"])?;
    hub.stop(Signal::Terminate)
}
