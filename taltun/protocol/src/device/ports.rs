//! The ports of one path that were sent to lately.
//!
//! A port that was sent to has a mapping at each NAT on the way, which lives on for a while. So the
//! ports are listed, those that didn't answer included, and while the list is full no other one is
//! used, whoever asks: hops, probes of a path that isn't used, or initiations and their copies.
//! A port that was asked in vain isn't asked again while there is another choice, so that its mapping
//! goes and a new port gets its place. A handshake asks it nevertheless, once: a hub that started
//! anew answers no probe, at whatever port.

use std::time::Duration;

use crate::place::Place;
use crate::randomness::Randomness;
use crate::time::Time;

/// How long the mapping of a port is taken to live at a NAT after its last datagram (RFC 4787,
/// REQ-5).
const MAPPING_LIFE: Duration = Duration::from_secs(120);
/// How long data may still go to a port that was asked and didn't answer.
const LINGERING: Duration = Duration::from_secs(5);
/// Ports that even the smallest pool has, where the first of them doesn't answer.
const SMALLEST_POOL: usize = 2;

/// The ports of a place that were sent to not long ago.
#[derive(Debug)]
pub(super) struct Ports {
    place: Place,
    known: Vec<Port>,
    /// When a port was last set aside for another one.
    replaced: Option<Time>,
}

#[derive(Debug)]
struct Port {
    number: u16,
    /// It answered, and may be sent to.
    good: bool,
    /// What asked in vain since.
    vain: Option<Asker>,
    /// Another one shall take its place once its mapping is gone.
    set_aside: bool,
    since: Time,
    used: Time,
}

/// What asks at a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Asker {
    /// A probe, which only the hub of our session answers.
    Probe,
    /// An initiation, which needs none, so that a probe has no chance either where it has none.
    Handshake,
}

impl Ports {
    pub(super) fn new(place: Place) -> Self {
        Self {
            place,
            known: Vec::new(),
            replaced: None,
        }
    }

    /// Those that may be sent to.
    pub(super) fn good(&self) -> impl Iterator<Item = u16> {
        let good = self.known.iter().filter(|port| port.good);
        good.map(|port| port.number)
    }

    pub(super) fn is_good(&self, port: u16) -> bool {
        self.good().any(|good| good == port)
    }

    /// The good one that was asked the longest ago, beside `but`.
    pub(super) fn longest_unasked(&self, but: u16) -> Option<u16> {
        let good = self.known.iter().filter(|port| port.good);
        let others = good.filter(|port| port.number != but);
        others.min_by_key(|port| port.used).map(|port| port.number)
    }

    /// This port answered, or carries what the peer answers.
    pub(super) fn keep(&mut self, port: u16, now: Time) {
        let known = self.asked(port, now);
        known.vain = None;
        if !known.good && !known.set_aside {
            known.good = true;
            known.since = now;
        }
    }

    /// A datagram is sent to this port.
    pub(super) fn sent(&mut self, port: u16, now: Time) {
        self.asked(port, now);
    }

    /// This port didn't answer.
    pub(super) fn failed(&mut self, asker: Asker, port: u16) {
        if let Some(failed) = self.known.iter_mut().find(|it| it.number == port) {
            failed.good = false;
            failed.vain = failed.vain.max(Some(asker));
        }
    }

    /// The pool has so many ports by now: those that are left over aren't used any more. `used` stays,
    /// and of the others those that answered last.
    pub(super) fn shrink(&mut self, pool: usize, used: Option<u16>) {
        let rank = |port: &Port| (Some(port.number) == used, port.good, port.used);
        self.known.sort_by_key(|port| std::cmp::Reverse(rank(port)));
        self.known.truncate(pool.max(1));
    }

