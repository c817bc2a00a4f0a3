//! BLAKE2s for mac1 and mac2: 128 bits, keyed, over messages of known length.
//!
//! The key fills a block of its own at the start, so what remains of it is the state after
//! that block. Where the key is always the same, user space computes that once ([`keyed`]):
//! mac1 over 116 bytes then takes two compressions and over 60 bytes a single one.
//!
//! The compression is one function that isn't inlined, with the rounds written out by a
//! macro: the message words a round takes are then constants, and the eBPF program holds
//! the code once.

/// A chaining value.
pub type State = [u32; 8];
/// A message block, as little-endian words.
pub type Block = [u32; 16];

/// Bytes of a block.
pub const BLOCK_LEN: usize = 64;
/// Bytes of a MAC.
pub const MAC_LEN: usize = 16;

/// The first words of the fractional parts of the square roots of the first eight primes.
const IV: State = [
    0x6a09_e667,
    0xbb67_ae85,
    0x3c6e_f372,
    0xa54f_f53a,
    0x510e_527f,
    0x9b05_688c,
    0x1f83_d9ab,
    0x5be0_cd19,
];

/// The state before the block that holds a key of `key_len` bytes, for MACs of [`MAC_LEN`]
/// bytes.
#[inline(always)]
#[must_use]
pub const fn before_key(key_len: usize) -> State {
    let mut state = IV;
    // The parameters: digest length, key length, and one for fanout and depth each.
    state[0] ^= MAC_LEN as u32 | (key_len as u32) << 8 | 1 << 16 | 1 << 24;
    state
}

/// The state after the block that holds the key, for MACs of [`MAC_LEN`] bytes.
#[must_use]
pub fn keyed(key: &[u8; 32]) -> State {
    let mut state = before_key(key.len());
    let mut block = [0; 16];
    for (word, bytes) in block.iter_mut().zip(key.as_chunks().0) {
        *word = u32::from_le_bytes(*bytes);
    }
    compress(&mut state, &block, BLOCK_LEN as u32, More::Follows);
    state
}

/// Whether a block is the last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum More {
    /// Another block follows.
    Follows = 0,
    /// This is the last block.
    Ends = u32::MAX,
}

/// Compresses one block into the state. `hashed` counts the bytes so far, with this block's, the
/// key's block included, but without the zeros that fill up the last block.
///
/// Returns the first word of the new state. The caller must use it: else the compiler makes
/// this a function that returns nothing, and the verifier takes what is left in the
/// register for an attempt to return a pointer to the stack.
#[inline(never)]
pub fn compress(state: &mut State, block: &Block, hashed: u32, more: More) -> u32 {
    let [
        mut v0,
        mut v1,
        mut v2,
        mut v3,
        mut v4,
        mut v5,
        mut v6,
        mut v7,
    ] = *state;
    let [
        mut v8,
        mut v9,
        mut v10,
        mut v11,
        mut v12,
        mut v13,
        mut v14,
        mut v15,
    ] = IV;
    v12 ^= hashed;
    v14 ^= more as u32;

    // Read from memory each time. Else the compiler would keep all sixteen words: there are ten
    // registers, and what doesn't fit goes to the stack, which has no room.
    let word = |at: usize| {
        let word: &u32 = &block[at];
        // SAFETY: a reference is valid to read from.
        unsafe { core::ptr::read_volatile(word) }
    };
    macro_rules! mix {
        ($a:ident $b:ident $c:ident $d:ident $x:literal $y:literal) => {
            $a = $a.wrapping_add($b).wrapping_add(word($x));
            $d = ($d ^ $a).rotate_right(16);
            $c = $c.wrapping_add($d);
            $b = ($b ^ $c).rotate_right(12);
            $a = $a.wrapping_add($b).wrapping_add(word($y));
            $d = ($d ^ $a).rotate_right(8);
            $c = $c.wrapping_add($d);
            $b = ($b ^ $c).rotate_right(7);
        };
    }
    macro_rules! round {
        ($a:literal $b:literal $c:literal $d:literal $e:literal $f:literal $g:literal $h:literal
         $i:literal $j:literal $k:literal $l:literal $m:literal $n:literal $o:literal $p:literal) => {
            mix!(v0 v4 v8 v12 $a $b);
            mix!(v1 v5 v9 v13 $c $d);
            mix!(v2 v6 v10 v14 $e $f);
            mix!(v3 v7 v11 v15 $g $h);
            mix!(v0 v5 v10 v15 $i $j);
            mix!(v1 v6 v11 v12 $k $l);
            mix!(v2 v7 v8 v13 $m $n);
            mix!(v3 v4 v9 v14 $o $p);
        };
    }
    round!(0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15);
    round!(14 10 4 8 9 15 13 6 1 12 0 2 11 7 5 3);
    round!(11 8 12 0 5 2 15 13 10 14 3 6 7 1 9 4);
    round!(7 9 3 1 13 12 11 14 2 6 5 10 4 0 15 8);
    round!(9 0 5 7 2 4 10 15 14 1 11 12 6 8 3 13);
    round!(2 12 6 10 0 11 8 3 4 13 7 5 15 14 1 9);
    round!(12 5 1 15 14 13 4 10 0 7 6 3 9 2 8 11);
    round!(13 11 7 14 12 1 3 9 5 0 15 4 8 6 2 10);
    round!(6 15 14 9 11 3 0 8 12 2 13 7 1 4 10 5);
    round!(10 2 8 4 7 6 1 5 15 11 9 14 3 12 13 0);

    state[0] ^= v0 ^ v8;
    state[1] ^= v1 ^ v9;
    state[2] ^= v2 ^ v10;
    state[3] ^= v3 ^ v11;
    state[4] ^= v4 ^ v12;
    state[5] ^= v5 ^ v13;
    state[6] ^= v6 ^ v14;
    state[7] ^= v7 ^ v15;
    state[0]
}

