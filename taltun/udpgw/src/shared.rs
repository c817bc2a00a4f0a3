//! What the clients of a worker share, and what a worker shows to other threads. Nothing else
//! leaves its thread.

use std::cell::{Cell, RefCell};
use std::io;
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use tokio::sync::OwnedSemaphorePermit;

use crate::counters::Counters;
use crate::destinations::Verdict;
use crate::files::{Place, Places};
use crate::host::Host;
use crate::options::Options;
use crate::receive::Receiver;
use crate::routes::Routes;

/// How many bytes of a client's are read at once.
pub(crate) const READ: usize = 64 << 10;

/// A client that a worker is to serve.
pub(crate) struct Accepted {
    pub(crate) stream: TcpStream,
    pub(crate) address: SocketAddr,
    pub(crate) place: Place,
    /// Its turn to begin, until it has.
    pub(crate) turn: OwnedSemaphorePermit,
    /// Whether many others wait for theirs.
    pub(crate) crowded: bool,
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
    /// Places for the sockets of all connections, those of other workers included.
    pub(crate) places: Arc<Places>,
    routes: Routes,
    /// Where the search for a local port ended.
    pub(crate) last_port: Cell<u16>,
    /// Where clients' bytes are read to.
    pub(crate) buffer: RefCell<Box<[u8]>>,
    receiver: RefCell<Receiver>,
    public: Arc<Public>,
}

impl Worker {
    pub(crate) fn new(options: Arc<Options>, public: Arc<Public>, places: Arc<Places>) -> Self {
        let routes = Routes::default();
        // It is tried again when it is needed.
        let _ = routes.connect();
        Self {
            options,
            counters: public.counters.clone(),
            host: Host::default(),
            places,
            routes,
            last_port: Cell::new(0),
            buffer: RefCell::new(vec![0; READ].into_boxed_slice()),
            receiver: RefCell::default(),
            public,
        }
    }

    /// What lets a client send to `destination`; none if nothing does, which is counted.
    pub(crate) fn may_send(&self, destination: SocketAddr, now: Instant) -> Option<Verdict> {
        let ip = destination.ip();
        let verdict = self.options.destinations.judge(ip);
        let may = match verdict {
            _ if destination.port() == 0 => Ok(false),
            Verdict::Denied => Ok(false),
            Verdict::Allowed => Ok(true),
            Verdict::AllowedIfForeign => self.routes.lead_away(ip, now),
        };
        match may {
            Ok(true) => return Some(verdict),
            Ok(false) => self.counters.dropped_destination.increment(),
            Err(error) => self.count_no_socket(&error),
        }
        None
    }

    /// Counts a datagram that found no socket.
    pub(crate) fn count_no_socket(&self, error: &io::Error) {
        if is_want_of_files(error) {
            self.counters.dropped_no_file.increment();
        } else {
            self.counters.dropped_no_socket.increment();
        }
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

/// Whether something failed for want of files, ports or memory, and not because of where it goes.
pub(crate) fn is_want(error: &io::Error) -> bool {
    let wants = [
        libc::EADDRINUSE,
        libc::EAGAIN,
        libc::EINTR,
        libc::ENOBUFS,
        libc::ENOMEM,
    ];
    is_want_of_files(error)
        || error.kind() == io::ErrorKind::AddrInUse
        || error.raw_os_error().is_some_and(|it| wants.contains(&it))
}

/// Whether something failed because no more files can be open.
pub(crate) fn is_want_of_files(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE))
}
