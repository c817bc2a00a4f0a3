//! `[[forward]]`: ports of the hub that lead to a peer.
//!
//! Luis's machine comes from outside, by the hub's address on its wire, to ports that lead to ana. She has
//! the VPN's network alone in her `allowed_ips`.

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream, UdpSocket};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use taltun_tests::command::output_of;
use taltun_tests::netns::Namespace;
use taltun_tests::node::Keys;
use taltun_tests::sys::Signal;
use taltun_tests::topology::{Star, WIRE_A, WIRE_B, private_prefix};
use taltun_tests::traffic::service::{Service, ensure_closed, visit};

use crate::support::{Case, UP_LIMIT, ensure_answers, eventually};
use crate::two_peers::{TwoPeers, checked};

pub const CASES: &[Case] = &[
    Case {
        name: "forward: ports of the hub lead to a peer until the end, with nftables",
        programs: &["nft"],
        run: || leads(Tool::Nftables),
    },
    Case {
        name: "forward: ports of the hub lead to a peer until the end, with iptables",
        programs: &["iptables", "ip6tables"],
        run: || leads(Tool::Iptables),
    },
    Case {
        name: "forward: a reload opens and closes ports and leaves connections alone, with nftables",
        programs: &["nft"],
        run: || reload(Tool::Nftables),
    },
    Case {
        name: "forward: a reload opens and closes ports and leaves connections alone, with iptables",
        programs: &["iptables", "ip6tables"],
        run: || reload(Tool::Iptables),
    },
    Case {
        name: "forward: rules decide whether anybody gets through",
        programs: &["nft"],
        run: rules,
    },
];

pub(crate) const LIMIT: Duration = Duration::from_secs(10);
/// What is closed has no answer within this.
pub(crate) const SILENCE: Duration = Duration::from_millis(600);
pub(crate) const HUB: [&str; 2] = ["10.200.0.1", "fd00:200::1"];
pub(crate) const ANA: [&str; 2] = ["10.200.0.2", "fd00:200::2"];

/// A port of TCP, one at an address, and ranges of UDP with the same and with other ports.
const FORWARDS: &str = r#"
[[forward]]
listen = "tcp/8443"
to = "ana:443"
[[forward]]
listen = "tcp/10.99.2.1:8080"
to = "10.200.0.2:80"
[[forward]]
listen = "udp/5000-5003"
to = "ana:6000-6003"
[[forward]]
listen = "udp/7000-7003"
to = "ana:7000-7003"
"#;

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tool {
    Nftables,
    Iptables,
}

impl Tool {
    fn word(self) -> &'static str {
        match self {
            Self::Nftables => "nftables",
            Self::Iptables => "iptables",
        }
    }

    /// All rules that there are.
    pub(crate) fn list(self, namespace: &Namespace) -> Result<String> {
        sh(
            namespace,
            match self {
                Self::Nftables => "nft list ruleset",
                Self::Iptables => "iptables-save; ip6tables-save",
            },
        )
    }

    /// Takes all of them away.
    fn flush(self, namespace: &Namespace) -> Result<()> {
        sh(
            namespace,
            match self {
                Self::Nftables => "nft flush ruleset",
                Self::Iptables => {
                    "for tool in iptables ip6tables; do $tool -t nat -F; $tool -t nat -X; done"
                }
            },
        )
        .map(drop)
    }
}

pub(crate) fn sh(namespace: &Namespace, text: &str) -> Result<String> {
    output_of(namespace.command("sh").args(["-c", text]))
}

pub(crate) fn text(keys: &[Keys; 3], tool: Tool, more: &str) -> String {
    format!(
        "[interface]\nmode = \"server\"\nlocal_addr = \":9100\"\nfirewall = \"{}\"\n\
         vip = [\"10.200.0.1/24\", \"fd00:200::1/64\"]\nprivate_key = \"{}\"\n\
         [[peers]]\nname = \"ana\"\npublic_key = \"{}\"\nvip = [\"10.200.0.2\", \"fd00:200::2\"]\n\
         [[peers]]\nname = \"luis\"\npublic_key = \"{}\"\nvip = [\"10.200.0.3\", \"fd00:200::3\"]\n{more}",
        tool.word(),
        keys[0].private,
        keys[1].public,
        keys[2].public
    )
}

