//! A thread of another process that stands still while the others go on, as one does that hangs.

use std::io;
use std::marker::PhantomData;

use super::check;

/// Stands still until this is dropped.
#[derive(Debug)]
pub struct PausedThread {
    thread: libc::pid_t,
    /// Only the thread that paused it can let it go.
    _here: PhantomData<*const ()>,
}

impl PausedThread {
    /// Pauses the thread with this number; that of a process's first thread is the process's own.
    pub fn pause(thread: u32) -> io::Result<Self> {
        let thread = libc::pid_t::try_from(thread).map_err(io::Error::other)?;
        trace(libc::PTRACE_SEIZE, thread)?;
        let paused = Self {
            thread,
            _here: PhantomData,
        };
        trace(libc::PTRACE_INTERRUPT, thread)?;
        let mut status = 0;
        // SAFETY: `status` is a valid place to write an integer to.
        check(unsafe { libc::waitpid(thread, &raw mut status, libc::__WALL) })?;
        if libc::WIFSTOPPED(status) {
            Ok(paused)
        } else {
            Err(io::Error::other("it ended instead"))
        }
    }
}

impl Drop for PausedThread {
    fn drop(&mut self) {
        // One that is gone needs nothing.
        let _ = trace(libc::PTRACE_DETACH, self.thread);
    }
}

fn trace(request: libc::c_uint, thread: libc::pid_t) -> io::Result<()> {
    let none = std::ptr::null_mut::<libc::c_void>();
    // SAFETY: these requests take no pointers; the kernel refuses threads that aren't ours to
    // trace.
    let result = unsafe { libc::ptrace(request, thread, none, none) };
    if result == -1 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}
