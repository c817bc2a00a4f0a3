//! What `taltun status --json` and `taltun stats --json` print, as one outside `taltun`
//! reads it. A field that is missing or has another type is an error here: this is where a
//! change of the interface shows.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use serde::Deserialize;

/// `taltun status --json`.
#[derive(Debug, Clone, Deserialize)]
pub struct Status {
    /// Version of the JSON.
    pub version: u32,
    /// When this was so, in Unix seconds.
    pub timestamp: f64,
    /// Name of the TUN interface.
    pub interface: String,
    /// Where the UDP sockets listen.
    pub listen: SocketAddr,
    /// The mark of its datagrams.
    pub fwmark: Option<u32>,
    /// Seconds since the start.
    pub uptime_seconds: u64,
    /// The peers, in file order.
    pub peers: Vec<Peer>,
    /// The XDP program on each underlay interface.
    pub xdp: Vec<Xdp>,
    /// The AF_XDP socket of each queue of these.
    pub af_xdp: Vec<AfXdp>,
    /// How datagrams find their worker.
    pub steering: Steering,
    /// Whether flows that send little have a queue of the TUN of their own.
    pub sparse_queue: SparseQueue,
    /// How the threads that move packets compete for the cores.
    pub priority: Priority,
    /// What the kernel lets it do.
    pub rights: Rights,
}

impl Status {
    /// Whether every queue of these interfaces has an AF_XDP socket, and how many do.
    pub fn queues_over_af_xdp(&self) -> Option<usize> {
        let on = |queue: &&AfXdp| queue.mode != "off";
        let count = self.af_xdp.iter().filter(on).count();
        (count == self.af_xdp.len()).then_some(count)
    }
}

/// What the kernel lets a tunnel do.
#[derive(Debug, Clone, Deserialize)]
pub struct Rights {
    /// Capabilities of the controller.
    pub capabilities: Vec<String>,
    /// What becomes of its memory.
    pub memory: Memory,
    /// The threads that handle packets.
    pub packet_threads: PacketThreads,
    /// The process that opens what takes rights.
    pub privileged: Option<ProcessRights>,
    /// Why there is none, or what is the matter with it.
    pub privileged_problem: Option<String>,
    /// The processes that serve clients.
    pub processes: Vec<ProcessRights>,
}

/// What becomes of a tunnel's memory.
#[derive(Debug, Clone, Deserialize)]
pub struct Memory {
    /// Whether it is never swapped.
    pub locked: bool,
    /// Why it may be.
    pub reason: Option<String>,
}

/// What a process that serves clients may do.
#[derive(Debug, Clone, Deserialize)]
pub struct ProcessRights {
    /// Its name.
    pub name: String,
    /// The user that it runs as.
    pub user: u32,
    /// Its capabilities.
    pub capabilities: Vec<String>,
    /// Whether it may make only the system calls that it needs.
    pub seccomp: bool,
    /// Whether it may open no file.
    pub landlock: bool,
    /// Why it may do more.
    pub reason: Option<String>,
}

/// What the threads that handle packets may do.
#[derive(Debug, Clone, Deserialize)]
pub struct PacketThreads {
    /// How many there are.
    pub count: usize,
    /// Capabilities that any of them has.
    pub capabilities: Vec<String>,
    /// Whether each may make only the system calls that it needs.
    pub seccomp: bool,
    /// System calls that they were refused.
    pub refused_calls: u64,
}

/// How datagrams find their worker.
#[derive(Debug, Clone, Deserialize)]
pub struct Steering {
    /// `ebpf`, `off` or `none`.
    pub mode: String,
    /// Why.
    pub reason: String,
}

/// Whether flows that send little have a queue of the TUN of their own.
#[derive(Debug, Clone, Deserialize)]
pub struct SparseQueue {
    /// Whether they have it.
    pub on: bool,
    /// Why.
    pub reason: String,
}

/// How the threads that move packets compete for the cores.
#[derive(Debug, Clone, Deserialize)]
pub struct Priority {
    /// What the file asks for: `normal`, `high` or `realtime`.
    pub wanted: String,
    /// What they have.
    pub mode: String,
    /// Why.
    pub reason: String,
    /// How often they lost realtime.
    pub demotions: u64,
}

/// A peer of `status`.
#[derive(Debug, Clone, Deserialize)]
pub struct Peer {
    /// Its name, if it has one.
    pub name: Option<String>,
    /// Its public key, base64.
    pub public_key: String,
    /// Where it was last heard.
    pub endpoint: Option<SocketAddr>,
    /// Seconds since the last completed handshake.
    pub latest_handshake_seconds: Option<f64>,
    /// Handshakes completed since the start.
    pub handshakes: u64,
    /// Bytes received from it.
    pub rx_bytes: u64,
    /// Bytes sent to it.
    pub tx_bytes: u64,
    /// The places between which it moves back and forth.
    pub moves_between: Vec<SocketAddr>,
    /// The paths to it.
    pub paths: Vec<PathTo>,
}

