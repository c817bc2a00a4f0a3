//! Starts the privileged process, which does for this one what takes rights, and notices its end.

use std::io;
use std::os::fd::AsFd;
use std::process::Stdio;
use std::time::Duration;

use tokio::process::{Child, Command};
use tokio::time::timeout;

use crate::privileged;
use crate::report::ProcessRights;
use crate::verbs;

/// How long it may take to end once nobody asks it any more.
const TO_END: Duration = Duration::from_secs(2);

/// That process, which ends when this is dropped.
#[derive(Debug)]
pub(super) struct Privileged {
    child: Child,
    rights: ProcessRights,
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
        let channel = ours.try_clone()?;
        verbs::ask_by(ours)?;
        let rights = told_rights(&channel).inspect_err(|_| verbs::ask_nobody())?;
        Ok(Self {
            child,
            rights,
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
        let status = self.child.wait().await;
        self.has_ended = true;
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

fn told_rights(channel: impl AsFd) -> io::Result<ProcessRights> {
    let told = verbs::receive(channel.as_fd())?;
    if told.frame.is_empty() {
        return Err(io::Error::other("it ended at once"));
    }
    Ok(serde_json::from_slice(&told.frame)?)
}
