//! What `taltun trace` tells.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use taltun_common::drops::DropReason;

use super::{TracePlace, TraceVerdict, UnixTime};

/// What comes over the socket: a line each.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TraceMessage {
    /// What is printed.
    Packet(Box<TracedPacket>),
    /// Nothing more comes, and why.
    End(String),
}

/// A line of `taltun trace --json`: a packet, or some of which no more is known.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TracedPacket {
    /// [`super::VERSION`].
    pub version: u32,
    /// When the batch began that it was in.
    pub timestamp: UnixTime,
    /// What became of it.
    pub verdict: TraceVerdict,
    /// The reason by which it was counted as dropped.
    #[serde(with = "super::drops::reason")]
    pub reason: Option<DropReason>,
    /// The rule that decided, `FILE:LINE`, or `default`; none for what belongs to something that
    /// was started.
    pub rule: Option<String>,
    /// Where it was seen; none for what was left out.
    pub place: Option<TracePlace>,
    /// The peer that it comes from.
    pub from: Option<String>,
    /// The peer that it goes to.
    pub to: Option<String>,
    /// Where its datagram comes from, or goes to.
    pub outer: Option<String>,
    /// Its protocol inside: `tcp`, `udp`, `icmp` or `ip/NUMBER`.
    pub protocol: Option<String>,
    /// Its source inside.
    pub source: Option<IpAddr>,
    /// With TCP and UDP, the port of that.
    pub source_port: Option<u16>,
    /// Its destination inside.
    pub destination: Option<IpAddr>,
    /// With TCP and UDP, the port of that.
    pub destination_port: Option<u16>,
    /// How many packets the line stands for.
    pub packets: u64,
    /// Its length.
    pub bytes: Option<u64>,
}
