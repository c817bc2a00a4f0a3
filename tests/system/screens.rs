//! What a terminal shows: `top` with its keys, and `--watch`; what pipes get instead.

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use taltun_tests::command::{finish_within, wait_for};
use taltun_tests::control::keep_in;
use taltun_tests::sys::{Signal, lead_session, open_pty, send_signal};
use taltun_tests::terminal::Terminal;
use taltun_tests::traffic::stream::Stream;

use crate::support::{Case, UP_LIMIT};
use crate::two_peers::TwoPeers;

pub const CASES: &[Case] = &[
    Case {
        name: "top shows peers, takes keys, bans and asks before, and waits for a hub that is gone",
        programs: &[],
        run: top,
    },
    Case {
        name: "top takes keys and changes of its window that come at the same time",
        programs: &[],
        run: at_once,
    },
    Case {
        name: "top gives the terminal back however it ends, and says what it can't draw on",
        programs: &[],
        run: ends,
    },
    Case {
        name: "top and --watch end when the window is closed, and top by SIGTERM whatever it waits for",
        programs: &[],
        run: hang_up,
    },
    Case {
        name: "--watch draws over itself on a terminal and prints one after the other in a pipe",
        programs: &[],
        run: watch,
    },
];

/// How long a picture may take that is going to come.
const LIMIT: Duration = Duration::from_secs(15);
/// How long it may go on when it has to end.
const END_LIMIT: Duration = Duration::from_secs(5);
/// Whole pictures that are more than a terminal takes that nobody reads (some 10 KiB), and what a picture
/// takes.
const PICTURES: usize = 30;
const TURN: Duration = Duration::from_millis(150);
const CTRL_C: &str = "\x03";
const DOWN: &str = "\x1b[B";

fn start() -> Result<TwoPeers> {
    TwoPeers::start(|keys| crate::explain::text(keys, "", ""))
}

fn top_of(hub: &TwoPeers) -> Command {
    let mut command = hub.node.command();
    command.arg("top");
    command
}

fn top() -> Result<()> {
    let mut hub = start()?;
    let to = "10.200.0.3:0".parse()?;
    let stream = Stream::start(&hub.star.a, &hub.star.b, to)?;
    let mut screen = Terminal::start(top_of(&hub), 24, 80)?;
    screen.wait_until("both peers move something", LIMIT, |text| {
        let moves = |name: &str| {
            let mut lines = text.lines();
            lines.any(|line| line.starts_with(&format!("● {name} ")) && line.contains("bit/s"))
        };
        moves("ana") && moves("luis")
    })?;
    let text = screen.text();
    let first = text.lines().next().unwrap_or_default();
    ensure!(first.starts_with("taltun0 · 2 peers, 2 online"), "{text}");
    ensure!(text.contains('█'), "no sparkline: {text}");
    pairs(&mut screen)?;
    stream.finish()?;

    // All of one, and back.
    screen.press("s")?;
    screen.wait_for("peers by total", LIMIT)?;
    screen.press("/luis\r")?;
    screen.wait_until("luis alone", LIMIT, |text| {
        text.contains("● luis") && !text.contains("● ana")
    })?;
    screen.press("\r")?;
    screen.wait_for("allowed ips:", LIMIT)?;
    screen.press("\x1b")?;
    screen.wait_for("HANDSHAKE", LIMIT)?;

    // A ban asks before, and any other key than it names means no.
    let bans = || -> Result<usize> {
        let stats: Value = serde_json::from_str(&hub.node.tell(&["stats", "--json"])?)?;
        Ok(stats["bans"].as_array().map_or(0, Vec::len))
    };
    screen.press("b")?;
    screen.wait_for("ban luis (its addresses inside)?", LIMIT)?;
    screen.wait_for("3 until unbanned or restarted; else no", LIMIT)?;
    screen.press("n")?;
    screen.wait_for("q quit", LIMIT)?;
    ensure!(bans()? == 0, "it was banned all the same");
    screen.press("b")?;
    screen.wait_for("ban luis", LIMIT)?;
    screen.press("1")?;
    screen.wait_for("! luis", LIMIT)?;
    ensure!(bans()? == 2, "both addresses of luis aren't banned");
    screen.press("u")?;
    screen.wait_for("end the ban of luis", LIMIT)?;
    screen.press("y")?;
    screen.wait_for("● luis", LIMIT)?;
    ensure!(bans()? == 0, "they are still banned");

    // Who sends outside, and a window that becomes small.
    screen.press("\x1b")?;
    screen.wait_for("● ana", LIMIT)?;
    screen.press("2")?;
    screen.wait_until("the senders", LIMIT, |text| {
        text.contains("SENDER") && text.contains("10.99.1.2") && text.contains("10.99.2.2")
    })?;
    screen.press("1")?;
    screen.press(DOWN)?;
    screen.resize(10, 40)?;
    let text = screen.wait_until("the picture is small", LIMIT, |text| {
        text.lines().count() == 10 && text.contains("● ana") && text.contains("● luis")
    })?;
    ensure!(
        text.lines().all(|line| line.chars().count() <= 40),
        "{text}"
    );
    screen.resize(24, 80)?;
    screen.wait_for("DROPPED", LIMIT)?;

    // A hub that is killed, and comes back.
    hub.node.kill()?;
    screen.wait_for("NO ANSWER for", LIMIT)?;
    hub.node.start_again(&hub.star.hub)?;
    screen.wait_until("the hub is back", LIMIT, |text| {
        !text.contains("NO ANSWER") && text.contains("luis")
    })?;
    // A window that becomes small and large again at once has lost what it showed.
    screen.resize(10, 40)?;
    screen.resize(24, 80)?;
    screen.wait_for("DROPPED/S", LIMIT)?;
    screen.press("q")?;
    let status = screen.finish(LIMIT)?;
    ensure!(status.success(), "{status}");
    ensure!(screen.is_restored()?, "the terminal isn't as before");
    hub.end()
}

