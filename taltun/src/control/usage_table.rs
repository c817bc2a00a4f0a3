//! What peers moved, as `taltun usage` tells it: added up by peer, or by day for one.

use std::collections::HashMap;

use taltun_usage::book::Span;
use taltun_usage::{Counts, Day, Key, Used};

use super::request;
use crate::crypto::PublicKey;
use crate::dataplane::clock;
use crate::report::{DayUsage, PeerUsage, UnixTime, Usage, UsageStatus, VERSION};

/// Whose usage, and how it is kept.
#[derive(Debug, Clone)]
pub(super) struct Asked {
    pub interface: String,
    pub running: bool,
    pub peer: Option<String>,
    pub span: Span,
    pub kept: UsageStatus,
    /// The names that peers have now; those that are gone are called as they were last.
    pub names: HashMap<Key, String>,
}

impl Asked {
    pub(super) fn new(
        interface: &str,
        running: bool,
        asked: &request::Usage,
        today: Day,
        kept: UsageStatus,
    ) -> Result<Self, String> {
        Ok(Self {
            interface: interface.to_owned(),
            running,
            peer: asked.peer.clone(),
            span: asked.since.span(today)?,
            kept,
            names: HashMap::new(),
        })
    }

    /// The answer, of what was kept of these days.
    pub(super) fn answer(self, used: Vec<Used>) -> Result<Usage, String> {
        let mut peers: HashMap<Key, PeerUsage> = HashMap::new();
        for used in used {
            let peer = peers.entry(used.key).or_insert_with(|| PeerUsage {
                name: self.names.get(&used.key).cloned(),
                public_key: PublicKey(used.key).to_string(),
                rx_bytes: 0,
                rx_packets: 0,
                tx_bytes: 0,
                tx_packets: 0,
                days: Vec::new(),
            });
            if peer.name.is_none() {
                peer.name = used.name;
            }
            let Counts {
                rx_bytes,
                rx_packets,
                tx_bytes,
                tx_packets,
            } = used.counts;
            let add = |sum: &mut u64, more: u64| *sum = sum.saturating_add(more);
            add(&mut peer.rx_bytes, rx_bytes);
            add(&mut peer.rx_packets, rx_packets);
            add(&mut peer.tx_bytes, tx_bytes);
            add(&mut peer.tx_packets, tx_packets);
            if self.peer.is_some() {
                peer.days.push(DayUsage {
                    day: used.day.to_string(),
                    rx_bytes,
                    rx_packets,
                    tx_bytes,
                    tx_packets,
                });
            }
        }
        let mut peers: Vec<PeerUsage> = peers.into_values().collect();
        if let Some(peer) = &self.peer {
            peers = one(peers, peer, self.span)?;
        }
        peers.sort_by(|one, other| {
            let moved = |it: &PeerUsage| it.rx_bytes.saturating_add(it.tx_bytes);
            let most_first = moved(other).cmp(&moved(one));
            most_first.then_with(|| one.public_key.cmp(&other.public_key))
        });
        for peer in &mut peers {
            peer.days.sort_by(|one, other| one.day.cmp(&other.day));
        }
        Ok(Usage {
            version: VERSION,
            timestamp: UnixTime::at(clock::wall()),
            interface: self.interface,
            running: self.running,
            first_day: self.span.first.to_string(),
            last_day: self.span.last.to_string(),
            usage: self.kept,
            peers,
        })
    }
}

/// The only peer with this name or public key.
fn one(peers: Vec<PeerUsage>, asked: &str, span: Span) -> Result<Vec<PeerUsage>, String> {
    let is_meant = |peer: &PeerUsage| {
        peer.name.as_deref() == Some(asked)
            || asked
                .parse::<PublicKey>()
                .is_ok_and(|key| key.to_string() == peer.public_key)
    };
    let found: Vec<PeerUsage> = peers.into_iter().filter(is_meant).collect();
    match found.len() {
        1 => Ok(found),
        0 => Err(format!(
            "nothing was moved by a peer {asked:?} from {} to {}; `taltun usage` lists who did",
            span.first, span.last
        )),
        several => {
            let keys: Vec<&str> = found.iter().map(|peer| peer.public_key.as_str()).collect();
            Err(format!(
                "{several} peers are or were called {asked:?}; give the public key of one: {}",
                keys.join(", ")
            ))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::since::Since;
    use crate::report::UsageKept;

    fn used(key: u8, name: Option<&str>, day: &str, bytes: u64) -> Used {
        Used {
            key: [key; 32],
            name: name.map(str::to_owned),
            day: day.parse().unwrap(),
            counts: Counts {
                rx_bytes: bytes,
                rx_packets: 1,
                tx_bytes: 1,
                tx_packets: 2,
            },
        }
    }

    fn asked(peer: Option<&str>) -> Asked {
        let kept = UsageStatus {
            kept: UsageKept::Disk,
            reason: None,
            clock: None,
            keep_days: Some(400),
        };
        let asked = request::Usage {
            peer: peer.map(str::to_owned),
            since: Since::Days(30),
        };
        let today = "2026-11-29".parse().unwrap();
        Asked::new("hub", true, &asked, today, kept).unwrap()
    }

    fn all() -> Vec<Used> {
        vec![
            used(1, Some("ana"), "2026-11-29", 10),
            used(2, None, "2026-11-28", 500),
            used(1, Some("ana"), "2026-11-28", 20),
            used(3, Some("bob"), "2026-11-28", 1),
            used(4, Some("bob"), "2026-11-28", 1),
        ]
    }

    #[test]
    fn usage_is_added_up_by_peer_those_that_moved_most_first() {
        let mut of_now = asked(None);
        of_now.names.insert([1; 32], "ana maría".to_owned());
        let told = of_now.answer(all()).unwrap();
        assert_eq!(
            (&*told.first_day, &*told.last_day),
            ("2026-10-31", "2026-11-29")
        );
        assert_eq!(told.peers.len(), 4);
        assert_eq!(told.peers[0].rx_bytes, 500);
        let ana = &told.peers[1];
        assert_eq!(ana.name.as_deref(), Some("ana maría"));
        assert_eq!((ana.rx_bytes, ana.rx_packets), (30, 2));
        assert_eq!((ana.tx_bytes, ana.tx_packets), (2, 4));
        assert!(ana.days.is_empty());
    }

    #[test]
    fn one_peer_is_told_by_day() {
        let told = asked(Some("ana")).answer(all()).unwrap();
        let days: Vec<_> = told.peers[0]
            .days
            .iter()
            .map(|it| (&*it.day, it.rx_bytes))
            .collect();
        assert_eq!(days, [("2026-11-28", 20), ("2026-11-29", 10)]);
        let key = PublicKey([2; 32]).to_string();
        assert_eq!(asked(Some(&key)).answer(all()).unwrap().peers.len(), 1);
        let nobody = asked(Some("carl")).answer(all()).unwrap_err();
        assert!(
            nobody.contains("\"carl\" from 2026-10-31 to 2026-11-29"),
            "{nobody}"
        );
        let two = asked(Some("bob")).answer(all()).unwrap_err();
        assert!(two.contains(&PublicKey([3; 32]).to_string()), "{two}");
    }
}
