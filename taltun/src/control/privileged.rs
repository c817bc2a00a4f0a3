//! Starts the privileged process, which does for this one what takes rights, and notices its end.

use std::io;
use std::process::Stdio;
use std::time::Duration;

use tokio::process::{Child, Command};
use tokio::time::{Instant, timeout, timeout_at};

use crate::privileged;
use crate::report::ProcessRights;
use crate::verbs;

/// How long it may take to begin.
const TO_BEGIN: Duration = Duration::from_secs(10);
/// How long it may take to end once nobody asks it any more.
const TO_END: Duration = Duration::from_secs(2);

/// That process, which ends when this is dropped.
#[derive(Debug)]
pub(super) struct Privileged {
    child: Child,
    rights: ProcessRights,
    /// When it was found to say nothing more.
    gone: Option<Instant>,
    /// Whether its end was told.
    has_ended: bool,
}

impl Privileged {
    /// Starts it for the tunnel `interface`. From now on it does what takes rights.
    pub(super) fn start(interface: &str) -> io::Result<Self> {
        let (ours, theirs) = verbs::pair()?;
        let child = Command::new("/proc/self/exe")
            .arg0("taltun")
            .arg(privileged::COMMAND)
            .arg("--")
            .arg(interface)
            .env_clear()
            .current_dir("/")
            .stdin(Stdio::from(theirs))
            .stdout(Stdio::null())
            // Not ours: a tunnel in the background gives up its own.
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()?;
        let told = verbs::first_frame(&ours, TO_BEGIN)?;
        let rights = serde_json::from_slice(&told)?;
        verbs::ask_by(ours);
        Ok(Self {
            child,
            rights,
            gone: None,
            has_ended: false,
        })
    }

    /// What it may do.
    pub(super) fn rights(&self) -> &ProcessRights {
        &self.rights
    }

    /// Waits for its end, which is never meant, and tells how that was, once.
    pub(super) async fn ended(&mut self) -> anyhow::Error {
        if self.has_ended {
            return std::future::pending().await;
        }
        if self.gone.is_none() {
            tokio::select! {
                biased;
                _ = self.child.wait() => {}
                () = verbs::ended() => {}
            }
        }
        // Who waits may be called away and come back.
        let gone = *self.gone.get_or_insert_with(Instant::now);
        let status = timeout_at(gone + TO_END, self.child.wait()).await.ok();
        self.has_ended = true;
        let Some(status) = status else {
            // It may be anybody's by now. Dropped, it is killed.
            return anyhow::anyhow!("the privileged process says what no such process says");
        };
        let status = status.map_or_else(|error| error.to_string(), |status| status.to_string());
        anyhow::anyhow!("the privileged process ended ({status})")
    }

    /// Lets it end.
    pub(super) async fn finish(mut self) {
        verbs::ask_nobody();
        // It is killed then.
        let _ = timeout(TO_END, self.child.wait()).await;
    }
}

impl Drop for Privileged {
    fn drop(&mut self) {
        verbs::ask_nobody();
    }
}
