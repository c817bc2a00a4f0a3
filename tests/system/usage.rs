//! What peers move, kept across restarts: `taltun usage`.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use taltun_tests::lab::{Lab, Options, Role};
use taltun_tests::sys::Signal;

use crate::support::{Case, ensure_answers, ensure_answers_within, eventually, lab, take_down};

/// What is written once a second is there soon, also on a busy machine.
const LIMIT: Duration = Duration::from_secs(20);

pub const CASES: &[Case] = &[
    Case {
        name: "usage is kept across SIGKILL and told when nothing runs",
        programs: &[],
        run: outlives_a_kill,
    },
    Case {
        name: "usage that can't be written is counted in memory, and status says so",
        programs: &[],
        run: goes_on_in_memory,
    },
    Case {
        name: "a peer that is removed and added again keeps its usage",
        programs: &[],
        run: outlives_its_peer,
    },
];

/// What the hub tells of its peers, by the bytes of each.
fn usage(lab: &Lab, words: &[&str]) -> Result<Value> {
    let words = [&["usage", "--json"], words].concat();
    let output = lab.hub.command().args(words).output()?;
    ensure!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(serde_json::from_slice(&output.stdout)?)
}

fn bytes_of(usage: &Value, key: &str) -> u64 {
    let peers = usage["peers"].as_array().into_iter().flatten();
    let mut of_it = peers.filter(|peer| peer["public_key"] == key);
    let counts = |peer: &Value| {
        peer["rx_bytes"]
            .as_u64()?
            .checked_add(peer["tx_bytes"].as_u64()?)
    };
    of_it.next().and_then(counts).unwrap_or_default()
}

/// What `status` has of a spoke: its key, and its bytes.
fn moved(lab: &Lab, role: Role) -> Result<(String, u64)> {
    let status = lab.hub.command().args(["status", "--json"]).output()?;
    let status: Value = serde_json::from_slice(&status.stdout)?;
    let spoke: Value = serde_json::from_str(&lab.node(role).tell(&["status", "--json"])?)?;
    let key = spoke["public_key"].as_str().context("no key")?.to_owned();
    let peers = status["peers"].as_array().context("no peers")?;
    let peer = peers.iter().find(|peer| peer["public_key"] == *key);
    let peer = peer.context("no such peer")?;
    let bytes = |field: &str| peer[field].as_u64().unwrap_or_default();
    Ok((key, bytes("rx_bytes") + bytes("tx_bytes")))
}

fn database(lab: &Lab) -> Result<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(lab.hub.directory().join("state"))? {
        let file = entry?.path().join("usage.db");
        found.extend(file.exists().then_some(file));
    }
    found.pop().context("there is no database")
}

fn outlives_a_kill() -> Result<()> {
    let mut lab = lab(Options::default())?;
    for _ in 0..20 {
        ensure_answers(&lab.net.a, Role::B.v4())?;
    }
    let (key, before) = moved(&lab, Role::A)?;
    ensure!(before > 2000, "only {before} bytes");
    // A tunnel that runs tells the running second, too.
    let told = bytes_of(&usage(&lab, &[])?, &key);
    ensure!(told >= before, "{told} of {before} bytes");
    ensure!(usage(&lab, &[])?["usage"]["kept"] == "disk");
    lab.a.kill()?;
    lab.b.kill()?;
    std::thread::sleep(Duration::from_secs(3));
    let told = bytes_of(&usage(&lab, &[])?, &key);
    std::thread::sleep(Duration::from_secs(2));
    lab.hub.kill()?;

    let from_file = usage(&lab, &[])?;
    ensure!(from_file["running"] == false, "{from_file}");
    let kept = bytes_of(&from_file, &key);
    ensure!(kept >= told, "{kept} bytes are left of {told}");
    let one = usage(&lab, &[&key, "--since", "2d"])?;
    let days = one["peers"][0]["days"].as_array().map_or(0, Vec::len);
    ensure!((1..=2).contains(&days), "{one}");

    lab.hub.start_again(&lab.net.hub)?;
    lab.a.start_again(&lab.net.a)?;
    lab.b.start_again(&lab.net.b)?;
    ensure_answers_within(&lab.net.a, Role::B.v4(), LIMIT)?;
    let (_, since) = moved(&lab, Role::A)?;
    let sum = bytes_of(&usage(&lab, &[])?, &key);
    ensure!(sum >= kept + since, "{sum} isn't {kept} and {since}");
    let (_, since) = moved(&lab, Role::A)?;
    ensure!(sum <= kept + since, "{sum} is more than {kept} and {since}");
    take_down(lab)
}

