//! What ICMP messages and the kernel say of peers that can't be reached, until it shows whether it
//! still holds.
//!
//! Such a message is about the past, and is read up to a second later: meanwhile the other side may
//! have started again. It counts only if no handshake with the peer finished since, and nothing came
//! through a session in the second after it was read. What was told is over once anything does.

use std::collections::HashMap;
use std::net::SocketAddr;

use super::peer_log::Cause;
use crate::crypto::PublicKey;
use crate::protocol::peer::Peer;
use crate::protocol::time::Time;

/// How much was heard of a peer through sessions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Heard {
    handshake: Option<Time>,
    transport_bytes: u64,
}

impl Heard {
    /// What was heard of a peer up to now.
    pub(super) fn from(peer: &Peer) -> Self {
        Self {
            handshake: peer.last_handshake(),
            transport_bytes: peer.rx_transport_bytes(),
        }
    }
}

#[derive(Debug)]
struct Suspicion {
    cause: Cause,
    endpoint: SocketAddr,
    /// When it was read.
    heard: Heard,
    /// Whether it wasn't judged yet.
    is_new: bool,
    /// Whether it, or one before it, was told.
    is_told: bool,
}

/// What becomes of a suspicion.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It holds, or holds still, and is to be told.
    Holds(Cause, SocketAddr),
    /// It was told, and holds no more.
    Over,
}

/// Peers that may be out of reach.
#[derive(Debug, Default)]
pub(super) struct Suspicions {
    peers: HashMap<PublicKey, Suspicion>,
    /// When messages were last read.
    read: Option<Time>,
}

impl Suspicions {
    /// A message that was read now says that a peer can't be reached. It came after the last
    /// [`read`](Self::read).
    pub(super) fn add(
        &mut self,
        key: &PublicKey,
        cause: Cause,
        endpoint: SocketAddr,
        heard: Heard,
    ) {
        // Which of the two was first isn't known. If it goes on, there are more such messages.
        if heard
            .handshake
            .is_some_and(|at| self.read.is_none_or(|read| at >= read))
        {
            return;
        }
        let suspicion = Suspicion {
            cause,
            endpoint,
            heard,
            is_new: true,
            is_told: self.peers.get(key).is_some_and(|known| known.is_told),
        };
        self.peers.insert(*key, suspicion);
    }

    /// All messages that there were by now have been read.
    pub(super) fn read(&mut self, now: Time) {
        self.read = Some(now);
    }

    /// What became of those that were added before, given how much was heard of a peer by now;
    /// `None` for one that is none any more.
    pub(super) fn judge(
        &mut self,
        heard: impl Fn(&PublicKey) -> Option<Heard>,
    ) -> Vec<(PublicKey, Verdict)> {
        let mut verdicts = Vec::new();
        self.peers.retain(|key, suspicion| {
            let Some(heard) = heard(key) else {
                return false;
            };
            if heard != suspicion.heard {
                if suspicion.is_told {
                    verdicts.push((*key, Verdict::Over));
                }
                return false;
            }
            if std::mem::take(&mut suspicion.is_new) {
                suspicion.is_told = true;
                let holds = Verdict::Holds(suspicion.cause.clone(), suspicion.endpoint);
                verdicts.push((*key, holds));
            }
            true
        });
        verdicts
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const KEY: PublicKey = PublicKey([1; 32]);

    fn at(millis: u64) -> Time {
        Time::START + Duration::from_millis(10_000 + millis)
    }

    fn there() -> SocketAddr {
        SocketAddr::from(([192, 0, 2, 1], 9000))
    }

    fn heard(handshake: u64, transport_bytes: u64) -> Heard {
        Heard {
            handshake: Some(at(handshake)),
            transport_bytes,
        }
    }

    fn holds() -> Vec<(PublicKey, Verdict)> {
        vec![(KEY, Verdict::Holds(Cause::PortClosed, there()))]
    }

    #[test]
    fn a_message_from_before_a_handshake_is_nothing() {
        let mut suspicions = Suspicions::default();
        suspicions.read(at(1000));
        // The port was closed at 1.2 s, the other side was there again at 1.4 s; read at 2 s.
        suspicions.add(&KEY, Cause::PortClosed, there(), heard(1400, 0));
        suspicions.read(at(2000));
        assert_eq!(suspicions.judge(|_| Some(heard(1400, 0))), []);
        // It is gone again.
        suspicions.add(&KEY, Cause::PortClosed, there(), heard(1400, 0));
        suspicions.read(at(3000));
        assert_eq!(suspicions.judge(|_| Some(heard(1400, 0))), holds());
        // Once is enough.
        assert_eq!(suspicions.judge(|_| Some(heard(1400, 0))), []);
        let over = suspicions.judge(|_| Some(heard(4000, 0)));
        assert_eq!(over, [(KEY, Verdict::Over)]);
        assert_eq!(suspicions.judge(|_| Some(heard(4000, 0))), []);
    }

    #[test]
    fn a_handshake_that_finishes_after_the_reading_counts_too() {
        let mut suspicions = Suspicions::default();
        suspicions.read(at(1000));
        suspicions.add(&KEY, Cause::PortClosed, there(), heard(0, 0));
        suspicions.read(at(2000));
        assert_eq!(suspicions.judge(|_| Some(heard(2100, 0))), []);
    }

    #[test]
    fn what_comes_through_a_session_refutes_it() {
        let mut suspicions = Suspicions::default();
        suspicions.read(at(1000));
        suspicions.add(&KEY, Cause::PortClosed, there(), heard(0, 100));
        assert_eq!(suspicions.judge(|_| Some(heard(0, 132))), []);
        suspicions.add(&KEY, Cause::PortClosed, there(), heard(0, 132));
        assert_eq!(suspicions.judge(|_| Some(heard(0, 132))), holds());
        // The way is back without a handshake.
        let over = suspicions.judge(|_| Some(heard(0, 164)));
        assert_eq!(over, [(KEY, Verdict::Over)]);
    }

    #[test]
    fn one_that_is_no_peer_any_more_is_forgotten() {
        let mut suspicions = Suspicions::default();
        suspicions.add(
            &KEY,
            Cause::PortClosed,
            there(),
            Heard {
                handshake: None,
                transport_bytes: 0,
            },
        );
        assert_eq!(suspicions.judge(|_| None), []);
        assert!(suspicions.peers.is_empty());
    }
}