    /// A port to ask where none answers now: the most hopeful one, or else the one that was asked last.
    /// With `round`, only one that wasn't asked since then, if there is any.
    pub(super) fn choose(
        &mut self,
        asker: Asker,
        round: Option<Time>,
        pool: usize,
        random: &mut Randomness,
        now: Time,
    ) -> Option<u16> {
        let hopeful = self.choose_hopeful(asker, round, pool, random, now);
        hopeful.or_else(|| {
            let last = self.known.iter().max_by_key(|port| port.used)?;
            let is_asked = round.is_some_and(|round| last.used >= round);
            (!is_asked).then_some(last.number)
        })
    }

    /// A port to ask of those that may answer: one that answered lately, else a new one while fewer
    /// than `pool` have a mapping, else one that wasn't asked in vain, or not by a handshake where that
    /// asks. With `round`, only one that wasn't asked since then.
    pub(super) fn choose_hopeful(
        &mut self,
        asker: Asker,
        round: Option<Time>,
        pool: usize,
        random: &mut Randomness,
        now: Time,
    ) -> Option<u16> {
        self.forget_old(now);
        let is_asked = |port: &Port| round.is_some_and(|round| port.used >= round);
        let hopeful = |good: bool, vain: Option<Asker>| {
            let ports = self.known.iter().filter(move |port| {
                let is_such = port.good == good && port.vain == vain;
                is_such && !port.set_aside && !is_asked(port)
            });
            ports.min_by_key(|port| port.used).map(|port| port.number)
        };
        let new = || {
            let has_room = self.known.len() < pool.max(SMALLEST_POOL);
            has_room.then(|| self.new_port(random)).flatten()
        };
        let by_probes = Some(Asker::Probe).filter(|_| asker == Asker::Handshake);
        hopeful(true, None)
            .or_else(new)
            .or_else(|| hopeful(false, None))
            .or_else(|| hopeful(false, Some(by_probes?)))
    }

    /// A port to hop to, another than `current`: a new one while fewer than `pool` have a mapping,
    /// else one of which nothing is known yet, or one of those that answered. `urgently`, as `current`
    /// doesn't answer: beyond the smallest pool, if none answered. Never one that was asked in vain:
    /// that would keep its place from a new one.
    pub(super) fn choose_hop(
        &mut self,
        current: u16,
        pool: usize,
        urgently: bool,
        random: &mut Randomness,
        now: Time,
    ) -> Option<u16> {
        self.forget_old(now);
        let has_room = |pool: usize| self.known.len() < pool;
        if has_room(pool)
            && let Some(new) = self.new_port(random)
        {
            return Some(new);
        }
        // A handshake may have asked several, of which one answered.
        let unproven = self.known.iter().filter(|port| {
            port.number != current && !port.good && port.vain.is_none() && !port.set_aside
        });
        if let Some(unproven) = unproven.min_by_key(|port| port.used) {
            return Some(unproven.number);
        }
        self.replace_one(current, now);
        let others: Vec<u16> = self.good().filter(|port| *port != current).collect();
        if let Some(chosen) = drawn_below(others.len(), random) {
            return others.get(chosen).copied();
        }
        if !urgently {
            return None;
        }
        if self.known.len() < SMALLEST_POOL
            && let Some(new) = self.new_port(random)
        {
            return Some(new);
        }
        None
    }

