//! A privileged process that doesn't answer, or that can't be started: peers don't notice, and whoever wants something of it
//! is told why it can't be had.

use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use taltun_tests::command::{find, output_of};
use taltun_tests::lab::{Options, Role};
use taltun_tests::node::Node;
use taltun_tests::sys::{Signal, send_signal};

use crate::af_xdp::{over_af_xdp, wait_for_sockets};
use crate::kill_switch::Full;
use crate::rights::{ensure_all_answer, ensure_gone, ensure_privileged_has_few, privileged_of};
use crate::support::{
    Case, UP_LIMIT, ensure_answers, ensure_answers_within, eventually, lab, set_by_uapi, take_down,
};

/// A peer that nobody speaks to notices after 15 s that its hub has started anew.
const NOTICE_LIMIT: Duration = Duration::from_secs(40);

pub const CASES: &[Case] = &[
    Case {
        name: "rights: while the privileged process is stopped peers go on and changes are refused by name, and then all is as before",
        programs: &[],
        run: stopped,
    },
    Case {
        name: "rights: a privileged process that is stopped ends with its tunnel",
        programs: &[],
        run: stopped_for_good,
    },
    Case {
        name: "rights: a tunnel that can't start its privileged process goes on and says so",
        programs: &["unshare", "mount"],
        run: without,
    },
    Case {
        name: "rights: GRO that a veth lacks is switched on by way of the privileged process, and back",
        programs: &["ethtool"],
        run: gro_of_veth,
    },
    Case {
        name: "rights: wg can't change the fwmark that a kill switch and routes depend on",
        programs: &["nft"],
        run: fixed_mark,
    },
    Case {
        name: "rights: a tunnel that may open too few files says so before it starts",
        programs: &["prlimit"],
        run: few_files,
    },
];

/// What the status says of the process.
fn problem(node: &Node) -> Result<Option<String>> {
    Ok(node.status()?.rights.privileged_problem)
}

fn wait_until_missed(node: &Node) -> Result<()> {
    eventually("it is missed", UP_LIMIT, || Ok(problem(node)?.is_some()))
}

/// Whether a node has a UDP socket at this port.
fn listens_on(node: &Node, port: u16) -> Result<bool> {
    let table = fs::read_to_string(format!("/proc/{}/net/udp", node.pid()))?
        + &fs::read_to_string(format!("/proc/{}/net/udp6", node.pid()))?;
    Ok(table.contains(&format!(":{port:04X} ")))
}

fn stopped() -> Result<()> {
    const ANOTHER: u16 = 9001;
    let mut lab = lab(Options::default())?;
    ensure_all_answer(&lab)?;
    ensure!(problem(&lab.hub)?.is_none());
    let config = fs::read_to_string(lab.hub.config())?;
    let moved = config.replacen(":9000\"", &format!(":{ANOTHER}\""), 1);
    ensure!(moved != config, "{config}");

    let process = privileged_of(&lab.hub)?;
    send_signal(process, Signal::Pause)?;
    // The first who asks waits, though not for long, and nobody after that.
    fs::write(lab.hub.config(), &moved)?;
    for _ in 0..2 {
        let asked = Instant::now();
        let refused = lab.hub.tell(&["reload"]);
        let Err(error) = refused else {
            bail!("it took another port");
        };
        ensure!(
            asked.elapsed() < Duration::from_secs(8),
            "{:?}",
            asked.elapsed()
        );
        let told = format!("{error:#}");
        let cause = "the privileged process (taltun-verbs) doesn't answer";
        ensure!(told.contains(cause), "{told}");
    }
    let answer = set_by_uapi(&lab.hub, "fwmark=66")?;
    let timed_out = format!("errno=-{}", libc::ETIMEDOUT);
    ensure!(answer.contains(&timed_out), "{answer}");
    ensure!(problem(&lab.hub)?.as_deref() == Some("doesn't answer"));
    let shown = lab.hub.tell(&["status"])?;
    let line = "rights   NOT AS THEY SHOULD BE: taltun-verbs doesn't answer\n";
    ensure!(shown.contains(line), "{shown}");
    // A peer that starts now makes a new session.
    lab.a.kill()?;
    lab.a.start_again(&lab.net.a)?;
    ensure_answers(&lab.net.a, Role::Hub.v4())?;
    ensure_all_answer(&lab)?;
    ensure!(!listens_on(&lab.hub, ANOTHER)?);

    send_signal(process, Signal::Resume)?;
    eventually("it answers again", UP_LIMIT, || {
        Ok(problem(&lab.hub)?.is_none())
    })?;
    // What was refused isn't done later.
    ensure!(!listens_on(&lab.hub, ANOTHER)?);
    ensure!(set_by_uapi(&lab.hub, "fwmark=0")?.contains("errno=0"));
    lab.hub.tell(&["reload"])?;
    ensure!(listens_on(&lab.hub, ANOTHER)?);
    fs::write(lab.hub.config(), &config)?;
    lab.hub.tell(&["reload"])?;
    ensure_all_answer(&lab)?;
    ensure!(privileged_of(&lab.hub)? == process);
    ensure_privileged_has_few(&lab.hub)?;
    for expected in ["doesn't answer: no port", "answers again, after"] {
        ensure!(lab.hub.log().contains(expected), "{}", lab.hub.log());
    }

    // Nobody asks it for anything, and it is missed all the same.
    send_signal(process, Signal::Pause)?;
    wait_until_missed(&lab.hub)?;
    send_signal(process, Signal::Resume)?;
    eventually("it is back", UP_LIMIT, || Ok(problem(&lab.hub)?.is_none()))?;
    take_down(lab)
}