pub(crate) fn at(address: &str, port: u16) -> Result<SocketAddr> {
    Ok(SocketAddr::new(address.parse::<IpAddr>()?, port))
}

/// The hub as luis's machine sees it, in either family.
pub(crate) fn outside(family: usize, port: u16) -> SocketAddr {
    SocketAddr::new([WIRE_B.near_v4(), WIRE_B.near_v6()][family], port)
}

fn leads(tool: Tool) -> Result<()> {
    let mut hub = TwoPeers::start(|keys| text(keys, tool, FORWARDS))?;
    let mut services = Vec::new();
    for (family, ana) in ANA.iter().enumerate() {
        let secure = Service::start(&hub.star.a, at(ana, 443)?)?;
        lead_to_ana(&hub.star, family)?;
        // Who is inside already, or is the hub, has no such port.
        let inside = at(HUB[family], 8443)?;
        ensure_closed(&hub.star.b, inside, SILENCE)?;
        ensure_closed(&hub.star.hub, outside(family, 8443), SILENCE)?;
        ensure_closed(&hub.star.b, outside(family, 8444), SILENCE)?;
        services.push(secure);
    }
    // One address of the hub, and of one family.
    let _plain = Service::start(&hub.star.a, at(ANA[0], 80)?)?;
    ensure!(visit(&hub.star.b, outside(0, 8080), LIMIT)? == at(HUB[0], 0)?.ip());
    ensure_closed(
        &hub.star.a,
        SocketAddr::new(WIRE_A.near_v4(), 8080),
        SILENCE,
    )?;
    ensure_closed(&hub.star.b, outside(1, 8080), SILENCE)?;

    let status = hub.status()?;
    let told = &status["forwards"];
    let first = serde_json::json!({
        "listen": "tcp/8443", "to": "ana:443", "by": tool.word(), "reason": null, "taken": [],
        "addresses": ["10.200.0.2:443", "[fd00:200::2]:443"], "source": "hub",
    });
    ensure!(told[0] == first && told[3]["by"] == tool.word(), "{told}");
    let words = hub.node.tell(&["status"])?;
    let line = format!("udp/5000-5003 -> ana:6000-6003 ({})", tool.word());
    ensure!(words.contains(&line), "{words}");
    ensure!(hub.node.log().contains("tcp/8443 leads to ana:443"));

    // What somebody takes away comes back, and so does all after a bad end.
    tool.flush(&hub.star.hub)?;
    eventually("the rules are back", UP_LIMIT, || {
        Ok(visit(&hub.star.b, outside(0, 8443), SILENCE).is_ok()
            && visit(&hub.star.b, outside(1, 8443), SILENCE).is_ok())
    })?;
    lead_to_ana(&hub.star, 0)?;
    hub.node.kill()?;
    ensure!(
        tool.list(&hub.star.hub)?.contains("taltun"),
        "nothing is left to undo"
    );
    hub.node.start_again(&hub.star.hub)?;
    ensure_answers(&hub.star.a, HUB[0].parse()?)?;
    for family in 0..2 {
        lead_to_ana(&hub.star, family)?;
    }
    let rules = tool.list(&hub.star.hub)?;
    let of_first = rules
        .lines()
        .filter(|line| line.contains(" 8443 ") && line.contains("443"));
    // To and from, for each family.
    ensure!(of_first.count() == 4, "{rules}");

    let TwoPeers { star, mut node, .. } = hub;
    node.end(Signal::Terminate)?;
    let rules = tool.list(&star.hub)?;
    ensure!(
        !rules.contains("taltun") && !rules.contains("8443"),
        "{rules}"
    );
    ensure_closed(&star.b, outside(0, 8443), SILENCE)?;
    let log = node.log();
    ensure!(log.contains("net.ipv4.ip_forward stays 1"), "{log}");
    Ok(())
}

