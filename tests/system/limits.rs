//! Quotas and last days of peers.

use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use taltun_tests::lab::{Lab, Options, Role};
use taltun_tests::traffic::ping::Pinger;

use crate::support::{
    Case, ensure_answers, ensure_answers_within, ensure_silent, eventually, lab, take_down,
};

/// Clients try again within seconds, and the hub looks each second.
const LIMIT: Duration = Duration::from_secs(40);

pub const CASES: &[Case] = &[
    Case {
        name: "a peer over its quota is refused, also after a restart, until a reload",
        programs: &[],
        run: over_quota,
    },
    Case {
        name: "a peer past its last day is refused until a reload",
        programs: &[],
        run: past_last_day,
    },
];

/// The hub's file with more lines for the first spoke, and for the interface.
fn write_hub(lab: &Lab, base: &str, peer: &str, interface: &str) -> Result<()> {
    let key = key_of(lab)?;
    let line = format!("public_key = \"{key}\"\n");
    ensure!(base.contains(&line), "{base}");
    let text = base.replacen(&line, &format!("{line}{peer}\n"), 1);
    let text = text.replacen("[interface]\n", &format!("[interface]\n{interface}\n"), 1);
    fs::write(lab.hub.config(), text)?;
    Ok(())
}

fn key_of(lab: &Lab) -> Result<String> {
    let status: Value = serde_json::from_str(&lab.a.tell(&["status", "--json"])?)?;
    let key = status["public_key"].as_str().context("no key")?;
    Ok(key.to_owned())
}

fn status_of(lab: &Lab) -> Result<Value> {
    let key = key_of(lab)?;
    let status: Value = serde_json::from_str(&lab.hub.tell(&["status", "--json"])?)?;
    let peers = status["peers"].as_array().context("no peers")?;
    let peer = peers.iter().find(|peer| peer["public_key"] == *key);
    peer.cloned().context("no such peer")
}

fn over_quota() -> Result<()> {
    let mut lab = lab(Options::default())?;
    ensure_answers(&lab.net.a, Role::B.v4())?;
    let base = fs::read_to_string(lab.hub.config())?;
    let said = lab.hub.directory().join("said");
    let hooks = format!(
        "on_peer_refused = \"echo $TALTUN_HOOK $TALTUN_PEER_NAME $TALTUN_REASON >> {0}\"\n\
         on_peer_allowed = \"echo $TALTUN_HOOK $TALTUN_PEER_NAME $TALTUN_REASON >> {0}\"",
        said.display()
    );
    write_hub(&lab, &base, "quota = \"20 kB/month\"", &hooks)?;
    lab.hub.tell(&["reload"])?;
    let mut ping = Pinger::new(&lab.net.a, Role::B.v4())?;
    let begun = Instant::now();
    // It may be that what it moved isn't read yet.
    while status_of(&lab)?["refused"] != "quota" {
        ensure!(begun.elapsed() < LIMIT, "{}", status_of(&lab)?);
        for _ in 0..20 {
            let _ = ping.ping(Duration::from_millis(100))?;
        }
    }
    let peer = status_of(&lab)?;
    ensure!(peer["refused"] == "quota", "{peer}");
    ensure!(peer["quota"]["bytes"] == 20_000, "{peer}");
    let used = peer["quota"]["used_bytes"].as_u64().unwrap_or_default();
    ensure!(used >= 20_000, "{peer}");
    // Nobody else is concerned.
    ensure_silent(&lab.net.a, Role::Hub.v4())?;
    ensure_silent(&lab.net.b, Role::A.v4())?;
    ensure_answers(&lab.net.b, Role::Hub.v4())?;
    eventually("its handshakes are dropped by their reason", LIMIT, || {
        let stats: Value = serde_json::from_str(&lab.hub.tell(&["stats", "--json"])?)?;
        let dropped = stats["drops"]["peer_refused"].as_u64();
        let _ = ping.ping(Duration::from_millis(100))?;
        Ok(dropped.is_some_and(|count| count > 0))
    })?;
    ensure!(lab.hub.tell(&["status"])?.contains("this month; REFUSED"));

    // What it has moved is known at the next start, before anything is let through.
    std::thread::sleep(Duration::from_secs(3));
    lab.hub.kill()?;
    lab.hub.start_again(&lab.net.hub)?;
    ensure_answers_within(&lab.net.b, Role::Hub.v4(), LIMIT)?;
    eventually("its quota is known again", LIMIT, || {
        let peer = status_of(&lab)?;
        ensure!(!peer["refused"].is_null(), "{peer}");
        Ok(peer["refused"] == "quota")
    })?;
    let peer = status_of(&lab)?;
    ensure!(peer["handshakes"] == 0, "{peer}");
    ensure_silent(&lab.net.a, Role::Hub.v4())?;

    write_hub(&lab, &base, "quota = \"1 GiB/month\"", &hooks)?;
    lab.hub.tell(&["reload"])?;
    ensure_answers_within(&lab.net.a, Role::B.v4(), LIMIT)?;
    let peer = status_of(&lab)?;
    ensure!(peer["refused"].is_null(), "{peer}");
    let still = peer["quota"]["used_bytes"].as_u64().unwrap_or_default();
    ensure!(still >= used, "{still} after {used}");
    eventually("the hooks have run", LIMIT, || {
        let said = fs::read_to_string(&said).unwrap_or_default();
        let lines: Vec<&str> = said.lines().map(str::trim).collect();
        let refused = lines
            .iter()
            .filter(|line| line.starts_with("on_peer_refused") && line.ends_with("quota"));
        Ok(refused.count() == 2
            && lines
                .last()
                .is_some_and(|it| it.starts_with("on_peer_allowed")))
    })?;
    take_down(lab)
}

fn past_last_day() -> Result<()> {
    let lab = lab(Options::default())?;
    ensure_answers(&lab.net.a, Role::B.v4())?;
    let base = fs::read_to_string(lab.hub.config())?;
    write_hub(&lab, &base, "expires = 2020-02-29", "")?;
    let config = lab.hub.config();
    let checked = lab
        .hub
        .command()
        .arg("check")
        .arg("-c")
        .arg(&config)
        .output()?;
    let told = String::from_utf8_lossy(&checked.stderr).into_owned();
    ensure!(checked.status.code() == Some(2), "{told}");
    ensure!(
        told.contains(": peers.expires: 2020-02-29 is past") && told.contains(".toml:"),
        "{told}"
    );
    // A tunnel goes on with it.
    lab.hub.tell(&["reload"])?;
    let peer = status_of(&lab)?;
    ensure!(
        peer["refused"] == "expired" && peer["expires"] == "2020-02-29",
        "{peer}"
    );
    ensure_silent(&lab.net.a, Role::Hub.v4())?;
    ensure_answers(&lab.net.b, Role::Hub.v4())?;
    write_hub(&lab, &base, "expires = \"2199-12-31\"", "")?;
    lab.hub.tell(&["reload"])?;
    ensure_answers_within(&lab.net.a, Role::B.v4(), LIMIT)?;
    ensure!(status_of(&lab)?["refused"].is_null());
    take_down(lab)
}
