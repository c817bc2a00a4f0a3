//! A connection: the UDP socket of one of a client's ids.
//!
//! The socket is connected, so that only who the client named can answer. A task puts what comes
//! into the client's queue. Whoever closes the connection closes the socket at once; the task
//! ends when its turn comes.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use tokio::io::unix::AsyncFd;
use tokio::task::{AbortHandle, yield_now};
use tracing::debug;

use crate::codec::Datagram;
use crate::files::Place;
use crate::host::{self, Asker};
use crate::outbox::{Outbox, Refused};
use crate::receive::BATCH;
use crate::shared::{Worker, is_want};
use crate::turn::{Done, Turn};

/// A socket with so many errors in a row is left alone until something comes.
const ERRORS: usize = 16;
/// So many small datagrams are read before it is somebody else's turn.
const TURN: usize = 4 * BATCH;
/// A connection in use is judged again so often: addresses, routes and guarded networks change.
const JUDGED_FOR: Duration = Duration::from_secs(2);

/// A connection; its socket is closed when it is dropped.
pub(crate) struct Connection {
    shared: Rc<Shared>,
    task: AbortHandle,
}

/// A connection's socket, with its place among all of them.
pub(crate) struct Open {
    pub(crate) socket: AsyncFd<UdpSocket>,
    pub(crate) place: Place,
}

/// What a connection and its task have in common.
struct Shared {
    id: u16,
    /// What the client calls the other end.
    named: SocketAddr,
    /// What it is.
    destination: SocketAddr,
    /// Whose choice of a name server it is, if it is one.
    asker: Option<Rc<Asker>>,
    open: RefCell<Option<(AsyncFd<UdpSocket>, Place)>>,
    used: Cell<Instant>,
    judged: Cell<Instant>,
    worker: Rc<Worker>,
    outbox: Rc<Outbox>,
}

impl Connection {
    /// One for what `datagram` names, which is at `destination`.
    pub(crate) fn new(
        datagram: &Datagram<'_>,
        destination: SocketAddr,
        open: Open,
        asker: &Rc<Asker>,
        worker: Rc<Worker>,
        outbox: Rc<Outbox>,
        now: Instant,
    ) -> Self {
        worker.counters.opened.increment();
        worker.connection_opened();
        let shared = Rc::new(Shared {
            id: datagram.id,
            named: datagram.address,
            destination,
            asker: datagram.dns.then(|| asker.clone()),
            open: RefCell::new(Some((open.socket, open.place))),
            used: Cell::new(now),
            judged: Cell::new(now),
            worker,
            outbox,
        });
        let relay = shared.clone();
        let relay = async move {
            while let Done::Turn = poll_fn(|context| relay.poll_relay(context)).await {
                yield_now().await;
            }
        };
        let task = tokio::task::spawn_local(relay).abort_handle();
        Self { shared, task }
    }

    /// Whether this is what `datagram` is for.
    pub(crate) fn is_for(&self, datagram: &Datagram<'_>) -> bool {
        let dns = self.shared.asker.is_some();
        !datagram.rebind && self.shared.named == datagram.address && dns == datagram.dns
    }

    /// The name server that it asks, if it asks one.
    pub(crate) fn name_server(&self) -> Option<SocketAddr> {
        let asker = self.shared.asker.as_ref();
        asker.map(|_| self.shared.destination)
    }

    /// When it was used last.
    pub(crate) fn used(&self) -> Instant {
        self.shared.used.get()
    }

    /// Whether it is closed already, as its task does if a rule changes.
    pub(crate) fn is_closed(&self) -> bool {
        self.shared.is_closed()
    }

    /// Whether the rules still allow it; if not, that is counted.
    pub(crate) fn is_allowed(&self, now: Instant) -> bool {
        self.shared.is_allowed(now)
    }

