//! The sparse queues of the TUN: what of each worker's packets doesn't wait behind bulk. The program
//! that fills them, and what both sides must do so that no packet overtakes another of its
//! flow, is in [`taltun_common::sparse`].

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use super::sys::SharedWords;
use super::tun::Tun;

/// The program that fills them.
#[derive(Debug)]
pub struct Chooser {
    /// Itself. The interface holds it anyway; open here, `bpftool` shows whose it is.
    pub program: OwnedFd,
    /// The map in which workers say until when they have drained their bulk queues.
    pub drained: OwnedFd,
}

/// All of them.
#[derive(Debug)]
pub struct SparseQueues {
    tuns: Vec<Tun>,
    drained: Arc<SharedWords>,
    _program: OwnedFd,
}

/// One worker's.
#[derive(Debug)]
pub struct SparseQueue {
    tun: Tun,
    drained: Arc<SharedWords>,
    worker: usize,
}

impl SparseQueues {
    /// Adds one for each of the interface's `bulk` queues, which must be all that it has.
    ///
    /// # Errors
    /// What the kernel refuses. The interface is as it was then.
    pub fn open(bulk: &[Tun], chooser: Chooser) -> io::Result<Self> {
        let drained = Arc::new(SharedWords::map(chooser.drained.as_fd(), bulk.len())?);
        let tuns = bulk
            .iter()
            .map(Tun::open_another)
            .collect::<io::Result<_>>()?;
        Ok(Self {
            tuns,
            drained,
            _program: chooser.program,
        })
    }

    /// A handle on a worker's.
    pub fn of_worker(&self, worker: usize) -> io::Result<Option<SparseQueue>> {
        let Some(tun) = self.tuns.get(worker) else {
            return Ok(None);
        };
        Ok(Some(SparseQueue {
            tun: tun.try_clone()?,
            drained: Arc::clone(&self.drained),
            worker,
        }))
    }
}

impl SparseQueue {
    /// Reads one header and what it describes, without waiting.
    pub fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        self.tun.read(buffer)
    }

    /// What came into the bulk queue before this moment of `os::monotonic`
    /// has been read from it and sent on.
    pub fn has_drained_bulk(&self, until: Duration) {
        self.drained.set(self.worker, until.as_nanos() as u64);
    }
}

impl AsFd for SparseQueue {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.tun.as_fd()
    }
}
