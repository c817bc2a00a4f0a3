//! `taltun peer`: peers of a running hub, in its file and in the tunnel at once.

use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::thread;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use taltun_crypto::PrivateKey;
use taltun_tests::command::output_of;
use taltun_tests::control::{Control, keep_in};
use taltun_tests::node::{Keys, Node};
use taltun_tests::sys::Signal;
use taltun_tests::topology::{Pair, WIRE_A, private_prefix};
use taltun_tests::traffic::ping::Pinger;

use crate::codes;
use crate::support::{
    Case, UP_LIMIT, ensure_answers, ensure_answers_within, ensure_silent, eventually, taltun,
};
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
        name: "peers: many at once get an address each, and all else in the file stays",
        programs: &[],
        run: at_once,
    },
    Case {
        name: "peers: what can't be done changes nothing, neither in the file nor in the tunnel",
        programs: &[],
        run: refused,
    },
    Case {
        name: "peers: a code without a terminal, or with one too small, is told and the file printed",
        programs: &["script", "stty"],
        run: no_room,
    },
    Case {
        name: "peers: rename, rotate and remove act at once, and what they print undoes them",
        programs: &[],
        run: and_back,
    },
    Case {
        name: "peers: what wg changed stays when a peer is added, and its addresses are nobody else's",
        programs: &[],
        run: beside_wg,
    },
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

/// The hub's address in the tunnel.
const HUB: [u8; 4] = [10, 200, 0, 1];

