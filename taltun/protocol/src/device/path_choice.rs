//! How paths to a peer are chosen among, and what is told of them.

use std::net::SocketAddr;
use std::time::Duration;

use crate::place::Place;

/// How paths are chosen among.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HopSettings {
    /// From one hop to the next, on average; zero: each batch goes to another port of the pool.
    pub interval: Duration,
    /// How many ports have a mapping at NATs at once, at the most.
    pub pool: usize,
    /// From one probe of a path to the next.
    pub probe_interval: Duration,
    /// A path that loses more in a hundred probes is left.
    pub loss_threshold: u32,
    /// How long a path that was left isn't returned to.
    pub retry_after: Duration,
    /// Whether all our initiations say that we take control messages.
    pub always_marked: bool,
}

impl Default for HopSettings {
    fn default() -> Self {
        Self {
            interval: Duration::from_secs(30),
            pool: 8,
            probe_interval: Duration::from_secs(5),
            loss_threshold: 20,
            retry_after: Duration::from_secs(60),
            always_marked: false,
        }
    }
}

/// How a path is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PathState {
    /// Data goes there.
    Used,
    /// It works, and waits for its turn.
    Ready,
    /// It was left, or loses too much.
    SetAside,
    /// The last probes weren't answered.
    Silent,
    /// It wasn't probed yet.
    Unknown,
}

/// What is known of a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PathReport {
    /// Where it leads.
    pub place: Place,
    /// How it is.
    pub state: PathState,
    /// From a probe to its answer, smoothed.
    pub delay: Option<Duration>,
    /// Of the last probes, how many in a hundred were lost.
    pub loss: Option<u32>,
}

/// Data goes another way to a peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PathChange {
    /// Where it went before.
    pub from: SocketAddr,
    /// Where it goes now.
    pub to: SocketAddr,
    /// Why.
    pub why: Why,
}

/// Why data goes another way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    /// The path before doesn't answer.
    Silent,
    /// The path before loses so many probes in a hundred.
    Lossy(u32),
    /// This path comes earlier in the list, and works again.
    Returned,
    /// The peer spoke from where no path leads.
    Astray,
    /// A handshake was answered on this one.
    Handshake,
}
