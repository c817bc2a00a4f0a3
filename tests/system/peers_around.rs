//! What is around `taltun peer`: where the hub is, its disk, its own key, and a tunnel without a file.

use std::fs;
use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use taltun_tests::control::Control;
use taltun_tests::node::{Keys, Node};
use taltun_tests::sys::Signal;
use taltun_tests::topology::{Pair, private_prefix};

use crate::peers::{HUB, Hub, texts, value};
use crate::support::{
    Case, UP_LIMIT, ensure_answers, ensure_answers_within, ensure_silent, eventually, taltun,
};
use crate::wireguard::{Program, Wg};

pub const CASES: &[Case] = &[
    Case {
        name: "peers: a hub that nobody told where it is guesses a public address, or refuses",
        programs: &[],
        run: guessed,
    },
    Case {
        name: "peers: a full disk changes nothing, and a link goes on leading to the file",
        programs: &["unshare", "mount"],
        run: full_disk,
    },
    Case {
        name: "peers: the hub's own key changes by the steps of the manual, and back",
        programs: &[],
        run: own_key,
    },
    Case {
        name: "peers: a tunnel without a file says so",
        programs: &[],
        run: without_file,
    },
];

fn guessed() -> Result<()> {
    let hub = Hub::start("")?;
    let without: Vec<&str> = hub
        .text
        .lines()
        .filter(|line| !line.starts_with("public_endpoint"))
        .collect();
    fs::write(hub.node.config(), without.join("\n") + "\n")?;
    hub.node.tell(&["reload"])?;
    let refused = hub.refused(&["new", "phone"])?;
    ensure!(
        refused.contains("--endpoint HOST[:PORT]") && refused.contains("public_endpoint"),
        "{refused}"
    );
    // Nothing is sent there: the wire has nobody of that address.
    hub.pair.left.ip("addr add 185.1.2.3/24 dev to-right")?;
    hub.pair
        .left
        .ip("route add default via 185.1.2.4 dev to-right")?;
    let (text, told) = hub.done(&["new", "phone", "--wg"])?;
    ensure!(value(&text, "Endpoint")? == "185.1.2.3:9000", "{text}");
    ensure!(
        told.contains("warning: nobody said where clients reach this hub"),
        "{told}"
    );
    let (text, told) = hub.done(&["new", "other", "--wg", "--endpoint", "hub.example.net:7"])?;
    ensure!(value(&text, "Endpoint")? == "hub.example.net:7", "{text}");
    ensure!(!told.contains("warning"), "{told}");
    hub.node.stop(Signal::Terminate)
}

/// The hub's file is behind a link, on a small file system that only the hub sees.
fn full_disk() -> Result<()> {
    let pair = Pair::create(&private_prefix())?;
    let keys = Keys::generate(&taltun()?)?;
    let text = format!(
        "[interface]\nmode = \"server\"\nvip = \"10.200.0.1/24\"\nprivate_key = \"{}\"\n\
         public_endpoint = \"192.0.2.1\"\n# the end\n",
        keys.private
    );
    let script = "set -e; for word; do config=$word; done; disk=${config%/*}/disk; mkdir \"$disk\"; \
                  mount -t tmpfs -o size=64k none \"$disk\"; mv \"$config\" \"$disk/hub.toml\"; \
                  ln -s disk/hub.toml \"$config\"; exec \"$@\"";
    let through = ["unshare", "--mount", "sh", "-c", script, "sh"];
    let node = Node::start_through(&pair.left, &taltun()?, &text, &through)?;
    let seen = |name: &str| {
        let directory = node.directory().display();
        PathBuf::from(format!("/proc/{}/root{directory}/{name}", node.pid()))
    };
    let peer = |words: &[&str]| -> Result<(bool, String)> {
        let mut command = node.command();
        let output = command.arg("peer").args(words).output()?;
        let (out, err) = texts(&output);
        Ok((output.status.success(), out + &err))
    };
    let (done, said) = peer(&["new", "first"])?;
    ensure!(done, "{said}");
    ensure!(fs::symlink_metadata(seen("config.toml"))?.is_symlink());
    let before = fs::read_to_string(seen("disk/hub.toml"))?;
    ensure!(
        before.contains("\"first\"") && before.contains("# the end"),
        "{before}"
    );
    // Up to the last byte.
    let mut filler = fs::File::create(seen("disk/filler"))?;
    while std::io::Write::write_all(&mut filler, &[0; 512]).is_ok() {}
    let (done, said) = peer(&["new", "second"])?;
    ensure!(!done && said.contains("No space left on device"), "{said}");
    ensure!(said.contains("nothing was changed"), "{said}");
    ensure!(fs::read_to_string(seen("disk/hub.toml"))? == before);
    ensure!(!seen("disk/.hub.toml.new").exists(), "half a file is left");
    ensure!(node.status()?.peers.len() == 1);
    drop(filler);
    fs::remove_file(seen("disk/filler"))?;
    // The file system may count what is gone for a moment yet.
    eventually("there is room again", UP_LIMIT, || {
        Ok(peer(&["new", "second"])?.0)
    })?;
    ensure!(node.status()?.peers.len() == 2);
    node.stop(Signal::Terminate)
}

