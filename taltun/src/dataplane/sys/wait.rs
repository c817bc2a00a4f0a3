//! Waiting for a descriptor or for the end.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::time::{Duration, Instant};

use crate::os::check;

/// Wakes every thread that waits, once and for all.
#[derive(Debug)]
pub struct StopSignal(OwnedFd);

impl StopSignal {
    /// A signal that isn't given yet.
    pub fn new() -> io::Result<Self> {
        event().map(Self)
    }

    /// The same signal, for somebody else to give or to wait for.
    pub fn try_clone(&self) -> io::Result<Self> {
        self.0.try_clone().map(Self)
    }

    /// Gives the signal. Nobody reads it back, so it stays given.
    pub fn stop(&self) -> io::Result<()> {
        tell(&self.0)
    }
}

impl AsFd for StopSignal {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Wakes one thread, each time that there is a reason.
#[derive(Debug)]
pub struct Bell(OwnedFd);

impl Bell {
    /// A bell that hasn't rung yet.
    pub fn new() -> io::Result<Self> {
        event().map(Self)
    }

    /// Wakes the thread. If it doesn't wait, it will find that this rang.
    pub fn ring(&self) {
        // It only fails when it has rung very often and not been heard.
        let _ = tell(&self.0);
    }

    /// Was heard: it may ring again.
    pub fn hush(&self) {
        let mut count = 0_u64;
        // SAFETY: eight bytes are written to a live u64. Without any there is nothing to do.
        unsafe {
            libc::read(
                self.0.as_raw_fd(),
                (&raw mut count).cast(),
                size_of::<u64>(),
            )
        };
    }
}

impl AsFd for Bell {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// A descriptor that can be read once it was told.
fn event() -> io::Result<OwnedFd> {
    // SAFETY: no pointers are passed.
    let fd = check(unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) })?;
    // SAFETY: the kernel just gave us this descriptor, nobody else has it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn tell(event: &OwnedFd) -> io::Result<()> {
    let one = 1_u64;
    // SAFETY: eight bytes from a live u64 are read.
    let written =
        unsafe { libc::write(event.as_raw_fd(), (&raw const one).cast(), size_of::<u64>()) };
    if written < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// Which of two sources can be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Readable {
    /// The first.
    pub first: bool,
    /// The second, if there is one.
    pub second: bool,
}

/// Waits until a source, or a second one, can be read; `None` when the stop signal came instead.
/// Looks without sleeping for as long as `busy` says, then sleeps.
pub fn wait_readable(
    source: BorrowedFd<'_>,
    second: Option<BorrowedFd<'_>>,
    stop: &StopSignal,
    busy: Duration,
) -> io::Result<Option<Readable>> {
    let started = Instant::now();
    loop {
        let sleep = busy.is_zero() || started.elapsed() >= busy;
        match poll(source, second, stop, sleep)? {
            Ready::Nothing => std::hint::spin_loop(),
            Ready::Sources(readable) => return Ok(Some(readable)),
            Ready::Stop => return Ok(None),
        }
    }
}

/// Why a wait ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Woken {
    /// The bell rang.
    Bell,
    /// Time is over.
    TimedOut,
    /// The stop signal was given.
    Stop,
}

/// Waits until the bell rings, the stop signal is given, or for so long. Unlike `poll`, it counts
/// in nanoseconds.
pub fn wait_for(bell: &Bell, stop: &StopSignal, timeout: Option<Duration>) -> io::Result<Woken> {
    let watch = |fd: BorrowedFd<'_>| libc::pollfd {
        fd: fd.as_raw_fd(),
        events: libc::POLLIN,
        revents: 0,
    };
    let mut watched = [watch(bell.as_fd()), watch(stop.as_fd())];
    let timeout = timeout.map(|timeout| libc::timespec {
        tv_sec: timeout.as_secs().try_into().unwrap_or(libc::c_long::MAX),
        tv_nsec: timeout.subsec_nanos().into(),
    });
    let timeout = timeout
        .as_ref()
        .map_or(std::ptr::null(), std::ptr::from_ref);
    // SAFETY: the pointers are to two initialised pollfds, and to a timespec or none, which outlive
    // the call; no mask of signals is passed.
    let result = check(unsafe { libc::ppoll(watched.as_mut_ptr(), 2, timeout, std::ptr::null()) });
    match result {
        Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(Woken::TimedOut),
        Err(error) => Err(error),
        Ok(_) if watched[1].revents != 0 => Ok(Woken::Stop),
        Ok(_) if watched[0].revents != 0 => {
            bell.hush();
            Ok(Woken::Bell)
        }
        Ok(_) => Ok(Woken::TimedOut),
    }
}

enum Ready {
    Nothing,
    Sources(Readable),
    Stop,
}

fn poll(
    source: BorrowedFd<'_>,
    second: Option<BorrowedFd<'_>>,
    stop: &StopSignal,
    sleep: bool,
) -> io::Result<Ready> {
    let watch = |fd: libc::c_int| libc::pollfd {
        fd,
        events: libc::POLLIN,
        revents: 0,
    };
    // The kernel passes over descriptors below zero.
    let second = second.map_or(-1, |second| second.as_raw_fd());
    let mut watched = [
        watch(source.as_raw_fd()),
        watch(stop.as_fd().as_raw_fd()),
        watch(second),
    ];
    let timeout = if sleep { -1 } else { 0 };
    let count = watched.len() as libc::nfds_t;
    // SAFETY: the pointer is to so many initialised pollfds that outlive the call.
    let result = check(unsafe { libc::poll(watched.as_mut_ptr(), count, timeout) });
    match result {
        Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(Ready::Nothing),
        Err(error) => Err(error),
        Ok(0) => Ok(Ready::Nothing),
        Ok(_) if watched[1].revents != 0 => Ok(Ready::Stop),
        Ok(_) => Ok(Ready::Sources(Readable {
            first: watched[0].revents != 0,
            second: watched[2].revents != 0,
        })),
    }
}
