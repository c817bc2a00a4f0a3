//! The Internet checksum (RFC 1071).

use std::net::IpAddr;

/// A sum of 16-bit words that isn't folded yet. Its words are in the machine's own byte
/// order, which RFC 1071 §2(B) shows not to matter until the result is stored.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Sum(u64);

impl Sum {
    /// Adds bytes; an odd last one counts as the first half of a word, so only the last
    /// piece of a message may be of odd length.
    #[must_use]
    pub fn with(self, bytes: &[u8]) -> Self {
        let mut sum = self.0;
        let mut words = bytes.chunks_exact(4);
        // Sums of 32-bit words fold to the same as sums of 16-bit words, and four billion
        // of them fit in 64 bits; the compiler makes vector code of this loop.
        for word in &mut words {
            sum += u64::from(u32::from_ne_bytes([word[0], word[1], word[2], word[3]]));
        }
        let mut rest = [0; 4];
        let tail = words.remainder();
        rest[..tail.len()].copy_from_slice(tail);
        Self(sum + u64::from(u32::from_ne_bytes(rest)))
    }

    /// Adds a 16-bit number.
    #[must_use]
    pub fn with_u16(self, number: u16) -> Self {
        Self(self.0 + u64::from(u16::from_ne_bytes(number.to_be_bytes())))
    }

    /// The bytes to store for a sum that isn't complemented: what a header's checksum
    /// field holds while the rest is left to an offload.
    pub fn partial(self) -> [u8; 2] {
        let mut sum = self.0;
        while sum > 0xffff {
            sum = (sum & 0xffff) + (sum >> 16);
        }
        (sum as u16).to_ne_bytes()
    }

    /// The bytes to store as checksum.
    pub fn finish(self) -> [u8; 2] {
        self.partial().map(|byte| !byte)
    }

    /// The bytes to store as UDP checksum, in which zero means "none" and is sent as its
    /// other form (RFC 768).
    pub fn finish_udp(self) -> [u8; 2] {
        match self.finish() {
            [0, 0] => [0xff, 0xff],
            checksum => checksum,
        }
    }
}

/// The pseudo-header of TCP and UDP without the length, which segments differ in.
pub fn pseudo_header(source: IpAddr, destination: IpAddr, protocol: u8) -> Sum {
    let sum = match (source, destination) {
        (IpAddr::V4(a), IpAddr::V4(b)) => Sum::default().with(&a.octets()).with(&b.octets()),
        (a, b) => {
            let octets = |ip| match ip {
                IpAddr::V4(v4) => std::net::Ipv4Addr::to_ipv6_mapped(&v4).octets(),
                IpAddr::V6(v6) => v6.octets(),
            };
            Sum::default().with(&octets(a)).with(&octets(b))
        }
    };
    sum.with_u16(u16::from(protocol))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn naive(bytes: &[u8]) -> [u8; 2] {
        let mut sum = 0_u32;
        for word in bytes.chunks(2) {
            let low = word.get(1).copied().unwrap_or(0);
            sum += u32::from(u16::from_be_bytes([word[0], low]));
            sum = (sum & 0xffff) + (sum >> 16);
        }
        (!(sum as u16)).to_be_bytes()
    }

    #[test]
    fn it_agrees_with_the_sum_word_by_word() {
        let mut bytes = Vec::new();
        for step in 0..3000_u32 {
            assert_eq!(Sum::default().with(&bytes).finish(), naive(&bytes));
            bytes.push((step.wrapping_mul(2_654_435_761) >> 13) as u8);
        }
        assert_eq!(Sum::default().with(&[0xff; 4096]).finish(), [0, 0]);
    }

    #[test]
    fn pieces_of_even_length_add_up() {
        let bytes: Vec<u8> = (0..=255).collect();
        let whole = Sum::default().with(&bytes).finish();
        let pieces = Sum::default()
            .with(&bytes[..50])
            .with(&bytes[50..])
            .finish();
        assert_eq!(whole, pieces);
        assert_eq!(
            Sum::default().with_u16(0x1234).finish(),
            naive(&[0x12, 0x34])
        );
    }

    #[test]
    fn a_udp_checksum_is_never_zero() {
        assert_eq!(Sum::default().with(&[0xff, 0xff]).finish(), [0, 0]);
        assert_eq!(
            Sum::default().with(&[0xff, 0xff]).finish_udp(),
            [0xff, 0xff]
        );
    }
}
