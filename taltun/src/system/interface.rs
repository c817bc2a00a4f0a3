//! Interfaces by name and by number, in the network namespace of the calling thread.

use std::ffi::{CStr, CString};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// The number of the interface called `name`, if there is one.
pub(crate) fn index(name: &str) -> Option<u32> {
    let name = CString::new(name).ok()?;
    // SAFETY: `name` is a C string that lives until after the call, which only reads it.
    let index = unsafe { libc::if_nametoindex(name.as_ptr()) };
    (index != 0).then_some(index)
}

/// Whether no interface is called `name`, or none is any more within a second: that of a process
/// that was killed goes a moment later. Blocks meanwhile.
pub fn interface_goes(name: &str) -> bool {
    let end = Instant::now() + Duration::from_secs(1);
    while index(name).is_some() {
        if Instant::now() > end {
            return false;
        }
        sleep(Duration::from_millis(20));
    }
    true
}

/// The name of the interface with this number, or the number where it has gone meanwhile.
pub(super) fn name(index: u32) -> String {
    name_of(index).unwrap_or_else(|| format!("interface number {index}"))
}

/// The name of the interface with this number, if there is one.
pub(super) fn name_of(index: u32) -> Option<String> {
    let mut buffer = [0_u8; libc::IF_NAMESIZE];
    // SAFETY: the buffer has the IF_NAMESIZE bytes that the call may write.
    let found = unsafe { libc::if_indextoname(index, buffer.as_mut_ptr().cast()) };
    let text = (!found.is_null())
        .then(|| CStr::from_bytes_until_nul(&buffer).ok())
        .flatten()?;
    Some(text.to_string_lossy().into_owned())
}
