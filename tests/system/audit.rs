//! The trail of changes: who changed what, in a file of its own.

use std::fs;
use std::io::{BufRead, BufReader, ErrorKind, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use taltun_tests::lab::{Lab, Options};
use taltun_tests::sys::Signal;

use crate::support::{Case, eventually, lab, take_down};

/// What is written is there soon, also on a busy machine.
const LIMIT: Duration = Duration::from_secs(20);

pub const CASES: &[Case] = &[
    Case {
        name: "each change of a tunnel is written down with who made it",
        programs: &[],
        run: is_written,
    },
    Case {
        name: "changes that can't be written down wait, hold up nothing, and status says so",
        programs: &[],
        run: waits_for_the_disk,
    },
];

fn file(lab: &Lab) -> PathBuf {
    lab.hub.directory().join("state/taltun0/audit.jsonl")
}

fn lines(lab: &Lab) -> Result<Vec<Value>> {
    let text = match fs::read_to_string(file(lab)) {
        // It is made with its first line.
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        text => text.context("no trail")?,
    };
    let lines = text.lines().map(serde_json::from_str);
    Ok(lines.collect::<Result<_, _>>()?)
}

/// The last line, once there are so many.
fn last(lab: &Lab, number: usize) -> Result<Value> {
    eventually("a line is written", LIMIT, || {
        Ok(lines(lab)?.len() >= number)
    })?;
    let lines = lines(lab)?;
    ensure!(lines.len() == number, "{lines:?}");
    lines.into_iter().next_back().context("no line")
}

/// Sets something as `wg` does, which itself would look for its socket elsewhere.
fn set(lab: &Lab, text: &str) -> Result<()> {
    let path = lab.hub.directory().join("wireguard/taltun0.sock");
    let mut socket = UnixStream::connect(path).context("no UAPI socket")?;
    write!(socket, "set=1\n{text}\n")?;
    socket.set_read_timeout(Some(LIMIT))?;
    let mut answer = String::new();
    BufReader::new(socket).read_line(&mut answer)?;
    ensure!(answer == "errno=0\n", "{text}: {answer}");
    Ok(())
}

fn is_written() -> Result<()> {
    let mut lab = lab(Options::default())?;
    let is_ours = |line: &Value, program: &str| {
        let by = &line["by"];
        by["uid"] == 0 && by["pid"].is_u64() && by["program"] == program
    };
    let start = last(&lab, 1)?;
    ensure!(
        start["action"] == "start" && start["by"]["pid"] == lab.hub.pid(),
        "{start}"
    );
    let mode = fs::metadata(file(&lab))?.permissions().mode();
    ensure!(mode & 0o777 == 0o600, "mode {mode:o}");

    lab.hub.tell(&["ban", "192.0.2.0/24", "--for", "60s"])?;
    let ban = last(&lab, 2)?;
    ensure!(
        ban["action"] == "ban"
            && ban["outcome"] == "done"
            && ban["target"]
                .as_str()
                .is_some_and(|it| it.starts_with("192.0.2.0/24"))
            && ban["by"]["way"] == "control_socket"
            && is_ours(&ban, "taltun"),
        "{ban}"
    );
    // A question changes nothing.
    lab.hub.status()?;
    lab.hub.tell(&["unban", "192.0.2.0/24"])?;
    let unban = last(&lab, 3)?;
    ensure!(
        unban["action"] == "unban" && unban["outcome"] == "done",
        "{unban}"
    );
    ensure!(
        lab.hub.tell(&["unban", "192.0.2.0/24"]).is_err(),
        "there is none"
    );
    let refused = last(&lab, 4)?;
    ensure!(
        refused["outcome"] == "refused" && is_ours(&refused, "taltun"),
        "{refused}"
    );

    let (key, secret) = ("7".repeat(64), "5".repeat(64));
    set(
        &lab,
        &format!("public_key={key}\npreshared_key={secret}\nallowed_ip=10.200.0.9/32\n"),
    )?;
    let by_wg = last(&lab, 5)?;
    ensure!(
        by_wg["action"] == "wg"
            && by_wg["by"]["way"] == "wg_socket"
            && by_wg["by"]["pid"] == std::process::id()
            && by_wg["peers"]["added"]
                .as_array()
                .is_some_and(|added| added.len() == 1),
        "{by_wg}"
    );

    // The file doesn't know that peer.
    lab.hub.tell(&["reload"])?;
    let reload = last(&lab, 6)?;
    ensure!(
        reload["action"] == "reload"
            && reload["peers"]["removed"] == by_wg["peers"]["added"]
            && is_ours(&reload, "taltun"),
        "{reload}"
    );
    let before = fs::read_to_string(lab.hub.config())?;
    fs::write(lab.hub.config(), format!("{before}\n[mistake]\n"))?;
    ensure!(lab.hub.tell(&["reload"]).is_err(), "a mistake is taken");
    let refused = last(&lab, 7)?;
    ensure!(
        refused["action"] == "reload" && refused["outcome"] == "refused",
        "{refused}"
    );
    fs::write(lab.hub.config(), &before)?;

    lab.hub.end(Signal::Terminate)?;
    let stop = last(&lab, 8)?;
    ensure!(
        stop["action"] == "stop" && stop["by"]["signal"] == "SIGTERM",
        "{stop}"
    );
    let text = fs::read_to_string(file(&lab))?;
    // In the encodings that it could be in.
    ensure!(
        !text.contains(&secret) && !text.contains("VVVVVVVV"),
        "a secret: {text}"
    );
    lab.hub.start_again(&lab.net.hub)?;
    ensure!(last(&lab, 9)?["action"] == "start", "no start");
    take_down(lab)
}

fn waits_for_the_disk() -> Result<()> {
    let lab = lab(Options::default())?;
    last(&lab, 1)?;
    let file = file(&lab);
    fs::remove_file(&file)?;
    // Nobody can write to a directory as to a file.
    fs::create_dir(&file)?;
    lab.hub.tell(&["ban", "192.0.2.0/24"])?;
    eventually("status tells", LIMIT, || {
        Ok(lab.hub.tell(&["status"])?.contains("\naudit "))
    })?;
    let warnings = || {
        lab.hub
            .log()
            .matches("changes can't be written down")
            .count()
    };
    // The log may follow a little later.
    eventually("the log tells it", LIMIT, || Ok(warnings() == 1))?;
    fs::remove_dir(&file)?;
    lab.hub.tell(&["unban", "192.0.2.0/24"])?;
    let line = last(&lab, 2)?;
    ensure!(line["action"] == "unban", "{line}");
    eventually("status is well again", LIMIT, || {
        Ok(!lab.hub.tell(&["status"])?.contains("\naudit "))
    })?;
    take_down(lab)
}
