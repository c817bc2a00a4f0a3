//! What is amiss with a peer.

use super::limits;
use crate::cli::human;
use crate::layer::Layer;
use crate::report::{BanStatus, PeerStatus, Problem, whole_seconds};

/// All that keeps a peer from what it wants to do, in a line each: its subject and what is to say.
pub(in crate::cli) fn troubles(peer: &PeerStatus) -> Vec<(&'static str, String)> {
    let mut all = Vec::new();
    if let Some(reason) = &peer.unreachable {
        all.push(("endpoint", reason.clone()));
    }
    if let Some(told) = moves(peer) {
        all.push(("warning", told));
    }
    if let Some(found) = &peer.problem {
        all.push(("problem", problem(found)));
    }
    for ban in &peer.banned {
        all.push(("banned", banned(ban)));
    }
    if peer.refused.is_some() {
        let refused = limits::of_peer(peer).into_iter();
        let refused = refused.filter(|told| told.contains("REFUSED"));
        all.extend(refused.map(|told| ("limit", told)));
    }
    all
}

/// Two machines seem to have one key.
pub(in crate::cli) fn moves(peer: &PeerStatus) -> Option<String> {
    let [one, other] = peer.moves_between[..] else {
        return None;
    };
    Some(format!(
        "moves between {one} and {other}; do two machines have its key?"
    ))
}

/// Why there is no handshake, and since when that is known.
pub(in crate::cli) fn problem(problem: &Problem) -> String {
    let ago = human::span(whole_seconds(problem.seconds_ago));
    format!("{} ({ago} ago)", problem.message)
}

/// What drops what comes from it.
pub(in crate::cli) fn banned(ban: &BanStatus) -> String {
    let inside = match ban.layer {
        Layer::Outer => "",
        Layer::Inner => " inside the tunnel",
    };
    let until = human::until(ban);
    format!("{}{inside}, {until}; to end it: {}", ban.net, ban.remedy)
}
