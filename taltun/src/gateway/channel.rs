//! What the tunnel and its gateway say to each other, over a pair of Unix sockets: lines of JSON.
//!
//! First the sockets go over. The process then tells what it counted, whenever that has changed, and every three
//! seconds that it lives. The tunnel tells it to end.

use serde::{Deserialize, Serialize};

/// What the tunnel says.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Told {
    /// End all clients, and tell what was counted.
    End,
}

/// What the process says.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Said {
    /// It lives.
    Beat,
    /// How it is.
    Numbers(Numbers),
    /// It ends so many clients.
    Ending(u64),
    /// All of them are ended, and all of that was told.
    Ended,
}

/// How a gateway is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Numbers {
    /// How many clients it has.
    pub(crate) clients: u64,
    /// Their connections.
    pub(crate) connections: u64,
    /// Its counters since its start, in the order of their names.
    pub(crate) counted: Vec<u64>,
}
