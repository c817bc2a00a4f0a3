//! A client of etcd: calls that end.
//!
//! It speaks etcd's gRPC over the `h2` that is below every gRPC of Rust, with `prost` for the
//! messages. Two other ways were weighed:
//!
//! * `etcd-client` is the same by tonic: some twenty crates more, `protoc` to build it, and a
//!   channel that reconnects by itself, so that nobody knows which member answered, while its
//!   watches and leases don't come back. What a hub needs most (which member, in what time, and
//!   what then) would be built around it all the same.
//! * etcd's own HTTP gateway needs no gRPC, but refuses clients whose certificate has a common
//!   name, which nearly all have; it can be switched off, makes the members' server certificates
//!   be client certificates as well, and takes a third more bytes for base64.
//!
//! Members are asked in turn: the one that answered last is asked first. Each attempt has a limit,
//! and so has the whole call. A write that may have been done isn't repeated:
//! [`Error::Uncertain`] says so.

mod endpoint;
mod error;
mod grpc;
mod messages;
mod watch;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use bytes::Bytes;
use prost::Message;
use tokio::sync::Mutex;
use tokio::time::timeout;

pub use endpoint::{Endpoint, NotAnEndpoint, Tls, TlsError};
pub use error::Error;
use grpc::Connection;
use messages::{
    Compare, DeleteRangeRequest, Expected, LeaseGrantRequest, LeaseGrantResponse, LeaseRequest,
    LeaseResponse, Nothing, Operation, PutRequest, RangeRequest, RangeResponse, RequestOp, Target,
    TxnRequest, TxnResponse,
};
pub use watch::{At, Change, Told, Watch};

/// Keys of one page of a list.
const PAGE: i64 = 1000;
/// Keys of one network at the most: a store that has more isn't a network's.
pub const MAX_KEYS: usize = 1 << 20;

/// How long things may take.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// To connect to a member.
    pub connect: Duration,
    /// One member's answer.
    pub answer: Duration,
    /// A call in all, whatever is tried.
    pub call: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(2),
            answer: Duration::from_secs(3),
            call: Duration::from_secs(8),
        }
    }
}

/// A key with its value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The key, whole.
    pub key: Bytes,
    /// The value.
    pub value: Bytes,
    /// The revision of the store that wrote it.
    pub revision: i64,
}

/// What the store had at one revision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listing {
    /// Which store, and when.
    pub at: At,
    /// The keys, in order.
    pub entries: Vec<Entry>,
}

/// Changes that are made together, if all that is expected is so; else none is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Transaction {
    expected: Vec<(String, i64)>,
    puts: Vec<(String, Vec<u8>)>,
    deletes: Vec<String>,
}

impl Transaction {
    /// Nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Creates a key that must not be there.
    #[must_use]
    pub fn create(self, key: String, value: impl Into<Vec<u8>>) -> Self {
        self.replace(key, 0, value)
    }

    /// Writes a key that must still be of `revision`; 0 if it must not be there.
    #[must_use]
    pub fn replace(mut self, key: String, revision: i64, value: impl Into<Vec<u8>>) -> Self {
        self.expected.push((key.clone(), revision));
        self.puts.push((key, value.into()));
        self
    }

    /// Takes a key away that must still be of `revision`.
    #[must_use]
    pub fn delete(mut self, key: String, revision: i64) -> Self {
        self.expected.push((key.clone(), revision));
        self.deletes.push(key);
        self
    }

    fn request(self) -> TxnRequest {
        let compare = |(key, revision): (String, i64)| Compare {
            target: Target::ModRevision.into(),
            key: key.into(),
            expected: Some(Expected::ModRevision(revision)),
        };
        let put = |(key, value): (String, Vec<u8>)| {
            let key = key.into();
            Operation::Put(PutRequest {
                key,
                value,
                lease: 0,
            })
        };
        let delete = |key: String| Operation::Delete(DeleteRangeRequest { key: key.into() });
        let puts = self.puts.into_iter().map(put);
        let operations = puts.chain(self.deletes.into_iter().map(delete));
        let success = operations.map(|operation| RequestOp {
            request: Some(operation),
        });
        TxnRequest {
            compare: self.expected.into_iter().map(compare).collect(),
            success: success.collect(),
        }
    }
}

/// The store. Clones are the same client.
#[derive(Debug, Clone)]
pub struct Store(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    endpoints: Vec<Endpoint>,
    tls: Option<Tls>,
    limits: Limits,
    current: Mutex<Current>,
}

/// Whom to ask next.
#[derive(Debug, Default)]
struct Current {
    at: usize,
    connection: Option<Arc<Connection>>,
}

/// Whether a call may be made twice.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Repeat {
    Harmless,
    Unknown,
}

