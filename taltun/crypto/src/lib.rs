//! The one seam to the cryptographic back ends.
//!
//! The protocol names only the types of this file, so that a back end can be exchanged here
//! without touching it. Today: [`aead`] seals and opens
//! transport data with the fastest that the machine has, `x25519-dalek` does the
//! Diffie-Hellman, `blake2` hashes, and `chacha20poly1305` provides the XChaCha20 of cookie
//! replies.

pub mod aead;
#[cfg(all(target_arch = "x86_64", chacha20_avx512))]
mod lanes;
#[cfg(all(target_arch = "x86_64", chacha20_avx512))]
mod poly1305;
#[cfg(target_arch = "x86_64")]
mod register512;
#[cfg(any(test, feature = "testing"))]
pub mod remembered;
pub mod sealed;
#[cfg(feature = "ring")]
pub mod signing;
#[cfg(all(target_arch = "x86_64", chacha20_avx512))]
mod wide;
#[cfg(test)]
mod wycheproof;
#[cfg(target_arch = "x86_64")]
mod x25519;

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use blake2::digest::{FixedOutput, KeyInit, Update};
use blake2::{Blake2s256, Blake2sMac, Digest};
use chacha20poly1305::XChaCha20Poly1305;
use chacha20poly1305::aead::{Aead, Payload};
use hmac::SimpleHmac;
use subtle::ConstantTimeEq;
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

pub use aead::{AeadKey, AuthError, BackEnd};

/// Bytes of every key in the protocol.
pub const KEY_LEN: usize = 32;
/// Bytes of a Poly1305 tag.
pub const TAG_LEN: usize = 16;

/// Why a text is not a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// Neither 44 characters of base64 nor 64 hexadecimal digits.
    #[error(
        "expected a 32-byte key as 44 base64 characters or 64 hex digits, found {0} characters"
    )]
    Length(usize),
    /// The right length, but characters that the encoding doesn't have.
    #[error("not valid base64 or hex")]
    Encoding,
}

/// A Curve25519 public key: who a peer is.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PublicKey(pub [u8; KEY_LEN]);

/// A Curve25519 private key. Wiped from memory when dropped; never printed.
#[derive(Clone, PartialEq, Eq, Zeroize, ZeroizeOnDrop)]
pub struct PrivateKey([u8; KEY_LEN]);

/// The optional symmetric key two peers share (paper §5.2). All zero means "none".
#[derive(Clone, PartialEq, Eq, Zeroize, ZeroizeOnDrop, Default)]
pub struct PresharedKey(pub [u8; KEY_LEN]);

/// A Diffie-Hellman result. Wiped from memory when dropped.
pub type SharedSecret = Zeroizing<[u8; KEY_LEN]>;

/// The u coordinates of all points of Curve25519 and its twist whose order divides eight,
/// below 2^255 - 19 (Bernstein, "Curve25519", section 3; checked in a test). A private key
/// is a multiple of eight, so that each of these makes the same secret, zero, with all of
/// them.
const LOW_ORDER: [[u8; KEY_LEN]; 5] = [
    [0; KEY_LEN],
    ends(0x01, 0x00, 0x00),
    ends(0xec, 0xff, 0x7f),
    [
        0xe0, 0xeb, 0x7a, 0x7c, 0x3b, 0x41, 0xb8, 0xae, 0x16, 0x56, 0xe3, 0xfa, 0xf1, 0x9f, 0xc4,
        0x6a, 0xda, 0x09, 0x8d, 0xeb, 0x9c, 0x32, 0xb1, 0xfd, 0x86, 0x62, 0x05, 0x16, 0x5f, 0x49,
        0xb8, 0x00,
    ],
    [
        0x5f, 0x9c, 0x95, 0xbc, 0xa3, 0x50, 0x8c, 0x24, 0xb1, 0xd0, 0xb1, 0x55, 0x9c, 0x83, 0xef,
        0x5b, 0x04, 0x44, 0x5c, 0xc4, 0x58, 0x1c, 0x8e, 0x86, 0xd8, 0x22, 0x4e, 0xdd, 0xd0, 0x9f,
        0x11, 0x57,
    ],
];

