//! `taltun peer`: peers of a running hub, in its file and in the tunnel at once.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Output, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use taltun_tests::command::output_of;
use taltun_tests::control::keep_in;
use taltun_tests::node::{Keys, Node};
use taltun_tests::sys::Signal;
use taltun_tests::topology::{Pair, WIRE_A, private_prefix};
use taltun_tests::traffic::ping::Pinger;

use crate::codes;
use crate::support::{Case, UP_LIMIT, ensure_answers, eventually, taltun};
use crate::wireguard::{Program, Wg};

pub const CASES: &[Case] = &[
    Case {
        name: "peers: a phone's code is read from the terminal, and wireguard-go pings with it",
        programs: &["wireguard-go", "wg", "wg-quick", "script", "stty"],
        run: phone,
    },
    Case {
        name: "peers: a new peer's file runs a Taltun client, and its key is nowhere on the hub",
        programs: &[],
        run: taltun_client,
    },
    Case {
        name: "peers: a code without a terminal, or with one too small, is told and the file printed",
        programs: &["script", "stty"],
        run: no_room,
    },
];

/// The hub's address in the tunnel.
pub const HUB: [u8; 4] = [10, 200, 0, 1];

pub struct Hub {
    pub pair: Pair,
    pub node: Node,
    pub text: String,
}

impl Hub {
    /// A hub at the left end of a wire, with a comment in each place of its file that may have one.
    pub fn start(more: &str) -> Result<Self> {
        let pair = Pair::create(&private_prefix())?;
        let keys = Keys::generate(&taltun()?)?;
        let ana = Keys::generate(&taltun()?)?;
        let text = format!(
            "# the hub\n[interface] # ours\nmode = \"server\"\nvip = [\"10.200.0.1/24\", \
             \"fd00:200::1/64\"]\nprivate_key = \"{}\"\nlocal_addr = \"[::]:9000\"\n\
             public_endpoint = \"{}\" # the wire\n\n# people\n[[peers]]\nname = \"ana\"\n\
             public_key = \"{}\"\nvip = \"10.200.0.2\" # a laptop\n\n# what follows\n{more}",
            keys.private,
            WIRE_A.near_v4(),
            ana.public
        );
        let node = Node::start_with_text(&pair.left, &taltun()?, &text)?;
        Ok(Self { pair, node, text })
    }

    /// Runs `taltun peer`.
    pub fn peer(&self, words: &[&str]) -> Result<Output> {
        let mut command = self.node.command();
        command.arg("peer").args(words).stdin(Stdio::null());
        Ok(command.output()?)
    }

    /// The same, which must do it; returns what it prints and what it says beside that.
    pub fn done(&self, words: &[&str]) -> Result<(String, String)> {
        let output = self.peer(words)?;
        let (out, err) = texts(&output);
        ensure!(output.status.success(), "taltun peer {words:?}: {err}");
        Ok((out, err))
    }

    /// The same, which must refuse it without any change.
    pub fn refused(&self, words: &[&str]) -> Result<String> {
        let (file, peers) = (self.file()?, self.peers()?);
        let output = self.peer(words)?;
        let (out, err) = texts(&output);
        ensure!(
            !output.status.success(),
            "taltun peer {words:?} did it: {out}"
        );
        ensure!(err.lines().count() == 1, "{err}");
        ensure!(self.file()? == file, "{words:?} changed the file");
        ensure!(self.peers()? == peers, "{words:?} changed the tunnel");
        Ok(err)
    }

    /// The same in a terminal of so many columns and lines: all that it shows.
    pub fn on_terminal(&self, (columns, lines): (u16, u16), words: &str) -> Result<String> {
        let line = format!(
            "stty cols {columns} rows {lines}; exec {} peer {words}",
            taltun()?.display()
        );
        let mut command = Command::new("script");
        command
            .args(["--quiet", "--return", "--command", &line, "/dev/null"])
            .env("TERM", "xterm-256color")
            .env_remove("NO_COLOR");
        output_of(keep_in(&mut command, self.node.directory()))
    }

    pub fn file(&self) -> Result<String> {
        Ok(fs::read_to_string(self.node.config())?)
    }

    /// The running tunnel's peers.
    pub fn peers(&self) -> Result<Vec<Known>> {
        let status: Value = serde_json::from_str(&self.node.tell(&["status", "--json"])?)?;
        let peers = status["peers"].as_array().context("no peers")?;
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let peers = peers.iter().map(|peer| {
            let nets = peer["allowed_ips"].as_array().into_iter().flatten();
            (
                peer["name"].as_str().map(str::to_owned),
                text(&peer["public_key"]),
                nets.map(text).collect(),
            )
        });
        Ok(peers.collect())
    }

