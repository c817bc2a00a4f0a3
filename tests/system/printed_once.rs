//! Keys and tokens that are printed once: if nobody gets them, somebody says so. And a tunnel that is
//! killed in the middle of a change: what state things are in.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use taltun_tests::control::keep_in;
use taltun_tests::sys::{self, Signal};

use crate::peers::{Hub, texts};
use crate::support::{Case, taltun};

pub const CASES: &[Case] = &[
    Case {
        name: "printed once: without a standard output nothing is made, and a full disk is told",
        programs: &["sh"],
        run: nobody_gets_it,
    },
    Case {
        name: "printed once: a hub that is killed in the middle of a change leaves word of it",
        programs: &[],
        run: killed,
    },
    Case {
        name: "printed once: a hub that stands still does nothing afterwards that nobody waits for",
        programs: &[],
        run: stands_still,
    },
];

fn nobody_gets_it() -> Result<()> {
    let hub = Hub::start("[web]\nlisten = \"127.0.0.1:8080\"\n")?;
    let to = |where_to: &str, words: &str| -> Result<(String, bool)> {
        let line = format!("exec \"$0\" {words} {where_to}");
        let mut command = Command::new("sh");
        command.args(["-c", &line]).arg(taltun()?);
        let output: Output = keep_in(&mut command, hub.node.directory())
            .stdin(Stdio::null())
            .output()?;
        Ok((texts(&output).1, output.status.success()))
    };
    let (file, peers) = (hub.file()?, hub.peers()?);
    for words in [
        "peer new lost",
        "peer new lost --qr",
        "peer new lost --json",
        "peer rotate ana --psk",
        "web token --name lost",
        "genkey",
        "genpsk",
    ] {
        for nowhere in [">&-", ">/dev/null"] {
            let (said, is_done) = to(nowhere, words)?;
            ensure!(!is_done, "{words} {nowhere}");
            ensure!(
                said.contains("standard output is closed or leads to /dev/null"),
                "{words}: {said}"
            );
        }
    }
    ensure!(hub.file()? == file && hub.peers()? == peers, "it was done");
    ensure!(!hub.node.tell(&["web", "tokens"])?.contains("lost"));

    // What is there by then is told, and how to get a file for it.
    let (said, is_done) = to(">/dev/full", "peer new lost --interface taltun0")?;
    ensure!(!is_done, "{said}");
    for expected in [
        "added lost with ",
        "but its file is lost: cannot write to standard output",
        "`taltun peer rotate lost --interface taltun0`",
        "to undo it: taltun peer remove lost --interface taltun0",
    ] {
        ensure!(said.contains(expected), "{expected}: {said}");
    }
    hub.done(&["remove", "lost"])?;
    let (said, is_done) = to(">/dev/full", "web token --name lost")?;
    ensure!(!is_done, "{said}");
    ensure!(said.contains("the token lost was ended again"), "{said}");
    ensure!(!hub.node.tell(&["web", "tokens"])?.contains("lost"));

    // So is what undoes a change that has no file.
    hub.done(&["new", "other"])?;
    for (nowhere, is_error) in [(">/dev/full", true), (">&-", false)] {
        for words in [
            "peer rename other third",
            "peer rename third other --json",
            "peer set other --expires 2099-12-31",
        ] {
            let (said, is_done) = to(nowhere, words)?;
            ensure!(is_done != is_error, "{words} {nowhere}: {said}");
            ensure!(said.contains("to undo it: taltun peer "), "{words}: {said}");
        }
    }
    hub.done(&["remove", "other"])?;

    // Whoever has the file, or needs none, prints as ever.
    let out = hub.node.directory().join("phone.toml");
    for words in [
        &*format!("peer new phone --out {}", out.display()),
        "peer remove phone",
        "status",
    ] {
        let (said, is_done) = to(">/dev/null", words)?;
        ensure!(is_done, "{words}: {said}");
    }
    hub.node.stop(Signal::Terminate)
}

fn killed() -> Result<()> {
    let hub = Hub::start("")?;
    let real = hub.node.directory().join("taltun0.sock");
    for (is_done, expected) in [
        (false, "nothing was changed in"),
        (true, "`taltun peer rotate lost --interface taltun0`"),
    ] {
        let directory = tempfile::tempdir()?;
        let before = hub.peers()?.len();
        let between = Between::start(directory.path(), real.clone(), is_done)?;
        let mut command = Command::new(taltun()?);
        command.args(["peer", "new", "lost", "--interface", "taltun0"]);
        let output = keep_in(&mut command, directory.path())
            .stdin(Stdio::null())
            .output()?;
        between.end()?;
        let (out, err) = texts(&output);
        ensure!(!output.status.success() && out.is_empty(), "{out}");
        ensure!(err.contains(expected), "{err}");
        ensure!(
            err.contains(&hub.node.config().display().to_string()),
            "{err}"
        );
        ensure!(hub.peers()?.len() == before + usize::from(is_done), "{err}");
    }
    // As it advises.
    hub.done(&["rotate", "lost"])?;
    hub.node.stop(Signal::Terminate)
}

