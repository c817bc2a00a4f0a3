//! One path to a peer: an address, the ports of it that answered probes, and how well they do.
//!
//! A port that was sent to has a mapping at each NAT on the way, which lives on for a while. So a
//! path keeps a list of the ports that it used lately, those that didn't answer included, and uses
//! no other while the list is full.

use std::time::Duration;

use crate::place::Place;
use crate::randomness::Randomness;
use crate::time::Time;

/// How long the mapping of a port is taken to live at a NAT after its last datagram (RFC 4787,
/// REQ-5).
const MAPPING_LIFE: Duration = Duration::from_secs(120);
/// Probes that the loss is of.
const WINDOW: u32 = 20;
/// Probes before which there is no loss to speak of.
const LEAST: u32 = 10;
/// Probes lost in a row after which nothing gets through.
pub(super) const SILENT: u32 = 2;
/// Probes answered in a row after which a path may be returned to.
const RETURN: u32 = 3;
/// The most and the least that an answer is waited for, and before there was one.
const LONGEST_WAIT: Duration = Duration::from_secs(3);
const SHORTEST_WAIT: Duration = Duration::from_secs(1);
const FIRST_WAIT: Duration = Duration::from_secs(2);

/// What is known of a path.
#[derive(Debug)]
pub(super) struct Path {
    pub(super) place: Place,
    ports: Vec<Port>,
    /// When a port was last set aside for another one.
    replaced: Option<Time>,
    delay: Option<Duration>,
    /// A bit for each probe, the last one lowest: it was lost.
    lost: u32,
    /// How many of these bits are probes.
    probes: u32,
    lost_in_a_row: u32,
    answered_in_a_row: u32,
    left: Option<Time>,
}

/// A port that was sent to not long ago.
#[derive(Debug)]
struct Port {
    number: u16,
    /// It answered, and may be sent to.
    good: bool,
    /// Another one shall take its place once its mapping is gone.
    set_aside: bool,
    since: Time,
    used: Time,
}

impl Path {
    pub(super) fn new(place: Place) -> Self {
        Self {
            place,
            ports: Vec::new(),
            replaced: None,
            delay: None,
            lost: 0,
            probes: 0,
            lost_in_a_row: 0,
            answered_in_a_row: 0,
            left: None,
        }
    }

    // ---- what is measured ----------------------------------------------------------------

    /// From a probe to its answer, smoothed.
    pub(super) fn delay(&self) -> Option<Duration> {
        self.delay
    }

    /// Of the last probes, how many in a hundred were lost; `None` while there are too few.
    pub(super) fn loss(&self) -> Option<u32> {
        (self.probes >= LEAST).then(|| self.lost.count_ones() * 100 / self.probes)
    }

    /// Whether nothing gets through.
    pub(super) fn is_silent(&self) -> bool {
        self.lost_in_a_row >= SILENT
    }

    /// Whether the last probe was answered.
    pub(super) fn answers(&self) -> bool {
        self.answered_in_a_row > 0
    }

    /// Whether it loses more than that.
    pub(super) fn is_lossy(&self, threshold: u32) -> bool {
        self.loss().is_some_and(|loss| loss > threshold)
    }

    /// Whether it was left not longer ago than `retry_after`.
    pub(super) fn is_set_aside(&self, retry_after: Duration, now: Time) -> bool {
        self.left.is_some_and(|left| now.since(left) < retry_after)
    }

    /// Whether it does well again, or did all the time.
    pub(super) fn may_return(&self, threshold: u32, retry_after: Duration, now: Time) -> bool {
        self.answered_in_a_row >= RETURN
            && !self.is_lossy(threshold)
            && !self.is_set_aside(retry_after, now)
    }

    /// How long an answer is waited for.
    pub(super) fn wait(&self) -> Duration {
        self.delay.map_or(FIRST_WAIT, |delay| {
            (4 * delay).clamp(SHORTEST_WAIT, LONGEST_WAIT)
        })
    }

    /// A probe to this port was answered after `delay`; `counts` if it is one of those that the
    /// loss is of.
    pub(super) fn answered(&mut self, port: u16, delay: Duration, counts: bool, now: Time) {
        self.delay = Some(
            self.delay
                .map_or(delay, |known| known.mul_f64(0.875) + delay.mul_f64(0.125)),
        );
        self.lost_in_a_row = 0;
        self.keep(port, now);
        if counts {
            self.answered_in_a_row += 1;
            self.count(false);
        }
    }

    /// The last probe that was taken for lost was only late; `counts` as above.
    pub(super) fn late(&mut self, port: u16, delay: Duration, counts: bool, now: Time) {
        // From now on one is waited for longer.
        self.delay = Some(delay);
        self.lost_in_a_row = 0;
        self.keep(port, now);
        if counts {
            self.lost &= !1;
            self.answered_in_a_row += 1;
        }
    }

