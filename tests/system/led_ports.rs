//! A server's range of ports where no XDP program turns it, and its neighbours on the host: what
//! rules lead to the port that it listens on, and what they leave alone.

use std::fs;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use taltun_tests::command::output_of;
use taltun_tests::lab::{PORT, Role};
use taltun_tests::netns::Namespace;
use taltun_tests::node::{AfXdp, Config, Keys, Node, Peer, XdpMode};
use taltun_tests::sys::Signal;
use taltun_tests::topology::{Star, WIRE_A, WIRE_B, private_prefix};
use taltun_tests::traffic::ping::Pinger;

use crate::support::{
    ANSWER_LIMIT, Case, UP_LIMIT, ensure_answers, ensure_silent, eventually, taltun,
};
use crate::wireguard::{Program, Wg, WgKeys, WgPeer, at};

pub const CASES: &[Case] = &[
    Case {
        name: "hop: without XDP, ports of the range lead to the hub by nftables, and answers leave from the port used",
        programs: &["nft", "wireguard-go", "wg"],
        run: || led_by("nftables"),
    },
    Case {
        name: "hop: without XDP, ports of the range lead to the hub by iptables, and answers leave from the port used",
        programs: &["iptables", "wireguard-go", "wg"],
        run: || led_by("iptables"),
    },
    Case {
        name: "hop: XDP in generic mode leads the range to the hub, and answers leave from the port used",
        programs: &["wireguard-go", "wg"],
        run: || led_by_xdp(XdpMode::Generic, AfXdp::Off),
    },
    Case {
        name: "hop: XDP in driver mode leads the range to the hub, and answers leave from the port used",
        programs: &["wireguard-go", "wg"],
        run: || led_by_xdp(XdpMode::Driver, AfXdp::Off),
    },
    Case {
        name: "hop: with AF_XDP, too, answers leave from the port used",
        programs: &["wireguard-go", "wg"],
        run: || led_by_xdp(XdpMode::Driver, AfXdp::On),
    },
    Case {
        name: "hop: without XDP and with no firewall of ours, status says that nothing leads the range",
        programs: &["wireguard-go", "wg"],
        run: led_by_nothing,
    },
    Case {
        name: "hop: a redirected range leaves another program's port and answers of name servers alone, and names the port",
        programs: &["nft", "wireguard-go", "wg"],
        run: neighbours,
    },
    Case {
        name: "hop: a reload changes a redirected range, and takes it away",
        programs: &["nft", "wireguard-go", "wg"],
        run: reload,
    },
    Case {
        name: "hop: connections that the hub translates get no port of the range",
        programs: &["nft", "wireguard-go", "wg"],
        run: || translated("nftables"),
    },
    Case {
        name: "hop: connections that the hub translates with iptables get no port of the range",
        programs: &["iptables", "wireguard-go", "wg"],
        run: || translated("iptables"),
    },
    Case {
        name: "hop: the kernel gives ports of the range to no program until the end, and others' entries stay",
        programs: &["wireguard-go", "wg"],
        run: reserved,
    },
];

pub(crate) const RANGE: &str = "\n[hop]\nport_range = [4096, 8191]\n";

/// A hub, and wireguard-go in a's namespace, which knows it.
pub(crate) struct Hub {
    pub(crate) node: Node,
    client: Wg,
    pub(crate) net: Star,
    /// Where the client is, if not in a.
    far: Option<Namespace>,
}

impl Hub {
    /// `more` are sections of the hub's file, `firewall` what it makes rules with.
    fn start(firewall: &str, more: &'static str) -> Result<Self> {
        let net = Star::create(&private_prefix())?;
        Self::start_in(net, firewall, more)
    }

    fn start_in(net: Star, firewall: &str, more: &'static str) -> Result<Self> {
        Self::start_with(net, firewall, more, XdpMode::Off, AfXdp::Off)
    }

    pub(crate) fn start_with(
        net: Star,
        firewall: &str,
        more: &'static str,
        xdp: XdpMode,
        af_xdp: AfXdp,
    ) -> Result<Self> {
        Self::start_for(net, None, firewall, more, (xdp, af_xdp))
    }

