//! A hub that starts again: it speaks to its peers before they notice that it was gone.

use std::fmt::Write as _;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use taltun_tests::crowd::{self, Crowd, Plan};
use taltun_tests::lab::{Options, PORT, Role};
use taltun_tests::node::{AfXdp, Config, Keys, Node, Peer, XdpMode};
use taltun_tests::sys::Signal;
use taltun_tests::topology::{Pair, WIRE_A, private_prefix};
use taltun_tests::traffic::ping::Pinger;

use crate::support::{ANSWER_LIMIT, Case, ensure_answers, eventually, lab, take_down, taltun};
use crate::wireguard::{Program, Wg, WgKeys, WgPeer, at};

/// A peer that isn't spoken to needs 15 s to notice. A hub that speaks to it is back for it within this.
const GAP: Duration = Duration::from_secs(1);

pub const CASES: &[Case] = &[
    Case {
        name: "a hub that was stopped is back for its spokes at once",
        programs: &[],
        run: || taltun_returns(Some(Signal::Terminate)),
    },
    Case {
        name: "a hub that was killed is back for its spokes at once",
        programs: &[],
        run: || taltun_returns(None),
    },
    Case {
        name: "interop: a hub that was killed is back for wireguard-go at once",
        programs: &["wireguard-go", "wg"],
        run: wireguard_go_is_spoken_to,
    },
    Case {
        name: "a hub that was killed is back for each of 200 peers, and for all that are elsewhere by then",
        programs: &[],
        run: back_for_many,
    },
    Case {
        name: "a hub starts without what it remembered, or where it can't remember",
        programs: &[],
        run: without_memory,
    },
];

fn end(node: &mut Node, signal: Option<Signal>) -> Result<()> {
    match signal {
        Some(signal) => node.end(signal),
        None => node.kill(),
    }
}

/// Waits until the hub's file of endpoints has so many peers: it is written every two seconds at
/// the most, so one that comes after another may be in the next.
fn remembered(hub: &Node, peers: usize) -> Result<()> {
    let file = hub.directory().join("state/taltun0/endpoints");
    eventually("the endpoints are kept", Duration::from_secs(20), || {
        Ok(fs::read_to_string(&file).is_ok_and(|text| text.lines().count() > peers))
    })
}

fn taltun_returns(signal: Option<Signal>) -> Result<()> {
    let mut lab = lab(Options::default())?;
    for namespace in [&lab.net.a, &lab.net.b] {
        ensure_answers(namespace, Role::Hub.v4())?;
    }
    remembered(&lab.hub, 2)?;
    let mut pinger = Pinger::new(&lab.net.a, Role::Hub.v4())?;
    ensure!(pinger.count_answers(3, ANSWER_LIMIT)? == 3);
    end(&mut lab.hub, signal)?;
    // The spoke's session goes on towards a hub that has none.
    lab.hub.start_again(&lab.net.hub)?;
    let start = Instant::now();
    pinger.wait_until_answered(GAP)?;
    println!("answered {:?} after the hub was up again", start.elapsed());
    ensure_answers(&lab.net.b, Role::Hub.v4())?;
    take_down(lab)
}

fn wireguard_go_is_spoken_to() -> Result<()> {
    let taltun = taltun()?;
    let pair = Pair::create(&private_prefix())?;
    let (ours, theirs) = (Keys::generate(&taltun)?, WgKeys::generate()?);
    let other = Wg::start(Program::WireguardGo, &pair.right)?;
    let hub = WgPeer {
        public_key: ours.public,
        allowed_ips: "10.200.0.0/24".to_owned(),
        endpoint: Some(at(WIRE_A.near_v4(), PORT)),
        ..WgPeer::default()
    };
    other.configure(&theirs, PORT, &[hub])?;
    let vips = Role::A.interface_vips();
    other.bring_up(&vips.iter().map(String::as_str).collect::<Vec<_>>())?;
    let config = Config {
        more: "",
        mode: "server",
        vip: Role::Hub.interface_vips(),
        local_addr: format!("[::]:{PORT}"),
        private_key: ours.private,
        xdp: XdpMode::Auto,
        af_xdp: AfXdp::Auto,
        peers: vec![Peer {
            name: "other",
            public_key: theirs.public,
            vip: Role::A.vips(),
            endpoint: None,
            allowed_ips: Vec::new(),
        }],
    };
    let mut node = Node::start(&pair.left, &taltun, &config)?;
    ensure_answers(&pair.right, Role::Hub.v4())?;
    remembered(&node, 1)?;
    let mut pinger = Pinger::new(&pair.right, Role::Hub.v4())?;
    node.kill()?;
    node.start_again(&pair.left)?;
    let start = Instant::now();
    pinger.wait_until_answered(GAP)?;
    println!("answered {:?} after the hub was up again", start.elapsed());
    node.stop(Signal::Terminate)
}

