//! Memory that is shared with the kernel.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr::{self, NonNull};

/// A piece of mapped memory, given back when dropped. Nothing here reads or writes it.
#[derive(Debug)]
pub(super) struct Mapping {
    start: NonNull<u8>,
    len: usize,
}

// SAFETY: a mapping belongs to the process, not to a thread, and this type gives no access
// to what is in it.
unsafe impl Send for Mapping {}
// SAFETY: as above.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// New memory, all zero.
    pub(super) fn anonymous(len: usize) -> io::Result<Self> {
        Self::map(len, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS, -1, 0)
    }

    /// The part of a socket's memory that starts at `offset`.
    pub(super) fn of_socket(
        socket: BorrowedFd<'_>,
        offset: libc::off_t,
        len: usize,
    ) -> io::Result<Self> {
        Self::map(len, libc::MAP_SHARED, socket.as_raw_fd(), offset)
    }

    fn map(
        len: usize,
        flags: libc::c_int,
        fd: libc::c_int,
        offset: libc::off_t,
    ) -> io::Result<Self> {
        // SAFETY: without an address, and without MAP_FIXED, no mapping that is in use is
        // touched; the kernel checks all else.
        let start = unsafe {
            libc::mmap(
                ptr::null_mut(),
                len,
                libc::PROT_READ | libc::PROT_WRITE,
                flags | libc::MAP_POPULATE,
                fd,
                offset,
            )
        };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let start = NonNull::new(start.cast()).ok_or(io::ErrorKind::InvalidData)?;
        Ok(Self { start, len })
    }

    /// Where it starts.
    pub(super) fn start(&self) -> NonNull<u8> {
        self.start
    }

    /// Its bytes.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// A pointer to `count` values from `offset` on.
    ///
    /// # Errors
    /// `InvalidData` if they don't lie in this memory or aren't aligned.
    pub(super) fn values<T>(&self, offset: u64, count: usize) -> io::Result<NonNull<T>> {
        let invalid = || io::Error::from(io::ErrorKind::InvalidData);
        let offset = usize::try_from(offset).map_err(|_| invalid())?;
        let end = count
            .checked_mul(size_of::<T>())
            .and_then(|bytes| bytes.checked_add(offset))
            .ok_or_else(invalid)?;
        if end > self.len {
            return Err(invalid());
        }
        // SAFETY: `offset` is within the mapping, as just checked.
        let at = unsafe { self.start.add(offset) }.cast::<T>();
        if at.is_aligned() {
            Ok(at)
        } else {
            Err(invalid())
        }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: this is exactly what was mapped, and nobody can refer to it any more: all
        // who do so hold the mapping.
        unsafe { libc::munmap(self.start.as_ptr().cast(), self.len) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_beyond_the_end_or_across_it_are_refused() {
        let memory = Mapping::anonymous(4096).unwrap();
        assert!(memory.values::<u64>(4088, 1).is_ok());
        assert!(memory.values::<u64>(4088, 2).is_err());
        assert!(memory.values::<u64>(4, 1).is_err(), "not aligned");
        assert!(memory.values::<u64>(u64::MAX, 1).is_err());
        assert!(memory.values::<u64>(0, usize::MAX).is_err());
    }
}