    /// Sends a datagram. What isn't sent is counted; unless it is for a name server that can't be
    /// sent to, which is the error: another one may do.
    pub(crate) fn send(&self, payload: &[u8], now: Instant) -> io::Result<()> {
        let shared = &self.shared;
        let counters = &shared.worker.counters;
        shared.used.set(now);
        let open = shared.open.borrow();
        let Some((socket, _)) = &*open else {
            return Ok(());
        };
        let socket = socket.get_ref();
        let sent = match socket.send(payload) {
            // What came back for an earlier datagram.
            Err(error)
                if error.kind() == io::ErrorKind::ConnectionRefused && shared.asker.is_none() =>
            {
                socket.send(payload)
            }
            sent => sent,
        };
        match sent {
            Ok(_) => {
                counters.to_udp.increment();
                counters.to_udp_bytes.add(payload.len() as u64);
                if let Some(asker) = &shared.asker {
                    asker.asked(&shared.worker.host, shared.destination, now);
                }
            }
            Err(error) if error.raw_os_error() == Some(libc::EMSGSIZE) => {
                counters.dropped_size.increment();
            }
            Err(error) => {
                debug!("udpgw: cannot send to {}: {error}", shared.destination);
                if shared.asker.is_some() && !is_want(&error) {
                    return Err(error);
                }
                counters.dropped_send.increment();
            }
        }
        Ok(())
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.task.abort();
        self.shared.close();
    }
}

impl Shared {
    fn close(&self) {
        if self.open.take().is_some() {
            self.worker.connection_closed();
        }
    }

    fn is_closed(&self) -> bool {
        self.open.borrow().is_none()
    }

    fn is_allowed(&self, now: Instant) -> bool {
        if self.asker.is_some() || now.saturating_duration_since(self.judged.get()) <= JUDGED_FOR {
            return true;
        }
        self.judged.set(now);
        self.worker.may_send(self.destination, now).is_some()
    }

    /// Puts what comes to the socket into the client's queue, until the connection is closed.
    fn poll_relay(&self, context: &mut Context<'_>) -> Poll<Done<()>> {
        let now = Instant::now();
        if !self.is_closed() && !self.is_allowed(now) {
            self.worker.counters.closed_denied.increment();
            self.close();
        }
        let mut errors = 0;
        let mut turn = Turn::new(TURN);
        while !turn.is_over() {
            let open = self.open.borrow();
            let Some((socket, _)) = &*open else {
                return Poll::Ready(Done::All(()));
            };
            let Ok(mut ready) = ready!(socket.poll_read_ready(context)) else {
                return Poll::Ready(Done::All(()));
            };
            let mut has_answered = false;
            let received = self.worker.receive(socket.get_ref(), |payload| {
                turn.datagram(payload.len());
                has_answered |= self.asker.is_some() && host::is_answer(payload);
                self.take(payload);
            });
            match received {
                Ok(count) => {
                    errors = 0;
                    self.used.set(now);
                    if let Some(asker) = self.asker.as_ref().filter(|_| has_answered) {
                        asker.answered(&self.worker.host, self.destination, now);
                    }
                    if count < BATCH {
                        ready.clear_ready();
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => ready.clear_ready(),
                // An ICMP message, such as of a port that is closed: something may lie behind it.
                Err(error) => {
                    turn.work(BATCH);
                    if let Some(asker) = self.asker.as_ref().filter(|_| !is_want(&error)) {
                        asker.refused(&self.worker.host, self.destination, now);
                    }
                    errors += 1;
                    if errors > ERRORS {
                        errors = 0;
                        ready.clear_ready();
                    }
                }
            }
        }
        Poll::Ready(Done::Turn)
    }

    /// Puts a datagram into the queue, or drops it.
    fn take(&self, payload: &[u8]) {
        let counters = &self.worker.counters;
        if payload.len() > self.worker.options.udp_mtu {
            counters.dropped_size.increment();
            return;
        }
        match self.outbox.push(self.id, self.named, payload) {
            Ok(()) => {
                counters.to_client.increment();
                counters.to_client_bytes.add(payload.len() as u64);
            }
            Err(Refused::Full) => counters.dropped_slow_client.increment(),
            Err(Refused::TooLarge) => counters.dropped_size.increment(),
        }
    }
}
