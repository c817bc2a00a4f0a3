//! WireGuard's messages: whatever comes in a datagram is one of them or isn't, and a message has
//! its MACs where the whole of it says.
#![no_main]

use libfuzzer_sys::fuzz_target;
use taltun_protocol::messages::{Message, split_macs};

fuzz_target!(|datagram: &[u8]| {
    if let Ok(message) = Message::parse(datagram) {
        // Its type is what its first byte says.
        let kind = match message {
            Message::Initiation(..) => 1,
            Message::Response(..) => 2,
            Message::CookieReply(..) => 3,
            Message::Data { .. } => 4,
        };
        assert_eq!(datagram[..4], [kind, 0, 0, 0]);
    }
    if let Some((covered, mac1, mac2)) = split_macs(datagram) {
        let parts = [covered, mac1.as_slice(), mac2.as_slice()].concat();
        assert_eq!(parts, datagram);
    }
});
