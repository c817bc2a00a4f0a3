//! What `taltun top` reads each second: as much of `status` and `stats` as a screen shows.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::{Stats, Status};

/// As much of a tunnel as fits a screen, and how much there is.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Overview {
    /// The configuration that it runs by, if there is a file.
    #[serde(default)]
    pub file: Option<PathBuf>,
    /// The tunnel, with the peers that were asked for, in the order that was asked for.
    pub status: Status,
    /// What it moved and dropped, with the largest sources only.
    pub stats: Stats,
    /// All peers.
    pub peers: PeerCounts,
    /// How many of them match what was looked for.
    pub found: u64,
    /// Who sends to whom by the relay, those first that moved most since somebody began to look.
    #[serde(default)]
    pub pairs: Vec<RelayPair>,
}

/// What one peer sent to another.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RelayPair {
    /// The sender's name, or its key.
    pub from: String,
    /// The receiver's.
    pub to: String,
    /// Packets.
    pub packets: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// How many peers there are, and how they stand.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeerCounts {
    /// With a session.
    pub online: u64,
    /// Without one now.
    pub away: u64,
    /// That had none since the start.
    pub never: u64,
}

impl PeerCounts {
    /// All of them.
    pub fn all(&self) -> u64 {
        self.online + self.away + self.never
    }
}
