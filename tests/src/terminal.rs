//! A terminal with a program in it, whose keys we press and whose screen we read.

use std::fs::File;
use std::io::{Read, Write};
use std::num::NonZeroU16;
use std::process::{Child, Command, ExitStatus};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle, sleep};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use vt100::{Parser, Screen};

use crate::command::wait_for;
use crate::sys::{self, Input, Signal};

/// What ends all that a program wrote: terminals show nothing of it.
const END: u8 = 0;
/// How often the screen is looked at by [`Terminal::wait_until`].
const PAUSE: Duration = Duration::from_millis(20);

/// A running program in a terminal; dropping it kills the program.
pub struct Terminal {
    child: Child,
    keyboard: File,
    parser: Arc<Mutex<Parser>>,
    /// How often an end has been read.
    ends: Arc<AtomicUsize>,
    /// Nothing is to be read any more.
    closed: Arc<AtomicBool>,
    reader: Option<JoinHandle<()>>,
    /// The program's end, kept open so that its settings can still be read when it has ended.
    theirs: Option<File>,
}

impl Terminal {
    /// Starts `command` in a new terminal of this size, as one would who sits there.
    pub fn start(mut command: Command, rows: u16, columns: u16) -> Result<Self> {
        let (ours, theirs) = sys::open_pty(rows, columns).context("can't open a terminal")?;
        command.stdin(theirs.try_clone()?);
        command.stdout(theirs.try_clone()?);
        command.stderr(theirs.try_clone()?);
        command.env("TERM", "xterm-256color");
        sys::lead_session(&mut command);
        let child = command.spawn().context("can't start it in a terminal")?;
        // What is left of it has the program's ends open, and without them reading would end.
        drop(command);
        let parser = Arc::new(Mutex::new(Parser::new(lines(rows)?, lines(columns)?, 1000)));
        let ends = Arc::new(AtomicUsize::new(0));
        let closed = Arc::new(AtomicBool::new(false));
        let mut output = File::from(ours.try_clone()?);
        let reader = thread::spawn({
            let (parser, ends) = (Arc::clone(&parser), Arc::clone(&ends));
            let closed = Arc::clone(&closed);
            move || {
                let mut buffer = [0; 4096];
                while !closed.load(Ordering::Acquire) {
                    if let Ok(Input::Nothing) = sys::wait_for_input(&output, PAUSE) {
                        continue;
                    }
                    // It is an error, not an end, when nobody has the other end open any more.
                    let Ok(length @ 1..) = output.read(&mut buffer) else {
                        return;
                    };
                    let mut parser = parser.lock().unwrap_or_else(PoisonError::into_inner);
                    let read = &buffer[..length];
                    parser.process(read);
                    if read.contains(&END) {
                        ends.fetch_add(1, Ordering::Release);
                    }
                }
            }
        });
        Ok(Self {
            child,
            keyboard: ours.into(),
            parser,
            ends,
            closed,
            reader: Some(reader),
            theirs: Some(theirs.into()),
        })
    }

    /// Presses keys: text as it is, others as the sequences that terminals send.
    pub fn press(&mut self, keys: &str) -> Result<()> {
        self.keyboard.write_all(keys.as_bytes())?;
        Ok(())
    }

    /// Makes the window larger or smaller.
    pub fn resize(&mut self, rows: u16, columns: u16) -> Result<()> {
        let mut parser = self.parser.lock().unwrap_or_else(PoisonError::into_inner);
        parser.screen_mut().set_size(lines(rows)?, lines(columns)?);
        drop(parser);
        sys::resize_pty(&self.keyboard, rows, columns)?;
        Ok(())
    }

    /// What is to be seen now, with its colours.
    pub fn screen(&self) -> Screen {
        let parser = self.parser.lock().unwrap_or_else(PoisonError::into_inner);
        parser.screen().clone()
    }

    /// The same as text, a line each.
    pub fn text(&self) -> String {
        self.screen().contents()
    }

    /// Waits until the text on the screen `is_so`, and returns it; not within `limit` is an error
    /// that shows the screen.
    pub fn wait_until(
        &self,
        what: &str,
        limit: Duration,
        is_so: impl Fn(&str) -> bool,
    ) -> Result<String> {
        let start = Instant::now();
        loop {
            let text = self.text();
            if is_so(&text) {
                return Ok(text);
            }
            if start.elapsed() > limit {
                bail!("not within {limit:?}: {what}; the screen is\n{text}");
            }
            sleep(PAUSE);
        }
    }

    /// The same for a part of the text.
    pub fn wait_for(&self, part: &str, limit: Duration) -> Result<String> {
        self.wait_until(part, limit, |text| text.contains(part))
    }

