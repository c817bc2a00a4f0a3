//! The gateway: it accepts clients and gives each to the worker that has the fewest.

use std::future::{Future, poll_fn};
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::Poll;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Builder;
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::sleep;
use tracing::{info, warn};

use crate::counters::Stats;
use crate::files::Places;
use crate::options::{Listen, Options};
use crate::scope::Scope;
use crate::shared::{Accepted, Public};
use crate::sockets;
use crate::worker;

/// How long nobody is accepted after that failed, mostly for want of files.
const PAUSE: Duration = Duration::from_millis(100);
/// So many clients may wait for a worker to begin with them; the kernel holds more of them back.
/// Somebody who connects without end keeps others waiting for so many of his clients, and not for
/// all that may be.
const WAITING: usize = 32;
/// A message that repeats itself is logged so often.
const AGAIN: Duration = Duration::from_secs(10);

/// Why a gateway can't start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// It can't listen.
    #[error("cannot listen on {address}: {reason}")]
    Listen {
        /// Where.
        address: SocketAddr,
        /// What the kernel said.
        reason: io::Error,
    },
    /// It can't serve.
    #[error("cannot start a worker: {0}")]
    Worker(io::Error),
}

/// A gateway that listens and serves nobody yet.
#[derive(Debug)]
pub struct Server {
    sockets: Vec<std::net::TcpListener>,
    options: Arc<Options>,
    workers: Arc<[Arc<Public>]>,
}

/// Where a gateway listens, for one that takes its place; or others of this process.
#[derive(Debug, Default)]
pub struct Listening(Vec<Listener>);

#[derive(Debug)]
struct Listener {
    scope: Scope,
    receive_buffer: Option<usize>,
    socket: std::net::TcpListener,
}

impl Listening {
    /// Sockets of this process that aren't a gateway's.
    pub fn others(sockets: impl IntoIterator<Item = (Listen, std::net::TcpListener)>) -> Self {
        let sockets = sockets.into_iter().map(|(listen, socket)| Listener {
            scope: Scope::alone(listen),
            receive_buffer: None,
            socket,
        });
        Self(sockets.collect())
    }

    /// Those that overlap with `listen`.
    pub fn overlapping(&self, listen: &Listen) -> impl Iterator<Item = &std::net::TcpListener> {
        let scope = Scope::alone(listen.clone());
        let overlapping = self.0.iter().filter(move |it| it.scope.overlaps(&scope));
        overlapping.map(|it| &it.socket)
    }

    /// The sockets, in the order of [`Options::listen`].
    pub fn sockets(&self) -> impl Iterator<Item = &std::net::TcpListener> {
        self.0.iter().map(|it| &it.socket)
    }

    /// Opens what `options` say. A socket of an earlier gateway that is just as they say is kept;
    /// the others may overlap with those that aren't and with `friends`, which are to be closed
    /// then. After an error the earlier ones are as before.
    pub fn open(options: &Options, earlier: &Self, friends: &Self) -> Result<Self, StartError> {
        let receive_buffer = options.tcp_receive_buffer;
        let scopes: Vec<Scope> = Scope::of(&options.listen).collect();
        let is_kept =
            |it: &Listener| it.receive_buffer == receive_buffer && scopes.contains(&it.scope);
        let (kept, left): (Vec<_>, Vec<_>) = earlier.0.iter().partition(|it| is_kept(it));
        let open = |scope: &Scope| {
            if let Some(same) = kept.iter().find(|it| it.scope == *scope) {
                return same.socket.try_clone();
            }
            // With nobody but these, as they are ours.
            let ours = left.iter().copied().chain(&friends.0);
            let overlapping = ours.filter(|it| it.scope.overlaps(scope));
            let overlapping: Vec<_> = overlapping.map(|it| &it.socket).collect();
            sockets::listener(scope, options, &overlapping)
        };
        let mut listeners: Vec<Listener> = Vec::new();
        for scope in &scopes {
            let error = |reason| StartError::Listen {
                address: scope.listen.address,
                reason,
            };
            if listeners.iter().any(|it| it.scope == *scope) {
                return Err(error(io::Error::from_raw_os_error(libc::EADDRINUSE)));
            }
            listeners.push(Listener {
                scope: scope.clone(),
                receive_buffer,
                socket: open(scope).map_err(error)?,
            });
        }
        Ok(Self(listeners))
    }
}

