//! A client that hops over the ports of its hub, and changes between its addresses: through NATs,
//! past firewalls, while it roams, and at a hub that isn't a Taltun.
//!
//! A router is between the two. It counts the ports that it sees in a set of nftables.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use taltun_tests::command::output_of;
use taltun_tests::netns::Namespace;
use taltun_tests::node::{Keys, Node};
use taltun_tests::sys::Signal;
use taltun_tests::topology::{Star, WIRE_A, WIRE_B, private_prefix};
use taltun_tests::traffic::ping::Pinger;
use taltun_tests::traffic::stream::Stream;

use crate::support::{ANSWER_LIMIT, Case, UP_LIMIT, ensure_answers_within, eventually, taltun};
use crate::wireguard::{Program, Wg, WgKeys, WgPeer};

pub const CASES: &[Case] = &[
    Case {
        name: "hop: each second, by a NAT whose mappings live for 2 s, no ping is lost and eight ports are used",
        programs: &["nft"],
        run: || short_mappings(XDP),
    },
    Case {
        name: "hop: so it is where a firewall rule of the hub leads the range to it",
        programs: &["nft"],
        run: || short_mappings(REDIRECT),
    },
    Case {
        name: "hop: each second, by a NAT that has room for 64 connections",
        programs: &["nft"],
        run: small_table,
    },
    Case {
        name: "hop: a firewall that drops half of the range costs probes and no ping",
        programs: &["nft"],
        run: half_of_the_range,
    },
    Case {
        name: "hop: with an interval of 0 each batch takes another port, and no ping is lost",
        programs: &["nft"],
        run: each_batch,
    },
    Case {
        name: "hop: of two addresses one goes dark in mid-transfer: traffic moves to the other, and back later",
        programs: &["nft"],
        run: dark_address,
    },
    Case {
        name: "hop: a client hops and roams at once",
        programs: &["nft"],
        run: roaming,
    },
    Case {
        name: "hop: a hub that is no Taltun is never hopped at",
        programs: &["nft", "wireguard-go", "wg"],
        run: another_program,
    },
];

/// Those that measure.
pub const ALONE: &[Case] = &[Case {
    name: "hop: TCP through a hop each second has no more retransmissions than without",
    programs: &["nft"],
    run: tcp,
}];

/// By what the range leads to the hub.
pub(crate) const XDP: &str = "[accel]\nxdp = \"generic\"\n";
pub(crate) const REDIRECT: &str = "[accel]\nxdp = \"off\"\n";

const HUB_VIP: &str = "10.4.0.1";
const CLIENT_VIP: &str = "10.4.0.2";
pub(crate) const EACH_SECOND: &str = "hop_interval = 1\nprobe_interval = 1\n";
/// The second address of the hub.
const SECOND: &str = "10.99.2.3";
/// What a test looks at for a transfer that goes on.
const ON_LIMIT: Duration = Duration::from_secs(60);

/// A client, a router, and a place for a hub.
pub(crate) struct Lab {
    /// The router is where the star has its hub; the client is its a, the hub its b.
    pub(crate) net: Star,
    ours: Keys,
    theirs: Keys,
}

impl Lab {
    /// `rules` are chains and sets of a table of the router's.
    pub(crate) fn new(rules: &str) -> Result<Self> {
        let net = Star::create(&private_prefix())?;
        let router = &net.hub;
        for setting in ["net.ipv4.ip_forward=1", "net.ipv4.conf.all.rp_filter=0"] {
            output_of(router.command("sysctl").args(["-qw", setting]))?;
        }
        net.a
            .ip(&format!("route add default via {}", WIRE_A.near_v4()))?;
        net.b
            .ip(&format!("route add default via {}", WIRE_B.near_v4()))?;
        net.b.ip(&format!("addr add {SECOND}/24 dev to-hub"))?;
        let table = format!(
            "table ip hop {{\n\
             set seen {{ type inet_service; flags dynamic; size 65535; }}\n\
             chain count {{ type filter hook forward priority -10; \
             ip saddr 10.99.1.0/24 udp dport 4096-8191 add @seen {{ udp dport }}; }}\n\
             {rules}}}"
        );
        output_of(router.command("nft").arg(&table))?;
        let (ours, theirs) = (Keys::generate(&taltun()?)?, Keys::generate(&taltun()?)?);
        Ok(Self { net, ours, theirs })
    }