/// A path to a peer.
#[derive(Debug, Clone, Deserialize)]
pub struct PathTo {
    /// `used`, `ready`, `set_aside`, `silent` or `unknown`.
    pub state: String,
    /// Seconds from a probe to its answer.
    pub delay_seconds: Option<f64>,
}

/// The XDP program on one interface.
#[derive(Debug, Clone, Deserialize)]
pub struct Xdp {
    /// The underlay interface; empty where the reason concerns all.
    pub interface: String,
    /// `driver`, `generic` or `off`.
    pub mode: String,
    /// Why this mode.
    pub reason: String,
}

/// What comes in through AF_XDP on one queue.
#[derive(Debug, Clone, Deserialize)]
pub struct AfXdp {
    /// The underlay interface; empty where the reason concerns all.
    pub interface: String,
    /// Which of its queues.
    pub queue: Option<u32>,
    /// `zero-copy`, `copy` or `off`.
    pub mode: String,
    /// Why this mode.
    pub reason: String,
    /// Frames received.
    pub received: u64,
    /// Frames sent.
    pub sent: u64,
    /// Frames lost because the ring was full.
    pub ring_full: u64,
    /// Frames lost because no memory was free.
    pub dropped: u64,
    /// How often the kernel found no free memory.
    pub fill_empty: u64,
}

/// `taltun stats --json`.
#[derive(Debug, Clone, Deserialize)]
pub struct Stats {
    /// Version of the JSON.
    pub version: u32,
    /// When this was so, in Unix seconds.
    pub timestamp: f64,
    /// Name of the TUN interface.
    pub interface: String,
    /// Dropped packets by reason.
    pub drops: BTreeMap<String, u64>,
    /// What the workers moved.
    pub traffic: Traffic,
    /// What both gained a second; none in the first second.
    pub rates: Option<Rates>,
    /// What didn't go as it should, and cost nothing but time.
    pub fallbacks: Fallbacks,
    /// Batches that were sealed or opened by more than one thread.
    pub parallel_batches: u64,
    /// Who sent to us on the underlay, most packets first.
    pub sources: Vec<Source>,
    /// Outer sources denied now.
    pub denied: Vec<String>,
    /// Inner sources denied now.
    pub denied_inner: Vec<String>,
    /// All of these with their ends.
    pub bans: Vec<Ban>,
}

impl Stats {
    /// How many packets were dropped for `reason`.
    pub fn dropped(&self, reason: &str) -> u64 {
        self.drops.get(reason).copied().unwrap_or_default()
    }

    /// How many packets were dropped for whatever reason.
    pub fn dropped_in_all(&self) -> u64 {
        self.drops.values().sum()
    }

    /// What was counted of the outer source `addr`.
    pub fn source(&self, addr: IpAddr) -> Option<&Source> {
        self.sources.iter().find(|source| source.addr == addr)
    }
}

/// What the counters gained a second.
#[derive(Debug, Clone, Deserialize)]
pub struct Rates {
    /// Over how many seconds.
    pub over_seconds: f64,
    /// Of `traffic`.
    pub traffic: Traffic,
    /// Of `drops`.
    pub drops: BTreeMap<String, u64>,
}

/// A network that is denied.
#[derive(Debug, Clone, Deserialize)]
pub struct Ban {
    /// The network.
    pub net: String,
    /// How long its ban lasts still.
    pub seconds_left: Option<u64>,
    /// When it ends, in Unix seconds.
    pub ends_at: Option<f64>,
}

/// Packets and bytes of inner traffic.
#[derive(Debug, Clone, Copy, Deserialize)]
pub struct Traffic {
    /// Packets written to the TUN.
    pub rx_packets: u64,
    /// Their bytes.
    pub rx_bytes: u64,
    /// Packets read from the TUN.
    pub tx_packets: u64,
    /// Their bytes.
    pub tx_bytes: u64,
    /// Packets relayed from one peer to another.
    pub relayed_packets: u64,
    /// Their bytes.
    pub relayed_bytes: u64,
}

/// What didn't go as it should, and cost nothing but time.
#[derive(Debug, Clone, Copy, Deserialize)]
pub struct Fallbacks {
    /// Data that came to another worker than its session's.
    pub strayed: u64,
}

/// An outer source, as the XDP program counted it.
#[derive(Debug, Clone, Deserialize)]
pub struct Source {
    /// Its address.
    pub addr: IpAddr,
    /// Packets to our port, dropped ones included.
    pub packets: u64,
    /// Bytes of these at layer 2.
    pub bytes: u64,
    /// How many of the packets were dropped.
    pub drops: u64,
}