    /// With a client that isn't in a.
    pub(crate) fn start_for(
        net: Star,
        far: Option<Namespace>,
        firewall: &str,
        more: &'static str,
        (xdp, af_xdp): (XdpMode, AfXdp),
    ) -> Result<Self> {
        let taltun = taltun()?;
        let (ours, theirs) = (Keys::generate(&taltun)?, WgKeys::generate()?);
        let config = Config {
            mode: "server",
            vip: Role::Hub.interface_vips(),
            local_addr: format!("[::]:{PORT}"),
            private_key: ours.private,
            xdp,
            af_xdp,
            more,
            peers: vec![Peer {
                name: "a",
                public_key: theirs.public.clone(),
                vip: Role::A.vips(),
                endpoint: None,
                allowed_ips: Vec::new(),
            }],
        };
        let firewall = format!("[interface]\nfirewall = \"{firewall}\"\n");
        let text = config.to_toml().replacen("[interface]\n", &firewall, 1);
        let node = Node::start_with_text(&net.hub, &taltun, &text)?;
        let client = Wg::start(Program::WireguardGo, far.as_ref().unwrap_or(&net.a))?;
        let hub = WgPeer {
            public_key: ours.public,
            allowed_ips: "0.0.0.0/0, ::/0".to_owned(),
            endpoint: Some(at(WIRE_A.near_v4(), PORT)),
            ..WgPeer::default()
        };
        client.configure(&theirs, 0, &[hub])?;
        let vips = Role::A.interface_vips();
        client.bring_up(&vips.iter().map(String::as_str).collect::<Vec<_>>())?;
        Ok(Self {
            node,
            client,
            net,
            far,
        })
    }

    /// Where the client is.
    pub(crate) fn place(&self) -> &Namespace {
        self.far.as_ref().unwrap_or(&self.net.a)
    }

    /// Sends the client to this port of the hub.
    pub(crate) fn go_to(&self, address: IpAddr, port: u16) -> Result<()> {
        let key = self.client.peer()?.swap_remove(0);
        let endpoint = at(address, port);
        self.client
            .wg("set", &["peer", &key, "endpoint", &endpoint])?;
        Ok(())
    }

    /// The client reaches the hub on this port, and was answered from there: it would else take
    /// the port of the answer for the hub's. A keepalive of the hub's that crosses the change leads it
    /// back to the port before, so it has a second try and a third.
    pub(crate) fn answers_from(&self, address: IpAddr, port: u16) -> Result<()> {
        let used = at(address, port);
        let mut heard = String::new();
        for _ in 0..3 {
            self.go_to(address, port)?;
            self.is_answered(address, port)?;
            heard = self.client.endpoint()?;
            if heard == used {
                return Ok(());
            }
        }
        bail!("sent to {used}, answered from {heard}")
    }

    fn is_answered(&self, address: IpAddr, port: u16) -> Result<()> {
        if address.is_ipv4() {
            return ensure_answers(self.place(), Role::Hub.v4());
        }
        // wireguard-go up to today sends some datagrams to `fd99:1::` instead of `fd99:1::1`
        // after it sent to IPv4 addresses, of which it takes over four bytes: they are lost
        // before they reach the hub.
        let mut pinger = Pinger::new(self.place(), Role::Hub.v4())?;
        pinger.wait_until_answered(UP_LIMIT)?;
        let answered = pinger.count_answers(5, ANSWER_LIMIT)?;
        ensure!(answered > 0, "no ping is answered at port {port}");
        Ok(())
    }

    /// Where the client heard the hub last.
    pub(crate) fn heard(&self) -> Result<String> {
        self.client.endpoint()
    }

    /// What the hub sends unasked comes from there, too.
    pub(crate) fn asks_from(&self, address: IpAddr, port: u16) -> Result<()> {
        ensure_answers(&self.net.hub, Role::A.v4())?;
        let (heard, used) = (self.client.endpoint()?, at(address, port));
        ensure!(heard == used, "the client is at {used}, asked from {heard}");
        Ok(())
    }

