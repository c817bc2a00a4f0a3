//! Explicit congestion notification through a tunnel (RFC 6040), as the kernel's WireGuard
//! does it: a congested router marks packets instead of dropping them, and the mark must come
//! through.
//!
//! *Out*: the outer header copies the inner one, except that "congestion experienced" becomes
//! "capable": the inner packet has the mark already. *In*: a mark made on the way goes to the
//! inner header if that is "capable". Otherwise the inner header stays as it is, as nobody would
//! read the mark.

// What comes from outside must not be able to make anything here panic.
#![cfg_attr(
    not(test),
    warn(clippy::arithmetic_side_effects, clippy::indexing_slicing)
)]

/// The part of a traffic class that this is about.
const MASK: u8 = 3;
const NOT_CAPABLE: u8 = 0;
const CAPABLE_1: u8 = 1;
const CAPABLE_0: u8 = 2;
const EXPERIENCED: u8 = 3;

/// What a datagram's traffic class says for this IP packet, where its DSCP is copied, too.
#[inline]
pub fn class(packet: &[u8], copy_dscp: bool) -> u8 {
    let ecn = outer(packet);
    if copy_dscp {
        return class_of(packet) & !MASK | ecn;
    }
    ecn
}

/// Whether an IP packet may be marked as having experienced congestion.
#[inline]
pub fn is_capable(packet: &[u8]) -> bool {
    matches!(inner(packet), CAPABLE_0 | CAPABLE_1)
}

/// Marks an IP packet, if that may be.
pub fn mark(packet: &mut [u8]) {
    take_in(packet, EXPERIENCED);
}

/// What the outer header says for this IP packet.
#[inline]
pub fn outer(packet: &[u8]) -> u8 {
    match inner(packet) {
        EXPERIENCED => CAPABLE_0,
        other => other,
    }
}

/// Takes into an IP packet what the outer header that it came with says. The checksum of an
/// IPv4 header stays right.
#[inline]
pub fn take_in(packet: &mut [u8], outer: u8) {
    // Nearly always neither has anything to say.
    if outer & MASK == NOT_CAPABLE {
        return;
    }
    match (inner(packet), outer & MASK) {
        (CAPABLE_0 | CAPABLE_1, EXPERIENCED) => set(packet, EXPERIENCED),
        (CAPABLE_0, CAPABLE_1) => set(packet, CAPABLE_1),
        _ => {}
    }
}

#[inline]
fn inner(packet: &[u8]) -> u8 {
    class_of(packet) & MASK
}

/// The whole traffic class.
#[inline]
fn class_of(packet: &[u8]) -> u8 {
    match packet {
        [first, second, ..] if first >> 4 == 4 => *second,
        [first, second, ..] if first >> 4 == 6 => first << 4 | second >> 4,
        _ => NOT_CAPABLE,
    }
}

fn set(packet: &mut [u8], to: u8) {
    let [first, class, rest @ ..] = packet else {
        return;
    };
    if *first >> 4 == 6 {
        *class = *class & !(MASK << 4) | to << 4;
        return;
    }
    let before = u16::from_be_bytes([*first, *class]);
    *class = *class & !MASK | to;
    let after = u16::from_be_bytes([*first, *class]);
    let [_, _, _, _, _, _, _, _, high, low, ..] = rest else {
        return;
    };
    // HC' = ~(~HC + ~m + m') (RFC 1624).
    let old = u16::from_be_bytes([*high, *low]);
    let sum: u32 = [!old, !before, after].map(u32::from).iter().sum();
    let sum = (sum & 0xffff).wrapping_add(sum >> 16);
    let sum = (sum & 0xffff).wrapping_add(sum >> 16);
    [*high, *low] = (!(sum as u16)).to_be_bytes();
}

#[cfg(test)]
mod tests {
    use super::*;

    fn v4(ecn: u8) -> Vec<u8> {
        let mut packet = vec![0x45, 0xb8 | ecn, 0, 20, 7, 9, 0, 0, 64, 17, 0, 0];
        packet.extend([10, 0, 0, 1, 10, 0, 0, 2]);
        let sum = checksum(&packet);
        packet[10..12].copy_from_slice(&sum.to_be_bytes());
        packet
    }

    fn v6(ecn: u8) -> Vec<u8> {
        let mut packet = vec![0; 40];
        packet[..2].copy_from_slice(&[0x6b, 0x8f | ecn << 4]);
        packet
    }

    fn checksum(header: &[u8]) -> u16 {
        let words = header
            .chunks(2)
            .map(|w| u32::from(u16::from_be_bytes([w[0], w[1]])));
        let mut sum: u32 = words.sum();
        while sum > 0xffff {
            sum = (sum & 0xffff) + (sum >> 16);
        }
        !(sum as u16)
    }

    #[test]
    fn the_outer_header_says_what_the_inner_does_but_for_a_mark() {
        for (inner, expected) in [(0, 0), (1, 1), (2, 2), (3, 2)] {
            assert_eq!(outer(&v4(inner)), expected);
            assert_eq!(outer(&v6(inner)), expected);
        }
        assert_eq!(outer(&[]), 0);
        assert_eq!(outer(&[0x45]), 0);
    }

    #[test]
    fn a_dscp_is_copied_whole_and_a_mark_never() {
        for (inner, outer) in [(0, 0), (1, 1), (2, 2), (3, 2)] {
            assert_eq!(class(&v4(inner), true), 0xb8 | outer);
            assert_eq!(class(&v6(inner), true), 0xb8 | outer);
            assert_eq!(class(&v4(inner), false), outer);
            assert_eq!(class(&v6(inner), false), outer);
        }
        assert_eq!(class(&[], true), 0);
        assert_eq!(class(&[0x45], true), 0);
    }

    #[test]
    fn only_what_is_capable_is_marked() {
        for (ecn, marked) in [(0, 0), (1, 3), (2, 3), (3, 3)] {
            assert_eq!(is_capable(&v4(ecn)), ecn == 1 || ecn == 2);
            assert_eq!(is_capable(&v6(ecn)), ecn == 1 || ecn == 2);
            let (mut four, mut six) = (v4(ecn), v6(ecn));
            mark(&mut four);
            mark(&mut six);
            assert_eq!((four, six), (v4(marked), v6(marked)));
        }
    }

    /// Each inner with each outer, as `INET_ECN_decapsulate` of the kernel has it.
    #[test]
    fn a_mark_comes_in_where_it_is_understood() {
        let table = [
            // Outer: not capable, ECT(1), ECT(0), experienced.
            [0, 0, 0, 0],
            [1, 1, 1, 3],
            [2, 1, 2, 3],
            [3, 3, 3, 3],
        ];
        for (before, row) in (0..).zip(table) {
            for (outer, after) in (0..).zip(row) {
                let mut packet = v4(before);
                take_in(&mut packet, 0xb8 | outer);
                assert_eq!(packet, v4(after), "{before} with {outer}");
                let mut packet = v6(before);
                take_in(&mut packet, 0xb8 | outer);
                assert_eq!(packet, v6(after), "{before} with {outer}");
            }
        }
    }
}
