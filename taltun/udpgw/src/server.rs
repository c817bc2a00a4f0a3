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
use tokio::time::sleep;
use tracing::{info, warn};

use crate::counters::Stats;
use crate::options::{Listen, Options};
use crate::shared::{Accepted, Public};
use crate::sockets;
use crate::worker;

/// How long nobody is accepted after that failed, mostly for want of files.
const PAUSE: Duration = Duration::from_millis(100);
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
    listeners: Vec<std::net::TcpListener>,
    options: Arc<Options>,
    workers: Arc<[Arc<Public>]>,
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
        let listen = |listen: &Listen| {
            sockets::listener(listen, &options).map_err(|reason| StartError::Listen {
                address: listen.address,
                reason,
            })
        };
        let listeners = options
            .listen
            .iter()
            .map(listen)
            .collect::<Result<_, _>>()?;
        // The last counts for who accepts.
        let workers = (0..=options.workers.max(1)).map(|_| Arc::default());
        Ok(Self {
            listeners,
            workers: workers.collect(),
            options: Arc::new(options),
        })
    }

    /// Where clients can connect to.
    pub fn addresses(&self) -> io::Result<Vec<SocketAddr>> {
        let listeners = self.listeners.iter();
        listeners.map(std::net::TcpListener::local_addr).collect()
    }

    /// To see what it does.
    pub fn watch(&self) -> Watch {
        Watch(self.workers.clone())
    }

    /// Serves clients until `stop`; all of them have ended when it returns. `closed` is called
    /// before they end, once nobody can connect any more. Needs a tokio runtime.
    pub async fn run(
        self,
        stop: impl Future<Output = ()>,
        closed: impl FnOnce(),
    ) -> Result<(), StartError> {
        let listeners = self.listeners.into_iter();
        let listeners = listeners
            .map(TcpListener::from_std)
            .collect::<io::Result<Vec<_>>>()
            .map_err(StartError::Worker)?;
        let mut pool = Pool::start(&self.options, &self.workers)?;
        let mut stop = pin!(stop);
        loop {
            let accepted = poll_fn(|context| {
                if stop.as_mut().poll(context).is_ready() {
                    return Poll::Ready(None);
                }
                let mut accepted = listeners.iter().map(|one| one.poll_accept(context));
                let accepted = accepted.find(Poll::is_ready);
                accepted.map_or(Poll::Pending, |accepted| accepted.map(Some))
            });
            match accepted.await {
                None => break,
                Some(Ok((stream, address))) => pool.give(stream, address),
                Some(Err(error)) => {
                    pool.complain(&format!("cannot accept a client: {error}"));
                    tokio::select! {
                        () = &mut stop => break,
                        () = sleep(PAUSE) => {}
                    }
                }
            }
        }
        drop(listeners);
        closed();
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
    max_clients: usize,
    complained: Option<Instant>,
}

impl Pool {
    fn start(options: &Arc<Options>, public: &[Arc<Public>]) -> Result<Self, StartError> {
        let (own, workers) = public.split_last().expect("there is at least one");
        let mut pool = Self {
            workers: Vec::new(),
            threads: Vec::new(),
            own: own.clone(),
            max_clients: options.max_clients,
            complained: None,
        };
        for (number, public) in workers.iter().enumerate() {
            // Never more than the clients that are accepted and not refused.
            let (sender, receiver) = unbounded_channel();
            let (options, shown) = (options.clone(), public.clone());
            let runtime = Builder::new_current_thread().enable_all().build();
            let runtime = runtime.map_err(StartError::Worker)?;
            let thread = thread::Builder::new()
                .name(format!("udpgw-{number}"))
                .spawn(move || worker::run(&runtime, options, &shown, receiver))
                .map_err(StartError::Worker)?;
            pool.threads.push(thread);
            pool.workers.push((public.clone(), sender));
        }
        Ok(pool)
    }

    /// Gives a client to a worker, or refuses it.
    fn give(&mut self, stream: TcpStream, address: SocketAddr) {
        let clients = |public: &Public| public.clients.load(Ordering::Relaxed);
        let all: usize = self.workers.iter().map(|(public, _)| clients(public)).sum();
        if all >= self.max_clients {
            self.own.counters.clients_refused.increment();
            self.complain(&format!(
                "refused client {address}: there are {all} clients, which is the most that may be"
            ));
            return;
        }
        let Ok(stream) = stream.into_std() else {
            return;
        };
        let least = self
            .workers
            .iter()
            .min_by_key(|(public, _)| clients(public));
        if let Some((public, sender)) = least {
            public.clients.fetch_add(1, Ordering::Relaxed);
            if sender.send(Accepted { stream, address }).is_err() {
                public.clients.fetch_sub(1, Ordering::Relaxed);
                self.complain("a worker is gone");
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
        info!("the gateway has ended all clients");
    }
}
