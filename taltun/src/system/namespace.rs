//! Network namespaces by their inode, by which a journal names its own.

use std::fs::{self, File};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

/// Where a namespace is.
#[derive(Debug)]
pub(super) enum Place {
    /// The calling thread is in it.
    Here,
    /// Somewhere else, by this file.
    There(File),
    /// Nothing is in it any more, so all that was in it is gone.
    Gone,
}

/// Finds the namespace with this inode: that of the calling thread, of any process, or one
/// with a name of its own.
pub(super) fn find(inode: u64) -> Place {
    if current().is_ok_and(|own| own == inode) {
        return Place::Here;
    }
    let processes = entries("/proc").filter(|path| {
        let name = path.file_name().and_then(|name| name.to_str());
        name.is_some_and(|name| name.bytes().all(|byte| byte.is_ascii_digit()))
    });
    let of_processes = processes.map(|process| process.join("ns/net"));
    let named = ["/run/netns", "/var/run/netns"]
        .into_iter()
        .flat_map(entries);
    named
        .chain(of_processes)
        .find(|path| fs::metadata(path).is_ok_and(|found| found.ino() == inode))
        .and_then(|path| File::open(path).ok())
        .map_or(Place::Gone, Place::There)
}

/// Inode of the network namespace of the calling thread.
pub fn current() -> io::Result<u64> {
    Ok(fs::metadata("/proc/thread-self/ns/net")?.ino())
}

/// Moves the calling thread, and what it starts from now on, into a namespace.
pub(super) fn enter(namespace: &File) -> io::Result<()> {
    // SAFETY: the descriptor is open for as long as the call takes, and no pointer is passed.
    if unsafe { libc::setns(namespace.as_raw_fd(), libc::CLONE_NEWNET) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

fn entries(directory: &str) -> impl Iterator<Item = PathBuf> + use<> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries.map(|entry| entry.path())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_own_namespace_is_here_and_one_that_nobody_has_is_gone() {
        assert!(matches!(find(current().unwrap()), Place::Here));
        assert!(matches!(find(1), Place::Gone));
    }
}
