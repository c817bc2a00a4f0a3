//! Loss and delay of the way to another hub, by beats and their answers.

use std::collections::VecDeque;
use std::time::Duration;

/// From one beat to the next.
pub const BEAT: Duration = Duration::from_millis(300);
/// How long without an answer until the other hub counts as gone: two beats and a half.
pub const GONE: Duration = Duration::from_millis(800);
/// Beats by which loss is counted.
const WINDOW: usize = 40;
/// How long an answer may take before its beat counts as lost.
const LATE: Duration = Duration::from_secs(1);

/// The way to one hub. Times are since any one point.
#[derive(Debug, Default)]
pub struct Path {
    beats: VecDeque<Sent>,
    next: u64,
    delay: Option<Duration>,
    answered: Option<Duration>,
}

#[derive(Debug)]
struct Sent {
    number: u64,
    at: Duration,
    answered: bool,
}

impl Path {
    /// A beat is sent now; its number.
    pub fn beat(&mut self, now: Duration) -> u64 {
        if self.beats.len() >= WINDOW {
            self.beats.pop_front();
        }
        let number = self.next;
        self.next = self.next.wrapping_add(1);
        self.beats.push_back(Sent {
            number,
            at: now,
            answered: false,
        });
        number
    }

    /// An answer to a beat has come. False if nobody asked so.
    pub fn answer(&mut self, number: u64, now: Duration) -> bool {
        let mut beats = self.beats.iter_mut();
        let Some(beat) = beats.find(|beat| beat.number == number && !beat.answered) else {
            return false;
        };
        beat.answered = true;
        let took = now.saturating_sub(beat.at);
        self.delay = Some(match self.delay {
            Some(delay) => (delay * 7 + took) / 8,
            None => took,
        });
        self.answered = self.answered.max(Some(now));
        true
    }

    /// Whether the other hub answers.
    pub fn is_up(&self, now: Duration) -> bool {
        self.answered
            .is_some_and(|at| now.saturating_sub(at) < GONE)
    }

    /// When the last answer came.
    pub fn last_answer(&self) -> Option<Duration> {
        self.answered
    }

    /// How long the way there and back takes, smoothed; `None` before the first answer.
    pub fn delay(&self) -> Option<Duration> {
        self.delay
    }

    /// Which part of the last beats got no answer; `None` before any had the time for one.
    pub fn loss(&self, now: Duration) -> Option<f64> {
        let settled = |beat: &&Sent| beat.answered || now.saturating_sub(beat.at) >= LATE;
        let all = self.beats.iter().filter(settled).count();
        let answered = self.beats.iter().filter(|beat| beat.answered).count();
        #[expect(clippy::cast_precision_loss, reason = "they are forty")]
        (all > 0).then(|| (all - answered) as f64 / all as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loss_delay_and_silence_are_told_by_answers() {
        let mut path = Path::default();
        let at = |beat: u32| BEAT * beat;
        assert_eq!((path.loss(at(0)), path.delay()), (None, None));
        assert!(!path.is_up(at(0)));
        for beat in 0..10 {
            let number = path.beat(at(beat));
            assert_eq!(number, u64::from(beat));
            if beat % 2 == 0 {
                assert!(path.answer(number, at(beat) + Duration::from_millis(8)));
                assert!(!path.answer(number, at(beat)), "a second answer");
            }
        }
        assert!(!path.answer(77, at(10)));
        assert_eq!(path.delay(), Some(Duration::from_millis(8)));
        assert_eq!(path.loss(at(20)), Some(0.5));
        assert!(path.is_up(at(10)) && !path.is_up(at(11)));
        // A second after a beat it is lost.
        for beat in 20..60 {
            let number = path.beat(at(beat));
            path.answer(number, at(beat));
        }
        assert_eq!(path.loss(at(60)), Some(0.0));
    }
}
