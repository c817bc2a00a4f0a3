//! Published vectors for every primitive behind the seam in `taltun_crypto`, or, where a
//! vector doesn't fit WireGuard's use, an independent construction that itself meets one.
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use chacha20poly1305::aead::{Aead, Payload};
use chacha20poly1305::{ChaCha20Poly1305, KeyInit, XChaCha20Poly1305};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use taltun_crypto::{AeadKey, PrivateKey, PublicKey, TAG_LEN, hash, hmac, kdf, mac, xopen, xseal};

fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.bytes().filter(u8::is_ascii_hexdigit).collect();
    digits
        .chunks(2)
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
        .collect()
}

fn hex32(text: &str) -> [u8; 32] {
    hex(text).try_into().unwrap()
}

/// 80 81 82 …, as the drafts number their keys.
fn counted<const N: usize>(from: u8) -> [u8; N] {
    std::array::from_fn(|at| from + at as u8)
}

const SUNSCREEN: &[u8] = b"Ladies and Gentlemen of the class of '99: \
If I could offer you only one tip for the future, sunscreen would be it.";

// ---- ChaCha20-Poly1305 ---------------------------------------------------------------------

/// RFC 8439, appendix A.5: its nonce starts with four zero bytes, as WireGuard's do.
#[test]
fn chacha20_poly1305_opens_and_seals_rfc_8439_a5() {
    let key = hex32("1c9240a5eb55d38af333888604f6b5f0473917c1402b80099dca5cbc207075c0");
    let counter = u64::from_le_bytes([1, 2, 3, 4, 5, 6, 7, 8]);
    let aad = hex("f33388860000000000004e91");
    let plain = "Internet-Drafts are draft documents valid for a maximum of six months and may \
be updated, replaced, or obsoleted by other documents at any time. It is inappropriate to use \
Internet-Drafts as reference material or to cite them other than as /\u{201c}work in progress./\u{201d}";
    let sealed = hex(
        "64a0861575861af460f062c79be643bd5e805cfd345cf389f108670ac76c8cb24c6cfc18755d43ee\
         a09ee94e382d26b0bdb7b73c321b0100d4f03b7f355894cf332f830e710b97ce98c8a84abd0b9481\
         14ad176e008d33bd60f982b1ff37c8559797a06ef4f0ef61c186324e2b3506383606907b6a7c02b0\
         f9f6157b53c867e4b9166c767b804d46a59b5216cde7a4e99040c5a40433225ee282a1b0a06c523e\
         af4534d7f83fa1155b0047718cbc546a0d072b04b3564eea1b422273f548271a0bb2316053fa7699\
         1955ebd63159434ecebb4e466dae5a1073a6727627097a1049e617d91d361094fa68f0ff77987130\
         305beaba2eda04df997b714d6c6f2c29a6ad5cb4022b02709b",
    );
    let tag = hex("eead9d67890cbb22392336fea1851f38");
    let aead = AeadKey::new(&key);

    let mut data = plain.as_bytes().to_vec();
    let made = aead.seal(counter, &aad, &mut data);
    assert_eq!(data, sealed);
    assert_eq!(made[..], tag);

    data.extend(&tag);
    let opened = aead.open(counter, &aad, &mut data).unwrap();
    assert_eq!(opened, plain.as_bytes());
}

/// RFC 8439 §2.8.2, for the oracle that the next test compares with: its nonce doesn't
/// start with zeros, so it can't be asked of the seam itself.
#[test]
fn the_oracle_meets_rfc_8439_2_8_2() {
    let aead = ChaCha20Poly1305::new(&counted::<32>(0x80).into());
    let nonce: [u8; 12] = hex("070000004041424344454647").try_into().unwrap();
    let aad = hex("50515253c0c1c2c3c4c5c6c7");
    let sealed = aead
        .encrypt(
            &nonce.into(),
            Payload {
                msg: SUNSCREEN,
                aad: &aad,
            },
        )
        .unwrap();
    let expected = hex(
        "d31a8d34648e60db7b86afbc53ef7ec2a4aded51296e08fea9e2b5a736ee62d63dbea45e8ca96712\
         82fafb69da92728b1a71de0a9e060b2905d6a5b67ecd3b3692ddbd7f2d778b8c9803aee328091b58\
         fab324e4fad675945585808b4831d7bc3ff4def08e4b7a9de576d26586cec64b61161ae10b594f09\
         e26a7e902ecbd0600691",
    );
    assert_eq!(sealed, expected);
}

