//! What reads the kernel's answers, for those who make such answers: `tests/fuzz`. Only there with
//! the feature `fuzzing`.

use rtnetlink::packet_core::NetlinkPayload;

use super::netlink;
use crate::os::netlink::messages;

/// What was read of a message of netlink's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Read {
    /// Its length, type, flags, number and port, as its header has them.
    pub header: (u32, u16, u16, u32, u32),
    /// Whether it says something of a link, an address or a route, which was looked at.
    pub is_looked_at: bool,
}

/// Reads a datagram of netlink's as who asks or listens does, and looks at links, addresses and
/// routes in it; `None` ends it, where a message isn't understood.
pub fn netlink(datagram: &[u8]) -> Vec<Option<Read>> {
    let read = messages(datagram).map(|message| {
        let message = message.ok()?;
        let header = &message.header;
        Some(Read {
            header: (
                header.length,
                header.message_type,
                header.flags,
                header.sequence_number,
                header.port_number,
            ),
            is_looked_at: match message.payload {
                NetlinkPayload::InnerMessage(message) => netlink::look_at(message),
                _ => false,
            },
        })
    });
    read.collect()
}
