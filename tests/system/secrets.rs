//! Keys are in memory as long as they are used, and nowhere else: what is over is wiped, and nothing
//! that Taltun writes has a key in it.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use taltun_tests::lab::{PORT, Role};
use taltun_tests::node::{Keys, Node};
use taltun_tests::sys::{self, Signal};
use taltun_tests::topology::{Pair, WIRE_A, private_prefix};

use crate::raw_peer::RawPeer;
use crate::support::{Case, ensure_answers, eventually, taltun};

pub const CASES: &[Case] = &[
    Case {
        name: "secrets: keys of sessions and peers that are over aren't in memory any more",
        programs: &[],
        run: what_is_over_is_wiped,
    },
    Case {
        name: "secrets: no log, answer, metric, error or state file has a key in it",
        programs: &[],
        run: nothing_tells_a_key,
    },
];

/// How long it may take until what is over is wiped.
const LIMIT: Duration = Duration::from_secs(10);
/// Most bytes of memory that are read at once.
const PIECE: usize = 1 << 20;
/// So many sessions later, one is forgotten: three before the newest are kept for what is on its way.
const RENEWALS: usize = 5;
/// Memory is there or isn't by pages, bytes.
const PAGE: u64 = 4096;

/// A secret that is looked for, by what it is called.
struct Secret {
    what: &'static str,
    bytes: Vec<u8>,
}

impl Secret {
    fn bytes(what: &'static str, bytes: &[u8]) -> Self {
        let bytes = bytes.to_vec();
        Self { what, bytes }
    }

    fn text(what: &'static str, text: &str) -> Self {
        Self::bytes(what, text.as_bytes())
    }
}

/// Which of these are in the memory of a process, which stands still meanwhile, and where.
fn found(pid: u32, secrets: &[Secret]) -> Result<BTreeMap<&'static str, String>> {
    sys::send_signal(pid, Signal::Pause)?;
    let found = search(pid, secrets);
    sys::send_signal(pid, Signal::Resume)?;
    found
}

fn search(pid: u32, secrets: &[Secret]) -> Result<BTreeMap<&'static str, String>> {
    let maps = fs::read_to_string(format!("/proc/{pid}/maps"))?;
    let memory = File::open(format!("/proc/{pid}/mem"))?;
    let mut found = BTreeMap::new();
    let mut searched = 0;
    for line in maps.lines() {
        let mut words = line.split_whitespace();
        let (Some(range), Some(rights)) = (words.next(), words.next()) else {
            bail!("a line of maps: {line}");
        };
        // What can't be written to is the program; and devices' memory isn't ours to read.
        if !rights.starts_with("rw") || line.contains("/dev/") || line.contains("[vvar") {
            continue;
        }
        let (start, end) = range.split_once('-').context("a range")?;
        let (mut at, end) = (
            u64::from_str_radix(start, 16)?,
            u64::from_str_radix(end, 16)?,
        );
        // Pieces overlap, so that nothing is cut in two.
        let mut piece = vec![0; PIECE + 64];
        while at < end {
            let length = piece.len().min((end - at) as usize);
            // Less than was asked for comes where a page in the middle can't be read; then the next one is tried.
            let read = memory.read_at(&mut piece[..length], at).unwrap_or(0);
            searched += read;
            for secret in secrets {
                if let Some(place) = find(&piece[..read], &secret.bytes) {
                    let place = at + place as u64;
                    let place = format!("{place:#x} of {line}");
                    found.entry(secret.what).or_insert(place);
                }
            }
            at += if read == length {
                PIECE as u64
            } else {
                (read as u64 / PAGE + 1) * PAGE
            };
        }
    }
    // A helper has little more than its stacks.
    ensure!(searched > 1 << 18, "only {searched} bytes were searched");
    Ok(found)
}

fn find(bytes: &[u8], secret: &[u8]) -> Option<usize> {
    let first = secret.first()?;
    let mut begin = 0;
    while let Some(at) = bytes[begin..].iter().position(|byte| byte == first) {
        let at = begin + at;
        if bytes[at..].starts_with(secret) {
            return Some(at);
        }
        begin = at + 1;
    }
    None
}

/// A hub on the left, whose peers are these lines.
fn hub_text(own: &Keys, more: &str, peers: &str) -> String {
    format!(
        "[interface]\nmode = \"server\"\ntun_name = \"taltun0\"\nvip = \"10.200.0.1/24\"\n\
         local_addr = \"0.0.0.0:{PORT}\"\nprivate_key = \"{}\"\n{more}\n{peers}",
        own.private
    )
}