    /// It answers on ports all over the range, on IPv4 and IPv6 and on another address of its own.
    fn answers_everywhere(&self) -> Result<()> {
        for port in [4096, 5000, 8191, PORT] {
            self.answers_from(WIRE_A.near_v4(), port)?;
        }
        for port in [4096, 6999, 8191] {
            self.answers_from(WIRE_A.near_v6(), port)?;
        }
        // The hub's address on its other wire: answers come from there, too.
        self.net.a.ip(&format!(
            "route add {} via {}",
            WIRE_B.near_v4(),
            WIRE_A.near_v4()
        ))?;
        self.answers_from(WIRE_B.near_v4(), 7777)
    }

    /// Answers that leave past the network stack come from the port that was used, too.
    fn answers_by_af_xdp(&self) -> Result<()> {
        let sent = || -> Result<u64> {
            let queues = self.node.status()?.af_xdp;
            Ok(queues.iter().map(|queue| queue.sent).sum())
        };
        for (address, port) in [
            (WIRE_A.near_v4(), 6000),
            (WIRE_A.near_v6(), 6001),
            (WIRE_A.near_v4(), PORT),
        ] {
            let before = sent()?;
            // Once a second one leaves by the socket.
            eventually("answers leave by AF_XDP", UP_LIMIT, || {
                self.answers_from(address, port)?;
                Ok(sent()? >= before + 5)
            })?;
        }
        Ok(())
    }

    /// The range, as `status --json` tells of it.
    pub(crate) fn range(&self) -> Result<Value> {
        let status: Value = serde_json::from_str(&self.node.tell(&["status", "--json"])?)?;
        Ok(status["port_range"].clone())
    }

    pub(crate) fn reload(&self, from: &str, to: &str) -> Result<()> {
        let file = self.node.config();
        let text = fs::read_to_string(&file)?;
        ensure!(text.contains(from), "{text}");
        fs::write(&file, text.replacen(from, to, 1))?;
        self.node.tell(&["reload"])?;
        Ok(())
    }
}

/// All that has to do with a range in the rules of this tool.
fn rules(namespace: &Namespace, tool: &str) -> Result<String> {
    match tool {
        "nftables" => output_of(namespace.command("nft").args(["list", "ruleset"])),
        _ => output_of(&mut namespace.command("iptables-save")),
    }
}

fn led_by(tool: &str) -> Result<()> {
    let hub = Hub::start(tool, RANGE)?;
    let range = hub.range()?;
    ensure!(range["by"] == tool, "{range}");
    ensure!(
        (&range["first"], &range["last"]) == (&4096.into(), &8191.into()),
        "{range}"
    );
    ensure!(
        range["reason"].as_str().is_some_and(|why| !why.is_empty()),
        "{range}"
    );
    let status = hub.node.tell(&["status"])?;
    ensure!(status.contains(&format!("4096-8191: {tool}")), "{status}");
    hub.answers_everywhere()?;
    let Hub {
        node, client, net, ..
    } = hub;
    node.stop(Signal::Terminate)?;
    drop(client);
    let left = rules(&net.hub, tool)?;
    ensure!(!left.contains("taltun"), "left: {left}");
    Ok(())
}

fn led_by_xdp(xdp: XdpMode, af_xdp: AfXdp) -> Result<()> {
    let net = Star::create(&private_prefix())?;
    let hub = Hub::start_with(net, "nftables", RANGE, xdp, af_xdp)?;
    let range = hub.range()?;
    ensure!(range["by"] == "xdp", "{range}");
    if af_xdp == AfXdp::On {
        eventually("all queues are read by AF_XDP", ANSWER_LIMIT, || {
            let queues = hub.node.status()?.queues_over_af_xdp();
            Ok(queues.is_some_and(|count| count > 0))
        })?;
    }
    hub.answers_everywhere()?;
    if af_xdp == AfXdp::On {
        hub.answers_by_af_xdp()?;
    }
    // Neither rules nor entries in the table of connections.
    let rules = rules(&hub.net.hub, "nftables")?;
    ensure!(!rules.contains("redirect"), "{rules}");
    hub.reload("[4096, 8191]", "[10000, 10100]")?;
    hub.answers_from(WIRE_A.near_v4(), 10_050)?;
    hub.reload("[hop]\nport_range = [10000, 10100]\n", "")?;
    ensure!(hub.range()?.is_null(), "{}", hub.range()?);
    hub.answers_from(WIRE_A.near_v4(), PORT)?;
    let Hub {
        node, client, net, ..
    } = hub;
    node.stop(Signal::Terminate)?;
    drop(client);
    for interface in ["to-a", "to-b"] {
        let link = net.hub.ip(&format!("link show {interface}"))?;
        ensure!(!link.contains("xdp"), "{link}");
    }
    Ok(())
}

