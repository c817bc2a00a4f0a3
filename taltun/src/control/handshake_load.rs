//! Whether we are under load: whether handshakes come faster than they should be worked on.
//!
//! Under load, whoever starts a handshake has to prove its address first (§5.4.7). That is
//! so when messages pile up, and already when they come faster than a controller should
//! spend its time on: a public-key operation takes fifty microseconds, and a filter in front
//! of us must not keep the queue just short enough for each message to get one.

use std::time::Duration;

use taltun_common::bucket::Rate;

use crate::dataplane::shared::HANDSHAKE_QUEUE;
use crate::protocol::time::Time;

/// Messages waiting at once from which on we are under load.
const WAITING: usize = HANDSHAKE_QUEUE / 2;
/// At once no load: all peers of a large hub, who may come back together after its restart. One who is asked
/// for a cookie then waits for five seconds more. They cost a core half a second.
const AT_ONCE: u32 = 12_000;
/// Messages a second, and at once, up to which we aren't. Fewer a second than the cookie replies that
/// XDP leaves us ([`taltun_common::budget::COOKIE_REPLIES`]), so that a flood that it holds
/// back is still seen as one.
const PACE: Rate = Rate::with_burst(2_000, AT_ONCE);
/// How long it outlives the message that caused it.
const MEMORY: Duration = Duration::from_secs(1);

/// Knows whether we are under load.
#[derive(Debug, Default)]
pub(super) struct HandshakeLoad {
    /// When the bucket that measures the pace is full again.
    full_at: u64,
    until: Option<Time>,
}

impl HandshakeLoad {
    /// Takes note of a message that came while `waiting` more wait; for how long from `now` on
    /// we are under load, if we are.
    pub(super) fn note(&mut self, waiting: usize, now: Time) -> Option<Duration> {
        let in_pace = PACE.allows(self.full_at, now.as_nanos());
        if in_pace {
            self.full_at = PACE.taken(self.full_at, now.as_nanos());
        }
        if !in_pace || waiting >= WAITING {
            self.until = Some(now + MEMORY);
        }
        let left = self.until?.since(now);
        (!left.is_zero()).then_some(left)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MILLISECOND: Duration = Duration::from_millis(1);

    /// Notes messages, one each `every`; how many came under load.
    fn under_load(
        load: &mut HandshakeLoad,
        now: &mut Time,
        messages: usize,
        every: Duration,
    ) -> usize {
        (0..messages)
            .filter(|_| {
                *now = *now + every;
                load.note(0, *now).is_some()
            })
            .count()
    }

    #[test]
    fn many_waiting_are_load_for_a_second() {
        let mut load = HandshakeLoad::default();
        let now = Time::START;
        assert_eq!(load.note(WAITING - 1, now), None);
        assert_eq!(load.note(WAITING, now), Some(MEMORY));
        assert_eq!(load.note(0, now + MEMORY / 2), Some(MEMORY / 2));
        assert_eq!(load.note(0, now + MEMORY), None);
    }

    #[test]
    fn a_burst_of_peers_is_no_load_and_a_steady_flood_is() {
        let mut load = HandshakeLoad::default();
        let mut now = Time::START;
        let all = AT_ONCE as usize;
        assert_eq!(under_load(&mut load, &mut now, all, Duration::ZERO), 0);
        now = now + Duration::from_secs(6);
        assert_eq!(under_load(&mut load, &mut now, 6000, MILLISECOND / 2), 0);
        let tenth = MILLISECOND / 10;
        let loaded = under_load(&mut load, &mut now, 10 * all, tenth);
        assert!(loaded > 8 * all, "{loaded}");
        // It ends by itself, once messages come slowly again.
        now = now + MEMORY;
        assert_eq!(under_load(&mut load, &mut now, 1000, 2 * MILLISECOND), 0);
    }

    #[test]
    fn what_is_left_of_a_flood_keeps_it_a_load() {
        let mut load = HandshakeLoad::default();
        let mut now = Time::START;
        under_load(&mut load, &mut now, AT_ONCE as usize + 1, Duration::ZERO);
        // As fast as XDP lets through what asks for cookies.
        let every = Duration::from_nanos(taltun_common::budget::COOKIE_REPLIES.token);
        assert_eq!(under_load(&mut load, &mut now, 100_000, every), 100_000);
    }
}
