//! How long a connection may last: as long as the browser reads.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

/// How long a browser may take to read an answer, or the next piece of one that goes on.
pub(super) const TO_READ: Duration = Duration::from_secs(30);

/// Until when a connection may last.
#[derive(Debug, Clone)]
pub(super) struct Patience(Arc<watch::Sender<Instant>>);

impl Patience {
    pub(super) fn new() -> Self {
        Self(Arc::new(watch::Sender::new(end())))
    }

    /// The browser has read what there was.
    pub(super) fn again(&self) {
        self.0.send_replace(end());
    }

    /// Comes when there is none left.
    pub(super) async fn ends(self) {
        let mut until = self.0.subscribe();
        loop {
            let end = *until.borrow_and_update();
            tokio::select! {
                () = sleep_until(end) => return,
                _ = until.changed() => {}
            }
        }
    }
}

fn end() -> Instant {
    let now = Instant::now();
    now.checked_add(TO_READ).unwrap_or(now)
}