    pub(crate) fn hub(&self, more: &str) -> Result<Node> {
        let text = format!(
            "[interface]\nmode = \"server\"\nvip = \"{HUB_VIP}/24\"\nprivate_key = \"{}\"\n\
             [[peers]]\npublic_key = \"{}\"\nvip = \"{CLIENT_VIP}\"\n\
             [hop]\nport_range = [4096, 8191]\n{more}",
            self.theirs.private, self.ours.public
        );
        Node::start_with_text(&self.net.b, &taltun()?, &text)
    }

    fn client(&self, endpoints: &str, hop: &str) -> Result<Node> {
        self.client_of(&self.theirs.public, endpoints, hop)
    }

    pub(crate) fn client_text(&self, endpoints: &str, hop: &str) -> String {
        self.client_text_of(&self.theirs.public, endpoints, hop)
    }

    fn client_text_of(&self, hub: &str, endpoints: &str, hop: &str) -> String {
        format!(
            "[interface]\nmode = \"client\"\nvip = \"{CLIENT_VIP}/24\"\nprivate_key = \"{}\"\n\
             [[peers]]\npublic_key = \"{hub}\"\nvip = \"{HUB_VIP}\"\n{endpoints}\n\
             [hop]\n{hop}",
            self.ours.private
        )
    }

    fn client_of(&self, hub: &str, endpoints: &str, hop: &str) -> Result<Node> {
        let text = self.client_text_of(hub, endpoints, hop);
        let node = Node::start_with_text(&self.net.a, &taltun()?, &text)?;
        ensure_answers_within(&self.net.a, HUB_VIP.parse()?, UP_LIMIT)
            .with_context(|| node.log())?;
        // The first handshake may have gone to several.
        self.forget_seen()?;
        Ok(node)
    }

    fn forget_seen(&self) -> Result<()> {
        let router = &self.net.hub;
        output_of(router.command("nft").arg("flush set ip hop seen")).map(drop)
    }

    /// The ports that the router saw.
    pub(crate) fn seen(&self) -> Result<BTreeSet<u16>> {
        let listed = self
            .net
            .hub
            .command("nft")
            .args(["-j", "list", "set", "ip", "hop", "seen"])
            .output()?;
        let listed: serde_json::Value = serde_json::from_slice(&listed.stdout)?;
        let objects = listed["nftables"].as_array().context("a list")?;
        let set = objects
            .iter()
            .find_map(|object| object.get("set"))
            .context("the set")?;
        let ports = set["elem"].as_array().into_iter().flatten();
        Ok(ports
            .filter_map(serde_json::Value::as_u64)
            .map(|port| port as u16)
            .collect())
    }

    pub(crate) fn end(self, nodes: [Node; 2]) -> Result<()> {
        for node in nodes {
            node.stop(Signal::Terminate)?;
        }
        self.net.delete()
    }
}

pub(crate) fn range() -> String {
    format!("endpoint = \"{}:4096-8191\"", WIRE_B.far_v4())
}

/// Pings five times a second for so long, and gives how many weren't answered.
pub(crate) fn lost(from: &Namespace, time: Duration) -> Result<usize> {
    let mut pinger = Pinger::new(from, HUB_VIP.parse()?)?;
    let (start, mut lost) = (Instant::now(), 0);
    while start.elapsed() < time {
        lost += usize::from(pinger.ping(ANSWER_LIMIT)?.is_none());
        sleep(Duration::from_millis(200));
    }
    Ok(lost)
}

/// No session began since.
fn ensure_handshakes(node: &Node, before: u64) -> Result<()> {
    let now = node.status()?.peers[0].handshakes;
    ensure!(now == before, "{before} handshakes, and {now} later");
    Ok(())
}

const MASQUERADE: &str =
    "chain nat { type nat hook postrouting priority 100; ip saddr 10.99.1.0/24 masquerade; }\n";