#[cfg(test)]
mod tests {
    use blake2::Blake2sMac;
    use blake2::digest::consts::U16;
    use blake2::digest::{KeyInit, Mac};

    use super::*;

    /// The MAC of any message, out of the parts that are tested here.
    fn mac(key: &[u8], message: &[u8]) -> [u8; MAC_LEN] {
        let mut state = if let Ok(key) = key.try_into() {
            keyed(key)
        } else {
            let mut state = before_key(key.len());
            let mut block = [0; 16];
            for (word, bytes) in block.iter_mut().zip(key.as_chunks().0) {
                *word = u32::from_le_bytes(*bytes);
            }
            compress(&mut state, &block, BLOCK_LEN as u32, More::Follows);
            state
        };
        let mut hashed = BLOCK_LEN;
        let mut blocks = message.chunks(BLOCK_LEN).peekable();
        while let Some(bytes) = blocks.next() {
            hashed += bytes.len();
            let mut filled = [0; BLOCK_LEN];
            filled[..bytes.len()].copy_from_slice(bytes);
            let mut block = [0; 16];
            for (word, bytes) in block.iter_mut().zip(filled.as_chunks().0) {
                *word = u32::from_le_bytes(*bytes);
            }
            let more = if blocks.peek().is_some() {
                More::Follows
            } else {
                More::Ends
            };
            assert_eq!(compress(&mut state, &block, hashed as u32, more), state[0]);
        }
        let mut mac = [0; MAC_LEN];
        for (bytes, word) in mac.chunks_mut(4).zip(state) {
            bytes.copy_from_slice(&word.to_le_bytes());
        }
        mac
    }

    #[test]
    fn it_is_the_blake2_crates_keyed_blake2s_128() {
        // The lengths that mac1 and mac2 are made over, and the edges of blocks.
        for length in [1, 18, 60, 63, 64, 65, 76, 116, 128, 132, 192] {
            for seed in 0..16_u8 {
                let key: [u8; 32] = core::array::from_fn(|at| seed.wrapping_mul(7) ^ at as u8);
                // mac2's key is a cookie, of 16 bytes.
                let key = &key[..if seed.is_multiple_of(2) { 32 } else { 16 }];
                let mut message = [0; 192];
                for (at, byte) in message.iter_mut().enumerate() {
                    *byte = seed.wrapping_add(at as u8).wrapping_mul(197);
                }
                let message = &message[..length];
                let mut oracle: Blake2sMac<U16> = KeyInit::new_from_slice(key).unwrap();
                oracle.update(message);
                let expected: [u8; 16] = oracle.finalize().into_bytes().into();
                assert_eq!(mac(key, message), expected, "{length} bytes, seed {seed}");
            }
        }
    }
}
