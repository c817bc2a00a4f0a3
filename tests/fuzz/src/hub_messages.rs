//! What hubs of a fleet say to each other, read by one of them.
//!
//! Each message has one form, and a log is heard as far only as nothing of it can be missing.

use taltun_fleet::mesh::Message;
use taltun_fleet::mesh::log::Heard;

pub(crate) fn run(input: &[u8]) {
    let mut heard = Heard::default();
    let mut rest = input;
    while let Some((length, tail)) = rest.split_first() {
        // So that all lengths are tried that fit a datagram.
        let (message, tail) = tail.split_at(tail.len().min(usize::from(*length) * 5));
        rest = tail;
        let Ok(read) = Message::parse(message) else {
            continue;
        };
        let written = read.to_bytes();
        assert!(message.starts_with(&written), "a message with two forms");
        assert_eq!(Message::parse(&written), Ok(read.clone()));
        if let Message::Homes(told) = read {
            let before = heard.place();
            heard.hear(told.after, told.until);
            let after = heard.place();
            assert_eq!(after.log, told.until.log);
            let known = if before.log == after.log {
                before.entry
            } else {
                0
            };
            assert!(after.entry >= known);
            assert!(after.entry == known || told.after <= known);
        }
    }
}
