//! Keeps the memory of this process, which has keys in it, from being written to a swap device.
//!
//! Keys are in many places: sessions, peers, the configuration while it is read. So all memory is
//! locked, each page once it is used, and what is mapped later as well.

use std::io;
use std::sync::OnceLock;

static LOCKED: OnceLock<Result<(), String>> = OnceLock::new();

/// Locks it from now on. The error is why that can't be: then it may be swapped as any other.
pub(crate) fn lock() -> &'static Result<(), String> {
    LOCKED.get_or_init(|| {
        raise_limit()?;
        lock_all().map_err(|error| format!("mlockall: {error}"))
    })
}

/// Whether it is locked, or why it isn't; `None` if nobody wants that.
pub(crate) fn locked() -> Option<&'static Result<(), String>> {
    LOCKED.get()
}

/// Does what gives free memory back to the system, which locked memory can't be.
pub(crate) fn unlocked_for(give_back: impl FnOnce()) {
    let is_locked = matches!(locked(), Some(Ok(())));
    if is_locked {
        // SAFETY: the call takes no argument, and changes no byte of memory.
        unsafe { libc::munlockall() };
    }
    give_back();
    if is_locked {
        // What could be a moment ago can be now.
        let _ = lock_all();
    }
}

/// A limit would make each later allocation beyond it fail, and end the process: threads without
/// capabilities allocate, too. So there must be none.
fn raise_limit() -> Result<(), String> {
    let mut limit = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: the limit is written to `limit`, which outlives the call.
    if unsafe { libc::getrlimit(libc::RLIMIT_MEMLOCK, &raw mut limit) } != 0 {
        return Err(format!("RLIMIT_MEMLOCK: {}", io::Error::last_os_error()));
    }
    if limit.rlim_cur == libc::RLIM_INFINITY {
        return Ok(());
    }
    let none = libc::rlimit {
        rlim_cur: libc::RLIM_INFINITY,
        rlim_max: libc::RLIM_INFINITY,
    };
    // SAFETY: the limit is read from `none`, which outlives the call.
    if unsafe { libc::setrlimit(libc::RLIMIT_MEMLOCK, &raw const none) } == 0 {
        return Ok(());
    }
    Err(format!(
        "the limit of locked memory is {} KiB; `ulimit -l unlimited` or LimitMEMLOCK=infinity lifts it",
        limit.rlim_cur >> 10
    ))
}

fn lock_all() -> io::Result<()> {
    let how = libc::MCL_CURRENT | libc::MCL_FUTURE | libc::MCL_ONFAULT;
    // SAFETY: the call takes flags and no pointer, and changes no byte of memory.
    super::check(unsafe { libc::mlockall(how) }).map(drop)
}
