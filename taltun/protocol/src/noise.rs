//! The handshake: `Noise_IKpsk2` as WireGuard uses it (paper §5.4.2 to §5.4.5).
//!
//! Pure functions from keys and messages to messages and keys. An initiator holds an
//! [`Initiator`] between its two steps; a responder does both of its steps at once and
//! keeps nothing, so that an initiation from an unknown sender costs no memory.

use taltun_common::wire::{self, MAC_LEN};
use zerocopy::transmute;
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use super::messages::{
    CONSTRUCTION, IDENTIFIER, INITIATION_LEN, Initiation, RESPONSE_LEN, Response,
};
use super::tai64n::Tai64n;
use taltun_crypto::{
    AeadKey, BASE_POINT, KEY_LEN, PresharedKey, PrivateKey, PublicKey, SharedSecret, TAG_LEN,
    diffie_hellman_all, hash, kdf,
};

/// A handshake message that doesn't authenticate, or holds a key no peer may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("handshake message refused")]
pub struct Refused;

/// Our static key pair.
#[derive(Debug)]
pub struct Identity {
    private: PrivateKey,
    public: PublicKey,
}

impl Identity {
    /// The pair that belongs to `private`.
    pub fn new(private: PrivateKey) -> Self {
        let public = private.public_key();
        Self { private, public }
    }

    /// Our private key.
    pub fn private(&self) -> &PrivateKey {
        &self.private
    }

    /// Our public key.
    pub fn public(&self) -> &PublicKey {
        &self.public
    }

    /// The part of every handshake with `peer` that never changes: DH of the two static
    /// keys. `None` for the low-order public keys, with which no handshake is possible.
    pub fn static_static(&self, peer: &PublicKey) -> Option<SharedSecret> {
        self.private.diffie_hellman(peer)
    }
}

/// The keys of a new session (§5.4.5), from the point of view of one side.
#[derive(Debug, Zeroize, ZeroizeOnDrop)]
pub struct TransportKeys {
    /// Seals what this side sends.
    pub sending: [u8; KEY_LEN],
    /// Opens what this side receives.
    pub receiving: [u8; KEY_LEN],
}

/// Chaining key and transcript hash.
#[derive(Debug, Zeroize, ZeroizeOnDrop)]
struct Transcript {
    chaining_key: [u8; 32],
    hash: [u8; 32],
}

impl Transcript {
    fn new(responder: &PublicKey) -> Self {
        let chaining_key = hash(&[CONSTRUCTION]);
        let identified = hash(&[&chaining_key, IDENTIFIER]);
        Self {
            chaining_key,
            hash: hash(&[&identified, &responder.0]),
        }
    }

    fn mix_hash(&mut self, data: &[u8]) {
        self.hash = hash(&[&self.hash, data]);
    }

    fn mix_key(&mut self, input: &[u8]) {
        let [next] = kdf::<1>(&self.chaining_key, input);
        self.chaining_key = *next;
    }

    fn mix_key_into_aead(&mut self, input: &[u8]) -> AeadKey {
        let [next, key] = kdf::<2>(&self.chaining_key, input);
        self.chaining_key = *next;
        AeadKey::new(&key)
    }

    /// Seals `plain` into `PLAIN + 16` bytes and takes them into the transcript.
    fn seal<const PLAIN: usize, const SEALED: usize>(
        &mut self,
        key: &AeadKey,
        plain: &[u8; PLAIN],
    ) -> [u8; SEALED] {
        const { assert!(SEALED == PLAIN + TAG_LEN) };
        let mut sealed = [0; SEALED];
        sealed[..PLAIN].copy_from_slice(plain);
        let tag = key.seal(0, &self.hash, &mut sealed[..PLAIN]);
        sealed[PLAIN..].copy_from_slice(&tag);
        self.mix_hash(&sealed);
        sealed
    }

