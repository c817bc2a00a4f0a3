//! What a tunnel's process and its threads may do.

use serde::{Deserialize, Serialize};

/// What the kernel lets the tunnel do.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RightsStatus {
    /// Capabilities of the controller.
    pub capabilities: Vec<String>,
    /// What becomes of its memory, which has keys in it.
    #[serde(default)]
    pub memory: MemoryStatus,
    /// The threads that handle packets.
    pub packet_threads: PacketThreads,
    /// The process that does for it what takes rights: sockets, marks and queues of its interface. `None` where there is
    /// none, and the controller does it.
    #[serde(default)]
    pub privileged: Option<ProcessRights>,
    /// Why there is none, or what is the matter with it.
    #[serde(default)]
    pub privileged_problem: Option<String>,
    /// The processes of its own that serve clients, those that run.
    #[serde(default)]
    pub processes: Vec<ProcessRights>,
}

/// What becomes of the memory of the tunnel's process.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemoryStatus {
    /// Whether it is never written to a swap device.
    pub locked: bool,
    /// Why it may be.
    pub reason: Option<String>,
}

/// What the threads that handle packets may do.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PacketThreads {
    /// How many there are.
    pub count: u64,
    /// Capabilities that any of them has: none, if all is right.
    pub capabilities: Vec<String>,
    /// Whether each may make no system calls but those that it needs.
    pub seccomp: bool,
    /// Why they may do more than they should.
    pub reason: Option<String>,
    /// System calls that they were refused since the start: none, if all is right.
    pub refused_calls: u64,
}

/// What a process beside the tunnel's own may do.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessRights {
    /// Its name, as `ps` and `ss` show it.
    pub name: String,
    /// The number of the user that it runs as.
    pub user: u32,
    /// Its capabilities: none of one that serves clients, if all is right.
    pub capabilities: Vec<String>,
    /// Whether it may make no system calls but those that it needs.
    pub seccomp: bool,
    /// Whether it may open no file but what it needs (Landlock).
    pub landlock: bool,
    /// Why it may do more than it should.
    pub reason: Option<String>,
}
