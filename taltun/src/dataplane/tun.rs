//! TUN queues: where the operating system's packets come from and go to.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::OpenOptionsExt;

use super::sys;

/// One queue of a TUN interface. The interface lives as long as any queue of it.
#[derive(Debug)]
pub struct Tun {
    file: File,
}

impl Tun {
    /// Creates the interface `name` with `queues` queues.
    ///
    /// # Errors
    /// `EBUSY` when another process holds the interface, `EPERM` without `CAP_NET_ADMIN`,
    /// `ENOENT` without `/dev/net/tun`.
    pub fn create(name: &str, queues: usize) -> io::Result<Vec<Self>> {
        let mut flags = libc::IFF_TUN | libc::IFF_NO_PI;
        if queues > 1 {
            flags |= libc::IFF_MULTI_QUEUE;
        }
        (0..queues)
            .map(|_| {
                let file = OpenOptions::new()
                    .read(true)
                    .write(true)
                    .custom_flags(libc::O_NONBLOCK | libc::O_CLOEXEC)
                    .open("/dev/net/tun")?;
                sys::tun_set_interface(&file, name, flags)?;
                Ok(Self { file })
            })
            .collect()
    }

    /// A second handle on the same queue, for the other direction.
    pub fn try_clone(&self) -> io::Result<Self> {
        Ok(Self {
            file: self.file.try_clone()?,
        })
    }

    /// Reads one packet, without waiting.
    pub fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        (&self.file).read(buffer)
    }

    /// Writes one packet.
    pub fn write(&self, packet: &[u8]) -> io::Result<()> {
        (&self.file).write(packet).map(drop)
    }
}

impl AsFd for Tun {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}