fn stands_still() -> Result<()> {
    let hub = Hub::start("[web]\nlisten = \"127.0.0.1:8080\"\n")?;
    let (file, peers) = (hub.file()?, hub.peers()?);
    let real = hub.node.directory().join("taltun0.sock");
    let directory = tempfile::tempdir()?;
    let between = Pausing::start(directory.path(), real.clone(), hub.node.pid())?;
    let spawn = |words: &[&str], directory: &Path| {
        let mut command = Command::new(taltun()?);
        command.args(words).args(["--interface", "taltun0"]);
        let command = keep_in(&mut command, directory).stdin(Stdio::null());
        let command = command.stdout(Stdio::piped()).stderr(Stdio::piped());
        Ok::<_, anyhow::Error>(command.spawn()?)
    };
    let asked = spawn(&["peer", "rotate", "ana"], directory.path())?;
    between.until_paused()?;
    // One that sends no more, and waits.
    let mut patient = UnixStream::connect(&real)?;
    patient.write_all(b"\"stats\"\n")?;
    patient.shutdown(Shutdown::Write)?;
    let begun = spawn(&["peer", "remove", "ana"], hub.node.directory())?;
    let token = spawn(&["web", "token", "--name", "lost"], hub.node.directory())?;
    for (command, expected) in [
        (begun, "(nothing was changed)"),
        (token, "`taltun web revoke lost --interface taltun0`"),
        (asked, "`taltun peer rotate ana --interface taltun0`"),
    ] {
        let output = command.wait_with_output()?;
        let (out, err) = texts(&output);
        ensure!(!output.status.success() && out.is_empty(), "{out}");
        ensure!(err.contains("gave no answer within 15 seconds"), "{err}");
        ensure!(err.contains(expected), "{expected}: {err}");
    }
    between.end()?;
    sys::send_signal(hub.node.pid(), Signal::Resume)?;
    let mut answer = String::new();
    BufReader::new(patient).read_line(&mut answer)?;
    ensure!(answer.starts_with("{\"stats\":"), "{answer}");
    // What is asked now has its turn after all of that.
    hub.done(&["new", "phone"])?;
    ensure!(hub.peers()?.len() == peers.len() + 1);
    hub.done(&["remove", "phone"])?;
    ensure!(hub.file()? == file && hub.peers()? == peers, "it was done");
    ensure!(!hub.node.tell(&["web", "tokens"])?.contains("lost"));
    hub.node.stop(Signal::Terminate)
}

/// Somebody between a command and its tunnel, who has the tunnel stand still before a change comes there.
struct Pausing {
    thread: thread::JoinHandle<Result<()>>,
    paused: mpsc::Receiver<()>,
}

impl Pausing {
    /// Passes on everything.
    fn start(directory: &Path, real: PathBuf, tunnel: u32) -> Result<Self> {
        let listener = UnixListener::bind(directory.join("taltun0.sock"))?;
        let (pausing, paused) = mpsc::channel();
        let thread = thread::spawn(move || {
            loop {
                let (mut client, _) = listener.accept()?;
                let mut request = String::new();
                BufReader::new(&client).read_line(&mut request)?;
                let is_change = request.contains("peer_edit");
                if is_change {
                    sys::send_signal(tunnel, Signal::Pause)?;
                }
                let mut tunnel = UnixStream::connect(&real)?;
                tunnel.write_all(request.as_bytes())?;
                if is_change {
                    pausing.send(())?;
                    // Until the command gives up.
                    client.read_to_end(&mut Vec::new())?;
                    return Ok(());
                }
                let mut answer = String::new();
                BufReader::new(tunnel).read_line(&mut answer)?;
                client.write_all(answer.as_bytes())?;
            }
        });
        Ok(Self { thread, paused })
    }

    /// Until the tunnel stands still.
    fn until_paused(&self) -> Result<()> {
        let paused = self.paused.recv_timeout(Duration::from_secs(10));
        paused.context("nobody asked for a change")
    }

    /// Once the command has given up.
    fn end(self) -> Result<()> {
        let ended = self.thread.join();
        ended.ok().context("it panicked")?
    }
}

/// Somebody between a command and its tunnel, who hangs up in place of the answer to a change: what
/// the command sees when the tunnel is killed before it answers.
struct Between {
    thread: thread::JoinHandle<Result<()>>,
}

impl Between {
    /// Passes on everything but changes, and those if they are to be done.
    fn start(directory: &Path, real: PathBuf, is_done: bool) -> Result<Self> {
        let listener = UnixListener::bind(directory.join("taltun0.sock"))?;
        let thread = thread::spawn(move || {
            loop {
                let (client, _) = listener.accept()?;
                let mut request = String::new();
                BufReader::new(&client).read_line(&mut request)?;
                let is_change = request.contains("peer_edit");
                let mut answer = String::new();
                if !is_change || is_done {
                    let mut tunnel = UnixStream::connect(&real)?;
                    tunnel.write_all(request.as_bytes())?;
                    BufReader::new(tunnel).read_line(&mut answer)?;
                }
                if is_change {
                    return Ok(());
                }
                (&client).write_all(answer.as_bytes())?;
            }
        });
        Ok(Self { thread })
    }

    /// Once the change was asked for.
    fn end(self) -> Result<()> {
        let ended = self.thread.join();
        ended.ok().context("it panicked")?
    }
}
