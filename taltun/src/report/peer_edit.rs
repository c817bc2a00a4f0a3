//! What `peer new` and the like tell.

use std::net::IpAddr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

/// A change of the peers, done: in the file and in the running tunnel.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct PeerEdited {
    /// [`VERSION`](super::VERSION).
    pub version: u32,
    /// Name of the TUN interface.
    pub interface: String,
    /// What the peer is called by now, if it has a name.
    pub name: Option<String>,
    /// Its public key by now, base64.
    pub public_key: String,
    /// What was done, in a sentence.
    pub done: String,
    /// The command that undoes it.
    pub undo: String,
    /// What is odd, a sentence each.
    pub warnings: Vec<String>,
    /// What the peer's own file needs, where it needs another one.
    pub client: Option<ClientAccess>,
}

/// What `taltun peer` prints as JSON about a change.
#[derive(Debug, Serialize)]
pub struct PeerTold<'a> {
    /// What the tunnel says.
    #[serde(flatten)]
    pub edited: &'a PeerEdited,
    /// The peer's file, unless it was written to one.
    pub file: Option<&'a str>,
}

/// What a peer needs to know of this hub for a file of its own. The keys aren't in it: who asks
/// for a peer makes them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClientAccess {
    /// The peer's addresses, each with the subnet that it is in.
    pub addresses: Vec<IpNet>,
    /// The hub's public key, base64.
    pub hub_public_key: String,
    /// The hub's addresses in the tunnel.
    pub hub_addresses: Vec<IpAddr>,
    /// Where the hub is: `HOST:PORT`, or `HOST:FIRST-LAST` where it has a range of ports.
    pub endpoint: String,
    /// The same with one port, for other WireGuard clients.
    pub plain_endpoint: String,
    /// Whether nobody said where it is: it is this host's own address.
    pub endpoint_is_guess: bool,
    /// What the peer is to send into the tunnel.
    pub routes: Vec<IpNet>,
    /// Its name servers, and domains to search.
    pub dns: Vec<String>,
    /// The MTU of the tunnel, bytes, where somebody chose it.
    pub mtu: Option<u16>,
    /// Seconds between the peer's keepalives.
    pub persistent_keepalive: u16,
}
