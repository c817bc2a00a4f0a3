//! ChaCha20-Poly1305 (RFC 8439), by the fastest back end that the build and the CPU have.
//!
//! | back end | used |
//! |---|---|
//! | `wide`, of AVX-512 | for what has no associated data, which is all traffic, on a CPU with AVX-512 and IFMA |
//! | ring | for all else |
//! | `chacha20poly1305` | in place of ring where that is left out: without the feature `ring` |
//!
//! All are one function, and tested to be.

use std::fmt;

use crate::{KEY_LEN, TAG_LEN};

#[cfg(all(target_arch = "x86_64", chacha20_avx512))]
use super::wide;
#[cfg(not(all(target_arch = "x86_64", chacha20_avx512)))]
use absent as wide;

#[cfg(not(feature = "ring"))]
use portable as general;
#[cfg(feature = "ring")]
use with_ring as general;

/// A transport key (paper §5.4.5): seals or opens messages, each under its counter. Wiped
/// from memory when dropped.
pub struct AeadKey {
    general: general::Key,
    wide: Option<wide::Key>,
}

/// What does the arithmetic of traffic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BackEnd {
    /// Our own code for AVX-512.
    Avx512,
    /// The library ring.
    Ring,
    /// `chacha20poly1305`, in place of ring.
    Portable,
}

/// The tag doesn't match: the sender doesn't have the key, or the bytes changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("authentication failed")]
pub struct AuthError;

impl AeadKey {
    /// Prepares a key once, so that each packet pays only for its own bytes.
    pub fn new(key: &[u8; KEY_LEN]) -> Self {
        Self {
            general: general::Key::new(key),
            wide: wide::Key::new(key),
        }
    }

    /// Encrypts `data` in place and returns its tag.
    pub fn seal(&self, counter: u64, aad: &[u8], data: &mut [u8]) -> [u8; TAG_LEN] {
        match &self.wide {
            Some(key) if aad.is_empty() => key.seal(nonce(counter), data),
            _ => self.general.seal(nonce(counter), aad, data),
        }
    }

    /// Decrypts `data`, whose last 16 bytes are the tag, in place; the plaintext is what
    /// comes before the tag. On failure `data` holds nothing meaningful.
    pub fn open<'a>(
        &self,
        counter: u64,
        aad: &[u8],
        data: &'a mut [u8],
    ) -> Result<&'a mut [u8], AuthError> {
        let (text, tag) = data.split_last_chunk_mut().ok_or(AuthError)?;
        let nonce = nonce(counter);
        let authentic = match &self.wide {
            Some(key) if aad.is_empty() => key.open(nonce, text, tag),
            _ => self.general.open(nonce, aad, text, tag),
        };
        authentic.then_some(text).ok_or(AuthError)
    }

    /// The back end that traffic is sealed and opened by on this machine.
    pub fn back_end() -> BackEnd {
        if wide::Key::new(&[0; KEY_LEN]).is_some() {
            BackEnd::Avx512
        } else {
            general::BACK_END
        }
    }
}

impl fmt::Debug for AeadKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AeadKey(…)")
    }
}

/// Four zero bytes, then the counter, little endian (paper §5.4.6).
fn nonce(counter: u64) -> [u8; 12] {
    let mut bytes = [0; 12];
    bytes[4..].copy_from_slice(&counter.to_le_bytes());
    bytes
}

#[cfg(feature = "ring")]
mod with_ring {
    use std::mem::MaybeUninit;

