//! What the table of flows finds in its own crate, as far as it needs it.

/// Addresses, protocol and ports of a packet.
#[derive(Debug, Clone, Copy)]
pub struct Tuple {
    /// Source address.
    pub source: u128,
    /// Destination address.
    pub destination: u128,
    /// Both ports.
    pub ports: u32,
    /// The protocol behind IP.
    pub protocol: u8,
    /// Whether it is one of IPv6.
    pub is_v6: bool,
}

impl Tuple {
    /// Whether it goes from the larger end to the smaller.
    pub fn is_downwards(&self) -> bool {
        self.source > self.destination
    }

    /// The same, the other way.
    #[must_use]
    pub fn reversed(&self) -> Self {
        Self {
            source: self.destination,
            destination: self.source,
            ..*self
        }
    }
}
