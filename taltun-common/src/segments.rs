//! What a packet of several segments stands for.
//!
//! Inside the tunnel the kernel moves up to 64 KB as one packet: headers once, then the
//! payload of many segments. Outside, each of these has headers of its own. Counters of packets
//! and bytes count those.

/// Packets, and their bytes from the IP header on, that a packet of `length` bytes stands
/// for, of which `headers` are IP's and the transport's, and whose segments carry `size`
/// bytes of payload each; 0 says that it is just one.
#[inline(always)]
#[must_use]
pub const fn count(length: u32, headers: u32, size: u32) -> (u64, u64) {
    let payload = length.saturating_sub(headers);
    if size == 0 || payload <= size {
        return (1, length as u64);
    }
    let segments = payload.div_ceil(size) as u64;
    (segments, length as u64 + (segments - 1) * headers as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_packet_is_one() {
        assert_eq!(count(84, 28, 0), (1, 84));
        assert_eq!(count(1420, 52, 1368), (1, 1420));
        // Contradictory lengths count as one, too.
        assert_eq!(count(10, 52, 1368), (1, 10));
    }

    #[test]
    fn segments_have_headers_each() {
        // Two full ones and one of a byte.
        assert_eq!(
            count(52 + 2 * 1368 + 1, 52, 1368),
            (3, 3 * 52 + 2 * 1368 + 1)
        );
        assert_eq!(count(52 + 2 * 1368, 52, 1368), (2, 2 * 1420));
    }
}