    /// What the hub wrote for others to read: its log and its trail.
    pub fn told(&self) -> String {
        let trail = self.node.directory().join("state/taltun0/audit.jsonl");
        self.node.log() + &fs::read_to_string(trail).unwrap_or_default()
    }
}

/// A peer's name, key and addresses.
pub type Known = (Option<String>, String, Vec<String>);

/// What a program printed, and what it said beside that.
pub fn texts(output: &Output) -> (String, String) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (text(&output.stdout), text(&output.stderr))
}

/// The value of a line `key = value`, without quotes.
pub fn value<'t>(text: &'t str, key: &str) -> Result<&'t str> {
    let mut lines = text.lines().filter_map(|line| line.split_once(" = "));
    let (_, value) = lines
        .find(|(found, _)| *found == key)
        .with_context(|| format!("there is no {key}"))?;
    Ok(value.trim_matches('"'))
}

/// The command behind `to undo it: `, as words.
pub fn undo(told: &str) -> Result<Vec<String>> {
    let line = told
        .lines()
        .find_map(|line| line.split_once("to undo it: taltun peer "));
    let (_, command) = line.with_context(|| format!("nothing undoes it: {told}"))?;
    // A shell, as people have one.
    let words = output_of(Command::new("sh").args(["-c", &format!("printf '%s\\n' {command}")]))?;
    Ok(words.lines().map(str::to_owned).collect())
}

fn phone() -> Result<()> {
    let hub = Hub::start("")?;
    let picture = hub.node.directory().join("phone.png");
    // What doesn't belong to it is ready before.
    let phone = Wg::start(Program::WireguardGo, &hub.pair.right)?;

    let start = Instant::now();
    let shown = hub.on_terminal((120, 60), "new phone --wg --qr --psk")?;
    let text = codes::read_terminal(&shown)?;
    let file = hub.node.directory().join("phone.conf");
    fs::write(&file, &text)?;
    let stripped = output_of(Command::new("wg-quick").arg("strip").arg(&file))?;
    phone.setconf(&stripped)?;
    let addresses: Vec<&str> = value(&text, "Address")?.split(", ").collect();
    phone.bring_up(&addresses)?;
    Pinger::new(&hub.pair.right, HUB.into())?.wait_until_answered(UP_LIMIT)?;
    println!(
        "from `taltun peer new` to the first answer: {:.2} s",
        start.elapsed().as_secs_f64()
    );
    ensure!(addresses == ["10.200.0.3/24", "fd00:200::3/64"], "{text}");
    ensure!(text.contains("PresharedKey = "), "{text}");
    ensure!(
        value(&text, "AllowedIPs")? == "10.200.0.0/24, fd00:200::/64",
        "{text}"
    );
    ensure!(
        shown.contains("to undo it: taltun peer remove phone"),
        "{shown}"
    );
    // Only in the code.
    ensure!(!shown.contains(value(&text, "PrivateKey")?), "{shown}");

    // The same as a picture, for another one.
    let option = format!("--qr={}", picture.display());
    let (out, _) = hub.done(&["new", "tablet", &option])?;
    ensure!(out.is_empty(), "{out}");
    let text = codes::read_picture(&picture)?;
    ensure!(
        value(&text, "Address")?.starts_with("10.200.0.4/24"),
        "{text}"
    );
    let mode = fs::metadata(&picture)?.permissions().mode();
    ensure!(mode & 0o777 == 0o600, "mode {mode:o}");

    // What is too long for one is in a file all the same, and not where nobody asked for it.
    let nets: Vec<String> = (10..70)
        .map(|last| format!("fd11:2222:3333:4444:5555:6666:7777:88{last}/128"))
        .collect();
    hub.done(&["new", "far", "--allowed", &nets.join(",")])?;
    let picture = picture.with_file_name("long.png");
    let option = format!("--qr={}", picture.display());
    let host = format!("{}.example.net", ["a"; 50].join("."));
    let (out, err) = hub.done(&["new", "long", &option, "--endpoint", &host, "--psk"])?;
    ensure!(out.is_empty() && !picture.exists(), "{out}{err}");
    let text = fs::read_to_string(picture.with_extension("conf"))?;
    ensure!(value(&text, "Endpoint")?.starts_with(&host), "{text}");
    drop(phone);
    hub.node.stop(Signal::Terminate)
}

