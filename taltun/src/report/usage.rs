//! What `usage` tells, and what `status` tells of where it is kept.

use serde::{Deserialize, Serialize};

use super::UnixTime;
use super::words::UsageKept;

/// Where what peers move is kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UsageStatus {
    /// The place.
    pub kept: UsageKept,
    /// Why it isn't kept on disk, where it should be.
    pub reason: Option<String>,
    /// Why the day that counts isn't that of the clock, in words.
    #[serde(default)]
    pub clock: Option<String>,
    /// For how many days; `None` where a tunnel that doesn't run is told by its file.
    #[serde(default)]
    pub keep_days: Option<u32>,
}

/// `taltun usage --json`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Usage {
    /// [`VERSION`](super::VERSION).
    pub version: u32,
    /// When this was so.
    pub timestamp: UnixTime,
    /// Name of the TUN interface.
    pub interface: String,
    /// Whether the tunnel runs; else it is told by its file.
    pub running: bool,
    /// The first day that is told, in UTC: `YYYY-MM-DD`.
    pub first_day: String,
    /// The last one, which is today.
    pub last_day: String,
    /// Where it is kept.
    pub usage: UsageStatus,
    /// The peers that moved anything, those that moved most first.
    pub peers: Vec<PeerUsage>,
}

/// What a peer moved.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeerUsage {
    /// Its name, if it has one.
    pub name: Option<String>,
    /// Its public key, base64.
    pub public_key: String,
    /// Bytes received from it, handshakes and keepalives included, as the kernel counts.
    pub rx_bytes: u64,
    /// Messages received from it.
    pub rx_packets: u64,
    /// Bytes sent to it.
    pub tx_bytes: u64,
    /// Messages sent to it.
    pub tx_packets: u64,
    /// The same of each day that it moved anything on, where one peer was asked for.
    pub days: Vec<DayUsage>,
}

/// What a peer moved on a day.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DayUsage {
    /// The day, in UTC: `YYYY-MM-DD`.
    pub day: String,
    /// As in [`PeerUsage`].
    pub rx_bytes: u64,
    /// Likewise.
    pub rx_packets: u64,
    /// Likewise.
    pub tx_bytes: u64,
    /// Likewise.
    pub tx_packets: u64,
}