const fn ends(first: u8, between: u8, last: u8) -> [u8; KEY_LEN] {
    let mut bytes = [between; KEY_LEN];
    bytes[0] = first;
    bytes[KEY_LEN - 1] = last;
    bytes
}

impl PublicKey {
    /// Whether it can be a peer's: false for the few keys with which
    /// [`PrivateKey::diffie_hellman`] gives nothing. Costs next to nothing, where that costs
    /// a tenth of a millisecond.
    pub fn is_usable(&self) -> bool {
        // As X25519 reads it: without the last bit, and modulo 2^255 - 19.
        let mut u = self.0;
        u[KEY_LEN - 1] &= 0x7f;
        if u[0] >= 0xed && u[1..KEY_LEN - 1].iter().all(|byte| *byte == 0xff) && u[31] == 0x7f {
            let first = u[0] - 0xed;
            u = [0; KEY_LEN];
            u[0] = first;
        }
        !LOW_ORDER.contains(&u)
    }
}

impl PrivateKey {
    /// Takes 32 random bytes as a private key, clamped as Curve25519 asks, so that it
    /// reads back in the form `wg` shows.
    pub fn from_bytes(mut bytes: [u8; KEY_LEN]) -> Self {
        bytes[0] &= 248;
        bytes[31] = (bytes[31] & 127) | 64;
        let key = Self(bytes);
        bytes.zeroize();
        key
    }

    /// The bytes, for writing the key to a file the operator asked for.
    pub fn as_bytes(&self) -> &[u8; KEY_LEN] {
        &self.0
    }

    /// The public key that belongs to this private key.
    pub fn public_key(&self) -> PublicKey {
        let make = || {
            let secret = x25519_dalek::StaticSecret::from(self.0);
            x25519_dalek::PublicKey::from(&secret).to_bytes()
        };
        #[cfg(any(test, feature = "testing"))]
        let make = || remembered::public_key(&self.0, make);
        PublicKey(make())
    }

    /// X25519 with `theirs`; `None` when the result is all zero, which happens exactly for
    /// the low-order points and must never be used as a secret.
    pub fn diffie_hellman(&self, theirs: &PublicKey) -> Option<SharedSecret> {
        #[cfg(any(test, feature = "testing"))]
        if remembered::is_on() {
            let ours = self.public_key();
            let make = || Some(*self.multiply(theirs)?);
            return remembered::secret(ours.0, theirs.0, make).map(Zeroizing::new);
        }
        self.multiply(theirs)
    }

    fn multiply(&self, theirs: &PublicKey) -> Option<SharedSecret> {
        let secret = x25519_dalek::StaticSecret::from(self.0);
        let shared = secret.diffie_hellman(&x25519_dalek::PublicKey::from(theirs.0));
        shared
            .was_contributory()
            .then(|| Zeroizing::new(shared.to_bytes()))
    }

    /// Base64, as configuration files hold it.
    pub fn to_base64(&self) -> Zeroizing<String> {
        Zeroizing::new(BASE64.encode(self.0))
    }
}

/// The point that makes a private key's public key.
pub const BASE_POINT: PublicKey = PublicKey(ends(9, 0, 0));

/// [`PrivateKey::diffie_hellman`] of each pair, which `done` gets with the pair's place, in order.
/// With [`BASE_POINT`] it is the public key. On a CPU with AVX-512 and IFMA eight take about as
/// long as one.
pub fn diffie_hellman_all(
    pairs: &[(&PrivateKey, &PublicKey)],
    mut done: impl FnMut(usize, Option<SharedSecret>),
) {
    let are_many = pairs.len() > 1;
    #[cfg(any(test, feature = "testing"))]
    let are_many = are_many && !remembered::is_on();
    #[cfg(target_arch = "x86_64")]
    if are_many && let Some(unit) = x25519::Ifma::new() {
        return together(unit, pairs, done);
    }
    for (at, (ours, theirs)) in pairs.iter().enumerate() {
        let secret = if **theirs == BASE_POINT {
            // By a table, in a fourth of the time.
            Some(Zeroizing::new(ours.public_key().0))
        } else {
            ours.diffie_hellman(theirs)
        };
        done(at, secret);
    }
}

