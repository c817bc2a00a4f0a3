//! A first look at whether an address may be in a large map.
//!
//! A map with room for many addresses has a table of a megabyte, and under a flood from ever
//! new sources each look into it waits for memory. These bits are few enough to stay in the
//! CPU's nearest cache. An address whose bit is clear isn't in the map; one whose bit is set may
//! be. An attacker who chooses sources whose bits are set only makes us look into the map.

use crate::address::Address;

/// Words of 64 bits: 8 KiB, a fortieth of the bits set by 1,600 addresses.
pub const HINT_WORDS: usize = 1024;

/// Which bit an address has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hint {
    /// The word it is in, below [`HINT_WORDS`].
    pub word: u32,
    /// That bit alone.
    pub bit: u64,
}

impl Hint {
    /// That of this address.
    #[inline(always)]
    #[must_use]
    pub const fn of(address: &Address) -> Self {
        // Each word by an odd number of its own, the sum's highest bits: addresses that
        // follow one another, as IPv4 addresses and networks do, spread.
        let sum = word(address, 0)
            .wrapping_mul(0x9e37_79b1)
            .wrapping_add(word(address, 4).wrapping_mul(0x85eb_ca77))
            .wrapping_add(word(address, 8).wrapping_mul(0xc2b2_ae3d))
            .wrapping_add(word(address, 12).wrapping_mul(0x27d4_eb2f));
        let number = sum >> (u32::BITS - (HINT_WORDS * 64).ilog2());
        Self {
            word: number / 64,
            bit: 1 << (number % 64),
        }
    }
}

#[inline(always)]
const fn word(address: &Address, at: usize) -> u32 {
    u32::from_be_bytes([
        address[at],
        address[at + 1],
        address[at + 2],
        address[at + 3],
    ])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::address::v4_mapped;

    /// How many bits are set by so many addresses.
    fn bits(addresses: impl Iterator<Item = Address>) -> u32 {
        let mut words = [0_u64; HINT_WORDS];
        for address in addresses {
            let hint = Hint::of(&address);
            assert_eq!(hint.bit.count_ones(), 1);
            words[hint.word as usize] |= hint.bit;
        }
        words.iter().map(|word| word.count_ones()).sum()
    }

    #[test]
    fn neighbours_have_bits_of_their_own() {
        // One in sixteen set leaves a thirtieth of them to fall on another's by chance.
        let v4 = |n: u32| v4_mapped((0xc633_6400 + n).to_be_bytes());
        assert!(bits((0..4096).map(v4)) > 3700);
        let networks = |n: u32| v4_mapped((0x0a00_0001 + (n << 8)).to_be_bytes());
        assert!(bits((0..4096).map(networks)) > 3700);
        let v6 = |n: u32| {
            let mut address = [0; 16];
            address[..4].copy_from_slice(&[0x20, 1, 0xd, 0xb8]);
            address[4..8].copy_from_slice(&n.to_be_bytes());
            address[15] = 1;
            address
        };
        assert!(bits((0..4096).map(v6)) > 3700);
    }
}
