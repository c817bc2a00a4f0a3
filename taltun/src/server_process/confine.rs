//! Gives up every right that this process doesn't need, which is all of them: its sockets are
//! open by then.

use std::ffi::CStr;
use std::io;

use rustix::io::Errno;
use rustix::process::{
    Gid, Resource, Rlimit, Signal, Uid, getuid, set_parent_process_death_signal, setrlimit,
};
use rustix::thread::{
    set_name, set_no_new_privs, set_thread_groups, set_thread_res_gid, set_thread_res_uid,
};

use crate::os::capabilities;

/// `nobody`, whose number is the same everywhere (systemd's UIDS-GIDS).
const NOBODY: u32 = 65534;
/// Open files beside the sockets.
const OTHER_FILES: u64 = 32;

/// Closes what the tunnel was started with and that isn't its own, all but the standard streams.
/// Call it before anything is opened.
pub(crate) fn close_inherited() {
    // SAFETY: this process has just begun, and nothing in it owns a descriptor above these yet.
    // Kernels before 5.9 can't do it, which leaves them as they are.
    let _ = unsafe { libc::syscall(libc::SYS_close_range, 3_u32, u32::MAX, 0_u32) };
}

/// From now on this thread, and each that it starts, may do no more than anybody. It must be the
/// only one yet. `ss` and `ps` show it by `name`; it may have `sockets` open.
pub(super) fn confine(name: &CStr, sockets: usize) -> io::Result<()> {
    set_name(name)?;
    let files = Some(OTHER_FILES.saturating_add(sockets as u64));
    let files = Rlimit {
        current: files,
        maximum: files,
    };
    setrlimit(Resource::Nofile, files)?;
    give_up_rights()?;
    // After that, which takes it back. A process that is stopped ends with its tunnel, too.
    set_parent_process_death_signal(Some(Signal::KILL))?;
    Ok(())
}

fn give_up_rights() -> io::Result<()> {
    set_no_new_privs(true)?;
    if getuid().is_root() {
        become_nobody()?;
    }
    // Those of a hub that runs without root, too, whose user this stays.
    capabilities::give_up()
}

/// Where root may not become another, as in some containers, it stays root without capabilities.
fn become_nobody() -> io::Result<()> {
    let (user, group) = (Uid::from_raw(NOBODY), Gid::from_raw(NOBODY));
    let became = set_thread_groups(&[])
        .and_then(|()| set_thread_res_gid(group, group, group))
        .and_then(|()| set_thread_res_uid(user, user, user));
    match became {
        Err(Errno::PERM) => Ok(()),
        other => Ok(other?),
    }
}

#[cfg(test)]
mod tests {
    use rustix::thread::{
        CapabilitySet, CapabilitySets, configure_capability_in_ambient_set, set_capabilities,
        set_keep_capabilities, set_thread_res_uid,
    };

    use super::*;

    /// What a thread may do once it gave up its rights, having had those that `before` leaves.
    fn left_after(before: fn() -> io::Result<()>) -> String {
        let thread = std::thread::spawn(move || {
            before()?;
            give_up_rights()?;
            std::fs::read_to_string("/proc/thread-self/status")
        });
        thread.join().unwrap().unwrap()
    }

    fn lacks_capabilities(status: &str) {
        for set in ["CapInh", "CapPrm", "CapEff", "CapAmb"] {
            let line = format!("{set}:\t0000000000000000");
            assert!(status.lines().any(|it| it == line), "{set} in {status}");
        }
        assert!(status.contains("NoNewPrivs:\t1"), "{status}");
    }

    #[test]
    fn root_becomes_nobody() {
        let status = left_after(|| Ok(()));
        lacks_capabilities(&status);
        if getuid().is_root() {
            assert!(
                status.contains("Uid:\t65534\t65534\t65534\t65534"),
                "{status}"
            );
        }
    }

    #[test]
    fn another_user_loses_the_capabilities_that_it_was_given() {
        let status = left_after(|| {
            if !getuid().is_root() {
                return Ok(());
            }
            let user = Uid::from_raw(1234);
            set_keep_capabilities(true)?;
            set_thread_res_uid(user, user, user)?;
            let some = CapabilitySet::NET_ADMIN;
            let some = CapabilitySets {
                effective: some,
                permitted: some,
                inheritable: some,
            };
            set_capabilities(None, some)?;
            Ok(configure_capability_in_ambient_set(
                CapabilitySet::NET_ADMIN,
                true,
            )?)
        });
        lacks_capabilities(&status);
    }

    #[test]
    fn root_that_may_not_become_another_loses_its_capabilities_too() {
        let status = left_after(|| {
            if !getuid().is_root() {
                return Ok(());
            }
            let some = CapabilitySet::NET_ADMIN;
            let some = CapabilitySets {
                effective: some,
                permitted: some,
                inheritable: some,
            };
            Ok(set_capabilities(None, some)?)
        });
        lacks_capabilities(&status);
    }
}
