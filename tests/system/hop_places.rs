//! A range of ports at one of several addresses of a hub, and on interfaces without an Ethernet header.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use taltun_tests::command::output_of;
use taltun_tests::node::{Keys, Node};
use taltun_tests::sys::Signal;
use taltun_tests::topology::{Star, WIRE_A, WIRE_B, private_prefix};
use taltun_tests::traffic::ping::Pinger;

use crate::hopping::EACH_SECOND;
use crate::support::{ANSWER_LIMIT, Case, UP_LIMIT, ensure_answers_within, eventually, taltun};
use crate::wireguard::{Program, Wg, WgKeys, WgPeer, at};

pub const CASES: &[Case] = &[
    Case {
        name: "hop: a hub that listens at its second address alone has the range there, by nftables",
        programs: &["nft"],
        run: || second_address("nftables"),
    },
    Case {
        name: "hop: a hub that listens at its second address alone has the range there, by iptables",
        programs: &["iptables"],
        run: || second_address("iptables"),
    },
    Case {
        name: "hop: ports that others' rules led elsewhere before stay so, by nftables",
        programs: &["nft"],
        run: || led_elsewhere("nftables"),
    },
    Case {
        name: "hop: ports that others' rules led elsewhere before stay so, by iptables",
        programs: &["iptables"],
        run: || led_elsewhere("iptables"),
    },
    Case {
        name: "hop: peers that come in by a tunnel of another VPN reach the range by a rule, beside XDP",
        programs: &["nft", "wireguard-go", "wg"],
        run: by_another_tunnel,
    },
    Case {
        name: "hop: answers that leave by a tunnel of another VPN come from the port that was used",
        programs: &["nft", "wireguard-go", "wg"],
        run: out_by_another_tunnel,
    },
    Case {
        name: "hop: a port and a range at one address are two paths that work",
        programs: &[],
        run: two_paths_to_an_address,
    },
];

const HUB_VIP: &str = "10.4.0.1";
const CLIENT_VIP: &str = "10.4.0.2";
/// The addresses of the tunnel of another VPN: the hub's, and the other end's.
const OUTER: [&str; 2] = ["10.9.0.1", "10.9.0.2"];

/// A hub with a range in the middle, and a client of it in a.
struct Lab {
    net: Star,
    hub: Keys,
    client: Keys,
}

impl Lab {
    fn new() -> Result<Self> {
        let (hub, client) = (Keys::generate(&taltun()?)?, Keys::generate(&taltun()?)?);
        let net = Star::create(&private_prefix())?;
        Ok(Self { net, hub, client })
    }

    fn start_hub(&self, local_addr: &str, firewall: &str, xdp: &str) -> Result<Node> {
        let text = format!(
            "[interface]\nmode = \"server\"\nvip = \"{HUB_VIP}/24\"\nprivate_key = \"{}\"\n\
             local_addr = \"{local_addr}\"\nfirewall = \"{firewall}\"\n[accel]\nxdp = \"{xdp}\"\n\
             [hop]\nport_range = [4096, 8191]\n\
             [[peers]]\npublic_key = \"{}\"\nvip = \"{CLIENT_VIP}\"\n",
            self.hub.private, self.client.public
        );
        Node::start_with_text(&self.net.hub, &taltun()?, &text)
    }

    fn start_client(&self, endpoint: &str) -> Result<Node> {
        self.start_client_at(&format!("endpoint = \"{endpoint}\""))
    }

    fn start_client_at(&self, endpoints: &str) -> Result<Node> {
        let text = format!(
            "[interface]\nmode = \"client\"\nvip = \"{CLIENT_VIP}/24\"\nprivate_key = \"{}\"\n\
             [[peers]]\npublic_key = \"{}\"\nvip = \"{HUB_VIP}\"\n{endpoints}\n\
             [hop]\n{EACH_SECOND}",
            self.client.private, self.hub.public
        );
        Node::start_with_text(&self.net.a, &taltun()?, &text)
    }

    /// The client pings, loses nothing and goes from port to port meanwhile.
    fn ensure_hops(&self, client: &Node) -> Result<()> {
        ensure_answers_within(&self.net.a, HUB_VIP.parse()?, UP_LIMIT)
            .with_context(|| client.log())?;
        let mut pinger = Pinger::new(&self.net.a, HUB_VIP.parse()?)?;
        let (start, mut used) = (Instant::now(), BTreeSet::new());
        while start.elapsed() < Duration::from_secs(10) {
            let answer = pinger.ping(ANSWER_LIMIT)?;
            ensure!(answer.is_some(), "a ping is lost\n{}", client.log());
            let endpoint = client.status()?.peers[0].endpoint;
            used.extend(endpoint.map(|endpoint| endpoint.port()));
            std::thread::sleep(Duration::from_millis(200));
        }
        ensure!(
            used.len() >= 3,
            "{used:?}\n{}\n{}",
            client.tell(&["status"])?,
            client.log()
        );
        let in_range = used.iter().all(|port| (4096..=8191).contains(port));
        ensure!(in_range, "{used:?}");
        Ok(())
    }

