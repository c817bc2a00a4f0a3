//! mac1, mac2 and cookies: handshakes cost nothing to refuse while under load
//! (paper §5.4.4 and §5.4.7).

// What comes from outside must not be able to make anything here panic.
#![cfg_attr(
    not(test),
    warn(clippy::arithmetic_side_effects, clippy::indexing_slicing)
)]

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use taltun_common::wire::{self, MAC_LEN};
use zerocopy::transmute;

use super::messages::{
    COOKIE_LATENCY, COOKIE_LEN, COOKIE_LIFETIME, CookieReply, LABEL_COOKIE, LABEL_MAC1, split_macs,
};
use super::time::Time;
use taltun_crypto::{PublicKey, constant_time_eq, hash, mac, xopen, xseal};

/// What the MACs of a received handshake message prove.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Proof {
    /// The sender doesn't even know our public key.
    None,
    /// The sender knows our public key.
    Mac1,
    /// The sender also receives at the address it sends from.
    Mac2,
}

/// Checks the MACs of handshake messages sent to us, and makes cookie replies.
#[derive(Debug, Clone)]
pub struct Checker {
    mac1_key: [u8; 32],
    cookie_key: [u8; 32],
    secret: [u8; 32],
    secret_born: Option<Time>,
}

impl Checker {
    /// A checker for messages addressed to `ours`.
    pub fn new(ours: &PublicKey) -> Self {
        Self {
            mac1_key: hash(&[LABEL_MAC1, &ours.0]),
            cookie_key: hash(&[LABEL_COOKIE, &ours.0]),
            secret: [0; 32],
            secret_born: None,
        }
    }

    /// The key of mac1, for a filter in front of us.
    pub fn mac1_key(&self) -> &[u8; 32] {
        &self.mac1_key
    }

    /// The secret of cookies, for a filter in front of us, and how long from now its cookies are
    /// valid; `None` if there is no valid secret.
    pub fn secret(&self, now: Time) -> Option<(&[u8; 32], Duration)> {
        let age = now.since(self.secret_born?);
        let left = COOKIE_LIFETIME.checked_sub(age)?;
        (!left.is_zero()).then_some((&self.secret, left))
    }

    /// Forgets the secret, and with it all cookies that were given.
    pub fn forget_secret(&mut self) {
        self.secret_born = None;
    }

    /// When the secret was made, which tells one from the next.
    pub(super) fn secret_born(&self) -> Option<Time> {
        self.secret_born
    }

    /// Looks at both MACs of `message`, an initiation or a response from `from`.
    pub fn check(&self, message: &[u8], from: SocketAddr, now: Time) -> Proof {
        let Some((signed, mac1, mac2)) = split_macs(message) else {
            return Proof::None;
        };
        let expected = mac(&self.mac1_key, &[signed]);
        if !constant_time_eq(&expected, mac1) {
            return Proof::None;
        }
        if !self.secret_is_fresh(now) {
            return Proof::Mac1;
        }
        let expected = mac(&self.cookie(from), &[signed, mac1]);
        if constant_time_eq(&expected, mac2) {
            Proof::Mac2
        } else {
            Proof::Mac1
        }
    }

    /// The answer "come again with this cookie" to `message`, whose sender index is
    /// `sender`. `random` is called for 24 bytes of nonce, and for a new secret when the
    /// last one is older than 120 s.
    pub fn reply(
        &mut self,
        message: &[u8],
        sender: u32,
        from: SocketAddr,
        now: Time,
        mut random: impl FnMut(&mut [u8]),
    ) -> [u8; COOKIE_LEN] {
        if !self.secret_is_fresh(now) {
            random(&mut self.secret);
            self.secret_born = Some(now);
        }
        let mut nonce = [0; 24];
        random(&mut nonce);
        // A message without a MAC gets no answer.
        let mac1 = split_macs(message).map_or(&[0; MAC_LEN], |(_, mac1, _)| mac1);
        transmute!(CookieReply {
            kind: wire::COOKIE.into(),
            receiver: sender.into(),
            nonce,
            sealed_cookie: xseal(&self.cookie_key, &nonce, mac1, &self.cookie(from)),
        })
    }

    fn secret_is_fresh(&self, now: Time) -> bool {
        self.secret(now).is_some()
    }

    /// A cookie binds address *and* port: the port alone tells apart who shares a NAT.
    fn cookie(&self, from: SocketAddr) -> [u8; 16] {
        // Both families in one form: a filter in front of us has it like this.
        let ip = match from.ip() {
            IpAddr::V4(ip) => ip.to_ipv6_mapped(),
            IpAddr::V6(ip) => ip,
        };
        mac(&self.secret, &[&ip.octets(), &from.port().to_be_bytes()])
    }
}

