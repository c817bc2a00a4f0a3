//! Keys and tokens that are printed once: if nobody gets them, somebody says so. And a tunnel that is
//! killed in the middle of a change: what state things are in.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::thread;

use anyhow::{Context, Result, ensure};
use taltun_tests::control::keep_in;
use taltun_tests::sys::Signal;

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