fn short_mappings(led_by: &str) -> Result<()> {
    let lab = Lab::new(MASQUERADE)?;
    for timeout in ["timeout", "timeout_stream"] {
        let setting = format!("net.netfilter.nf_conntrack_udp_{timeout}=2");
        output_of(lab.net.hub.command("sysctl").args(["-qw", &setting]))?;
    }
    let hub = lab.hub(led_by)?;
    let client = lab.client(&range(), EACH_SECOND)?;
    let before = client.status()?.peers[0].handshakes;
    let lost = lost(&lab.net.a, Duration::from_secs(15))?;
    ensure!(lost == 0, "{lost} pings lost\n{}", client.log());
    ensure_handshakes(&client, before)?;
    let seen = lab.seen()?;
    ensure!((5..=8).contains(&seen.len()), "{seen:?}");
    // What looks like two machines with one key, and isn't.
    let status = hub.status()?;
    ensure!(status.peers[0].moves_between.is_empty(), "{}", hub.log());
    lab.end([client, hub])
}

fn small_table() -> Result<()> {
    let room = "set few { type ipv4_addr; flags dynamic; size 128; }\n\
         chain room { type filter hook forward priority 0; \
         ct state new meta l4proto udp add @few { ip saddr ct count over 64 } drop; }\n";
    let lab = Lab::new(&format!("{MASQUERADE}{room}"))?;
    let hub = lab.hub(XDP)?;
    let client = lab.client(&range(), EACH_SECOND)?;
    let lost = lost(&lab.net.a, Duration::from_secs(15))?;
    ensure!(lost == 0, "{lost} pings lost\n{}", client.log());
    let count = lab
        .net
        .hub
        .run(|| std::fs::read_to_string("/proc/sys/net/netfilter/nf_conntrack_count"))??;
    let count: usize = count.trim().parse()?;
    // Those of the client's first handshake are among them.
    ensure!((5..=32).contains(&count), "{count} connections");
    lab.end([client, hub])
}

/// Eight ports are chosen at random, and of one choice in 28 fewer than two are open.
const TRIES: usize = 3;

fn half_of_the_range() -> Result<()> {
    let blocked = "chain blocked { type filter hook forward priority 0; \
         udp dport 4096-8191 udp dport & 1 == 0 counter drop; }\n";
    let lab = Lab::new(blocked)?;
    let hub = lab.hub(XDP)?;
    let mut client = lab.client(&range(), EACH_SECOND)?;
    for _ in 0..TRIES {
        let before = client.status()?.peers[0].handshakes;
        let lost = lost(&lab.net.a, Duration::from_secs(20))?;
        ensure!(lost == 0, "{lost} pings lost\n{}", client.log());
        ensure_handshakes(&client, before)?;
        let (odd, even): (Vec<u16>, Vec<u16>) = lab.seen()?.iter().partition(|port| *port % 2 == 1);
        if odd.len() >= 2 && !even.is_empty() {
            return lab.end([client, hub]);
        }
        println!("odd ports {odd:?}, even ones {even:?}: once more");
        client.end(Signal::Terminate)?;
        client.start_again(&lab.net.a)?;
        ensure_answers_within(&lab.net.a, HUB_VIP.parse()?, UP_LIMIT)?;
        lab.forget_seen()?;
    }
    bail!("{TRIES} times it hopped over fewer than two open ports or no shut one")
}

fn each_batch() -> Result<()> {
    let lab = Lab::new(MASQUERADE)?;
    let hub = lab.hub(XDP)?;
    let client = lab.client(&range(), "hop_interval = 0\nprobe_interval = 1\n")?;
    let lost = lost(&lab.net.a, Duration::from_secs(10))?;
    ensure!(lost == 0, "{lost} pings lost\n{}", client.log());
    // Data went to all of the pool.
    let mut pinger = Pinger::new(&lab.net.a, HUB_VIP.parse()?)?;
    let mut used = BTreeSet::new();
    for _ in 0..60 {
        pinger.ping(ANSWER_LIMIT)?;
        let status = client.status()?;
        used.extend(status.peers[0].endpoint.map(|endpoint| endpoint.port()));
    }
    ensure!((5..=8).contains(&used.len()), "{used:?}");
    lab.end([client, hub])
}

