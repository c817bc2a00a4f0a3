//! What the table of flows finds in its own crate, as far as it needs it.

/// A side of the hub.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// The hub's operating system.
    Host,
    /// A peer.
    Peer,
}

/// Where a packet comes from and goes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ends {
    /// Where it comes from.
    pub from: Side,
    /// Where it goes to.
    pub to: Side,
}
