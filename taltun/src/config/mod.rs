//! The configuration, validated: what the rest of the program may rely on.
//!
//! The types here can only hold what Taltun can run; reading and refusing TOML is in the
//! modules below. A file becomes a `Document` (sections and values that know their line),
//! then a `Draft` (each value understood), and the `rules` make the [`Config`] of it. What keys
//! there are is in `declared` and [`keys`].

// What comes from outside must not be able to make anything here panic.
#![cfg_attr(
    not(test),
    warn(clippy::arithmetic_side_effects, clippy::indexing_slicing)
)]

mod declared;
mod denied_forwards;
mod dns_routes;
mod document;
mod draft;
mod edit;
mod error;
pub(crate) mod file;
mod fleet;
mod fleet_peers;
mod fleet_read;
mod fleet_text;
mod forward;
mod forward_rules;
mod hop;
mod hop_rules;
mod host;
pub mod keys;
mod limits;
mod listen_at;
mod load;
mod metrics;
mod names;
mod nets;
mod on_disk;
mod origin;
mod overrides;
mod parties;
mod permissions;
mod pieces;
mod places;
mod policy;
mod public_endpoint;
mod rates;
mod read;
#[cfg(test)]
mod reference;
mod rules;
mod setting;
mod shaping;
mod suggest;
mod syntax;
#[cfg(test)]
mod tests;
mod udpgw;
mod values;
mod visible;
mod web;
mod web_rules;
pub mod wgquick;
mod words;

use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;

use declared::settings;
pub use dns_routes::{DnsRoutes, Domain};
pub use edit::{Edit, Mention, NewValue, PeerEntry, SharedKey};
pub use error::ConfigError;
pub use fleet::{AddedPeers, Fleet, FleetPeer, FleetPeers};
pub use fleet_read::hub_endpoints;
pub use forward::{Forward, ForwardListen, ForwardProtocol, ForwardSource, ForwardTo};
pub use hop::{Hop, PortRange, RangedEndpoint};
pub(crate) use host::marks_for;
pub use host::{Dns, FirewallChoice, Hooks, HostSettings, Masquerade, Shell, leads_around};
pub use limits::PeerLimits;
pub(crate) use listen_at::LISTEN_MAX;
pub use listen_at::ListenAt;
pub use load::{Loaded, load, load_text, load_with, parse};
pub use metrics::Metrics;
pub use names::{HUB, Names};
pub use on_disk::{NotReplaced, OnDisk};
pub use origin::Origin;
pub use overrides::Overrides;
pub(crate) use permissions::warning as open_to_others;
pub use policy::{Action, Policy};
pub use public_endpoint::PublicEndpoint;
pub use rules::OWN_ENDPOINT;
pub use shaping::{Dscp, PeerRates, Rate, Shaping};
pub(crate) use suggest::nearest;
pub use udpgw::Udpgw;
pub(crate) use values::{
    interface_name, network, network_as_written, no_host, not_unspecified, peer_name,
    public_endpoint,
};
pub use visible::unseen;
pub use web::Web;
pub(crate) use words::Words;

use crate::crypto::{PresharedKey, PrivateKey, PublicKey};

/// A whole configuration file, checked.
#[derive(Debug, Clone)]
pub struct Config {
    /// `[interface]`
    pub interface: Interface,
    /// `[[peers]]`, in file order.
    pub peers: Vec<Peer>,
    /// `[accel]`
    pub accel: Accel,
    /// `[dataplane]`
    pub dataplane: Dataplane,
    /// What the host does for the tunnel: the rest of `[interface]`, and `[nat]`.
    pub host: HostSettings,
    /// What is run when something happens.
    pub hooks: Hooks,
    /// `[dns_routes]`, if there is one.
    pub dns_routes: Option<DnsRoutes>,
    /// `[names]`, if there is one.
    pub names: Option<Names>,
    /// `[udpgw]`, if there is one.
    pub udpgw: Option<Udpgw>,
    /// `[metrics]`, if there is one.
    pub metrics: Option<Metrics>,
    /// `[web]`, if there is one.
    pub web: Option<Web>,
    /// `[fleet]`, if there is one.
    pub fleet: Option<Fleet>,
    /// `[hop]`
    pub hop: Hop,
    /// `[policy]`, `[groups]` and `[[rules]]`
    pub policy: Policy,
    /// `[[forward]]`, in file order.
    pub forwards: Vec<Forward>,
    /// `[usage]`
    pub usage: Usage,
    /// `[audit]`
    pub audit: Audit,
    /// `[shaping]`
    pub shaping: Shaping,
}

/// Who starts handshakes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Waits for its peers and relays between them.
    Server,
    /// Starts the handshake with every peer that has an endpoint.
    Client,
}

