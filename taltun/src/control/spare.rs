//! Memory that was needed once, to read a big file, and isn't any more.

#[cfg(target_env = "gnu")]
use crate::os::locked_memory;

/// Gives what is free back to the system: an allocator keeps it for the next time, which may
/// not come.
pub(super) fn give_back() {
    #[cfg(target_env = "gnu")]
    locked_memory::unlocked_for(|| {
        // SAFETY: no pointers are passed, and nothing but free memory is touched.
        unsafe { libc::malloc_trim(0) };
    });
}
