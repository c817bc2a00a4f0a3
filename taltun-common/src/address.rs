//! One key for both address families.
//!
//! Maps are keyed by 16 bytes: an IPv6 address as it is, an IPv4 address in its v4-mapped
//! form `::ffff:a.b.c.d`. So one map serves both, and a dual-stack socket, which shows
//! IPv4 peers in this same form, needs no conversion.

use crate::headers::protocol;

/// An IPv6 address, or an IPv4 address in its v4-mapped form; network byte order.
pub type Address = [u8; 16];

/// Bits before the IPv4 address in its v4-mapped form: an IPv4 prefix of `n` bits is a
/// prefix of `V4_MAPPED_BITS + n` bits here.
pub const V4_MAPPED_BITS: u32 = 96;

/// The v4-mapped form of an IPv4 address.
#[inline(always)]
#[must_use]
pub const fn v4_mapped(octets: [u8; 4]) -> Address {
    let [a, b, c, d] = octets;
    [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, a, b, c, d]
}

/// Whether this is an IPv4 address.
#[inline(always)]
#[must_use]
pub const fn is_v4_mapped(address: &Address) -> bool {
    matches!(address, [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, ..])
}

/// What a UDP checksum field holds as long as the checksum is unfinished: the folded sum
/// of the pseudo header, which whoever sends the packet at last (a network card, or the
/// code that cuts a batch into datagrams) completes.
///
/// For IPv4 too: the two `ffff` of the v4-mapped forms are zero in ones' complement.
#[inline(always)]
#[must_use]
pub const fn pseudo_header_sum(source: &Address, destination: &Address, udp_length: u16) -> u16 {
    let mut sum = protocol::UDP as u32 + udp_length as u32;
    let mut at = 0;
    while at < 16 {
        sum += u16::from_be_bytes([source[at], source[at + 1]]) as u32;
        sum += u16::from_be_bytes([destination[at], destination[at + 1]]) as u32;
        at += 2;
    }
    // 17 terms of at most ffff: one fold leaves at most 1 000f, the second 16 bits.
    sum = (sum & 0xffff) + (sum >> 16);
    sum = (sum & 0xffff) + (sum >> 16);
    sum as u16
}

/// A UDP checksum after one 16-bit word under it has changed (RFC 1624, equation 3). Zero
/// stands for no checksum and stays; a sum of zero is written as `ffff`.
#[inline(always)]
#[must_use]
pub const fn updated_udp_checksum(checksum: u16, old: u16, new: u16) -> u16 {
    if checksum == 0 {
        return 0;
    }
    let mut sum = !checksum as u32 + !old as u32 + new as u32;
    sum = (sum & 0xffff) + (sum >> 16);
    sum = (sum & 0xffff) + (sum >> 16);
    match !(sum as u16) {
        0 => 0xffff,
        checksum => checksum,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_updated_checksum_is_the_one_of_the_whole() {
        let whole = |words: [u16; 3]| {
            let mut sum: u32 = words.iter().map(|word| u32::from(*word)).sum();
            while sum > 0xffff {
                sum = (sum & 0xffff) + (sum >> 16);
            }
            match !(sum as u16) {
                0 => 0xffff,
                checksum => checksum,
            }
        };
        for (old, new) in [(5000, 9000), (9000, 5000), (1, 0xffff), (0xffff, 1), (7, 7)] {
            for rest in 0..=0xffff_u16 {
                let before = whole([0x1234, rest, old]);
                let after = whole([0x1234, rest, new]);
                assert_eq!(
                    updated_udp_checksum(before, old, new),
                    after,
                    "{old} {new} {rest}"
                );
            }
        }
        assert_eq!(updated_udp_checksum(0, 5000, 9000), 0);
    }

    #[test]
    fn a_v4_address_is_known_by_its_prefix() {
        assert!(is_v4_mapped(&v4_mapped([203, 0, 113, 9])));
        let mut other = v4_mapped([203, 0, 113, 9]);
        other[0] = 0x20;
        assert!(!is_v4_mapped(&other));
    }

    #[test]
    fn the_sum_of_a_v4_pseudo_header_is_the_one_of_rfc_768() {
        // 192.0.2.1 → 198.51.100.2, protocol 17, UDP length 40, added by hand:
        // c000 + 0201 + c633 + 6402 + 0011 + 0028 = 1 ec6f → ec70
        let sum = pseudo_header_sum(
            &v4_mapped([192, 0, 2, 1]),
            &v4_mapped([198, 51, 100, 2]),
            40,
        );
        assert_eq!(sum, 0xec70);
    }

    #[test]
    fn the_sum_folds_every_carry() {
        // 2 × 8 × ffff + 17 + ffff: all carries at once. In ones' complement ffff is zero.
        assert_eq!(pseudo_header_sum(&[0xff; 16], &[0xff; 16], 0xffff), 17);
    }
}
