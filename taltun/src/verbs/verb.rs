//! What the privileged process can be asked.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

/// Most sockets that share a port: one a worker.
pub const MOST_SOCKETS: u16 = 64;
/// Most queues of the tunnel's interface, sparse ones included.
pub const MOST_QUEUES: usize = 2 * MOST_SOCKETS as usize;

/// One thing that takes rights.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Verb {
    /// Does nothing: who asks wants to know whether there is an answer.
    Nothing,
    /// Opens UDP sockets that share the port of this address, and have buffers larger than others may have. It takes
    /// `CAP_NET_ADMIN`, and `CAP_NET_BIND_SERVICE` for ports below 1024.
    Listen {
        /// Where.
        address: SocketAddr,
        /// How many.
        count: u16,
    },
    /// Marks what leaves by the UDP sockets that come with it (`CAP_NET_ADMIN`); 0 for no mark.
    Mark {
        /// The mark.
        mark: u32,
    },
    /// Opens an AF_XDP socket (`CAP_NET_RAW`).
    Frames,
    /// Opens a socket that hears ICMP's "destination unreachable" (`CAP_NET_RAW`).
    Unreachable {
        /// Whether it is `ICMPv6`'s.
        v6: bool,
    },
    /// Switches GRO of a veth on or off (`CAP_NET_ADMIN`), which a program that is attached there needs.
    Gro {
        /// The number of the interface.
        interface: u32,
        /// Whether on.
        on: bool,
    },
    /// Opens a queue of the tunnel's interface, which is made if there is none (`CAP_NET_ADMIN`).
    Queue {
        /// Whether the interface has others.
        several: bool,
    },
}

impl Verb {
    /// Whether no more is asked for than a tunnel needs.
    pub(super) fn is_within_bounds(&self) -> bool {
        match self {
            Self::Listen { count, .. } => (1..=MOST_SOCKETS).contains(count),
            _ => true,
        }
    }
}