    use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, Tag, UnboundKey};
    use zeroize::Zeroize;

    use crate::{KEY_LEN, TAG_LEN};

    pub(super) const BACK_END: super::BackEnd = super::BackEnd::Ring;

    /// In a box, so that moving the key leaves no copies behind to wipe.
    pub(super) struct Key(Box<MaybeUninit<LessSafeKey>>);

    impl Key {
        pub(super) fn new(key: &[u8; KEY_LEN]) -> Self {
            let unbound = UnboundKey::new(&CHACHA20_POLY1305, key)
                .expect("32 bytes is the key length of ChaCha20-Poly1305");
            Self(Box::new(MaybeUninit::new(LessSafeKey::new(unbound))))
        }

        fn key(&self) -> &LessSafeKey {
            // SAFETY: `new` initialises the box and nothing but `drop` ever wipes it.
            unsafe { self.0.assume_init_ref() }
        }

        pub(super) fn seal(&self, nonce: [u8; 12], aad: &[u8], data: &mut [u8]) -> [u8; TAG_LEN] {
            let nonce = Nonce::assume_unique_for_key(nonce);
            let tag = self
                .key()
                .seal_in_place_separate_tag(nonce, Aad::from(aad), data)
                .expect("a datagram is far below the 256 GiB that one nonce may seal");
            let mut out = [0; TAG_LEN];
            out.copy_from_slice(tag.as_ref());
            out
        }

        pub(super) fn open(
            &self,
            nonce: [u8; 12],
            aad: &[u8],
            data: &mut [u8],
            tag: &[u8; TAG_LEN],
        ) -> bool {
            let nonce = Nonce::assume_unique_for_key(nonce);
            let tag = Tag::from(*tag);
            self.key()
                .open_in_place_separate_tag(nonce, Aad::from(aad), tag, data, 0..)
                .is_ok()
        }
    }

    impl Drop for Key {
        fn drop(&mut self) {
            // SAFETY: the key is initialised, and not used again: this is its drop.
            unsafe { self.0.assume_init_drop() };
            // `ring` doesn't wipe keys; to `zeroize` a `MaybeUninit` is just bytes.
            std::slice::from_mut(&mut *self.0).zeroize();
        }
    }
}

#[cfg(any(test, not(feature = "ring")))]
mod portable {
    use chacha20poly1305::aead::{AeadInOut, KeyInit};
    use chacha20poly1305::{ChaCha20Poly1305, Tag};

    use crate::{KEY_LEN, TAG_LEN};

    #[cfg(not(feature = "ring"))]
    pub(super) const BACK_END: super::BackEnd = super::BackEnd::Portable;

    pub(super) struct Key(ChaCha20Poly1305);

    impl Key {
        pub(super) fn new(key: &[u8; KEY_LEN]) -> Self {
            Self(ChaCha20Poly1305::new(key.into()))
        }

        pub(super) fn seal(&self, nonce: [u8; 12], aad: &[u8], data: &mut [u8]) -> [u8; TAG_LEN] {
            self.0
                .encrypt_inout_detached(&nonce.into(), aad, data.into())
                .expect("a datagram is far below the 256 GiB that one nonce may seal")
                .into()
        }

        pub(super) fn open(
            &self,
            nonce: [u8; 12],
            aad: &[u8],
            data: &mut [u8],
            tag: &[u8; TAG_LEN],
        ) -> bool {
            self.0
                .decrypt_inout_detached(&nonce.into(), aad, data.into(), &Tag::from(*tag))
                .is_ok()
        }
    }
}

/// Stands for `wide` in a build that can't have it.
#[cfg(not(all(target_arch = "x86_64", chacha20_avx512)))]
mod absent {
    use crate::{KEY_LEN, TAG_LEN};

    pub(super) enum Key {}

    impl Key {
        pub(super) fn new(_: &[u8; KEY_LEN]) -> Option<Self> {
            None
        }

        pub(super) fn seal(&self, _: [u8; 12], _: &mut [u8]) -> [u8; TAG_LEN] {
            match *self {}
        }

        pub(super) fn open(&self, _: [u8; 12], _: &mut [u8], _: &[u8; TAG_LEN]) -> bool {
            match *self {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A keyed source of bytes for tests, the same each time.
    fn bytes(len: usize, seed: u64) -> Vec<u8> {
        let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        let next = |_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 56) as u8
        };
        (0..len).map(next).collect()
    }

