//! `taltun status` of a hub.

use std::path::Path;
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Result, ensure};
use taltun_tests::terminal::Terminal;

use super::office::Office;
use super::{Drawn, svg};

/// How long traffic goes on before it is looked at, so that rates have settled.
pub const SETTLED: Duration = Duration::from_secs(6);
/// How long a command may take.
const LIMIT: Duration = Duration::from_secs(10);

/// Runs it and draws it.
pub fn draw(taltun: &Path) -> Result<Vec<Drawn>> {
    let office = Office::start(taltun)?;
    sleep(SETTLED);
    let mut terminal = Terminal::start(office.command(taltun, &["status"]), 24, 100)?;
    let status = terminal.finish(LIMIT)?;
    ensure!(status.success(), "{status}: {}", terminal.text());
    Ok(vec![Drawn {
        file: "status.svg",
        bytes: svg::draw(&terminal.screen(), "taltun status").into_bytes(),
    }])
}
