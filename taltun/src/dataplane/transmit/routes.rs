//! Where datagrams go that leave past the kernel's network stack, as a thread that sends knows it: what
//! the kernel's routes and neighbours say, remembered for a second.
//!
//! The kernel is asked by a thread of its own ([`RouteAsker`]), at most once a batch. The packet for which
//! its answer is taken goes out by the socket: so every second each destination has one that the
//! kernel sends itself, and the kernel goes on checking that the neighbour is there, learns of
//! narrower paths, and resolves what isn't resolved yet.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::headers::NextHop;
use super::lookup::Question;
use super::route_asker::{CachedRoute, FRESH, MOST, RouteAsker};
use crate::protocol::peer::Endpoint;

/// How long it may be used while there is no newer one.
const STALE: Duration = Duration::from_secs(5);

/// Ways out by whichever interface.
pub struct Routes {
    asker: Arc<RouteAsker>,
    known: HashMap<Question, CachedRoute>,
    /// The last one found, which often is the next one, too.
    last: Option<(Question, CachedRoute)>,
    may_ask: bool,
    now: Instant,
}

impl Routes {
    /// No way is known yet.
    pub(super) fn new(asker: Arc<RouteAsker>) -> Self {
        Self {
            asker,
            known: HashMap::new(),
            last: None,
            may_ask: true,
            now: Instant::now(),
        }
    }

    /// A batch begins.
    pub(super) fn begin(&mut self, now: Instant) {
        self.now = now;
        self.may_ask = true;
    }

    /// How to send to this endpoint; `None` when the socket has to.
    pub(super) fn way(&mut self, endpoint: &Endpoint) -> Option<NextHop> {
        let question = (
            endpoint.remote.ip(),
            endpoint.local.map(|local| local.address),
        );
        if let Some((last, known)) = &self.last
            && *last == question
            && self.now - known.at < FRESH
        {
            return known.way;
        }
        let known = self.known.get(&question).copied();
        let age = known.map(|known| self.now - known.at);
        if self.may_ask && age.is_none_or(|age| age >= FRESH) {
            self.may_ask = false;
            if let Some(answer) = self.asker.answer(question, self.now) {
                if self.known.len() >= MOST {
                    self.known.clear();
                }
                self.known.insert(question, answer);
                self.last = Some((question, answer));
                return None;
            }
        }
        let known = known.filter(|_| age.is_some_and(|age| age < STALE))?;
        self.last = Some((question, known));
        known.way
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::*;

    #[test]
    fn what_was_found_is_used_until_it_is_old_and_asked_for_once_a_batch() {
        let asker = Arc::new(RouteAsker::default());
        let mut routes = Routes::new(Arc::clone(&asker));
        let way = NextHop {
            interface: 3,
            own: [1; 6],
            next: [2; 6],
            source: "192.0.2.1".parse().unwrap(),
            mtu: 1500,
        };
        let remotes = ["192.0.2.7:9", "192.0.2.8:9"].map(|text| {
            let remote: SocketAddr = text.parse().unwrap();
            Endpoint::from(remote)
        });
        let question = |number: usize| (remotes[number].remote.ip(), None);
        let start = routes.now;
        let known = |at| CachedRoute { way: Some(way), at };
        // Nobody knows it, so it is asked for, and the socket sends meanwhile.
        assert_eq!(routes.way(&remotes[0]), None);
        assert_eq!(asker.take_asked(), [question(0)]);
        asker.tell(question(0), known(start));
        asker.tell(question(1), known(start));
        for number in [0, 1] {
            routes.begin(start);
            // The packet for which an answer is taken is the kernel's to send.
            assert_eq!(routes.way(&remotes[number]), None);
            assert_eq!(routes.way(&remotes[number]), Some(way));
            assert_eq!(routes.way(&remotes[number]), Some(way));
        }
        // Old: the first is asked for anew, the second has to wait for the next batch. Both ways are
        // taken until there is an answer.
        routes.begin(start + FRESH);
        assert_eq!(routes.way(&remotes[0]), Some(way));
        assert_eq!(routes.way(&remotes[1]), Some(way));
        assert_eq!(asker.take_asked(), [question(0)]);
        asker.tell(question(0), known(start + FRESH));
        routes.begin(start + FRESH);
        assert_eq!(routes.way(&remotes[0]), None);
        assert_eq!(routes.way(&remotes[0]), Some(way));
        // Too old to be used even so.
        routes.begin(start + STALE);
        assert_eq!(routes.way(&remotes[1]), None);
    }
}
