//! What the kernel lets the threads do that handle packets: nothing but that.

use std::fs;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use taltun_tests::command::output_of;
use taltun_tests::lab::{Lab, Options, Role};
use taltun_tests::node::Node;
use taltun_tests::sys::{Signal, send_signal};

use crate::af_xdp::{ethtool, over_af_xdp, wait_for_sockets};
use crate::kill_switch::Full;
use crate::support::{
    Case, UP_LIMIT, VETH_QUEUES, ensure_answers, ensure_without_rights, eventually, lab,
    process_of, take_down,
};

pub const CASES: &[Case] = &[
    Case {
        name: "rights: threads that handle packets have none, and others are made without any by a reload",
        programs: &[],
        run: threads_have_none,
    },
    Case {
        name: "rights: a thread that comes with a queue of an interface has none either",
        programs: &["ethtool", VETH_QUEUES],
        run: late_thread_has_none,
    },
    Case {
        name: "rights: processes that serve clients say what they may do",
        programs: &[],
        run: servers_have_none,
    },
    Case {
        name: "rights: the privileged process has those of its verbs, keeps nothing open, and ends with its tunnel",
        programs: &[],
        run: privileged_has_few,
    },
    Case {
        name: "rights: a tunnel without its privileged process ends, its kill switch closed, and another start heals both",
        programs: &["nft"],
        run: end_of_privileged,
    },
];

/// `CAP_NET_BIND_SERVICE`, `CAP_NET_ADMIN` and `CAP_NET_RAW`.
const OF_VERBS: &str = "0000000000003400";

/// A thread of a process, as the kernel tells of it.
struct Thread {
    name: String,
    status: String,
}

impl Thread {
    /// All of a node's.
    fn all(node: &Node) -> Result<Vec<Self>> {
        let tasks = fs::read_dir(format!("/proc/{}/task", node.pid()))?;
        let threads = tasks.map(|task| {
            let path = task?.path();
            Ok(Self {
                name: fs::read_to_string(path.join("comm"))?.trim().to_owned(),
                status: fs::read_to_string(path.join("status"))?,
            })
        });
        threads.collect()
    }

    fn handles_packets(&self) -> bool {
        let kinds = ["taltun-in-", "taltun-out-", "taltun-xsk-", "taltun-crypt-"];
        self.name == "taltun-shaper" || kinds.iter().any(|kind| self.name.starts_with(kind))
    }

    fn has(&self, line: &str) -> bool {
        self.status.lines().any(|it| it == line)
    }

    fn ensure_without_rights(&self) -> Result<()> {
        for line in [
            "CapInh:\t0000000000000000",
            "CapPrm:\t0000000000000000",
            "CapEff:\t0000000000000000",
            "CapBnd:\t0000000000000000",
            "CapAmb:\t0000000000000000",
            "NoNewPrivs:\t1",
            "Seccomp:\t2",
        ] {
            ensure!(self.has(line), "{line} in {}: {}", self.name, self.status);
        }
        Ok(())
    }
}

/// The version of the kernel that runs.
fn kernel() -> Result<(u32, u32)> {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease")?;
    let mut numbers = release.split('.').map(str::parse);
    let mut next = || numbers.next().context("a release without numbers");
    Ok((next()??, next()??))
}

/// `CAP_PERFMON` and `CAP_BPF`, as bits.
const OF_LOADING: u64 = 1 << 38 | 1 << 39;

/// No thread of the node's may load eBPF programs any more, where the kernel needs no right for their maps (Linux 5.19).
fn ensure_loads_nothing(node: &Node) -> Result<()> {
    if kernel()? < (5, 19) {
        return Ok(());
    }
    for thread in Thread::all(node)? {
        for set in ["CapPrm", "CapEff", "CapBnd"] {
            let held = thread.status.lines().find_map(|line| {
                let (name, held) = line.split_once(":\t")?;
                (name == set).then(|| u64::from_str_radix(held, 16))
            });
            let held = held.context("a status without capabilities")??;
            ensure!(held & OF_LOADING == 0, "{set} of {}: {held:x}", thread.name);
        }
    }
    Ok(())
}

/// So many threads of the node's handle packets, and none of them may do anything else; it says so
/// itself. Its controller may do more. Threads begin while a reload says that it is done.
fn ensure_none_has_rights(node: &Node, count: usize) -> Result<()> {
    let have_none = || Ok(none_has_rights(node, count).is_ok());
    let waited = eventually("no thread has rights", UP_LIMIT, have_none);
    // It says what is wrong.
    none_has_rights(node, count).and(waited)
}