impl Store {
    /// A client of these members. Connects when it is asked for something. `None` without members.
    pub fn new(endpoints: Vec<Endpoint>, tls: Option<Tls>, limits: Limits) -> Option<Self> {
        (!endpoints.is_empty()).then(|| {
            Self(Arc::new(Inner {
                endpoints,
                tls,
                limits,
                current: Mutex::default(),
            }))
        })
    }

    /// All keys that begin with `prefix`, as they were at one revision.
    pub async fn list(&self, prefix: &str) -> Result<Listing, Error> {
        let end = end_of(prefix);
        let mut listing = Listing {
            at: At::default(),
            entries: Vec::new(),
        };
        let mut from = prefix.as_bytes().to_vec();
        loop {
            let request = RangeRequest {
                key: from,
                range_end: end.clone(),
                limit: PAGE,
                // None on the first page: what is newest.
                revision: listing.at.revision,
            };
            let page: RangeResponse = self.call("KV/Range", &request, Repeat::Harmless).await?;
            let header = page.header.unwrap_or_default();
            if listing.at.revision == 0 {
                listing.at = At::of(&header);
            }
            let last = page.kvs.last().map(|kv| kv.key.clone());
            listing.entries.extend(page.kvs.into_iter().map(|kv| Entry {
                key: kv.key,
                value: kv.value,
                revision: kv.mod_revision,
            }));
            if listing.entries.len() > MAX_KEYS {
                return Err(Error::TooMany(MAX_KEYS));
            }
            match last {
                Some(last) if page.more => from = [last.as_ref(), &[0]].concat(),
                _ => return Ok(listing),
            }
        }
    }

    /// One key, as the store has it now.
    pub async fn get(&self, key: &str) -> Result<Option<Entry>, Error> {
        let request = RangeRequest {
            key: key.into(),
            ..RangeRequest::default()
        };
        let answer: RangeResponse = self.call("KV/Range", &request, Repeat::Harmless).await?;
        Ok(answer.kvs.into_iter().next().map(|kv| Entry {
            key: kv.key,
            value: kv.value,
            revision: kv.mod_revision,
        }))
    }

    /// Writes a key, whatever was there, for as long as `lease` lives (0: for good). Doing it
    /// twice is doing it once.
    pub async fn put(&self, key: &str, value: &[u8], lease: i64) -> Result<(), Error> {
        let request = PutRequest {
            key: key.into(),
            value: value.into(),
            lease,
        };
        let Nothing {} = self.call("KV/Put", &request, Repeat::Harmless).await?;
        Ok(())
    }

    /// Makes changes together. `false`: something wasn't as expected, and nothing is changed.
    pub async fn apply(&self, transaction: Transaction) -> Result<bool, Error> {
        let request = transaction.request();
        let answer: TxnResponse = self.call("KV/Txn", &request, Repeat::Unknown).await?;
        Ok(answer.succeeded)
    }

    /// The same, and where the answer was lost, it looks whether the store has what was written.
    /// For values that nobody else writes.
    pub async fn settle(&self, transaction: Transaction) -> Result<bool, Error> {
        let error = match self.apply(transaction.clone()).await {
            Err(Error::Uncertain(error)) => error,
            answer => return answer,
        };
        for (key, value) in &transaction.puts {
            let found = self.get(key).await;
            let found = found.map_err(|_| Error::Uncertain(error.clone()))?;
            if found.is_none_or(|found| found.value != *value) {
                return Err(*error);
            }
        }
        Ok(true)
    }

    /// A lease of so many seconds. One that is granted and lost to the answer ends by itself.
    pub async fn grant(&self, seconds: u32) -> Result<i64, Error> {
        let request = LeaseGrantRequest {
            ttl: i64::from(seconds),
        };
        let answer: LeaseGrantResponse = self
            .call("Lease/LeaseGrant", &request, Repeat::Harmless)
            .await?;
        Ok(answer.id)
    }

    /// Keeps a lease for its time again. `false`: it is over.
    pub async fn keep_alive(&self, lease: i64) -> Result<bool, Error> {
        let request = LeaseRequest { id: lease };
        let answer: LeaseResponse = self
            .call("Lease/LeaseKeepAlive", &request, Repeat::Harmless)
            .await?;
        Ok(answer.ttl > 0)
    }

    /// Ends a lease, and all keys that live by it.
    pub async fn revoke(&self, lease: i64) -> Result<(), Error> {
        let request = LeaseRequest { id: lease };
        let Nothing {} = self
            .call("Lease/LeaseRevoke", &request, Repeat::Harmless)
            .await?;
        Ok(())
    }