/// TCP and each port of UDP comes from luis's machine to ana, who sees the hub, and the answer comes back from
/// where it was asked.
fn lead_to_ana(star: &Star, family: usize) -> Result<()> {
    let us: IpAddr = HUB[family].parse()?;
    let seen = visit(&star.b, outside(family, 8443), LIMIT)?;
    ensure!(seen == us, "ana saw {seen}");
    for (port, target) in [(5000, 6000), (5003, 6003), (7000, 7000), (7002, 7002)] {
        let server = star.a.udp(at(ANA[family], target)?)?;
        let client = star.b.udp((outside(family, 0).ip().unspecified(), 0))?;
        ask(&client, &server, outside(family, port), us)
            .with_context(|| format!("by port {port} to {target}"))?;
    }
    Ok(())
}

/// A datagram goes to `to` and arrives at `server` as one of `expected`, and so does the answer.
pub(crate) fn ask(
    client: &UdpSocket,
    server: &UdpSocket,
    to: SocketAddr,
    expected: IpAddr,
) -> Result<()> {
    let mut buffer = [0; 64];
    for socket in [client, server] {
        socket.set_read_timeout(Some(LIMIT))?;
    }
    client.send_to(b"question", to)?;
    let (length, from) = server.recv_from(&mut buffer).context("nothing arrived")?;
    ensure!(
        &buffer[..length] == b"question" && from.ip() == expected,
        "{from}"
    );
    server.send_to(b"answer", from)?;
    let (length, from) = client.recv_from(&mut buffer).context("no answer")?;
    ensure!(&buffer[..length] == b"answer" && from == to, "{from}");
    Ok(())
}

trait Unspecified {
    fn unspecified(self) -> IpAddr;
}

impl Unspecified for IpAddr {
    fn unspecified(self) -> IpAddr {
        match self {
            Self::V4(_) => IpAddr::from([0; 4]),
            Self::V6(_) => IpAddr::from([0; 16]),
        }
    }
}

pub(crate) fn forward(listen: &str, to: &str) -> String {
    format!("[[forward]]\nlisten = \"{listen}\"\nto = \"{to}\"\n")
}

/// A connection to a port of the hub, and its other end at ana.
fn connect(star: &Star, port: u16, target: u16) -> Result<[TcpStream; 2]> {
    let listener = star.a.tcp(at(ANA[0], target)?)?;
    let ours = star
        .b
        .run(|| TcpStream::connect_timeout(&outside(0, port), LIMIT))??;
    let (theirs, _) = listener.accept()?;
    Ok([ours, theirs])
}

/// Bytes go both ways.
fn talk([ours, theirs]: &mut [TcpStream; 2]) -> Result<()> {
    let mut buffer = [0; 4];
    ours.write_all(b"ping")?;
    theirs.set_read_timeout(Some(LIMIT))?;
    theirs.read_exact(&mut buffer)?;
    theirs.write_all(b"pong")?;
    ours.set_read_timeout(Some(LIMIT))?;
    ours.read_exact(&mut buffer)?;
    ensure!(&buffer == b"pong");
    Ok(())
}

