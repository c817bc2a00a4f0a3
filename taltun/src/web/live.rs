//! What is sent while somebody looks: each second the parts of the page that changed, as events that
//! a script puts in their place.
//!
//! Which peers are shown, and in what order, is what the page began with: rows that change places
//! under a finger would be a trap. A browser that doesn't read misses nothing but what is old: the
//! next event is made when the last one is taken, and one that isn't taken for half a minute ends
//! the connection.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use hyper::body::Bytes;
use serde_json::{Map, Value};
use tokio::sync::mpsc;
use tokio::time::{MissedTickBehavior, interval, timeout};

use super::asked::{Verb, Who};
use super::hub::{Browser, Hub, Nothing};
use super::pages::{Frame, Query, View};
use super::patience::{Patience, TO_READ};
use super::reports::Reports;
use super::request::NO_FIELDS;
use super::response::{self, Answer};
use super::words::Language;

/// Between two events.
const SECOND: Duration = Duration::from_secs(1);

/// Who looks, and at what.
#[derive(Debug)]
pub(super) struct Watcher {
    pub(super) hub: Hub,
    pub(super) reports: Arc<Reports>,
    pub(super) browser: Browser,
    pub(super) language: Language,
    pub(super) query: Query,
    pub(super) patience: Patience,
    /// Whose session it is: rows have forms in them.
    pub(super) who: Who,
}

/// What somebody looks at, and what they have of it.
#[derive(Debug, Default)]
struct Sent {
    view: View,
    /// By the id of each part.
    parts: HashMap<String, String>,
}

/// An answer that goes on.
pub(super) fn stream(watcher: Watcher) -> Answer {
    let (send, pieces) = mpsc::channel(1);
    tokio::spawn(watcher.watch(send));
    response::live(pieces)
}

/// An answer that says that the session is over.
pub(super) fn end() -> Answer {
    let (send, pieces) = mpsc::channel(1);
    let _ = send.try_send(over());
    response::live(pieces)
}

impl Watcher {
    async fn watch(self, send: mpsc::Sender<Bytes>) {
        let mut second = interval(SECOND);
        second.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut sent = Sent::default();
        loop {
            tokio::select! {
                _ = second.tick() => {}
                () = send.closed() => return,
            }
            let Some(event) = self.event(&mut sent).await else {
                return;
            };
            let is_last = event == over();
            match timeout(TO_READ, send.send(event)).await {
                Ok(Ok(())) if !is_last => self.patience.again(),
                _ => return,
            }
        }
    }

    /// The next event; `None` if the tunnel is gone.
    async fn event(&self, sent: &mut Sent) -> Option<Bytes> {
        // Others may have had the last report, and this session is over.
        match self.hub.ask(&self.browser, Verb::Who).await {
            Ok(_) => {}
            Err(Nothing::Gone) => return None,
            Err(Nothing::NoSession | Nothing::Refused(_)) => return Some(over()),
        }
        let seen = match self.reports.get(&self.hub, &self.browser).await {
            Ok(seen) => seen,
            Err(Nothing::NoSession) => return Some(over()),
            // It is busy: a line that browsers skip says that we are here.
            Err(Nothing::Refused(_)) => return Some(Bytes::from_static(b": busy\n\n")),
            Err(Nothing::Gone) => return None,
        };
        let frame = Frame {
            language: self.language,
            path: "/live",
            form: &self.who.form,
            once: "",
            user: &self.who.token,
            notice: None,
            typed: &NO_FIELDS,
            has_rules: false,
        };
        let mut parts = Map::new();
        for part in sent.view.parts(&self.query, &seen, &frame) {
            let last = sent.parts.get(&part.id);
            if last != Some(&part.markup) {
                parts.insert(part.id.clone(), Value::from(part.markup.as_str()));
                sent.parts.insert(part.id, part.markup);
            }
        }
        // JSON has no line feed that isn't escaped.
        let parts = Value::Object(parts);
        Some(format!("event: parts\ndata: {parts}\n\n").into())
    }
}

fn over() -> Bytes {
    Bytes::from_static(b"event: over\ndata: over\n\n")
}
