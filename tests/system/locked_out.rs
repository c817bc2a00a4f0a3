//! Nobody who doesn't know the hub's public key keeps others from it, however much he sends.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use taltun_tests::lab::{PORT, Role};
use taltun_tests::netns::Namespace;
use taltun_tests::node::{AfXdp, Config, Keys, Node, Peer, XdpMode};
use taltun_tests::sys::Signal;
use taltun_tests::topology::{Pair, WIRE_A, private_prefix};
use taltun_tests::traffic::flood::{Flood, Kind, SOURCES, Target};
use taltun_tests::traffic::ping::Pinger;

use crate::support::{Case, taltun};

pub const CASES: &[Case] = &[
    Case {
        name: "a flood of wrong first MACs keeps no new client out, xdp off",
        programs: &[],
        run: || new_clients_get_in(XdpMode::Off, Kind::WrongMac1),
    },
    Case {
        name: "a flood of wrong first MACs in IP fragments keeps no new client out",
        programs: &[],
        run: || new_clients_get_in(XdpMode::Generic, Kind::Fragments),
    },
];

/// How long a new client may take: one lost initiation included.
const LIMIT: Duration = Duration::from_secs(6);
/// Clients that try, one after the other, and how many of them must get in.
const TRIES: (usize, usize) = (4, 3);
/// Frames a second of the flood. Many times what the gate lets through; not so many that a
/// machine with other work has to give up. `TALTUN_FLOOD` is another number, with more tries:
/// `200000x20`.
const RATE: u32 = 60_000;

fn new_clients_get_in(xdp: XdpMode, kind: Kind) -> Result<()> {
    let (rate, (tries, must)) = extent()?;
    let taltun = taltun()?;
    let pair = Pair::create(&private_prefix())?;
    let ours = Keys::generate(&taltun)?;
    let keys = (0..tries)
        .map(|_| Keys::generate(&taltun))
        .collect::<Result<Vec<_>>>()?;
    let hub = hub(&pair, &taltun, xdp, &ours, &keys)?;
    let before = hub.stats()?;
    let flood = Flood::start(
        &pair.right,
        "to-left",
        &target(&pair, &ours)?,
        kind,
        rate,
        Duration::from_secs(12) * tries as u32,
    )?;
    let mut times = Vec::new();
    for (number, keys) in keys.iter().enumerate() {
        let start = Instant::now();
        let client = client(&pair.right, &taltun, &ours, keys, number)?;
        let up = Pinger::new(&pair.right, Role::Hub.v4())?.wait_until_answered(LIMIT);
        times.push(up.ok().map(|()| start.elapsed()));
        client.stop(Signal::Terminate)?;
    }
    let sent = flood.stop()?;
    let after = hub.stats()?;
    let refused = after.dropped("mac1") - before.dropped("mac1");
    println!(
        "{:.0} frames/s; {refused} dropped for their MAC; up after {times:?}",
        sent.rate()
    );
    ensure!(refused > 0, "the flood didn't come so far");
    for reason in ["no_cookie", "rate_limited", "handshake_queue_full"] {
        ensure!(
            after.dropped(reason) == before.dropped(reason),
            "garbage took what is others', as {reason} says"
        );
    }
    let got_in = times.iter().flatten().count();
    ensure!(got_in >= must, "{got_in} of {tries} clients got in");
    hub.stop(Signal::Terminate)
}

/// Frames a second; how many clients try, and how many must get in.
fn extent() -> Result<(u32, (usize, usize))> {
    let Ok(wanted) = std::env::var("TALTUN_FLOOD") else {
        return Ok((RATE, TRIES));
    };
    let (rate, tries) = wanted.split_once('x').context("TALTUN_FLOOD: RATExTRIES")?;
    let tries = tries.parse()?;
    Ok((rate.parse()?, (tries, tries * 19 / 20)))
}

fn hub(
    pair: &Pair,
    taltun: &std::path::Path,
    xdp: XdpMode,
    ours: &Keys,
    clients: &[Keys],
) -> Result<Node> {
    let peer = |(number, keys): (usize, &Keys)| Peer {
        name: "client",
        public_key: keys.public.clone(),
        vip: vec![format!("10.200.0.{}", number + 2)],
        endpoint: None,
        allowed_ips: Vec::new(),
    };
    let config = Config {
        more: "",
        mode: "server",
        vip: Role::Hub.interface_vips(),
        local_addr: format!("[::]:{PORT}"),
        private_key: ours.private.clone(),
        xdp,
        af_xdp: AfXdp::Auto,
        peers: clients.iter().enumerate().map(peer).collect(),
    };
    // Names have to differ.
    let mut text = config.to_toml();
    for number in 0..clients.len() {
        text = text.replacen("\"client\"", &format!("\"client-{number}\""), 1);
    }
    Node::start_with_text(&pair.left, taltun, &text)
}

fn client(
    namespace: &Namespace,
    taltun: &std::path::Path,
    hub: &Keys,
    keys: &Keys,
    number: usize,
) -> Result<Node> {
    let config = Config {
        more: "",
        mode: "client",
        vip: vec![format!("10.200.0.{}/24", number + 2)],
        // Like that of a new client: not the one of before.
        local_addr: format!("0.0.0.0:{}", 41_000 + number),
        private_key: keys.private.clone(),
        xdp: XdpMode::Off,
        af_xdp: AfXdp::Off,
        peers: vec![Peer {
            name: "hub",
            public_key: hub.public.clone(),
            vip: Role::Hub.vips(),
            endpoint: Some(SocketAddr::new(WIRE_A.near_v4(), PORT).to_string()),
            allowed_ips: vec!["10.200.0.0/24".to_owned()],
        }],
    };
    Node::start(namespace, taltun, &config)
}

fn target(pair: &Pair, hub: &Keys) -> Result<Target> {
    let IpAddr::V4(address) = WIRE_A.near_v4() else {
        bail!("the flood is an IPv4 one");
    };
    for interface in ["all", "to-right"] {
        let file = format!("/proc/sys/net/ipv4/conf/{interface}/rp_filter");
        pair.left.run(|| std::fs::write(file, "0"))??;
    }
    let links: serde_json::Value = serde_json::from_str(&pair.left.ip("-j link show to-right")?)?;
    let text = links[0]["address"]
        .as_str()
        .context("no hardware address")?;
    let mut hardware = [0; 6];
    for (byte, digits) in hardware.iter_mut().zip(text.split(':')) {
        *byte = u8::from_str_radix(digits, 16)?;
    }
    pair.left
        .ip(&format!("route add {SOURCES} via {}", WIRE_A.far_v4()))?;
    Ok(Target {
        hardware,
        address,
        port: PORT,
        public_key: hub.public_bytes()?,
    })
}
