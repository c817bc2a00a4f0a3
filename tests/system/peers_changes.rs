//! Changes of peers by `taltun peer`: what they do, what undoes them, and what refuses them.

use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Command;
use std::thread;

use anyhow::{Context, Result, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use taltun_crypto::PrivateKey;
use taltun_tests::node::Node;
use taltun_tests::sys::Signal;
use taltun_tests::topology::WIRE_A;

use crate::peers::{HUB, Hub, texts, undo, value};
use crate::support::{
    Case, UP_LIMIT, ensure_answers, ensure_answers_within, ensure_silent, taltun,
};

pub const CASES: &[Case] = &[
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
        name: "peers: rename, rotate and remove act at once, and what they print undoes them",
        programs: &[],
        run: and_back,
    },
    Case {
        name: "peers: what wg changed stays when a peer is added, and its addresses are nobody else's",
        programs: &[],
        run: beside_wg,
    },
];

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

#[allow(clippy::too_many_lines, reason = "a list of what is refused, and why")]
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
        (
            &["set", "ana", "--quota", "much"],
            "taltun: peers.quota: expected",
        ),
        (
            &["new", "--qr", "x.png"],
            "a picture's follows an equals sign: --qr=x.png",
        ),
        (&["set", "ana"], "required"),
        (&["new", "x", "--endpoint", "h..e"], "expected HOST:PORT"),
        (
            &["new", "x", "--allowed", &outside],
            "so it can't be behind a peer",
        ),
        (
            &["new", "x", "--allowed", "127.0.0.0/8"],
            "is each machine's own (loopback), so it can't be behind a peer",
        ),
        (
            &["new", "x", "--qr=x.png", "--out", "x.png"],
            "name the same file",
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
