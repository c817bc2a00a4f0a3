//! What a peer is held to, as `status` tells it.

use serde::{Deserialize, Serialize};

use super::UnixTime;

/// How fast a peer may be in one direction, and what waits for that.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RateStatus {
    /// Its own rate; `None` where only the uplink limits it.
    pub bits_per_second: Option<u64>,
    /// Packets that wait for their turn.
    pub waiting_packets: u64,
    /// Their bytes.
    pub waiting_bytes: u64,
    /// Packets dropped since it is limited, so that who sends them slows down.
    pub dropped_packets: u64,
}

/// How much a peer may move.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct QuotaStatus {
    /// Bytes of both ways together.
    pub bytes: u64,
    /// In each of these: `day` or `month`.
    pub period: String,
    /// What it has moved in this one.
    pub used_bytes: u64,
    /// When the next begins.
    pub ends_at: UnixTime,
}
