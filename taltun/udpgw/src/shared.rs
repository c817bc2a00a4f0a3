//! What the clients of a worker share, and what a worker shows to other threads. Nothing else
//! leaves its thread.

use std::cell::{Cell, RefCell};
use std::io;
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use tracing::debug;

use crate::counters::Counters;
use crate::destinations::Verdict;
use crate::host::Host;
use crate::options::Options;
use crate::receive::Receiver;

/// How many bytes of a client's are read at once.
const READ: usize = 64 << 10;

/// A client that a worker is to serve.
pub(crate) struct Accepted {
    pub(crate) stream: TcpStream,
    pub(crate) address: SocketAddr,
}

/// What a worker shows to other threads.
#[derive(Debug, Default)]
pub(crate) struct Public {
    pub(crate) counters: Arc<Counters>,
    /// How many clients it has, those on the way to it included.
    pub(crate) clients: AtomicUsize,
    pub(crate) connections: AtomicUsize,
}

/// What its clients share.
pub(crate) struct Worker {
    pub(crate) options: Arc<Options>,
    pub(crate) counters: Arc<Counters>,
    pub(crate) host: Host,
    /// Where the search for a local port ended.
    pub(crate) last_port: Cell<u16>,
    /// Where clients' bytes are read to.
    pub(crate) buffer: RefCell<Box<[u8]>>,
    receiver: RefCell<Receiver>,
    public: Arc<Public>,
}

impl Worker {
    pub(crate) fn new(options: Arc<Options>, public: Arc<Public>) -> Self {
        Self {
            options,
            counters: public.counters.clone(),
            host: Host::default(),
            last_port: Cell::new(0),
            buffer: RefCell::new(vec![0; READ].into_boxed_slice()),
            receiver: RefCell::default(),
            public,
        }
    }

    /// What lets a client send to `destination`; none if nothing does, which is counted.
    pub(crate) fn may_send(&self, destination: SocketAddr, now: Instant) -> Option<Verdict> {
        let verdict = self.options.destinations.judge(destination.ip());
        let owned = || self.host.owns(destination.ip(), now);
        if destination.port() == 0
            || verdict == Verdict::Denied
            || verdict == Verdict::AllowedIfForeign && owned()
        {
            debug!("a client may not send to {destination}");
            self.counters.dropped_destination.increment();
            return None;
        }
        Some(verdict)
    }

    /// Reads what `socket` has: see [`Receiver::receive`].
    pub(crate) fn receive(&self, socket: &UdpSocket, each: impl FnMut(&[u8])) -> io::Result<usize> {
        self.receiver.borrow_mut().receive(socket, each)
    }

    pub(crate) fn connection_opened(&self) {
        self.public.connections.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn connection_closed(&self) {
        self.public.connections.fetch_sub(1, Ordering::Relaxed);
    }
}
