//! What goes over the channel: numbered questions, and answers with the number of their question. So an answer that comes
//! too late is never taken for that to another question.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};

use super::verb::Verb;

/// A question to the privileged process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Question {
    /// Another one each time.
    pub number: u64,
    /// Until when the answer is waited for, in nanoseconds of the monotonic clock, which all processes share. What is
    /// found later, as by a process that was stopped, isn't done.
    pub until: u64,
    /// What is to be done.
    pub verb: Verb,
}

impl Question {
    /// One that is waited for so long from now on.
    pub fn new(number: u64, limit: Duration, verb: Verb) -> Self {
        Self {
            number,
            until: nanoseconds(now().saturating_add(limit)),
            verb,
        }
    }

    /// Whether nobody waits for the answer any more.
    pub fn is_over(&self) -> bool {
        nanoseconds(now()) >= self.until
    }

    /// As a frame.
    pub fn to_frame(&self) -> Vec<u8> {
        // There is no map with keys that aren't text in it, the only thing that JSON can't have.
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// Of a frame, if it is one, and what it asks for is within bounds.
    pub fn of(frame: &[u8]) -> Option<Self> {
        let question: Self = serde_json::from_slice(frame).ok()?;
        question.verb.is_within_bounds().then_some(question)
    }
}

/// What the privileged process says to a question.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Answer {
    /// That of the question.
    pub number: u64,
    /// What became of it.
    pub said: Said,
}

/// What became of a question.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Said {
    /// The descriptors that come with it were opened. It has none of them any more when it says that it is done: an
    /// interface or a port would be there for as long.
    Opened,
    /// That was all.
    Done,
    /// The kernel refused it, by the number of this error.
    Refused(i32),
}

impl Said {
    /// Whether nothing more is said to the same question.
    pub fn is_last(self) -> bool {
        self != Self::Opened
    }
}

impl Answer {
    /// As a frame.
    pub fn to_frame(self) -> Vec<u8> {
        let number = self.number.to_le_bytes();
        match self.said {
            Said::Opened => [b"+", &number[..]].concat(),
            Said::Done => [b".", &number[..]].concat(),
            Said::Refused(errno) => [b"-", &number[..], &errno.to_le_bytes()].concat(),
        }
    }

    /// Of a frame, if it is one.
    pub fn of(frame: &[u8]) -> Option<Self> {
        let (kind, rest) = frame.split_first()?;
        let (number, rest) = rest.split_first_chunk()?;
        let said = match (kind, rest) {
            (b'+', []) => Said::Opened,
            (b'.', []) => Said::Done,
            (b'-', errno) => Said::Refused(i32::from_le_bytes(errno.try_into().ok()?)),
            _ => return None,
        };
        Some(Self {
            number: u64::from_le_bytes(*number),
            said,
        })
    }
}

fn now() -> Duration {
    Duration::try_from(clock_gettime(ClockId::Monotonic)).unwrap_or_default()
}

fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::super::verb::MOST_SOCKETS;
    use super::*;

    #[test]
    fn a_question_is_the_same_on_the_other_side_and_none_is_out_of_bounds() {
        let address: SocketAddr = "[fe80::1%4294967295]:65535".parse().unwrap();
        let listen = |count| Verb::Listen { address, count };
        let question = |verb| Question {
            number: u64::MAX,
            until: u64::MAX,
            verb,
        };
        for verb in [
            Verb::Nothing,
            listen(1),
            listen(MOST_SOCKETS),
            Verb::Mark { mark: u32::MAX },
            Verb::Frames,
            Verb::Unreachable { v6: true },
            Verb::Gro {
                interface: u32::MAX,
                on: true,
            },
            Verb::Queue { several: true },
        ] {
            let frame = question(verb).to_frame();
            assert!(frame.len() <= super::super::FRAME_MAX, "{verb:?}");
            assert_eq!(Question::of(&frame), Some(question(verb)));
        }
        for odd in [listen(0), listen(MOST_SOCKETS + 1)] {
            assert_eq!(Question::of(&question(odd).to_frame()), None, "{odd:?}");
        }
        for odd in [
            "",
            "{}",
            "\"frames\"",
            "{\"number\":1,\"verb\":\"frames\"}",
            "{\"number\":-1,\"until\":1,\"verb\":\"frames\"}",
            "{\"number\":1,\"until\":1,\"verb\":\"mark\"}",
            "{\"number\":1,\"until\":1,\"verb\":{\"mark\":{\"mark\":1,\"file\":\"x\"}}}",
            "{\"number\":1,\"until\":1,\"verb\":\"frames\",\"file\":\"x\"}",
        ] {
            assert_eq!(Question::of(odd.as_bytes()), None, "{odd}");
        }
    }

    #[test]
    fn a_question_is_over_when_nobody_waits_for_it() {
        assert!(!Question::new(1, Duration::from_secs(60), Verb::Nothing).is_over());
        assert!(Question::new(1, Duration::ZERO, Verb::Nothing).is_over());
    }

    #[test]
    fn answers_are_what_they_were() {
        for said in [Said::Opened, Said::Done, Said::Refused(libc::EBUSY)] {
            let answer = Answer {
                number: 1 << 40,
                said,
            };
            assert_eq!(Answer::of(&answer.to_frame()), Some(answer));
        }
        for odd in [
            &b""[..],
            b"+",
            b"+1234567",
            b"+123456789",
            b"-12345678",
            b"-12345678123",
            b"-1234567812345",
            b"?12345678",
        ] {
            assert_eq!(Answer::of(odd), None, "{odd:?}");
        }
    }
}
