//! ChaCha20-Poly1305 (RFC 8439 §2.8) for CPUs with AVX-512 and IFMA, without associated
//! data, as transport messages are sealed (paper §5.4.6).
//!
//! `chacha20` makes the keystream, sixteen blocks at a time; [`super::poly1305`] the tag.

use chacha20::cipher::{Block, KeyIvInit, StreamCipherCore};
use chacha20::variants::Ietf;
use chacha20::{ChaChaCore, R20};

use super::lanes::Avx512;
use super::{KEY_LEN, TAG_LEN, poly1305, tags_eq};

type Core = ChaChaCore<R20, Ietf>;
type Stream = [Block<Core>; BLOCKS];

/// Blocks of keystream made at once: what a full packet of a tunnel with the usual MTU of
/// 1420 needs, the one-time key included.
const BLOCKS: usize = 24;
/// Blocks that `chacha20` makes side by side.
const AT_ONCE: usize = 16;
const BLOCK_LEN: usize = 64;

/// Encrypts `data` in place and returns its tag.
pub(super) fn seal(
    _: Avx512,
    key: &[u8; KEY_LEN],
    nonce: [u8; 12],
    data: &mut [u8],
) -> [u8; TAG_LEN] {
    // SAFETY: the first argument proves that this CPU has what the function needs.
    unsafe { seal_wide(key, nonce, data) }
}

/// Decrypts `data` in place if `tag` is its; false, and nothing changed, if not.
pub(super) fn open(
    _: Avx512,
    key: &[u8; KEY_LEN],
    nonce: [u8; 12],
    data: &mut [u8],
    tag: &[u8; TAG_LEN],
) -> bool {
    // SAFETY: as for `seal`.
    unsafe { open_wide(key, nonce, data, tag) }
}

#[target_feature(enable = "avx512f,avx512vl,avx512ifma")]
fn seal_wide(key: &[u8; KEY_LEN], nonce: [u8; 12], data: &mut [u8]) -> [u8; TAG_LEN] {
    let mut core = Core::new(key.into(), &nonce.into());
    let mut stream = Stream::default();
    write(&mut core, &mut stream, BLOCK_LEN + data.len());
    apply(core, &stream, data);
    poly1305::tag(one_time_key(&stream), data)
}

#[target_feature(enable = "avx512f,avx512vl,avx512ifma")]
fn open_wide(key: &[u8; KEY_LEN], nonce: [u8; 12], data: &mut [u8], tag: &[u8; TAG_LEN]) -> bool {
    let mut core = Core::new(key.into(), &nonce.into());
    let mut stream = Stream::default();
    write(&mut core, &mut stream, BLOCK_LEN + data.len());
    let authentic = tags_eq(&poly1305::tag(one_time_key(&stream), data), tag);
    if authentic {
        apply(core, &stream, data);
    }
    authentic
}

/// The first block of a message's keystream is for its tag (RFC 8439 §2.6).
fn one_time_key(stream: &Stream) -> &[u8; 32] {
    stream[0].first_chunk().expect("a block has 64 bytes")
}

/// Applies the keystream from its second block on: `stream`, which is its beginning, and
/// then what `core` goes on to make.
#[inline]
#[target_feature(enable = "avx512f,avx512vl")]
fn apply(mut core: Core, stream: &Stream, data: &mut [u8]) {
    let at_once = data.len().min((BLOCKS - 1) * BLOCK_LEN);
    let (data, rest) = data.split_at_mut(at_once);
    xor(data, &stream[1..]);
    for data in rest.chunks_mut(BLOCKS * BLOCK_LEN) {
        let mut stream = Stream::default();
        write(&mut core, &mut stream, data.len());
        xor(data, &stream);
    }
}

/// Makes the blocks that `len` bytes need, and one more where a single one would be left over
/// behind groups of sixteen: `chacha20` makes that one without vectors, which takes longer than
/// sixteen with.
#[inline]
fn write(core: &mut Core, stream: &mut Stream, len: usize) {
    let blocks = len.div_ceil(BLOCK_LEN).clamp(1, BLOCKS);
    let blocks = blocks + usize::from(blocks % AT_ONCE == 1);
    core.write_keystream_blocks(&mut stream[..blocks]);
}

#[inline]
#[target_feature(enable = "avx512f,avx512vl")]
fn xor(data: &mut [u8], stream: &[Block<Core>]) {
    for (data, block) in data.chunks_mut(BLOCK_LEN).zip(stream) {
        for (byte, key) in data.iter_mut().zip(block) {
            *byte ^= key;
        }
    }
}
