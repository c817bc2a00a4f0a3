//! Why the store didn't do what it was asked for.

use std::fmt;

/// Why a call of the store failed. `Display` says what to look at.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// No connection to an endpoint.
    #[error("{endpoint}: no connection: {why}")]
    Unreachable {
        /// Which.
        endpoint: String,
        /// Why.
        why: String,
    },
    /// Nothing came in time.
    #[error("{0}: no answer in time")]
    TimedOut(String),
    /// The connection ended, or what came over it is no gRPC.
    #[error("{endpoint}: {why}")]
    Broken {
        /// Which.
        endpoint: String,
        /// Why.
        why: String,
    },
    /// The store has no leader, or its answer to a member took too long.
    #[error("etcd can't answer now: {0}")]
    Unavailable(String),
    /// This client may not do that.
    #[error("etcd refuses this hub: {0}; check its certificate and its etcd user")]
    Denied(String),
    /// The store takes no more.
    #[error(
        "etcd's database is full: {0}; compact and defragment it, or raise --quota-backend-bytes"
    )]
    Full(String),
    /// Old revisions are gone.
    #[error("etcd has compacted the revisions that were asked for")]
    Compacted,
    /// Something else that etcd says.
    #[error("etcd: {message} (gRPC status {code})")]
    Status {
        /// The gRPC status.
        code: u32,
        /// etcd's words.
        message: String,
    },
    /// The store has more than a network can have.
    #[error("etcd has more than {0} keys of this network")]
    TooMany(usize),
    /// A write may be done, or not.
    #[error("{0}; it isn't known whether the change was made")]
    Uncertain(Box<Error>),
}

impl Error {
    /// Whether another endpoint may do better.
    pub fn is_elsewhere_better(&self) -> bool {
        matches!(
            self,
            Self::Unreachable { .. }
                | Self::TimedOut(_)
                | Self::Broken { .. }
                | Self::Unavailable(_)
        )
    }

    /// Whether etcd itself said that it did nothing, for want of a leader.
    pub(crate) fn is_undone(&self) -> bool {
        matches!(self, Self::Unavailable(why) if why.contains("no leader"))
    }

    pub(crate) fn broken(endpoint: &impl fmt::Display, why: impl fmt::Display) -> Self {
        Self::Broken {
            endpoint: endpoint.to_string(),
            why: why.to_string(),
        }
    }

    /// A gRPC status that isn't 0.
    pub(crate) fn status(code: u32, message: String) -> Self {
        match code {
            14 => Self::Unavailable(message),
            7 | 16 => Self::Denied(message),
            // Without a user, where there must be one, etcd says so by this status.
            3 if message.contains("user name is empty") => Self::Denied(message),
            8 => Self::Full(message),
            11 if message.contains("compacted") => Self::Compacted,
            _ => Self::Status { code, message },
        }
    }
}