fn reload(tool: Tool) -> Result<()> {
    let hub = TwoPeers::start(|keys| text(keys, tool, ""))?;
    let forwarding = "cat /proc/sys/net/ipv4/ip_forward /proc/sys/net/ipv6/conf/all/forwarding";
    ensure!(sh(&hub.star.hub, forwarding)? == "0\n0\n");
    ensure_closed(&hub.star.b, outside(0, 8001), SILENCE)?;
    let read = |more: &str| hub.reload(&text(&hub.keys, tool, more));

    let first = forward("tcp/8001", "ana:81");
    let said = read(&first)?;
    ensure!(said.contains("forwarded ports changed"), "{said}");
    ensure!(sh(&hub.star.hub, forwarding)? == "1\n1\n");
    let mut connection = connect(&hub.star, 8001, 81)?;
    talk(&mut connection)?;

    // Another port is opened, and the first one is closed to all others.
    let both = format!("{first}{}", forward("tcp/8002", "ana:82"));
    read(&both)?;
    talk(&mut connection)?;
    let mut second = connect(&hub.star, 8002, 82)?;
    let said = read(&both.replace(&first, ""))?;
    ensure!(said.contains("forwarded ports changed"), "{said}");
    for connection in [&mut connection, &mut second] {
        talk(connection)?;
    }
    ensure_closed(&hub.star.b, outside(0, 8001), SILENCE)?;
    ensure!(hub.status()?["forwards"].as_array().map(Vec::len) == Some(1));
    // To another place.
    read(&forward("tcp/8002", "ana:83"))?;
    talk(&mut second)?;
    talk(&mut connect(&hub.star, 8002, 83)?)?;

    // What can't be meant so changes nothing.
    let refused = read(&forward("tcp/8002", "eva:83"));
    let refused = format!("{:#}", refused.err().context("it was taken")?);
    ensure!(
        refused.contains("there is no peer called \"eva\""),
        "{refused}"
    );
    talk(&mut connect(&hub.star, 8002, 83)?)?;

    read("")?;
    ensure_closed(&hub.star.b, outside(0, 8002), SILENCE)?;
    let rules = tool.list(&hub.star.hub)?;
    ensure!(!rules.contains("taltun"), "{rules}");
    ensure!(hub.status()?["forwards"] == serde_json::json!([]));
    hub.end()
}

fn rules() -> Result<()> {
    let deny = format!(
        "[policy]\ndefault = \"deny\"\n{}{}",
        forward("tcp/8443", "ana:443"),
        forward("udp/5000", "ana:6000")
    );
    let hub = TwoPeers::start(|keys| text(keys, Tool::Nftables, &deny))?;
    let _services = [
        Service::start(&hub.star.a, at(ANA[0], 443)?)?,
        Service::start(&hub.star.a, at(ANA[1], 443)?)?,
    ];
    let server = hub.star.a.udp(at(ANA[0], 6000)?)?;
    let client = hub.star.b.udp("0.0.0.0:0")?;
    for family in 0..2 {
        ensure_closed(&hub.star.b, outside(family, 8443), SILENCE)?;
    }
    server.set_read_timeout(Some(SILENCE))?;
    client.send_to(b"question", outside(0, 5000))?;
    ensure!(server.recv(&mut [0; 64]).is_err(), "UDP came through");
    let drops = hub.status()?["drops"]["rule"].as_u64();
    ensure!(drops >= Some(3), "{drops:?} packets denied");
    let told = checked(&private_prefix(), &text(&hub.keys, Tool::Nftables, &deny))?;
    ensure!(
        told.matches("the rules deny what comes this way").count() == 2,
        "{told}"
    );

    // A rule for what the hub sends to her.
    let rule = "[[rules]]\nfrom = \"hub\"\nto = \"ana\"\nallow = [\"tcp/443\", \"udp/6000\"]\n";
    let allowed = text(&hub.keys, Tool::Nftables, &format!("{deny}{rule}"));
    hub.reload(&allowed)?;
    for (family, us) in HUB.iter().enumerate() {
        let seen = visit(&hub.star.b, outside(family, 8443), LIMIT)?;
        ensure!(seen == us.parse::<IpAddr>()?, "{seen}");
    }
    ask(&client, &server, outside(0, 5000), HUB[0].parse()?)?;
    let told = checked(&private_prefix(), &allowed)?;
    ensure!(!told.contains("the rules deny"), "{told}");
    ensure!(
        told.contains("tcp/8443 -> ana:443 (10.200.0.2:443"),
        "{told}"
    );
    let policy = hub.status()?["policy"].clone();
    ensure!(
        policy["rules"][0]["allowed"].as_u64() >= Some(3),
        "{policy}"
    );
    hub.end()
}
