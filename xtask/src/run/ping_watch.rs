//! Pings in the background, each remembered, to see an address die and come back.

use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::Result;
use taltun_tests::netns::Namespace;
use taltun_tests::traffic::ping::Pinger;

/// How long an answer may take.
const LIMIT: Duration = Duration::from_millis(400);
/// The pause between two pings.
const PAUSE: Duration = Duration::from_millis(100);

/// One ping.
#[derive(Debug, Clone, Copy)]
pub struct Ping {
    /// When it was sent.
    pub sent: Instant,
    /// How long the answer took, if there was one in time.
    pub answer: Option<Duration>,
}

/// Pings until dropped.
pub struct PingWatch {
    pings: Arc<Mutex<Vec<Ping>>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl PingWatch {
    /// Pings `to` from `from`.
    pub fn start(from: &Namespace, to: IpAddr) -> Result<Self> {
        let mut pinger = Pinger::new(from, to)?;
        let pings = Arc::new(Mutex::new(Vec::new()));
        let stop = Arc::new(AtomicBool::new(false));
        let thread = thread::spawn({
            let (pings, stop) = (Arc::clone(&pings), Arc::clone(&stop));
            move || {
                while !stop.load(Ordering::Relaxed) {
                    let sent = Instant::now();
                    // What the kernel refuses to send isn't answered either.
                    let answer = pinger.ping(LIMIT).unwrap_or_default();
                    pings
                        .lock()
                        .unwrap_or_else(PoisonError::into_inner)
                        .push(Ping { sent, answer });
                    thread::sleep(PAUSE);
                }
            }
        });
        Ok(Self {
            pings,
            stop,
            thread: Some(thread),
        })
    }

    /// The pings whose fate is known, in order, without the first `known`.
    pub fn since(&self, known: usize) -> Vec<Ping> {
        let pings = self.pings.lock().unwrap_or_else(PoisonError::into_inner);
        pings.get(known..).unwrap_or_default().to_vec()
    }

    /// Whether the last ping whose fate is known was answered.
    pub fn last_is_answered(&self) -> bool {
        let pings = self.pings.lock().unwrap_or_else(PoisonError::into_inner);
        pings.last().is_some_and(|ping| ping.answer.is_some())
    }

    /// All pings whose fate is known, in order.
    pub fn pings(&self) -> Vec<Ping> {
        self.since(0)
    }
}

impl Drop for PingWatch {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // A panic there has been printed already, and the missing pings will show.
            let _ = thread.join();
        }
    }
}