/// All of many peers that are spoken to are back within this.
const SPOKEN_TO: Duration = Duration::from_secs(5);
/// One that is elsewhere by then notices by itself after 15 s.
const ELSEWHERE: Duration = Duration::from_secs(20);
/// How long all of them may take to come up at first, from nothing.
const FIRST: Duration = Duration::from_secs(30);

fn back_for_many() -> Result<()> {
    const PEERS: u16 = 200;
    let taltun = taltun()?;
    let pair = Pair::create(&private_prefix())?;
    let keys = Keys::generate(&taltun)?;
    let address = Ipv4Addr::new(10, 201, 255, 1);
    let mut text = format!(
        "[interface]\nmode = \"server\"\ntun_name = \"taltun0\"\nvip = \"{address}/16\"\n\
         local_addr = \"[::]:{PORT}\"\nprivate_key = \"{}\"\n",
        keys.private
    );
    for number in 0..PEERS {
        let (key, vip) = (crowd::public_key(number), crowd::inner(number));
        // Writing to a String can't fail.
        let _ = write!(text, "[[peers]]\npublic_key = \"{key}\"\nvip = \"{vip}\"\n");
    }
    let mut hub = Node::start_with_text(&pair.left, &taltun, &text)?;
    let plan = Plan {
        count: PEERS,
        hub_key: keys.public,
        hub: SocketAddr::new(WIRE_A.near_v4(), PORT),
        hub_inner: address,
        interval: Duration::from_millis(500),
        roams: true,
    };
    let crowd = Crowd::ready(&pair, plan)?;
    crowd.go();
    let told = |what: &str, took: &[Duration]| {
        println!(
            "{what}: half after {:?}, all after {:?}",
            took[took.len() / 2],
            took[took.len() - 1]
        );
    };
    told("up", &crowd.wait(FIRST)?);
    remembered(&hub, PEERS.into())?;
    hub.kill()?;
    hub.start_again(&pair.left)?;
    crowd.go();
    told("back", &crowd.wait(SPOKEN_TO).context("at home")?);
    hub.kill()?;
    hub.start_again(&pair.left)?;
    crowd.go_elsewhere();
    told(
        "back, elsewhere",
        &crowd.wait(ELSEWHERE).context("elsewhere")?,
    );
    drop(crowd);
    hub.stop(Signal::Terminate)
}

fn without_memory() -> Result<()> {
    let mut lab = lab(Options::default())?;
    ensure_answers(&lab.net.a, Role::Hub.v4())?;
    remembered(&lab.hub, 1)?;
    lab.hub.kill()?;
    let state = lab.hub.directory().join("state/taltun0");
    fs::write(state.join("endpoints"), "taltun endpoints 99\nnonsense\n")?;
    lab.hub.start_again(&lab.net.hub)?;
    let log = lab.hub.log();
    ensure!(
        log.lines()
            .any(|line| line.contains("WARN") && line.contains("endpoints: not the endpoints")),
        "{log}"
    );
    // A file in the directory's place: nothing can be kept, and that is no failure either.
    lab.hub.kill()?;
    fs::remove_dir_all(&state)?;
    fs::write(&state, "").context("can't spoil the directory")?;
    lab.hub.start_again(&lab.net.hub)?;
    ensure_answers(&lab.net.a, Role::Hub.v4())
        .or_else(|_| ensure_answers(&lab.net.a, Role::Hub.v4()))?;
    eventually("the failure is told", Duration::from_secs(20), || {
        Ok(lab.hub.log().contains("cannot write "))
    })?;
    fs::remove_file(&state)?;
    take_down(lab)
}
