//! Waiting for a descriptor or for the end.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use super::check;

/// Wakes every thread that waits, once and for all.
#[derive(Debug)]
pub struct StopSignal(OwnedFd);

impl StopSignal {
    /// A signal that isn't given yet.
    pub fn new() -> io::Result<Self> {
        // SAFETY: no pointers are passed.
        let fd = check(unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) })?;
        // SAFETY: the kernel just gave us this descriptor, nobody else has it.
        Ok(Self(unsafe { OwnedFd::from_raw_fd(fd) }))
    }

    /// Gives the signal. Nobody reads it back, so it stays given.
    pub fn stop(&self) -> io::Result<()> {
        let one = 1_u64;
        // SAFETY: eight bytes from a live u64 are read.
        let written = unsafe {
            libc::write(
                self.0.as_raw_fd(),
                (&raw const one).cast(),
                size_of::<u64>(),
            )
        };
        if written < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(())
    }
}

impl AsFd for StopSignal {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Waits until `source` can be read; false when the stop signal came instead.
pub fn wait_readable(source: BorrowedFd<'_>, stop: &StopSignal) -> io::Result<bool> {
    let watch = |fd: BorrowedFd<'_>| libc::pollfd {
        fd: fd.as_raw_fd(),
        events: libc::POLLIN,
        revents: 0,
    };
    let mut watched = [watch(source), watch(stop.as_fd())];
    loop {
        // SAFETY: the pointer is to two initialised pollfds that outlive the call.
        let result = check(unsafe { libc::poll(watched.as_mut_ptr(), 2, -1) });
        match result {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
            Ok(_) => return Ok(watched[1].revents == 0),
        }
    }
}
