//! Probes that wait for their turn.
//!
//! A hub whose ports lead to one socket answers a probe from the port that the last one from here came
//! to. So no two probes may be under way to one address of it at the same time: the first would be
//! answered from the port of the second, and neither would count.

use std::net::IpAddr;
use std::time::Duration;

use crate::time::Time;

/// From one probe to the next to the same address. The peer has answered the first by then, however
/// long the way is.
const APART: Duration = Duration::from_millis(100);

/// What a probe is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    /// How the path does.
    Measure,
    /// Whether to go on at this port.
    Hop,
    /// Whether the port may be in the pool of which each batch takes one.
    Pool,
}

/// A probe to send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Ask {
    pub(super) path: usize,
    pub(super) port: u16,
    pub(super) purpose: Purpose,
}

/// The probes to a peer that are to be sent.
#[derive(Debug, Default)]
pub(super) struct ProbeQueue {
    waiting: Vec<(Ask, IpAddr)>,
    /// When each address was asked last, if that is not long ago.
    lately: Vec<(IpAddr, Time)>,
}

impl ProbeQueue {
    /// To be sent to that address. What a path is asked for the same purpose still waits once.
    pub(super) fn push(&mut self, ask: Ask, to: IpAddr) {
        let same = |other: &Ask| (other.path, other.purpose) == (ask.path, ask.purpose);
        match self.waiting.iter_mut().find(|(other, _)| same(other)) {
            Some(other) => *other = (ask, to),
            None => self.waiting.push((ask, to)),
        }
    }

    /// Something else of a probe's length went to that address.
    pub(super) fn note_sent(&mut self, to: IpAddr, now: Time) {
        self.lately.retain(|(_, asked)| now.since(*asked) < APART);
        if self.lately.iter().all(|(address, _)| *address != to) {
            self.lately.push((to, now));
        }
    }

    /// Takes those whose turn it is.
    pub(super) fn take_ready(&mut self, now: Time) -> Vec<Ask> {
        self.lately.retain(|(_, asked)| now.since(*asked) < APART);
        // Whether to go on elsewhere is more urgent than how a path does.
        self.waiting
            .sort_by_key(|(ask, _)| ask.purpose == Purpose::Measure);
        let mut ready = Vec::new();
        let lately = &mut self.lately;
        self.waiting.retain(|(ask, to)| {
            let waits = lately.iter().any(|(address, _)| address == to);
            if !waits {
                lately.push((*to, now));
                ready.push(*ask);
            }
            waits
        });
        ready
    }

    /// When it is the next one's turn.
    pub(super) fn next_at(&self) -> Option<Time> {
        let turns = self.waiting.iter().map(|(_, to)| {
            let asked = self.lately.iter().find(|(address, _)| address == to);
            asked.map_or(Time::START, |(_, asked)| *asked + APART)
        });
        turns.min()
    }

    /// Forgets those that wait.
    pub(super) fn clear(&mut self) {
        self.waiting.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_asked_once_in_a_while_and_others_at_once() {
        let mut queue = ProbeQueue::default();
        let (here, there) = ([192, 0, 2, 1].into(), [192, 0, 2, 2].into());
        let ask = |path, port, purpose| Ask {
            path,
            port,
            purpose,
        };
        let measures = [0, 1, 2].map(|path| ask(path, 9000, Purpose::Measure));
        queue.push(measures[0], here);
        queue.push(measures[1], here);
        queue.push(measures[1], here);
        queue.push(measures[2], there);
        let hop = ask(0, 9001, Purpose::Hop);
        queue.push(hop, here);
        queue.note_sent(here, Time::START);
        assert_eq!(queue.take_ready(Time::START), [measures[2]]);
        let now = queue.next_at().unwrap();
        assert_eq!(now.since(Time::START), APART);
        assert_eq!(queue.take_ready(now), [hop]);
        assert_eq!(queue.take_ready(now), []);
        for measure in &measures[..2] {
            let next = queue.next_at().unwrap();
            assert!(queue.take_ready(next).contains(measure));
        }
        assert_eq!(queue.next_at(), None);
        queue.push(hop, here);
        queue.clear();
        assert_eq!(queue.next_at(), None);
    }
}
