//! A router as a client: what its local network sends goes into the tunnel, under the
//! router's vip, and nowhere else where that is wanted.

use std::collections::BTreeMap;
use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use taltun_tests::command::output_of;
use taltun_tests::netns::Namespace;
use taltun_tests::node::{Keys, Node};
use taltun_tests::recipes::internet::{self, HERE, HUB, Link, WORLD};
use taltun_tests::snapshot::Snapshot;
use taltun_tests::sys::Signal;
use taltun_tests::topology::private_prefix;
use taltun_tests::traffic::capture::{Capture, Packet};
use taltun_tests::traffic::ping::Pinger;
use taltun_tests::traffic::service::{self, Service};

use crate::support::{Case, UP_LIMIT, ensure_answers, eventually, taltun};

pub const CASES: &[Case] = &[
    Case {
        name: "router: devices behind it go into a full tunnel and nowhere else, with nftables",
        programs: &["nft"],
        run: || full("nftables"),
    },
    Case {
        name: "router: devices behind it go into a full tunnel and nowhere else, with iptables",
        programs: &["iptables", "ip6tables"],
        run: || full("iptables"),
    },
    Case {
        name: "router: devices behind it reach what is routed and go around otherwise, with nftables",
        programs: &["nft"],
        run: || some("nftables"),
    },
    Case {
        name: "router: devices behind it reach what is routed and go around otherwise, with iptables",
        programs: &["iptables", "ip6tables"],
        run: || some("iptables"),
    },
    Case {
        name: "router: a trace from a device behind it shows the router, the hub and the way on",
        programs: &["nft"],
        run: trace,
    },
];

/// A device, and its router.
const DEVICE: Link = Link {
    v4: "192.168.8.2/24",
    v4_gateway: "192.168.8.1",
    v6: "fd08::2/64",
    v6_gateway: "fd08::1",
};
pub const ROUTER: &str = "198.51.100.2";
pub const ROUTER_V6: &str = "2001:db8:2::2";
pub const THE_HUB: &str = "203.0.113.1";
pub const THE_HUB_V6: &str = "2001:db8:1::1";
/// A service, and one that no route of the tunnel's is for.
pub const SERVICE: &str = "198.18.0.80";
pub const SERVICE_V6: &str = "2001:db8:18::80";
pub const ANOTHER: &str = "198.19.0.80";
const LIMIT: Duration = Duration::from_secs(5);
/// For what must not come about, or is tried again.
const SHORT: Duration = Duration::from_millis(700);

/// A device, a router with a client of Taltun's, a hub, and a server in the world.
pub struct Home {
    pub device: Namespace,
    pub router: Namespace,
    net: Namespace,
    pub world: Namespace,
    hub: Option<Node>,
    client: Option<Node>,
    _hub_machine: Namespace,
    _services: Vec<Service>,
}

