//! What is told of the page in the browser.

use serde::{Deserialize, Serialize};

use super::UnixTime;

/// The page, as `status` shows it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct WebStatus {
    /// Where browsers connect to.
    pub listen: Vec<String>,
    /// Why nobody answers there; `None` while somebody does.
    pub ended: Option<String>,
}

/// A token for the page, without what it is: only its hash is kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WebToken {
    /// What it is called.
    pub name: String,
    /// When it was made.
    pub made_at: UnixTime,
    /// When it ends.
    pub ends_at: UnixTime,
    /// How many browsers are logged in by it.
    pub sessions: u64,
}

/// What the counters gained in about a second.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Moment {
    /// Bytes from peers to this host, a second.
    pub rx_bytes: u64,
    /// From this host to peers.
    pub tx_bytes: u64,
    /// From peer to peer.
    pub relayed_bytes: u64,
    /// Packets dropped, for whatever reason.
    pub drops: u64,
}
