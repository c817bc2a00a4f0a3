//! The terminal while it is drawn on: taken, lent to a shell, and given back however we end.

use std::io::{self, Stdout, Write as _};
use std::mem::ManuallyDrop;
use std::panic;
use std::process::{Child, Command};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread::{self, sleep};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use crossterm::cursor::Show;
use crossterm::event;
use crossterm::execute;
use crossterm::terminal::{
    EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode, enable_raw_mode,
};
use ratatui::Terminal;
use ratatui::backend::CrosstermBackend;
use ratatui::layout::{Position, Rect};
use taltun_tests::command::wait_for;
use taltun_tests::sys::{self, Input, Signal};

use super::draw::{Theme, draw};
use super::keys::Key;
use super::model::Model;

/// The pause between two drawings.
const PAUSE: Duration = Duration::from_millis(100);
/// How long is waited for what is there already: given no time at all, crossterm doesn't look.
const LOOK: Duration = Duration::from_millis(1);
/// How long a shell may take to end that is told to.
const SHELL_LIMIT: Duration = Duration::from_secs(2);

/// Whether the terminal is ours now.
static TAKEN: AtomicBool = AtomicBool::new(false);
/// What threads said that panicked meanwhile: on the drawing nobody would see it.
static SAID: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// The terminal; dropping it gives it back.
pub struct Screen {
    /// Never dropped, as it would put the cursor back once more and panic where the terminal is gone; it holds
    /// nothing but memory.
    terminal: ManuallyDrop<Terminal<CrosstermBackend<Stdout>>>,
    theme: Theme,
    last: Option<Instant>,
    shell: Option<Child>,
}

impl Screen {
    /// Takes the terminal that stdout is.
    pub fn open() -> io::Result<Self> {
        restore_at_panics();
        let terminal = Terminal::new(CrosstermBackend::new(io::stdout()))?;
        let mut screen = Self {
            terminal: ManuallyDrop::new(terminal),
            theme: Theme::of_environment(),
            last: None,
            shell: None,
        };
        screen.enter()?;
        Ok(screen)
    }

    /// Draws `model`, unless it was drawn just now or a shell has the terminal. A terminal that is
    /// gone is no reason to stop: the lab still has to be taken down.
    pub fn draw(&mut self, model: &Model) {
        let is_early = self.last.is_some_and(|last| last.elapsed() < PAUSE);
        if !is_early && self.shell.is_none() {
            self.draw_now(model);
        }
    }

    /// The same at once.
    pub fn draw_now(&mut self, model: &Model) {
        self.last = Some(Instant::now());
        let _ = self.terminal.draw(|frame| draw(frame, model, self.theme));
    }

    /// The keys that are pressed within `wait`; returns as soon as there is one.
    pub fn keys(&mut self, wait: Duration) -> Vec<Key> {
        let start = Instant::now();
        let mut keys = Vec::new();
        if self.shell_is_open() {
            sleep(wait);
            return keys;
        }
        // Not by `event::poll`, which never returns where the terminal is gone.
        match sys::wait_for_input(&io::stdin(), wait) {
            // Whoever closed the window wants no lab that nobody sees.
            Ok(Input::Gone) => keys.push(Key::Interrupt),
            _ => {
                while keys.is_empty() && event::poll(LOOK).unwrap_or(false) {
                    let Ok(event) = event::read() else { break };
                    keys.extend(Key::of(&event));
                    if matches!(event, event::Event::Resize(..)) {
                        self.last = None;
                    }
                }
            }
        }
        // Where there is nothing to read from, time has to pass nevertheless.
        if keys.is_empty() {
            sleep(wait.saturating_sub(start.elapsed()));
        }
        keys
    }

    /// Lends the terminal to a shell until it ends.
    pub fn lend(&mut self, mut shell: Command) -> Result<()> {
        Self::leave();
        match shell.spawn() {
            Ok(child) => self.shell = Some(child),
            Err(error) => {
                self.enter()?;
                return Err(error).context("can't open a shell");
            }
        }
        Ok(())
    }

    /// Whether a shell has the terminal; takes it back from one that has ended.
    fn shell_is_open(&mut self) -> bool {
        let Some(shell) = &mut self.shell else {
            return false;
        };
        if matches!(shell.try_wait(), Ok(None)) {
            return true;
        }
        self.shell = None;
        // What fails here fails again at the next drawing, which is no reason to stop.
        let _ = self.enter();
        false
    }

    /// Ends a shell that is still open: first as a terminal that goes would, so that it gives the
    /// terminal back.
    fn end_shell(&mut self) {
        let Some(mut shell) = self.shell.take() else {
            return;
        };
        let _ = sys::send_signal(shell.id(), Signal::HangUp);
        if !matches!(wait_for(&mut shell, SHELL_LIMIT), Ok(Some(_))) {
            let _ = shell.kill();
            let _ = shell.wait();
        }
        let _ = sys::take_terminal_back();
    }

