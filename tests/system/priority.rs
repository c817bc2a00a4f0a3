//! The threads that move packets get the cores as the file says, and leave others what they need.

use std::fs;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use taltun_tests::lab::{Lab, Options, Role};
use taltun_tests::node::{AfXdp, Config, Keys, Node, XdpMode};
use taltun_tests::sys::Signal;
use taltun_tests::topology::{Pair, private_prefix};

use crate::support::{
    Case, UP_LIMIT, ensure_answers, ensure_answers_within, eventually, lab, take_down, taltun,
};

pub const CASES: &[Case] = &[
    Case {
        name: "priority: each thread that moves packets has what the file asks for, and no other thread",
        programs: &[],
        run: threads_have_it,
    },
    Case {
        name: "priority: what the process has no right to is refused and said, and the tunnel runs",
        programs: &["setpriv"],
        run: refused,
    },
    Case {
        name: "priority: with realtime on all cores a hub under a flood still answers, and makes handshakes",
        programs: &[],
        run: others_go_on,
    },
];

const REALTIME: &str = "[dataplane]\npriority = \"realtime\"\n";

/// How a thread is scheduled, as `/proc` tells it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Thread {
    name: String,
    nice: i32,
    /// 0 for ordinary ones.
    policy: u32,
}

/// `SCHED_RR`.
const ROUND_ROBIN: u32 = 2;

fn threads(pid: u32) -> Result<Vec<Thread>> {
    let mut threads = Vec::new();
    for task in fs::read_dir(format!("/proc/{pid}/task"))? {
        let stat = fs::read_to_string(task?.path().join("stat"))?;
        let (name, rest) = stat
            .split_once('(')
            .and_then(|(_, rest)| rest.rsplit_once(") "))
            .context("no name")?;
        // From the third field on: proc(5) counts from 1.
        let fields: Vec<&str> = rest.split(' ').collect();
        let field = |number: usize| fields.get(number - 3).copied().context("too few fields");
        threads.push(Thread {
            name: name.to_owned(),
            nice: field(19)?.parse()?,
            policy: field(41)?.parse()?,
        });
    }
    Ok(threads)
}

fn moves_packets(thread: &Thread) -> bool {
    [
        "taltun-in-",
        "taltun-out-",
        "taltun-shaper",
        "taltun-crypt-",
        "taltun-xsk-",
    ]
    .iter()
    .any(|name| thread.name.starts_with(name))
}

fn config(more: &'static str, keys: &Keys) -> String {
    Config {
        more,
        mode: "server",
        vip: Role::Hub.interface_vips(),
        local_addr: "[::]:9000".to_owned(),
        private_key: keys.private.clone(),
        xdp: XdpMode::Off,
        af_xdp: AfXdp::Auto,
        peers: Vec::new(),
    }
    .to_toml()
}

fn threads_have_it() -> Result<()> {
    let taltun = taltun()?;
    let pair = Pair::create(&private_prefix())?;
    let keys = Keys::generate(&taltun)?;
    for (more, mode, nice, policy) in [
        ("", "normal", -5, 0),
        (
            "[dataplane]\npriority = \"high\"\ncrypto_threads = 1\n",
            "high",
            -15,
            0,
        ),
        (REALTIME, "realtime", -15, ROUND_ROBIN),
    ] {
        let node = Node::start_with_text(&pair.left, &taltun, &config(more, &keys))?;
        let priority = node.status()?.priority;
        ensure!(
            priority.wanted == mode && priority.mode == mode,
            "{priority:?}"
        );
        let own = node_nice()?;
        let threads = threads(node.pid())?;
        let (moving, others): (Vec<_>, Vec<_>) = threads.into_iter().partition(moves_packets);
        ensure!(moving.len() >= 3, "{moving:?}");
        for thread in moving {
            let is_so = thread.policy == policy && (policy != 0 || thread.nice == nice);
            ensure!(is_so, "{mode}: {thread:?}");
        }
        for thread in others {
            let is_guard = thread.name == "taltun-guard";
            let is_so = (thread.policy != 0) == is_guard && (is_guard || thread.nice == own);
            ensure!(is_so, "{mode}: {thread:?}");
        }
        node.stop(Signal::Terminate)?;
    }
    Ok(())
}

/// What a process of this test begins with.
fn node_nice() -> Result<i32> {
    let own = threads(std::process::id())?;
    Ok(own.first().context("this process has no thread")?.nice)
}

fn refused() -> Result<()> {
    let taltun = taltun()?;
    let pair = Pair::create(&private_prefix())?;
    let keys = Keys::generate(&taltun)?;
    let through = ["setpriv", "--bounding-set=-sys_nice", "--"];
    let config = config(REALTIME, &keys);
    let node = Node::start_through(&pair.left, &taltun, &config, &through)?;
    let priority = node.status()?.priority;
    ensure!(
        priority.mode == "normal" && priority.reason.contains("CAP_SYS_NICE"),
        "{priority:?}"
    );
    let shown = node.tell(&["status"])?;
    ensure!(shown.contains("normal instead of realtime"), "{shown}");
    for thread in threads(node.pid())? {
        ensure!(thread.policy == 0, "{thread:?}");
    }
    node.stop(Signal::Terminate)
}

fn others_go_on() -> Result<()> {
    let mut lab = lab(Options {
        more: REALTIME,
        ..Options::default()
    })?;
    ensure_answers(lab.namespace(Role::A), Role::B.v4())?;
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let flooding: Vec<_> = [(Role::A, Role::B), (Role::B, Role::A), (Role::A, Role::Hub)]
            .into_iter()
            .map(|(from, to)| {
                let socket = lab
                    .namespace(from)
                    .udp(SocketAddr::new(std::net::Ipv4Addr::UNSPECIFIED.into(), 0))?;
                let stop = &stop;
                Ok(scope.spawn(move || {
                    // Of no service: the kernel refuses it once it is through the tunnel.
                    let to = SocketAddr::new(to.v4(), 9);
                    while !stop.load(Ordering::Relaxed) {
                        let _ = socket.send_to(&[0; 64], to);
                    }
                }))
            })
            .collect::<Result<_>>()?;
        let outcome = go_on(&mut lab);
        stop.store(true, Ordering::Relaxed);
        for flood in flooding {
            let _ = flood.join();
        }
        outcome
    })?;
    eventually("realtime holds again", Duration::from_secs(90), || {
        Ok(lab.hub.status()?.priority.mode == "realtime")
    })?;
    let demotions = lab.hub.status()?.priority.demotions;
    println!("the hub gave realtime up {demotions} times");
    take_down(lab)
}

/// The controller answers, and a spoke that starts anew gets a session.
fn go_on(lab: &mut Lab) -> Result<()> {
    for _ in 0..20 {
        lab.hub.status().context("the hub doesn't answer")?;
    }
    lab.b.kill()?;
    lab.b.start_again(&lab.net.b)?;
    ensure_answers_within(&lab.net.b, Role::Hub.v4(), UP_LIMIT)
}