fn none_has_rights(node: &Node, count: usize) -> Result<()> {
    let all = Thread::all(node)?;
    let packet_threads = || all.iter().filter(|thread| thread.handles_packets());
    let names: Vec<_> = packet_threads().map(|thread| &thread.name).collect();
    ensure!(names.len() == count, "{names:?}, not {count}");
    packet_threads().try_for_each(Thread::ensure_without_rights)?;
    let controller = all.first().context("no thread")?;
    ensure!(controller.has("Seccomp:\t0"), "{}", controller.status);

    let rights = node.status()?.rights;
    let told = &rights.packet_threads;
    ensure!(
        told.count == count && told.capabilities.is_empty() && told.seccomp,
        "{told:?}"
    );
    ensure!(told.refused_calls == 0, "{told:?}");
    let may = |name: &str| rights.capabilities.iter().any(|it| it == name);
    ensure!(may("CAP_NET_ADMIN"), "{:?}", rights.capabilities);
    Ok(())
}

pub fn ensure_all_answer(lab: &Lab) -> Result<()> {
    ensure_answers(&lab.net.a, Role::Hub.v4())?;
    ensure_answers(&lab.net.hub, Role::A.v4())?;
    ensure_answers(&lab.net.a, Role::B.v6())
}

/// Two workers with two threads each, two helpers and the shaper.
fn threads_have_none() -> Result<()> {
    const THREADS: usize = 2 * 2 + 2 + 1;
    let lab = lab(Options {
        more: "[dataplane]\nworkers = 2\ncrypto_threads = 2\n",
        ..Options::default()
    })?;
    ensure_all_answer(&lab)?;
    ensure_none_has_rights(&lab.hub, THREADS)?;
    ensure_loads_nothing(&lab.hub)?;

    let banned = lab.hub.tell(&["ban", "b"])?;
    ensure!(banned.contains("banned"), "{banned}");
    lab.hub.tell(&["unban", "b"])?;
    // Other sockets take other threads.
    let config = fs::read_to_string(lab.hub.config())?;
    for (from, to) in [(":9000\"", ":9001\""), (":9001\"", ":9000\"")] {
        let changed = fs::read_to_string(lab.hub.config())?.replacen(from, to, 1);
        ensure!(changed.contains(to), "{changed}");
        fs::write(lab.hub.config(), changed)?;
        lab.hub.tell(&["reload"])?;
        ensure_none_has_rights(&lab.hub, THREADS)?;
    }
    ensure!(fs::read_to_string(lab.hub.config())? == config);
    ensure_all_answer(&lab)?;
    ensure_none_has_rights(&lab.hub, THREADS)?;
    let shown = lab.hub.tell(&["status", "--long"])?;
    let line = "  packet threads:   7: no capability, seccomp\n";
    ensure!(shown.contains(line), "{shown}");
    take_down(lab)
}

fn servers_have_none() -> Result<()> {
    let lab = lab(Options {
        more: "[metrics]\nlisten = \"127.0.0.1:9586\"\n[web]\nlisten = \"127.0.0.1:8080\"\n\
               [udpgw]\nlisten = \"127.0.0.1:7300\"\n[names]\ndomain = \"vpn\"\n",
        ..Options::default()
    })?;
    let processes = || -> Result<_> { Ok(lab.hub.status()?.rights.processes) };
    eventually("all processes are there", UP_LIMIT, || {
        Ok(processes()?.len() == 4)
    })?;
    let told = processes()?;
    for process in &told {
        let lacks_landlock = process.reason.as_deref() == Some("the kernel has no landlock");
        ensure!(
            process.user == 65534
                && process.capabilities.is_empty()
                && process.seccomp
                && process.landlock != lacks_landlock,
            "{process:?}"
        );
    }
    // One that dies is started again, without rights.
    let metrics = process_of(lab.hub.pid(), "metrics-process")?;
    send_signal(metrics, Signal::Kill)?;
    eventually("the metrics are back", UP_LIMIT, || {
        Ok(
            process_of(lab.hub.pid(), "metrics-process").is_ok_and(|it| it != metrics)
                && processes()?.len() == 4,
        )
    })?;
    for command in [
        "metrics-process",
        "web-process",
        "udpgw-process",
        "names-process",
    ] {
        ensure_without_rights(process_of(lab.hub.pid(), command)?)?;
    }
    // Threads that answer these processes read what they say.
    let all = Thread::all(&lab.hub)?;
    let lookups: Vec<_> = all.iter().filter(|it| it.name == "lookups").collect();
    ensure!(lookups.len() == 2, "{} threads", lookups.len());
    lookups
        .into_iter()
        .try_for_each(Thread::ensure_without_rights)?;
    ensure_all_answer(&lab)?;
    take_down(lab)
}

pub fn privileged_of(node: &Node) -> Result<u32> {
    process_of(node.pid(), "privileged-process")
}