/// Who sends to whom, while they do: each direction is a line with its rate, and it is counted only from
/// the look on.
fn pairs(screen: &mut Terminal) -> Result<()> {
    screen.press("5")?;
    let is_line = |line: &str, from: &str, to: &str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        words.starts_with(&[from, to]) && line.contains("bit/s")
    };
    screen.wait_until("both directions of the stream", LIMIT, |text| {
        let heads = text.contains("FROM") && text.contains("SINCE LOOKED AT");
        let has = |from, to| text.lines().any(|line| is_line(line, from, to));
        heads && has("ana", "luis") && has("luis", "ana")
    })?;
    // What is sought may be either end; none has this name.
    screen.press("/nobody\r")?;
    screen.wait_for("no such peer sends to another", LIMIT)?;
    screen.press("\x1b")?;
    screen.wait_for("SINCE LOOKED AT", LIMIT)?;
    screen.press("1")?;
    screen.wait_for("HANDSHAKE", LIMIT)?;
    Ok(())
}

/// Neither a key nor a change of the window gets lost where both are there when it looks next.
fn at_once() -> Result<()> {
    let hub = start()?;
    let mut screen = Terminal::start(top_of(&hub), 24, 80)?;
    for _ in 0..3 {
        screen.wait_for("DROPPED/S", LIMIT)?;
        screen.signal(Signal::Pause)?;
        screen.press("2")?;
        // It is as large as before, and has lost what it showed.
        screen.resize(10, 40)?;
        screen.resize(24, 80)?;
        screen.signal(Signal::Resume)?;
        screen.wait_until("the senders, and the line below", LIMIT, |text| {
            text.contains("senders outside") && text.contains("q quit")
        })?;
        screen.press("1")?;
    }
    // One that the other comes before: the thread that reads them has both to do.
    for _ in 0..20 {
        screen.resize(10, 40)?;
        screen.resize(24, 80)?;
        screen.press("2")?;
        screen.wait_for("senders outside", LIMIT)?;
        screen.resize(10, 40)?;
        screen.resize(24, 80)?;
        screen.press("1")?;
        screen.wait_for("peers by", LIMIT)?;
    }
    screen.press("q")?;
    let status = screen.finish(LIMIT)?;
    ensure!(status.success(), "{status}");
    hub.end()
}

