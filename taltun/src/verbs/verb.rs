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
    /// Opens a queue of the tunnel's interface, which is made if there is none (`CAP_NET_ADMIN`).
    Queue {
        /// Whether the interface has others.
        several: bool,
    },
}

impl Verb {
    /// As a frame.
    pub fn to_frame(&self) -> Vec<u8> {
        // A verb is no map with keys that aren't text, the only thing that JSON can't have.
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// Of a frame, if it is one, and what it asks for is within bounds.
    pub fn of(frame: &[u8]) -> Option<Self> {
        let verb = serde_json::from_slice(frame).ok()?;
        match verb {
            Self::Listen { count, .. } if !(1..=MOST_SOCKETS).contains(&count) => None,
            _ => Some(verb),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_verb_is_the_same_on_the_other_side_and_none_is_out_of_bounds() {
        let address: SocketAddr = "[fe80::1%4294967295]:65535".parse().unwrap();
        let listen = |count| Verb::Listen { address, count };
        for verb in [
            listen(1),
            listen(MOST_SOCKETS),
            Verb::Mark { mark: u32::MAX },
            Verb::Frames,
            Verb::Unreachable { v6: true },
            Verb::Queue { several: true },
        ] {
            let frame = verb.to_frame();
            assert!(frame.len() <= super::super::FRAME_MAX, "{verb:?}");
            assert_eq!(Verb::of(&frame), Some(verb));
        }
        for odd in [listen(0), listen(MOST_SOCKETS + 1)] {
            assert_eq!(Verb::of(&odd.to_frame()), None, "{odd:?}");
        }
        for odd in [
            "",
            "{}",
            "\"frames\" ",
            "\"mark\"",
            "{\"mark\":{\"mark\":1,\"file\":\"x\"}}",
        ] {
            let read = Verb::of(odd.as_bytes());
            assert!(
                read.is_none() || odd.starts_with("\"frames"),
                "{odd}: {read:?}"
            );
        }
    }
}
