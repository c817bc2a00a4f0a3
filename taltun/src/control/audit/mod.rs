//! The trail of changes: who changed what of a running tunnel, and when. It is a file of its own,
//! a line of JSON for each change, which no setting of the log leaves out.
//!
//! | file | concern |
//! |---|---|
//! | [`change`] | which requests change something, and what they are about |
//! | [`trail`] | the thread that writes, its file and the older one beside it |

mod change;
mod time;
mod trail;

use std::path::Path;

use serde::Serialize;
use tracing::warn;

pub(super) use self::change::Change;
use self::time::now;
use self::trail::Trail;
use super::caller::Caller;
use super::changed_peers::ChangedPeers;
use super::request::Request;
use super::response::Response;
use super::uapi::{Errno, WgChanges};
use crate::report::{AuditKept, AuditStatus};

/// The trail of one tunnel.
pub(super) struct Audit {
    /// Nothing for a tunnel without a configuration; or why there is no thread for it.
    trail: Option<Result<Trail, String>>,
}

/// One change, as it is written down.
#[derive(Debug, Serialize)]
struct Record<'a> {
    /// In UTC, as in the log.
    time: String,
    action: &'a str,
    /// A network, or a peer by its name or key.
    #[serde(skip_serializing_if = "Option::is_none")]
    target: Option<String>,
    outcome: Outcome,
    /// What became of it, in a sentence.
    detail: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    peers: Option<&'a ChangedPeers>,
    by: &'a Caller,
}

/// What became of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Outcome {
    Done,
    Refused,
}

impl Audit {
    /// That of the tunnel `name`, of so many MiB at the most, in `dir`.
    pub(super) fn of(dir: &Path, name: &str, keep_mib: u32) -> Self {
        let trail = Trail::open(dir.join(name).join("audit.jsonl"), keep_mib);
        let trail = trail.map_err(|error| format!("cannot start its thread: {error}"));
        if let Err(reason) = &trail {
            warn!("changes aren't written down: {reason}");
        }
        Self { trail: Some(trail) }
    }

    /// Of a tunnel that keeps none.
    pub(super) fn none() -> Self {
        Self { trail: None }
    }

    /// The tunnel has started, with this configuration.
    pub(super) fn started(&self, file: Option<&Path>) {
        let file = file.map_or_else(|| "no file".to_owned(), |file| file.display().to_string());
        let detail = format!("taltun {} with {file}", env!("CARGO_PKG_VERSION"));
        self.write("start", None, &Ok(&detail), None, &Caller::ourselves());
    }

    /// It ends, for this reason.
    pub(super) fn stopped(&self, by: &Caller, reason: &str) {
        self.write("stop", None, &Ok(reason), None, by);
    }

    /// What a request changes, if it does, to be told to [`Self::answered`] with its answer.
    pub(super) fn change(request: &Request) -> Option<Change> {
        Change::of(request)
    }

    /// A request that changes something is passed on to who answers it later.
    pub(super) fn begun(&self, by: &Caller, request: &Request) {
        if let Some(change) = Change::begun(request) {
            self.write(change.action, Some(change.target), &Ok("begun"), None, by);
        }
    }

    /// A request that changes something was answered.
    pub(super) fn answered(&self, by: &Caller, change: Change, response: &Response) {
        let outcome = match response {
            Response::Error(reason) => Err(reason.text.as_str()),
            Response::Misconfigured(reason) => Err(reason.as_str()),
            Response::Done(done) => Ok(done.0.as_str()),
            other => Ok(other.noun()),
        };
        self.write(change.action, Some(change.target), &outcome, None, by);
    }

    /// A peer was changed in the file, or wasn't.
    pub(super) fn edited(
        &self,
        by: &Caller,
        change: &Change,
        outcome: Result<&str, &str>,
        peers: Option<&ChangedPeers>,
    ) {
        let target = Some(change.target.clone());
        self.write(change.action, target, &outcome, peers, by);
    }

    /// The configuration was read again.
    pub(super) fn reloaded(
        &self,
        by: &Caller,
        outcome: Result<&str, &str>,
        peers: Option<&ChangedPeers>,
    ) {
        self.write("reload", None, &outcome, peers, by);
    }

