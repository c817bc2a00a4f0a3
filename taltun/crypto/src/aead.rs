//! ChaCha20-Poly1305 (RFC 8439), by the fastest back end that the build and the CPU have.
//!
//! | back end | used |
//! |---|---|
//! | `wide`, of AVX-512 | for what has no associated data, which is all traffic, on a CPU with AVX-512 and IFMA |
//! | `lanes`, of AVX-512 or AVX2 | for batches, across packets: of AVX-512 from five messages on, of AVX2 from eight of up to 192 bytes |
//! | ring | for all else |
//! | `chacha20poly1305` | in place of ring where that is left out: without the feature `ring` |
//!
//! All are one function, and tested to be.
//!
//! With `--cfg taltun_null_cipher` traffic isn't encrypted at all: see [`NULL_CIPHER`].

use std::fmt;

use zeroize::{Zeroize, ZeroizeOnDrop};

#[cfg(all(target_arch = "x86_64", chacha20_avx512))]
use crate::lanes;
#[cfg(all(target_arch = "x86_64", chacha20_avx512))]
use crate::wide;
use crate::{KEY_LEN, TAG_LEN};

#[cfg(not(feature = "ring"))]
use portable as general;
#[cfg(feature = "ring")]
use with_ring as general;

/// Whether this is the build for `cargo xtask bench --null-cipher`, which passes traffic on as it is and
/// believes all that comes, so that its figures are those of everything but the cipher. taltun's build
/// script refuses it in any profile but its own.
pub const NULL_CIPHER: bool = cfg!(taltun_null_cipher);

/// A transport key (paper §5.4.5): seals or opens messages, each under its counter. Wiped
/// from memory when dropped.
pub struct AeadKey {
    general: general::Key,
    #[cfg_attr(
        not(all(target_arch = "x86_64", chacha20_avx512)),
        allow(dead_code, reason = "lanes alone read it")
    )]
    bytes: KeyBytes,
    path: Path,
}

#[derive(Zeroize, ZeroizeOnDrop)]
struct KeyBytes([u8; KEY_LEN]);

/// What a key's traffic takes.
#[derive(Clone, Copy)]
enum Path {
    General,
    #[cfg(all(target_arch = "x86_64", chacha20_avx512))]
    Avx512(lanes::Avx512),
    #[cfg(all(target_arch = "x86_64", chacha20_avx512))]
    Avx2(lanes::Avx2),
}

impl Path {
    /// The fastest that there is here.
    fn best() -> Self {
        if NULL_CIPHER {
            return Self::General;
        }
        let all = [BackEnd::Avx512, BackEnd::Avx2];
        let best = all.into_iter().find_map(Self::by);
        best.unwrap_or(Self::General)
    }

    /// This one; `None` where the build or the CPU doesn't have it.
    fn by(back_end: BackEnd) -> Option<Self> {
        match back_end {
            #[cfg(all(target_arch = "x86_64", chacha20_avx512))]
            BackEnd::Avx512 => lanes::Avx512::new().map(Self::Avx512),
            #[cfg(all(target_arch = "x86_64", chacha20_avx512))]
            BackEnd::Avx2 => lanes::Avx2::new().map(Self::Avx2),
            other => (other == general::BACK_END).then_some(Self::General),
        }
    }

