//! Interfaces by name and by number, in the network namespace of the calling thread.

use std::ffi::{CStr, CString};

/// The number of the interface called `name`, if there is one.
pub(crate) fn index(name: &str) -> Option<u32> {
    let name = CString::new(name).ok()?;
    // SAFETY: `name` is a C string that lives until after the call, which only reads it.
    let index = unsafe { libc::if_nametoindex(name.as_ptr()) };
    (index != 0).then_some(index)
}

/// The name of the interface with this number, or the number where it has gone meanwhile.
pub(super) fn name(index: u32) -> String {
    let mut buffer = [0_u8; libc::IF_NAMESIZE];
    // SAFETY: the buffer has the IF_NAMESIZE bytes that the call may write.
    let found = unsafe { libc::if_indextoname(index, buffer.as_mut_ptr().cast()) };
    let text = (!found.is_null())
        .then(|| CStr::from_bytes_until_nul(&buffer).ok())
        .flatten();
    match text {
        Some(text) => text.to_string_lossy().into_owned(),
        None => format!("interface number {index}"),
    }
}