    /// How many have a mapping, or are kept for their next use.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.known.len()
    }

    /// A port that wasn't sent to lately.
    fn new_port(&self, random: &mut Randomness) -> Option<u16> {
        let is_new = |port: u16| !self.known.iter().any(|known| known.number == port);
        if self.place.ports() <= 2 * self.known.len() {
            // Few are left: draw among these.
            let range = self.place.first().port()..=self.place.last_port();
            let new: Vec<u16> = range.filter(|port| is_new(*port)).collect();
            return new.get(drawn_below(new.len(), random)?).copied();
        }
        // Each draw finds one in half of the cases at least.
        (0..64)
            .map(|_| self.place.choose(random).port())
            .find(|port| is_new(*port))
    }

    /// Sets the oldest of the ports aside from time to time, so that another one takes its place
    /// once its mapping is gone.
    fn replace_one(&mut self, current: u16, now: Time) {
        let last = *self.replaced.get_or_insert(now);
        if now.since(last) < MAPPING_LIFE {
            return;
        }
        if self.good().filter(|port| *port != current).count() < 2 {
            return;
        }
        let good = self.known.iter_mut().filter(|port| port.good);
        let others = good.filter(|port| port.number != current);
        if let Some(oldest) = others.min_by_key(|port| port.since) {
            (oldest.good, oldest.set_aside) = (false, true);
            // Data went there until now.
            oldest.used = now;
            self.replaced = Some(now);
        }
    }

    fn forget_old(&mut self, now: Time) {
        self.known
            .retain(|port| port.good || now.since(port.used) < MAPPING_LIFE + LINGERING);
    }

    fn asked(&mut self, port: u16, now: Time) -> &mut Port {
        let known = self.known.iter().position(|known| known.number == port);
        let at = known.unwrap_or_else(|| {
            self.known.push(Port {
                number: port,
                good: false,
                vain: None,
                set_aside: false,
                since: now,
                used: now,
            });
            self.known.len() - 1
        });
        let port = &mut self.known[at];
        port.used = now;
        port
    }
}

