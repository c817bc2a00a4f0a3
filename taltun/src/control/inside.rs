//! What a change of the file has to know of the running tunnel that the file doesn't say.

use std::net::IpAddr;

use ipnet::IpNet;

use crate::crypto::PublicKey;

/// A peer that `wg` added or may have changed, as it is now.
#[derive(Debug, Clone)]
pub(super) struct ByWg {
    pub key: PublicKey,
    /// What it owns.
    pub nets: Vec<IpNet>,
    /// Whether the file says something else.
    pub differs: bool,
}

/// The tunnel as it is now, as far as a new peer may be in its way.
#[derive(Debug, Clone, Default)]
pub(super) struct Inside {
    /// Whether it was made by its name alone, without a configuration.
    pub is_plain: bool,
    /// Peers that `wg` added or may have changed.
    pub by_wg: Vec<ByWg>,
    /// Peers of the file that `wg` removed.
    pub removed: Vec<PublicKey>,
    /// What is banned inside the tunnel.
    pub banned: Vec<IpNet>,
    /// Addresses of this host.
    pub own: Vec<IpAddr>,
    /// Addresses in the tunnel that other hubs of the fleet have.
    pub hubs: Vec<IpAddr>,
    /// Our own key; none if `wg` took it away.
    pub public_key: Option<PublicKey>,
    /// The key of this hub's group, if it is in one of a fleet.
    pub group_key: Option<PublicKey>,
    /// The port that we listen on.
    pub port: u16,
}
