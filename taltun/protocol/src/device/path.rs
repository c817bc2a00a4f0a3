//! One path to a peer: an address, the [`Ports`] of it that were asked lately, and how well they do.

use std::time::Duration;

use super::ports::{Asker, Ports};
use crate::place::Place;
use crate::randomness::Randomness;
use crate::time::Time;

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
/// The least that an answer is waited for where nothing else comes back either, and the least that nothing may come
/// back before that is asked about.
const SHORTEST_HASTE: Duration = Duration::from_millis(200);
const SHORTEST_PAUSE: Duration = Duration::from_millis(300);

/// What is known of a path.
#[derive(Debug)]
pub(super) struct Path {
    pub(super) place: Place,
    pub(super) ports: Ports,
    delay: Option<Duration>,
    last_answer: Option<Time>,
    /// A bit for each probe, the last one lowest: it was lost.
    lost: u32,
    /// How many of these bits are probes.
    probes: u32,
    lost_in_a_row: u32,
    /// When the first of these was sent, and since then none was answered.
    unanswered_since: Option<Time>,
    answered_in_a_row: u32,
    left: Option<Time>,
}

impl Path {
    pub(super) fn new(place: Place) -> Self {
        Self {
            place,
            ports: Ports::new(place),
            delay: None,
            last_answer: None,
            lost: 0,
            probes: 0,
            lost_in_a_row: 0,
            unanswered_since: None,
            answered_in_a_row: 0,
            left: None,
        }
    }

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

    /// Whether no probe was lost since the last that was answered.
    pub(super) fn is_sound(&self) -> bool {
        self.lost_in_a_row == 0
    }

    /// When the first probe was sent after the last that was answered, if it was lost.
    pub(super) fn unanswered_since(&self) -> Option<Time> {
        self.unanswered_since
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

    /// How long an answer is waited for where nothing else comes back either.
    pub(super) fn short_wait(&self) -> Duration {
        self.delay.map_or(FIRST_WAIT, |delay| {
            (4 * delay).clamp(SHORTEST_HASTE, LONGEST_WAIT)
        })
    }

    /// How long nothing may come back, where data goes out, before that is asked about; `None` before it
    /// answered.
    pub(super) fn pause(&self) -> Option<Duration> {
        let delay = self.delay?;
        Some((4 * delay).clamp(SHORTEST_PAUSE, LONGEST_WAIT))
    }

    /// When a probe was last answered.
    pub(super) fn last_answer(&self) -> Option<Time> {
        self.last_answer
    }

    /// A probe was answered after `delay`; `counts` if it is one of those that the loss is of.
    pub(super) fn answered(&mut self, delay: Duration, counts: bool) {
        self.delay = Some(
            self.delay
                .map_or(delay, |known| known.mul_f64(0.875) + delay.mul_f64(0.125)),
        );
        (self.lost_in_a_row, self.unanswered_since) = (0, None);
        if counts {
            self.answered_in_a_row += 1;
            self.count(false);
        }
    }

    /// A probe was answered, in time or late.
    pub(super) fn note_answer(&mut self, at: Time) {
        self.last_answer = Some(at);
    }

    /// The last probe that was taken for lost was only late; `counts` as above.
    pub(super) fn late(&mut self, delay: Duration, counts: bool) {
        // From now on one is waited for longer.
        self.delay = Some(delay);
        (self.lost_in_a_row, self.unanswered_since) = (0, None);
        if counts {
            self.lost &= !1;
            self.answered_in_a_row += 1;
        }
    }

    /// A handshake was answered there, so it isn't silent. If its next probe is lost, too, it is again.
    pub(super) fn shook_hands(&mut self) {
        self.lost_in_a_row = self.lost_in_a_row.min(SILENT - 1);
    }

    /// A probe that the loss is of, `sent` then, wasn't answered.
    pub(super) fn lost(&mut self, port: u16, sent: Time) {
        // At a port that never answered it tells nothing of the path.
        let is_known = self.ports.is_good(port);
        self.lost_in_a_row += 1;
        self.unanswered_since.get_or_insert(sent);
        self.answered_in_a_row = 0;
        if is_known {
            self.count(true);
        }
        self.ports.failed(Asker::Probe, port);
    }

    /// The port that the path is measured by while it isn't used: always the same, or one after the
    /// other until one answers.
    pub(super) fn measured_port(
        &mut self,
        pool: usize,
        random: &mut Randomness,
        now: Time,
    ) -> Option<u16> {
        let known = self.ports.good().next();
        known.or_else(|| self.ports.choose(Asker::Probe, None, pool, random, now))
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
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn path(ports: u16) -> Path {
        let first = std::net::SocketAddr::from(([192, 0, 2, 1], 9000));
        Path::new(Place::new(first, 9000 + ports - 1))
    }

    #[test]
    fn loss_is_of_the_last_twenty_probes_and_nothing_before_ten() {
        let mut path = path(1);
        path.ports.keep(9000, Time::START);
        for _ in 0..9 {
            path.answered(SECOND, true);
        }
        assert_eq!(path.loss(), None);
        path.lost(9000, Time::START);
        assert_eq!(path.loss(), Some(10));
        for _ in 0..30 {
            path.answered(SECOND, true);
        }
        assert_eq!(path.loss(), Some(0));
        // Probes for a hop count for nothing.
        path.answered(SECOND, false);
        assert_eq!(path.loss(), Some(0));
    }

    #[test]
    fn two_lost_in_a_row_are_silence_and_one_answer_ends_it() {
        let mut path = path(1);
        path.ports.keep(9000, Time::START);
        path.lost(9000, Time::START);
        assert!(!path.is_silent());
        path.lost(9000, Time::START);
        assert!(path.is_silent() && !path.answers());
        path.answered(SECOND, true);
        assert!(!path.is_silent() && path.answers());
    }

    #[test]
    fn a_port_that_never_answered_makes_no_loss() {
        let mut path = path(10);
        for port in 9000..9010 {
            path.ports.sent(port, Time::START);
            path.lost(port, Time::START);
        }
        assert_eq!(path.loss(), None);
        assert!(path.is_silent());
    }

    #[test]
    fn a_path_that_was_left_returns_after_three_answers_and_not_too_early() {
        let mut path = path(1);
        path.leave(Time::START);
        for _ in 0..2 {
            path.answered(SECOND, true);
        }
        let later = Time::START + 60 * SECOND;
        assert!(!path.may_return(20, 60 * SECOND, later));
        path.answered(SECOND, true);
        assert!(path.may_return(20, 60 * SECOND, later));
        assert!(!path.may_return(20, 61 * SECOND, later));
    }

    #[test]
    fn delays_are_smoothed_and_an_answer_is_waited_for_by_them() {
        let mut path = path(1);
        assert_eq!(path.wait(), 2 * SECOND);
        path.answered(Duration::from_millis(80), true);
        assert_eq!(path.delay(), Some(Duration::from_millis(80)));
        assert_eq!(path.wait(), SECOND);
        for _ in 0..100 {
            path.answered(SECOND, true);
        }
        assert!(path.delay().unwrap() > Duration::from_millis(990));
        assert_eq!(path.wait(), 3 * SECOND);
    }
}
