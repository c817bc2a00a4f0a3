//! What the process reads of the tunnel: no more than the metrics show.
//!
//! Of thousands of peers each byte counts, in the controller's time and the scraper's. So what is told of all
//! peers comes as a list for each thing, whose name goes over the channel once.

use serde::{Deserialize, Serialize};

use crate::report::{PathStatus, ProblemCause, RateStatus, RefusedBy, Stats, Status};

/// What the tunnel answers to each line that asks, as a line of JSON.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// What there is to tell.
    Seen(Box<Seen>),
    /// Why there is nothing just now.
    Not(String),
}

/// All that the metrics are made of.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Seen {
    /// What `taltun status` tells, without the peers.
    pub status: Status,
    /// What `taltun stats` tells, without its lists of senders, networks and bans.
    pub stats: Stats,
    /// The peers.
    pub peers: Peers,
    /// How many senders are counted, outside and inside.
    pub sources: [usize; 2],
    /// How many networks are denied, outside and inside.
    pub denied: [usize; 2],
}

/// What is told of a peer.
#[derive(Debug, Clone, PartialEq)]
pub struct Peer {
    /// Its public key, base64.
    pub public_key: String,
    /// Its networks, separated by commas.
    pub allowed_ips: String,
    /// Its name, or nothing.
    pub name: String,
    /// Bytes sent to it.
    pub tx_bytes: u64,
    /// Bytes received from it.
    pub rx_bytes: u64,
    /// Handshakes completed.
    pub handshakes: u64,
    /// When the last one was, in Unix seconds; 0 before the first.
    pub latest_handshake: u64,
    /// Whether it has a session.
    pub has_session: bool,
    /// What keeps it from a handshake.
    pub problem: Option<ProblemCause>,
    /// How many bytes it may move, and has moved.
    pub quota: Option<[u64; 2]>,
    /// Why it is refused.
    pub refused: Option<RefusedBy>,
    /// How it is held to its rates, from it and to it.
    pub rates: [Option<RateStatus>; 2],
    /// The paths to it, where it has several.
    pub paths: Vec<PathStatus>,
}

/// All peers: what there is of each, a list for each thing, and what there is of some, each with the
/// peer's place in these lists.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Peers {
    /// [`Peer::public_key`]
    pub public_key: Vec<String>,
    /// [`Peer::allowed_ips`]
    pub allowed_ips: Vec<String>,
    /// [`Peer::name`]
    pub name: Vec<String>,
    /// [`Peer::tx_bytes`]
    pub tx_bytes: Vec<u64>,
    /// [`Peer::rx_bytes`]
    pub rx_bytes: Vec<u64>,
    /// [`Peer::handshakes`]
    pub handshakes: Vec<u64>,
    /// [`Peer::latest_handshake`]
    pub latest_handshake: Vec<u64>,
    /// How many have a session.
    pub with_session: u64,
    /// [`Peer::problem`]
    pub problems: Vec<(usize, ProblemCause)>,
    /// [`Peer::quota`]
    pub quotas: Vec<(usize, [u64; 2])>,
    /// [`Peer::refused`]
    pub refused: Vec<(usize, RefusedBy)>,
    /// [`Peer::rates`] of those that have one.
    pub rates: Vec<(usize, [Option<RateStatus>; 2])>,
    /// [`Peer::paths`] of those that have several.
    pub paths: Vec<(usize, Vec<PathStatus>)>,
}

impl Peers {
    /// How many there are.
    pub fn count(&self) -> usize {
        self.public_key.len()
    }

    /// Adds one.
    pub fn push(&mut self, peer: Peer) {
        let place = self.count();
        self.public_key.push(peer.public_key);
        self.allowed_ips.push(peer.allowed_ips);
        self.name.push(peer.name);
        self.tx_bytes.push(peer.tx_bytes);
        self.rx_bytes.push(peer.rx_bytes);
        self.handshakes.push(peer.handshakes);
        self.latest_handshake.push(peer.latest_handshake);
        self.with_session += u64::from(peer.has_session);
        self.problems.extend(peer.problem.map(|it| (place, it)));
        self.quotas.extend(peer.quota.map(|it| (place, it)));
        self.refused.extend(peer.refused.map(|it| (place, it)));
        if peer.rates.iter().any(Option::is_some) {
            self.rates.push((place, peer.rates));
        }
        if !peer.paths.is_empty() {
            self.paths.push((place, peer.paths));
        }
    }
}

#[cfg(test)]
pub(super) mod example {
    use super::*;
    use crate::report::schema;

    /// A peer with one of everything.
    pub(in crate::metrics) fn peer() -> Peer {
        let (status, _) = schema::full();
        let full = status.peers.into_iter().next().unwrap();
        Peer {
            public_key: "KEY=".into(),
            allowed_ips: "10.0.0.2/32,fd00::/64".into(),
            name: "ana".into(),
            tx_bytes: 1 << 40,
            rx_bytes: 2,
            handshakes: 3,
            latest_handshake: 1_795_909_550,
            has_session: true,
            problem: full.problem.map(|it| it.cause),
            quota: full.quota.map(|it| [it.bytes, it.used_bytes]),
            refused: full.refused,
            rates: [full.rate_up, full.rate_down],
            paths: full.paths,
        }
    }

    /// A hub with one of everything.
    pub(in crate::metrics) fn seen() -> Seen {
        let (mut status, stats) = schema::full();
        status.peers.clear();
        let mut peers = Peers::default();
        peers.push(peer());
        Seen {
            status,
            stats,
            peers,
            sources: [1, 2],
            denied: [3, 4],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// So many peers cost the tunnel and the process that many bytes.
    #[test]
    fn a_peer_takes_few_bytes_on_its_way() {
        const PEERS: usize = 1000;
        let mut peers = Peers::default();
        for number in 0..PEERS {
            peers.push(Peer {
                public_key: "x".repeat(44),
                allowed_ips: "10.200.100.100/32".into(),
                name: format!("peer{number}"),
                tx_bytes: u64::from(u32::MAX),
                rx_bytes: u64::from(u32::MAX),
                problem: None,
                quota: None,
                refused: None,
                rates: [None, None],
                paths: Vec::new(),
                ..example::peer()
            });
        }
        let line = serde_json::to_vec(&peers).unwrap();
        assert!(line.len() / PEERS < 130, "{} bytes", line.len());
        let back: Peers = serde_json::from_slice(&line).unwrap();
        assert_eq!(back, peers);
    }
}