impl Home {
    /// The machines and a hub. The router translates what leaves it, by `firewall`, and
    /// checks reverse paths strictly.
    pub fn create(firewall: &str) -> Result<(Self, Keys, Keys)> {
        let prefix = private_prefix();
        let machine = |name: &str| Namespace::create(&format!("{prefix}-{name}"));
        let net = machine("net")?;
        internet::make_router(&net)?;
        let (hub, router, world, device) = (
            machine("hub")?,
            machine("router")?,
            machine("world")?,
            machine("device")?,
        );
        for (namespace, name, link) in [
            (&hub, "to-hub", HUB),
            (&router, "to-router", HERE),
            (&world, "to-world", WORLD),
        ] {
            internet::connect((namespace, "eth0"), (&net, name), link, true)?;
        }
        world.ip(&format!("addr add {ANOTHER}/32 dev lo"))?;
        net.ip(&format!("route add {ANOTHER} via {SERVICE}"))?;
        internet::make_router(&router)?;
        router.run(|| {
            for name in ["all", "default", "eth0"] {
                fs::write(format!("/proc/sys/net/ipv4/conf/{name}/rp_filter"), "1")?;
            }
            std::io::Result::Ok(())
        })??;
        internet::connect((&device, "eth0"), (&router, "br-lan"), DEVICE, true)?;
        if firewall == "nftables" {
            for words in [
                "add table inet wan",
                "add chain inet wan out { type nat hook postrouting priority srcnat; }",
                "add rule inet wan out oifname eth0 masquerade",
            ] {
                output_of(router.command("nft").arg(words))?;
            }
        } else {
            for program in ["iptables", "ip6tables"] {
                let rule = "-t nat -A POSTROUTING -o eth0 -j MASQUERADE";
                output_of(router.command(program).args(rule.split(' ')))?;
            }
        }
        let mut services = Vec::new();
        for at in [SERVICE, SERVICE_V6, ANOTHER] {
            services.push(Service::start(&world, SocketAddr::new(at.parse()?, 80))?);
        }
        let (ours, theirs) = (Keys::generate(&taltun()?)?, Keys::generate(&taltun()?)?);
        let text = format!(
            "[interface]\nmode = \"server\"\nvip = [\"10.4.0.1/24\", \"fd04::1/64\"]\n\
             private_key = \"{}\"\nip_forward = true\nmtu = 1400\n[nat]\nmasquerade = true\n\
             [[peers]]\npublic_key = \"{}\"\nvip = [\"10.4.0.2\", \"fd04::2\"]\n",
            theirs.private, ours.public
        );
        let hub_node = Node::start_with_text(&hub, &taltun()?, &text)?;
        let home = Self {
            device,
            router,
            net,
            world,
            hub: Some(hub_node),
            client: None,
            _hub_machine: hub,
            _services: services,
        };
        // Without a tunnel the router is a router as any.
        home.sees(SERVICE, ROUTER)?;
        home.sees(SERVICE_V6, ROUTER_V6)?;
        Ok((home, ours, theirs))
    }

    /// Starts the router's client; `routes` are its networks, `more` lines of `[interface]`,
    /// `sections` follow the peer.
    pub fn start(
        &mut self,
        (ours, theirs): &(Keys, Keys),
        routes: &str,
        more: &str,
        sections: &str,
    ) -> Result<()> {
        let text = format!(
            "[interface]\nvip = [\"10.4.0.2/24\", \"fd04::2/64\"]\nprivate_key = \"{}\"\n\
             mtu = 1400\nip_forward = true\nroutes = {routes}\n{more}\
             [[peers]]\nname = \"hub\"\npublic_key = \"{}\"\nvip = [\"10.4.0.1\", \"fd04::1\"]\n\
             allowed_ips = [\"0.0.0.0/0\", \"::/0\"]\nendpoint = \"{THE_HUB}:9000\"\n\
             persistent_keepalive = 1\n{sections}",
            ours.private, theirs.public
        );
        self.client = Some(Node::start_with_text(&self.router, &taltun()?, &text)?);
        ensure_answers(&self.router, "10.4.0.1".parse()?)
    }

    /// Stops the client in order, and the router is as it was.
    pub fn stop_client(&mut self, before: &Snapshot) -> Result<()> {
        let client = self.client.take().context("no client")?;
        client.stop(Signal::Terminate)?;
        ensure_undone(before, &self.router)
    }

    fn client(&mut self) -> Result<&mut Node> {
        self.client.as_mut().context("no client")
    }

    /// Who a service takes the device for.
    pub fn sees(&self, service: &str, expected: &str) -> Result<()> {
        sees(&self.device, service, expected, LIMIT)
    }

    pub fn stop(mut self) -> Result<()> {
        if let Some(client) = self.client.take() {
            client.stop(Signal::Terminate)?;
        }
        self.hub.take().context("no hub")?.stop(Signal::Terminate)
    }
}

