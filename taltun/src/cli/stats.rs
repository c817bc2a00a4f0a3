//! `taltun stats`

mod text;

use std::io::{self, IsTerminal, Write as _};
use std::thread;
use std::time::{Duration, Instant};

use clap::Args;

use self::text::{Since, render};
use super::failure::Failure;
use super::output;
use super::target::Subject;
use crate::control::request;
use crate::report::Stats;

/// Between two looks of `--watch`.
const INTERVAL: Duration = Duration::from_secs(1);
/// Moves a terminal's cursor home and clears what is there.
const CLEAR: &str = "\x1b[H\x1b[2J";

/// Show a running tunnel's traffic, drops and senders.
#[derive(Args)]
pub(super) struct StatsCommand {
    #[command(flatten)]
    subject: Subject,

    /// Print JSON.
    #[arg(long)]
    json: bool,

    /// Repeat every second, with rates, until interrupted; with --json, an object per line.
    #[arg(long)]
    watch: bool,
}

impl StatsCommand {
    pub(super) fn run(self) -> Result<(), Failure> {
        if self.watch {
            return self.watch();
        }
        let stats = self.ask()?;
        if self.json {
            output::print_json(&stats)
        } else {
            output::print(&render(&stats, None))
        }
    }

    fn ask(&self) -> Result<Stats, Failure> {
        Ok(*self.subject.ask(request::Stats)?)
    }

    /// Shows them again and again, until the tunnel is gone or nobody reads any more.
    fn watch(&self) -> Result<(), Failure> {
        let mut before = (self.ask()?, Instant::now());
        loop {
            thread::sleep(INTERVAL);
            let (stats, now) = (self.ask()?, Instant::now());
            let text = if self.json {
                output::json_line(&stats)?
            } else {
                let since = Since {
                    stats: &before.0,
                    over: now - before.1,
                };
                let start = if io::stdout().is_terminal() {
                    CLEAR
                } else {
                    "\n"
                };
                format!("{start}{}", render(&stats, Some(&since)))
            };
            let mut out = io::stdout().lock();
            if out
                .write_all(text.as_bytes())
                .and_then(|()| out.flush())
                .is_err()
            {
                return Ok(());
            }
            before = (stats, now);
        }
    }
}
