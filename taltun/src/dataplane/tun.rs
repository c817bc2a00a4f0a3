//! TUN queues: where the operating system's packets come from and go to.

use std::fs::{File, OpenOptions};
use std::io::{self, IoSlice, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use super::offload::coalesce::Join;
use super::sys;
use crate::verbs::{self, Verb};

/// What a TUN may hand over uncut: unfinished checksums, TCP with and without ECN.
const TCP_OFFLOADS: libc::c_uint =
    libc::TUN_F_CSUM | libc::TUN_F_TSO4 | libc::TUN_F_TSO6 | libc::TUN_F_TSO_ECN;
/// The same for bursts of UDP, since Linux 6.2.
const UDP_OFFLOADS: libc::c_uint = libc::TUN_F_USO4 | libc::TUN_F_USO6;

/// One queue of a TUN interface. The interface lives as long as any queue of it.
///
/// Every packet, read or written, has a [`VnetHeader`](super::offload::vnet::VnetHeader)
/// before it.
#[derive(Debug)]
pub struct Tun {
    file: File,
    joins: Arc<Joins>,
}

/// What the kernel takes joined, for all queues. Once it is clear that it takes none, none is
/// tried again.
#[derive(Debug)]
struct Joins {
    tcp: AtomicBool,
    udp: AtomicBool,
    /// Joined packets refused since one was last taken.
    refusals: AtomicU32,
}

/// The device of all TUN interfaces.
pub const DEVICE: &str = "/dev/net/tun";

/// Refusals in a row after which joining is given up. A single one may be about its packet.
const PATIENCE: u32 = 16;

impl Tun {
    /// Creates the interface `name` with `queues` queues, to which others may be added if `more`,
    /// with segmentation offload if `offload` and the kernel has it.
    ///
    /// # Errors
    /// `EBUSY` when another process holds the interface, `EPERM` without `CAP_NET_ADMIN`,
    /// `ENOENT` without `/dev/net/tun`.
    pub fn create(name: &str, queues: usize, more: bool, offload: bool) -> io::Result<Vec<Self>> {
        let several = queues > 1 || more;
        let files = (0..queues)
            .map(|_| open(name, several))
            .collect::<io::Result<Vec<_>>>()?;
        // The offloads are the interface's, not the queue's, so the first file stands for
        // all. Each kernel gets as much as it knows.
        let accepts = |offloads| {
            offload
                && files
                    .first()
                    .is_some_and(|file| sys::tun_set_offload(file, offloads).is_ok())
        };
        let udp = accepts(TCP_OFFLOADS | UDP_OFFLOADS);
        let tcp = udp || accepts(TCP_OFFLOADS);
        let joins = Arc::new(Joins {
            tcp: AtomicBool::new(tcp),
            udp: AtomicBool::new(udp),
            refusals: AtomicU32::new(0),
        });
        Ok(files
            .into_iter()
            .map(|file| Self {
                file,
                joins: Arc::clone(&joins),
            })
            .collect())
    }

    /// Another queue of the same interface, which comes after all that it has.
    ///
    /// # Errors
    /// `EINVAL` if it was created for no more than it has.
    pub fn open_another(&self) -> io::Result<Self> {
        Ok(Self {
            file: open(&self.name()?, true)?,
            joins: Arc::clone(&self.joins),
        })
    }

    /// Has an eBPF program choose the queue of each packet, by its number modulo that of queues.
    ///
    /// # Errors
    /// `EINVAL` before Linux 4.16, or for a program of another kind.
    pub fn steer_by(&self, program: BorrowedFd<'_>) -> io::Result<()> {
        sys::tun_set_steering(&self.file, program)
    }

    /// A second handle on the same queue, for the other direction.
    pub fn try_clone(&self) -> io::Result<Self> {
        Ok(Self {
            file: self.file.try_clone()?,
            joins: Arc::clone(&self.joins),
        })
    }

    /// The interface's name now, wherever it was moved to.
    pub fn name(&self) -> io::Result<String> {
        sys::tun_interface(&self.file)
    }

    /// The network namespace that the interface is in now.
    ///
    /// # Errors
    /// `EINVAL` before Linux 5.6, which doesn't tell.
    pub fn namespace(&self) -> io::Result<OwnedFd> {
        sys::tun_namespace(&self.file)
    }

    /// Reads one header and what it describes, without waiting.
    pub fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        (&self.file).read(buffer)
    }

    /// Writes one header and what it describes, gathered from pieces.
    pub fn write(&self, pieces: &[IoSlice<'_>]) -> io::Result<()> {
        (&self.file).write_vectored(pieces).map(drop)
    }

    /// What may be written joined.
    pub fn joins(&self) -> Join {
        Join {
            tcp: self.joins.tcp.load(Ordering::Relaxed),
            udp: self.joins.udp.load(Ordering::Relaxed),
        }
    }

    /// The kernel took a joined packet.
    pub fn joined(&self) {
        if self.joins.refusals.load(Ordering::Relaxed) > 0 {
            self.joins.refusals.store(0, Ordering::Relaxed);
        }
    }

    /// The kernel refused a joined packet by this error and took its parts. If the error says
    /// that joined packets aren't supported, and goes on doing so, none is written any more;
    /// true when that is so from now on. Any other error is about the moment, as `EIO` is
    /// while the interface is down.
    pub fn refused_joined(&self, error: &io::Error) -> bool {
        let unsupported = matches!(error.raw_os_error(), Some(libc::EINVAL | libc::EOPNOTSUPP));
        if !unsupported || self.joins.refusals.fetch_add(1, Ordering::Relaxed) + 1 < PATIENCE {
            return false;
        }
        self.joins.tcp.store(false, Ordering::Relaxed);
        self.joins.udp.store(false, Ordering::Relaxed);
        true
    }
}

/// What each queue is: packets alone, each with a header before it.
const FLAGS: libc::c_int = libc::IFF_TUN | libc::IFF_NO_PI | libc::IFF_VNET_HDR;

fn open(name: &str, several: bool) -> io::Result<File> {
    let opened = verbs::open_one(Verb::Queue { several }, || open_queue(name, several));
    opened.map(File::from)
}

/// Opens a queue of the interface `name`, which is created if there is none, for `several` if so.
///
/// # Errors
/// As [`Tun::create`]'s.
pub fn open_queue(name: &str, several: bool) -> io::Result<OwnedFd> {
    let more = if several { libc::IFF_MULTI_QUEUE } else { 0 };
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(libc::O_NONBLOCK | libc::O_CLOEXEC)
        .open(DEVICE)?;
    sys::tun_set_interface(&file, name, FLAGS | more)?;
    Ok(file.into())
}

impl AsFd for Tun {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}