fn what_is_over_is_wiped() -> Result<()> {
    let taltun = taltun()?;
    let pair = Pair::create(&private_prefix())?;
    let (own, raw, other) = (
        Keys::generate(&taltun)?,
        Keys::generate(&taltun)?,
        Keys::generate(&taltun)?,
    );
    let preshared = Keys::generate(&taltun)?.private;
    let peers = format!(
        "[[peers]]\nname = \"raw\"\npublic_key = \"{}\"\nvip = \"10.200.0.2\"\n\
         [[peers]]\nname = \"other\"\npublic_key = \"{}\"\npreshared_key = \"{preshared}\"\n\
         vip = \"10.200.0.3\"\n",
        raw.public, other.public
    );
    let hub = Node::start_with_text(&pair.left, &taltun, &hub_text(&own, "", &peers))?;
    let from = "0.0.0.0:9001".parse()?;
    let to = (WIRE_A.near_v4(), PORT).into();
    let mut peer = RawPeer::new(&pair.right, from, &raw, to, &own.public)?;
    peer.connect()?;
    let [sending, receiving] = peer.session_keys().context("there is a session")?;
    let used = [
        Secret::bytes("our own key", &STANDARD.decode(&own.private)?),
        Secret::bytes("the session's key to us", &sending),
        Secret::bytes("the session's key from us", &receiving),
        Secret::bytes("the preshared key", &STANDARD.decode(&preshared)?),
    ];
    // A search that found nothing ever would prove nothing.
    eventually("all keys in use are found", LIMIT, || {
        Ok(found(hub.pid(), &used)?.len() == used.len())
    })?;
    let helpers = hub.processes()?.split_off(1);
    ensure!(!helpers.is_empty(), "it has no helper");
    for helper in helpers {
        let told = found(helper, &used)?;
        ensure!(told.is_empty(), "a helper has in memory {told:?}");
    }
    // The session is renewed, so that nothing comes by the old one any more.
    for _ in 0..RENEWALS {
        peer.connect()?;
    }
    let mut left = BTreeMap::new();
    let wiped = eventually("an earlier session's keys are wiped", LIMIT, || {
        left = found(hub.pid(), &used[1..3])?;
        Ok(left.is_empty())
    });
    wiped.with_context(|| format!("in memory is {left:?}"))?;
    let [sending, receiving] = peer.session_keys().context("there is a session")?;
    let used = [
        Secret::bytes("the session's key to us", &sending),
        Secret::bytes("the session's key from us", &receiving),
        Secret::bytes("the preshared key", &STANDARD.decode(&preshared)?),
    ];
    eventually("the keys of the newest session are found", LIMIT, || {
        Ok(found(hub.pid(), &used)?.len() == used.len())
    })?;
    let texts = [
        Secret::text("the text of our own key", &own.private),
        Secret::text("the text of the preshared key", &preshared),
    ];
    let told = found(hub.pid(), &texts)?;
    ensure!(
        told.is_empty(),
        "the file was read, and in memory is {told:?}"
    );
    // Both peers go, and with them their sessions.
    fs::write(hub.config(), hub_text(&own, "", ""))?;
    hub.tell(&["reload"])?;
    let wiped = eventually("what is over is wiped", LIMIT, || {
        left = found(hub.pid(), &used)?;
        Ok(left.is_empty())
    });
    wiped.with_context(|| format!("in memory is {left:?}"))?;
    let told = found(hub.pid(), &texts)?;
    ensure!(told.is_empty(), "after a reload, in memory is {told:?}");
    hub.stop(Signal::Terminate)
}

