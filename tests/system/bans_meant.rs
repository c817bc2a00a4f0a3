//! What bans mean: who ends them, which ask back, and what they say.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use taltun_tests::lab::Options;
use taltun_tests::lab::Role;
use taltun_tests::node::{Keys, Node};
use taltun_tests::sys::Signal;
use taltun_tests::topology::{Pair, WIRE_A, WIRE_B, private_prefix};

use crate::support::{
    Case, UP_LIMIT, ensure_answers, ensure_answers_within, ensure_silent, eventually, lab,
    take_down, taltun,
};

/// Denied by the file of the hub below.
const DENIED: &str = "198.51.100.0/24";

pub const CASES: &[Case] = &[
    Case {
        name: "the end of an operator's ban leaves denied what the file denies, and a reload leaves banned what an operator banned",
        programs: &[],
        run: both_origins,
    },
    Case {
        name: "a ban of a time that no clock has is refused, and the hub goes on",
        programs: &[],
        run: no_such_time,
    },
    Case {
        name: "a ban that may be a mistake asks back",
        programs: &[],
        run: asks_back,
    },
    Case {
        name: "a peer is banned by its name, inside and outside",
        programs: &[],
        run: by_name,
    },
];

/// A hub that knows one peer, ana, and denies a network if `deny` says so.
fn text(keys: &Keys, peer: &Keys, deny: bool) -> String {
    let denied = if deny { DENIED } else { "192.0.2.0/24" };
    format!(
        "[interface]\nmode = \"server\"\nvip = \"10.200.0.1/24\"\nprivate_key = \"{}\"\n\
         [[peers]]\nname = \"ana\"\npublic_key = \"{}\"\nvip = \"10.200.0.2\"\n\
         allowed_ips = [\"192.168.77.0/24\"]\n\
         [accel]\ndeny = [\"{denied}\"]\ndeny_inner = [\"{denied}\"]\n",
        keys.private, peer.public
    )
}

fn hub(deny: bool) -> Result<(Pair, Node, Keys, Keys)> {
    let pair = Pair::create(&private_prefix())?;
    let (keys, peer) = (Keys::generate(&taltun()?)?, Keys::generate(&taltun()?)?);
    let node = Node::start_with_text(&pair.left, &taltun()?, &text(&keys, &peer, deny))?;
    Ok((pair, node, keys, peer))
}

fn both_origins() -> Result<()> {
    let (_pair, hub, keys, peer) = hub(true)?;
    let is_denied = |inner: bool| -> Result<bool> {
        let stats = hub.stats()?;
        let denied = if inner {
            stats.denied_inner
        } else {
            stats.denied
        };
        Ok(denied.iter().any(|net| net == DENIED))
    };
    for inner in [&[][..], &["--inner"]] {
        let said = hub.tell(&[&["ban", DENIED, "--for", "1s"], inner].concat())?;
        ensure!(said.contains("for 1 second"), "ban says: {said}");
        ensure!(said.contains("denies it too"), "ban says: {said}");
    }
    // Another ban ends after them, so theirs have ended when it has.
    hub.tell(&["ban", "203.0.113.7", "--for", "2s"])?;
    eventually("the bans end", UP_LIMIT, || {
        Ok(hub.stats()?.denied.len() == 1)
    })?;
    ensure!(is_denied(false)? && is_denied(true)?, "the file denies it");

    // Taken out of the file, what an operator banned stays banned.
    hub.tell(&["ban", DENIED])?;
    std::fs::write(hub.config(), text(&keys, &peer, false))?;
    hub.tell(&["reload"])?;
    ensure!(is_denied(false)?, "an operator banned it");
    ensure!(!is_denied(true)?, "nobody denies it any more");
    std::fs::write(hub.config(), text(&keys, &peer, true))?;
    hub.tell(&["reload"])?;
    let said = hub.tell(&["unban", DENIED])?;
    ensure!(said.contains("accel.deny"), "unban says: {said}");
    ensure!(said.contains("still denies it"), "unban says: {said}");
    ensure!(is_denied(false)?, "the file denies it");
    let said = hub.tell(&["unban", DENIED])?;
    ensure!(said.contains("until the next reload"), "unban says: {said}");
    ensure!(!is_denied(false)?, "it was unbanned");
    ensure!(hub.tell(&["unban", DENIED]).is_err(), "it isn't banned");
    hub.tell(&["reload"])?;
    ensure!(is_denied(false)?, "the file denies it");
    hub.stop(Signal::Terminate)
}

fn no_such_time() -> Result<()> {
    let (_pair, hub, _, _) = hub(false)?;
    let sockets: Vec<_> = std::fs::read_dir(hub.directory())?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|end| end == "sock"))
        .collect();
    let socket = sockets.first().context("there is no control socket")?;
    for seconds in [
        "0",
        "9223372036854775807",
        "9223372036854775808",
        "18446744073709551615",
        "18446744073709551616",
        "-1",
        "1e400",
    ] {
        for request in ["ban", "ban_peer"] {
            let whom = match request {
                "ban" => "\"net\":\"203.0.113.7/32\"",
                _ => "\"peer\":\"ana\"",
            };
            let stream = UnixStream::connect(socket)?;
            stream.set_read_timeout(Some(Duration::from_secs(10)))?;
            writeln!(
                &stream,
                "{{\"{request}\":{{{whom},\"seconds\":{seconds}}}}}"
            )?;
            let mut answer = String::new();
            BufReader::new(stream).read_line(&mut answer)?;
            ensure!(answer.starts_with("{\"error\":"), "{seconds}: {answer}");
        }
    }
    for time in ["9223372036854775807s", "200000000000000d", "0s"] {
        let refused = hub.tell(&["ban", "203.0.113.7", "--for", time]);
        ensure!(refused.is_err(), "{time} was taken");
    }
    ensure!(hub.stats()?.denied.len() == 1, "something was banned");
    hub.stop(Signal::Terminate)
}