/// A number below that, if there is any. It keeps no secret: where there is no randomness there is
/// no handshake either.
fn drawn_below(bound: usize, random: &mut Randomness) -> Option<usize> {
    let drawn = random.bytes().map_or(0, u64::from_ne_bytes);
    drawn.checked_rem(bound as u64).map(|drawn| drawn as usize)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn ports(count: u16) -> Ports {
        let first = std::net::SocketAddr::from(([192, 0, 2, 1], 9000));
        Ports::new(Place::new(first, 9000 + count - 1))
    }

    fn random() -> Randomness {
        Randomness::seeded([5; 32])
    }

    /// How many different ones were sent to within the life of a mapping.
    fn live(sent: &mut Vec<(u16, Time)>, now: Time) -> usize {
        sent.retain(|(_, at)| now.since(*at) < MAPPING_LIFE);
        let live: BTreeSet<u16> = sent.iter().map(|(port, _)| *port).collect();
        live.len()
    }

    /// An hour of hops each second, all answered, or every second port of them.
    #[test]
    fn no_more_than_the_pool_have_a_mapping_and_they_are_replaced_slowly() {
        for blocked in [1, 2] {
            let (mut ports, random) = (ports(1000), &mut random());
            let (mut current, mut now) = (9001, Time::START);
            ports.keep(current, now);
            let mut sent: Vec<(u16, Time)> = vec![(current, now)];
            let mut used = BTreeSet::new();
            for _ in 0..3600 {
                now = now + SECOND;
                ports.sent(current, now);
                if let Some(next) = ports.choose_hop(current, 8, false, random, now) {
                    assert_ne!(next, current);
                    ports.sent(next, now);
                    sent.push((next, now));
                    if blocked == 1 || next % blocked == 1 {
                        ports.keep(next, now);
                        current = next;
                        used.insert(current);
                    } else {
                        ports.failed(Asker::Probe, next);
                    }
                }
                sent.push((current, now));
                assert!(live(&mut sent, now) <= 8, "{sent:?}");
                assert!(ports.len() <= 8);
            }
            assert!((20..60).contains(&used.len()), "{blocked}: {}", used.len());
        }
    }

    /// Probes each second of a path where nothing answers, and urgent hops the same.
    #[test]
    fn no_more_than_the_pool_have_a_mapping_where_nothing_answers_and_all_get_their_turn() {
        for pool in [1_usize, 2, 8] {
            for hops in [false, true] {
                let (mut ports, random) = (ports(1000), &mut random());
                let (mut sent, mut all) = (Vec::new(), BTreeSet::new());
                let mut now = Time::START;
                ports.keep(9000, now);
                ports.failed(Asker::Probe, 9000);
                sent.push((9000, now));
                for _ in 0..3600 {
                    now = now + SECOND;
                    let next = if hops {
                        // Data still goes there.
                        ports.sent(9000, now);
                        sent.push((9000, now));
                        ports.choose_hop(9000, pool, true, random, now)
                    } else {
                        let next = ports.choose(Asker::Probe, None, pool, random, now);
                        Some(next.expect("there is always one to ask"))
                    };
                    if let Some(next) = next {
                        ports.sent(next, now);
                        ports.failed(Asker::Probe, next);
                        sent.push((next, now));
                        all.insert(next);
                    }
                    assert!(live(&mut sent, now) <= pool.max(2), "{pool}: {sent:?}");
                }
                assert!(all.len() >= 20 * (pool - 1), "{pool}: {all:?}");
            }
        }
    }

    #[test]
    fn a_round_asks_each_once() {
        let (mut ports, random) = (ports(1000), &mut random());
        let mut asked = BTreeSet::new();
        for round in [Time::START, Time::START + 5 * SECOND] {
            let mut count = 0;
            while let Some(port) = ports.choose(Asker::Probe, Some(round), 8, random, round) {
                ports.sent(port, round);
                asked.insert(port);
                count += 1;
            }
            assert_eq!(count, 8);
        }
        assert_eq!(asked.len(), 8);
        // What answered is asked first, what was asked in vain no more.
        ports.keep(*asked.first().unwrap(), Time::START + 6 * SECOND);
        ports.failed(Asker::Probe, *asked.last().unwrap());
        let round = Time::START + 10 * SECOND;
        let first = ports.choose(Asker::Probe, Some(round), 8, random, round);
        assert_eq!(first, asked.first().copied());
        let mut count = 0;
        while let Some(port) = ports.choose(Asker::Probe, Some(round), 8, random, round) {
            assert_ne!(Some(&port), asked.last());
            ports.sent(port, round);
            count += 1;
        }
        assert_eq!(count, 7);
    }

    #[test]
    fn a_pool_of_one_stays_where_it_is_but_for_an_emergency() {
        let (mut ports, random) = (ports(1000), &mut random());
        ports.keep(9000, Time::START);
        let calm = ports.choose_hop(9000, 1, false, random, Time::START);
        assert_eq!(calm, None);
        let urgent = ports.choose_hop(9000, 1, true, random, Time::START);
        assert!(urgent.is_some_and(|port| port != 9000));
    }

    #[test]
    fn what_a_handshake_asked_beside_the_port_that_answered_is_hopped_to() {
        let (mut ports, random) = (ports(1000), &mut random());
        for port in 9000..9008 {
            ports.sent(port, Time::START);
        }
        ports.keep(9000, Time::START);
        let mut asked = BTreeSet::new();
        for _ in 0..7 {
            let next = ports.choose_hop(9000, 8, false, random, Time::START);
            let next = next.expect("one that wasn't proved");
            ports.keep(next, Time::START);
            asked.insert(next);
        }
        assert!(asked.into_iter().eq(9001..9008));
    }

    #[test]
    fn all_of_a_small_range_are_used() {
        let (mut few, random) = (ports(3), &mut random());
        few.keep(9000, Time::START);
        let mut seen = BTreeSet::new();
        for _ in 0..50 {
            let port = few.choose_hop(9000, 8, false, random, Time::START).unwrap();
            few.keep(port, Time::START);
            seen.insert(port);
        }
        assert!(seen.iter().copied().eq(9001..=9002), "{seen:?}");
        let one = &mut ports(1);
        one.keep(9000, Time::START);
        assert_eq!(one.choose_hop(9000, 8, true, random, Time::START), None);
        // The only one is asked in vain or not.
        one.failed(Asker::Probe, 9000);
        assert_eq!(
            one.choose(Asker::Probe, None, 8, random, Time::START),
            Some(9000)
        );
    }
}