#[cfg(target_arch = "x86_64")]
fn together(
    unit: x25519::Ifma,
    pairs: &[(&PrivateKey, &PublicKey)],
    mut done: impl FnMut(usize, Option<SharedSecret>),
) {
    let mut at = 0;
    for pairs in pairs.chunks(x25519::LANES) {
        // Lanes that are left over do the last pair once more.
        let pair = |lane: usize| pairs[lane.min(pairs.len() - 1)];
        let made = Zeroizing::new(x25519::multiply_each(
            unit,
            std::array::from_fn(|lane| &pair(lane).0.0),
            std::array::from_fn(|lane| &pair(lane).1.0),
        ));
        for made in made.iter().take(pairs.len()) {
            let contributory = !constant_time_eq(made, &[0; KEY_LEN]);
            done(at, contributory.then(|| Zeroizing::new(*made)));
            at += 1;
        }
    }
}

impl PresharedKey {
    /// Base64, as configuration files hold it.
    pub fn to_base64(&self) -> Zeroizing<String> {
        Zeroizing::new(BASE64.encode(self.0))
    }

    /// Whether this stands for "no preshared key".
    pub fn is_none(&self) -> bool {
        constant_time_eq(&self.0, &[0; KEY_LEN])
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&BASE64.encode(self.0))
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PrivateKey(…)")
    }
}

impl fmt::Debug for PresharedKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PresharedKey(…)")
    }
}

impl FromStr for PublicKey {
    type Err = KeyError;
    fn from_str(text: &str) -> Result<Self, KeyError> {
        decode_key(text).map(|bytes| Self(*bytes))
    }
}

impl FromStr for PrivateKey {
    type Err = KeyError;
    fn from_str(text: &str) -> Result<Self, KeyError> {
        decode_key(text).map(|bytes| Self::from_bytes(*bytes))
    }
}

impl FromStr for PresharedKey {
    type Err = KeyError;
    fn from_str(text: &str) -> Result<Self, KeyError> {
        decode_key(text).map(|bytes| Self(*bytes))
    }
}

fn decode_key(text: &str) -> Result<Zeroizing<[u8; KEY_LEN]>, KeyError> {
    let text = text.trim();
    let mut key = Zeroizing::new([0; KEY_LEN]);
    match text.len() {
        64 => {
            base16ct::mixed::decode(text, &mut *key).map_err(|_| KeyError::Encoding)?;
        }
        44 => {
            let bytes = Zeroizing::new(BASE64.decode(text).map_err(|_| KeyError::Encoding)?);
            if bytes.len() != KEY_LEN {
                return Err(KeyError::Length(text.len()));
            }
            key.copy_from_slice(&bytes);
        }
        other => return Err(KeyError::Length(other)),
    }
    Ok(key)
}

/// XAEAD of the paper's §5.4.7: seals a cookie under a random 24-byte nonce.
pub fn xseal(key: &[u8; KEY_LEN], nonce: &[u8; 24], aad: &[u8], cookie: &[u8; 16]) -> [u8; 32] {
    let sealed = XChaCha20Poly1305::new(key.into())
        .encrypt(nonce.into(), Payload { msg: cookie, aad })
        .expect("16 bytes are always sealable");
    let mut out = [0; 32];
    out.copy_from_slice(&sealed);
    out
}