    /// A tunnel of wireguard-go's between the hub and the namespace of `other`, which has all that
    /// `of_other` covers.
    fn another_tunnel(&self, other: Other, of_other: &str) -> Result<[Wg; 2]> {
        let (place, hub_at) = match other {
            Other::A => (&self.net.a, WIRE_A.near_v4()),
            Other::B => (&self.net.b, WIRE_B.near_v4()),
        };
        let keys = [WgKeys::generate()?, WgKeys::generate()?];
        let near = Wg::start(Program::WireguardGo, &self.net.hub)?;
        let far = Wg::start(Program::WireguardGo, place)?;
        let peer = |keys: &WgKeys, allowed: &str, endpoint| WgPeer {
            public_key: keys.public.clone(),
            allowed_ips: allowed.to_owned(),
            endpoint,
            ..WgPeer::default()
        };
        near.configure(&keys[0], 51_820, &[peer(&keys[1], of_other, None)])?;
        let hub = peer(&keys[0], "0.0.0.0/0", Some(at(hub_at, 51_820)));
        far.configure(&keys[1], 0, &[hub])?;
        near.bring_up(&[&format!("{}/24", OUTER[0])])?;
        far.bring_up(&[&format!("{}/24", OUTER[1])])?;
        ensure_answers_within(place, OUTER[0].parse()?, UP_LIMIT)?;
        Ok([near, far])
    }
}

/// Probes of both are answered from the port that each went to.
fn two_paths_to_an_address() -> Result<()> {
    let lab = Lab::new()?;
    let hub = lab.start_hub("0.0.0.0:9000", "auto", "generic")?;
    let at = WIRE_A.near_v4();
    let client = lab.start_client_at(&format!(
        "endpoints = [\"{at}:9000\", \"{at}:4096-6000\", \"{at}:6001-8191\"]"
    ))?;
    ensure_answers_within(&lab.net.a, HUB_VIP.parse()?, UP_LIMIT)?;
    let mut pinger = Pinger::new(&lab.net.a, HUB_VIP.parse()?)?;
    eventually("all paths answer", UP_LIMIT, || {
        pinger.ping(ANSWER_LIMIT)?;
        let status: Value = serde_json::from_str(&client.tell(&["status", "--json"])?)?;
        let paths = status["peers"][0]["paths"].as_array().context("no paths")?;
        let answers = |path: &Value| {
            let works = path["state"] == "used" || path["state"] == "ready";
            works && path["delay_seconds"].is_number()
        };
        Ok(paths.len() == 3 && paths.iter().all(answers))
    })
    .with_context(|| client.tell(&["status"]).unwrap_or_default())?;
    client.stop(Signal::Terminate)?;
    hub.stop(Signal::Terminate)
}

/// Where a tunnel of another VPN leads.
#[derive(Clone, Copy)]
enum Other {
    A,
    B,
}

/// What `status --json` tells of the range.
fn range(hub: &Node) -> Result<Value> {
    let status: Value = serde_json::from_str(&hub.tell(&["status", "--json"])?)?;
    Ok(status["port_range"].clone())
}

fn second_address(tool: &str) -> Result<()> {
    let lab = Lab::new()?;
    let IpAddr::V6(first_v6) = WIRE_A.near_v6() else {
        unreachable!("it is one of IPv6");
    };
    let mut octets = first_v6.octets();
    octets[15] = 0x77;
    let second = [IpAddr::from([10, 99, 1, 77]), IpAddr::from(octets)];
    lab.net
        .hub
        .ip(&format!("addr add {}/24 dev to-a", second[0]))?;
    let v6 = format!("addr add {}/64 dev to-a nodad", second[1]);
    lab.net.hub.ip(&v6)?;
    for address in second {
        let hub = lab.start_hub(&at(address, 9000), tool, "off")?;
        let by = range(&hub)?;
        ensure!(by["by"] == tool, "{by}");
        let host = match address {
            IpAddr::V4(_) => address.to_string(),
            IpAddr::V6(_) => format!("[{address}]"),
        };
        let client = lab.start_client(&format!("{host}:4096-8191"))?;
        lab.ensure_hops(&client)
            .with_context(|| format!("{address}\n{}", hub.log()))?;
        client.stop(Signal::Terminate)?;
        hub.stop(Signal::Terminate)?;
    }
    lab.net.delete()
}