/// `[interface]`: this machine's side of the tunnel.
#[derive(Debug, Clone)]
pub struct Interface {
    /// Who starts handshakes, and whether peers are relayed to each other.
    pub mode: Mode,
    /// Name of the TUN interface to create, 1 to 15 bytes.
    pub tun_name: String,
    /// Our addresses inside the tunnel, each with its subnet.
    pub vip: Vec<IpNet>,
    /// Where the UDP sockets listen; port 0 lets the kernel choose.
    pub local_addr: SocketAddr,
    /// Our private key.
    pub private_key: PrivateKey,
    /// MTU of the tunnel, 576 to 65,000 bytes.
    pub mtu: u16,
    /// Nobody said which, so that it may follow what the way to the endpoints takes.
    pub mtu_is_default: bool,
    /// Networks the operating system is to send into the tunnel.
    pub routes: Vec<IpNet>,
    /// Log more.
    pub debug: bool,
}

/// `[[peers]]`: somebody we have a tunnel with.
#[derive(Debug, Clone)]
pub struct Peer {
    /// What to call it in place of its key.
    pub name: Option<String>,
    /// Who it is.
    pub public_key: PublicKey,
    /// Where its key is written.
    pub origin: Origin,
    /// The shared symmetric key, if the two sides have one.
    pub preshared_key: PresharedKey,
    /// Its own addresses inside the tunnel.
    pub vip: Vec<IpAddr>,
    /// Where it is, if that is known beforehand: the first of its endpoints, with the first of
    /// its ports.
    pub endpoint: Option<Endpoint>,
    /// All of its endpoints where they are several, or one has several ports; else none.
    pub endpoints: Vec<RangedEndpoint>,
    /// All that may come from it and is sent to it: its vips first, then `allowed_ips`.
    pub allowed_ips: Vec<IpNet>,
    /// Seconds between keepalives, 1 to 65,535; `None` for off.
    pub persistent_keepalive: Option<u16>,
    /// How much it may move, and until when it may come.
    pub limits: PeerLimits,
    /// How fast it may be.
    pub rates: PeerRates,
}

impl Peer {
    /// Its name, or its key when it has none.
    pub fn label(&self) -> String {
        self.name
            .clone()
            .unwrap_or_else(|| self.public_key.to_string())
    }

    /// All of its endpoints, each with the first of its ports.
    pub fn all_endpoints(&self) -> impl Iterator<Item = &Endpoint> {
        let several = self.endpoints.iter().map(|endpoint| &endpoint.first);
        let one = self.endpoint.iter().filter(|_| self.endpoints.is_empty());
        one.chain(several)
    }
}

/// Where a peer is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Endpoint {
    /// A literal address.
    Address(SocketAddr),
    /// A host name to resolve, and a port.
    Name(String, u16),
}

impl Endpoint {
    /// Its port.
    pub fn port(&self) -> u16 {
        match self {
            Self::Address(address) => address.port(),
            Self::Name(_, port) => *port,
        }
    }
}

impl std::fmt::Display for Endpoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Address(address) => write!(f, "{address}"),
            Self::Name(host, port) => write!(f, "{host}:{port}"),
        }
    }
}

/// The most networks on a deny list, and the most bans at once. Beyond it, a firewall's sets
/// are the right tool.
pub const MAX_BANS: usize = 10_000;

declared::accel::declared! { settings! {
    /// `[accel]`: what the eBPF programs are asked to do.
    #[derive(Debug, Clone)]
    pub struct Accel {
        /// Interfaces to attach to; empty means: find them.
        pub interfaces: Vec<String>,
        /// Outer sources whose datagrams are dropped.
        pub deny: Vec<IpNet>,
        /// Inner sources whose packets are dropped.
        pub deny_inner: Vec<IpNet>,
    }
} }

/// `accel.xdp`: how the XDP program is attached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum XdpMode {
    /// Driver mode where it costs nothing, else generic, else off.
    Auto,
    /// Driver mode, else off.
    Driver,
    /// Generic (skb) mode, else off.
    Generic,
    /// No program at all.
    Off,
}

/// `dataplane.priority`: how the threads that move packets compete for the cores.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Priority {
    /// As others do, in short slices.
    Normal,
    /// With more weight.
    High,
    /// Before all others.
    Realtime,
}

/// `accel.af_xdp`: whether transport messages go past the kernel's network stack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AfXdp {
    /// Where the network card writes to our memory itself.
    Auto,
    /// Also where the kernel has to copy.
    On,
    /// Nowhere.
    Off,
}

declared::usage::declared! { settings! {
    /// `[usage]`: what each peer moves, by day.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct Usage {}
} }

declared::audit::declared! { settings! {
    /// `[audit]`: the trail of changes.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct Audit {}
} }

declared::dataplane::declared! { settings! {
    /// `[dataplane]`: what the workers use of what the kernel offers. Each switch is for a
    /// kernel that gets it wrong; where a kernel has none of it, it is off by itself.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct Dataplane {}
} }
