//! A thread that sends at its own pace: it ends when it has sent all, when told to, or when dropped. It has
//! precedence like a card's interrupts, so that whom it loads doesn't slow it down.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context, Result};

use crate::sys;

/// Such a thread.
#[derive(Debug)]
pub struct Sending {
    name: &'static str,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<Result<Sent>>>,
}

/// What was sent.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sent {
    /// Packets that the interface took.
    pub packets: u64,
    /// From the first to the last.
    pub time: Duration,
}

impl Sent {
    /// Packets a second.
    pub fn rate(self) -> f64 {
        self.packets as f64 / self.time.as_secs_f64()
    }
}

impl Sending {
    /// Starts it. `send` looks whether it is told to end.
    pub(super) fn start(
        name: &'static str,
        send: impl FnOnce(&AtomicBool) -> Result<Sent> + Send + 'static,
    ) -> Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&stop);
        let thread = thread::Builder::new().name(name.to_owned());
        let thread = thread.spawn(move || {
            sys::take_precedence().context("can't take precedence")?;
            send(&told)
        })?;
        Ok(Self {
            name,
            stop,
            thread: Some(thread),
        })
    }

    /// Ends it.
    pub fn stop(mut self) -> Result<Sent> {
        let name = self.name;
        self.end()
            .with_context(|| format!("the {name} ended before"))?
            .with_context(|| format!("the {name} broke off"))
    }

    fn end(&mut self) -> Option<Result<Sent>> {
        self.stop.store(true, Ordering::Relaxed);
        let thread = self.thread.take()?;
        Some(
            thread
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic)),
        )
    }
}

impl Drop for Sending {
    fn drop(&mut self) {
        self.end();
    }
}
