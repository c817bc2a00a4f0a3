//! Signals that end a process, and are for another of the same group.

use std::io;

/// Those that are left as they are. The first two can't be ignored; the others tell of a fault of this process, as does
/// `SIGSYS`, which has a handler where system calls are restricted; of `SIGCHLD` it is asked.
const LEFT: &[libc::c_int] = &[
    libc::SIGKILL,
    libc::SIGSTOP,
    libc::SIGABRT,
    libc::SIGBUS,
    libc::SIGFPE,
    libc::SIGILL,
    libc::SIGSEGV,
    libc::SIGTRAP,
    libc::SIGSYS,
    libc::SIGCHLD,
];

/// From now on no signal that somebody sends ends or stops this process, but for `SIGKILL`, `SIGSTOP` and those that tell
/// of a fault: neither Ctrl-C nor a service manager that means the whole group. What it starts ignores them, too.
pub(crate) fn ignore_all_of_others() -> io::Result<()> {
    let real_time = libc::SIGRTMIN()..=libc::SIGRTMAX();
    for signal in (1..=libc::SIGSYS).chain(real_time) {
        if LEFT.contains(&signal) {
            continue;
        }
        // SAFETY: no handler is installed, and no pointer is passed.
        if unsafe { libc::signal(signal, libc::SIG_IGN) } == libc::SIG_ERR {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
}
