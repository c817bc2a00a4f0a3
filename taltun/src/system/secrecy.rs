//! Hides our memory, which has keys in it, from other programs of the same user, and keeps it out
//! of core files.

use std::io;

/// From now on nobody but root looks into this process, and it leaves no core file. Programs
/// that it starts may be looked into again; core files they leave none, either.
///
/// # Errors
/// Where the kernel refuses, which it doesn't to anybody.
pub fn keep_secrets() -> io::Result<()> {
    let none = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: the pointer is to an rlimit that outlives the call.
    let limited = unsafe { libc::setrlimit(libc::RLIMIT_CORE, &raw const none) };
    // SAFETY: this option takes one integer and no pointer.
    let hidden = unsafe { libc::prctl(libc::PR_SET_DUMPABLE, 0, 0, 0, 0) };
    if limited < 0 || hidden < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}
