//! The lab of `cargo xtask run`, after a flood that was dropped and while a spoke is banned.

use std::env;
use std::path::Path;
use std::process::Command;
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Result, ensure};
use taltun_tests::terminal::Terminal;
use taltun_tests::topology::private_prefix;

use super::{Drawn, svg};

/// How long the lab may take to come up, or to be taken down.
const LAB_LIMIT: Duration = Duration::from_secs(60);
/// How long a key may take to show.
const KEY_LIMIT: Duration = Duration::from_secs(10);

/// Runs it, presses its keys and draws it.
pub fn draw(taltun: &Path) -> Result<Vec<Drawn>> {
    let mut command = Command::new(env::current_exe()?);
    command.args(["run", "--prefix", &private_prefix()]);
    command.env("TALTUN_BIN", taltun).env_remove("NO_COLOR");
    let mut terminal = Terminal::start(command, 24, 80)?;
    terminal.wait_for("k kill hub", LAB_LIMIT)?;
    // Each of these is a part of the sparklines.
    sleep(Duration::from_millis(2000));
    terminal.press("f")?;
    sleep(Duration::from_millis(3000));
    terminal.press("f")?;
    sleep(Duration::from_millis(2500));
    terminal.press("b")?;
    terminal.wait_for("no answer", KEY_LIMIT)?;
    sleep(Duration::from_millis(2500));
    let screen = terminal.screen();
    terminal.press("b")?;
    terminal.wait_for("unbanned a", KEY_LIMIT)?;
    sleep(Duration::from_secs(2));
    terminal.press("q")?;
    let status = terminal.finish(LAB_LIMIT)?;
    ensure!(status.success(), "{status}: {}", terminal.text());
    Ok(vec![Drawn {
        file: "lab.svg",
        bytes: svg::draw(&screen, "cargo xtask run").into_bytes(),
    }])
}
