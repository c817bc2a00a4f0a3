//! A client: its TCP connection, the messages in it and what goes back.
//!
//! One task does all of it. Each time that it is woken it writes all that waits by one call,
//! and does what came, up to a limit that leaves others their turn ([`Turn`]): what is left of
//! what it read waits for the next one, and meanwhile nothing more is read.

use std::future::poll_fn;
use std::io::{self, ErrorKind};
use std::mem;
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::task::yield_now;
use tokio::time::{Sleep, sleep_until};
use tracing::{debug, info};

use crate::codec::{Decoder, Malformed, Message};
use crate::connections::Connections;
use crate::gone;
use crate::outbox::Outbox;
use crate::shared::{Accepted, Public, Worker};
use crate::sockets;
use crate::turn::{Done, Turn};

/// The work of a turn: so many small datagrams that are sent by connections that are there.
const TURN: usize = 128;
/// Opening a connection and closing another one is as much work as so many of them, besides.
const OPENING: usize = 3;
/// The pause between two looks at what may be due where nothing else says when.
const LOOK: Duration = Duration::from_secs(3600);

/// Why a client ended.
#[derive(Debug, thiserror::Error)]
enum End {
    #[error("it closed its connection")]
    Closed,
    #[error("it said nothing for too long")]
    Timeout,
    #[error("it sent {0}")]
    Malformed(#[from] Malformed),
    #[error("its connection broke: {0}")]
    Broken(#[from] io::Error),
}

/// Serves a client to its end, which `counted` counts.
pub(crate) async fn serve(worker: Rc<Worker>, accepted: Accepted, mut counted: Counted) {
    let Accepted {
        stream,
        address,
        place,
        turn,
        crowded,
    } = accepted;
    drop(turn);
    let log = worker.options.log_clients;
    tell(log, format_args!("udpgw: client {address} connected"));
    // While others wait, nothing is done for who can't be told of it any more.
    let hung_up = crowded && gone::has_hung_up(&stream).unwrap_or(false);
    let end = match Client::new(worker, stream, address) {
        _ if hung_up => End::Closed,
        Ok(mut client) => loop {
            match poll_fn(|context| client.poll(context)).await {
                Done::Turn => yield_now().await,
                Done::All(end) => {
                    if let End::Closed = end {
                        // If it fails, it is reset.
                        let _ = sockets::close_when_dropped(&client.stream);
                    }
                    break end;
                }
            }
        },
        Err(error) => error.into(),
    };
    drop(place);
    tell(log, format_args!("udpgw: client {address} ended: {end}"));
    counted.end = Some(end);
}

/// A client among those of a worker, which counts its end: also of one whose task is dropped as
/// all end, and of one that hasn't begun by then.
pub(crate) struct Counted {
    public: Arc<Public>,
    end: Option<End>,
}

impl Counted {
    pub(crate) fn new(public: Arc<Public>) -> Self {
        Self { public, end: None }
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        let counters = &self.public.counters;
        match self.end {
            Some(End::Closed) => counters.ended_by_client.increment(),
            Some(End::Timeout) => counters.ended_timeout.increment(),
            Some(End::Malformed(_)) => counters.ended_malformed.increment(),
            Some(End::Broken(_)) => counters.ended_broken.increment(),
            None => counters.ended_with_gateway.increment(),
        }
        self.public.clients.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Logs what happens with each client.
fn tell(log: bool, what: std::fmt::Arguments<'_>) {
    if log {
        info!("{what}");
    } else {
        debug!("{what}");
    }
}

struct Client {
    stream: TcpStream,
    address: SocketAddr,
    decoder: Decoder,
    /// What was read and isn't done yet, from `done` on.
    rest: Vec<u8>,
    done: usize,
    connections: Connections,
    outbox: Rc<Outbox>,
    worker: Rc<Worker>,
    /// When its last message was complete.
    heard: Instant,
    /// When something may be due.
    timer: Pin<Box<Sleep>>,
}

impl Client {
    fn new(
        worker: Rc<Worker>,
        stream: std::net::TcpStream,
        address: SocketAddr,
    ) -> io::Result<Self> {
        stream.set_nonblocking(true)?;
        sockets::prepare_client(&stream, &worker.options)?;
        let outbox = Rc::<Outbox>::default();
        let now = Instant::now();
        let mut client = Self {
            stream: TcpStream::from_std(stream)?,
            address,
            decoder: Decoder::new(worker.options.udp_mtu),
            rest: Vec::new(),
            done: 0,
            connections: Connections::new(address, worker.clone(), outbox.clone()),
            outbox,
            worker,
            heard: now,
            timer: Box::pin(sleep_until(now.into())),
        };
        client.set_timer(None, now);
        Ok(client)
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Done<End>> {
        self.outbox.register(context);
        if let Poll::Ready(Err(error)) = self.poll_write(context) {
            return Poll::Ready(Done::All(error.into()));
        }
        let read = self.poll_read(context);
        if let Poll::Ready(Done::All(_)) = read {
            return read;
        }
        while self.timer.as_mut().poll(context).is_ready() {
            if let Some(end) = self.look() {
                return Poll::Ready(Done::All(end));
            }
        }
        read
    }

    /// Writes what waits, as far as the client takes it.
    fn poll_write(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.outbox.is_empty() {
            let stream = Pin::new(&mut self.stream);
            let mut pending = false;
            self.outbox
                .write(|frames| match stream.poll_write(context, frames) {
                    Poll::Ready(Ok(0)) => Err(ErrorKind::WriteZero.into()),
                    Poll::Ready(written) => written,
                    Poll::Pending => {
                        pending = true;
                        Ok(0)
                    }
                })?;
            if pending {
                return Poll::Pending;
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Reads messages and does what they say.
    fn poll_read(&mut self, context: &mut Context<'_>) -> Poll<Done<End>> {
        let now = Instant::now();
        let mut turn = Turn::new(TURN);
        if !self.rest.is_empty() {
            let rest = mem::take(&mut self.rest);
            let mut bytes = &rest[self.done..];
            if let Err(error) = self.take(&mut bytes, &mut turn, now) {
                return Poll::Ready(Done::All(error.into()));
            }
            if !bytes.is_empty() {
                self.done = rest.len() - bytes.len();
                self.rest = rest;
            }
        }
        let worker = self.worker.clone();
        let mut buffer = worker.buffer.borrow_mut();
        while !turn.is_over() {
            let mut read = ReadBuf::new(&mut buffer);
            let stream = Pin::new(&mut self.stream);
            let Poll::Ready(outcome) = stream.poll_read(context, &mut read) else {
                self.expect_timeout(now);
                return Poll::Pending;
            };
            if let Err(error) = outcome {
                return Poll::Ready(Done::All(error.into()));
            }
            let mut bytes = read.filled();
            if bytes.is_empty() {
                return Poll::Ready(Done::All(End::Closed));
            }
            turn.read(bytes.len());
            if let Err(error) = self.take(&mut bytes, &mut turn, now) {
                return Poll::Ready(Done::All(error.into()));
            }
            if !bytes.is_empty() {
                // Without what came in pieces, so that both together are no more than one.
                self.decoder.forget();
                self.rest = bytes.to_vec();
                self.done = 0;
            }
        }
        self.expect_timeout(now);
        Poll::Ready(Done::Turn)
    }

    /// Does what messages say, as far as the turn goes.
    fn take(&mut self, bytes: &mut &[u8], turn: &mut Turn, now: Instant) -> Result<(), Malformed> {
        while !turn.is_over()
            && let Some(message) = self.decoder.next(bytes)?
        {
            self.heard = now;
            match message {
                Message::Datagram(datagram) => {
                    turn.datagram(datagram.payload.len());
                    let opened = self.connections.send(&datagram, now);
                    turn.work(OPENING.saturating_mul(opened));
                }
                Message::Keepalive { .. } => {
                    turn.datagram(0);
                    self.worker.counters.keepalives.increment();
                }
                Message::Unknown { flags } => {
                    turn.datagram(0);
                    let client = self.address;
                    debug!("udpgw: client {client} sent the unknown flags {flags:#04x}");
                    self.worker.counters.dropped_flag.increment();
                }
            }
        }
        Ok(())
    }

    /// Looks at the connections when the first of them may be due.
    fn expect_timeout(&mut self, now: Instant) {
        if let Some(timeout) = self.worker.options.udp_timeout {
            let due = tokio::time::Instant::from_std(now + timeout);
            if self.timer.deadline() > due && !self.connections.is_empty() {
                self.timer.as_mut().reset(due);
            }
        }
    }

    /// Looks for what is due.
    fn look(&mut self) -> Option<End> {
        let now = Instant::now();
        let options = &self.worker.options;
        let timeout = options.client_timeout;
        if timeout.is_some_and(|timeout| now.duration_since(self.heard) >= timeout) {
            return Some(End::Timeout);
        }
        if options.keepalive {
            match gone::is_gone(&self.stream) {
                Ok(false) => {}
                Ok(true) => return Some(io::Error::from(ErrorKind::TimedOut).into()),
                Err(error) => return Some(error.into()),
            }
        }
        let unused = options.udp_timeout;
        let next = unused.and_then(|timeout| self.connections.close_unused(timeout, now));
        self.set_timer(next, now);
        None
    }

    /// Waits until a connection is due, or the client itself.
    fn set_timer(&mut self, connection: Option<Instant>, now: Instant) {
        let timeout = self.worker.options.client_timeout;
        let client = timeout.map(|timeout| self.heard + timeout);
        let gone = self.worker.options.keepalive.then(|| now + gone::LOOK);
        let next = [connection, client, gone].into_iter().flatten().min();
        let next = next.map_or(now + LOOK, |next| next.min(now + LOOK));
        self.timer.as_mut().reset(next.into());
    }
}
