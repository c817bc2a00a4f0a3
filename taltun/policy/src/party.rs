//! Whom rules and groups name.

use ipnet::IpNet;
use taltun_crypto::PublicKey;

/// Who a rule is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Party {
    /// Everybody.
    Any,
    /// The hub's own addresses, and those of multicast and broadcast.
    Hub,
    /// A peer, by its key.
    Peer(PublicKey),
    /// A network, whoever has it.
    Net(IpNet),
    /// A group, by its place among the policy's.
    Group(usize),
}
