//! A log that nobody reads: it stops neither a gateway nor a hub, and who reads on learns what is
//! missing.

use std::fs;
use std::io::{self, BufRead, BufReader, PipeReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use taltun_tests::command::{output_of, wait_for};
use taltun_tests::netns::Namespace;
use taltun_tests::node::{Keys, RUNTIME_DIR, Site};
use taltun_tests::snapshot::Snapshot;
use taltun_tests::sys::{self, Signal};
use taltun_tests::topology::{Pair, private_prefix};

use crate::support::{Case, eventually, taltun};
use crate::udpgw::{client, serve};

pub const CASES: &[Case] = &[
    Case {
        name: "udpgw serves and ends though nobody reads its log",
        programs: &["python3"],
        run: gateway,
    },
    Case {
        name: "a hub answers, reloads and ends though nobody reads its log",
        programs: &["python3"],
        run: hub,
    },
];

const AT: [&str; 2] = ["127.0.0.1", "7300"];
const FAR: [&str; 2] = ["203.0.113.2", "9000"];
/// Their lines are more than a pipe and the queue hold.
const CLIENTS: usize = 5000;
const LIMIT: Duration = Duration::from_secs(60);
/// How long an end may take on a machine that is busy.
const END: Duration = Duration::from_secs(3);

fn gateway() -> Result<()> {
    let pair = pair()?;
    let _echo = serve(&pair.right, FAR)?;
    let mut command = pair.left.command(taltun()?);
    command.args(["udpgw", "--listen-addr", "127.0.0.1:7300"]);
    command.args(["--loglevel", "debug", "--stats-interval", "0.01"]);
    let mut gateway = Unread::start(&mut command)?;
    eventually("it listens", LIMIT, || Ok(listens(&pair.left)))?;
    fill(&pair.left)?;
    ask(&pair.left)?;

    // Who reads on has what came first, then how much is missing, then what comes.
    let mut lines = BufReader::new(&mut gateway.log).lines();
    let mut read = 0;
    let dropped = loop {
        let line = lines.next().context("the log ends")??;
        if let Some((_, rest)) = line.split_once("taltun: warning: dropped ") {
            break rest.to_owned();
        }
        read += 1;
    };
    let (count, rest) = dropped.split_once(' ').context("no number")?;
    let count: usize = count.replace(',', "").parse()?;
    ensure!(rest == "lines of the log here: its reader was too slow");
    ensure!(count > 100 && read > 1000, "{read} read, {count} dropped");
    ask(&pair.left)?;
    let after = lines.next().context("the log ends")??;
    ensure!(after.contains("udpgw"), "{after}");

    fill(&pair.left)?;
    gateway.end()?;
    pair.left.delete()?;
    pair.right.delete()
}

fn hub() -> Result<()> {
    let pair = pair()?;
    let _echo = serve(&pair.right, FAR)?;
    let before = Snapshot::take(&pair.left)?;
    let text = format!(
        "[interface]\nmode = \"server\"\ntun_name = \"taltun0\"\nvip = \"10.200.0.1/24\"\n\
         local_addr = \"0.0.0.0:9100\"\nprivate_key = \"{}\"\ndebug = true\n\
         [udpgw]\nlisten = \"127.0.0.1:7300\"\n",
        Keys::generate(&taltun()?)?.private
    );
    let site = Site::prepare(&pair.left, &taltun()?, &text)?;
    let mut hub = Unread::start(&mut site.run_command(&pair.left, &[]))?;
    let tell = |what: &str| {
        let mut command = Command::new(taltun()?);
        output_of(command.arg(what).env(RUNTIME_DIR, site.directory()))
    };
    eventually("it is up", LIMIT, || {
        Ok(tell("status").is_ok() && listens(&pair.left))
    })?;
    fill(&pair.left)?;
    ask(&pair.left)?;
    ensure!(tell("status")?.contains("udpgw  "));
    fs::write(site.config(), format!("{text}max_clients = 900\n"))?;
    let said = tell("reload")?;
    ensure!(said.contains("udpgw started anew"), "{said}");
    ask(&pair.left)?;

    hub.end()?;
    let changes = before.difference(&Snapshot::take(&pair.left)?);
    ensure!(changes.is_empty(), "left behind: {changes:#?}");
    taltun_tests::files::remove(pair.left.name())?;
    pair.left.delete()?;
    pair.right.delete()
}

/// A program whose log goes into a pipe, which nobody reads unless somebody does.
struct Unread {
    child: Child,
    log: PipeReader,
}

impl Unread {
    fn start(command: &mut Command) -> Result<Self> {
        let (log, output) = io::pipe()?;
        let child = command.stdin(Stdio::null()).stderr(output).spawn()?;
        // Ours of the pipe's other end.
        command.stderr(Stdio::null());
        Ok(Self { child, log })
    }

    /// Asks it to end, which it does in time and in order.
    fn end(&mut self) -> Result<()> {
        let start = Instant::now();
        sys::send_signal(self.child.id(), Signal::Terminate)?;
        let status = wait_for(&mut self.child, LIMIT)?.context("it doesn't end")?;
        ensure!(status.success(), "it ended with {status}");
        ensure!(start.elapsed() < END, "it took {:?}", start.elapsed());
        Ok(())
    }
}

impl Drop for Unread {
    fn drop(&mut self) {
        // Both fail when it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Two machines; the addresses between them look public.
fn pair() -> Result<Pair> {
    let pair = Pair::create(&private_prefix())?;
    pair.left.ip("address add 203.0.113.1/24 dev to-right")?;
    pair.right.ip("address add 203.0.113.2/24 dev to-left")?;
    Ok(pair)
}

fn listens(namespace: &Namespace) -> bool {
    let connect = || TcpStream::connect("127.0.0.1:7300").is_ok();
    namespace.run(connect).unwrap_or(false)
}

/// Makes a gateway log: clients come, send what isn't allowed, and are ended.
fn fill(namespace: &Namespace) -> Result<()> {
    namespace.run(|| {
        for number in 0..CLIENTS {
            let mut client = TcpStream::connect("127.0.0.1:7300")?;
            client.set_read_timeout(Some(LIMIT))?;
            // A length that can't be.
            client.write_all(&[1, 0, 0])?;
            match client.read(&mut [0]) {
                Ok(0) => {}
                // It was closed with the last byte unread.
                Err(error) if error.kind() == io::ErrorKind::ConnectionReset => {}
                other => bail!("client {number} isn't ended: {other:?}"),
            }
        }
        Ok(())
    })?
}

/// The gateway carries a datagram and its answer.
fn ask(namespace: &Namespace) -> Result<()> {
    let mut client = client(namespace, "allowed", AT, &[FAR])?;
    if wait_for(&mut client, LIMIT)?.is_none() {
        client.kill()?;
    }
    let output = client.wait_with_output()?;
    ensure!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(())
}
