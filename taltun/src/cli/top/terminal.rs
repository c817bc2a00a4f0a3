//! The terminal while we have it: another screen, keys one by one, no cursor. It is given back as it
//! was at every end that a program can notice: quitting, an error, a panic, SIGTERM, a closed window.

use std::io::{self, IsTerminal, Stdout};
use std::mem::ManuallyDrop;
use std::panic;
use std::process;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use crossterm::cursor::{Hide, Show};
use crossterm::execute;
use crossterm::terminal::{
    Clear, ClearType, EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode, enable_raw_mode,
};
use ratatui::Frame;
use ratatui::backend::CrosstermBackend;
use ratatui::layout::{Position, Rect};
use rustix::termios::tcgetattr;
use tokio::signal::unix::{SignalKind, signal};

use crate::cli::failure::Failure;
use crate::cli::screen::{Screen, is_dumb};

/// How long an end may take that a signal asks for.
const GRACE: Duration = Duration::from_secs(1);

/// Cells of the largest terminal: several times what the largest screen has.
const MOST_CELLS: usize = 1_000_000;

/// Why nothing can be drawn here, and what to use then; `None` where it can.
pub(super) fn unusable() -> Option<String> {
    let instead = "use `taltun status --watch`";
    if !io::stdin().is_terminal() || !io::stdout().is_terminal() {
        return Some(format!(
            "top needs a terminal for keys and pictures; {instead}"
        ));
    }
    if let Some(reason) = too_large(Terminal::size()) {
        return Some(format!("{reason}; {instead}"));
    }
    is_dumb().then(|| format!("this terminal (TERM) can't move its cursor; {instead}"))
}

/// What is wrong with a size that is more than a picture is made of: each cell takes memory.
fn too_large((columns, rows): (usize, usize)) -> Option<String> {
    let is_large = columns.saturating_mul(rows) > MOST_CELLS;
    is_large.then(|| format!("this terminal says that it has {columns} columns and {rows} lines"))
}

/// The terminal, ours until this is dropped.
pub(super) struct Terminal {
    /// Never dropped, as it would put the cursor back once more and panic where nobody can be told that this
    /// failed; it holds nothing but memory.
    inner: ManuallyDrop<ratatui::Terminal<CrosstermBackend<Stdout>>>,
    ends: Arc<AtomicBool>,
}

impl Terminal {
    /// Columns and rows of the terminal.
    pub(super) fn size() -> (usize, usize) {
        Screen::of_stdout().size.unwrap_or((80, 24))
    }

    /// Takes it.
    pub(super) fn take() -> Result<Self, Failure> {
        let ends = Arc::new(AtomicBool::new(false));
        listen(&ends)?;
        give_back_at_panics();
        let failed = |error: io::Error| Failure::Other(format!("cannot use the terminal: {error}"));
        let taken = || {
            enable_raw_mode()?;
            // Not `ratatui::Terminal::clear`, which asks the terminal where its cursor is, and waits.
            execute!(
                io::stdout(),
                EnterAlternateScreen,
                Clear(ClearType::All),
                Hide
            )?;
            ratatui::Terminal::new(CrosstermBackend::new(io::stdout()))
        };
        match taken() {
            Ok(inner) => Ok(Self {
                inner: ManuallyDrop::new(inner),
                ends,
            }),
            Err(error) => {
                give_back();
                Err(failed(error))
            }
        }
    }

    /// Draws a picture, if anything differs from the last one.
    pub(super) fn show(&mut self, picture: impl FnOnce(&mut Frame<'_>)) -> io::Result<()> {
        // It may have become so meanwhile.
        if let Some(reason) = too_large(Self::size()) {
            return Err(io::Error::other(reason));
        }
        self.inner.draw(picture).map(drop)
    }

    /// The next picture is drawn as a whole, and not only what differs from the last one.
    pub(super) fn forget(&mut self) -> io::Result<()> {
        let size = self.inner.size()?;
        self.inner.resize(Rect::from((Position::ORIGIN, size)))
    }

    /// Whether somebody wants us to end, or the terminal is gone: a closed window, a lost connection.
    pub(super) fn is_to_end(&self) -> bool {
        self.ends.load(Ordering::Relaxed) || tcgetattr(io::stdin()).is_err()
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        give_back();
    }
}

/// Puts the terminal back. Where it is gone nothing can be done, and nothing needs to.
fn give_back() {
    let _ = disable_raw_mode();
    let _ = execute!(io::stdout(), LeaveAlternateScreen, Show);
}

/// A panic ends the program at once, so what it says has to come behind this.
fn give_back_at_panics() {
    let before = panic::take_hook();
    panic::set_hook(Box::new(move |info| {
        give_back();
        before(info);
    }));
}

/// Notices the signals that would end us without asking. Where we are stuck, as in drawing on a terminal
/// that takes no more, they end us after a moment all the same.
fn listen(ends: &Arc<AtomicBool>) -> Result<(), Failure> {
    let failed = |error: io::Error| Failure::Other(format!("cannot listen to signals: {error}"));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(failed)?;
    let guard = runtime.enter();
    let listen = |kind| signal(kind).map_err(failed);
    let mut terminate = listen(SignalKind::terminate())?;
    let mut interrupt = listen(SignalKind::interrupt())?;
    let mut hangup = listen(SignalKind::hangup())?;
    let mut quit = listen(SignalKind::quit())?;
    drop(guard);
    let ends = Arc::clone(ends);
    let thread = thread::Builder::new().name("taltun-signals".to_owned());
    let wait = move || {
        runtime.block_on(async {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
                _ = hangup.recv() => {}
                _ = quit.recv() => {}
            }
        });
        ends.store(true, Ordering::Relaxed);
        thread::sleep(GRACE);
        // No word to the terminal: that is what we may be stuck in.
        let _ = disable_raw_mode();
        process::exit(0);
    };
    thread.spawn(wait).map(drop).map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_terminal_that_nobody_has_is_too_large() {
        assert_eq!(too_large((80, 24)), None);
        assert_eq!(too_large((960, 270)), None);
        assert!(too_large((65535, 65535)).unwrap().contains("65535 lines"));
    }
}