/// Docker's way to publish a port: no socket of the hub has it.
fn led_elsewhere(tool: &str) -> Result<()> {
    let lab = Lab::new()?;
    let Star { hub, a, b, .. } = &lab.net;
    let guest = WIRE_B.far_v4();
    hub.run(|| std::fs::write("/proc/sys/net/ipv4/ip_forward", "1"))??;
    b.ip(&format!(
        "route add {} via {}",
        WIRE_A.far_v4(),
        WIRE_B.near_v4()
    ))?;
    let rule = match tool {
        "nftables" => format!(
            "nft add table ip guest && nft 'add chain ip guest in {{ type nat hook prerouting priority \
             dstnat; }}' && nft add rule ip guest in udp dport 5000 dnat to {guest}:5000"
        ),
        _ => format!("iptables -t nat -A PREROUTING -p udp --dport 5000 -j DNAT --to {guest}:5000"),
    };
    output_of(hub.command("sh").args(["-c", &rule]))?;
    let node = lab.start_hub("0.0.0.0:9000", tool, "off")?;
    let by = range(&node)?;
    ensure!(by["by"] == tool, "{by}");
    let (there, here) = (b.udp((guest, 5000))?, a.udp((WIRE_A.far_v4(), 0))?);
    there.set_read_timeout(Some(UP_LIMIT))?;
    here.send_to(b"for the guest", (WIRE_A.near_v4(), 5000))?;
    let mut buffer = [0; 64];
    let (length, from) = there
        .recv_from(&mut buffer)
        .context("the guest hears nothing")?;
    ensure!(
        &buffer[..length] == b"for the guest" && from.ip() == WIRE_A.far_v4(),
        "{from}"
    );
    // The others lead to the hub.
    let client = lab.start_client(&format!("{}:4096-8191", WIRE_A.near_v4()))?;
    lab.ensure_hops(&client)?;
    client.stop(Signal::Terminate)?;
    node.stop(Signal::Terminate)?;
    lab.net.delete()
}

fn by_another_tunnel() -> Result<()> {
    let lab = Lab::new()?;
    let outer = lab.another_tunnel(Other::A, &format!("{}/32", OUTER[1]))?;
    let hub = lab.start_hub("0.0.0.0:9000", "nftables", "generic")?;
    let by = range(&hub)?;
    ensure!(
        by["by"] == "xdp" && by["elsewhere"] == "nftables",
        "{by}\n{}",
        hub.log()
    );
    let why = by["reason"].as_str().unwrap_or_default();
    ensure!(why.contains(outer[0].interface()), "{by}");
    let client = lab.start_client(&format!("{}:4096-8191", OUTER[0]))?;
    lab.ensure_hops(&client)?;
    // The other ways in go on.
    client.stop(Signal::Terminate)?;
    let client = lab.start_client(&format!("{}:4096-8191", WIRE_A.near_v4()))?;
    lab.ensure_hops(&client)?;
    client.stop(Signal::Terminate)?;
    drop(outer);
    // Without it no rule is left.
    eventually("the tunnel's end is noticed", UP_LIMIT, || {
        Ok(range(&hub)?["elsewhere"].is_null())
    })?;
    hub.stop(Signal::Terminate)?;
    lab.net.delete()
}

/// Questions come in by the wire to a, and a route leads answers to b.
fn out_by_another_tunnel() -> Result<()> {
    let lab = Lab::new()?;
    let a = WIRE_A.far_v4();
    let outer = lab.another_tunnel(Other::B, &format!("{}/32, {a}/32", OUTER[1]))?;
    output_of(
        lab.net
            .hub
            .command("sysctl")
            .args(["-qw", "net.ipv4.conf.all.rp_filter=0"]),
    )?;
    let table = format!(
        "table ip seen {{\nset ports {{ type inet_service; flags dynamic; size 65535; }}\n\
         chain in {{ type filter hook prerouting priority -300; iifname \"{}\" ip daddr {a} \
         add @ports {{ udp sport }}; }}\n}}\n",
        outer[1].interface()
    );
    output_of(lab.net.b.command("nft").arg(&table))?;
    let hub = lab.start_hub("0.0.0.0:9000", "nftables", "generic")?;
    let way = outer[0].interface();
    lab.net.hub.ip(&format!("route add {a}/32 dev {way}"))?;
    // What is answered never comes back to it, so it asks again and again.
    let client = lab.start_client(&format!("{}:4096-8191", WIRE_A.near_v4()))?;
    let mut pinger = Pinger::new(&lab.net.a, HUB_VIP.parse()?)?;
    let seen = || -> Result<BTreeSet<u64>> {
        let mut list = lab.net.b.command("nft");
        let listed = output_of(list.args(["-j", "list", "set", "ip", "seen", "ports"]))?;
        let listed: Value = serde_json::from_str(&listed)?;
        let objects = listed["nftables"].as_array().context("a list")?;
        let set = objects.iter().find_map(|object| object.get("set"));
        let elements = set.and_then(|set| set["elem"].as_array());
        Ok(elements
            .into_iter()
            .flatten()
            .filter_map(Value::as_u64)
            .collect())
    };
    eventually("answers leave", UP_LIMIT, || {
        pinger.ping(Duration::from_millis(200))?;
        Ok(seen()?.len() >= 2)
    })
    .with_context(|| format!("{:?}\n{}\n{}", seen(), client.log(), hub.log()))?;
    let ports = seen()?;
    let in_range = ports.iter().all(|port| (4096..=8191).contains(port));
    ensure!(in_range, "{ports:?}");
    for node in [client, hub] {
        node.stop(Signal::Terminate)?;
    }
    drop(outer);
    lab.net.delete()
}
