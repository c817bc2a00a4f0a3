//! Terminals: a pair of our own, and the one that we run in.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::time::Duration;

use super::check;

/// A new pseudo-terminal of this size: our end, and the end of the program in it.
pub fn open_pty(rows: u16, columns: u16) -> io::Result<(OwnedFd, OwnedFd)> {
    let size = window(rows, columns);
    let (mut ours, mut theirs) = (-1, -1);
    // SAFETY: both descriptors are written to integers of ours, `size` outlives the call, which only
    // reads it, and no name and no attributes are asked for or given.
    check(unsafe {
        libc::openpty(
            &raw mut ours,
            &raw mut theirs,
            std::ptr::null_mut(),
            std::ptr::null(),
            &raw const size,
        )
    })?;
    // SAFETY: the kernel just gave us these descriptors, so nobody else owns them.
    let pair = unsafe { (OwnedFd::from_raw_fd(ours), OwnedFd::from_raw_fd(theirs)) };
    for end in [&pair.0, &pair.1] {
        // SAFETY: fcntl takes plain numbers here; the descriptor is open.
        check(unsafe { libc::fcntl(end.as_raw_fd(), libc::F_SETFD, libc::FD_CLOEXEC) })?;
    }
    Ok(pair)
}

/// Gives a terminal this size; the program in it is told.
pub fn resize_pty(terminal: &impl AsRawFd, rows: u16, columns: u16) -> io::Result<()> {
    let size = window(rows, columns);
    // SAFETY: `size` is what TIOCSWINSZ reads, and outlives the call.
    check(unsafe { libc::ioctl(terminal.as_raw_fd(), libc::TIOCSWINSZ, &raw const size) })?;
    Ok(())
}

/// What there is to read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Input {
    /// Nothing yet.
    Nothing,
    /// Something.
    Some,
    /// Nothing ever again: the terminal is gone, or its other end is closed.
    Gone,
}

/// Waits until there is something to read, at most for so long; a signal ends it sooner.
pub fn wait_for_input(from: &impl AsRawFd, wait: Duration) -> io::Result<Input> {
    let mut look = libc::pollfd {
        fd: from.as_raw_fd(),
        events: libc::POLLIN,
        revents: 0,
    };
    let wait = wait.as_millis().try_into().unwrap_or(i32::MAX);
    // SAFETY: `look` is one entry, as the count says, and outlives the call.
    match check(unsafe { libc::poll(&raw mut look, 1, wait) }) {
        Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(Input::Nothing),
        Err(error) => Err(error),
        // A terminal that is gone is readable for good, and reading it ends at once.
        Ok(_) if look.revents & (libc::POLLHUP | libc::POLLERR | libc::POLLNVAL) != 0 => {
            Ok(Input::Gone)
        }
        Ok(_) if look.revents & libc::POLLIN != 0 => Ok(Input::Some),
        Ok(_) => Ok(Input::Nothing),
    }
}

/// Whether a terminal collects lines and shows what is typed, as a shell leaves it to programs.
pub fn is_cooked(terminal: &impl AsRawFd) -> io::Result<bool> {
    // SAFETY: termios is plain old data, for which all zeroes is a valid value.
    let mut attributes: libc::termios = unsafe { std::mem::zeroed() };
    // SAFETY: `attributes` is a place for what the call writes.
    check(unsafe { libc::tcgetattr(terminal.as_raw_fd(), &raw mut attributes) })?;
    let cooked = libc::ICANON | libc::ECHO | libc::ISIG;
    Ok(attributes.c_lflag & cooked == cooked)
}

/// The program will lead a session of its own, in the terminal that its stdin is.
pub fn lead_session(command: &mut Command) {
    let lead = || {
        // SAFETY: setsid takes nothing and touches no memory.
        check(unsafe { libc::setsid() })?;
        // SAFETY: signal sets dispositions without a handler; TIOCSCTTY takes a number, and descriptor 0 is
        // the terminal.
        check(unsafe {
            // Who runs the tests by nohup or in the background has them ignored, and so would the program.
            for signal in [libc::SIGHUP, libc::SIGINT, libc::SIGQUIT] {
                libc::signal(signal, libc::SIG_DFL);
            }
            libc::ioctl(0, libc::TIOCSCTTY, 0)
        })?;
        Ok(())
    };
    // SAFETY: between fork and exec it makes five system calls and nothing else.
    unsafe { command.pre_exec(lead) };
}

/// Makes our process group the one that stdin's terminal listens to, also if a shell that had it was
/// killed before it could give it back.
pub fn take_terminal_back() -> io::Result<()> {
    // SAFETY: getpgrp takes nothing and can't fail; signal sets a disposition without a handler.
    // Whoever isn't listened to is stopped by SIGTTOU for asking, which is what this is about.
    unsafe {
        let before = libc::signal(libc::SIGTTOU, libc::SIG_IGN);
        let taken = check(libc::tcsetpgrp(0, libc::getpgrp()));
        libc::signal(libc::SIGTTOU, before);
        taken.map(drop)
    }
}

fn window(rows: u16, columns: u16) -> libc::winsize {
    libc::winsize {
        ws_row: rows,
        ws_col: columns,
        ws_xpixel: 0,
        ws_ypixel: 0,
    }
}