/// What a gateway has done, for whoever wants to know.
#[derive(Debug, Clone)]
pub struct Watch(Arc<[Arc<Public>]>);

impl Watch {
    /// How it is now.
    pub fn stats(&self) -> Stats {
        let mut stats = Stats::default();
        for worker in &*self.0 {
            stats.clients += worker.clients.load(Ordering::Relaxed) as u64;
            stats.connections += worker.connections.load(Ordering::Relaxed) as u64;
            stats.counted.add(&worker.counters);
        }
        stats
    }
}

impl Server {
    /// Begins to listen.
    pub fn bind(options: Options) -> Result<Self, StartError> {
        let nothing = Listening::default();
        let listening = Listening::open(&options, &nothing, &nothing)?;
        let sockets = listening.0.into_iter().map(|it| it.socket);
        Ok(Self::on(sockets.collect(), options))
    }

    /// One for clients of `sockets`, which somebody has opened as `options` say.
    pub fn on(sockets: Vec<std::net::TcpListener>, options: Options) -> Self {
        // The last counts for who accepts.
        let workers = (0..=options.workers.max(1)).map(|_| Arc::default());
        Self {
            sockets,
            workers: workers.collect(),
            options: Arc::new(options),
        }
    }

    /// Where clients can connect to.
    pub fn addresses(&self) -> io::Result<Vec<SocketAddr>> {
        let all = self.sockets.iter().map(std::net::TcpListener::local_addr);
        all.collect()
    }

    /// To see what it does.
    pub fn watch(&self) -> Watch {
        Watch(self.workers.clone())
    }

    /// Starts its threads, which have nobody to serve yet.
    pub fn start(self) -> Result<Started, StartError> {
        let pool = Pool::start(&self.options, &self.workers)?;
        let sockets = self.sockets;
        Ok(Started { sockets, pool })
    }

    /// Serves clients until `stop`; all of them have ended when it returns. Needs a tokio runtime.
    pub async fn run(self, stop: impl Future<Output = ()>) -> Result<(), StartError> {
        self.start()?.run(stop).await
    }
}

/// A gateway whose threads are there.
pub struct Started {
    sockets: Vec<std::net::TcpListener>,
    pool: Pool,
}

impl Started {
    /// Serves clients until `stop`; all of them have ended when it returns. Needs a tokio runtime.
    pub async fn run(self, stop: impl Future<Output = ()>) -> Result<(), StartError> {
        let listeners = self.sockets.into_iter().map(TcpListener::from_std);
        let listeners = listeners.collect::<io::Result<Vec<_>>>();
        let listeners = listeners.map_err(StartError::Worker)?;
        let mut pool = self.pool;
        let mut stop = pin!(stop);
        let mut next = 0;
        loop {
            let turn = tokio::select! {
                biased;
                () = &mut stop => break,
                turn = pool.turns.clone().acquire_owned() => turn,
            };
            // Nobody closes them.
            let Ok(begin) = turn else { break };
            let accepted = poll_fn(|context| {
                if stop.as_mut().poll(context).is_ready() {
                    return Poll::Ready(None);
                }
                // The one after the last, so that none keeps another waiting.
                let mut turns = (0..listeners.len()).map(|turn| (next + turn) % listeners.len());
                let accepted = turns.find_map(|turn| match listeners[turn].poll_accept(context) {
                    Poll::Ready(accepted) => Some((turn, accepted)),
                    Poll::Pending => None,
                });
                let Some((turn, accepted)) = accepted else {
                    return Poll::Pending;
                };
                next = turn + 1;
                Poll::Ready(Some(accepted))
            });
            match accepted.await {
                None => break,
                Some(Ok((stream, address))) => pool.give(stream, address, begin),
                Some(Err(error)) => {
                    pool.complain(&format!("udpgw: cannot accept a client: {error}"));
                    tokio::select! {
                        () = &mut stop => break,
                        () = sleep(PAUSE) => {}
                    }
                }
            }
        }
        drop(listeners);
        pool.end();
        Ok(())
    }
}