fn dark_address() -> Result<()> {
    let lab = Lab::new("chain dark { type filter hook forward priority 0; }\n")?;
    let hub = lab.hub(XDP)?;
    let first = WIRE_B.far_v4();
    let endpoints = format!("endpoints = [\"{first}:9000\", \"{SECOND}:9000\"]");
    let client = lab.client(&endpoints, "probe_interval = 1\nretry_after = 5\n")?;
    let before = client.status()?.peers[0].handshakes;
    let used = |address: IpAddr| -> Result<bool> {
        let endpoint = client.status()?.peers[0].endpoint;
        Ok(endpoint.is_some_and(|endpoint| endpoint.ip() == address))
    };
    let second: IpAddr = SECOND.parse()?;
    let to = SocketAddr::new(HUB_VIP.parse()?, 7000);
    let transfer = Stream::start(&lab.net.a, &lab.net.b, to)?;
    transfer.wait_for_more_than(1 << 20, ON_LIMIT)?;
    eventually("both paths are known", UP_LIMIT, || {
        let paths = client.status()?.peers[0].paths.clone();
        Ok(paths.len() == 2 && paths.iter().all(|path| path.delay_seconds.is_some()))
    })?;
    ensure!(used(first)?, "{:?}", client.status()?.peers[0].endpoint);
    for direction in ["daddr", "saddr"] {
        let rule = format!("add rule ip hop dark ip {direction} {first} drop");
        output_of(lab.net.hub.command("nft").arg(&rule))?;
    }
    let dark = Instant::now();
    eventually("data goes to the second address", ON_LIMIT, || used(second))?;
    let took = dark.elapsed();
    // Half as much again as an interval, and what two answers are waited for: 4.6 s. The rest is
    // for a busy machine.
    ensure!(took < Duration::from_secs(10), "it took {took:?}");
    let bytes = transfer.received();
    transfer.wait_for_more_than(bytes + (1 << 20), ON_LIMIT)?;
    output_of(lab.net.hub.command("nft").arg("flush chain ip hop dark"))?;
    let back = Instant::now();
    eventually("data goes to the first address again", ON_LIMIT, || {
        used(first)
    })?;
    // Not at the first sign of life.
    ensure!(
        back.elapsed() > Duration::from_secs(2),
        "{:?}",
        back.elapsed()
    );
    let bytes = transfer.received();
    transfer.wait_for_more_than(bytes + (1 << 20), ON_LIMIT)?;
    ensure!(!transfer.is_broken(), "the transfer broke");
    ensure_handshakes(&client, before)?;
    transfer.finish()?;
    lab.end([client, hub])
}

fn roaming() -> Result<()> {
    let lab = Lab::new(MASQUERADE)?;
    let hub = lab.hub(XDP)?;
    let client = lab.client(&range(), EACH_SECOND)?;
    let before = client.status()?.peers[0].handshakes;
    for last in [77, 78, 79] {
        let address = format!("10.99.1.{last}");
        lab.net.a.ip(&format!("addr add {address}/24 dev to-hub"))?;
        let gateway = WIRE_A.near_v4();
        lab.net.a.ip(&format!(
            "route replace default via {gateway} src {address}"
        ))?;
        let old = match last {
            77 => WIRE_A.far_v4().to_string(),
            _ => format!("10.99.1.{}", last - 1),
        };
        lab.net.a.ip(&format!("addr del {old}/24 dev to-hub"))?;
        // Where the first address of a network goes, the kernel takes the others along.
        lab.net
            .a
            .ip(&format!("addr replace {address}/24 dev to-hub"))?;
        lab.net.a.ip(&format!(
            "route replace default via {gateway} src {address}"
        ))?;
        ensure_answers_within(&lab.net.a, HUB_VIP.parse()?, UP_LIMIT)
            .with_context(|| client.log())?;
        let lost = lost(&lab.net.a, Duration::from_secs(4))?;
        ensure!(
            lost == 0,
            "{lost} pings lost at {address}\n{}",
            client.log()
        );
    }
    ensure_handshakes(&client, before)?;
    let seen = lab.seen()?;
    ensure!(seen.len() >= 5, "{seen:?}");
    lab.end([client, hub])
}

/// wireguard-go, with a rule that redirects the range to it.
fn another_program() -> Result<()> {
    let lab = Lab::new(MASQUERADE)?;
    let redirect = "table ip hop {\nchain range { type nat hook prerouting priority -100; \
         udp dport 4096-8191 redirect to :9000; }\n}";
    output_of(lab.net.b.command("nft").arg(redirect))?;
    let keys = WgKeys::generate()?;
    let hub = Wg::start(Program::WireguardGo, &lab.net.b)?;
    let peer = WgPeer {
        public_key: lab.ours.public.clone(),
        preshared_key: None,
        endpoint: None,
        allowed_ips: format!("{CLIENT_VIP}/32"),
        keepalive: None,
    };
    hub.configure(&keys, 9000, &[peer])?;
    hub.bring_up(&[&format!("{HUB_VIP}/24")])?;
    let client = lab.client_of(&keys.public, &range(), EACH_SECOND)?;
    let lost = lost(&lab.net.a, Duration::from_secs(10))?;
    ensure!(lost == 0, "{lost} pings lost\n{}", client.log());
    ensure!(lab.seen()?.len() == 1, "{:?}", lab.seen()?);
    let status = client.status()?;
    ensure!(
        status.peers[0]
            .paths
            .iter()
            .all(|path| path.delay_seconds.is_none()),
        "{:?}",
        status.peers[0].paths
    );
    client.stop(Signal::Terminate)?;
    drop(hub);
    lab.net.delete()
}

