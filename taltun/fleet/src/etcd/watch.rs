//! A watch: what changes below a prefix, as long as the connection holds.
//!
//! A watch that is silent may be well or dead. So it asks how far the store is, each few seconds
//! without news, and is over if nothing comes back. It never starts anew by itself: who has it
//! knows from where on.

use std::time::Duration;

use bytes::Bytes;
use tokio::time::timeout;

use super::endpoint::Endpoint;
use super::error::Error;
use super::grpc::{Answers, Connection, Questions};
use super::messages::{Header, WatchAsk, WatchCreate, WatchProgress, WatchRequest, WatchResponse};

/// What became of a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// The key, whole.
    pub key: Bytes,
    /// Its value now; `None` if it is gone.
    pub value: Option<Bytes>,
    /// The revision of the store that made it so.
    pub revision: i64,
}

/// What a watch told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Told {
    /// What changed, in order.
    pub changes: Vec<Change>,
    /// From what revision a new watch goes on, if that is known now.
    pub next: Option<i64>,
}

/// Where a member of a store is in the store's history.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct At {
    /// Which store: another number is another store.
    pub cluster: u64,
    /// Raft's term, which only grows in the life of a store.
    pub term: u64,
    /// The revision, which only grows in the life of a store.
    pub revision: i64,
}

impl At {
    pub(super) fn of(header: &Header) -> Self {
        Self {
            cluster: header.cluster,
            term: header.term,
            revision: header.revision,
        }
    }

    /// Whether this can be what became of `before`. A store that was restored from a backup has
    /// its name, and often its number, but begins in an earlier term or at an earlier revision.
    pub fn follows(&self, before: &Self) -> bool {
        self.cluster == before.cluster
            && self.term >= before.term
            && self.revision >= before.revision
    }
}

/// A watch.
#[derive(Debug)]
pub struct Watch {
    endpoint: Endpoint,
    questions: Questions,
    answers: Answers,
    limit: Duration,
    at: At,
}

impl Watch {
    pub(super) async fn open(
        connection: &Connection,
        prefix: &[u8],
        range_end: Vec<u8>,
        from: i64,
        limit: Duration,
    ) -> Result<Self, Error> {
        let create = WatchCreate {
            key: prefix.to_vec(),
            range_end,
            start_revision: from,
            fragment: true,
        };
        let request = WatchRequest {
            ask: Some(WatchAsk::Create(create)),
        };
        let (questions, mut answers) = connection.stream("Watch/Watch", &request, false).await?;
        let endpoint = connection.endpoint().clone();
        let created: Option<WatchResponse> = answers.next().await?;
        let created = created.ok_or_else(|| Error::broken(&endpoint, "the watch ended at once"))?;
        if created.canceled {
            return Err(canceled(created));
        }
        let header = created.header.unwrap_or_default();
        Ok(Self {
            endpoint,
            questions,
            answers,
            limit,
            at: At::of(&header),
        })
    }

    /// Who tells.
    pub fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// Where the member was when the watch began.
    pub fn at(&self) -> At {
        self.at
    }

    /// What is told next. Waits no longer than twice the limit of an answer after which nothing
    /// came, neither news nor a sign of life.
    pub async fn next(&mut self) -> Result<Told, Error> {
        let mut asked = false;
        loop {
            // Cut off while it waits, it has taken nothing from the stream's messages.
            let answer = match timeout(self.limit, self.answers.next::<WatchResponse>()).await {
                Ok(answer) => answer?,
                Err(_) if asked => return Err(Error::TimedOut(self.endpoint.to_string())),
                Err(_) => {
                    asked = true;
                    let ask = Some(WatchAsk::Progress(WatchProgress {}));
                    self.questions.send(&WatchRequest { ask }, false)?;
                    continue;
                }
            };
            let Some(answer) = answer else {
                return Err(Error::broken(&self.endpoint, "the watch ended"));
            };
            asked = false;
            if answer.canceled {
                return Err(canceled(answer));
            }
            // A sign of life. Its revision isn't used: some versions send it before older news.
            if answer.events.is_empty() {
                continue;
            }
            return Ok(told(answer));
        }
    }
}

fn told(answer: WatchResponse) -> Told {
    let is_whole = !answer.fragment;
    let change = |(is_gone, kv): (bool, super::messages::KeyValue)| Change {
        key: kv.key,
        value: (!is_gone).then_some(kv.value),
        revision: kv.mod_revision,
    };
    let events = answer.events.into_iter();
    let events = events.filter_map(|event| Some((event.kind == 1, event.kv?)));
    let changes: Vec<_> = events.map(change).collect();
    let last = changes.last().map(|change| change.revision);
    Told {
        // Of a part of an answer the rest may be of the same revision.
        next: last.filter(|_| is_whole).map(|last| last + 1),
        changes,
    }
}

fn canceled(answer: WatchResponse) -> Error {
    match answer {
        answer if answer.compact_revision > 0 => Error::Compacted,
        answer if answer.cancel_reason.contains("no leader") => {
            Error::Unavailable(answer.cancel_reason)
        }
        answer => Error::status(7, answer.cancel_reason),
    }
}