fn ends() -> Result<()> {
    let hub = start()?;
    for end in [Some(Signal::Terminate), Some(Signal::Interrupt), None] {
        let mut screen = Terminal::start(top_of(&hub), 24, 80)?;
        screen.wait_for("2 online", LIMIT)?;
        ensure!(!screen.is_restored()?, "it draws on the first screen");
        match end {
            Some(signal) => screen.signal(signal)?,
            None => screen.press(CTRL_C)?,
        }
        let status = screen.finish(LIMIT)?;
        ensure!(status.success(), "{end:?}: {status}");
        ensure!(
            screen.is_restored()?,
            "{end:?}: the terminal isn't as before"
        );
    }
    // In a pipe, and on a typewriter.
    let output = finish_within(&mut top_of(&hub), LIMIT)?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(
        output.status.code() == Some(2) && said.contains("top needs a terminal"),
        "{said}"
    );
    let mut dumb = Command::new("env");
    let program = top_of(&hub);
    dumb.arg("TERM=dumb")
        .arg(program.get_program())
        .args(program.get_args());
    as_told(&mut dumb, &program);
    let mut screen = Terminal::start(dumb, 24, 80)?;
    let status = screen.finish(LIMIT)?;
    ensure!(
        status.code() == Some(2) && screen.text().contains("can't move its cursor"),
        "{}",
        screen.text()
    );
    // Without a tunnel it says so before it takes the terminal.
    let (mut none, empty) = (top_of(&hub), hub.node.directory().join("empty"));
    std::fs::create_dir_all(&empty)?;
    keep_in(&mut none, &empty);
    let mut screen = Terminal::start(none, 24, 80)?;
    let status = screen.finish(LIMIT)?;
    let text = screen.text();
    ensure!(
        status.code() == Some(1) && text.contains("no tunnel is running"),
        "{text}"
    );
    ensure!(screen.is_restored()?, "it took the terminal");
    std::fs::remove_dir(&empty)?;
    hub.end()
}

/// What runs in a window has no terminal any more when that is closed, whether or not it listens to the
/// signal that tells so.
fn hang_up() -> Result<()> {
    let hub = start()?;
    for (words, shown) in [
        (&["top"][..], "2 online"),
        (&["status", "--watch"], "2 online"),
        (&["stats", "--watch"], "TRAFFIC"),
    ] {
        for first in ["", "trap '' HUP; "] {
            let program = in_a_shell(&hub, words, first);
            let mut screen = Terminal::start(program, 24, 80)?;
            screen.wait_for(shown, LIMIT)?;
            screen.hang_up()?;
            let ended = screen.wait_for_end(END_LIMIT);
            let status = ended.with_context(|| format!("{first}{words:?}"))?;
            // A panic would be 101, and what is ended by the signal has no code.
            ensure!(
                status.code().is_none_or(|code| code != 101),
                "{first}{words:?}: {status}"
            );
            ensure!(
                words != ["top"] || status.success(),
                "{first}{words:?}: {status}"
            );
        }
    }
    // In the middle of a key, whose rest never comes.
    let mut screen = Terminal::start(top_of(&hub), 24, 80)?;
    screen.wait_for("2 online", LIMIT)?;
    screen.press("\x1b[")?;
    // It isn't stuck in that.
    let before = screen.screen().contents_formatted();
    screen.wait_until("it goes on", LIMIT, |_| {
        screen.screen().contents_formatted() != before
    })?;
    screen.signal(Signal::Terminate)?;
    let status = screen.finish(END_LIMIT)?;
    ensure!(status.success(), "{status}");
    ensure!(screen.is_restored()?, "the terminal isn't as before");
    // While nobody reads what it draws, and the terminal takes no more.
    let (ours, theirs) = open_pty(50, 200)?;
    let mut keyboard = File::from(ours);
    let mut stuck = top_of(&hub);
    stuck.env("TERM", "xterm-256color");
    stuck.stdin(theirs.try_clone()?);
    stuck.stdout(theirs.try_clone()?).stderr(theirs);
    lead_session(&mut stuck);
    let mut child = stuck.spawn()?;
    drop(stuck);
    for _ in 0..PICTURES {
        sleep(TURN);
        keyboard.write_all(b"\x0c")?;
    }
    send_signal(child.id(), Signal::Terminate)?;
    let ended = wait_for(&mut child, END_LIMIT)?;
    if ended.is_none() {
        child.kill()?;
        child.wait()?;
    }
    ensure!(ended.is_some(), "SIGTERM doesn't end it while it draws");
    hub.end()
}

