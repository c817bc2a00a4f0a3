//! What a change of the file has to know of the running tunnel that the file doesn't say.

use std::net::IpAddr;

use ipnet::IpNet;

use crate::crypto::PublicKey;

/// The tunnel as it is now, as far as a new peer may be in its way.
#[derive(Debug, Clone, Default)]
pub(super) struct Inside {
    /// Whether it was made by its name alone, without a configuration.
    pub is_plain: bool,
    /// Peers that `wg` added or changed, and what they own.
    pub by_wg: Vec<(PublicKey, Vec<IpNet>)>,
    /// What is banned inside the tunnel.
    pub banned: Vec<IpNet>,
    /// Addresses of this host.
    pub own: Vec<IpAddr>,
    /// The port that we listen on.
    pub port: u16,
}
