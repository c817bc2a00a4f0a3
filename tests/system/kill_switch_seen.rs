//! Whether a dead tunnel's kill switch holds is told by the rules that are there, and not by
//! its journal.

use std::fs;
use std::process::Output;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use taltun_tests::command::{finish_within, output_of};
use taltun_tests::node::RUNTIME_DIR;

use crate::kill_switch::{Full, said};
use crate::support::{Case, taltun};

pub const CASES: &[Case] = &[
    Case {
        name: "kill switch: status tells one that holds from one whose rules are gone, with nftables",
        programs: &["nft"],
        run: || told_by_rules("nftables"),
    },
    Case {
        name: "kill switch: status tells one that holds from one whose rules are gone, with iptables",
        programs: &["iptables"],
        run: || told_by_rules("iptables"),
    },
    Case {
        name: "kill switch: who may not look at rules is told that it may hold",
        programs: &["nft", "setpriv"],
        run: without_rights,
    },
    Case {
        name: "kill switch: one of a tunnel that runs with another directory isn't called left",
        programs: &["nft"],
        run: of_a_living_tunnel,
    },
];

/// What `status --json` prints where no tunnel runs, which is a failure.
fn json_of(output: &Output) -> Result<Value> {
    ensure!(output.status.code() == Some(1), "{}", said(output));
    let json: Value = serde_json::from_slice(&output.stdout)?;
    ensure!(json["running"] == false, "{json}");
    Ok(json)
}

/// The one kill switch that is told.
fn only_switch(full: &Full) -> Result<Value> {
    let json = json_of(&full.taltun(&["status", "--json"])?)?;
    let switches = json["kill_switches"].as_array().context("no list")?;
    ensure!(switches.len() == 1, "{json}");
    ensure!(switches[0]["interface"] == "taltun0", "{json}");
    ensure!(json["cannot_look"].is_null(), "{json}");
    Ok(switches[0].clone())
}

fn told_by_rules(firewall: &str) -> Result<()> {
    let more = format!("kill_switch = true\nfirewall = \"{firewall}\"\n");
    let mut full = Full::start(&more, &[])?;
    full.tunnel_answers()?;
    full.client.kill()?;
    full.outside_is_closed()?;
    let switch = only_switch(&full)?;
    ensure!(switch["state"] == "holds", "{switch}");
    let start = switch["start"].as_str().context("no command")?;
    ensure!(start.starts_with("taltun run --config /"), "{switch}");

    // Without a journal, or with one that can't be read, the rules tell as much.
    let file = full.client.directory().join("taltun0.undo");
    let journal = fs::read_to_string(&file)?;
    for text in [None, Some("{ nonsense")] {
        match text {
            Some(text) => fs::write(&file, text)?,
            None => fs::remove_file(&file)?,
        }
        let holds = "KILL SWITCH OF taltun0 HOLDS: nothing leaves.\n  \
                     release: taltun undo taltun0\n";
        for words in [
            &["status"][..],
            &["stats"],
            &["reload"],
            &["ban", "192.0.2.7"],
        ] {
            let text = said(&full.taltun(words)?);
            ensure!(text.contains(holds), "{words:?}: {text}");
        }
        let switch = only_switch(&full)?;
        ensure!(switch["state"] == "holds", "{switch}");
        ensure!(switch["start"].is_null(), "{switch}");
    }
    fs::write(&file, journal)?;

    // A part of the rules is none, and neither are no rules.
    for part in [true, false] {
        take_rules_away(&full, firewall, part)?;
        full.outside_is_open()?;
        let text = said(&full.taltun(&["status"])?);
        ensure!(!text.contains("HOLDS"), "{text}");
        ensure!(text.contains("KILL SWITCH OF taltun0 IS OPEN: "), "{text}");
        ensure!(text.contains("start: taltun run --config /"), "{text}");
        let switch = only_switch(&full)?;
        ensure!(switch["state"] == "open", "{switch}");
        let reason = switch["reason"].as_str().context("no reason")?;
        ensure!((reason == "its rules are gone") != part, "{reason}");
    }
    full.write_config("mode = \"client\"", "mode = \"nonsense\"")?;
    let text = full.failing_start()?;
    ensure!(
        text.contains("the kill switch of taltun0 is open"),
        "{text}"
    );
    let undone = said(&full.taltun(&["undo", "taltun0"])?);
    ensure!(
        undone.contains("kill switch (its rules had gone)"),
        "{undone}"
    );
    let json = json_of(&full.taltun(&["status", "--json"])?)?;
    ensure!(json["kill_switches"] == Value::Array(Vec::new()), "{json}");
    Ok(())
}

/// Takes away what refuses packets of this machine, or all of the rules.
fn take_rules_away(full: &Full, firewall: &str, part: bool) -> Result<()> {
    let commands: &[&str] = match (firewall, part) {
        ("nftables", true) => &["nft flush chain inet taltun-taltun0 kill_switch_output"],
        ("nftables", false) => &["nft delete table inet taltun-taltun0"],
        (_, true) => &["iptables -D OUTPUT -j taltun-taltun0-out"],
        (_, false) => &["iptables -F", "iptables -X", "ip6tables -F", "ip6tables -X"],
    };
    for command in commands {
        let (program, words) = command.split_once(' ').context("a command of one word")?;
        output_of(full.pair.left.command(program).args(words.split(' ')))?;
    }
    Ok(())
}

fn without_rights() -> Result<()> {
    let mut full = Full::start("kill_switch = true\n", &[])?;
    full.client.kill()?;
    let status = |words: &[&str]| {
        let mut command = full.pair.left.command("setpriv");
        command
            .args(["--bounding-set", "-net_admin", "--"])
            .arg(taltun()?)
            .arg("status")
            .args(words)
            .env(RUNTIME_DIR, full.client.directory());
        finish_within(&mut command, Duration::from_secs(10))
    };
    let text = said(&status(&[])?);
    ensure!(
        text.contains("KILL SWITCH OF taltun0 MAY HOLD, which can't be seen: "),
        "{text}"
    );
    ensure!(text.contains("run as root"), "{text}");
    let json = json_of(&status(&["--json"])?)?;
    ensure!(json["kill_switches"][0]["state"] == "unknown", "{json}");
    ensure!(json["cannot_look"].is_string(), "{json}");
    fs::remove_file(full.client.directory().join("taltun0.undo"))?;
    let text = said(&status(&[])?);
    ensure!(
        text.contains("; whether a kill switch holds can't be seen: "),
        "{text}"
    );
    Ok(())
}

fn of_a_living_tunnel() -> Result<()> {
    let full = Full::start("kill_switch = true\n", &[])?;
    full.tunnel_answers()?;
    let elsewhere = tempfile::tempdir()?;
    let mut command = full.pair.left.command(taltun()?);
    command
        .args(["status", "--json"])
        .env(RUNTIME_DIR, elsewhere.path());
    let output = finish_within(&mut command, Duration::from_secs(10))?;
    let json = json_of(&output)?;
    ensure!(json["kill_switches"] == Value::Array(Vec::new()), "{json}");
    Ok(())
}
