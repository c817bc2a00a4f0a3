//! The gate between workers and controller: how many handshake messages a second may pass
//! while too many come.
//!
//! Each that passes costs the controller microseconds, and a reply. A flood of them would
//! take its thread all the time there is, and that time is missing where packets are opened.
//! So under load only so many pass, of each of three sorts: initiations without a good cookie,
//! which is what a flood mostly is; all others; and those from where a peer was last heard, so
//! that a flood which uses up what is for everybody keeps no peer from renewing its session.
//!
//! Workers verify MACs before they ask here, so that garbage takes no place of anybody's.
//!
//! A worker asks without a lock or a system call; only what is refused otherwise is looked up
//! among the peers' addresses.

use std::collections::HashSet;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError, RwLock};

use taltun_common::bucket::Rate;
use taltun_common::budget::COOKIE_REPLIES;
use taltun_common::drops::DropReason;

use crate::protocol::cookie::Proof;
use crate::protocol::messages::Message;
use crate::protocol::time::Time;

/// How many messages of each sort pass. As many as XDP lets through without a cookie, so that
/// where it runs nothing else is refused here.
const RATE: Rate = COOKIE_REPLIES;

/// Which handshake messages may be handed to the controller.
#[derive(Debug, Default)]
pub struct Gate {
    /// Until then too many come; zero for never.
    under_load_until: AtomicU64,
    unproven: SharedBucket,
    others: SharedBucket,
    known: SharedBucket,
    /// Where peers were last heard.
    endpoints: RwLock<HashSet<IpAddr>>,
    /// Where messages for another public key than ours came from lately.
    misled: Mutex<Vec<IpAddr>>,
}

/// Sources of such messages that are kept for the controller.
const MOST_MISLED: usize = 16;

impl Gate {
    /// Too many come, at least until then.
    pub fn close_until(&self, until: Time) {
        self.under_load_until
            .fetch_max(until.as_nanos(), Ordering::Relaxed);
    }

    /// Peers were last heard at these addresses, and at no others. IPv4 is never in its mapped
    /// form.
    pub fn set_endpoints(&self, endpoints: HashSet<IpAddr>) {
        let mut ours = self
            .endpoints
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        *ours = endpoints;
    }

    /// Whether `message`, which came from `source` and proves this, may pass now, or why it
    /// may not.
    pub(super) fn admit(
        &self,
        message: &Message<'_>,
        proof: Proof,
        source: IpAddr,
        now: Time,
    ) -> Result<(), DropReason> {
        if now.as_nanos() >= self.under_load_until.load(Ordering::Relaxed) {
            return Ok(());
        }
        let (bucket, reason) = if matches!(message, Message::Initiation(_)) && proof != Proof::Mac2
        {
            (&self.unproven, DropReason::NoCookie)
        } else {
            (&self.others, DropReason::HandshakeQueueFull)
        };
        let passes = bucket.take(now) || (self.is_endpoint(source) && self.known.take(now));
        passes.then_some(()).ok_or(reason)
    }

    /// Takes note of a message for another public key than ours, for the log: of a few of them
    /// in a flood, and only if nobody else is doing so.
    pub(super) fn note_misled(&self, source: IpAddr) {
        if let Ok(mut misled) = self.misled.try_lock()
            && misled.len() < MOST_MISLED
            && !misled.contains(&source)
        {
            misled.push(source);
        }
    }

    /// Where such messages came from since the last call.
    pub fn take_misled(&self) -> Vec<IpAddr> {
        let taken = self.misled.try_lock();
        taken.map_or_else(|_| Vec::new(), |mut misled| misled.drain(..).collect())
    }

    fn is_endpoint(&self, source: IpAddr) -> bool {
        self.endpoints
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .contains(&source.to_canonical())
    }
}

/// A token bucket for all threads: when it is full again.
#[derive(Debug, Default)]
struct SharedBucket(AtomicU64);

impl SharedBucket {
    /// Takes a token, if there is one.
    fn take(&self, now: Time) -> bool {
        let now = now.as_nanos();
        let taken = |full_at| RATE.allows(full_at, now).then(|| RATE.taken(full_at, now));
        self.0
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, taken)
            .is_ok()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::protocol::messages::INITIATION_LEN;

    const STRANGER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(198, 51, 100, 1));
    const PEER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));
    const BURST: u64 = RATE.bucket / RATE.token;

    fn initiation() -> [u8; INITIATION_LEN] {
        let mut datagram = [0; INITIATION_LEN];
        datagram[0] = 1;
        datagram
    }

    /// How many of twice as many as may pass at once do.
    fn passed(gate: &Gate, proof: Proof, source: IpAddr, now: Time) -> u64 {
        let datagram = initiation();
        let message = Message::parse(&datagram).unwrap();
        let passes = |_: &u64| gate.admit(&message, proof, source, now).is_ok();
        (0..2 * BURST).filter(passes).count() as u64
    }

    #[test]
    fn it_is_open_until_too_many_come_and_again_when_they_have_gone() {
        let gate = Gate::default();
        let now = Time::START;
        assert_eq!(passed(&gate, Proof::Mac1, STRANGER, now), 2 * BURST);
        let end = now + Duration::from_secs(1);
        gate.close_until(end);
        assert_eq!(passed(&gate, Proof::Mac1, STRANGER, now), BURST);
        let later = now + Duration::from_nanos(7 * RATE.token);
        assert_eq!(passed(&gate, Proof::Mac1, STRANGER, later), 7);
        // Nobody shortens it.
        gate.close_until(now);
        assert_eq!(passed(&gate, Proof::Mac1, STRANGER, later), 0);
        assert_eq!(passed(&gate, Proof::Mac1, STRANGER, end), 2 * BURST);
    }

    #[test]
    fn a_flood_leaves_room_for_cookies_and_for_peers() {
        let gate = Gate::default();
        let now = Time::START;
        gate.set_endpoints(HashSet::from([PEER]));
        gate.close_until(now + Duration::from_secs(1));
        assert_eq!(passed(&gate, Proof::Mac1, STRANGER, now), BURST);
        assert_eq!(passed(&gate, Proof::Mac2, STRANGER, now), BURST);
        // Who pretends to be a peer gets no more than the peers have, all together.
        let mapped = IpAddr::V6("::ffff:192.0.2.1".parse().unwrap());
        assert_eq!(passed(&gate, Proof::Mac1, mapped, now), BURST);
        assert_eq!(passed(&gate, Proof::Mac1, PEER, now), 0);
    }

    #[test]
    fn the_reason_is_the_cookie_that_is_missing() {
        let gate = Gate::default();
        let now = Time::START;
        gate.close_until(now + Duration::from_secs(1));
        for (proof, expected) in [
            (Proof::Mac1, DropReason::NoCookie),
            (Proof::Mac2, DropReason::HandshakeQueueFull),
        ] {
            passed(&gate, proof, STRANGER, now);
            let datagram = initiation();
            let message = Message::parse(&datagram).unwrap();
            let outcome = gate.admit(&message, proof, STRANGER, now);
            assert_eq!(outcome, Err(expected));
        }
    }
}