fn asks_back() -> Result<()> {
    let (_pair, hub, _, _) = hub(false)?;
    let before = hub.stats()?;
    let own = WIRE_A.near_v4().to_string();
    for (words, remedy) in [
        (&["0.0.0.0/0"][..], "--force"),
        (&["0.0.0.0/1"], "--force"),
        (&["::/0"], "--force"),
        (&["::/0", "--inner"], "--force"),
        (&["0.0.0.0/0", "--inner"], "--force"),
        (&["10.200.0.1"], "--inner"),
        (&["10.200.0.2"], "--inner"),
        (&["10.200.0.0/24"], "--inner"),
        (&["192.168.77.9"], "--inner"),
        (&["10.200.0.0/24", "--inner"], "--force"),
        (&["127.0.0.1"], "--force"),
        (&["::1", "--outer"], "--force"),
        (&[&own], "--force"),
        (&[&own, "--outer"], "--force"),
    ] {
        let refusal = hub.tell(&[&["ban"], words].concat());
        let refusal = format!("{:#}", refusal.err().context("it was taken")?);
        ensure!(refusal.contains(remedy), "{words:?}: {refusal}");
    }
    let after = hub.stats()?;
    ensure!(
        before.denied == after.denied && before.denied_inner == after.denied_inner,
        "something was banned"
    );
    for words in [
        &["0.0.0.0/0", "--force"][..],
        &["10.200.0.2", "--outer"],
        &["10.200.0.2", "--inner"],
        &["10.200.0.0/24", "--inner", "--force"],
        &["203.0.113.0/24"],
        &[&own, "--force"],
    ] {
        hub.tell(&[&["ban"], words].concat())
            .with_context(|| format!("{words:?}"))?;
    }
    hub.stop(Signal::Terminate)
}

fn by_name() -> Result<()> {
    let lab = lab(Options::default())?;
    ensure_answers(&lab.net.a, Role::Hub.v4())?;
    ensure_answers(&lab.net.b, Role::Hub.v4())?;
    ensure_answers(&lab.net.b, Role::Hub.v6())?;

    let said = lab.hub.tell(&["ban", "b"])?;
    ensure!(said.contains("cuts off b"), "ban says: {said}");
    // `status` and `stats` tell whose ban it is and what ends it.
    let status = lab.hub.tell(&["status"])?;
    ensure!(
        status.contains("inside the tunnel, until it is unbanned or the tunnel stops; to end it: `taltun unban b`"),
        "{status}"
    );
    let vip = format!("{}/32", Role::B.v4());
    lab.hub.tell(&["ban", "b", "--for", "90s"])?;
    let stats: serde_json::Value = serde_json::from_str(&lab.hub.tell(&["stats", "--json"])?)?;
    let bans = stats["bans"].as_array().context("no bans")?;
    let ban = bans.iter().find(|ban| ban["net"] == vip.as_str());
    let ban = ban.with_context(|| format!("{stats}"))?;
    let left = ban["seconds_left"].as_u64().unwrap_or_default();
    ensure!((1..=90).contains(&left), "{ban}");
    ensure!(ban["peers"] == serde_json::json!(["b"]), "{ban}");
    let text = lab.hub.tell(&["stats"])?;
    ensure!(text.contains("  1 min "), "{text}");
    ensure_silent(&lab.net.b, Role::Hub.v4())?;
    ensure_silent(&lab.net.b, Role::Hub.v6())?;
    ensure_answers(&lab.net.a, Role::Hub.v4())?;
    lab.hub.tell(&["unban", "b"])?;
    ensure_answers_within(&lab.net.b, Role::Hub.v4(), UP_LIMIT)?;
    ensure_answers(&lab.net.b, Role::Hub.v6())?;

    let said = lab.hub.tell(&["ban", "b", "--outer"])?;
    let outside = WIRE_B.far_v4().to_string();
    ensure!(said.contains(&outside), "ban says: {said}");
    ensure_silent(&lab.net.b, Role::Hub.v4())?;
    lab.hub.tell(&["unban", "b", "--outer"])?;
    ensure_answers_within(&lab.net.b, Role::Hub.v4(), UP_LIMIT)?;
    for words in [
        &["ban", "nobody"][..],
        &["unban", "nobody"],
        &["unban", "b"],
    ] {
        ensure!(lab.hub.tell(words).is_err(), "`{words:?}` was accepted");
    }
    let stats = lab.hub.stats()?;
    ensure!(stats.denied.is_empty() && stats.denied_inner.is_empty());
    take_down(lab)
}