    /// Tells what changes below `prefix` from a revision on.
    pub async fn watch(&self, prefix: &str, from: i64) -> Result<Watch, Error> {
        let limit = self.0.limits.answer;
        self.attempt(Repeat::Harmless, |connection| async move {
            Watch::open(&connection, prefix.as_bytes(), end_of(prefix), from, limit).await
        })
        .await
    }

    async fn call<Q: Message, A: Message + Default>(
        &self,
        method: &str,
        question: &Q,
        repeat: Repeat,
    ) -> Result<A, Error> {
        self.attempt(repeat, |connection| async move {
            connection.call(method, question).await
        })
        .await
    }

    /// Asks one member after the other, until one answers.
    async fn attempt<A, F: Future<Output = Result<A, Error>>>(
        &self,
        repeat: Repeat,
        ask: impl Fn(Arc<Connection>) -> F,
    ) -> Result<A, Error> {
        let sent = AtomicBool::new(false);
        let all = async {
            let mut last = None;
            // One more: a connection that has gone stale says nothing about its member.
            for _ in 0..=self.0.endpoints.len() {
                let connection = match self.connection().await {
                    Ok(connection) => connection,
                    Err(error) => {
                        last = Some(error);
                        continue;
                    }
                };
                sent.store(true, Relaxed);
                let answer = timeout(self.0.limits.answer, ask(connection.clone())).await;
                let late = || Error::TimedOut(connection.endpoint().to_string());
                let error = match answer.unwrap_or_else(|_| Err(late())) {
                    Ok(answer) => return Ok(answer),
                    Err(error) => error,
                };
                if !error.is_elsewhere_better() {
                    return Err(error);
                }
                self.leave(&connection).await;
                if error.is_undone() {
                    sent.store(false, Relaxed);
                } else if repeat == Repeat::Unknown {
                    return Err(Error::Uncertain(Box::new(error)));
                }
                last = Some(error);
            }
            Err(last.expect("at least one attempt was made"))
        };
        if let Ok(answer) = timeout(self.0.limits.call, all).await {
            return answer;
        }
        let error = Error::TimedOut(self.all_endpoints());
        Err(match repeat {
            Repeat::Unknown if sent.load(Relaxed) => Error::Uncertain(Box::new(error)),
            _ => error,
        })
    }

    fn all_endpoints(&self) -> String {
        let texts = self.0.endpoints.iter().map(ToString::to_string);
        texts.collect::<Vec<_>>().join(", ")
    }

    /// The connection there is, or one to the next member.
    async fn connection(&self) -> Result<Arc<Connection>, Error> {
        let mut current = self.0.current.lock().await;
        if let Some(connection) = &current.connection
            && !connection.is_over()
        {
            return Ok(connection.clone());
        }
        let endpoint = &self.0.endpoints[current.at];
        let opening = Connection::open(endpoint, self.0.tls.as_ref());
        let opened = match timeout(self.0.limits.connect, opening).await {
            Ok(opened) => opened,
            Err(_) => Err(Error::TimedOut(endpoint.to_string())),
        };
        match opened {
            Ok(connection) => {
                let connection = Arc::new(connection);
                current.connection = Some(connection.clone());
                Ok(connection)
            }
            Err(error) => {
                current.connection = None;
                current.at = (current.at + 1) % self.0.endpoints.len();
                Err(error)
            }
        }
    }

    /// Goes to the next member, if `connection` is still the one that is used.
    async fn leave(&self, connection: &Arc<Connection>) {
        let mut current = self.0.current.lock().await;
        let is_current = |used: &Arc<Connection>| Arc::ptr_eq(used, connection);
        if current.connection.as_ref().is_some_and(is_current) {
            current.connection = None;
            current.at = (current.at + 1) % self.0.endpoints.len();
        }
    }

    /// Goes to the next member: a watch went silent, and calls would wait as well.
    pub(crate) async fn leave_member(&self, endpoint: &Endpoint) {
        let mut current = self.0.current.lock().await;
        let is_current = |used: &Arc<Connection>| used.endpoint() == endpoint;
        if current.connection.as_ref().is_some_and(is_current) {
            current.connection = None;
            current.at = (current.at + 1) % self.0.endpoints.len();
        }
    }
}

/// The first key after all that begin with `prefix`, which ends with a slash.
fn end_of(prefix: &str) -> Vec<u8> {
    let mut end = prefix.as_bytes().to_vec();
    if let Some(last) = end.last_mut() {
        *last += 1;
    }
    end
}

/// The key that a path of the store stands for; `None` for what no Taltun writes.
pub fn key_of(path: &[u8], prefix: &str) -> Option<crate::Key> {
    let path = std::str::from_utf8(path).ok()?;
    crate::Key::parse(path.strip_prefix(prefix)?)
}
