//! What the process reads of the tunnel.

use serde::{Deserialize, Serialize};

use crate::report::{Stats, Status};

/// What the tunnel answers to each line that asks, as a line of JSON.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// What there is to tell.
    Seen(Box<Seen>),
    /// Why there is nothing just now.
    Not(String),
}

/// All that the metrics are made of.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Seen {
    /// What `taltun status` tells.
    pub status: Status,
    /// What `taltun stats` tells.
    pub stats: Stats,
}
