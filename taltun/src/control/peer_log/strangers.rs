//! Who sends handshake messages and is no peer. They can be made up at any rate, and are told a
//! few times a minute.

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use tracing::warn;

use crate::control::window::Window;
use crate::crypto::PublicKey;
use crate::protocol::time::Time;
use crate::report::UnknownKey;

/// Lines a minute.
const LINES: u64 = 10;
/// Unknown keys, and sources with a wrong key of ours, that are remembered.
const KEPT: usize = 16;
/// A source with a wrong key of ours is told again after this long.
const AGAIN: Duration = Duration::from_secs(600);

/// A stranger that tried.
#[derive(Debug)]
struct Stranger {
    key: PublicKey,
    endpoint: SocketAddr,
    tries: u64,
    at: Time,
}

/// Writes the log of strangers.
#[derive(Debug)]
pub(in crate::control) struct Strangers {
    unknown: VecDeque<Stranger>,
    /// Sources of messages for another key than ours, and when they were told of.
    misled: VecDeque<(IpAddr, Time)>,
    lines: Window,
}

impl Default for Strangers {
    fn default() -> Self {
        Self {
            unknown: VecDeque::new(),
            misled: VecDeque::new(),
            lines: Window::new("unknown senders", LINES),
        }
    }
}

impl Strangers {
    /// Somebody knows our public key, and has one that is no peer's.
    pub(in crate::control) fn unknown_key(
        &mut self,
        key: PublicKey,
        endpoint: SocketAddr,
        now: Time,
    ) {
        let known = self
            .unknown
            .iter()
            .position(|known| known.key == key && known.endpoint.ip() == endpoint.ip());
        let known = known.and_then(|at| self.unknown.remove(at));
        let (tries, last) = known.map_or((0, None), |known| (known.tries, Some(known.at)));
        self.unknown.truncate(KEPT - 1);
        self.unknown.push_front(Stranger {
            key,
            endpoint,
            tries: tries + 1,
            at: now,
        });
        // Who tries every five seconds is told once, until he has been silent.
        let is_news = last.is_none_or(|last| now.since(last) >= Duration::from_secs(60));
        if is_news && self.lines.allows(now) {
            warn!(
                public_key = %key,
                endpoint = %endpoint,
                "refused: no peer has this public key; if it is one of yours, add it to [[peers]]"
            );
        }
    }

    /// Handshake messages come from here that are for another public key than ours.
    pub(in crate::control) fn misled(&mut self, source: IpAddr, now: Time) {
        let source = source.to_canonical();
        let known = self.misled.iter().position(|(known, _)| *known == source);
        let told = known
            .and_then(|at| self.misled.remove(at))
            .map(|(_, told)| told);
        let is_news = told.is_none_or(|told| now.since(told) >= AGAIN);
        self.misled.truncate(KEPT - 1);
        let told = told.filter(|_| !is_news).unwrap_or(now);
        self.misled.push_front((source, told));
        if is_news && self.lines.allows(now) {
            warn!(
                source = %source,
                "refused (mac1): its messages are for another public key than ours; if it is a \
                 peer of yours, mend the public key that it has of this machine"
            );
        }
    }

    /// To be called once a second.
    pub(in crate::control) fn tick(&mut self, now: Time) {
        self.lines.tick(now);
    }

    /// Unknown keys that tried, the last one first.
    pub(in crate::control) fn unknown_keys(&self, now: Time) -> Vec<UnknownKey> {
        let strangers = self.unknown.iter();
        strangers
            .map(|stranger| UnknownKey {
                public_key: stranger.key.to_string(),
                endpoint: stranger.endpoint,
                tries: stranger.tries,
                seconds_ago: now.since(stranger.at).as_secs_f64(),
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::PrivateKey;

    fn key(number: u8) -> PublicKey {
        PrivateKey::from_bytes([number; 32]).public_key()
    }

    fn at(seconds: u64) -> Time {
        Time::START + Duration::from_secs(1000 + seconds)
    }

    #[test]
    fn of_strangers_the_last_ones_are_kept() {
        let mut log = Strangers::default();
        for number in 0..200_u8 {
            let from = SocketAddr::from(([198, 51, 100, number], 1));
            log.unknown_key(key(number), from, at(u64::from(number)));
            log.misled(from.ip(), at(u64::from(number)));
        }
        let from = SocketAddr::from(([198, 51, 100, 199], 2));
        log.unknown_key(key(199), from, at(300));
        let strangers = log.unknown_keys(at(301));
        assert_eq!(strangers.len(), KEPT);
        assert_eq!(strangers[0].public_key, key(199).to_string());
        assert_eq!((strangers[0].tries, strangers[0].endpoint), (2, from));
        assert!(log.misled.len() <= KEPT);
    }
}