/// How many seconds data goes each way, if not 20.
const SECONDS: &str = "TALTUN_HOP_SECONDS";

/// A busy machine has retransmissions by itself, once more and once less: one of three tries shows
/// that hops have none. One a hop would be 20 more in each.
fn tcp() -> Result<()> {
    let mut tries = Vec::new();
    for _ in 0..3 {
        let [without, with] = tcp_without_and_with_hops()?;
        if std::env::var_os(SECONDS).is_some() {
            println!("retransmissions without hops and with a hop each second: {without}, {with}");
        }
        if with <= without + without / 2 + 10 {
            return Ok(());
        }
        tries.push([without, with]);
    }
    bail!("retransmissions without hops and with a hop each second: {tries:?}")
}

/// 32 KiB each 10 ms, which no queue on the way has to drop.
fn tcp_without_and_with_hops() -> Result<[u64; 2]> {
    let seconds = match std::env::var(SECONDS) {
        Ok(text) => text.parse().context(SECONDS)?,
        Err(_) => 20,
    };
    let mut counts = [0; 2];
    let settings = ["hop_pool = 1\nprobe_interval = 1\n", EACH_SECOND];
    for (count, hop) in counts.iter_mut().zip(settings) {
        let lab = Lab::new(MASQUERADE)?;
        let hub = lab.hub(XDP)?;
        let client = lab.client(&range(), hop)?;
        *count = retransmissions(&lab, Duration::from_secs(seconds))?;
        let seen = lab.seen()?.len();
        let hops = hop == EACH_SECOND;
        ensure!(hops == (seen > 4), "{seen} ports with {hop}");
        lab.end([client, hub])?;
    }
    Ok(counts)
}

/// Segments that both ends sent again while data went both ways for so long.
fn retransmissions(lab: &Lab, time: Duration) -> Result<u64> {
    const PIECE: usize = 32 << 10;
    let to = SocketAddr::new(HUB_VIP.parse()?, 7000);
    let listener = lab.net.b.run(|| TcpListener::bind(to))??;
    let server = std::thread::spawn(move || -> std::io::Result<()> {
        let (mut stream, _) = listener.accept()?;
        let mut piece = vec![0; PIECE];
        while stream.read_exact(&mut piece).is_ok() {
            stream.write_all(&piece)?;
        }
        Ok(())
    });
    let mut stream = lab.net.a.run(|| TcpStream::connect(to))??;
    let before = [&lab.net.a, &lab.net.b].map(retransmitted);
    let mut piece = vec![7; PIECE];
    let start = Instant::now();
    while start.elapsed() < time {
        stream.write_all(&piece)?;
        stream.read_exact(&mut piece)?;
        sleep(Duration::from_millis(10));
    }
    drop(stream);
    let served = server.join();
    served.map_err(|_| anyhow::anyhow!("the server panicked"))??;
    let after = [&lab.net.a, &lab.net.b].map(retransmitted);
    let mut more = 0;
    for (before, after) in before.into_iter().zip(after) {
        more += after? - before?;
    }
    Ok(more)
}

/// What a namespace's TCP has sent again so far.
fn retransmitted(namespace: &Namespace) -> Result<u64> {
    let text = namespace.run(|| std::fs::read_to_string("/proc/thread-self/net/snmp"))??;
    let mut lines = text.lines().filter_map(|line| line.strip_prefix("Tcp: "));
    let (names, values) = lines.next().zip(lines.next()).context("TCP's counters")?;
    let mut both = names.split(' ').zip(values.split(' '));
    let (_, value) = both
        .find(|(name, _)| *name == "RetransSegs")
        .context("RetransSegs")?;
    Ok(value.parse()?)
}