pub struct Hub {
    pair: Pair,
    pub node: Node,
    text: String,
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
    fn peer(&self, words: &[&str]) -> Result<Output> {
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
    fn refused(&self, words: &[&str]) -> Result<String> {
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
    fn on_terminal(&self, (columns, lines): (u16, u16), words: &str) -> Result<String> {
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
    fn told(&self) -> String {
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
fn value<'t>(text: &'t str, key: &str) -> Result<&'t str> {
    let mut lines = text.lines().filter_map(|line| line.split_once(" = "));
    let (_, value) = lines
        .find(|(found, _)| *found == key)
        .with_context(|| format!("there is no {key}"))?;
    Ok(value.trim_matches('"'))
}

/// The command behind `to undo it: `, as words.
fn undo(told: &str) -> Result<Vec<String>> {
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

fn at_once() -> Result<()> {
    const MANY: usize = 8;
    let hub = Hub::start("[groups]\nstaff = [\"ana\"] # few\n# the end\n")?;
    let mode = fs::Permissions::from_mode(0o640);
    fs::set_permissions(hub.node.config(), mode.clone())?;
    let outputs = thread::scope(|scope| {
        let ask = |number: usize| {
            let hub = &hub;
            scope.spawn(move || hub.peer(&["new", &format!("peer-{number}")]))
        };
        let all: Vec<_> = (0..MANY).map(ask).collect();
        all.into_iter()
            .map(|one| one.join().map_err(|_| anyhow::anyhow!("it panicked"))?)
            .collect::<Result<Vec<_>>>()
    })?;
    let mut vips = Vec::new();
    for output in &outputs {
        let (out, err) = texts(output);
        ensure!(output.status.success(), "{err}");
        vips.push(
            out.lines()
                .find(|line| line.starts_with("vip = "))
                .context("no vip")?
                .to_owned(),
        );
    }
    vips.sort();
    vips.dedup();
    ensure!(vips.len() == MANY, "{vips:?}");
    let (file, peers) = (hub.file()?, hub.peers()?);
    ensure!(peers.len() == MANY + 1, "{peers:?}");
    // Every line that there was is there, in the order in which it was.
    let mut lines = file.lines();
    for line in hub.text.lines() {
        ensure!(
            lines.any(|found| found == line),
            "{line:?} is gone:\n{file}"
        );
    }
    for (name, key, nets) in &peers {
        ensure!(
            name.is_some() && file.contains(key) && !nets.is_empty(),
            "{peers:?}"
        );
    }
    let found = fs::metadata(hub.node.config())?.permissions().mode();
    ensure!(found & 0o777 == 0o640, "mode {found:o}");
    // The tunnel is as the file says.
    let said = hub.node.tell(&["reload"])?;
    ensure!(said.contains("nothing has changed"), "{said}");
    hub.node.stop(Signal::Terminate)
}

fn refused() -> Result<()> {
    let hub = Hub::start("[[rules]]\nfrom = \"ana\"\nto = \"any\"\nallow = \"any\"\n")?;
    let outside = format!("{}/32", WIRE_A.near_v4());
    for (words, reason) in [
        (&["new", "ana"][..], "a peer is called \"ana\" already"),
        (&["new", "x", "--address", "10.200.0.2"], "is ana's"),
        (&["new", "x", "--address", "10.200.0.1"], "own address"),
        (&["new", "x", "--allowed", "10.200.0.2/32"], "10.200.0.2"),
        (
            &["new", "x", "--allowed", "10.200.0.1/32"],
            "this hub's own address",
        ),
        (
            &["new", "x", "--address", "10.200.0.8,10.200.0.9"],
            "both of IPv4",
        ),
        (
            &["new", "x", "--address", "::ffff:10.200.0.2"],
            "10.200.0.2 is ana's",
        ),
        // What nobody sees is said, and no line of a file that isn't there.
        (
            &["new", "a\u{202e}b"],
            "taltun: expected a name of 1 to 64 printable characters, found \"a\\u{202e}b\", in \
             which U+202E isn't one",
        ),
        (&["rename", "ana", "an\u{200b}a"], "U+200B isn't one"),
        (&["new", "x", "--expires", "2001-01-01"], "is past"),
        (&["set", "ana", "--expires", "2001-01-01"], "is past"),
        (&["set", "ana", "--quota", "much"], "quota"),
        (&["set", "ana"], "required"),
        (&["new", "x", "--endpoint", "h..e"], "expected HOST:PORT"),
        (
            &["new", "x", "--allowed", &outside],
            "so it can't be behind a peer",
        ),
        (&["new", "\u{2800}"], "U+2800 isn't one"),
        (&["new", "x", "--endpoint", "0.0.0.0"], "any address"),
        (&["remove", "ana"], "is named in rules (line "),
        (&["remove", "nobody"], "no peer's name or key"),
        (&["rename", "ana", "hub"], "can't be a peer's name"),
        (&["rotate", "nobody"], "no peer's name or key"),
        (&["show", "nobody"], "no peer's name or key"),
    ] {
        let said = hub.refused(words)?;
        ensure!(said.contains(reason), "{words:?}: {said}");
    }
    let long = format!("{}x", "long".repeat(40));
    let said = hub.refused(&["new", &long])?;
    ensure!(
        said.contains("found 161") && !said.contains(&long),
        "{said}"
    );
    // A code that can't be is known before anything is made.
    let routes: Vec<String> = (0..=255)
        .map(|third| format!("172.16.{third}.0/24"))
        .collect();
    let said = hub.refused(&["new", "x", "--qr", "--routes", &routes.join(",")])?;
    ensure!(said.contains("longer than a code can be"), "{said}");
    // Nothing is left of the files that were asked for.
    let out = hub.node.directory().join("x.toml");
    let path = out.to_str().context("an odd path")?;
    hub.refused(&["new", "ana", "--out", path])?;
    ensure!(!out.exists(), "a file is left");

    // By hand meanwhile.
    let config = hub.node.config();
    let by_hand = hub
        .text
        .replace("vip = \"10.200.0.2\"", "vip = \"10.200.0.9\"");
    fs::write(&config, &by_hand)?;
    let said = hub.refused(&["new", "x"])?;
    ensure!(said.contains("ana; run `taltun reload` first"), "{said}");
    fs::write(&config, format!("{}nonsense", hub.text))?;
    let said = hub.refused(&["new", "x"])?;
    ensure!(said.contains("not valid TOML"), "{said}");
    fs::write(&config, &hub.text)?;

    // A file that can't be replaced, by its mode or by the file system.
    fs::set_permissions(&config, fs::Permissions::from_mode(0o400))?;
    let said = hub.refused(&["new", "x"])?;
    ensure!(said.contains("is read-only (mode 0400)"), "{said}");
    fs::set_permissions(&config, fs::Permissions::from_mode(0o600))?;
    let chattr = |flag: &str| Command::new("chattr").arg(flag).arg(&config).output();
    // Not every file system has that.
    if chattr("+i").is_ok_and(|output| output.status.success()) {
        let said = hub.refused(&["new", "x"]);
        chattr("-i")?;
        let said = said?;
        ensure!(said.contains("cannot replace"), "{said}");
    }
    ensure!(
        fs::read_dir(hub.node.directory())?
            .flatten()
            .all(|entry| { !entry.file_name().to_string_lossy().ends_with(".new") })
    );
    // And after all of that, as ever.
    hub.done(&["new", "x"])?;
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

fn and_back() -> Result<()> {
    let hub = Hub::start("")?;
    let (text, _) = hub.done(&["new", "laptop"])?;
    let old = Node::start_with_text(&hub.pair.right, &taltun()?, &text)?;
    ensure_answers(&hub.pair.right, HUB.into())?;
    let grouped = hub.file()? + "[groups]\nstaff = [\"laptop\", \"10.200.0.77\"]\n";
    fs::write(hub.node.config(), &grouped)?;
    hub.node.tell(&["reload"])?;

    // Another name, whatever names it.
    let (told, _) = hub.done(&["rename", "laptop", "the laptop"])?;
    ensure!(hub.file()? == grouped.replace("\"laptop\"", "\"the laptop\""));
    ensure!(hub.peers()?[1].0.as_deref() == Some("the laptop"));
    ensure_answers(&hub.pair.right, HUB.into())?;
    let words = undo(&told)?;
    hub.done(&words.iter().map(String::as_str).collect::<Vec<_>>())?;
    ensure!(hub.file()? == grouped);

    // Other values.
    let words = ["--allowed", "192.168.7.0/24", "--quota", "100 GB/month"];
    let (told, _) = hub.done(&[&["set", "laptop"][..], &words].concat())?;
    let lines = "allowed_ips = [\"192.168.7.0/24\"]\nquota = \"100 GB/month\"\n";
    ensure!(hub.file()?.contains(lines), "{}", hub.file()?);
    ensure!(hub.peers()?[1].2.contains(&"192.168.7.0/24".to_owned()));
    ensure_answers(&hub.pair.right, HUB.into())?;
    let words = undo(&told)?;
    hub.done(&words.iter().map(String::as_str).collect::<Vec<_>>())?;
    ensure!(hub.file()? == grouped, "{}", hub.file()?);
    ensure_answers(&hub.pair.right, HUB.into())?;

    // Another key: the old one opens nothing from then on.
    let (file, told) = hub.done(&["rotate", "laptop"])?;
    ensure_silent(&hub.pair.right, HUB.into())?;
    old.stop(Signal::Terminate)?;
    let new = Node::start_with_text(&hub.pair.right, &taltun()?, &file)?;
    ensure_answers(&hub.pair.right, HUB.into())?;
    new.stop(Signal::Terminate)?;
    let words = undo(&told)?;
    hub.done(&words.iter().map(String::as_str).collect::<Vec<_>>())?;
    ensure!(hub.file()? == grouped, "{}", hub.file()?);
    let old = Node::start_with_text(&hub.pair.right, &taltun()?, &text)?;
    ensure_answers(&hub.pair.right, HUB.into())?;

    // Gone, once nobody names it.
    let refused = hub.refused(&["remove", "laptop"])?;
    ensure!(refused.contains("groups.staff (line "), "{refused}");
    fs::write(hub.node.config(), grouped.replace("\"laptop\", ", ""))?;
    hub.node.tell(&["reload"])?;
    let before = hub.file()?;
    let commented = before.replace(
        "[[peers]]\nname = \"laptop\"",
        "# a\n[[peers]]\nname = \"laptop\"",
    );
    fs::write(hub.node.config(), &commented)?;
    let (told, warned) = hub.done(&["remove", "laptop"])?;
    ensure!(
        warned.contains("undoing doesn't restore the comment above it, 1 line"),
        "{warned}"
    );
    ensure!(hub.peers()?.len() == 1);
    ensure_silent(&hub.pair.right, HUB.into())?;
    let words = undo(&told)?;
    hub.done(&words.iter().map(String::as_str).collect::<Vec<_>>())?;
    ensure!(hub.file()? == before, "{}", hub.file()?);
    // It still has the session that the hub ended, and notices after 15 s.
    ensure_answers_within(&hub.pair.right, HUB.into(), 4 * UP_LIMIT)?;
    old.stop(Signal::Terminate)?;
    hub.node.stop(Signal::Terminate)
}

fn beside_wg() -> Result<()> {
    use std::io::{BufRead, BufReader, Write};
    use std::os::unix::net::UnixStream;
    let hub = Hub::start("")?;
    let set = |text: String| -> Result<()> {
        let path: PathBuf = hub.node.directory().join("wireguard/taltun0.sock");
        let mut socket = UnixStream::connect(path)?;
        write!(socket, "set=1\n{text}\n")?;
        let mut answer = String::new();
        BufReader::new(socket).read_line(&mut answer)?;
        ensure!(answer == "errno=0\n", "{answer}");
        Ok(())
    };
    let ana = hub.peers()?[0].1.clone();
    let key = "7".repeat(64);
    set(format!("public_key={key}\nallowed_ip=10.200.0.3/32\n"))?;
    set("listen_port=9001\n".to_owned())?;
    let (text, _) = hub.done(&["new", "phone", "--wg"])?;
    ensure!(
        value(&text, "Address")?.starts_with("10.200.0.4/24"),
        "{text}"
    );
    ensure!(value(&text, "Endpoint")?.ends_with(":9001"), "{text}");
    let peers = hub.peers()?;
    ensure!(peers.len() == 3, "{peers:?}");
    ensure!(hub.node.status()?.listen.port() == 9001);
    let refused = hub.refused(&["new", "x", "--address", "10.200.0.3"])?;
    ensure!(refused.contains("that `wg` added"), "{refused}");
    // What it did to a peer isn't undone by a change of that peer, or by another one.
    let refused = hub.refused(&["new", "x", "--allowed", "10.200.0.3/32"])?;
    ensure!(refused.contains("belongs to"), "{refused}");
    let bytes = STANDARD.decode(&ana)?;
    let hex = bytes.iter().fold(String::new(), |mut hex, byte| {
        // Writing to a String can't fail.
        let _ = write!(hex, "{byte:02x}");
        hex
    });
    set(format!(
        "public_key={hex}\npreshared_key={key}\nallowed_ip=10.9.0.0/16\n"
    ))?;
    hub.done(&["rename", "ana", "anna"])?;
    hub.done(&["set", "anna", "--expires", "2099-12-31"])?;
    let status: Value = serde_json::from_str(&hub.node.tell(&["status", "--json"])?)?;
    let mut peers = status["peers"].as_array().into_iter().flatten();
    let changed = peers
        .find(|peer| peer["public_key"] == *ana)
        .context("gone")?;
    ensure!(changed["preshared_key"] == true, "{changed}");
    let nets = changed["allowed_ips"].to_string();
    ensure!(nets.contains("10.9.0.0/16"), "{nets}");
    let refused = hub.refused(&["rotate", "anna"])?;
    ensure!(refused.contains("`wg` changed anna"), "{refused}");
    set(format!("public_key={hex}\nremove=true\n"))?;
    for words in [
        &["rename", "anna", "ana"][..],
        &["set", "anna", "--expires", "none"],
        &["rotate", "anna"],
    ] {
        let refused = hub.refused(words)?;
        ensure!(refused.contains("`wg` removed anna"), "{refused}");
    }
    hub.done(&["rename", "phone", "tablet"])?;
    ensure!(hub.peers()?.iter().all(|peer| peer.1 != ana));
    // The new peer has the hub's key that is in force.
    set(format!("private_key={}\n", "4".repeat(64)))?;
    let (text, told) = hub.done(&["new", "other", "--wg"])?;
    let in_force = PrivateKey::from_bytes([0x44; 32]).public_key().to_string();
    ensure!(value(&text, "PublicKey")? == in_force, "{text}");
    ensure!(told.contains("`wg` changed this hub's key"), "{told}");
    hub.done(&["remove", "other"])?;
    // A reload goes on making all of it as the file says.
    hub.node.tell(&["reload"])?;
    let peers = hub.peers()?;
    let is_there = |key: &str| peers.iter().any(|peer| peer.1 == key);
    ensure!(peers.len() == 2 && is_there(&ana), "{peers:?}");
    ensure!(hub.node.status()?.listen.port() == 9000);
    hub.node.stop(Signal::Terminate)
}

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
        let said = hub.node.tell(&["reload"])?;
        ensure!(
            said.contains("our own key changed: all sessions start anew"),
            "{said}"
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