pub fn sees(from: &Namespace, service: &str, expected: &str, limit: Duration) -> Result<()> {
    let service = SocketAddr::new(service.parse()?, 80);
    let seen = service::visit(from, service, limit)?;
    ensure!(
        seen == expected.parse::<IpAddr>()?,
        "{service} saw {seen}, not {expected}"
    );
    Ok(())
}

fn full(firewall: &str) -> Result<()> {
    let (mut home, ours, theirs) = Home::create(firewall)?;
    let before = Snapshot::take(&home.router)?;
    home.start(
        &(ours, theirs),
        "[\"0.0.0.0/0\", \"::/0\"]",
        &format!("kill_switch = true\nmss_clamp = true\nfirewall = \"{firewall}\"\n"),
        "[nat]\nmasquerade = true\nout = \"tunnel\"\n",
    )?;
    let seen = Capture::start(&home.world, "eth0")?;
    let through_the_tunnel = |home: &Home| -> Result<()> {
        home.sees(SERVICE, THE_HUB)?;
        home.sees(SERVICE_V6, THE_HUB_V6)
    };
    through_the_tunnel(&home)?;
    let seen = seen.finish();
    for (from, segment) in [(THE_HUB, 1360), (THE_HUB_V6, 1340)] {
        let segments = segments(&seen, from.parse()?);
        ensure!(segments == [segment], "{from} announced {segments:?}");
    }
    // The manual's way to ask.
    let way = home
        .router
        .ip("route get 198.18.0.80 from 192.168.8.2 iif br-lan")?;
    ensure!(way.contains("dev taltun0"), "{way}");
    // The router itself goes the same way, and its devices still reach it.
    sees(&home.router, SERVICE, THE_HUB, LIMIT)?;
    ensure_answers(&home.device, DEVICE.v4_gateway.parse()?)?;
    ensure_answers(&home.device, DEVICE.v6_gateway.parse()?)?;
    hands_out_addresses(&home)?;

    // What somebody takes away comes back.
    if firewall == "nftables" {
        let words = "delete table inet taltun-taltun0";
        output_of(home.router.command("nft").arg(words))?;
    } else {
        for program in ["iptables", "ip6tables"] {
            let words = "-t nat -D POSTROUTING -j taltun-taltun0-nat";
            output_of(home.router.command(program).args(words.split(' ')))?;
        }
    }
    eventually("the rules are back", UP_LIMIT, || {
        Ok(sees(&home.device, SERVICE, THE_HUB, SHORT).is_ok()
            && sees(&home.device, SERVICE_V6, THE_HUB_V6, SHORT).is_ok())
    })?;

    // Without the tunnel nothing of the devices' leaves.
    let wan = Capture::start(&home.net, "to-router")?;
    home.client()?.kill()?;
    for service in [SERVICE, SERVICE_V6, ANOTHER] {
        let to = SocketAddr::new(service.parse()?, 80);
        let answer = service::visit(&home.device, to, SHORT);
        ensure!(answer.is_err(), "{to} answered {answer:?}");
        let answer = Pinger::new(&home.device, to.ip())?.ping(SHORT);
        ensure!(!matches!(answer, Ok(Some(_))), "{to} answers pings");
    }
    ensure_answers(&home.device, DEVICE.v4_gateway.parse()?)?;
    let leaked = leaked(wan)?;
    ensure!(leaked.is_empty(), "these left by the WAN: {leaked:?}");

    let router = &home.router;
    let client = home.client.as_mut().context("no client")?;
    client.start_again(router)?;
    eventually("it goes on", UP_LIMIT, || {
        Ok(sees(&home.device, SERVICE, THE_HUB, SHORT).is_ok())
    })?;
    through_the_tunnel(&home)?;
    home.client()?.end(Signal::Terminate)?;
    home.sees(SERVICE, ROUTER)?;
    home.sees(SERVICE_V6, ROUTER_V6)?;
    ensure_undone(&before, &home.router)?;
    home.client = None;
    home.stop()
}