    /// Whether lanes are good for messages of so many bytes.
    #[cfg_attr(
        not(all(target_arch = "x86_64", chacha20_avx512)),
        allow(unused_variables)
    )]
    fn takes(self, len: usize) -> bool {
        match self {
            Self::General => false,
            #[cfg(all(target_arch = "x86_64", chacha20_avx512))]
            Self::Avx512(_) => true,
            #[cfg(all(target_arch = "x86_64", chacha20_avx512))]
            Self::Avx2(_) => len <= general::WORTH_AVX2_UP_TO,
        }
    }

    /// Whether so many fill enough of them: of 64 bytes to open, six take 0.7 of the time with
    /// AVX-512 and four take 1.1; with AVX2 eight take 0.7, and six of 192 bytes 1.2.
    #[cfg_attr(
        not(all(target_arch = "x86_64", chacha20_avx512)),
        allow(unused_variables)
    )]
    fn is_worth(self, messages: usize) -> bool {
        match self {
            Self::General => false,
            #[cfg(all(target_arch = "x86_64", chacha20_avx512))]
            Self::Avx512(_) => messages >= 5,
            #[cfg(all(target_arch = "x86_64", chacha20_avx512))]
            Self::Avx2(_) => messages >= 8,
        }
    }

    fn back_end(self) -> BackEnd {
        match self {
            Self::General => general::BACK_END,
            #[cfg(all(target_arch = "x86_64", chacha20_avx512))]
            Self::Avx512(_) => BackEnd::Avx512,
            #[cfg(all(target_arch = "x86_64", chacha20_avx512))]
            Self::Avx2(_) => BackEnd::Avx2,
        }
    }
}

/// What does the arithmetic of traffic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BackEnd {
    /// Our own code for AVX-512.
    Avx512,
    /// Our own code for AVX2, for batches of small packets; ring for all else.
    Avx2,
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
        Self::on(Path::best(), key)
    }

    /// The same for this back end instead of the fastest; `None` where the build or the CPU
    /// doesn't have it. For whoever compares them.
    pub fn by(back_end: BackEnd, key: &[u8; KEY_LEN]) -> Option<Self> {
        Path::by(back_end).map(|path| Self::on(path, key))
    }

    fn on(path: Path, key: &[u8; KEY_LEN]) -> Self {
        Self {
            general: general::Key::new(key),
            bytes: KeyBytes(*key),
            path,
        }
    }

    /// Encrypts `data` in place and returns its tag.
    pub fn seal(&self, counter: u64, aad: &[u8], data: &mut [u8]) -> [u8; TAG_LEN] {
        if NULL_CIPHER && aad.is_empty() {
            return [0; TAG_LEN];
        }
        match self.path {
            #[cfg(all(target_arch = "x86_64", chacha20_avx512))]
            Path::Avx512(unit) if aad.is_empty() && data.len() >= general::WORTH_WIDE => {
                wide::seal(unit, &self.bytes.0, nonce(counter), data)
            }
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
        if NULL_CIPHER && aad.is_empty() {
            return Ok(text);
        }
        let nonce = nonce(counter);
        let authentic = match self.path {
            #[cfg(all(target_arch = "x86_64", chacha20_avx512))]
            Path::Avx512(unit) if aad.is_empty() && text.len() >= general::WORTH_WIDE => {
                wide::open(unit, &self.bytes.0, nonce, text, tag)
            }
            _ => self.general.open(nonce, aad, text, tag),
        };
        authentic.then_some(text).ok_or(AuthError)
    }

    /// The back end that traffic is sealed and opened by on this machine.
    pub fn back_end() -> BackEnd {
        Path::best().back_end()
    }
}

impl fmt::Debug for AeadKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AeadKey(…)")
    }
}

/// A message to be sealed or opened together with others, without associated data.
pub struct Message<'a> {
    key: Option<&'a AeadKey>,
    counter: u64,
    bytes: &'a mut [u8],
    /// Done with others, in lanes.
    in_lanes: bool,
    authentic: bool,
}

impl<'a> Message<'a> {
    /// `bytes` are the text, and behind it 16 bytes for the tag.
    pub fn new(key: &'a AeadKey, counter: u64, bytes: &'a mut [u8]) -> Self {
        Self {
            key: Some(key),
            counter,
            bytes,
            in_lanes: false,
            authentic: false,
        }
    }

    /// Stands for no message, where an array has to be filled.
    pub fn none() -> Self {
        Self {
            key: None,
            counter: 0,
            bytes: &mut [],
            in_lanes: false,
            authentic: false,
        }
    }

    /// Whether it was opened: its text is decrypted then.
    pub fn is_authentic(&self) -> bool {
        self.authentic
    }