    /// Opens what [`Self::seal`] sealed on the other side.
    fn open<const SEALED: usize, const PLAIN: usize>(
        &mut self,
        key: &AeadKey,
        sealed: &[u8; SEALED],
    ) -> Result<[u8; PLAIN], Refused> {
        const { assert!(SEALED == PLAIN + TAG_LEN) };
        let mut data = *sealed;
        let opened = key.open(0, &self.hash, &mut data).map_err(|_| Refused)?;
        let mut plain = [0; PLAIN];
        plain.copy_from_slice(opened);
        self.mix_hash(sealed);
        Ok(plain)
    }

    /// Mixes the preshared key and proves it by sealing or opening nothing (§5.4.3).
    fn mix_preshared(&mut self, preshared: &PresharedKey) -> AeadKey {
        let [next, tau, key] = kdf::<3>(&self.chaining_key, &preshared.0);
        self.chaining_key = *next;
        self.mix_hash(&*tau);
        AeadKey::new(&key)
    }

    /// The two keys of the session: initiator's sending key first (§5.4.5).
    fn split(&self) -> [Zeroizing<[u8; 32]>; 2] {
        kdf::<2>(&self.chaining_key, &[])
    }
}

/// What an initiator keeps while it waits for the response.
#[derive(Debug)]
pub struct Initiator {
    transcript: Transcript,
    ephemeral: PrivateKey,
}

/// First message, sent (§5.4.2). `static_static` is [`Identity::static_static`] of the
/// responder. The MACs are left zero for [`super::cookie`] to fill.
pub fn initiate(
    identity: &Identity,
    responder: &PublicKey,
    static_static: &SharedSecret,
    ephemeral: PrivateKey,
    sender: u32,
    timestamp: Tai64n,
) -> Result<(Initiator, [u8; INITIATION_LEN]), Refused> {
    let mut transcript = Transcript::new(responder);
    let ephemeral_public = ephemeral.public_key();
    transcript.mix_key(&ephemeral_public.0);
    transcript.mix_hash(&ephemeral_public.0);
    let shared = ephemeral.diffie_hellman(responder).ok_or(Refused)?;
    let key = transcript.mix_key_into_aead(&*shared);
    let sealed_static = transcript.seal(&key, &identity.public.0);
    let key = transcript.mix_key_into_aead(&**static_static);
    let sealed_timestamp = transcript.seal(&key, &timestamp.0);
    let message = Initiation {
        kind: wire::INITIATION.into(),
        sender: sender.into(),
        ephemeral: ephemeral_public.0,
        sealed_static,
        sealed_timestamp,
        mac1: [0; MAC_LEN],
        mac2: [0; MAC_LEN],
    };
    Ok((
        Initiator {
            transcript,
            ephemeral,
        },
        transmute!(message),
    ))
}

/// A received initiation after its first step: we know who claims to have sent it.
#[derive(Debug)]
pub struct Claimed {
    /// The static key in the message. The sender knows *our* public key. Only
    /// [`Claimed::verify`] proves that it has the private key of this one.
    pub initiator: PublicKey,
    transcript: Transcript,
    initiator_ephemeral: PublicKey,
    sealed_timestamp: [u8; 28],
    initiator_index: u32,
}

/// An authenticated initiation, ready to be answered.
#[derive(Debug)]
pub struct Verified {
    /// When the initiator made it; must be above all earlier ones of this peer.
    pub timestamp: Tai64n,
    transcript: Transcript,
    initiator: PublicKey,
    initiator_ephemeral: PublicKey,
    initiator_index: u32,
}

/// First message, received: finds out who it is from (§5.4.2).
pub fn receive(identity: &Identity, message: &Initiation) -> Result<Claimed, Refused> {
    let shared = identity
        .private
        .diffie_hellman(&PublicKey(message.ephemeral));
    receive_with(identity, message, shared.as_ref())
}

/// The same, where the secret of our static key and the message's ephemeral one is made already.
pub fn receive_with(
    identity: &Identity,
    message: &Initiation,
    shared: Option<&SharedSecret>,
) -> Result<Claimed, Refused> {
    let mut transcript = Transcript::new(&identity.public);
    let ephemeral = PublicKey(message.ephemeral);
    transcript.mix_key(&ephemeral.0);
    transcript.mix_hash(&ephemeral.0);
    let shared = shared.ok_or(Refused)?;
    let key = transcript.mix_key_into_aead(&**shared);
    let initiator = PublicKey(transcript.open(&key, &message.sealed_static)?);
    Ok(Claimed {
        initiator,
        transcript,
        initiator_ephemeral: ephemeral,
        sealed_timestamp: message.sealed_timestamp,
        initiator_index: message.sender.get(),
    })
}