pub fn ensure_privileged_has_few(node: &Node) -> Result<()> {
    let told = node.status()?.rights.privileged;
    let told = told.context("status tells of no privileged process")?;
    let few = ["CAP_NET_BIND_SERVICE", "CAP_NET_ADMIN", "CAP_NET_RAW"];
    ensure!(told.capabilities == few && told.seccomp, "{told:?}");
    let process = privileged_of(node)?;
    let status = fs::read_to_string(format!("/proc/{process}/status"))?;
    for line in [
        &format!("CapPrm:\t{OF_VERBS}"),
        &format!("CapEff:\t{OF_VERBS}"),
        &format!("CapBnd:\t{OF_VERBS}"),
        "CapInh:\t0000000000000000",
        "NoNewPrivs:\t1",
        "Seccomp:\t2",
        "Threads:\t1",
    ] {
        ensure!(status.lines().any(|it| it == line), "{line} in {status}");
    }
    // Its standard streams, and once more the one that leads to the tunnel.
    let open: Vec<_> = fs::read_dir(format!("/proc/{process}/fd"))?.collect();
    ensure!(open.len() == 4, "{} files are open", open.len());
    ensure!(fs::read(format!("/proc/{process}/environ"))?.is_empty());
    Ok(())
}

fn privileged_has_few() -> Result<()> {
    let mut lab = lab(Options {
        more: "[dataplane]\nworkers = 2\n",
        ..Options::default()
    })?;
    ensure_all_answer(&lab)?;
    ensure_privileged_has_few(&lab.hub)?;
    // Other sockets come from it, and a port that somebody else has is refused as before.
    let config = fs::read_to_string(lab.hub.config())?;
    let with_port = |port: &str| config.replacen(":9000\"", &format!(":{port}\""), 1);
    fs::write(lab.hub.config(), with_port("443"))?;
    lab.hub.tell(&["reload"])?;
    fs::write(lab.hub.config(), &config)?;
    lab.hub.tell(&["reload"])?;
    ensure_all_answer(&lab)?;
    ensure_privileged_has_few(&lab.hub)?;
    // Signals that are for the tunnel don't end it.
    let process = privileged_of(&lab.hub)?;
    for signal in [
        "INT", "TERM", "HUP", "USR1", "USR2", "ALRM", "PIPE", "QUIT", "TSTP", "RTMIN",
    ] {
        output_of(Command::new("kill").args(["-s", signal, &process.to_string()]))?;
    }
    ensure_all_answer(&lab)?;
    ensure!(privileged_of(&lab.hub)? == process);
    lab.hub.kill()?;
    ensure_gone(process)?;
    lab.hub.start_again(&lab.net.hub)?;
    ensure_privileged_has_few(&lab.hub)?;
    take_down(lab)
}

pub fn ensure_gone(process: u32) -> Result<()> {
    eventually("the privileged process has ended", UP_LIMIT, || {
        Ok(fs::metadata(format!("/proc/{process}")).is_err())
    })
}

fn end_of_privileged() -> Result<()> {
    let mut full = Full::start("kill_switch = true\n", &[])?;
    full.tunnel_answers()?;
    send_signal(privileged_of(&full.client)?, Signal::Kill)?;
    full.end_within(Duration::from_secs(10))?;
    let log = full.client.log();
    for expected in [
        "the privileged process ended (signal: 9 (SIGKILL))",
        "the kill switch of taltun0 holds",
    ] {
        ensure!(log.contains(expected), "{log}");
    }
    full.outside_is_closed()?;
    full.client.start_again(&full.pair.left)?;
    full.tunnel_answers()?;
    ensure_privileged_has_few(&full.client)?;
    let process = privileged_of(&full.client)?;
    full.client.end(Signal::Terminate)?;
    // It is gone before its tunnel is.
    ensure!(fs::metadata(format!("/proc/{process}")).is_err());
    full.outside_is_open()
}

/// A worker, the shaper, and a lane for each queue, of which there come to be more.
fn late_thread_has_none() -> Result<()> {
    let lab = lab(over_af_xdp())?;
    wait_for_sockets(&lab, 2)?;
    ensure_all_answer(&lab)?;
    ensure_none_has_rights(&lab.hub, 3 + 2)?;
    lab.net.hub.ip("link delete to-a")?;
    lab.net.hub.ip(&format!(
        "link add to-a numrxqueues 2 numtxqueues 2 type veth peer name to-hub numrxqueues 2 \
         numtxqueues 2 netns {}",
        lab.net.a.name()
    ))?;
    crate::af_xdp_changes::restore_wire(&lab)?;
    for (namespace, interface) in [(&lab.net.hub, "to-a"), (&lab.net.a, "to-hub")] {
        ethtool(namespace, &["-L", interface, "rx", "2", "tx", "2"])?;
    }
    wait_for_sockets(&lab, 3)?;
    eventually(
        "all answer over other queues",
        crate::af_xdp::BACK_LIMIT,
        || Ok(ensure_all_answer(&lab).is_ok()),
    )?;
    ensure_none_has_rights(&lab.hub, 3 + 3)?;
    // The programs are on the new wire all the same.
    ensure_loads_nothing(&lab.hub)?;
    crate::af_xdp::take_down_replaced(lab)
}
