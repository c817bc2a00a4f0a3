//! How fast peers may be: the rates of a peer, and `[shaping]`.

pub use taltun_shaping::Rate;

use super::{declared, declared::settings};

/// The least that a peer or an uplink may have: a full packet takes 0.2 s then.
pub(super) const LEAST_RATE: Rate = rate(64_000);
/// More than any uplink has.
pub(super) const MOST_RATE: Rate = rate(100_000_000_000);

const fn rate(bits: u64) -> Rate {
    match Rate::of_bits(bits) {
        Some(rate) => rate,
        None => panic!("zero is no rate"),
    }
}

/// What a peer is held to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PeerRates {
    /// `peers.rate_up`: how fast packets from it go.
    pub rate_up: Option<Rate>,
    /// `peers.rate_down`: how fast packets to it go.
    pub rate_down: Option<Rate>,
    /// `peers.dscp`: what becomes of the DSCP of packets to it.
    pub dscp: Dscp,
}

/// What the header of a datagram says of the DSCP of the packet in it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Dscp {
    /// Nothing.
    #[default]
    None,
    /// The same.
    Copy,
}

declared::shaping::declared! { settings! {
    /// `[shaping]`: what all peers share.
    #[derive(Debug, Clone, Default, PartialEq, Eq)]
    pub struct Shaping {}
} }
