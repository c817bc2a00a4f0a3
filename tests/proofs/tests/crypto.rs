//! Seals and keys.

use taltun_crypto::aead::AeadKey;
use taltun_crypto::{PrivateKey, PublicKey};

const TAG: usize = 16;

/// A text of that length.
fn text(len: usize) -> Vec<u8> {
    (0..len).map(|at| (at * 7 + len) as u8).collect()
}

fn sealed(key: &AeadKey, counter: u64, text: &[u8]) -> Vec<u8> {
    let mut bytes = text.to_vec();
    let tag = key.seal(counter, &[], &mut bytes);
    bytes.extend(tag);
    bytes
}

#[test]
fn a_tail_of_each_length_opens_as_it_was_and_not_with_a_byte_less_or_more() {
    let key = AeadKey::new(&[5; 32]);
    for len in 0..=2100 {
        let text = text(len);
        let sealed = sealed(&key, len as u64, &text);
        assert_eq!(sealed.len(), len + TAG);
        assert_eq!(
            key.open(len as u64, &[], &mut sealed.clone()).unwrap(),
            text
        );
        let mut shorter = sealed[..sealed.len() - 1].to_vec();
        assert!(key.open(len as u64, &[], &mut shorter).is_err());
        let mut longer = [sealed.as_slice(), &[0]].concat();
        assert!(key.open(len as u64, &[], &mut longer).is_err());
        assert!(key.open(len as u64 + 1, &[], &mut sealed.clone()).is_err());
    }
}

#[test]
fn each_bit_of_a_message_counts_for_its_tag() {
    let key = AeadKey::new(&[6; 32]);
    for len in [0, 1, 15, 16, 17, 63, 64, 65, 128, 255, 1420] {
        let sealed = sealed(&key, 1, &text(len));
        for bit in 0..sealed.len() * 8 {
            let mut other = sealed.clone();
            other[bit / 8] ^= 1 << (bit % 8);
            assert!(key.open(1, &[], &mut other).is_err(), "bit {bit} of {len}");
        }
    }
}

#[test]
fn a_text_is_a_key_exactly_if_it_is_how_one_is_written() {
    let key = PrivateKey::from_bytes([0x5a; 32]).public_key();
    let written = key.to_string();
    assert_eq!(written.parse::<PublicKey>().unwrap(), key);
    for at in 0..written.len() {
        for byte in 0..=u8::MAX {
            let mut other = written.clone().into_bytes();
            other[at] = byte;
            let Ok(other) = String::from_utf8(other) else {
                continue;
            };
            // What is read is what is written: no two texts are one key.
            if let Ok(read) = other.parse::<PublicKey>() {
                assert_eq!(read.to_string(), other);
            }
        }
    }
    for len in 0..written.len() {
        assert!(written[..len].parse::<PublicKey>().is_err(), "{len}");
    }
}