    fn seal_alone(&mut self) {
        if let Some(key) = self.key {
            let (text, tag) = self
                .bytes
                .split_last_chunk_mut()
                .expect("what is to be sealed has room for its tag");
            *tag = key.seal(self.counter, &[], text);
        }
    }

    fn open_alone(&mut self) {
        let opened = |key: &AeadKey| key.open(self.counter, &[], self.bytes).is_ok();
        self.authentic = self.key.is_some_and(opened);
    }
}

#[cfg(all(target_arch = "x86_64", chacha20_avx512))]
const _: () = assert!(BATCH <= lanes::MOST_MESSAGES);

#[cfg(all(target_arch = "x86_64", chacha20_avx512))]
impl<'a> lanes::Message<'a> for Message<'a> {
    #[inline]
    fn parts(&mut self) -> Option<lanes::Parts<'_, 'a>> {
        let key = self.key.filter(|_| self.in_lanes)?;
        let (text, tag) = self.bytes.split_last_chunk_mut()?;
        Some((&key.bytes.0, self.counter, text, tag))
    }

    #[inline]
    fn text_and_tag(&self) -> Option<(&[u8], &[u8; TAG_LEN])> {
        self.bytes.split_last_chunk().filter(|_| self.in_lanes)
    }

    fn set_authentic(&mut self, yes: bool) {
        self.authentic = yes;
    }

    fn is_authentic(&self) -> bool {
        self.authentic
    }
}

impl fmt::Debug for Message<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Message(…)")
    }
}

/// How many messages are done together; more than that are done in several steps.
pub const BATCH: usize = 64;

/// Whether so many messages, which have so many bytes in all, take less time together than one by
/// one on this machine.
pub fn is_worth_batch(messages: usize, bytes: usize) -> bool {
    Path::best().takes(bytes / messages.max(1)) && Path::best().is_worth(messages)
}

