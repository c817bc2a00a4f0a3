//! What `taltun ping` tells.

use std::net::IpAddr;

use serde::Serialize;

use super::UnixTime;

/// `taltun ping --json`: round trips to a peer, through the tunnel and beside it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Ping {
    /// [`super::VERSION`].
    pub version: u32,
    /// When the last answer had come, or was given up.
    pub timestamp: UnixTime,
    /// Name of the TUN interface.
    pub interface: String,
    /// The peer's name, or its key if it has none.
    pub peer: String,
    /// To its address inside.
    pub tunnel: RoundTrips,
    /// To its endpoint, past the tunnel; `None` where it has none yet.
    pub path: Option<RoundTrips>,
}

/// Echo requests to one address, and their answers.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RoundTrips {
    /// Whom they were sent to.
    pub address: IpAddr,
    /// How many.
    pub sent: u64,
    /// How many were answered.
    pub received: u64,
    /// The fastest answer, seconds; as the following, `None` where there was none.
    pub min_seconds: Option<f64>,
    /// Half took no longer, seconds.
    pub median_seconds: Option<f64>,
    /// 99 of 100 took no longer, seconds.
    pub p99_seconds: Option<f64>,
    /// The slowest, seconds.
    pub max_seconds: Option<f64>,
    /// Why one couldn't be sent, by the kernel.
    pub problem: Option<String>,
}
