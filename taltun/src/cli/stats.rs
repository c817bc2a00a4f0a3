//! `taltun stats`

mod text;

use std::time::Instant;

use clap::Args;

use self::text::{Since, render};
use super::failure::Failure;
use super::screen::Screen;
use super::target::Subject;
use super::{output, watching};
use crate::control::request;
use crate::report::Stats;

/// Show a running tunnel's traffic, drops and senders.
#[derive(Args)]
pub(super) struct StatsCommand {
    #[command(flatten)]
    subject: Subject,

    /// Print JSON.
    #[arg(long)]
    json: bool,

    /// Repeat every second, sources by their rates, until interrupted; with --json, an object per line.
    #[arg(long)]
    watch: bool,
}

impl StatsCommand {
    pub(super) fn run(self) -> Result<(), Failure> {
        match (self.watch, self.json) {
            (false, true) => output::print_json(&self.ask()?),
            (false, false) => output::print(&render(&self.ask()?, None, &Screen::of_stdout())),
            (true, true) => watching::watch_json(|| self.ask()),
            (true, false) => self.watch(),
        }
    }

    fn ask(&self) -> Result<Stats, Failure> {
        Ok(*self.subject.ask(request::Stats)?)
    }

    /// Shows them again and again, until the tunnel is gone or nobody reads any more. All rates are
    /// of the same two looks, so that they add up.
    fn watch(&self) -> Result<(), Failure> {
        let mut before: Option<(Stats, Instant)> = None;
        watching::watch(|screen| {
            let (stats, now) = (self.ask()?, Instant::now());
            let since = before.as_ref().map(|(stats, at)| Since {
                stats,
                over: now - *at,
            });
            let text = render(&stats, since.as_ref(), screen);
            before = Some((stats, now));
            Ok(text)
        })
    }
}
