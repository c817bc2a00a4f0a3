//! Internet checksums (RFC 1071) as its text has them: sixteen bits at a time.

/// The complement of the sum of all words, the last of which may be half a word.
pub(crate) fn checksum(bytes: &[u8], start: u32) -> u16 {
    let mut sum = start;
    for word in bytes.chunks(2) {
        let low = word.get(1).copied().unwrap_or(0);
        sum += u32::from(u16::from_be_bytes([word[0], low]));
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum = (sum & 0xffff) + (sum >> 16);
    !(sum as u16)
}

/// The checksum over the pseudo-header and what begins at `at`, the field in it included: of a
/// packet whose field is zero what belongs there, of a right packet zero.
pub(crate) fn of_transport(packet: &[u8], at: usize, protocol: u8) -> u16 {
    let addresses = if packet[0] >> 4 == 4 {
        &packet[12..20]
    } else {
        &packet[8..40]
    };
    let length = (packet.len() - at) as u32;
    let addresses = u32::from(!checksum(addresses, 0));
    let length = u32::from(!checksum(&length.to_be_bytes(), 0));
    checksum(&packet[at..], addresses + u32::from(protocol) + length)
}