/// The workers, from the outside.
struct Pool {
    workers: Vec<(Arc<Public>, UnboundedSender<Accepted>)>,
    threads: Vec<JoinHandle<()>>,
    /// What counts for who accepts.
    own: Arc<Public>,
    clients: Arc<Places>,
    /// To begin, for clients that wait for that.
    turns: Arc<Semaphore>,
    complained: Option<Instant>,
}

impl Pool {
    fn start(options: &Arc<Options>, public: &[Arc<Public>]) -> Result<Self, StartError> {
        let (own, workers) = public.split_last().expect("there is at least one");
        let (clients, connections) = Places::of(options);
        let mut pool = Self {
            workers: Vec::new(),
            threads: Vec::new(),
            own: own.clone(),
            clients,
            turns: Arc::new(Semaphore::new(workers.len() * WAITING)),
            complained: None,
        };
        for (number, public) in workers.iter().enumerate() {
            // Never more than the clients that are accepted and not refused.
            let (sender, receiver) = unbounded_channel();
            let (options, shown) = (options.clone(), public.clone());
            let connections = connections.clone();
            let runtime = Builder::new_current_thread().enable_all().build();
            let runtime = runtime.map_err(StartError::Worker)?;
            let thread = thread::Builder::new()
                .name(format!("udpgw-{number}"))
                .spawn(move || worker::run(&runtime, options, &shown, connections, receiver))
                .map_err(StartError::Worker)?;
            pool.threads.push(thread);
            pool.workers.push((public.clone(), sender));
        }
        Ok(pool)
    }

    /// Gives a client to a worker, or refuses it.
    fn give(&mut self, stream: TcpStream, address: SocketAddr, turn: OwnedSemaphorePermit) {
        // Whatever ends it; only a client that closes has its connection closed in order.
        let _ = sockets::reset_when_dropped(&stream);
        let Some(place) = self.clients.take() else {
            self.own.counters.clients_refused.increment();
            self.complain(&format!(
                "udpgw: refused client {address}: there are {} clients, which is the most that \
                 may be",
                self.clients.most()
            ));
            return;
        };
        let Ok(stream) = stream.into_std() else {
            return;
        };
        let least = self
            .workers
            .iter()
            .min_by_key(|(public, _)| public.clients.load(Ordering::Relaxed));
        if let Some((public, sender)) = least {
            self.own.counters.clients_accepted.increment();
            public.clients.fetch_add(1, Ordering::Relaxed);
            let waiting = self.workers.len() * WAITING - self.turns.available_permits();
            let accepted = Accepted {
                stream,
                address,
                place,
                turn,
                crowded: waiting > WAITING / 2,
            };
            if sender.send(accepted).is_err() {
                public.clients.fetch_sub(1, Ordering::Relaxed);
                self.own.counters.ended_with_gateway.increment();
                self.complain("udpgw: a worker is gone");
            }
        }
    }

    /// Logs what may happen with every client, now and then.
    fn complain(&mut self, what: &str) {
        if self.complained.is_none_or(|then| then.elapsed() > AGAIN) {
            self.complained = Some(Instant::now());
            warn!("{what}");
        }
    }

    /// Ends all clients.
    fn end(self) {
        drop(self.workers);
        for thread in self.threads {
            // One that panicked is over as well.
            let _ = thread.join();
        }
        info!("udpgw: all clients are ended");
    }
}