fn led_by_nothing() -> Result<()> {
    let hub = Hub::start("none", RANGE)?;
    let range = hub.range()?;
    ensure!(range["by"] == "none", "{range}");
    let reason = range["reason"].as_str().unwrap_or_default();
    ensure!(
        reason.contains("accel.xdp") && reason.contains("interface.firewall"),
        "{range}"
    );
    let log = hub.node.log();
    ensure!(log.contains("nothing leads the ports 4096-8191"), "{log}");
    // The port that it listens on is as good as ever.
    hub.answers_from(WIRE_A.near_v4(), PORT)
}

fn neighbours() -> Result<()> {
    let net = Star::create(&private_prefix())?;
    let taken = net.hub.run(|| UdpSocket::bind("0.0.0.0:5353"))??;
    let hub = Hub::start_in(net, "nftables", RANGE)?;
    let range = hub.range()?;
    ensure!(range["left"] == serde_json::json!([5353]), "{range}");
    let log = hub.node.log();
    ensure!(log.contains("keep them: 5353"), "{log}");
    hub.answers_from(WIRE_A.near_v4(), 5354)?;
    let sender = hub.net.a.run(|| UdpSocket::bind("0.0.0.0:0"))??;
    sender.send_to(b"for the other", (WIRE_A.near_v4(), 5353))?;
    ensure!(hears(&taken)? == b"for the other");
    asks_a_server(&hub.net)
}

/// An answer to a question of the hub's host, whose port lies in the range, comes to who asked.
pub(crate) fn asks_a_server(net: &Star) -> Result<()> {
    let server = net.a.run(|| UdpSocket::bind("0.0.0.0:53"))??;
    let asker = net.hub.run(|| UdpSocket::bind("0.0.0.0:6053"))??;
    asker.send_to(b"question", (WIRE_A.far_v4(), 53))?;
    server.set_read_timeout(Some(ANSWER_LIMIT))?;
    let mut bytes = [0; 64];
    let (_, from) = server.recv_from(&mut bytes).context("no question")?;
    server.send_to(b"answer", from)?;
    ensure!(hears(&asker)? == b"answer");
    Ok(())
}

/// What comes to a socket.
pub(crate) fn hears(socket: &UdpSocket) -> Result<Vec<u8>> {
    socket.set_read_timeout(Some(ANSWER_LIMIT))?;
    let mut bytes = [0; 64];
    let (length, _) = socket.recv_from(&mut bytes).context("nothing came")?;
    Ok(bytes[..length].to_vec())
}

fn reload() -> Result<()> {
    let hub = Hub::start("nftables", RANGE)?;
    hub.answers_from(WIRE_A.near_v4(), 5000)?;
    hub.reload("[4096, 8191]", "[10000, 10100]")?;
    // Also for who has used it all the while.
    ensure_silent(hub.place(), Role::Hub.v4())?;
    let range = hub.range()?;
    ensure!(
        (&range["first"], &range["last"]) == (&10_000.into(), &10_100.into()),
        "{range}"
    );
    hub.answers_from(WIRE_A.near_v4(), 10_050)?;
    let text = rules(&hub.net.hub, "nftables")?;
    ensure!(
        text.contains("10000-10100") && !text.contains("8191"),
        "{text}"
    );
    hub.reload("[hop]\nport_range = [10000, 10100]\n", "")?;
    ensure!(hub.range()?.is_null(), "{}", hub.range()?);
    let text = rules(&hub.net.hub, "nftables")?;
    ensure!(!text.contains("redirect"), "{text}");
    hub.answers_from(WIRE_A.near_v4(), PORT)?;
    // And back.
    fs::write(
        hub.node.config(),
        fs::read_to_string(hub.node.config())? + RANGE,
    )?;
    hub.node.tell(&["reload"])?;
    hub.answers_from(WIRE_A.near_v4(), 4097)
}