impl Claimed {
    /// Proves that the sender holds the private key it claims (§5.4.2).
    pub fn verify(mut self, static_static: &SharedSecret) -> Result<Verified, Refused> {
        let key = self.transcript.mix_key_into_aead(&**static_static);
        let timestamp = Tai64n(self.transcript.open(&key, &self.sealed_timestamp)?);
        Ok(Verified {
            timestamp,
            transcript: self.transcript,
            initiator: self.initiator,
            initiator_ephemeral: self.initiator_ephemeral,
            initiator_index: self.initiator_index,
        })
    }
}

impl Verified {
    /// The index the initiator wants to be addressed by.
    pub fn initiator_index(&self) -> u32 {
        self.initiator_index
    }

    /// Second message, sent (§5.4.3), with the session's keys. MACs are left zero.
    pub fn respond(
        self,
        preshared: &PresharedKey,
        ephemeral: &PrivateKey,
        sender: u32,
    ) -> Result<([u8; RESPONSE_LEN], TransportKeys), Refused> {
        let mut made = [const { None }; 3];
        let pairs = self.points().map(|point| (ephemeral, point));
        diffie_hellman_all(&pairs, |at, secret| made[at] = secret);
        self.respond_with(preshared, &made, sender)
    }

    /// The points that our ephemeral key is to be multiplied with, none of which waits for
    /// another: first for its public key, then for the secrets.
    pub fn points(&self) -> [&PublicKey; 3] {
        [&BASE_POINT, &self.initiator_ephemeral, &self.initiator]
    }

    /// [`Self::respond`], where what comes of [`Self::points`] is made already.
    pub fn respond_with(
        mut self,
        preshared: &PresharedKey,
        made: &[Option<SharedSecret>; 3],
        sender: u32,
    ) -> Result<([u8; RESPONSE_LEN], TransportKeys), Refused> {
        let transcript = &mut self.transcript;
        let [
            Some(public),
            Some(ephemeral_ephemeral),
            Some(ephemeral_static),
        ] = made
        else {
            return Err(Refused);
        };
        let ephemeral_public = PublicKey(**public);
        transcript.mix_key(&ephemeral_public.0);
        transcript.mix_hash(&ephemeral_public.0);
        transcript.mix_key(&**ephemeral_ephemeral);
        transcript.mix_key(&**ephemeral_static);
        let key = transcript.mix_preshared(preshared);
        let sealed_nothing = transcript.seal(&key, &[]);
        let message = Response {
            kind: wire::RESPONSE.into(),
            sender: sender.into(),
            receiver: self.initiator_index.into(),
            ephemeral: ephemeral_public.0,
            sealed_nothing,
            mac1: [0; MAC_LEN],
            mac2: [0; MAC_LEN],
        };
        let [theirs, ours] = transcript.split();
        Ok((
            transmute!(message),
            TransportKeys {
                sending: *ours,
                receiving: *theirs,
            },
        ))
    }
}

