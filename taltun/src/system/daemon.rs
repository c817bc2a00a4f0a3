//! Going to the background: the command returns once its tunnel answers, or says why it
//! doesn't.

use std::fs::File;
use std::io::{self, PipeReader, PipeWriter, Read, Write};
use std::os::fd::AsRawFd;

/// What a process is after [`fork`].
#[derive(Debug)]
pub enum Fork {
    /// The one that was started, with the way to hear of the other.
    Parent(Waiting),
    /// The one that stays.
    Child(Ready),
}

/// Waits for the child.
#[derive(Debug)]
pub struct Waiting {
    reader: PipeReader,
    child: i32,
}

/// Tells the parent, which waits for it.
#[derive(Debug)]
pub struct Ready(PipeWriter);

/// Splits the process in two. To be called before any thread is made: only the calling one
/// goes on in the child.
pub fn fork() -> io::Result<Fork> {
    let (reader, writer) = io::pipe()?;
    // SAFETY: our callers have only one thread, as documented, so the child's memory is in
    // no state that another thread left half done.
    match unsafe { libc::fork() } {
        -1 => Err(io::Error::last_os_error()),
        0 => {
            drop(reader);
            // SAFETY: no pointers are passed. It can only fail for the leader of a process
            // group, which a new process never is.
            unsafe { libc::setsid() };
            Ok(Fork::Child(Ready(writer)))
        }
        child => Ok(Fork::Parent(Waiting { reader, child })),
    }
}

impl Waiting {
    /// The child's process id.
    pub fn child(&self) -> i32 {
        self.child
    }

    /// Waits until the child is up, or else returns what it complained of; empty when it
    /// ended without a word.
    pub fn wait(mut self) -> Result<(), String> {
        let mut said = Vec::new();
        // A read that fails is a child that said nothing.
        let _ = self.reader.read_to_end(&mut said);
        match said.split_first() {
            Some((b'+', [])) => Ok(()),
            Some((b'-', reason)) => Err(String::from_utf8_lossy(reason).into_owned()),
            _ => Err(String::new()),
        }
    }
}

impl Ready {
    /// Lets the parent go: all is well. Standard input, output and error are given up,
    /// output and error only if `quiet`, and so is the working directory, which may be on a
    /// disk that somebody wants to unmount.
    pub fn up(mut self, quiet: bool) -> io::Result<()> {
        std::env::set_current_dir("/")?;
        let null = File::options().read(true).write(true).open("/dev/null")?;
        let given_up = if quiet { 0..=2 } else { 0..=0 };
        for number in given_up {
            // SAFETY: both are open descriptors; the standard ones belong to nobody in
            // particular, and whoever uses them next uses /dev/null.
            if unsafe { libc::dup2(null.as_raw_fd(), number) } < 0 {
                return Err(io::Error::last_os_error());
            }
        }
        self.0.write_all(b"+")
    }

    /// Tells the parent why there will be no tunnel.
    pub fn failed(mut self, reason: &str) {
        // A parent that is gone can't be told.
        let _ = self.0.write_all(format!("-{reason}").as_bytes());
    }
}
