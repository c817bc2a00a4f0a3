//! Words of memory that an eBPF program reads, written without a system call: an array map that is
//! mapped into memory.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicU64, Ordering};

/// The map's first values, of eight bytes each.
#[derive(Debug)]
pub struct SharedWords {
    memory: NonNull<AtomicU64>,
    words: usize,
}

// SAFETY: it is memory that atomics alone are made of, and that stays where it is until the drop.
unsafe impl Send for SharedWords {}
// SAFETY: as above.
unsafe impl Sync for SharedWords {}

impl SharedWords {
    /// Maps the first `words` values of an array map that was made with `BPF_F_MMAPABLE`.
    ///
    /// # Errors
    /// `ENOTSUPP` for a map that wasn't, `EINVAL` for more than it has.
    pub fn map(array: BorrowedFd<'_>, words: usize) -> io::Result<Self> {
        // SAFETY: the kernel chooses an address where nothing is.
        let memory = unsafe {
            libc::mmap(
                ptr::null_mut(),
                words * size_of::<AtomicU64>(),
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED,
                array.as_raw_fd(),
                0,
            )
        };
        if memory == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let memory = NonNull::new(memory.cast()).ok_or(io::ErrorKind::AddrNotAvailable)?;
        // The mapping holds the map.
        Ok(Self { memory, words })
    }

    /// Sets one of them, after all that this thread did before.
    pub fn set(&self, word: usize, value: u64) {
        assert!(word < self.words, "{word} of {} words", self.words);
        // SAFETY: it is within the mapping, which is of so many words, each of which is aligned, as
        // the mapping begins with a page; everybody changes it in one piece.
        let word = unsafe { self.memory.add(word).as_ref() };
        word.store(value, Ordering::Release);
    }
}

impl Drop for SharedWords {
    fn drop(&mut self) {
        // SAFETY: this is the mapping that was made, which nobody can have a reference into.
        unsafe {
            libc::munmap(
                self.memory.as_ptr().cast(),
                self.words * size_of::<AtomicU64>(),
            )
        };
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::Read;
    use std::os::fd::{AsFd, FromRawFd};

    use super::*;
    use crate::os::check;

    /// A file in memory stands for the map: to map it is the same.
    #[test]
    fn what_is_set_is_what_others_read() {
        // SAFETY: the name is a string that outlives the call.
        let fd = check(unsafe { libc::memfd_create(c"words".as_ptr(), libc::MFD_CLOEXEC) });
        // SAFETY: the kernel just gave us this descriptor, nobody else has it.
        let mut file = unsafe { File::from_raw_fd(fd.unwrap()) };
        file.set_len(4096).unwrap();
        let words = SharedWords::map(file.as_fd(), 3).unwrap();
        words.set(1, 0x0102_0304_0506_0708);
        words.set(2, u64::MAX);
        drop(words);
        let mut read = [0; 32];
        file.read_exact(&mut read).unwrap();
        let value = |at: usize| u64::from_ne_bytes(read[8 * at..8 * at + 8].try_into().unwrap());
        assert_eq!(
            [0, 1, 2, 3].map(value),
            [0, 0x0102_0304_0506_0708, u64::MAX, 0]
        );
    }

    #[test]
    fn what_is_no_such_map_is_an_error() {
        let directory = File::open("/proc").unwrap();
        assert!(SharedWords::map(directory.as_fd(), 1).is_err());
    }
}
