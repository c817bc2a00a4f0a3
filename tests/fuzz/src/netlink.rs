//! The kernel's answers over netlink: whatever comes, messages are read as long as they are
//! understood, each where the headers before it say, and nothing is read twice or without end.

use taltun::accel::fuzzing::netlink;

pub(crate) fn run(datagram: &[u8]) {
    let read = netlink(datagram);
    let number = |at: usize, size: usize| {
        let bytes = &datagram[at..at + size];
        bytes
            .iter()
            .rev()
            .fold(0_u32, |sum, byte| sum << 8 | u32::from(*byte))
    };
    let mut at = 0;
    for (nth, message) in read.iter().enumerate() {
        assert!(at < datagram.len(), "a message behind the end");
        let Some(message) = message else {
            assert_eq!(
                nth + 1,
                read.len(),
                "nothing is read behind what isn't understood"
            );
            return;
        };
        let header = (
            number(at, 4),
            number(at + 4, 2) as u16,
            number(at + 6, 2) as u16,
            number(at + 8, 4),
            number(at + 12, 4),
        );
        assert_eq!(message.header, header);
        let length = header.0 as usize;
        assert!(
            (16..=datagram.len() - at).contains(&length),
            "{length} bytes"
        );
        // New links, addresses and routes are looked at.
        let is_new = matches!(header.1, 16 | 20 | 24);
        assert_eq!(message.is_looked_at, is_new);
        at += length.next_multiple_of(4);
    }
    assert!(at >= datagram.len(), "bytes are left");
}