    /// Somebody set something by `wg`, which was refused with an error, or changed all this.
    pub(super) fn set_by_wg(&self, by: &Caller, refused: Option<Errno>, changes: &WgChanges) {
        let done = changes.line();
        let refused = refused.map(|Errno(number)| {
            let done = done.as_deref().unwrap_or("nothing");
            format!("errno {number}; changed: {done}")
        });
        let outcome = match (&refused, &done) {
            (Some(refused), _) => Err(refused.as_str()),
            (None, Some(done)) => Ok(done.as_str()),
            (None, None) => return,
        };
        self.write("wg", None, &outcome, Some(&changes.peers), by);
    }

    /// Another configuration is in force, which `tell` writes down before the trail ends by it, or
    /// after it begins.
    pub(super) fn follow(&self, keep_mib: u32, tell: impl FnOnce(&Self)) {
        let keep = || {
            if let Some(Ok(trail)) = &self.trail {
                trail.keep(keep_mib);
            }
        };
        if keep_mib > 0 {
            keep();
        }
        tell(self);
        if keep_mib == 0 {
            keep();
        }
    }

    /// How it is.
    pub(super) fn status(&self) -> Option<AuditStatus> {
        Some(match self.trail.as_ref()? {
            Ok(trail) => trail.status(),
            Err(reason) => AuditStatus {
                kept: AuditKept::Memory,
                reason: Some(reason.clone()),
                lost: 0,
            },
        })
    }

    /// Waits until all is written, though not for long.
    pub(super) fn finish(&mut self) {
        if let Some(Ok(trail)) = &mut self.trail
            && !trail.close()
        {
            warn!("the last changes may not be written down: the disk doesn't answer");
        }
    }

    fn write(
        &self,
        action: &str,
        target: Option<String>,
        outcome: &Result<&str, &str>,
        peers: Option<&ChangedPeers>,
        by: &Caller,
    ) {
        let Some(Ok(trail)) = &self.trail else { return };
        let (outcome, detail) = match outcome {
            Ok(detail) => (Outcome::Done, *detail),
            Err(reason) => (Outcome::Refused, *reason),
        };
        let record = Record {
            time: now(),
            action,
            target,
            outcome,
            detail,
            peers: peers.filter(|peers| !peers.is_empty()),
            by,
        };
        trail.add(&record);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::request::{Ban, Command as _};
    use crate::control::response::Done;

    fn lines(dir: &Path) -> Vec<serde_json::Value> {
        let text = std::fs::read_to_string(dir.join("hub/audit.jsonl")).unwrap();
        let lines = text.lines();
        lines
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }

    #[test]
    fn each_change_is_a_line_with_who_and_what_became_of_it() {
        let dir = tempfile::tempdir().unwrap();
        let mut audit = Audit::of(dir.path(), "hub", 1);
        audit.started(Some(Path::new("/etc/taltun/hub.toml")));
        let ban = Ban {
            net: "203.0.113.0/24".parse().unwrap(),
            layer: None,
            force: false,
            seconds: Some(60),
        };
        let request = ban.request();
        let by = Caller::ourselves();
        let change = || Audit::change(&request).unwrap();
        audit.answered(&by, change(), &Response::Done(Done("banned".into())));
        audit.answered(&by, change(), &Response::Error("too many".into()));
        let mut changes = WgChanges::default();
        // Nothing is different.
        audit.set_by_wg(&by, None, &changes);
        changes.peers.added.add(|| "ana".to_owned());
        audit.set_by_wg(&by, None, &changes);
        audit.reloaded(&Caller::signal("SIGHUP"), Err("line 3"), None);
        audit.stopped(&Caller::signal("SIGTERM"), "told to stop");
        audit.finish();

        let lines = lines(dir.path());
        let actions: Vec<_> = lines.iter().map(|line| line["action"].clone()).collect();
        assert_eq!(actions, ["start", "ban", "ban", "wg", "reload", "stop"]);
        assert_eq!(lines[1]["target"], "203.0.113.0/24, for 60 s");
        assert_eq!(lines[1]["outcome"], "done");
        assert_eq!(lines[2]["outcome"], "refused");
        assert_eq!(lines[2]["detail"], "too many");
        assert_eq!(lines[2]["by"]["pid"], std::process::id());
        assert_eq!(lines[3]["peers"]["added"][0], "ana");
        assert_eq!(lines[4]["by"]["signal"], "SIGHUP");
        let time = lines[0]["time"].as_str().unwrap();
        assert!(time.starts_with("20") && time.ends_with('Z'), "{time}");
    }

    #[test]
    fn a_tunnel_without_a_trail_writes_nothing() {
        let mut audit = Audit::none();
        audit.started(None);
        audit.finish();
        assert_eq!(audit.status(), None);
    }
}