    /// A probe that the loss is of wasn't answered.
    pub(super) fn lost(&mut self, port: u16) {
        // At a port that never answered it tells nothing of the path.
        let is_known = self.ports.iter().any(|it| it.number == port && it.good);
        self.lost_in_a_row += 1;
        self.answered_in_a_row = 0;
        if is_known {
            self.count(true);
        }
        self.port_failed(port);
    }

    /// Its next answer is the first that counts.
    pub(super) fn prove_anew(&mut self) {
        self.answered_in_a_row = 0;
    }

    /// It isn't used any more, and proves itself anew before it is.
    pub(super) fn leave(&mut self, now: Time) {
        self.left = Some(now);
        (self.lost, self.probes, self.answered_in_a_row) = (0, 0, 0);
    }

    fn count(&mut self, lost: bool) {
        self.lost = (self.lost << 1 | u32::from(lost)) & ((1 << WINDOW) - 1);
        self.probes = (self.probes + 1).min(WINDOW);
    }

    // ---- its ports -----------------------------------------------------------------------

    /// The ports that may be sent to.
    pub(super) fn good_ports(&self) -> impl Iterator<Item = u16> {
        let good = self.ports.iter().filter(|port| port.good);
        good.map(|port| port.number)
    }

    /// The port that the path is measured by while it isn't used: always the same, or one at random
    /// until one answers.
    pub(super) fn measured_port(&self, random: &mut Randomness) -> u16 {
        let known = self.good_ports().next();
        known.unwrap_or_else(|| self.place.choose(None, random).port())
    }

