//! The metrics of `[metrics]`: what their process asks, and what it is answered.

use std::io;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::caller::Caller;
use super::request::{self, Call};
use super::served::{Answers, SILENCE, Served, Settings, ask};
use crate::config;
use crate::metrics::{self, Answer};
use crate::report::MetricsStatus;

/// The metrics, if there are any.
pub(super) type Metrics = Served<Telling>;

/// Tells the process how the tunnel is.
#[derive(Debug, Clone)]
pub(super) struct Telling {
    calls: mpsc::Sender<Call>,
}

/// None yet. `calls` leads to the controller.
pub(super) fn new(calls: mpsc::Sender<Call>) -> Metrics {
    Served::new(Telling { calls })
}

/// What the file asks for.
pub(super) fn settings(metrics: Option<&config::Metrics>) -> Option<Settings> {
    metrics.map(|metrics| Settings {
        listen: metrics.listen.clone(),
        arguments: Vec::new(),
    })
}

/// How they are.
pub(super) fn status(metrics: &Metrics) -> Option<MetricsStatus> {
    let (listen, ended) = metrics.status()?;
    Some(MetricsStatus { listen, ended })
}

impl Answers for Telling {
    const SECTION: &'static str = "metrics";
    const COMMAND: &'static str = metrics::COMMAND;

    async fn answer(&self, mut channel: UnixStream) -> io::Result<()> {
        let mut said = [0; 64];
        loop {
            let length = timeout(SILENCE, channel.read(&mut said)).await??;
            if length == 0 {
                return Ok(());
            }
            if !said[..length].contains(&metrics::QUESTION) {
                continue;
            }
            let answer = match ask(&self.calls, request::Metrics, Caller::ourselves()).await {
                Ok(seen) => Answer::Seen(seen),
                Err(reason) => Answer::Not(reason.into()),
            };
            // Thousands of peers take a while to write down.
            let line = tokio::task::spawn_blocking(move || serde_json::to_vec(&answer)).await;
            let mut line = line.map_err(io::Error::other)??;
            line.push(b'\n');
            timeout(SILENCE, channel.write_all(&line)).await??;
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::{Instant, sleep};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_process_that_says_nothing_hangs() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let (calls, _controller) = mpsc::channel(1);
        let answered = tokio::spawn(async move { Telling { calls }.answer(ours).await });
        let start = Instant::now();
        for _ in 0..10 {
            theirs.write_all(b".").await.unwrap();
            sleep(SILENCE / 2).await;
            assert!(!answered.is_finished());
        }
        let error = answered.await.unwrap().unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert!(start.elapsed() < SILENCE * 8, "{:?}", start.elapsed());
    }
}