    fn key(seed: u64) -> [u8; KEY_LEN] {
        bytes(KEY_LEN, seed).try_into().expect("as many as asked")
    }

    /// Seals with what traffic is sealed by here, and with the oracle.
    fn both(key: &[u8; KEY_LEN], counter: u64, text: &[u8]) -> [(Vec<u8>, [u8; TAG_LEN]); 2] {
        let (mut ours, mut theirs) = (text.to_vec(), text.to_vec());
        let our_tag = AeadKey::new(key).seal(counter, &[], &mut ours);
        let their_tag = portable::Key::new(key).seal(nonce(counter), &[], &mut theirs);
        [(ours, our_tag), (theirs, their_tag)]
    }

    #[test]
    fn every_length_seals_as_the_oracle_does_and_opens_again() {
        let lengths = (0..1700).chain([2047, 2048, 4095, 8999, 65_000, 65_535]);
        for len in lengths {
            let (key, text) = (key(len as u64), bytes(len, 77));
            let counter = len as u64 * 0x0101_0101_0101;
            let [ours, theirs] = both(&key, counter, &text);
            assert!(ours == theirs, "{len} bytes");
            let (mut theirs, tag) = theirs;
            let oracle = portable::Key::new(&key);
            assert!(oracle.open(nonce(counter), &[], &mut theirs, &tag) && theirs == text);
            let mut message = ours.0;
            message.extend(ours.1);
            let opened = AeadKey::new(&key).open(counter, &[], &mut message);
            assert!(opened.is_ok_and(|opened| opened == text), "{len} bytes");
        }
    }

    #[test]
    fn the_back_ends_agree_on_text_at_the_edges_of_the_arithmetic() {
        for byte in [0x00, 0xff, 0xfb, 0x80, 0x01] {
            for len in [16, 112, 113, 128, 240, 1024, 1408] {
                for seed in 0..40 {
                    // What is sealed is the edge case, since the tag is over it: seal twice.
                    let (key, mut text) = (key(seed), vec![byte; len]);
                    portable::Key::new(&key).seal(nonce(1), &[], &mut text);
                    let mut edge = text.clone();
                    AeadKey::new(&key).seal(1, &[], &mut edge);
                    assert_eq!(edge, vec![byte; len]);
                    let [ours, theirs] = both(&key, 1, &text);
                    assert!(ours == theirs, "{len} bytes of {byte:#x}");
                }
            }
        }
    }

    #[test]
    fn a_bit_changed_anywhere_is_refused_and_what_is_too_short_too() {
        let key = AeadKey::new(&key(3));
        for len in [0, 1, 63, 64, 200, 1420] {
            let mut sealed = bytes(len, 5);
            let tag = key.seal(9, &[], &mut sealed);
            sealed.extend(tag);
            for bit in 0..sealed.len() * 8 {
                let mut forged = sealed.clone();
                forged[bit / 8] ^= 1 << (bit % 8);
                assert_eq!(key.open(9, &[], &mut forged), Err(AuthError));
            }
            assert_eq!(key.open(8, &[], &mut sealed.clone()), Err(AuthError));
            assert!(key.open(9, &[], &mut sealed).is_ok());
        }
        assert_eq!(key.open(0, &[], &mut [0; TAG_LEN - 1]), Err(AuthError));
        assert_eq!(key.open(0, &[], &mut []), Err(AuthError));
    }

    #[test]
    #[cfg(target_arch = "x86_64")]
    fn a_cpu_with_avx_512_is_used_as_one() {
        let has_it = is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512vl")
            && is_x86_feature_detected!("avx512ifma");
        assert_eq!(
            AeadKey::back_end() == BackEnd::Avx512,
            has_it,
            "was the flag of .cargo/config.toml replaced by RUSTFLAGS?"
        );
    }
}
