//! Hub messages: what the hubs of a fleet say to each other inside the tunnel between them.
//!
//! One is the plaintext of a transport message, as a [control message](super::control_message) is: its
//! first byte has the version nibble 0, which no IP packet has. What follows [`MAGIC`] is for who
//! runs the hub; the protocol carries it. It is authenticated and passes the replay window, reaches
//! no TUN, moves no endpoint, and no timer of WireGuard counts it. Only a peer that is known to be a hub
//! ([`FleetPart::Hub`](super::peer::FleetPart::Hub)) is sent one, and only from such a peer one is taken.

// What comes from outside must not be able to make anything here panic.
#![cfg_attr(
    not(test),
    warn(clippy::arithmetic_side_effects, clippy::indexing_slicing)
)]

use super::peer::PeerId;
use super::time::Time;

/// What each begins with.
pub const MAGIC: [u8; 4] = *b"\0tlf";
/// Bytes of one at the most, with [`MAGIC`]: it fits any tunnel that carries IPv6.
pub const MOST: usize = 1200;

/// Whether a plaintext is a hub message.
pub fn is_hub_message(plaintext: &[u8]) -> bool {
    plaintext.first_chunk() == Some(&MAGIC)
}

/// A hub message that arrived, for who runs the hub.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HubMessage {
    /// The hub that sent it.
    pub peer: PeerId,
    /// What is behind [`MAGIC`], with the padding of its transport message.
    pub content: Vec<u8>,
    /// When it came.
    pub at: Time,
}
