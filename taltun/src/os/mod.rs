//! Calls to the kernel that more than one part of Taltun needs, behind safe functions.
//!
//! | file | concern |
//! |---|---|
//! | `interface` | interfaces by name and by number, and their settings by `ioctl` |
//! | `netlink` | links, addresses, routes and neighbours, and hearing of their changes |
//! | `options` | options of sockets |
//!
//! What only the data plane does, each packet or each batch, is in `dataplane::sys`.

pub(crate) mod interface;
pub(crate) mod netlink;
pub(crate) mod options;

use std::io;

/// Turns what a system call returned into a Rust result.
pub(crate) fn check(result: libc::c_int) -> io::Result<libc::c_int> {
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(result)
    }
}