    fn enter(&mut self) -> io::Result<()> {
        TAKEN.store(true, Ordering::Relaxed);
        enable_raw_mode()?;
        execute!(io::stdout(), EnterAlternateScreen)?;
        // What was drawn before isn't there any more. Not `clear`, which asks the terminal where its
        // cursor is: some don't answer.
        let size = self.terminal.size()?;
        self.terminal.resize(Rect::from((Position::ORIGIN, size)))?;
        self.last = None;
        Ok(())
    }

    fn leave() {
        restore();
        for said in SAID
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .drain(..)
        {
            let _ = writeln!(io::stderr(), "{said}");
        }
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        self.end_shell();
        Self::leave();
        // The last picture may have been drawn on a terminal that a shell had.
        let _ = execute!(io::stdout(), Show);
    }
}

/// Gives the terminal back, if it is ours. It may be gone, and then nothing is to be given.
fn restore() {
    if TAKEN.swap(false, Ordering::Relaxed) {
        let _ = disable_raw_mode();
        let _ = execute!(io::stdout(), LeaveAlternateScreen, Show);
    }
}

/// From now on a panic of this thread gives the terminal back before it says anything. One of
/// another thread doesn't end the drawing, so what it says is kept.
fn restore_at_panics() {
    let owner = thread::current().id();
    let before = panic::take_hook();
    panic::set_hook(Box::new(move |panic| {
        if TAKEN.load(Ordering::Relaxed) && thread::current().id() != owner {
            let said = panic.to_string();
            SAID.lock()
                .unwrap_or_else(PoisonError::into_inner)
                .push(said);
        } else {
            restore();
            before(panic);
        }
    }));
}

#[cfg(test)]
mod tests {
    use taltun_tests::terminal::Terminal as Window;

    use super::*;

    /// Says to [`panics_on_a_drawing`] that it is run in a terminal of its own.
    const IN_A_TERMINAL: &str = "TALTUN_XTASK_TEST_IN_A_TERMINAL";
    const LIMIT: Duration = Duration::from_secs(20);

    #[test]
    fn panics_on_a_drawing() {
        if std::env::var_os(IN_A_TERMINAL).is_none() {
            return;
        }
        let mut screen = Screen::open().unwrap();
        let model = Model {
            title: "soon over".into(),
            ..Model::default()
        };
        // One beside it neither ends nor disturbs the drawing.
        let beside = thread::spawn(|| panic!("beside it"));
        assert!(beside.join().is_err());
        screen.draw_now(&model);
        assert_eq!(screen.keys(LIMIT), [Key::Letter('x')]);
        screen.draw_now(&model);
        panic!("on purpose");
    }

    #[test]
    fn reads_keys_on_a_drawing() {
        if std::env::var_os(IN_A_TERMINAL).is_none() {
            return;
        }
        sys::remember_stop_signals().unwrap();
        let mut screen = Screen::open().unwrap();
        let model = Model {
            title: "soon gone".into(),
            ..Model::default()
        };
        screen.draw_now(&model);
        while screen.keys(PAUSE).is_empty() {
            screen.draw_now(&model);
        }
        // Nobody is there to be told by another way.
        std::process::exit(7);
    }

    #[test]
    fn a_window_that_is_closed_ends_the_lab() {
        let mut command = Command::new(std::env::current_exe().unwrap());
        let name = "run::screen::tests::reads_keys_on_a_drawing";
        command.args([name, "--exact", "--nocapture"]);
        command.env(IN_A_TERMINAL, "1");
        let mut window = Window::start(command, 40, 80).unwrap();
        window.wait_for("soon gone", LIMIT).unwrap();
        window.hang_up().unwrap();
        assert_eq!(window.wait_for_end(LIMIT).unwrap().code(), Some(7));
    }

    #[test]
    fn a_panic_gives_the_terminal_back_and_is_read() {
        let mut command = Command::new(std::env::current_exe().unwrap());
        let name = "run::screen::tests::panics_on_a_drawing";
        command.args([name, "--exact", "--nocapture"]);
        command.env(IN_A_TERMINAL, "1");
        let mut window = Window::start(command, 40, 80).unwrap();
        let drawn = window.wait_for("soon over", LIMIT).unwrap();
        assert!(!drawn.contains("beside it"), "{drawn}");
        assert!(!window.is_restored().unwrap());
        window.press("x").unwrap();
        assert!(!window.finish(LIMIT).unwrap().success());
        let text = window.text();
        assert!(window.is_restored().unwrap(), "{text}");
        for said in ["on purpose", "beside it"] {
            assert!(text.contains(said), "{said}: {text}");
        }
    }
}
