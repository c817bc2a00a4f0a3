//! `taltun top` of the same hub.

use std::path::Path;
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Result, ensure};
use taltun_tests::terminal::Terminal;

use super::office::Office;
use super::{Drawn, svg};

/// How long it is watched, so that its sparklines have something to show.
const WATCHED: Duration = Duration::from_secs(14);
/// How long it may take to end.
const LIMIT: Duration = Duration::from_secs(10);

/// Runs it and draws it.
pub fn draw(taltun: &Path) -> Result<Vec<Drawn>> {
    let office = Office::start(taltun)?;
    let mut terminal = Terminal::start(office.command(taltun, &["top"]), 20, 104)?;
    sleep(WATCHED);
    let screen = terminal.screen();
    terminal.press("q")?;
    let status = terminal.finish(LIMIT)?;
    ensure!(status.success(), "{status}: {}", terminal.text());
    Ok(vec![Drawn {
        file: "top.svg",
        bytes: svg::draw(&screen, "taltun top").into_bytes(),
    }])
}
