//! `[hop]`, and endpoints with several ports.

use super::{Endpoint, declared, declared::settings};

declared::hop::declared! { settings! {
    /// `[hop]`: ports of the hub, and how a client chooses among them.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct Hop {}
} }

/// Ports from one to another, both included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PortRange {
    /// The first, never 0.
    pub first: u16,
    /// The last, never before the first.
    pub last: u16,
}

/// One of several endpoints, or one with several ports.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RangedEndpoint {
    /// The endpoint with the first of its ports.
    pub first: Endpoint,
    /// The last of them.
    pub last_port: u16,
}

impl RangedEndpoint {
    /// Whether it has one port.
    pub fn is_single(&self) -> bool {
        self.last_port == self.first.port()
    }
}