/// Puts the MACs on handshake messages sent to one peer, with its cookie if it gave one.
#[derive(Debug)]
pub struct Sealer {
    mac1_key: [u8; 32],
    cookie_key: [u8; 32],
    last_mac1: Option<[u8; 16]>,
    cookie: Option<([u8; 16], Time)>,
}

impl Sealer {
    /// A sealer for messages addressed to `theirs`.
    pub fn new(theirs: &PublicKey) -> Self {
        Self {
            mac1_key: hash(&[LABEL_MAC1, &theirs.0]),
            cookie_key: hash(&[LABEL_COOKIE, &theirs.0]),
            last_mac1: None,
            cookie: None,
        }
    }

    /// Fills in mac1, and mac2 when a fresh cookie is at hand.
    pub fn seal(&mut self, message: &mut [u8], now: Time) {
        let Some((rest, mac2)) = message.split_last_chunk_mut::<MAC_LEN>() else {
            return;
        };
        let Some((signed, mac1)) = rest.split_last_chunk_mut::<MAC_LEN>() else {
            return;
        };
        *mac1 = mac(&self.mac1_key, &[signed]);
        self.last_mac1 = Some(*mac1);
        if let Some((cookie, received)) = &self.cookie
            && now.since(*received) < COOKIE_LIFETIME.saturating_sub(COOKIE_LATENCY)
        {
            *mac2 = mac(cookie, &[signed, mac1]);
        }
    }

    /// Takes a cookie reply; false when it doesn't answer our last message.
    pub fn receive(&mut self, reply: &CookieReply, now: Time) -> bool {
        let Some(mac1) = &self.last_mac1 else {
            return false;
        };
        let opened = xopen(&self.cookie_key, &reply.nonce, mac1, &reply.sealed_cookie);
        let Ok(cookie) = opened else {
            return false;
        };
        self.cookie = Some((cookie, now));
        // One reply a message: a second one for the same mac1 is a replay.
        self.last_mac1 = None;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::super::messages::Message;
    use super::*;

    fn fixture() -> (Checker, Sealer, SocketAddr) {
        let ours = PublicKey([5; 32]);
        (
            Checker::new(&ours),
            Sealer::new(&ours),
            "192.0.2.1:4000".parse().unwrap(),
        )
    }

    fn give_cookie(checker: &mut Checker, sealer: &mut Sealer, from: SocketAddr, now: Time) {
        let mut message = [7; 148];
        sealer.seal(&mut message, now);
        let reply = checker.reply(&message, 1, from, now, |bytes| bytes.fill(3));
        let Ok(Message::CookieReply(reply)) = Message::parse(&reply) else {
            panic!("not a cookie reply");
        };
        assert!(sealer.receive(reply, now));
        assert!(!sealer.receive(reply, now), "a reply counts once");
    }

    #[test]
    fn mac1_proves_knowledge_of_the_public_key_only() {
        let (checker, mut sealer, from) = fixture();
        let mut message = [7; 148];
        assert_eq!(checker.check(&message, from, Time::START), Proof::None);
        sealer.seal(&mut message, Time::START);
        assert_eq!(checker.check(&message, from, Time::START), Proof::Mac1);
        message[50] ^= 1;
        assert_eq!(checker.check(&message, from, Time::START), Proof::None);
    }

    #[test]
    fn a_cookie_binds_address_and_port() {
        let (mut checker, mut sealer, from) = fixture();
        give_cookie(&mut checker, &mut sealer, from, Time::START);
        let mut message = [8; 92];
        sealer.seal(&mut message, Time::START);
        assert_eq!(checker.check(&message, from, Time::START), Proof::Mac2);
        let mapped = "[::ffff:192.0.2.1]:4000".parse().unwrap();
        assert_eq!(checker.check(&message, mapped, Time::START), Proof::Mac2);
        let other_port = "192.0.2.1:4001".parse().unwrap();
        assert_eq!(
            checker.check(&message, other_port, Time::START),
            Proof::Mac1
        );
        let other_address = "192.0.2.2:4000".parse().unwrap();
        assert_eq!(
            checker.check(&message, other_address, Time::START),
            Proof::Mac1
        );
    }

    #[test]
    fn cookie_and_secret_die_after_two_minutes() {
        let (mut checker, mut sealer, from) = fixture();
        give_cookie(&mut checker, &mut sealer, from, Time::START);
        let late = Time::START + Duration::from_secs(116);
        let mut message = [8; 148];
        message[132..].fill(0);
        sealer.seal(&mut message, late);
        assert_eq!(
            message[132..],
            [0; 16],
            "a cookie near its death isn't used"
        );

        assert_eq!(checker.secret(late).unwrap().1, Duration::from_secs(4));
        let mut message = [8; 148];
        sealer.seal(&mut message, Time::START);
        let dead = Time::START + Duration::from_secs(120);
        assert_eq!(checker.check(&message, from, dead), Proof::Mac1);
        assert!(checker.secret(dead).is_none());
    }
}
