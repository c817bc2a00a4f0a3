//! The form in which a client gets packets.

use std::time::Duration;

use super::names::Names;
use crate::dataplane::tap::Observed;

/// Makes bytes of packets, for one client.
pub trait Stream: Send {
    /// Adds a packet or a datagram to what is to be written.
    fn packet(&mut self, observed: &Observed<'_>, names: &Names, to: &mut Vec<u8>);

    /// How long the client may leave what was written unread, until it gets no more.
    fn patience(&self) -> Duration {
        Duration::from_secs(10)
    }

    /// Called once a second: so many were left out since the beginning, for lack of room.
    fn beat(&mut self, left_out: u64, to: &mut Vec<u8>);

    /// The last call, with the same number: the client wants no more, or there is nothing more,
    /// because of `why`.
    fn end(&mut self, why: Option<&str>, left_out: u64, to: &mut Vec<u8>);
}