impl Initiator {
    /// Second message, received (§5.4.3), giving the session's keys. The initiator stays
    /// as it was when the message is refused: a forged response must not end a handshake.
    pub fn finish(
        &self,
        identity: &Identity,
        preshared: &PresharedKey,
        message: &Response,
    ) -> Result<TransportKeys, Refused> {
        let mut transcript = Transcript {
            chaining_key: self.transcript.chaining_key,
            hash: self.transcript.hash,
        };
        let ephemeral = PublicKey(message.ephemeral);
        transcript.mix_key(&ephemeral.0);
        transcript.mix_hash(&ephemeral.0);
        let mut made = [const { None }; 2];
        let pairs = [&self.ephemeral, &identity.private].map(|ours| (ours, &ephemeral));
        diffie_hellman_all(&pairs, |at, secret| made[at] = secret);
        for secret in &made {
            transcript.mix_key(&**secret.as_ref().ok_or(Refused)?);
        }
        let key = transcript.mix_preshared(preshared);
        let []: [u8; 0] = transcript.open(&key, &message.sealed_nothing)?;
        let [ours, theirs] = transcript.split();
        Ok(TransportKeys {
            sending: *ours,
            receiving: *theirs,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::messages::Message;
    use zerocopy::FromBytes;

    use super::*;

    fn pair() -> (Identity, Identity) {
        let a = Identity::new(PrivateKey::from_bytes([1; 32]));
        let b = Identity::new(PrivateKey::from_bytes([2; 32]));
        (a, b)
    }

    fn initiation(a: &Identity, b: &Identity) -> (Initiator, [u8; INITIATION_LEN]) {
        let shared = a.static_static(b.public()).unwrap();
        let ephemeral = PrivateKey::from_bytes([3; 32]);
        let timestamp = Tai64n::from_unix(std::time::Duration::from_secs(1));
        initiate(a, b.public(), &shared, ephemeral, 7, timestamp).unwrap()
    }

    fn as_initiation(bytes: &[u8]) -> &Initiation {
        match Message::parse(bytes).unwrap() {
            Message::Initiation(message) => message,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn both_sides_agree_on_the_keys_and_on_who_is_who() {
        let (a, b) = pair();
        let psk = PresharedKey([9; 32]);
        let (initiator, first) = initiation(&a, &b);
        let claimed = receive(&b, as_initiation(&first)).unwrap();
        assert_eq!(claimed.initiator, *a.public());
        let verified = claimed
            .verify(&b.static_static(a.public()).unwrap())
            .unwrap();
        assert_eq!(verified.initiator_index(), 7);
        let ephemeral = PrivateKey::from_bytes([4; 32]);
        let (second, b_keys) = verified.respond(&psk, &ephemeral, 8).unwrap();
        let a_keys = initiator
            .finish(&a, &psk, Response::ref_from_bytes(&second).unwrap())
            .unwrap();
        assert_eq!(a_keys.sending, b_keys.receiving);
        assert_eq!(a_keys.receiving, b_keys.sending);
        assert_ne!(a_keys.sending, a_keys.receiving);
    }

    #[test]
    fn a_wrong_preshared_key_is_refused_and_the_initiator_survives_it() {
        let (a, b) = pair();
        let (initiator, first) = initiation(&a, &b);
        let respond = |psk: &PresharedKey| {
            receive(&b, as_initiation(&first))
                .unwrap()
                .verify(&b.static_static(a.public()).unwrap())
                .unwrap()
                .respond(psk, &PrivateKey::from_bytes([4; 32]), 8)
                .unwrap()
                .0
        };
        let psk = PresharedKey([9; 32]);
        let wrong = respond(&PresharedKey([8; 32]));
        assert!(
            initiator
                .finish(&a, &psk, Response::ref_from_bytes(&wrong).unwrap())
                .is_err()
        );
        let right = respond(&psk);
        assert!(
            initiator
                .finish(&a, &psk, Response::ref_from_bytes(&right).unwrap())
                .is_ok()
        );
    }

    #[test]
    fn an_initiation_changed_in_any_authenticated_byte_is_refused() {
        let (a, b) = pair();
        let (_, first) = initiation(&a, &b);
        let static_static = b.static_static(a.public()).unwrap();
        for at in 8..116 {
            let mut forged = first;
            forged[at] ^= 1;
            let outcome = receive(&b, as_initiation(&forged))
                .and_then(|claimed| claimed.verify(&static_static));
            assert!(outcome.is_err(), "byte {at}");
        }
    }

    #[test]
    fn the_seven_low_order_points_give_no_shared_secret() {
        let (a, _) = pair();
        let points = [
            "0000000000000000000000000000000000000000000000000000000000000000",
            "0100000000000000000000000000000000000000000000000000000000000000",
            "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
            "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
            "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
            "e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800",
            "5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157",
        ];
        for point in points {
            let point: PublicKey = point.parse().unwrap();
            assert!(a.static_static(&point).is_none());
        }
    }
}
