//! What is told of a fleet.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::UnixTime;

/// What `taltun fleet status --json` prints: what this hub knows of its fleet.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct FleetStatus {
    /// [`VERSION`](super::VERSION).
    pub version: u32,
    /// When this was so.
    pub timestamp: UnixTime,
    /// Name of the TUN interface.
    pub interface: String,
    /// What the fleet is called.
    pub name: String,
    /// What this hub is called in it.
    pub hub: String,
    /// Whether it is a member: by `fleet init` or `fleet join`.
    pub joined: bool,
    /// Whether it has the admin's key, so that peers can be changed here.
    pub admin: bool,
    /// The public key that verifies what the admin signs, hexadecimal.
    #[serde(default)]
    pub admin_key: Option<String>,
    /// Records that an admin's key before signed, and the one of now hasn't yet.
    #[serde(default)]
    pub to_sign: u64,
    /// The store.
    pub etcd: EtcdStatus,
    /// Writes that wait for etcd.
    pub pending: u64,
    /// Peers that the fleet has.
    pub peers: u64,
    /// Bans that are in force in the fleet.
    pub bans: u64,
    /// The hubs, in the order of their names.
    pub hubs: Vec<HubStatus>,
    /// How often this hub called a peer of another hub because it sends here.
    pub nudges: u64,
    /// When what is known was last saved on the disk.
    pub saved_at: Option<UnixTime>,
    /// When what is known of the fleet was saved, as long as this hub has it from its disk alone: it hasn't reached
    /// etcd since it started.
    #[serde(default)]
    pub from_disk_at: Option<UnixTime>,
    /// What somebody ought to look at, a sentence each.
    pub problems: Vec<String>,
}

/// How the store is, seen from this hub.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct EtcdStatus {
    /// Whether this hub follows it.
    pub connected: bool,
    /// Why not.
    pub error: Option<String>,
    /// The last revision that all was told of.
    pub revision: Option<u64>,
    /// Its members.
    pub members: Vec<EtcdMember>,
}

/// A member of etcd.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EtcdMember {
    /// Where it is.
    pub endpoint: String,
    /// Whether it answers with a quorum behind it; `None` before it was asked.
    pub answers: Option<bool>,
    /// Why not.
    pub error: Option<String>,
}

/// A hub of the fleet.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[allow(clippy::struct_excessive_bools, reason = "each is told by itself")]
pub struct HubStatus {
    /// What it is called.
    pub name: String,
    /// Whether it is this one.
    pub own: bool,
    /// Whether it is connected to etcd; what this hub knows while it is itself.
    pub live: bool,
    /// Its own public key, base64.
    pub public_key: String,
    /// The public key that its peers know it by, base64: that of its group, if it is in one.
    #[serde(default)]
    pub answers_as: String,
    /// The address that it shares with other hubs of its group.
    #[serde(default)]
    pub shared_address: Option<IpAddr>,
    /// Whether it has that address now.
    #[serde(default)]
    pub leads: bool,
    /// Whether it gives up its peers: `taltun fleet hub drain`.
    #[serde(default)]
    pub leaving: bool,
    /// Whether it has the admin's key, so that peers can be changed there.
    #[serde(default)]
    pub admin: bool,
    /// Its addresses in the tunnel.
    pub vip: Vec<IpAddr>,
    /// Where it is reached.
    pub endpoints: Vec<String>,
    /// With which hubs it belongs together.
    pub group: Option<String>,
    /// Which Taltun it runs.
    pub taltun: Option<String>,
    /// Since when it is connected.
    pub since: Option<UnixTime>,
    /// By how many seconds its clock is ahead of this hub's, measured twice a minute.
    #[serde(default)]
    pub clock_ahead_s: Option<f64>,
    /// How many peers are at home there: made their newest handshake with it.
    #[serde(default)]
    pub homes: u64,
    /// The way to it inside the tunnel; `None` for this hub, and before the other is a peer.
    #[serde(default)]
    pub path: Option<HubPath>,
}

/// The way from this hub to another one, measured by heartbeats each 300 ms.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HubPath {
    /// Whether the other hub answers: it did in the last 0.8 seconds.
    pub up: bool,
    /// Which part of the last heartbeats got no answer, 0 to 1; `None` before the first.
    pub loss: Option<f64>,
    /// How long the way there and back takes, milliseconds, smoothed; `None` before the first answer.
    pub delay_ms: Option<f64>,
}