fn own_key() -> Result<()> {
    let hub = Hub::start("")?;
    let (text, _) = hub.done(&["new", "laptop"])?;
    let mut laptop = Node::start_with_text(&hub.pair.right, &taltun()?, &text)?;
    ensure_answers(&hub.pair.right, HUB.into())?;
    let old = value(&hub.text, "private_key")?.to_owned();
    let old_public = Keys::of_private(&taltun()?, &old)?.public;
    let new = Keys::generate(&taltun()?)?;
    for (from, to, from_public, to_public) in [
        (&old, &new.private, &old_public, &new.public),
        (&new.private, &old, &new.public, &old_public),
    ] {
        // The peer first, then the hub.
        let config = fs::read_to_string(laptop.config())?;
        ensure!(config.contains(from_public.as_str()), "{config}");
        fs::write(
            laptop.config(),
            config.replace(from_public.as_str(), to_public),
        )?;
        laptop.tell(&["reload"])?;
        ensure_silent(&hub.pair.right, HUB.into())?;
        fs::write(hub.node.config(), hub.file()?.replace(from.as_str(), to))?;
        let changed = Instant::now();
        let said = hub.node.tell(&["reload"])?;
        ensure!(
            said.contains("our own key changed: all sessions start anew"),
            "{said}"
        );
        // Who hasn't come back yet doesn't look as if it had.
        let status = hub.node.status()?;
        let handshake = status
            .peers
            .first()
            .context("no peer")?
            .latest_handshake_seconds;
        let since = changed.elapsed().as_secs_f64();
        ensure!(
            handshake.is_none_or(|age| age <= since),
            "a handshake of {handshake:?} s ago, {since} s after the change"
        );
        ensure_answers_within(&hub.pair.right, HUB.into(), 4 * UP_LIMIT)?;
        // What is added afterwards knows the key by then.
        let (file, _) = hub.done(&["new", "tablet", "--wg"])?;
        ensure!(value(&file, "PublicKey")? == to_public, "{file}");
        hub.done(&["remove", "tablet"])?;
    }
    laptop.end(Signal::Terminate)?;
    hub.node.stop(Signal::Terminate)
}

fn without_file() -> Result<()> {
    let pair = Pair::create(&private_prefix())?;
    let wg = Wg::start(Program::Taltun, &pair.left)?;
    let mut command = Control::new(&taltun()?, wg.directory()).command();
    command.args(["peer", "new", "phone", "--endpoint", "192.0.2.1"]);
    let (_, err) = texts(&command.output()?);
    ensure!(
        err.contains("no configuration file") && err.contains("wg set"),
        "{err}"
    );
    Ok(())
}