fn taltun_client() -> Result<()> {
    let hub = Hub::start("")?;
    let file = hub.node.directory().join("laptop.toml");
    let words = ["new", "laptop", "--psk", "--expires", "2199-12-31", "--out"];
    let path = file.to_str().context("an odd path")?;
    let (out, err) = hub.done(&[&words[..], &[path]].concat())?;
    ensure!(out.is_empty() && err.contains("written to"), "{out}{err}");
    let text = fs::read_to_string(&file)?;
    let mode = fs::metadata(&file)?.permissions().mode();
    ensure!(mode & 0o777 == 0o600, "mode {mode:o}");
    let laptop = Node::start_with_text(&hub.pair.right, &taltun()?, &text)?;
    ensure_answers(&hub.pair.right, HUB.into())?;
    let said = hub.file()?;
    ensure!(said.contains("expires = 2199-12-31"), "{said}");

    // The private key stays where it was made, and the other one where it belongs.
    let (private, shared) = (value(&text, "private_key")?, value(&text, "preshared_key")?);
    ensure!(!said.contains(private) && said.contains(shared), "{said}");
    let told = hub.told();
    ensure!(!told.contains(private) && !told.contains(shared), "{told}");
    eventually("it is written down", UP_LIMIT, || {
        Ok(hub.told().contains("\"peer new\""))
    })?;
    let told = hub.told();
    let line = told.lines().find(|line| line.contains("\"peer new\""));
    let line: Value = serde_json::from_str(line.context("no line")?)?;
    ensure!(
        line["target"] == "laptop"
            && line["outcome"] == "done"
            && line["peers"]["added"][0] == "laptop"
            && line["by"]["program"] == "taltun"
            && line["by"]["uid"] == 0,
        "{line}"
    );

    // Nothing is ever written over.
    let refused = hub.refused(&["new", "other", "--out", path])?;
    ensure!(refused.contains("is there already"), "{refused}");
    ensure!(fs::read_to_string(&file)? == text);

    // Two more ways to get it, one with a key of the peer's own.
    let (out, _) = hub.done(&["new", "desk", "--json"])?;
    let told: Value = serde_json::from_str(&out)?;
    ensure!(told["client"]["addresses"][0] == "10.200.0.4/24", "{told}");
    ensure!(told["undo"] == "taltun peer remove desk", "{told}");
    let file = told["file"].as_str().context("no file")?;
    ensure!(file.contains("private_key = "), "{file}");
    let own = Keys::generate(&taltun()?)?;
    let (out, _) = hub.done(&["new", "own", "--wg", "--public-key", &own.public])?;
    ensure!(
        !out.contains("PrivateKey =") && out.contains("Address = "),
        "{out}"
    );
    let listed = hub.done(&["list"])?.0;
    for name in ["ana", "laptop", "desk", "own"] {
        ensure!(
            listed.lines().any(|line| line.starts_with(name)),
            "{listed}"
        );
    }
    let shown = hub.done(&["show", "laptop"])?.0;
    ensure!(
        shown.contains("2199-12-31") && shown.contains("10.200.0.3"),
        "{shown}"
    );
    laptop.stop(Signal::Terminate)?;
    hub.node.stop(Signal::Terminate)
}

fn no_room() -> Result<()> {
    let hub = Hub::start("")?;
    let shown = hub.on_terminal((40, 24), "new phone --qr")?;
    ensure!(shown.contains("this terminal has 40 and 24"), "{shown}");
    ensure!(
        shown.contains("PrivateKey = ") && !shown.contains('█'),
        "{shown}"
    );
    // The remedy is one that works: the peer is there by now.
    ensure!(shown.contains("`taltun peer rotate phone --qr`"), "{shown}");
    let code = hub.on_terminal((120, 60), "rotate phone --qr")?;
    ensure!(
        codes::read_terminal(&code)?.contains("PrivateKey = "),
        "{code}"
    );
    let (out, err) = hub.done(&["new", "tablet", "--qr"])?;
    ensure!(
        out.starts_with("[Interface]\n") && err.contains("is no terminal"),
        "{err}"
    );
    let refused = hub.refused(&["new", "x", "--qr", "--json"])?;
    ensure!(refused.contains("--qr=FILE.png"), "{refused}");
    // A key that nobody got is told with what helps.
    for (name, to) in [("full", "> /dev/full"), ("gone", "| true")] {
        // Who reads is gone before there is something to read.
        let line = format!(
            "{{ sleep 1; {} peer new {name}; }} {to}; exit ${{PIPESTATUS[0]}}",
            taltun()?.display()
        );
        let mut shell = Command::new("bash");
        shell.args(["-c", &line]).stdin(Stdio::null());
        let output = keep_in(&mut shell, hub.node.directory()).output()?;
        let (_, said) = texts(&output);
        let remedy = format!("`taltun peer rotate {name}`");
        ensure!(
            output.status.code() == Some(1)
                && said.contains("its file is lost")
                && said.contains(&remedy),
            "{to}: {} {said}",
            output.status
        );
    }
    hub.node.stop(Signal::Terminate)
}
