//! A client's connections: a UDP socket for each id that it uses.
//!
//! A connection's socket is connected, so that only who the client named can answer. A task of
//! its own puts what comes into the client's queue; closing the connection ends it.

use std::cell::Cell;
use std::collections::HashMap;
use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::rc::Rc;
use std::time::{Duration, Instant};

use tokio::io::unix::AsyncFd;
use tokio::task::AbortHandle;
use tracing::debug;

use crate::codec::Datagram;
use crate::destinations::Verdict;
use crate::outbox::{Outbox, Refused};
use crate::receive::{self, BATCH};
use crate::shared::Worker;
use crate::sockets;

/// A socket with so many errors in a row is left alone until something comes.
const ERRORS: usize = 16;
/// A connection in use is judged again so often: addresses and guarded networks change.
const JUDGED_FOR: Duration = Duration::from_secs(2);

/// The connections of a client.
pub(crate) struct Connections {
    open: HashMap<u16, Connection>,
    worker: Rc<Worker>,
    outbox: Rc<Outbox>,
}

/// One of them.
struct Connection {
    shared: Rc<Shared>,
    /// The other end, where the rules are about it.
    ruled: Option<SocketAddr>,
    judged: Instant,
    task: AbortHandle,
    worker: Rc<Worker>,
}

/// What a connection and its task have in common.
struct Shared {
    id: u16,
    /// What the client calls the other end.
    named: SocketAddr,
    socket: AsyncFd<UdpSocket>,
    used: Cell<Instant>,
}

impl Connections {
    pub(crate) fn new(worker: Rc<Worker>, outbox: Rc<Outbox>) -> Self {
        Self {
            open: HashMap::new(),
            worker,
            outbox,
        }
    }

    /// Sends a datagram, on a new connection if it needs one.
    pub(crate) fn send(&mut self, datagram: &Datagram<'_>, now: Instant) {
        let counters = &self.worker.counters;
        if datagram.payload.len() > self.worker.options.udp_mtu {
            counters.dropped_size.increment();
            return;
        }
        if let Some(connection) = self.open.get(&datagram.id)
            && (datagram.rebind || connection.shared.named != datagram.address)
        {
            counters.closed_rebind.increment();
            self.open.remove(&datagram.id);
        }
        if let Some(connection) = self.open.get_mut(&datagram.id)
            && let Some(destination) = connection.ruled
            && now.saturating_duration_since(connection.judged) > JUDGED_FOR
        {
            connection.judged = now;
            if self.worker.may_send(destination, now).is_none() {
                self.open.remove(&datagram.id);
                return;
            }
        }
        if let Some(connection) = self.open.get(&datagram.id) {
            connection.send(datagram.payload, now);
        } else if let Some(connection) = self.open(datagram, now) {
            connection.send(datagram.payload, now);
            self.open.insert(datagram.id, connection);
        }
    }

    /// Opens a connection, if the client may have it, and closes another one if it had the most
    /// that it may have.
    fn open(&mut self, datagram: &Datagram<'_>, now: Instant) -> Option<Connection> {
        let worker = self.worker.clone();
        let counters = &worker.counters;
        let destination = if datagram.dns {
            let resolver = worker.host.resolver(now);
            if resolver.is_none() {
                counters.dropped_no_resolver.increment();
            }
            resolver?
        } else {
            // An IPv4 address within IPv6 is reached by IPv4.
            let ip = datagram.address.ip().to_canonical();
            SocketAddr::new(ip, datagram.address.port())
        };
        let verdict = if datagram.dns {
            Verdict::Allowed
        } else {
            worker.may_send(destination, now)?
        };
        let full = self.open.len() >= worker.options.max_connections;
        let mut socket = self.socket(destination, verdict);
        // What can't be sent at all is no reason to close another connection.
        let may_help = |error: &io::Error| {
            error.kind() == io::ErrorKind::AddrInUse || error.raw_os_error() == Some(libc::EMFILE)
        };
        if full && socket.as_ref().err().is_none_or(may_help) {
            self.close_least_recent();
            if socket.is_err() {
                socket = self.socket(destination, verdict);
            }
        }
        let socket = match socket {
            Ok(socket) => socket,
            Err(error) => {
                debug!("no socket for {destination}: {error}");
                counters.dropped_no_socket.increment();
                return None;
            }
        };
        let shared = Rc::new(Shared {
            id: datagram.id,
            named: datagram.address,
            socket,
            used: Cell::new(now),
        });
        let relay = relay(shared.clone(), self.worker.clone(), self.outbox.clone());
        counters.opened.increment();
        worker.connection_opened();
        Some(Connection {
            shared,
            ruled: (!datagram.dns).then_some(destination),
            judged: now,
            task: tokio::task::spawn_local(relay).abort_handle(),
            worker: self.worker.clone(),
        })
    }

