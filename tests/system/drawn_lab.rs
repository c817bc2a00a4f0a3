//! `cargo xtask run` on a terminal: what it draws, what its keys do, and that it gives the terminal
//! back and leaves nothing behind, however it is ended.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Result, ensure};
use taltun_tests::netns;
use taltun_tests::sys::Signal;
use taltun_tests::terminal::Terminal;
use taltun_tests::topology::private_prefix;

use crate::support::{Case, XTASK, taltun, xtask};

pub const CASES: &[Case] = &[
    Case {
        name: "the lab is drawn, and its keys ban, flood, kill, open a shell and end it",
        programs: &[XTASK, "bash"],
        run: keys_do_what_they_say,
    },
    Case {
        name: "a drawn lab that is told to stop gives the terminal back and leaves nothing",
        programs: &[XTASK, "bash"],
        run: told_to_stop,
    },
    Case {
        name: "a recipe is drawn with its own machines while it is checked, and after",
        programs: &[XTASK],
        run: recipe_is_drawn,
    },
    Case {
        name: "a lab without a terminal is printed, each check once",
        programs: &[XTASK],
        run: without_a_terminal,
    },
];

/// How long it may take to build the lab, or to take it down.
const LAB_LIMIT: Duration = Duration::from_secs(90);
/// How long until what a key does is to be seen: some wait for a question of each second.
const KEY_LIMIT: Duration = Duration::from_secs(30);

/// `cargo xtask run` of a lab of this test's own.
fn run(arguments: &[&str]) -> Result<(Command, String)> {
    let prefix = private_prefix();
    let mut command = Command::new(xtask()?);
    command.args(["run", "--prefix", &prefix]).args(arguments);
    command.env("TALTUN_BIN", taltun()?);
    command.env("SHELL", bash()).env_remove("NO_COLOR");
    Ok((command, prefix))
}

fn bash() -> PathBuf {
    taltun_tests::command::find("bash").unwrap_or_default()
}

/// The lab on a terminal, up and with traffic.
fn drawn(arguments: &[&str]) -> Result<(Terminal, String)> {
    let (command, prefix) = run(arguments)?;
    let terminal = Terminal::start(command, 24, 80)?;
    terminal.wait_for("k kill hub", LAB_LIMIT)?;
    Ok((terminal, prefix))
}

/// The terminal is as it was, and what was in the lab is gone.
fn ensure_gone(terminal: &Terminal, prefix: &str) -> Result<()> {
    let screen = terminal.text();
    ensure!(
        terminal.is_restored()?,
        "the terminal is left as it is drawn on:\n{screen}"
    );
    let left = netns::names_with(&format!("{prefix}-"));
    ensure!(left.is_empty(), "{left:?} are left:\n{screen}");
    Ok(())
}

fn keys_do_what_they_say() -> Result<()> {
    let (mut terminal, prefix) = drawn(&[])?;
    terminal.wait_until("two tunnels with traffic", KEY_LIMIT, |text| {
        text.matches("════════").count() > 4 && text.contains("bit/s") && text.contains("XDP")
    })?;

    terminal.press("b")?;
    terminal.wait_until("a is banned and not heard", KEY_LIMIT, |text| {
        text.contains("✗ BANNED") && text.contains("no answer") && text.contains("b unban a")
    })?;
    // Long enough for the ban to be judged.
    std::thread::sleep(Duration::from_secs(2));
    terminal.press("b")?;
    let heard = |text: &str| !text.contains("BANNED") && !text.contains("no answer");
    terminal.wait_until("a is heard again", KEY_LIMIT, heard)?;

    terminal.press("f")?;
    terminal.wait_until("the flood is dropped", KEY_LIMIT, |text| {
        text.contains("f end the flood") && dropped_a_second(text) > 10_000
    })?;
    terminal.press("f")?;
    terminal.wait_for("the flood is over", KEY_LIMIT)?;

    terminal.press("k")?;
    terminal.wait_for("✗ KILLED", KEY_LIMIT)?;
    terminal.wait_for("hub is up, ", KEY_LIMIT)?;
    terminal.wait_until("a hears the new hub", KEY_LIMIT, heard)?;

    shell_finds_its_tunnel(&mut terminal, &prefix)?;

    terminal.resize(12, 40)?;
    terminal.wait_for("hub ─", KEY_LIMIT)?;
    terminal.resize(24, 80)?;
    terminal.wait_for("╔ hub ", KEY_LIMIT)?;

    terminal.press("q")?;
    let status = terminal.finish(LAB_LIMIT)?;
    let text = terminal.text();
    ensure!(status.success(), "{status}:\n{text}");
    ensure_gone(&terminal, &prefix)?;
    for check in [
        "✓ tcp a→hub",
        "✓ ban stops a",
        "✓ killed hub comes back",
        "✓ nothing left behind",
    ] {
        ensure!(text.matches(check).count() == 1, "{check}:\n{text}");
    }
    ensure!(text.contains("checks are ok."), "{text}");
    Ok(())
}