/// Two implementations, one answer: every length up to a few blocks, and large ones.
#[test]
fn chacha20_poly1305_agrees_with_the_oracle_at_every_length() {
    let mut rng = ChaCha8Rng::seed_from_u64(8439);
    for len in (0..300).chain([1420, 9000, 65_503]) {
        let mut key = [0; 32];
        rng.fill_bytes(&mut key);
        let counter = rng.next_u64();
        let mut data = vec![0; len];
        rng.fill_bytes(&mut data);
        let aad = vec![7; len % 40];

        let mut nonce = [0; 12];
        nonce[4..].copy_from_slice(&counter.to_le_bytes());
        let oracle = ChaCha20Poly1305::new(&key.into());
        let expected = oracle
            .encrypt(
                &nonce.into(),
                Payload {
                    msg: &data,
                    aad: &aad,
                },
            )
            .unwrap();
        let tag = AeadKey::new(&key).seal(counter, &aad, &mut data);
        assert_eq!(data, expected[..len]);
        assert_eq!(tag[..], expected[len..]);
    }
}

// ---- XChaCha20-Poly1305 --------------------------------------------------------------------

/// `HChaCha20`, from its definition in draft-irtf-cfrg-xchacha §2.2.
fn hchacha20(key: &[u8; 32], nonce: &[u8; 16]) -> [u8; 32] {
    let word = |bytes: &[u8]| u32::from_le_bytes(bytes.try_into().unwrap());
    let mut state = [0_u32; 16];
    state[..4].copy_from_slice(&[0x6170_7865, 0x3320_646e, 0x7962_2d32, 0x6b20_6574]);
    for (at, bytes) in key.chunks(4).chain(nonce.chunks(4)).enumerate() {
        state[4 + at] = word(bytes);
    }
    let mut quarter = |a: usize, b: usize, c: usize, d: usize| {
        for (x, y, z, by) in [(a, b, d, 16), (c, d, b, 12), (a, b, d, 8), (c, d, b, 7)] {
            state[x] = state[x].wrapping_add(state[y]);
            state[z] = (state[z] ^ state[x]).rotate_left(by);
        }
    };
    for _ in 0..10 {
        for at in 0..4 {
            quarter(at, at + 4, at + 8, at + 12);
        }
        for at in 0..4 {
            quarter(at, (at + 1) % 4 + 4, (at + 2) % 4 + 8, (at + 3) % 4 + 12);
        }
    }
    let mut out = [0; 32];
    for (at, word) in state[..4].iter().chain(&state[12..]).enumerate() {
        out[at * 4..][..4].copy_from_slice(&word.to_le_bytes());
    }
    out
}

/// draft-irtf-cfrg-xchacha §2.2.1.
#[test]
fn hchacha20_meets_its_draft() {
    let nonce = hex("000000090000004a0000000031415927").try_into().unwrap();
    let subkey = hchacha20(&counted(0), &nonce);
    let expected = "82413b4227b27bfed30e42508a877d73a0f9e4d58a74a853c12ec41326d3ecdc";
    assert_eq!(subkey, hex32(expected));
}