fn stopped_for_good() -> Result<()> {
    let mut lab = lab(Options::default())?;
    ensure_all_answer(&lab)?;
    let process = privileged_of(&lab.hub)?;
    send_signal(process, Signal::Pause)?;
    lab.hub.kill()?;
    ensure_gone(process)?;
    lab.hub.start_again(&lab.net.hub)?;
    // It may not have written down yet where they are, and then hears of them once they notice.
    for to in [Role::Hub.v4(), Role::B.v6()] {
        ensure_answers_within(&lab.net.a, to, NOTICE_LIMIT)?;
    }
    // The same in order.
    let process = privileged_of(&lab.hub)?;
    send_signal(process, Signal::Pause)?;
    lab.hub.end(Signal::Terminate)?;
    ensure_gone(process)?;
    lab.hub.start_again(&lab.net.hub)?;
    take_down(lab)
}

/// Puts another `/proc` in place, in which a program finds all but itself.
const WITHOUT_EXE: &str = "
    mount -t tmpfs tmpfs /proc && mkdir /proc/real /proc/self && mount -t proc proc /proc/real || exit
    for file in /proc/real/[!0-9]*; do
        name=${file##*/}
        [ $name = self ] || ln -s $file /proc/$name
    done
    for file in /proc/real/self/*; do
        name=${file##*/}
        [ $name = exe ] || ln -s $file /proc/self/$name
    done
    exec \"$@\"";

fn without() -> Result<()> {
    let through = ["unshare", "-m", "sh", "-c", WITHOUT_EXE, "sh"];
    let full = Full::start("", &through)?;
    full.tunnel_answers()?;
    let rights = full.client.status()?.rights;
    ensure!(rights.privileged.is_none(), "{rights:?}");
    let problem = rights.privileged_problem.context("no problem")?;
    ensure!(problem.starts_with("can't be started: "), "{problem}");
    let shown = full.client.tell(&["status"])?;
    ensure!(
        shown.contains("NOT AS THEY SHOULD BE: taltun-verbs can't be started: "),
        "{shown}"
    );
    let log = full.client.log();
    ensure!(
        log.lines().any(|line| {
            line.contains("WARN") && line.contains("the privileged process can't be started: ")
        }),
        "{log}"
    );
    Ok(())
}

fn gro_of_veth() -> Result<()> {
    let mut lab = lab(over_af_xdp())?;
    wait_for_sockets(&lab, 2)?;
    let merges = || -> Result<bool> {
        let told = output_of(lab.net.hub.command("ethtool").args(["-k", "to-a"]))?;
        Ok(told.contains("generic-receive-offload: on"))
    };
    ensure!(merges()?);
    lab.hub.end(Signal::Terminate)?;
    ensure!(!merges()?);
    // Where it doesn't answer, that is what is said.
    lab.hub.start_again(&lab.net.hub)?;
    wait_for_sockets(&lab, 2)?;
    let process = privileged_of(&lab.hub)?;
    send_signal(process, Signal::Pause)?;
    wait_until_missed(&lab.hub)?;
    lab.hub.end(Signal::Terminate)?;
    ensure!(merges()?);
    ensure_gone(process)?;
    lab.hub.start_again(&lab.net.hub)?;
    wait_for_sockets(&lab, 2)?;
    crate::af_xdp::take_down_replaced(lab)
}

fn fixed_mark() -> Result<()> {
    let full = Full::start("kill_switch = true\n", &[])?;
    full.tunnel_answers()?;
    let got = full.client.status()?.fwmark.context("no mark")?;
    let in_use = format!("errno=-{}", libc::EBUSY);
    let answer = set_by_uapi(&full.client, "fwmark=66")?;
    ensure!(answer.contains(&in_use), "{answer}");
    // As `wg syncconf` says it of a file without a mark.
    let nothing = set_by_uapi(&full.client, "fwmark=0")?;
    ensure!(nothing.contains("errno=0"), "{nothing}");
    let log = full.client.log();
    let reason = "wg may not set the fwmark 0x42: the configuration has rules";
    ensure!(log.contains(reason), "{log}");
    ensure!(full.client.status()?.fwmark == Some(got));
    let same = set_by_uapi(&full.client, &format!("fwmark={got}"))?;
    ensure!(same.contains("errno=0"), "{same}");
    full.tunnel_answers()?;
    full.outside_is_closed()
}

fn few_files() -> Result<()> {
    let lab = lab(Options::default())?;
    let prlimit = find("prlimit").context("no prlimit")?;
    let prlimit = prlimit.to_str().context("a path that is text")?;
    let mut few = lab.hub.command();
    few.args(["run", "--config"]).arg(lab.hub.config());
    let mut command = lab.net.hub.command(prlimit);
    command
        .arg("--nofile=8")
        .arg(few.get_program())
        .args(few.get_args());
    let output = command.output()?;
    let told = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.code() == Some(1), "{}: {told}", output.status);
    ensure!(
        told.contains("no more than 8 files may be open here, and a tunnel needs 64"),
        "{told}"
    );
    take_down(lab)
}
