//! Which peers are in the list, and in what order: those online first, the busiest of them first;
//! then those seen last; those that never came last.

use std::cmp::Reverse;
use std::iter;

use super::query::Query;
use crate::report::{PeerStatus, whole_seconds};
use crate::web::reports::Seen;

/// Peers on a page.
pub(super) const ON_A_PAGE: usize = 50;

/// A page of the list.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Listed {
    /// Public keys, in order.
    pub(super) keys: Vec<String>,
    /// The page, from 1.
    pub(super) page: usize,
    pub(super) pages: usize,
    /// How many peers were found on all pages.
    pub(super) found: usize,
}

/// The page that is asked for, or the last one if there are fewer.
pub(super) fn choose(seen: &Seen, query: &Query) -> Listed {
    let wanted = query.search.to_lowercase();
    let peers = seen.report.status.peers.iter();
    let mut found: Vec<&PeerStatus> = peers.filter(|peer| matches(peer, &wanted)).collect();
    found.sort_by_cached_key(|peer| order(peer));
    let pages = found.len().div_ceil(ON_A_PAGE).max(1);
    let page = query.page.unwrap_or(1).clamp(1, pages);
    let first = page.saturating_sub(1).saturating_mul(ON_A_PAGE);
    let shown = found.iter().skip(first).take(ON_A_PAGE);
    Listed {
        keys: shown.map(|peer| peer.public_key.clone()).collect(),
        page,
        pages,
        found: found.len(),
    }
}

/// The peers of a page that are still there.
pub(super) fn peers<'s>(seen: &'s Seen, listed: &Listed) -> Vec<&'s PeerStatus> {
    let mut found = vec![None; listed.keys.len()];
    let places = listed.keys.iter().map(String::as_str).zip(0..);
    let places: std::collections::HashMap<&str, usize> = places.collect();
    for peer in &seen.report.status.peers {
        let place = places.get(&*peer.public_key);
        if let Some(place) = place.and_then(|place| found.get_mut(*place)) {
            *place = Some(peer);
        }
    }
    found.into_iter().flatten().collect()
}

/// Whether a peer has this, in small letters, in its name, key or addresses.
fn matches(peer: &PeerStatus, wanted: &str) -> bool {
    if wanted.is_empty() {
        return true;
    }
    let has = |text: &str| text.to_lowercase().contains(wanted);
    let is_named = peer.name.as_deref().is_some_and(has);
    is_named
        || has(&peer.public_key)
        || peer.allowed_ips.iter().any(|net| has(&net.to_string()))
        || peer.endpoint.is_some_and(|it| has(&it.to_string()))
}

/// The order of a peer: smaller comes first.
fn order(peer: &PeerStatus) -> (bool, Reverse<u64>, bool, u64, String) {
    let rates = peer.rates.unwrap_or_default();
    let age = peer.latest_handshake_seconds;
    let is_on = peer.has_session();
    let busy = if is_on {
        rates.rx_bytes.saturating_add(rates.tx_bytes)
    } else {
        0
    };
    // Of those online a handshake's age says nothing.
    let age_counts = if is_on {
        0
    } else {
        whole_seconds(age.unwrap_or_default())
    };
    let name = natural(&peer.label().to_lowercase());
    (!is_on, Reverse(busy), age.is_none(), age_counts, name)
}

/// A name whose numbers are all as long, so that the second comes before the tenth.
fn natural(name: &str) -> String {
    let mut padded = String::with_capacity(name.len());
    let mut rest = name;
    while let Some(at) = rest.find(|c: char| c.is_ascii_digit()) {
        let (before, from) = rest.split_at(at);
        let end = from.find(|c: char| !c.is_ascii_digit());
        let (number, after) = from.split_at(end.unwrap_or(from.len()));
        padded.push_str(before);
        padded.extend(iter::repeat_n('0', 10_usize.saturating_sub(number.len())));
        padded.push_str(number);
        rest = after;
    }
    padded.push_str(rest);
    padded
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::schema;
    use crate::web::Report;

    fn seen(peers: &[(&str, Option<f64>)]) -> Seen {
        let (mut status, stats) = schema::full();
        let one = status.peers[0].clone();
        let peers = peers.iter().map(|(name, age)| PeerStatus {
            name: Some((*name).to_owned()),
            public_key: format!("KEY-{name}"),
            latest_handshake_seconds: *age,
            ..one.clone()
        });
        status.peers = peers.collect();
        Seen::alone(Report {
            status,
            stats,
            moments: Vec::new(),
        })
    }

    #[test]
    fn those_online_come_first_and_those_that_never_came_last() {
        let seen = seen(&[
            ("never", None),
            ("long-ago", Some(90_000.0)),
            ("zoe", Some(10.0)),
            ("lately", Some(1000.0)),
            ("Ana", Some(100.0)),
        ]);
        let listed = choose(&seen, &Query::default());
        let names = ["Ana", "zoe", "lately", "long-ago", "never"];
        assert_eq!(listed.keys, names.map(|name| format!("KEY-{name}")));
        let query = Query {
            search: "EY-L".to_owned(),
            ..Query::default()
        };
        let listed = choose(&seen, &query);
        assert_eq!(listed.keys, ["KEY-lately", "KEY-long-ago"]);
    }

    #[test]
    fn the_second_comes_before_the_tenth() {
        let mut names = ["peer-10b", "peer-9", "peer-10", "peer", "10", "2"];
        names.sort_by_key(|name| natural(name));
        assert_eq!(names, ["2", "10", "peer", "peer-9", "peer-10", "peer-10b"]);
        assert_eq!(natural("ñ7é"), "ñ0000000007é");
    }

    #[test]
    fn ten_thousand_peers_are_pages_and_the_last_is_the_last() {
        let names: Vec<String> = (0..10_000).map(|number| format!("{number:05}")).collect();
        let peers: Vec<(&str, Option<f64>)> = names.iter().map(|name| (&**name, None)).collect();
        let seen = seen(&peers);
        for (asked, page, first) in [
            (None, 1, "KEY-00000"),
            (Some(2), 2, "KEY-00050"),
            (Some(0), 1, "KEY-00000"),
            (Some(usize::MAX), 200, "KEY-09950"),
        ] {
            let query = Query {
                page: asked,
                ..Query::default()
            };
            let listed = choose(&seen, &query);
            assert_eq!((listed.page, listed.pages), (page, 200));
            assert_eq!(listed.keys[0], first);
            assert_eq!(peers_shown(&seen, &listed), ON_A_PAGE);
        }
    }

    fn peers_shown(seen: &Seen, listed: &Listed) -> usize {
        peers(seen, listed).len()
    }
}