/// draft-irtf-cfrg-xchacha A.3.1, for the implementation behind the seam; the seam itself
/// seals 16 bytes, which are the first 16 of the vector.
#[test]
fn xchacha20_poly1305_meets_its_draft() {
    let key = counted::<32>(0x80);
    let nonce = counted::<24>(0x40);
    let aad = hex("50515253c0c1c2c3c4c5c6c7");
    let expected = hex(
        "bd6d179d3e83d43b9576579493c0e939572a1700252bfaccbed2902c21396cbb731c7f1b0b4aa644\
         0bf3a82f4eda7e39ae64c6708c54c216cb96b72e1213b4522f8c9ba40db5d945b11b69b982c1bb9e\
         3f3fac2bc369488f76b2383565d3fff921f9664c97637da9768812f615c68b13b52e\
         c0875924c1c7987947deafd8780acf49",
    );
    let sealed = XChaCha20Poly1305::new(&key.into())
        .encrypt(
            &nonce.into(),
            Payload {
                msg: SUNSCREEN,
                aad: &aad,
            },
        )
        .unwrap();
    assert_eq!(sealed, expected);
    let cookie = SUNSCREEN[..16].try_into().unwrap();
    assert_eq!(xseal(&key, &nonce, &aad, cookie)[..16], expected[..16]);
}

/// XChaCha20-Poly1305 is ChaCha20-Poly1305 under a derived key: so a cookie can be made
/// from parts that the other vectors here prove.
#[test]
fn a_cookie_is_sealed_as_its_parts_say() {
    let (key, nonce, cookie) = (counted::<32>(1), counted::<24>(100), counted::<16>(200));
    let aad = [9; 16];
    let subkey = hchacha20(&key, &nonce[..16].try_into().unwrap());
    let counter = u64::from_le_bytes(nonce[16..].try_into().unwrap());
    let mut data = cookie;
    let tag = AeadKey::new(&subkey).seal(counter, &aad, &mut data);
    let sealed = xseal(&key, &nonce, &aad, &cookie);
    assert_eq!(sealed[..16], data);
    assert_eq!(sealed[16..], tag);
    assert_eq!(xopen(&key, &nonce, &aad, &sealed), Ok(cookie));
    for at in 0..sealed.len() {
        let mut forged = sealed;
        forged[at] ^= 1;
        assert!(xopen(&key, &nonce, &aad, &forged).is_err());
    }
    assert!(xopen(&key, &nonce, &[8; 16], &sealed).is_err());
    assert_eq!(sealed.len(), cookie.len() + TAG_LEN);
}

// ---- BLAKE2s and what is built of it -------------------------------------------------------

/// RFC 7693, appendix B, however the input is cut into parts.
#[test]
fn blake2s_meets_rfc_7693() {
    let expected = hex32("508c5e8c327c14e2e1a72ba34eeb452f37458b209ed63a294d999b4c86675982");
    assert_eq!(hash(&[b"abc"]), expected);
    assert_eq!(hash(&[b"a", b"", b"bc"]), expected);
}

/// The official known answers of keyed BLAKE2s are for 32-byte outputs; these are of
/// Python's hashlib, for the 16 that WireGuard takes, with keys of 32 and 16 bytes.
#[test]
fn keyed_blake2s_meets_an_independent_implementation() {
    let of_32 = hex("2b75eb9c63ca8524ff53d01905b406eb");
    assert_eq!(mac(&counted::<32>(0), &[b"message"])[..], of_32);
    assert_eq!(mac(&counted::<32>(0), &[b"mess", b"age"])[..], of_32);
    let of_16 = hex("37d0934cac1b83cf742574ea32dd9481");
    assert_eq!(mac(&counted::<16>(0), &[b"message"])[..], of_16);
}

/// RFC 2104 over BLAKE2s, computed with Python's hmac and hashlib.
#[test]
fn hmac_meets_an_independent_implementation() {
    let key = counted::<32>(0);
    let empty = "e2641d24dfa8dd89e8cb77f1cdc77d8c006e5bebdfc4d6a3a3a6f8d5b7586fb0";
    assert_eq!(hmac(&key, &[]), hex32(empty));
    let long = "3bc634e3706b0c4650408581a7b89004ec05f664764def1743c795e2031299ce";
    assert_eq!(hmac(&key, &[&b"abc"[..]; 50]), hex32(long));
}

