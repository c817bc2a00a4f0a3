//! What the metrics are made of: the tunnel as it is, no more of each peer than they show.

use std::fmt::Write as _;
use std::time::Duration;

use super::hop;
use super::limits::Refusal;
use super::reporting::{View, has_session};
use crate::dataplane::clock;
use crate::metrics::{self, Peers, Seen};
use crate::protocol::peer::Peer;
use crate::protocol::time::Time;

/// What there is to tell.
pub(super) fn seen(view: &View<'_>) -> Seen {
    let mut stats = view.stats();
    let sources = [stats.sources.len(), stats.sources_inner.len()];
    let denied = [stats.denied.len(), stats.denied_inner.len()];
    stats.sources.clear();
    stats.sources_inner.clear();
    stats.denied.clear();
    stats.denied_inner.clear();
    stats.bans.clear();
    Seen {
        status: view.status_with(Vec::new()),
        peers: peers(view),
        stats,
        sources,
        denied,
    }
}

/// The peers in the order of the file.
fn peers(view: &View<'_>) -> Peers {
    let (now, wall) = (clock::now(), clock::wall());
    let all = view.device.peers();
    let mut all: Vec<_> = all.map(|peer| told(view, peer, now, wall)).collect();
    all.sort_by_key(|(order, _)| *order);
    let mut peers = Peers::default();
    for (_, peer) in all {
        peers.push(peer);
    }
    peers
}

/// What is told of a peer, and its place in the file. `wall` is `now` by the wall clock.
fn told(view: &View<'_>, peer: &Peer, now: Time, wall: Duration) -> (usize, metrics::Peer) {
    let key = peer.public_key();
    let (order, nets) = view.in_file_order(key, view.device.allowed_ips_of(peer.id()).collect());
    let mut allowed_ips = String::new();
    for net in nets {
        let comma = if allowed_ips.is_empty() { "" } else { "," };
        // Writing to a String can't fail.
        let _ = write!(allowed_ips, "{comma}{net}");
    }
    let filed = view.peers.in_file(key).map(|peer| peer.rates);
    let handshake = peer.last_handshake();
    let told = metrics::Peer {
        public_key: key.to_string(),
        allowed_ips,
        name: view.peers.name(key).unwrap_or_default().to_owned(),
        tx_bytes: peer.tx_bytes(),
        rx_bytes: peer.rx_bytes(),
        handshakes: peer.handshakes(),
        // In whole seconds, so that it stays the same from one scrape to the next.
        latest_handshake: handshake.map_or(0, |at| {
            let half = Duration::from_millis(500);
            (wall.saturating_sub(now.since(at)) + half).as_secs()
        }),
        has_session: has_session(peer, now),
        problem: view.diagnosis.problem(key, now).map(|it| it.cause),
        quota: view.quota(key).map(|it| [it.bytes, it.used_bytes]),
        refused: view.limits.refusal(key).map(Refusal::word),
        rates: view.filed_rates.status(peer, &filed.unwrap_or_default()),
        paths: hop::status(view.device, peer, now),
    };
    (order, told)
}
