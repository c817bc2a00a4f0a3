//! A child that is ended when it is dropped, and never outlives the bench.
//!
//! All of them stay in our session, so that the scheduler weighs them alike, but each has a
//! process group of its own: Ctrl-C is for us, and we then end them in order.

use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use taltun_tests::command::wait_for;
use taltun_tests::sys::{self, Signal};

/// How long a child may take to stop when asked to.
const STOP_LIMIT: Duration = Duration::from_secs(3);
/// The pause between two looks at a child.
const LOOK: Duration = Duration::from_millis(50);

/// A running child.
#[derive(Debug)]
pub struct Process {
    child: Child,
    what: &'static str,
}

/// How [`Process::wait`] came to its end.
pub enum Wait {
    /// The child has ended.
    Ended,
    /// It is still running.
    Timeout,
}

impl Process {
    /// Starts `command`; `what` is what to call it in errors.
    pub fn spawn(command: &mut Command, what: &'static str) -> Result<Self> {
        let child = command
            .stdin(Stdio::null())
            .process_group(0)
            .spawn()
            .with_context(|| format!("can't start {what}"))?;
        Ok(Self { child, what })
    }

    /// Its number.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Whether it is still running.
    pub fn is_running(&mut self) -> Result<bool> {
        Ok(self.child.try_wait()?.is_none())
    }

    /// Waits for its end, at most `limit`, calling `meanwhile` now and then. Being asked to
    /// stop is an error.
    pub fn wait(&mut self, limit: Duration, mut meanwhile: impl FnMut()) -> Result<Wait> {
        let deadline = Instant::now() + limit;
        while self.is_running()? {
            if sys::stop_requested().is_some() {
                bail!("interrupted");
            }
            if Instant::now() > deadline {
                return Ok(Wait::Timeout);
            }
            meanwhile();
            sleep(LOOK);
        }
        Ok(Wait::Ended)
    }

    /// What it wrote to its stdout, a pipe, once it has ended.
    pub fn take_output(&mut self) -> Result<String> {
        let stdout = self.child.stdout.take();
        let stdout = stdout.with_context(|| format!("{} has no pipe", self.what))?;
        Ok(std::io::read_to_string(stdout)?)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(Some(_))) {
            return;
        }
        // Asked to, a tunnel removes its socket; killed, it would leave it there.
        let _ = sys::send_signal(self.child.id(), Signal::Terminate);
        if !matches!(wait_for(&mut self.child, STOP_LIMIT), Ok(Some(_))) {
            // Both fail when it has ended meanwhile, which is what we want.
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dropped_child_is_gone() {
        let mut process = Process::spawn(Command::new("sleep").arg("60"), "sleep").unwrap();
        assert!(process.is_running().unwrap());
        let pid = process.pid();
        drop(process);
        assert!(!std::path::Path::new(&format!("/proc/{pid}")).exists());
    }

    #[test]
    fn the_output_of_a_child_is_read_after_its_end() {
        let mut command = Command::new("echo");
        let mut process = Process::spawn(command.arg("hi").stdout(Stdio::piped()), "echo").unwrap();
        let ended = process.wait(Duration::from_secs(10), || {}).unwrap();
        assert!(matches!(ended, Wait::Ended));
        assert_eq!(process.take_output().unwrap(), "hi\n");
    }
}
