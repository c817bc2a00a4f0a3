//! Who is at the other end of a Unix socket.

use std::fs;
use std::mem::size_of;
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;

/// The process that listens on the socket `stream` is connected to; `None` when the kernel
/// doesn't tell, as across pid namespaces.
pub(super) fn pid(stream: &UnixStream) -> Option<i32> {
    let mut credentials = libc::ucred {
        pid: 0,
        uid: 0,
        gid: 0,
    };
    let mut length = size_of::<libc::ucred>() as libc::socklen_t;
    // SAFETY: the descriptor is open for as long as `stream` is borrowed, and the kernel
    // writes at most `length` bytes to `credentials`, which is exactly that large and made
    // of integers that may hold any value.
    let result = unsafe {
        libc::getsockopt(
            stream.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_PEERCRED,
            (&raw mut credentials).cast(),
            &raw mut length,
        )
    };
    (result == 0 && credentials.pid > 0).then_some(credentials.pid)
}

/// Inode of the network namespace of a process, if it can be told.
pub(super) fn namespace(pid: i32) -> Option<u64> {
    let metadata = fs::metadata(format!("/proc/{pid}/ns/net"));
    metadata.ok().map(|metadata| metadata.ino())
}

/// Whether a process has ended or was killed. What it had open is closed a moment later: by
/// its last thread, or by a child that was just about to become another program.
pub(super) fn is_dying(pid: i32) -> bool {
    match fs::read_to_string(format!("/proc/{pid}/status")) {
        Ok(status) => tells_of_the_end(&status),
        Err(error) => error.kind() == std::io::ErrorKind::NotFound,
    }
}

/// Whether `/proc/PID/status` is that of a process on its way out: a zombie, dead, or with
/// SIGKILL not delivered yet.
fn tells_of_the_end(status: &str) -> bool {
    status.lines().any(|line| match line.split_once(':') {
        Some(("State", state)) => state.trim().starts_with(['Z', 'X']),
        Some(("SigPnd" | "ShdPnd", pending)) => {
            let bits = u64::from_str_radix(pending.trim(), 16).unwrap_or(0);
            bits & 1 << (libc::SIGKILL - 1) != 0
        }
        _ => false,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_was_killed_is_dying_and_who_runs_is_not() {
        let own = i32::try_from(std::process::id()).unwrap();
        assert!(!is_dying(own));
        assert_eq!(namespace(own), namespace(own));
        assert!(namespace(own).is_some());
        // Larger than any process's number.
        assert!(is_dying(i32::MAX));
        assert_eq!(namespace(i32::MAX), None);
        let status = |state, own, shared| {
            format!("Name:\tx\nState:\t{state}\nSigPnd:\t{own}\nShdPnd:\t{shared}\n")
        };
        let none = "0000000000000000";
        let kill = "0000000000000100";
        assert!(!tells_of_the_end(&status("S (sleeping)", none, none)));
        assert!(tells_of_the_end(&status("Z (zombie)", none, none)));
        assert!(tells_of_the_end(&status("R (running)", none, kill)));
        assert!(tells_of_the_end(&status("D (disk sleep)", kill, none)));
        // SIGTERM is an orderly end, which takes its time.
        let term = "0000000000004000";
        assert!(!tells_of_the_end(&status("S (sleeping)", none, term)));
    }
}
