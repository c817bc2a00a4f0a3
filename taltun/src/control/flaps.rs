//! Peers that move back and forth between two places: two machines with one key. Each of them
//! takes the tunnel from the other, again and again, and neither can know.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::net::SocketAddr;
use std::time::Duration;

use tracing::{info, warn};

use super::peers::Peers;
use crate::crypto::PublicKey;
use crate::protocol::device::Device;
use crate::protocol::peer::Turns;
use crate::protocol::time::Time;

/// How often peers are looked at.
const PAUSE: Duration = Duration::from_secs(5);
/// So many moves between the same two places within this time are no coincidence.
const MOVES: u32 = 3;
const WITHIN: Duration = Duration::from_secs(60);

/// What was seen of peers that move.
#[derive(Debug, Default)]
pub(super) struct Flaps {
    looked: Option<Time>,
    seen: HashMap<PublicKey, Seen>,
    /// Those of them that came back to where they were, not long ago.
    watched: BTreeSet<PublicKey>,
}

#[derive(Debug, Default)]
struct Seen {
    /// How often it had come back, and when that was seen.
    samples: VecDeque<(Time, u32)>,
    between: Option<[SocketAddr; 2]>,
}

/// What became of a peer.
#[derive(Debug, PartialEq, Eq)]
enum News {
    Began([SocketAddr; 2]),
    Ended,
}

impl Flaps {
    /// Between which places a peer goes back and forth now.
    pub(super) fn of(&self, peer: &PublicKey) -> Option<[SocketAddr; 2]> {
        self.seen.get(peer)?.between
    }

    /// Looks for peers that go back and forth, and tells of them.
    pub(super) fn follow(&mut self, device: &Device, peers: &Peers, now: Time) {
        if !self.is_due(now) {
            return;
        }
        let returned = device.take_returned().into_iter();
        let returned = returned.filter_map(|id| device.key_of(id).copied());
        self.watched.extend(returned);
        let mut news = Vec::new();
        for key in std::mem::take(&mut self.watched) {
            if let Some(turns) = device.peer(&key).and_then(|peer| peer.turns()) {
                news.extend(self.look(key, &turns, now).map(|news| (key, news)));
                if !self.is_quiet(&key) {
                    self.watched.insert(key);
                }
            }
        }
        for (key, news) in news {
            let label = peers.label(&key);
            match news {
                News::Began([one, other]) => warn!(
                    "{label} moves back and forth between {one} and {other}: two machines have \
                     the same key, it seems; give each its own"
                ),
                News::Ended => info!("{label} no longer moves back and forth"),
            }
        }
    }

    /// Forgets a peer that is none any more.
    pub(super) fn forget(&mut self, peer: &PublicKey) {
        self.seen.remove(peer);
        self.watched.remove(peer);
    }

    /// Whether a peer stays where it is by now, so that there is nothing to look for until it
    /// moves again.
    fn is_quiet(&self, peer: &PublicKey) -> bool {
        self.seen.get(peer).is_none_or(|seen| {
            let mut returns = seen.samples.iter().map(|(_, returns)| returns);
            let first = returns.next();
            seen.between.is_none() && returns.all(|returns| Some(returns) == first)
        })
    }

    /// Whether it is time to look again.
    fn is_due(&mut self, now: Time) -> bool {
        let due = self.looked.is_none_or(|looked| now.since(looked) >= PAUSE);
        if due {
            self.looked = Some(now);
        }
        due
    }

    fn look(&mut self, peer: PublicKey, turns: &Turns, now: Time) -> Option<News> {
        let seen = self.seen.entry(peer).or_default();
        if seen.samples.is_empty() {
            seen.samples.push_back((now, 0));
        }
        seen.samples.push_back((now, turns.returns));
        while seen
            .samples
            .get(1)
            .is_some_and(|(time, _)| now.since(*time) >= WITHIN)
        {
            seen.samples.pop_front();
        }
        let before = seen.samples.front().map_or(0, |(_, before)| *before);
        // The first move that brings it back was the second of all.
        let moves = turns.returns.wrapping_sub(before).saturating_add(1);
        let is = (moves >= MOVES).then_some(turns.between);
        let was = std::mem::replace(&mut seen.between, is);
        match (was, is) {
            (None, Some(between)) => Some(News::Began(between)),
            (Some(_), None) => Some(News::Ended),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn turns(returns: u32) -> Turns {
        let place = |last| SocketAddr::from(([192, 0, 2, last], 9000));
        Turns {
            returns,
            between: [place(1), place(2)],
        }
    }

    #[test]
    fn three_moves_within_a_minute_are_told_once_and_so_is_their_end() {
        let mut flaps = Flaps::default();
        let peer = PublicKey([1; 32]);
        let at = |seconds| Time::START + Duration::from_secs(seconds);
        assert_eq!(flaps.look(peer, &turns(1), at(5)), None);
        let between = turns(2).between;
        assert_eq!(
            flaps.look(peer, &turns(2), at(10)),
            Some(News::Began(between))
        );
        assert_eq!(flaps.of(&peer), Some(between));
        assert_eq!(flaps.look(peer, &turns(4), at(15)), None);
        let mut ended = Vec::new();
        for seconds in (20..200).step_by(5) {
            ended.extend(
                flaps
                    .look(peer, &turns(4), at(seconds))
                    .map(|news| (seconds, news)),
            );
        }
        assert_eq!(ended.len(), 1);
        assert!((70..=85).contains(&ended[0].0), "{ended:?}");
        assert_eq!(flaps.of(&peer), None);
    }

    #[test]
    fn who_moves_now_and_then_is_left_alone() {
        let mut flaps = Flaps::default();
        let peer = PublicKey([1; 32]);
        let mut now = Time::START;
        for returns in 1..100 {
            for _ in 0..13 {
                now = now + PAUSE;
                assert_eq!(flaps.look(peer, &turns(returns), now), None, "{returns}");
            }
        }
    }
}
