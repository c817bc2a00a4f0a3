//! A client's connections: one for each id that it uses.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use tracing::debug;

use crate::codec::Datagram;
use crate::connection::{Connection, Open};
use crate::counters::Counter;
use crate::destinations::Verdict;
use crate::host::Asker;
use crate::outbox::Outbox;
use crate::receive;
use crate::shared::{Worker, is_want, is_want_of_files};
use crate::sockets;

/// The connections of a client.
pub(crate) struct Connections {
    open: HashMap<u16, Connection>,
    client: SocketAddr,
    asker: Rc<Asker>,
    worker: Rc<Worker>,
    outbox: Rc<Outbox>,
}

/// Why a connection isn't open.
enum NotOpen {
    /// That is counted already.
    Counted,
    /// The name server can't be sent to; it has been left.
    NameServer,
}

impl Connections {
    /// Those of a client that has none yet.
    pub(crate) fn new(client: SocketAddr, worker: Rc<Worker>, outbox: Rc<Outbox>) -> Self {
        Self {
            open: HashMap::new(),
            client,
            asker: Rc::default(),
            worker,
            outbox,
        }
    }

    /// Sends a datagram, on a new connection if it needs one; how many it opened, or tried to.
    pub(crate) fn send(&mut self, datagram: &Datagram<'_>, now: Instant) -> usize {
        let worker = self.worker.clone();
        let counters = &worker.counters;
        if datagram.payload.len() > worker.options.udp_mtu {
            counters.dropped_size.increment();
            return 0;
        }
        let id = datagram.id;
        if self.asks_in_vain(id, now) {
            self.close(id, &counters.closed_rebind);
        }
        if let Some(connection) = self.open.get(&id) {
            if !connection.is_for(datagram) {
                self.close(id, &counters.closed_rebind);
            } else if connection.is_closed() {
                self.open.remove(&id);
            } else if !connection.is_allowed(now) {
                self.close(id, &counters.closed_denied);
                return 0;
            }
        }
        let mut opened = 0;
        if let Some(connection) = self.open.get(&id) {
            if connection.send(datagram.payload, now).is_ok() {
                return opened;
            }
            self.leave(id, now);
        }
        // A name server that can't be sent to gives way to the next one, once around.
        loop {
            opened += 1;
            let failed = match self.open(datagram, now) {
                Ok(connection) => {
                    let sent = connection.send(datagram.payload, now);
                    self.open.insert(id, connection);
                    if sent.is_ok() {
                        return opened;
                    }
                    self.leave(id, now);
                    &counters.dropped_send
                }
                Err(NotOpen::Counted) => return opened,
                Err(NotOpen::NameServer) => &counters.dropped_no_socket,
            };
            if opened >= worker.host.name_servers() {
                failed.increment();
                return opened;
            }
        }
    }

    /// Closes a connection to a name server that can't be sent to.
    fn leave(&mut self, id: u16, now: Instant) {
        let server = self.open.get(&id).and_then(Connection::name_server);
        if let Some(server) = server {
            self.asker.refused(&self.worker.host, server, now);
        }
        let worker = self.worker.clone();
        self.close(id, &worker.counters.closed_rebind);
    }

    /// Whether this is one to a name server that isn't the one to ask any more.
    fn asks_in_vain(&self, id: u16, now: Instant) -> bool {
        let asked = self.open.get(&id).and_then(Connection::name_server);
        asked.is_some_and(|asked| self.asker.name_server(&self.worker.host, now) != Some(asked))
    }

    /// Opens a connection, if the client may have it, and closes another one if it had the most
    /// that it may have.
    fn open(&mut self, datagram: &Datagram<'_>, now: Instant) -> Result<Connection, NotOpen> {
        let worker = self.worker.clone();
        let counters = &worker.counters;
        let (destination, verdict) = if datagram.dns {
            let server = self.asker.name_server(&worker.host, now);
            if server.is_none() {
                counters.dropped_no_resolver.increment();
            }
            (server.ok_or(NotOpen::Counted)?, Verdict::Allowed)
        } else {
            // An IPv4 address within IPv6 is reached by IPv4.
            let ip = datagram.address.ip().to_canonical();
            let destination = SocketAddr::new(ip, datagram.address.port());
            let verdict = worker.may_send(destination, now);
            if verdict.is_none() {
                debug!(
                    "udpgw: client {} may not send to {destination}",
                    self.client
                );
            }
            (destination, verdict.ok_or(NotOpen::Counted)?)
        };
        let full = self.open.len() >= worker.options.max_connections;
        let mut open = self.socket(destination, verdict);
        // What can't be sent at all is no reason to close another connection.
        let may_help =
            |error: &io::Error| error.kind() == io::ErrorKind::AddrInUse || is_want_of_files(error);
        if full && open.as_ref().err().is_none_or(may_help) {
            self.close_least_recent();
            if open.is_err() {
                open = self.socket(destination, verdict);
            }
        }
        match open {
            Ok(open) => {
                let outbox = self.outbox.clone();
                Ok(Connection::new(
                    datagram,
                    destination,
                    open,
                    &self.asker,
                    worker,
                    outbox,
                    now,
                ))
            }
            Err(error) => {
                debug!("udpgw: no socket for {destination}: {error}");
                if datagram.dns && !is_want(&error) {
                    self.asker.refused(&worker.host, destination, now);
                    return Err(NotOpen::NameServer);
                }
                worker.count_no_socket(&error);
                Err(NotOpen::Counted)
            }
        }
    }

    fn socket(&self, destination: SocketAddr, verdict: Verdict) -> io::Result<Open> {
        let worker = &self.worker;
        let place = worker.places.take();
        let place = place.ok_or_else(|| io::Error::from_raw_os_error(libc::EMFILE))?;
        let socket = sockets::connection(destination, &worker.options, &worker.last_port)?;
        // An address that has become ours since the kernel was asked.
        let local = socket.local_addr()?.ip();
        if verdict == Verdict::AllowedIfForeign && local == destination.ip() {
            return Err(io::ErrorKind::PermissionDenied.into());
        }
        let socket = receive::watch(socket)?;
        Ok(Open { socket, place })
    }

    fn close_least_recent(&mut self) {
        let worker = self.worker.clone();
        let oldest = self.open.iter().min_by_key(|(_, open)| open.used());
        if let Some(id) = oldest.map(|(id, _)| *id) {
            self.close(id, &worker.counters.closed_least_recent);
        }
    }

    /// Closes a connection, which `counter` counts.
    fn close(&mut self, id: u16, counter: &Counter) {
        let closed = self.open.remove(&id);
        if closed.is_some_and(|connection| !connection.is_closed()) {
            counter.increment();
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.open.is_empty()
    }

    /// Closes those that weren't used for `timeout`; when the next may be due.
    pub(crate) fn close_unused(&mut self, timeout: Duration, now: Instant) -> Option<Instant> {
        let due = |open: &Connection| open.used() + timeout;
        let over = self.open.iter().filter(|(_, open)| due(open) <= now);
        let over: Vec<_> = over.map(|(id, _)| *id).collect();
        let worker = self.worker.clone();
        for id in over {
            self.close(id, &worker.counters.closed_timeout);
        }
        self.open.values().map(due).min()
    }
}

impl Drop for Connections {
    fn drop(&mut self) {
        let open = self.open.values().filter(|open| !open.is_closed()).count();
        self.worker.counters.closed_with_client.add(open as u64);
    }
}