/// Opens what [`xseal`] sealed.
pub fn xopen(
    key: &[u8; KEY_LEN],
    nonce: &[u8; 24],
    aad: &[u8],
    sealed: &[u8; 32],
) -> Result<[u8; 16], AuthError> {
    let opened = XChaCha20Poly1305::new(key.into())
        .decrypt(nonce.into(), Payload { msg: sealed, aad })
        .map_err(|_| AuthError)?;
    opened.try_into().map_err(|_| AuthError)
}

/// BLAKE2s-256 over the concatenation of `parts` (paper §5.4, HASH).
pub fn hash(parts: &[&[u8]]) -> [u8; 32] {
    let mut hasher = Blake2s256::new();
    for part in parts {
        Digest::update(&mut hasher, part);
    }
    hasher.finalize().into()
}

/// Keyed BLAKE2s with a 16-byte output over the concatenation of `parts` (paper §5.4, MAC).
pub fn mac(key: &[u8], parts: &[&[u8]]) -> [u8; 16] {
    let mut mac = Blake2sMac::<blake2::digest::consts::U16>::new_from_slice(key)
        .expect("every caller passes at most 32 bytes of key");
    for part in parts {
        Update::update(&mut mac, part);
    }
    mac.finalize_fixed().into()
}

/// HMAC over BLAKE2s-256 (paper §5.4, HMAC), the building block of KDF.
pub fn hmac(key: &[u8; 32], parts: &[&[u8]]) -> [u8; 32] {
    let mut hmac =
        SimpleHmac::<Blake2s256>::new_from_slice(key).expect("HMAC takes a key of any length");
    for part in parts {
        Update::update(&mut hmac, part);
    }
    hmac.finalize_fixed().into()
}

/// `KDF_n` of the paper's §5.4: `N` keys from a chaining key and input.
pub fn kdf<const N: usize>(chaining_key: &[u8; 32], input: &[u8]) -> [Zeroizing<[u8; 32]>; N] {
    let secret = Zeroizing::new(hmac(chaining_key, &[input]));
    let mut previous = Zeroizing::new([0_u8; 32]);
    let mut index = 0;
    [(); N].map(|()| {
        index += 1;
        let next = if index == 1 {
            hmac(&secret, &[&[index]])
        } else {
            hmac(&secret, &[&*previous, &[index]])
        };
        *previous = next;
        Zeroizing::new(next)
    })
}

/// The same of two tags, as the numbers that they are.
#[cfg(all(target_arch = "x86_64", chacha20_avx512))]
fn tags_eq(a: &[u8; TAG_LEN], b: &[u8; TAG_LEN]) -> bool {
    let differ = u128::from_le_bytes(*a) ^ u128::from_le_bytes(*b);
    (differ as u64 | (differ >> 64) as u64).ct_eq(&0).into()
}

/// Compares without telling, by its duration, where the first difference is.
pub fn constant_time_eq(a: &[u8], b: &[u8]) -> bool {
    a.ct_eq(b).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_public_key_is_usable_exactly_where_a_secret_comes_of_it() {
        let private = PrivateKey::from_bytes([7; KEY_LEN]);
        let mut keys = LOW_ORDER.to_vec();
        // All that aren't below 2^255 - 19, and their neighbours.
        keys.extend((0xd0..=0xff).map(|first| ends(first, 0xff, 0x7f)));
        // Those next to low orders, and ones that differ in one byte.
        for key in LOW_ORDER {
            for at in 0..KEY_LEN {
                for flip in [1, 0x10] {
                    let mut near = key;
                    near[at] ^= flip;
                    keys.push(near);
                }
            }
        }
        let mut unusable = 0;
        for mut key in keys {
            for last_bit in [0, 0x80] {
                key[KEY_LEN - 1] = key[KEY_LEN - 1] & 0x7f | last_bit;
                let key = PublicKey(key);
                let has_secret = private.diffie_hellman(&key).is_some();
                assert_eq!(key.is_usable(), has_secret, "{:02x?}", key.0);
                unusable += usize::from(!has_secret);
            }
        }
        assert!(unusable >= 2 * (LOW_ORDER.len() + 2), "{unusable}");
    }
}