fn goes_on_in_memory() -> Result<()> {
    let mut lab = lab(Options::default())?;
    ensure_answers(&lab.net.a, Role::B.v4())?;
    let file = database(&lab)?;
    lab.hub.end(Signal::Terminate)?;
    let text = "this is another file, which isn't ours to overwrite";
    std::fs::remove_file(&file)?;
    std::fs::create_dir(&file)?;
    std::fs::write(file.join("file"), text)?;
    lab.hub.start_again(&lab.net.hub)?;
    ensure_answers_within(&lab.net.a, Role::B.v4(), LIMIT)?;
    eventually("status tells where usage is", LIMIT, || {
        let text = lab.hub.tell(&["status"])?;
        Ok(text.contains("in memory only: cannot open: it is no regular file"))
    })?;
    let (key, _) = moved(&lab, Role::A)?;
    let told = usage(&lab, &[])?;
    ensure!(told["usage"]["kept"] == "memory", "{told}");
    ensure!(bytes_of(&told, &key) > 0, "{told}");
    let warnings = || {
        let log = lab.hub.log();
        log.matches("usage is counted in memory").count()
    };
    // The log follows once a second.
    eventually("the log tells it", LIMIT, || Ok(warnings() > 0))?;
    ensure!(warnings() == 1, "{} warnings", warnings());
    // It is tried again.
    std::fs::remove_dir_all(&file)?;
    eventually("usage is on disk again", Duration::from_secs(40), || {
        ensure_answers(&lab.net.a, Role::Hub.v4())?;
        Ok(usage(&lab, &[])?["usage"]["kept"] == "disk")
    })?;
    take_down(lab)
}

fn outlives_its_peer() -> Result<()> {
    let mut lab = lab(Options::default())?;
    ensure_answers(&lab.net.a, Role::B.v4())?;
    let (key, before) = moved(&lab, Role::A)?;
    let config = lab.hub.config();
    let with = std::fs::read_to_string(&config)?;
    // Each peer is a section, the last lines of the file.
    let mut sections = with.split("[[peers]]");
    let head = sections.next().context("empty")?.to_owned();
    let others: Vec<&str> = sections.filter(|text| !text.contains(&key)).collect();
    ensure!(others.len() == 1, "{with}");
    std::fs::write(&config, format!("{head}[[peers]]{}", others.concat()))?;
    lab.hub.tell(&["reload"])?;
    let kept = bytes_of(&usage(&lab, &[])?, &key);
    ensure!(kept >= before, "{kept} of {before}");
    // It is called as it was last, also for a reader of the file.
    let name = |usage: &Value| {
        let mut peers = usage["peers"].as_array().into_iter().flatten();
        let of_it = peers.find(|peer| peer["public_key"] == *key)?;
        Some(of_it["name"].as_str()?.to_owned())
    };
    let called = name(&usage(&lab, &[])?);
    ensure!(called.as_deref() == Some("a"), "{called:?}");
    lab.hub.end(Signal::Terminate)?;
    let called = name(&usage(&lab, &[])?);
    ensure!(called.as_deref() == Some("a"), "{called:?} in the file");
    lab.hub.start_again(&lab.net.hub)?;
    std::fs::write(&config, &with)?;
    lab.hub.tell(&["reload"])?;
    ensure_answers_within(&lab.net.a, Role::B.v4(), Duration::from_secs(30))?;
    let (_, since) = moved(&lab, Role::A)?;
    let sum = bytes_of(&usage(&lab, &[])?, &key);
    ensure!(sum >= kept + since, "{sum} isn't {kept} and {since}");
    take_down(lab)
}
