//! A secret for one reader: sealed to a public key, opened by its private key alone.
//!
//! X25519 of a key pair made for this one box, hashed by BLAKE2s over both public keys into a key
//! for ChaCha20-Poly1305. It is what RFC 9180 calls HPKE's base mode, from the primitives that are
//! here already: HPKE itself has no BLAKE2s, so the `hpke` crate would add SHA-2 and a second
//! dalek to save these lines. Like HPKE's base mode it doesn't say who sealed: a signature does.

use chacha20poly1305::ChaCha20Poly1305;
use chacha20poly1305::aead::{Aead, KeyInit, Payload};
use zeroize::Zeroizing;

use crate::{AuthError, KEY_LEN, PrivateKey, PublicKey, TAG_LEN, hash, kdf};

/// By how much a box is longer than its secret.
pub const OVERHEAD: usize = KEY_LEN + TAG_LEN;

const DOMAIN: &[u8] = b"taltun sealed box 1";
/// The key seals once, so its nonce need not differ from any other.
const NONCE: [u8; 12] = [0; 12];

/// Seals `secret` for `reader`; only who gives the same `context` opens it. `once` is a random
/// key that must serve for nothing else. `None` if `reader` is no key at all
/// ([`PublicKey::is_usable`]).
pub fn seal(
    once: PrivateKey,
    reader: &PublicKey,
    context: &[u8],
    secret: &[u8],
) -> Option<Vec<u8>> {
    let sender = once.public_key();
    let shared = once.diffie_hellman(reader)?;
    drop(once);
    let sealed = cipher(&sender, reader, &shared)
        .encrypt(&NONCE.into(), payload(secret, context))
        .ok()?;
    Some([&sender.0, sealed.as_slice()].concat())
}

/// Opens what [`seal`] made.
pub fn open(
    reader: &PrivateKey,
    context: &[u8],
    sealed: &[u8],
) -> Result<Zeroizing<Vec<u8>>, AuthError> {
    let (sender, sealed) = sealed.split_first_chunk().ok_or(AuthError)?;
    let sender = PublicKey(*sender);
    let shared = reader.diffie_hellman(&sender).ok_or(AuthError)?;
    cipher(&sender, &reader.public_key(), &shared)
        .decrypt(&NONCE.into(), payload(sealed, context))
        .map(Zeroizing::new)
        .map_err(|_| AuthError)
}

fn cipher(sender: &PublicKey, reader: &PublicKey, shared: &[u8; KEY_LEN]) -> ChaCha20Poly1305 {
    let both = hash(&[DOMAIN, &sender.0, &reader.0]);
    let [key] = kdf::<1>(&both, shared);
    ChaCha20Poly1305::new((&*key).into())
}

fn payload<'a>(msg: &'a [u8], aad: &'a [u8]) -> Payload<'a, 'a> {
    Payload { msg, aad }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(byte: u8) -> PrivateKey {
        PrivateKey::from_bytes([byte; KEY_LEN])
    }

    #[test]
    fn only_the_reader_opens_and_only_in_the_same_context() {
        let reader = key(1);
        let sealed = seal(key(2), &reader.public_key(), b"keys/madrid", b"secret").unwrap();
        assert_eq!(sealed.len(), 6 + OVERHEAD);
        assert_eq!(*open(&reader, b"keys/madrid", &sealed).unwrap(), b"secret");
        assert!(open(&key(3), b"keys/madrid", &sealed).is_err());
        assert!(open(&reader, b"keys/paris", &sealed).is_err());
        assert!(!sealed.windows(6).any(|bytes| bytes == b"secret"));
    }

    #[test]
    fn no_bit_can_be_changed_and_no_byte_left_out() {
        let reader = key(1);
        let sealed = seal(key(2), &reader.public_key(), b"", b"secret").unwrap();
        for bit in 0..sealed.len() * 8 {
            let mut changed = sealed.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            // X25519 leaves out the last bit of a public key, and the hash over it doesn't.
            assert!(open(&reader, b"", &changed).is_err(), "bit {bit}");
        }
        for length in 0..sealed.len() {
            assert!(open(&reader, b"", &sealed[..length]).is_err(), "{length}");
        }
    }

    #[test]
    fn nothing_is_sealed_to_a_key_that_anybody_can_open() {
        assert!(seal(key(2), &PublicKey([0; KEY_LEN]), b"", b"secret").is_none());
        let mut to_nobody = vec![0; OVERHEAD];
        assert!(open(&key(1), b"", &to_nobody).is_err());
        to_nobody[0] = 1;
        assert!(open(&key(1), b"", &to_nobody).is_err());
    }
}