/// Nothing of Taltun's is left. Empty tables of iptables, and what rules of others counted, are
/// no matter.
pub fn ensure_undone(before: &Snapshot, router: &Namespace) -> Result<()> {
    let mut changes = before.difference(&Snapshot::take(router)?);
    changes.retain(|line| line.contains("taltun") || !line.contains("nftables "));
    ensure!(changes.is_empty(), "{changes:?}");
    Ok(())
}

/// The segment sizes that connections to a service announced, those from `from`.
fn segments(seen: &BTreeMap<Packet, u64>, from: IpAddr) -> Vec<u16> {
    let mut segments: Vec<u16> = seen
        .keys()
        .filter(|packet| packet.from == from && packet.to_port == 80)
        .filter_map(|packet| packet.segment)
        .collect();
    segments.dedup();
    segments
}

/// What a router that hands out addresses sends arrives, the kill switch notwithstanding.
fn hands_out_addresses(home: &Home) -> Result<()> {
    let device = home.device.udp("0.0.0.0:68")?;
    device.set_read_timeout(Some(LIMIT))?;
    let server = home.router.udp("192.168.8.1:67")?;
    server.set_broadcast(true)?;
    server.send_to(b"offer", "192.168.8.255:68")?;
    let mut buffer = [0; 16];
    let length = device.recv(&mut buffer).context("no offer came")?;
    ensure!(&buffer[..length] == b"offer");
    Ok(())
}

/// What was on its way to the world, in the clear.
fn leaked(wan: Capture) -> Result<Vec<Packet>> {
    let services: Vec<IpAddr> = [SERVICE, SERVICE_V6, ANOTHER]
        .iter()
        .map(|address| Ok(address.parse()?))
        .collect::<Result<_>>()?;
    let seen = wan.finish().into_keys();
    Ok(seen
        .filter(|packet| services.contains(&packet.to))
        .collect())
}

fn some(firewall: &str) -> Result<()> {
    let (mut home, ours, theirs) = Home::create(firewall)?;
    let before = Snapshot::take(&home.router)?;
    home.start(
        &(ours, theirs),
        "[\"198.18.0.0/24\", \"2001:db8:18::/64\"]",
        &format!("mss_clamp = true\nfirewall = \"{firewall}\"\n"),
        "[nat]\nmasquerade = true\nout = [\"tunnel\", \"eth0\"]\n",
    )?;
    home.sees(SERVICE, THE_HUB)?;
    home.sees(SERVICE_V6, THE_HUB_V6)?;
    home.sees(ANOTHER, ROUTER)?;
    // The tunnel's own addresses are reached, too.
    for hub in ["10.4.0.1", "fd04::1"] {
        ensure_answers(&home.device, hub.parse()?)?;
    }
    home.stop_client(&before)?;
    home.sees(SERVICE, ROUTER)?;
    home.stop()
}

fn trace() -> Result<()> {
    let (mut home, ours, theirs) = Home::create("nftables")?;
    home.start(
        &(ours, theirs),
        "[\"0.0.0.0/0\", \"::/0\"]",
        "",
        "[nat]\nmasquerade = true\nout = \"tunnel\"\n",
    )?;
    home.sees(SERVICE, THE_HUB)?;
    home.sees(SERVICE_V6, THE_HUB_V6)?;
    for (to, expected) in [
        (
            SERVICE,
            ["192.168.8.1", "10.4.0.1", "203.0.113.254", SERVICE],
        ),
        (
            SERVICE_V6,
            ["fd08::1", "fd04::1", "2001:db8:1::ff", SERVICE_V6],
        ),
    ] {
        let mut pinger = Pinger::new(&home.device, to.parse()?)?;
        for (hops, expected) in (1..).zip(expected) {
            let found = pinger.hop(hops, LIMIT)?;
            ensure!(
                found == Some(expected.parse()?),
                "hop {hops} to {to} is {found:?}"
            );
        }
    }
    home.stop()
}