    /// Sends the program a signal.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        sys::send_signal(self.child.id(), signal)?;
        Ok(())
    }

    /// The program's process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Whether the terminal is as a shell leaves it to programs: lines, echo, Ctrl-C, no other
    /// screen and a cursor.
    pub fn is_restored(&self) -> Result<bool> {
        let screen = self.screen();
        let cooked = sys::is_cooked(&self.keyboard)?;
        Ok(cooked && !screen.alternate_screen() && !screen.hide_cursor())
    }

    /// Closes the window: the program's terminal is gone.
    pub fn hang_up(&mut self) -> Result<()> {
        self.closed.store(true, Ordering::Release);
        if let Some(reader) = self.reader.take() {
            ensure!(reader.join().is_ok(), "what it printed couldn't be read");
        }
        self.theirs = None;
        self.keyboard = File::open("/dev/null")?;
        Ok(())
    }

    /// Waits for the program to end by itself, at most `limit`, whatever it showed last.
    pub fn wait_for_end(&mut self, limit: Duration) -> Result<ExitStatus> {
        match wait_for(&mut self.child, limit)? {
            Some(status) => Ok(status),
            None => bail!("it doesn't end; the screen is\n{}", self.text()),
        }
    }

    /// Waits for the program to end by itself, at most `limit`; all it showed has been read then.
    pub fn finish(&mut self, limit: Duration) -> Result<ExitStatus> {
        let status = self.wait_for_end(limit)?;
        // What it wrote last is on its way to us still, and this comes after it.
        let before = self.ends.load(Ordering::Acquire);
        let mut theirs = self.theirs.as_ref().context("the terminal is gone")?;
        theirs.write_all(&[END])?;
        let start = Instant::now();
        while self.ends.load(Ordering::Acquire) == before {
            ensure!(start.elapsed() < limit, "what it printed isn't read");
            sleep(PAUSE);
        }
        Ok(status)
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // Both fail when it has ended already, which is what we want.
        let _ = self.child.kill();
        let _ = self.child.wait();
        self.theirs = None;
        if let Some(reader) = self.reader.take()
            && reader.is_finished()
        {
            // Else somebody whom the program started holds the terminal; the thread ends with it.
            let _ = reader.join();
        }
    }
}

fn lines(count: u16) -> Result<NonZeroU16> {
    NonZeroU16::new(count).context("a terminal of no size")
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_secs(10);

    #[test]
    fn what_is_typed_is_read_and_what_is_printed_seen() {
        let mut command = Command::new("sh");
        command.args(["-c", "read word; echo \"<$word>\"; stty size"]);
        let mut terminal = Terminal::start(command, 7, 33).unwrap();
        terminal.press("hello\n").unwrap();
        assert!(terminal.finish(LIMIT).unwrap().success());
        let text = terminal.text();
        assert!(text.contains("<hello>") && text.contains("7 33"), "{text}");
        assert!(terminal.is_restored().unwrap());
    }

    #[test]
    fn a_terminal_that_is_left_raw_or_on_another_screen_shows() {
        for spoil in [
            "stty raw -echo",
            "printf '\\033[?1049h'",
            "printf '\\033[?25l'",
        ] {
            let mut command = Command::new("sh");
            command.args(["-c", spoil]);
            let mut terminal = Terminal::start(command, 24, 80).unwrap();
            assert!(terminal.finish(LIMIT).unwrap().success());
            assert!(!terminal.is_restored().unwrap(), "{spoil}");
        }
    }

    #[test]
    fn a_window_that_is_closed_ends_its_program() {
        let mut command = Command::new("sh");
        command.args(["-c", "echo ready; read word; read word; exit 3"]);
        let mut terminal = Terminal::start(command, 24, 80).unwrap();
        terminal.wait_for("ready", LIMIT).unwrap();
        terminal.hang_up().unwrap();
        // By SIGHUP.
        assert_eq!(terminal.wait_for_end(LIMIT).unwrap().code(), None);
        // Who doesn't listen to that reads an end.
        let mut command = Command::new("sh");
        command.args(["-c", "trap '' HUP; echo ready; read word; exit 3"]);
        let mut terminal = Terminal::start(command, 24, 80).unwrap();
        terminal.wait_for("ready", LIMIT).unwrap();
        terminal.hang_up().unwrap();
        assert_eq!(terminal.wait_for_end(LIMIT).unwrap().code(), Some(3));
    }

    #[test]
    fn a_window_that_changes_tells_its_program() {
        let mut command = Command::new("sh");
        command.args([
            "-c",
            "trap 'stty size; exit' WINCH; echo ready; while :; do sleep 0.05; done",
        ]);
        let mut terminal = Terminal::start(command, 24, 80).unwrap();
        terminal.wait_for("ready", LIMIT).unwrap();
        terminal.resize(10, 40).unwrap();
        terminal.wait_for("10 40", LIMIT).unwrap();
    }
}
