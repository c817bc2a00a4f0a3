//! What another tunnel has stays, whoever undoes and wherever the journals are.

use std::path::Path;
use std::process::Output;
use std::time::Duration;

use anyhow::{Result, ensure};
use taltun_tests::command::finish_within;
use taltun_tests::node::RUNTIME_DIR;
use taltun_tests::sys::{Signal, send_signal};

use crate::kill_switch::{Full, said};
use crate::support::{Case, eventually, taltun};

pub const CASES: &[Case] = &[
    Case {
        name: "undo: a dead tunnel of another runtime directory keeps its policy rules, with nftables",
        programs: &["nft"],
        run: || dead("nftables"),
    },
    Case {
        name: "undo: a dead tunnel of another runtime directory keeps its policy rules, with iptables",
        programs: &["iptables"],
        run: || dead("iptables"),
    },
    Case {
        name: "undo: a living tunnel keeps its policy rules while its routes are gone",
        programs: &[],
        run: living,
    },
    Case {
        name: "undo: a journal of before takes nothing from a tunnel that runs with another directory",
        programs: &["nft"],
        run: same_name,
    },
];

const LIMIT: Duration = Duration::from_secs(10);

fn undo(full: &Full, directory: &Path, name: &str) -> Result<Output> {
    let mut command = full.pair.left.command(taltun()?);
    command.args(["undo", name]).env(RUNTIME_DIR, directory);
    finish_within(&mut command, LIMIT)
}

fn rules(full: &Full) -> Result<String> {
    let (v4, v6) = ("rule show", "-6 rule show");
    Ok(full.pair.left.ip(v4)? + &full.pair.left.ip(v6)?)
}

fn dead(firewall: &str) -> Result<()> {
    let more = format!("kill_switch = true\nfirewall = \"{firewall}\"\n");
    let mut full = Full::start(&more, &[])?;
    full.client.kill()?;
    let before = rules(&full)?;
    ensure!(before.matches("fwmark").count() == 4, "{before}");
    let elsewhere = tempfile::tempdir()?;
    let undone = undo(&full, elsewhere.path(), "other0")?;
    ensure!(
        said(&undone) == "nothing of other0 is left on this host\n",
        "{}",
        said(&undone)
    );
    ensure!(rules(&full)? == before, "{}", rules(&full)?);
    // Its own name takes them, journal or not.
    let undone = said(&undo(&full, elsewhere.path(), "taltun0")?);
    ensure!(
        undone.starts_with("undone for taltun0: policy rules, kill switch\n"),
        "{undone}"
    );
    ensure!(!rules(&full)?.contains("fwmark"), "{}", rules(&full)?);
    full.outside_is_open()
}

/// It is stopped, so that nothing is put back meanwhile.
fn living() -> Result<()> {
    let full = Full::start("firewall = \"none\"\n", &[])?;
    full.tunnel_answers()?;
    let before = rules(&full)?;
    send_signal(full.client.pid(), Signal::Pause)?;
    let elsewhere = tempfile::tempdir()?;
    let checks = || -> Result<()> {
        full.pair.left.ip("link set taltun0 down")?;
        let undone = undo(&full, elsewhere.path(), "other0")?;
        ensure!(
            said(&undone) == "nothing of other0 is left on this host\n",
            "{}",
            said(&undone)
        );
        ensure!(rules(&full)? == before, "{}", rules(&full)?);
        Ok(())
    };
    let outcome = checks();
    send_signal(full.client.pid(), Signal::Resume)?;
    outcome?;
    full.tunnel_answers()
}

/// The first one's journal is there still, and a second one of the same name runs.
fn same_name() -> Result<()> {
    let mut full = Full::start("kill_switch = true\n", &[])?;
    full.client.kill()?;
    let first = full.client.directory().to_owned();
    let elsewhere = tempfile::tempdir()?;
    let mut command = full.pair.left.command(taltun()?);
    command
        .args(["run", "--config"])
        .arg(full.client.config())
        .env(RUNTIME_DIR, elsewhere.path())
        .stderr(std::process::Stdio::null());
    let mut second = command.spawn()?;
    let checks = || -> Result<()> {
        full.tunnel_answers()?;
        let before = (full.held()?.0, rules(&full)?);
        let refused = undo(&full, &first, "taltun0")?;
        let text = said(&refused);
        ensure!(refused.status.code() == Some(1), "{text}");
        ensure!(
            text.contains("running with another TALTUN_RUNTIME_DIR"),
            "{text}"
        );
        ensure!((full.held()?.0, rules(&full)?) == before, "{text}");
        full.outside_is_closed()
    };
    let outcome = checks();
    send_signal(second.id(), Signal::Terminate)?;
    eventually("it ends", LIMIT, || Ok(second.try_wait()?.is_some()))?;
    outcome?;
    full.outside_is_open()
}