/// `taltun` with these words in place of a shell that did something `first`.
fn in_a_shell(hub: &TwoPeers, words: &[&str], first: &str) -> Command {
    let program = hub.node.command();
    let mut shell = Command::new("sh");
    shell.args(["-c", &format!("{first}exec \"$0\" \"$@\"")]);
    shell.arg(program.get_program()).args(words);
    as_told(&mut shell, &program);
    shell
}

/// Gives a command the environment of another one.
fn as_told(command: &mut Command, other: &Command) {
    for (name, value) in other.get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
}

fn watch() -> Result<()> {
    let hub = start()?;
    // A word that is neither an interface nor a peer.
    let output = finish_within(hub.node.command().args(["status", "nobody"]), LIMIT)?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(
        output.status.code() == Some(1)
            && said.contains("\"nobody\" is neither a running tunnel nor a peer of taltun0"),
        "{said}"
    );
    for words in [&["status", "--watch"][..], &["stats", "--watch"]] {
        let mut command = hub.node.command();
        command.args(words);
        let mut screen = Terminal::start(command, 24, 80)?;
        let head = if words[0] == "status" {
            "taltun0  server  up "
        } else {
            "TRAFFIC "
        };
        screen.wait_for(head, LIMIT)?;
        let before = screen.text();
        let after = screen.wait_until("another look", LIMIT, |text| text != before)?;
        ensure!(
            after.starts_with(head) && after.matches(head).count() == 1,
            "{after}"
        );
        ensure!(
            after.lines().all(|line| line.chars().count() <= 80),
            "{after}"
        );
        screen.press(CTRL_C)?;
        screen.finish(LIMIT)?;
        ensure!(
            screen.is_restored()?,
            "{words:?}: the terminal isn't as before"
        );
        // In a pipe one after the other, without a command for a terminal.
        let mut command = hub.node.command();
        let mut child = command.args(words).stdout(Stdio::piped()).spawn()?;
        let stdout = child.stdout.take().context("no stdout")?;
        let mut heads = 0;
        for line in BufReader::new(stdout).lines() {
            let line = line?;
            ensure!(!line.contains('\x1b'), "{line:?}");
            heads += usize::from(line.starts_with(head));
            if heads == 3 {
                break;
            }
        }
        // Nobody reads any more, which is no failure.
        let ended = wait_for(&mut child, LIMIT)?;
        ensure!(heads == 3, "it ended after {heads} looks");
        ensure!(
            ended.is_some_and(|status| status.success()),
            "{words:?}: {ended:?}"
        );
    }
    // For programs an object a line.
    let mut command = hub.node.command();
    command.args(["status", "ana", "--watch", "--json"]);
    let mut child = command.stdout(Stdio::piped()).spawn()?;
    let lines = BufReader::new(child.stdout.take().context("no stdout")?).lines();
    for line in lines.take(2) {
        let status: Value = serde_json::from_str(&line?)?;
        ensure!(status["peers"][0]["name"] == "ana", "{status}");
        ensure!(status["kill_switches"].is_array(), "{status}");
    }
    send_signal(child.id(), Signal::Terminate)?;
    wait_for(&mut child, UP_LIMIT)?.context("it didn't end")?;
    hub.end()
}
