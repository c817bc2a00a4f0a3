//! Signals that end a process, and are for another of the same group.

use std::io;

/// From now on neither Ctrl-C nor a service manager that means the whole group ends this process. What it starts ignores
/// them, too.
pub(crate) fn ignore_those_that_end() -> io::Result<()> {
    for signal in [libc::SIGINT, libc::SIGTERM, libc::SIGHUP] {
        // SAFETY: no handler is installed, and no pointer is passed.
        if unsafe { libc::signal(signal, libc::SIG_IGN) } == libc::SIG_ERR {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
}