/// Seals all of these, which takes less time than one by one.
///
/// # Panics
/// When one has no room for its tag.
pub fn seal_all(messages: &mut [Message<'_>]) {
    for batch in messages.chunks_mut(BATCH) {
        #[cfg(all(target_arch = "x86_64", chacha20_avx512))]
        match choose_lanes(batch) {
            #[cfg(chacha20_avx512)]
            Path::Avx512(unit) => lanes::seal(unit, batch),
            #[cfg(chacha20_avx512)]
            Path::Avx2(unit) => lanes::seal(unit, batch),
            Path::General => {}
        }
        for message in batch.iter_mut().filter(|message| !message.in_lanes) {
            message.seal_alone();
        }
    }
}

/// Opens all of these. Which were authentic, each knows itself.
pub fn open_all(messages: &mut [Message<'_>]) {
    for batch in messages.chunks_mut(BATCH) {
        #[cfg(all(target_arch = "x86_64", chacha20_avx512))]
        match choose_lanes(batch) {
            #[cfg(chacha20_avx512)]
            Path::Avx512(unit) => lanes::open(unit, batch),
            #[cfg(chacha20_avx512)]
            Path::Avx2(unit) => lanes::open(unit, batch),
            Path::General => {}
        }
        for message in batch.iter_mut().filter(|message| !message.in_lanes) {
            message.open_alone();
        }
    }
}

/// Finds out which messages of a batch are better done in lanes, and marks them.
#[cfg(all(target_arch = "x86_64", chacha20_avx512))]
fn choose_lanes(batch: &mut [Message<'_>]) -> Path {
    let Some(path) = batch.iter().find_map(|message| Some(message.key?.path)) else {
        return Path::General;
    };
    let back_end = path.back_end();
    let mut chosen = 0;
    for message in batch.iter_mut() {
        let same = message.key.filter(|key| key.path.back_end() == back_end);
        let len = message.bytes.len().checked_sub(TAG_LEN);
        message.in_lanes = match (same, len) {
            (Some(_), Some(len)) if path.takes(len) => {
                chosen += 1;
                true
            }
            _ => false,
        };
    }
    if path.is_worth(chosen) {
        return path;
    }
    for message in batch {
        message.in_lanes = false;
    }
    Path::General
}

/// Four zero bytes, then the counter, little endian (paper §5.4.6).
fn nonce(counter: u64) -> [u8; 12] {
    let mut bytes = [0; 12];
    bytes[4..].copy_from_slice(&counter.to_le_bytes());
    bytes
}

#[cfg(feature = "ring")]
pub(crate) mod with_ring {
    use std::mem::MaybeUninit;

    use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, Tag, UnboundKey};
    use zeroize::Zeroize;

    use crate::{KEY_LEN, TAG_LEN};

    pub(super) const BACK_END: super::BackEnd = super::BackEnd::Ring;
    /// Bytes from which on AVX-512 is faster than this for a message by itself: 64 bytes take
    /// 204 and 224 ns, 192 bytes 252 and 225.
    #[cfg(all(target_arch = "x86_64", chacha20_avx512))]
    pub(super) const WORTH_WIDE: usize = 128;
    /// Bytes up to which lanes of AVX2 are faster than this.
    #[cfg(all(target_arch = "x86_64", chacha20_avx512))]
    pub(super) const WORTH_AVX2_UP_TO: usize = 192;

    /// In a box, so that moving the key leaves no copies behind to wipe.
    pub(crate) struct Key(Box<MaybeUninit<LessSafeKey>>);

    impl Key {
        pub(crate) fn new(key: &[u8; KEY_LEN]) -> Self {
            let unbound = UnboundKey::new(&CHACHA20_POLY1305, key)
                .expect("32 bytes is the key length of ChaCha20-Poly1305");
            Self(Box::new(MaybeUninit::new(LessSafeKey::new(unbound))))
        }

        fn key(&self) -> &LessSafeKey {
            // SAFETY: `new` initialises the box and nothing but `drop` ever wipes it.
            unsafe { self.0.assume_init_ref() }
        }

        pub(crate) fn seal(&self, nonce: [u8; 12], aad: &[u8], data: &mut [u8]) -> [u8; TAG_LEN] {
            let nonce = Nonce::assume_unique_for_key(nonce);
            let tag = self
                .key()
                .seal_in_place_separate_tag(nonce, Aad::from(aad), data)
                .expect("a datagram is far below the 256 GiB that one nonce may seal");
            let mut out = [0; TAG_LEN];
            out.copy_from_slice(tag.as_ref());
            out
        }

        pub(crate) fn open(
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
pub(crate) mod portable {
    use chacha20poly1305::aead::{AeadInOut, KeyInit};
    use chacha20poly1305::{ChaCha20Poly1305, Tag};

    use crate::{KEY_LEN, TAG_LEN};

    #[cfg(not(feature = "ring"))]
    pub(super) const BACK_END: super::BackEnd = super::BackEnd::Portable;
    #[cfg(all(not(feature = "ring"), target_arch = "x86_64", chacha20_avx512))]
    pub(super) const WORTH_WIDE: usize = 1;
    #[cfg(all(not(feature = "ring"), target_arch = "x86_64", chacha20_avx512))]
    pub(super) const WORTH_AVX2_UP_TO: usize = usize::MAX - 1;

    pub(crate) struct Key(ChaCha20Poly1305);

    impl Key {
        pub(crate) fn new(key: &[u8; KEY_LEN]) -> Self {
            Self(ChaCha20Poly1305::new(key.into()))
        }

        pub(crate) fn seal(&self, nonce: [u8; 12], aad: &[u8], data: &mut [u8]) -> [u8; TAG_LEN] {
            self.0
                .encrypt_inout_detached(&nonce.into(), aad, data.into())
                .expect("a datagram is far below the 256 GiB that one nonce may seal")
                .into()
        }

        pub(crate) fn open(
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
    #[cfg(all(target_arch = "x86_64", chacha20_avx512))]
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
