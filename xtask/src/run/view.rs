//! Where a lab is shown: drawn on a terminal, as a line a second elsewhere.

use std::fmt::Write as _;
use std::io::{self, IsTerminal, Write as _};
use std::process::Command;
use std::thread::sleep;
use std::time::Duration;

use anyhow::Result;

use super::keys::Key;
use super::model::{Link, Model};
use super::screen::Screen;
use super::units;

/// Where it is shown.
pub enum View {
    /// Drawn on the terminal.
    Screen(Box<Screen>),
    /// A line a second.
    Lines {
        /// On stderr, as stdout is for the result.
        aside: bool,
        /// Whole seconds of the last line.
        last: u64,
    },
}

impl View {
    /// The view that suits the terminal, or bare lines beside JSON.
    pub fn new(json: bool) -> Self {
        if !json
            && can_be_drawn_on()
            && let Ok(screen) = Screen::open()
        {
            return Self::Screen(Box::new(screen));
        }
        Self::Lines {
            aside: json,
            last: 0,
        }
    }

    /// Shows `model`, if it is time to.
    pub fn show(&mut self, model: &Model) {
        match self {
            Self::Screen(screen) => screen.draw(model),
            Self::Lines { aside, last } => {
                let now = model.elapsed.as_secs();
                if now > *last {
                    *last = now;
                    say(*aside, &line(model));
                }
            }
        }
    }

    /// The same where it is drawn: a recipe has lines of its own.
    pub fn show_drawn(&mut self, model: &Model) {
        if let Self::Screen(screen) = self {
            screen.draw(model);
        }
    }

    /// Shows it also if it isn't, as what follows takes a while.
    pub fn show_now(&mut self, model: &Model) {
        if let Self::Screen(screen) = self {
            screen.draw_now(model);
        }
    }

    /// The keys that are pressed within `wait`; where there are none to press it only waits.
    pub fn keys(&mut self, wait: Duration) -> Vec<Key> {
        match self {
            Self::Screen(screen) => screen.keys(wait),
            Self::Lines { .. } => {
                sleep(wait);
                Vec::new()
            }
        }
    }

    /// Lends the terminal to a shell.
    pub fn lend(&mut self, shell: Command) -> Result<()> {
        match self {
            Self::Screen(screen) => screen.lend(shell),
            Self::Lines { .. } => Ok(()),
        }
    }

    /// Whether it is drawn, and has keys.
    pub fn is_drawn(&self) -> bool {
        matches!(self, Self::Screen(_))
    }
}

/// Whether stdin and stdout are a terminal that can do more than print.
fn can_be_drawn_on() -> bool {
    let is_dumb = std::env::var_os("TERM").is_none_or(|term| term.is_empty() || term == "dumb");
    io::stdin().is_terminal() && io::stdout().is_terminal() && !is_dumb
}

/// Writes `text` to stdout, or beside it. Nobody may read it any more.
pub fn say(aside: bool, text: &str) {
    // Not `print!`, which panics then.
    let _ = if aside {
        io::stderr().write_all(text.as_bytes())
    } else {
        io::stdout().write_all(text.as_bytes())
    };
}

fn line(model: &Model) -> String {
    let mut line = format!("{:>4}", units::clock(model.elapsed));
    for track in &model.tracks {
        // Writing to a String can't fail.
        let _ = write!(line, "  {} {}", track.name, track.value);
    }
    for host in model.hosts() {
        if matches!(host.link, Link::Banned(_)) {
            let _ = write!(line, "  {} is banned", host.name);
        }
    }
    line.push('\n');
    line
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::model::{Host, Track};

    #[test]
    fn a_line_tells_what_is_measured_and_who_is_banned() {
        let mut track = Track::new("ping a→hub");
        track.value = "4.2 ms".into();
        let mut model = Model {
            elapsed: Duration::from_secs(7),
            tracks: vec![track],
            ..Model::default()
        };
        assert_eq!(line(&model), " 7 s  ping a→hub 4.2 ms\n");
        model.left.push(Host {
            name: "a".into(),
            link: Link::Banned(None),
            ..Host::default()
        });
        assert_eq!(line(&model), " 7 s  ping a→hub 4.2 ms  a is banned\n");
    }
}