    /// This port answered, or carries what the peer answers.
    pub(super) fn keep(&mut self, port: u16, now: Time) {
        let known = self.asked(port, now);
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
    pub(super) fn port_failed(&mut self, port: u16) {
        if let Some(failed) = self.ports.iter_mut().find(|it| it.number == port) {
            failed.good = false;
        }
    }

    /// A port to ask, another than `current`: a new one while fewer than `pool` have a mapping,
    /// else one of those that answered. `urgently`: a new one in any case, if none answered.
    pub(super) fn candidate(
        &mut self,
        current: u16,
        pool: usize,
        urgently: bool,
        random: &mut Randomness,
        now: Time,
    ) -> Option<u16> {
        self.ports
            .retain(|port| port.good || now.since(port.used) < MAPPING_LIFE);
        if self.ports.len() < pool
            && let Some(new) = self.new_port(random)
        {
            return Some(new);
        }
        self.replace_one(current, now);
        let others: Vec<u16> = self.good_ports().filter(|port| *port != current).collect();
        let drawn = random.bytes().map_or(0, u64::from_ne_bytes);
        let chosen = drawn.checked_rem(others.len() as u64);
        chosen
            .and_then(|chosen| others.get(chosen as usize).copied())
            .or_else(|| urgently.then(|| self.new_port(random)).flatten())
    }

    /// A port that wasn't sent to lately.
    pub(super) fn new_port(&self, random: &mut Randomness) -> Option<u16> {
        let is_new = |port: u16| !self.ports.iter().any(|known| known.number == port);
        if self.place.ports() <= 2 * self.ports.len() {
            // Few are left: draw among these.
            let range = self.place.first().port()..=self.place.last_port();
            let new: Vec<u16> = range.filter(|port| is_new(*port)).collect();
            let drawn = random.bytes().map_or(0, u64::from_ne_bytes);
            let chosen = drawn.checked_rem(new.len() as u64)?;
            return new.get(chosen as usize).copied();
        }
        // Each draw finds one in half of the cases at least.
        (0..64)
            .map(|_| self.place.choose(None, random).port())
            .find(|port| is_new(*port))
    }

    /// How many ports have a mapping, or are kept for their next use.
    #[cfg(test)]
    pub(super) fn ports_in_use(&self) -> usize {
        self.ports.len()
    }

    /// Sets the oldest of the ports aside from time to time, so that another one takes its place
    /// once its mapping is gone.
    fn replace_one(&mut self, current: u16, now: Time) {
        let last = *self.replaced.get_or_insert(now);
        if now.since(last) < MAPPING_LIFE {
            return;
        }
        if self.good_ports().filter(|port| *port != current).count() < 2 {
            return;
        }
        let good = self.ports.iter_mut().filter(|port| port.good);
        let others = good.filter(|port| port.number != current);
        if let Some(oldest) = others.min_by_key(|port| port.since) {
            (oldest.good, oldest.set_aside) = (false, true);
            self.replaced = Some(now);
        }
    }

    fn asked(&mut self, port: u16, now: Time) -> &mut Port {
        let known = self.ports.iter().position(|known| known.number == port);
        let at = known.unwrap_or_else(|| {
            self.ports.push(Port {
                number: port,
                good: false,
                set_aside: false,
                since: now,
                used: now,
            });
            self.ports.len() - 1
        });
        let port = &mut self.ports[at];
        port.used = now;
        port
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn path(ports: u16) -> Path {
        let first = std::net::SocketAddr::from(([192, 0, 2, 1], 9000));
        Path::new(Place::new(first, 9000 + ports - 1))
    }

    fn random() -> Randomness {
        Randomness::seeded([5; 32])
    }

    #[test]
    fn loss_is_of_the_last_twenty_probes_and_nothing_before_ten() {
        let mut path = path(1);
        for _ in 0..9 {
            path.answered(9000, SECOND, true, Time::START);
        }
        assert_eq!(path.loss(), None);
        path.lost(9000);
        assert_eq!(path.loss(), Some(10));
        for _ in 0..30 {
            path.answered(9000, SECOND, true, Time::START);
        }
        assert_eq!(path.loss(), Some(0));
        // Probes for a hop count for nothing.
        path.answered(9000, SECOND, false, Time::START);
        assert_eq!(path.loss(), Some(0));
    }

    #[test]
    fn two_lost_in_a_row_are_silence_and_one_answer_ends_it() {
        let mut path = path(1);
        path.keep(9000, Time::START);
        path.lost(9000);
        assert!(!path.is_silent());
        path.lost(9000);
        assert!(path.is_silent() && !path.answers());
        path.answered(9000, SECOND, true, Time::START);
        assert!(!path.is_silent() && path.answers());
    }

    #[test]
    fn a_port_that_never_answered_makes_no_loss() {
        let mut path = path(10);
        for port in 9000..9010 {
            path.sent(port, Time::START);
            path.lost(port);
        }
        assert_eq!(path.loss(), None);
        assert!(path.is_silent());
    }

    #[test]
    fn a_path_that_was_left_returns_after_three_answers_and_not_too_early() {
        let mut path = path(1);
        path.leave(Time::START);
        for _ in 0..2 {
            path.answered(9000, SECOND, true, Time::START);
        }
        let later = Time::START + 60 * SECOND;
        assert!(!path.may_return(20, 60 * SECOND, later));
        path.answered(9000, SECOND, true, Time::START);
        assert!(path.may_return(20, 60 * SECOND, later));
        assert!(!path.may_return(20, 61 * SECOND, later));
    }

    #[test]
    fn delays_are_smoothed_and_an_answer_is_waited_for_by_them() {
        let mut path = path(1);
        assert_eq!(path.wait(), 2 * SECOND);
        path.answered(9000, Duration::from_millis(80), true, Time::START);
        assert_eq!(path.delay(), Some(Duration::from_millis(80)));
        assert_eq!(path.wait(), SECOND);
        for _ in 0..100 {
            path.answered(9000, SECOND, true, Time::START);
        }
        assert!(path.delay().unwrap() > Duration::from_millis(990));
        assert_eq!(path.wait(), 3 * SECOND);
    }

    /// An hour of hops each second, all answered, or every second port of them.
    #[test]
    fn no_more_ports_than_the_pool_have_a_mapping_and_they_are_replaced_slowly() {
        for blocked in [1, 2] {
            let (mut path, random) = (path(1000), &mut random());
            let (mut current, mut now) = (9001, Time::START);
            path.keep(current, now);
            let mut mappings: Vec<(u16, Time)> = vec![(current, now)];
            let mut used = BTreeSet::new();
            for _ in 0..3600 {
                now = now + SECOND;
                path.sent(current, now);
                if let Some(next) = path.candidate(current, 8, false, random, now) {
                    assert_ne!(next, current);
                    path.sent(next, now);
                    mappings.push((next, now));
                    if blocked == 1 || next % blocked == 1 {
                        path.answered(next, SECOND, false, now);
                        current = next;
                        used.insert(current);
                    } else {
                        path.port_failed(next);
                    }
                }
                mappings.push((current, now));
                mappings.retain(|(_, at)| now.since(*at) < MAPPING_LIFE);
                let live: BTreeSet<u16> = mappings.iter().map(|(port, _)| *port).collect();
                assert!(live.len() <= 8, "{live:?}");
                assert!(path.ports_in_use() <= 8);
            }
            assert!((20..60).contains(&used.len()), "{blocked}: {}", used.len());
        }
    }

    #[test]
    fn a_pool_of_one_stays_where_it_is_but_for_an_emergency() {
        let (mut path, random) = (path(1000), &mut random());
        path.keep(9000, Time::START);
        let calm = path.candidate(9000, 1, false, random, Time::START);
        assert_eq!(calm, None);
        let urgent = path.candidate(9000, 1, true, random, Time::START);
        assert!(urgent.is_some_and(|port| port != 9000));
    }

    #[test]
    fn all_ports_of_a_small_range_are_used() {
        let (mut path, random) = (path(3), &mut random());
        path.keep(9000, Time::START);
        let mut seen = BTreeSet::new();
        for _ in 0..50 {
            let port = path.candidate(9000, 8, false, random, Time::START).unwrap();
            path.answered(port, SECOND, false, Time::START);
            seen.insert(port);
        }
        assert!(seen.iter().copied().eq(9001..=9002), "{seen:?}");
        let only = &mut Path::new(path.place.at(9000).into());
        only.keep(9000, Time::START);
        assert_eq!(only.candidate(9000, 8, true, random, Time::START), None);
    }
}