    fn socket(&self, destination: SocketAddr, verdict: Verdict) -> io::Result<AsyncFd<UdpSocket>> {
        let worker = &self.worker;
        let socket = sockets::connection(destination, &worker.options, &worker.last_port)?;
        // An address that the kernel takes for ours without any interface's having it.
        let local = socket.local_addr()?.ip();
        if verdict == Verdict::AllowedIfForeign && local == destination.ip() {
            return Err(io::ErrorKind::PermissionDenied.into());
        }
        receive::watch(socket)
    }

    fn close_least_recent(&mut self) {
        let oldest = self.open.values().min_by_key(|open| open.shared.used.get());
        if let Some(id) = oldest.map(|oldest| oldest.shared.id) {
            self.worker.counters.closed_least_recent.increment();
            self.open.remove(&id);
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.open.is_empty()
    }

    /// Closes those that weren't used for `timeout`; when the next may be due.
    pub(crate) fn close_unused(&mut self, timeout: Duration, now: Instant) -> Option<Instant> {
        let before = self.open.len();
        let due = |open: &Connection| open.shared.used.get() + timeout;
        self.open.retain(|_, open| due(open) > now);
        let closed = before - self.open.len();
        self.worker.counters.closed_timeout.add(closed as u64);
        self.open.values().map(due).min()
    }
}

impl Connection {
    fn send(&self, payload: &[u8], now: Instant) {
        let counters = &self.worker.counters;
        self.shared.used.set(now);
        let socket = self.shared.socket.get_ref();
        let sent = match socket.send(payload) {
            // What came back for an earlier datagram.
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => socket.send(payload),
            sent => sent,
        };
        match sent {
            Ok(_) => {
                counters.to_udp.increment();
                counters.to_udp_bytes.add(payload.len() as u64);
            }
            Err(error) if error.raw_os_error() == Some(libc::EMSGSIZE) => {
                counters.dropped_size.increment();
            }
            Err(error) => {
                debug!("cannot send to {}: {error}", self.shared.named);
                counters.dropped_send.increment();
            }
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.task.abort();
        self.worker.connection_closed();
    }
}

/// Puts what comes to a connection's socket into its client's queue, for ever.
async fn relay(shared: Rc<Shared>, worker: Rc<Worker>, outbox: Rc<Outbox>) {
    let counters = &worker.counters;
    let mut errors = 0;
    while let Ok(mut ready) = shared.socket.readable().await {
        let received = worker.receive(shared.socket.get_ref(), |payload| {
            if payload.len() > worker.options.udp_mtu {
                counters.dropped_size.increment();
                return;
            }
            match outbox.push(shared.id, shared.named, payload) {
                Ok(()) => {
                    counters.to_client.increment();
                    counters.to_client_bytes.add(payload.len() as u64);
                }
                Err(Refused::Full) => counters.dropped_slow_client.increment(),
                Err(Refused::TooLarge) => counters.dropped_size.increment(),
            }
        });
        match received {
            Ok(count) => {
                errors = 0;
                shared.used.set(Instant::now());
                if count < BATCH {
                    ready.clear_ready();
                }
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => ready.clear_ready(),
            // An ICMP message, such as of a port that is closed: something may lie behind it.
            Err(_) => {
                errors += 1;
                if errors > ERRORS {
                    errors = 0;
                    ready.clear_ready();
                }
            }
        }
    }
}
