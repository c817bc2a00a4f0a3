//! Ed25519 by ring: who signed what.

use std::fmt;
use std::str::FromStr;

use ring::signature::{ED25519, Ed25519KeyPair, KeyPair as _, UnparsedPublicKey};
use zeroize::Zeroizing;

use crate::{KEY_LEN, KeyError, decode_key};

/// Bytes of a signature.
pub const SIGNATURE_LEN: usize = 64;

/// A public key that verifies signatures.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct VerifyingKey(pub [u8; KEY_LEN]);

/// A private key that signs. Its seed is wiped from memory when dropped; never printed.
pub struct SigningKey {
    seed: Zeroizing<[u8; KEY_LEN]>,
    pair: Ed25519KeyPair,
}

impl SigningKey {
    /// Makes a key pair of 32 random bytes.
    pub fn from_seed(seed: [u8; KEY_LEN]) -> Self {
        let seed = Zeroizing::new(seed);
        let pair = Ed25519KeyPair::from_seed_unchecked(&*seed)
            .expect("ring refuses seeds of another length only");
        Self { seed, pair }
    }

    /// The seed, for a file that the operator asked for.
    pub fn seed(&self) -> &[u8; KEY_LEN] {
        &self.seed
    }

    /// The key that verifies what this one signs.
    pub fn verifying_key(&self) -> VerifyingKey {
        let mut key = [0; KEY_LEN];
        key.copy_from_slice(self.pair.public_key().as_ref());
        VerifyingKey(key)
    }

    /// Signs `message`.
    pub fn sign(&self, message: &[u8]) -> [u8; SIGNATURE_LEN] {
        let mut signature = [0; SIGNATURE_LEN];
        signature.copy_from_slice(self.pair.sign(message).as_ref());
        signature
    }
}

impl VerifyingKey {
    /// Whether `signature` of `message` was made with the private key of this one.
    pub fn verifies(&self, message: &[u8], signature: &[u8; SIGNATURE_LEN]) -> bool {
        UnparsedPublicKey::new(&ED25519, &self.0)
            .verify(message, signature)
            .is_ok()
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SigningKey(…)")
    }
}

impl fmt::Display for VerifyingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut digits = [0; 2 * KEY_LEN];
        let text = base16ct::lower::encode_str(&self.0, &mut digits);
        f.write_str(text.map_err(|_| fmt::Error)?)
    }
}

impl fmt::Debug for VerifyingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for VerifyingKey {
    type Err = KeyError;
    fn from_str(text: &str) -> Result<Self, KeyError> {
        decode_key(text).map(|bytes| Self(*bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 8032, section 7.1, test 2.
    #[test]
    fn it_is_the_ed25519_of_rfc_8032() {
        let seed: VerifyingKey = "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb"
            .parse()
            .unwrap();
        let key = SigningKey::from_seed(seed.0);
        assert_eq!(
            key.verifying_key().to_string(),
            "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c"
        );
        let signature = key.sign(&[0x72]);
        assert_eq!(
            base16ct::lower::encode_str(&signature, &mut [0; 128]),
            Ok(
                "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da\
                 085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00"
            )
        );
        assert!(key.verifying_key().verifies(&[0x72], &signature));
        assert!(!key.verifying_key().verifies(&[0x73], &signature));
        let other = SigningKey::from_seed([1; KEY_LEN]).verifying_key();
        assert!(!other.verifies(&[0x72], &signature));
    }

    #[test]
    fn what_is_printed_of_a_private_key_isnt_the_key() {
        let key = SigningKey::from_seed([0x5a; KEY_LEN]);
        assert_eq!(format!("{key:?}"), "SigningKey(…)");
    }
}
