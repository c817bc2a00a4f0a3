//! Calls to the kernel that more than one part of Taltun needs, behind safe functions.
//!
//! | file | concern |
//! |---|---|
//! | `capabilities` | the capabilities of a thread, and giving them up |
//! | `ethtool` | settings of interfaces by ethtool's requests |
//! | `interface` | interfaces by name and by number, and their settings by `ioctl` |
//! | `link_layer` | Ethernet frames past the network stack |
//! | `locked_memory` | keeping memory with keys from being swapped |
//! | `netlink` | links, addresses, routes and neighbours, and hearing of their changes |
//! | `open_files` | how many files may be open |
//! | `options` | options of sockets |
//! | `seccomp` | restricting a thread's system calls |
//! | `sockets` | sockets with a mark, of one interface alone, or for ICMP |
//! | `signals` | signals that are for another process |
//! | `service_manager` | what systemd is told of a tunnel |
//!
//! What only the data plane does, each packet or each batch, is in `dataplane::sys`.

pub(crate) mod capabilities;
pub(crate) mod ethtool;
pub(crate) mod interface;
#[cfg(feature = "fleet")]
pub(crate) mod link_layer;
pub(crate) mod locked_memory;
pub(crate) mod netlink;
pub(crate) mod open_files;
pub(crate) mod options;
pub(crate) mod seccomp;
mod service_manager;
pub(crate) mod signals;
pub(crate) mod sockets;

use std::io;
use std::time::Duration;

pub(crate) use service_manager::service_manager;

/// Turns what a system call returned into a Rust result.
pub(crate) fn check(result: libc::c_int) -> io::Result<libc::c_int> {
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(result)
    }
}

/// The clock that only goes forward and stands while the machine sleeps.
pub(crate) fn monotonic() -> Duration {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: `time` is a valid place to write one timespec to.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut time) };
    let nanos = u32::try_from(time.tv_nsec).unwrap_or_default();
    Duration::new(time.tv_sec.unsigned_abs(), nanos)
}
