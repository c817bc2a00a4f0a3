//! What `taltun explain` tells.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use taltun_common::drops::DropReason;

use super::{StepKind, UnixTime};

/// `taltun explain --json`: what would happen to the first packet of something.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Explanation {
    /// [`super::VERSION`].
    pub version: u32,
    /// When this was so.
    pub timestamp: UnixTime,
    /// Name of the TUN interface.
    pub interface: String,
    /// Who sends it: a peer's name or key, or `hub` for this host and what is behind it.
    pub from: String,
    /// Its source inside the tunnel.
    pub source: IpAddr,
    /// Its destination inside the tunnel.
    pub destination: IpAddr,
    /// Its protocol, with the port: `tcp/443`.
    pub service: String,
    /// Whether it passes.
    pub passes: bool,
    /// The reason by which a drop would be counted.
    #[serde(with = "super::drops::reason")]
    pub reason: Option<DropReason>,
    /// What decides, in the order in which it is asked, up to what drops it.
    pub steps: Vec<ExplainedStep>,
}

/// What one part of Taltun does with a packet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExplainedStep {
    /// What is asked.
    pub step: StepKind,
    /// Whether the packet goes on.
    pub passes: bool,
    /// Why, for people.
    pub why: String,
    /// Where what decides is written, `FILE:LINE`, where it is in a file.
    pub origin: Option<String>,
}
