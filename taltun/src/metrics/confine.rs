//! Gives up every right that this process doesn't need, which is all of them: its sockets are
//! open by then.

use std::io;

use rustix::process::{Gid, Resource, Rlimit, Uid, getuid, setrlimit};
use rustix::thread::{set_no_new_privs, set_thread_groups, set_thread_res_gid, set_thread_res_uid};

/// `nobody`, whose number is the same everywhere (systemd's UIDS-GIDS).
const NOBODY: u32 = 65534;
/// Open files: its sockets, and the scrapers'.
const FILES: u64 = 128;

/// From now on this thread, and each that it starts, may do no more than anybody. It must be the
/// only one yet.
pub(super) fn confine() -> io::Result<()> {
    set_no_new_privs(true)?;
    let files = Rlimit {
        current: Some(FILES),
        maximum: Some(FILES),
    };
    setrlimit(Resource::Nofile, files)?;
    if getuid().is_root() {
        let (user, group) = (Uid::from_raw(NOBODY), Gid::from_raw(NOBODY));
        set_thread_groups(&[])?;
        set_thread_res_gid(group, group, group)?;
        // The capabilities go with this.
        set_thread_res_uid(user, user, user)?;
    }
    Ok(())
}