/// Packets a second that the hub drops, by its track.
fn dropped_a_second(text: &str) -> u64 {
    let mut lines = text.lines();
    let track = lines.find(|line| line.starts_with("dropped by hub"));
    let rate = track.and_then(|track| track.trim_end().strip_suffix("/s"));
    let number = rate.and_then(|rate| rate.split_whitespace().last());
    number.map_or(0, |number| number.replace(',', "").parse().unwrap_or(0))
}

/// A shell says where it is, knows `taltun`, and gives the screen back to the drawing.
fn shell_finds_its_tunnel(terminal: &mut Terminal, prefix: &str) -> Result<()> {
    terminal.press("s")?;
    terminal.wait_for("2 a", KEY_LIMIT)?;
    terminal.press("2")?;
    terminal.wait_for(&format!("[{prefix}-a]"), KEY_LIMIT)?;
    // What is printed differs from what is typed.
    terminal.press("taltun status --json >/dev/null && echo found $((40 + 2))\n")?;
    terminal.wait_for("found 42", KEY_LIMIT)?;
    terminal.press("ip -o -4 addr show taltun0 | grep -c 10.200.0.2/24 | sed 's/^/spoke /'\n")?;
    terminal.wait_for("spoke 1", KEY_LIMIT)?;
    terminal.press("exit\n")?;
    terminal.wait_for("k kill hub", KEY_LIMIT)?;
    Ok(())
}

fn told_to_stop() -> Result<()> {
    let ways: [fn(&mut Terminal) -> Result<()>; 3] = [
        |terminal| terminal.signal(Signal::Terminate),
        |terminal| terminal.press("\x03"),
        |terminal| {
            // Also when a shell has the terminal.
            terminal.press("s")?;
            terminal.press("\r")?;
            terminal.wait_for("-hub]", KEY_LIMIT)?;
            terminal.signal(Signal::Terminate)
        },
    ];
    for end in ways {
        let (mut terminal, prefix) = drawn(&[])?;
        end(&mut terminal)?;
        terminal.finish(LAB_LIMIT)?;
        ensure_gone(&terminal, &prefix)?;
        let text = terminal.text();
        ensure!(text.contains("✓ nothing left behind"), "{text}");
    }
    // When its window is closed, on the drawing and with a shell in it.
    for keys in ["", "s\r"] {
        let (mut terminal, prefix) = drawn(&[])?;
        if !keys.is_empty() {
            terminal.press(keys)?;
            terminal.wait_for("-hub]", KEY_LIMIT)?;
        }
        terminal.hang_up()?;
        terminal.wait_for_end(LAB_LIMIT)?;
        let left = netns::names_with(&format!("{prefix}-"));
        ensure!(left.is_empty(), "{left:?} are left");
    }
    Ok(())
}

fn recipe_is_drawn() -> Result<()> {
    let (command, prefix) = run(&["--recipe", "B"])?;
    let mut terminal = Terminal::start(command, 24, 80)?;
    terminal.wait_for("checking: ", LAB_LIMIT)?;
    let text = terminal.wait_for("b ban alice", LAB_LIMIT)?;
    for machine in ["hub", "alice", "bob", "mallory"] {
        ensure!(text.contains(machine), "{machine} isn't there:\n{text}");
    }
    terminal.press("b")?;
    terminal.wait_for("✗ BANNED", KEY_LIMIT)?;
    terminal.press("b")?;
    terminal.wait_for("unbanned alice", KEY_LIMIT)?;
    terminal.press("q")?;
    let status = terminal.finish(LAB_LIMIT)?;
    let text = terminal.text();
    ensure!(status.success(), "{status}:\n{text}");
    ensure_gone(&terminal, &prefix)?;
    ensure!(text.contains("checks are ok."), "{text}");
    Ok(())
}

fn without_a_terminal() -> Result<()> {
    let (mut command, prefix) = run(&["--duration", "8"])?;
    let output = command.output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    ensure!(output.status.success(), "{text}");
    ensure!(
        !text.contains('\x1b'),
        "it is drawn where nobody can see it: {text:?}"
    );
    ensure!(text.contains("a is banned"), "{text}");
    ensure!(netns::names_with(&format!("{prefix}-")).is_empty());
    let checks: Vec<&str> = text.lines().filter(|line| line.starts_with('✓')).collect();
    let mut names: Vec<String> = checks
        .iter()
        .map(|line| line.chars().take(24).collect())
        .collect();
    // Aligned: behind the longest name two spaces, and the details in one column.
    ensure!(names.iter().all(|name| name.ends_with(' ')), "{text}");
    names.sort_unstable();
    names.dedup();
    ensure!(names.len() == checks.len() && checks.len() > 9, "{text}");
    Ok(())
}
