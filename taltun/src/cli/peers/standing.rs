//! How a peer stands, at a glance, and which peers matter most: those that are there, by what they
//! move, then those that were there last.

use std::borrow::Cow;
use std::cmp::Reverse;
use std::time::Duration;

use super::troubles::troubles;
use crate::cli::screen::Style;
use crate::cli::width::{printable, short_key};
use crate::report::PeerStatus;

/// Whether a peer is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::cli) enum Standing {
    /// It has a session.
    Online,
    /// It was there before.
    Away,
    /// It was never there since the start.
    Never,
}

impl Standing {
    /// That of a peer.
    pub(in crate::cli) fn of(peer: &PeerStatus) -> Self {
        if peer.has_session() {
            Self::Online
        } else if peer.latest_handshake_seconds.is_some() {
            Self::Away
        } else {
            Self::Never
        }
    }
}

/// A character for how a peer stands, with how it looks: `!` where something is amiss.
pub(in crate::cli) fn mark(peer: &PeerStatus) -> (char, Style) {
    if !troubles(peer).is_empty() {
        return ('!', Style::Bad);
    }
    match Standing::of(peer) {
        Standing::Online => ('●', Style::Good),
        Standing::Away => ('○', Style::Plain),
        Standing::Never => ('✗', Style::Faint),
    }
}

/// What a peer is called where there is little room: its name, or the beginning of its key.
pub(in crate::cli) fn title(peer: &PeerStatus) -> Cow<'_, str> {
    match &peer.name {
        Some(name) => printable(name),
        None => short_key(&peer.public_key),
    }
}

/// The peers, those that matter most first; equal ones as they come.
pub(in crate::cli) fn by_weight(peers: &[PeerStatus]) -> Vec<&PeerStatus> {
    let mut sorted: Vec<&PeerStatus> = peers.iter().collect();
    sorted.sort_by_cached_key(|peer| {
        let rates = peer.rates.unwrap_or_default();
        let seen = peer.seen_seconds.or(peer.latest_handshake_seconds);
        let seen = seen.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
        let seen = seen.unwrap_or(Duration::MAX);
        let rate = rates.rx_bytes.saturating_add(rates.tx_bytes);
        (Standing::of(peer), Reverse(rate), seen)
    });
    sorted
}