/// a's packets leave by the hub to b, under the hub's address.
fn translated(tool: &str) -> Result<()> {
    let hub = Hub::start(
        tool,
        "\n[hop]\nport_range = [4096, 8191]\n[nat]\nmasquerade = true\n",
    )?;
    let forward = "/proc/sys/net/ipv4/ip_forward";
    hub.net.hub.run(|| fs::write(forward, "1"))??;
    ensure_answers(&hub.net.a, Role::Hub.v4())?;
    let interface = hub.client.interface();
    hub.net
        .a
        .ip(&format!("route add {} dev {interface}", WIRE_B.far_v4()))?;
    let server = hub.net.b.run(|| UdpSocket::bind("0.0.0.0:7000"))??;
    for port in [4096, 5000, 8191] {
        let own = SocketAddr::new(Role::A.v4(), port);
        let sender = hub.net.a.run(|| UdpSocket::bind(own))??;
        sender.send_to(b"out", (WIRE_B.far_v4(), 7000))?;
        server.set_read_timeout(Some(ANSWER_LIMIT))?;
        let mut bytes = [0; 64];
        let (_, from) = server.recv_from(&mut bytes).context("nothing left")?;
        ensure!(from.ip() == WIRE_B.near_v4(), "not translated: {from}");
        ensure!(
            !(4096..=8191).contains(&from.port()),
            "{from} for port {port}"
        );
        server.send_to(b"back", from)?;
        ensure!(hears(&sender)? == b"back");
    }
    Ok(())
}

fn reserved() -> Result<()> {
    const LIST: &str = "/proc/sys/net/ipv4/ip_local_reserved_ports";
    let net = Star::create(&private_prefix())?;
    let read = |net: &Star| -> Result<String> {
        let text = net.hub.run(|| fs::read_to_string(LIST))??;
        Ok(text.trim().to_owned())
    };
    let write = |net: &Star, text: &str| -> Result<()> {
        net.hub.run(|| fs::write(LIST, text))??;
        Ok(())
    };
    write(&net, "53,40050-40060")?;
    let hub = Hub::start_in(net, "none", "\n[hop]\nport_range = [40000, 40099]\n")?;
    ensure!(read(&hub.net)? == "53,40000-40099", "{}", read(&hub.net)?);
    // Somebody writes his own list, and ours is put back into it.
    write(&hub.net, "53,40050-40060,50000")?;
    eventually(
        "the range is reserved again",
        Duration::from_secs(10),
        || Ok(read(&hub.net)? == "53,40000-40099,50000"),
    )?;
    hub.reload("[40000, 40099]", "[41000, 41001]")?;
    ensure!(
        read(&hub.net)? == "53,40050-40060,41000-41001,50000",
        "{}",
        read(&hub.net)?
    );
    // Nearly all that there is to give: some stays with the kernel.
    hub.reload("[41000, 41001]", "[1024, 65535]")?;
    ensure!(
        read(&hub.net)? == "53,1024-56903,61000-65535",
        "{}",
        read(&hub.net)?
    );
    hub.net.hub.run(|| UdpSocket::bind("0.0.0.0:0"))??;
    let mut check = hub.net.hub.command(taltun()?);
    let checked = check.arg("check").arg("--config").arg(hub.node.config());
    let (says, warns) = {
        let output = checked.output()?;
        (
            String::from_utf8(output.stdout)?,
            String::from_utf8(output.stderr)?,
        )
    };
    ensure!(
        says.contains("reserves:   1024-56903,61000-65535"),
        "{says}"
    );
    ensure!(warns.contains("so 56904-60999 stay with it"), "{warns}");
    hub.reload("[1024, 65535]", "[41000, 41001]")?;
    let Hub {
        mut node,
        client,
        net,
        ..
    } = hub;
    // A killed one's entries are taken out by the next start and its end.
    node.kill()?;
    ensure!(
        read(&net)? == "53,40050-40060,41000-41001,50000",
        "{}",
        read(&net)?
    );
    node.start_again(&net.hub)?;
    ensure!(
        read(&net)? == "53,40050-40060,41000-41001,50000",
        "{}",
        read(&net)?
    );
    node.stop(Signal::Terminate)?;
    drop(client);
    ensure!(read(&net)? == "53,40050-40060,50000", "{}", read(&net)?);
    Ok(())
}