/// Paper §5.4, KDF: HKDF with that HMAC, computed with Python's.
#[test]
fn kdf_meets_an_independent_implementation() {
    let expected = [
        "87b7f70b24183c6db5dc4f6d9f4c47cdb203321aa2a0bef714896adb3107a040",
        "538a02e1eb2e31b7e4d4b82476d1fe2acf50085d3fb584537279195f5d1f5824",
        "9ad858025593be88de0f9442a589cfe84a88dc19e4753d93684d1c5efc4837f9",
    ]
    .map(hex32);
    let key = counted::<32>(0);
    assert_eq!(kdf::<3>(&key, b"input").map(|out| *out), expected);
    assert_eq!(kdf::<1>(&key, b"input").map(|out| *out), expected[..1]);
    assert_eq!(kdf::<2>(&key, b"input").map(|out| *out), expected[..2]);
}

// ---- X25519 --------------------------------------------------------------------------------

fn x25519(scalar: [u8; 32], point: [u8; 32]) -> [u8; 32] {
    let shared = PrivateKey::from_bytes(scalar).diffie_hellman(&PublicKey(point));
    *shared.unwrap()
}

/// RFC 7748 §5.2, single vectors.
#[test]
fn x25519_meets_rfc_7748() {
    for [scalar, point, expected] in [
        [
            "a546e36bf0527c9d3b16154b82465edd62144c0ac1fc5a18506a2244ba449ac4",
            "e6db6867583030db3594c1a424b15f7c726624ec26b3353b10a903a6d0ab1c4c",
            "c3da55379de9c6908e94ea4df28d084f32eccf03491c71f754b4075577a28552",
        ],
        [
            "4b66e9d4d1b4673c5ad22691957d6af5c11b6421e0ea01d42ca4169e7918ba0d",
            "e5210f12786811d3f4b7959d0538ae2c31dbe7106fc03c3efc4cd549c715a493",
            "95cbde9476e8907d7aade45cb4b873f88b595a68799fa152e6f8f7647aac7957",
        ],
    ] {
        assert_eq!(x25519(hex32(scalar), hex32(point)), hex32(expected));
    }
}

/// RFC 7748 §5.2, after 1 and after 1000 iterations.
#[test]
fn x25519_meets_rfc_7748_iterated() {
    let mut scalar = hex32("0900000000000000000000000000000000000000000000000000000000000000");
    let mut point = scalar;
    for iteration in 1..=1000 {
        let next = x25519(scalar, point);
        point = scalar;
        scalar = next;
        if iteration == 1 {
            let once = "422c8e7a6227d7bca1350b3e2bb7279f7897b87bb6854b783c60e80311ae3079";
            assert_eq!(scalar, hex32(once));
        }
    }
    let often = "684cf59ba83309552800ef566f2f4d3c1c3887c49360e3875f2eb94d99532c51";
    assert_eq!(scalar, hex32(often));
}

/// RFC 7748 §6.1: public keys and the secret that two sides share.
#[test]
fn x25519_meets_rfc_7748_diffie_hellman() {
    let alice = hex32("77076d0a7318a57d3c16c17251b26645df4c2f87ebc0992ab177fba51db92c2a");
    let bob = hex32("5dab087e624a8a4b79e17f8b83800ee66f3bb1292618b6fd1c2f8b27ff88e0eb");
    let alice = PrivateKey::from_bytes(alice);
    let bob = PrivateKey::from_bytes(bob);
    let alices = "8520f0098930a754748b7ddcb43ef75a0dbf3a0d26381af4eba4a98eaa9b4e6a";
    let bobs = "de9edb7d7b7dc1b4d35b61c2ece435373f8343c85b78674dadfc7e146f882b4f";
    assert_eq!(alice.public_key().0, hex32(alices));
    assert_eq!(bob.public_key().0, hex32(bobs));
    let shared = "4a5d9d5ba4ce2de1728e3bf480350f25e07e21c947d19e3376f09b3c1e161742";
    for (ours, theirs) in [(&alice, &bob), (&bob, &alice)] {
        let secret = ours.diffie_hellman(&theirs.public_key()).unwrap();
        assert_eq!(*secret, hex32(shared));
    }
}