fn nothing_tells_a_key() -> Result<()> {
    let taltun = taltun()?;
    let pair = Pair::create(&private_prefix())?;
    let (own, spoke) = (Keys::generate(&taltun)?, Keys::generate(&taltun)?);
    let preshared = Keys::generate(&taltun)?.private;
    let mut secrets = Vec::new();
    for (what, text) in [
        ("our private key", &own.private),
        ("the preshared key", &preshared),
        ("the spoke's private key", &spoke.private),
    ] {
        let bytes = STANDARD.decode(text)?;
        let mut hex = String::new();
        for byte in &bytes {
            // Writing to a String can't fail.
            let _ = write!(hex, "{byte:02x}");
        }
        // As it is written, but for what a key cut short by a character would lack.
        secrets.push(Secret::text(what, &text[..40]));
        secrets.push(Secret::text(what, &hex));
        secrets.push(Secret::bytes(what, &bytes));
    }
    let more = "debug = true\n[metrics]\nlisten = \"127.0.0.1:9586\"\n";
    let peers = format!(
        "[[peers]]\nname = \"ana\"\npublic_key = \"{}\"\npreshared_key = \"{preshared}\"\n\
         vip = \"10.200.0.2\"\n",
        spoke.public
    );
    let hub = Node::start_with_text(&pair.left, &taltun, &hub_text(&own, more, &peers))?;
    let text = format!(
        "[interface]\nmode = \"client\"\ntun_name = \"taltun0\"\nvip = \"10.200.0.2/24\"\n\
         private_key = \"{}\"\ndebug = true\n[[peers]]\npublic_key = \"{}\"\n\
         preshared_key = \"{preshared}\"\nvip = \"10.200.0.1\"\nendpoint = \"{}:{PORT}\"\n",
        spoke.private,
        own.public,
        WIRE_A.near_v4()
    );
    let client = Node::start_with_text(&pair.right, &taltun, &text)?;
    ensure_answers(&pair.right, Role::Hub.v4())?;

    let mut outputs = answers(&hub)?;
    outputs.push(("the metrics".to_owned(), metrics(&pair)?));
    // What is wrong about a file with a key in it is said without the key.
    for (what, file) in [
        (
            "a key that is cut",
            hub_text(&own, more, &peers).replacen("=\"", "\"", 1),
        ),
        (
            "a key of another length",
            peers_with(&own, more, &peers, &preshared[..43]),
        ),
        (
            "a name that is unknown",
            hub_text(&own, "privat_key = 7\n", &peers),
        ),
        (
            "a table that isn't closed",
            hub_text(&own, "[metrics\n", &peers),
        ),
        (
            "a value without quotes",
            hub_text(&own, more, &peers.replace("= \"", "= ")),
        ),
    ] {
        fs::write(hub.config(), file)?;
        let wrong = said(&hub, &["reload"], false)?;
        outputs.push((format!("the reload of {what}"), wrong));
        let config = hub.config();
        let config = config.to_str().context("a path of letters")?;
        let wrong = said(&hub, &["check", "--config", config], false)?;
        outputs.push((format!("the check of {what}"), wrong));
    }
    for node in [&hub, &client] {
        outputs.push(("the log".to_owned(), node.log().into_bytes()));
        files_below(&node.directory().join("state"), &mut outputs)?;
    }
    ensure!(outputs.len() > 25, "only {} outputs", outputs.len());
    for (what, output) in &outputs {
        for secret in &secrets {
            ensure!(
                find(output, &secret.bytes).is_none(),
                "{} is in {what}",
                secret.what
            );
        }
    }
    // There is one that has them, for who asks for it: so the search finds what is there.
    let exported = said(&hub, &["export", "taltun0"], true)?;
    ensure!(
        find(&exported, &secrets[0].bytes).is_some(),
        "export has no key"
    );
    client.stop(Signal::Terminate)?;
    hub.stop(Signal::Terminate)
}

/// What a hub answers to each command that tells something.
fn answers(hub: &Node) -> Result<Vec<(String, Vec<u8>)>> {
    let mut outputs = Vec::new();
    for words in [
        &["status"][..],
        &["status", "--long"],
        &["status", "--json"],
        &["status", "ana"],
        &["stats"],
        &["stats", "--json"],
        &["usage"],
        &["usage", "--json"],
        &["explain", "ana", "hub", "tcp/22"],
        &["explain", "ana", "hub", "tcp/22", "--json"],
        &["ban", "ana"],
        &["unban", "ana"],
    ] {
        outputs.push((
            format!("taltun {}", words.join(" ")),
            said(hub, words, true)?,
        ));
    }
    Ok(outputs)
}

/// The same file with a preshared key that is none.
fn peers_with(own: &Keys, more: &str, peers: &str, wrong: &str) -> String {
    let line = peers.lines().find(|line| line.starts_with("preshared_key"));
    let wrong = format!("preshared_key = \"{wrong}\"");
    hub_text(own, more, &peers.replace(line.unwrap_or_default(), &wrong))
}

/// All that a command says, which has to succeed or to be refused.
fn said(node: &Node, words: &[&str], succeeds: bool) -> Result<Vec<u8>> {
    let output = node.command().args(words).output()?;
    let text = [output.stdout, output.stderr].concat();
    ensure!(
        output.status.success() == succeeds,
        "taltun {}: {}",
        words.join(" "),
        String::from_utf8_lossy(&text)
    );
    Ok(text)
}

fn metrics(pair: &Pair) -> Result<Vec<u8>> {
    let ask = || -> Result<Vec<u8>> {
        use std::io::{Read as _, Write as _};
        let mut stream = std::net::TcpStream::connect("127.0.0.1:9586")?;
        stream.write_all(b"GET /metrics HTTP/1.0\r\n\r\n")?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer)?;
        Ok(answer)
    };
    let answer = pair.left.run(ask)??;
    ensure!(find(&answer, b"taltun_").is_some(), "no metrics");
    Ok(answer)
}

/// The contents of all files below a directory.
fn files_below(directory: &Path, to: &mut Vec<(String, Vec<u8>)>) -> Result<()> {
    for entry in fs::read_dir(directory).context("it keeps a state")? {
        let path = entry?.path();
        if path.is_dir() {
            files_below(&path, to)?;
        } else if path.is_file() {
            to.push((path.display().to_string(), fs::read(&path)?));
        }
    }
    Ok(())
}
