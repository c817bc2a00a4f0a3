//! What `stats` tells.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use taltun_common::drops::DropReason;

use super::drops::{self, Drops};
use super::rates::{Rates, Traffic};
use super::standing::{StandingCounts, Ways};
use super::{BanStatus, UnixTime};

/// `taltun stats --json`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Stats {
    /// [`VERSION`](super::VERSION).
    #[serde(default)]
    pub version: u32,
    /// When this was so.
    #[serde(default)]
    pub timestamp: UnixTime,
    /// Name of the TUN interface.
    #[serde(default)]
    pub interface: String,
    /// Dropped packets by reason, those of the XDP program and of user space together.
    pub drops: Drops,
    /// What the workers moved.
    pub traffic: Traffic,
    /// What both gained a second; `None` in the first second.
    #[serde(default)]
    pub rates: Option<Rates>,
    /// Those of `drops` of the last minute.
    #[serde(default)]
    pub drops_last_minute: Drops,
    /// How often the kernel refused an offload that it had offered.
    #[serde(default)]
    pub fallbacks: Fallbacks,
    /// Batches that were sealed or opened by more than one thread (`dataplane.crypto_threads`).
    #[serde(default)]
    pub parallel_batches: u64,
    /// How long packets stood in the tunnel's process.
    #[serde(default)]
    pub standing: Ways<StandingCounts>,
    /// Who sent to us on the underlay, most packets first (at most 1024).
    pub sources: Vec<Source>,
    /// Whose packets came out of the tunnel into this host or were relayed to another peer, most
    /// packets first (at most 1024).
    #[serde(default)]
    pub sources_inner: Vec<Source>,
    /// Outer sources denied now.
    pub denied: Vec<IpNet>,
    /// Inner sources denied now.
    pub denied_inner: Vec<IpNet>,
    /// All of these with their ends and their peers.
    #[serde(default)]
    pub bans: Vec<BanStatus>,
    /// What the UDP gateway counted, where `[udpgw]` is.
    #[serde(default)]
    pub udpgw: Option<UdpgwStats>,
    /// How busy the process is.
    #[serde(default)]
    pub load: Load,
}

/// How busy the process is, and what waits before its workers.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Load {
    /// Its threads, those of one name together.
    pub threads: Vec<ThreadLoad>,
    /// The sockets on the underlay, one a worker.
    pub sockets: Vec<SocketLoad>,
    /// Packets that found no room in the queue of the tunnel interface; `None`: not known.
    pub tunnel_queue_drops: Option<u64>,
}

/// What threads of a name ran since they started.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct ThreadLoad {
    /// As `top -H` shows it, 15 characters at most.
    pub name: String,
    /// Seconds on a processor.
    pub cpu_seconds: f64,
    /// Seconds that they waited for one.
    pub waited_seconds: f64,
}

/// The queue of a socket on the underlay.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SocketLoad {
    /// Whose it is; counted from 0.
    pub worker: u64,
    /// Memory of the datagrams that wait in it.
    pub queued_bytes: u64,
    /// Datagrams that found no room in it, since it was opened.
    pub drops: u64,
}

/// What the UDP gateway counted since the tunnel started, reloads included.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct UdpgwStats {
    /// Clients that are connected now.
    pub clients: u64,
    /// Their connections.
    pub connections: u64,
    /// All counters by their names, as `taltun udpgw --stats-interval` prints them.
    pub counters: BTreeMap<String, u64>,
}

/// How often the kernel refused an offload in use. No packet is lost by it: what was
/// refused goes again without, and an offload that is refused for good is switched off.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Fallbacks {
    /// Sending many datagrams as one (`UDP_SEGMENT`).
    pub udp_gso: u64,
    /// Writing many packets as one to the TUN.
    pub tun_offload: u64,
    /// Data that came to another worker than its session's, as happens where datagrams are
    /// not steered.
    #[serde(default)]
    pub strayed: u64,
}

/// A source. Outside, what came to our port, as XDP counted it; inside, what came out of the
/// tunnel, as TC counted it, segments one by one, and what the workers relay.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Source {
    /// Its address; the unspecified one (`::`) for all together that came faster than they
    /// can be told apart.
    pub addr: IpAddr,
    /// Packets, dropped ones included.
    pub packets: u64,
    /// Bytes of these: at layer 2 outside, from the IP header on inside.
    pub bytes: u64,
    /// How many of the packets the eBPF programs dropped; what user space drops isn't among them.
    pub drops: u64,
    /// Why the last of these was, on whichever CPU, as in [`Stats::drops`].
    #[serde(default, with = "drops::reason")]
    pub reason: Option<DropReason>,
}
