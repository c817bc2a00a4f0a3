//! A configuration as it was written: each value understood, nothing yet compared with
//! anything else. `read` makes it of a file, flags override it, `rules` makes a [`Config`] of it.
//!
//! [`Config`]: super::Config

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;
use taltun_policy::Service;
use taltun_usage::{Day, Quota};

use super::error::Spot;

use super::{
    Accel, Action, Audit, Dataplane, Domain, Fleet, ForwardListen, ForwardSource, ForwardTo, Hooks,
    Hop, HostSettings, ListenAt, Mode, PeerRates, Policy, RangedEndpoint, Shaping, Udpgw, Usage,
    Web,
};
use crate::crypto::{PresharedKey, PrivateKey, PublicKey};

/// A value and where it was written.
#[derive(Debug, Clone)]
pub(super) struct Written<T> {
    pub(super) value: T,
    pub(super) spot: Spot,
}

/// Everything that was written.
pub(super) struct Draft {
    /// Where `[interface]` is, or what stands in its place: what is missing is missed there.
    pub(super) spot: Spot,
    pub(super) mode: Mode,
    pub(super) tun_name: String,
    /// Whether somebody gave it that name.
    pub(super) is_named: bool,
    pub(super) vip: Vec<Written<IpNet>>,
    pub(super) local_addr: SocketAddr,
    pub(super) private_key: Option<PrivateKey>,
    pub(super) mtu: Option<Written<u16>>,
    pub(super) routes: Vec<Written<IpNet>>,
    pub(super) debug: bool,
    pub(super) peers: Vec<PeerDraft>,
    pub(super) accel: Accel,
    pub(super) dataplane: Dataplane,
    pub(super) host: HostSettings,
    /// Where the keys of `[interface]` and `[nat]` are written that are, by their names.
    pub(super) host_spots: BTreeMap<&'static str, Spot>,
    pub(super) hooks: Hooks,
    pub(super) dns_routes: Option<DnsRoutesDraft>,
    pub(super) names: Option<NamesDraft>,
    pub(super) udpgw: Option<UdpgwDraft>,
    pub(super) metrics: Option<Vec<Written<ListenAt>>>,
    pub(super) web: Option<WebDraft>,
    pub(super) fleet: Option<Fleet>,
    pub(super) hop: Hop,
    /// Where its ports are written.
    pub(super) port_range: Option<Spot>,
    /// The other keys of `[hop]` that are given.
    pub(super) hop_choices: Vec<(&'static str, Spot)>,
    pub(super) policy: PolicyDraft,
    pub(super) forwards: Vec<ForwardDraft>,
    pub(super) usage: Usage,
    /// Where its `keep_days` is written.
    pub(super) keep_days: Option<Spot>,
    pub(super) audit: Audit,
    pub(super) shaping: Shaping,
    /// Where its uplink is written.
    pub(super) uplink: Option<Spot>,
    pub(super) warnings: Vec<String>,
    /// Whether a secret is written in the file itself.
    pub(super) has_secret: bool,
    /// Keys about which there was a mistake that is told already: that they are missing for it
    /// keeps no other mistake from being found.
    pub(super) told: Vec<String>,
}

/// `[dns_routes]`, as it was written: its peer by name or key.
pub(super) struct DnsRoutesDraft {
    pub(super) domains: Vec<Domain>,
    pub(super) via: Written<String>,
    pub(super) upstream: Vec<IpAddr>,
    pub(super) keep: u32,
}

/// `[names]`, as it was written.
pub(super) struct NamesDraft {
    pub(super) domain: Written<String>,
    pub(super) upstream: Vec<Written<IpAddr>>,
}

/// `[udpgw]`, as it was written.
pub(super) struct UdpgwDraft {
    pub(super) listen: Vec<Written<SocketAddr>>,
    /// All else.
    pub(super) rest: Udpgw,
}

/// `[web]`, as it was written.
pub(super) struct WebDraft {
    pub(super) listen: Vec<Written<SocketAddr>>,
    /// All else.
    pub(super) rest: Web,
}

/// `[policy]`, `[groups]` and `[[rules]]`, as they were written.
pub(super) struct PolicyDraft {
    pub(super) section: Policy,
    pub(super) groups: Vec<GroupDraft>,
    pub(super) rules: Vec<RuleDraft>,
}

/// One of `[groups]`, as it was written.
pub(super) struct GroupDraft {
    pub(super) name: Written<String>,
    pub(super) members: Vec<Written<String>>,
}

/// One of `[[rules]]`, as it was written.
pub(super) struct RuleDraft {
    pub(super) spot: Spot,
    pub(super) from: Vec<Written<String>>,
    pub(super) to: Vec<Written<String>>,
    pub(super) services: Vec<Service>,
    pub(super) action: Action,
    pub(super) log: bool,
}

/// One of `[[forward]]`, as it was written.
pub(super) struct ForwardDraft {
    pub(super) listen: Written<ForwardListen>,
    pub(super) to: Written<ForwardTo>,
    pub(super) source: ForwardSource,
}

/// One of `[[peers]]`, as it was written.
pub(super) struct PeerDraft {
    pub(super) spot: Spot,
    pub(super) name: Option<String>,
    /// Where that is, or would be.
    pub(super) name_spot: Spot,
    pub(super) public_key: Written<PublicKey>,
    pub(super) preshared_key: PresharedKey,
    pub(super) vip: Vec<Written<IpAddr>>,
    /// All of them.
    pub(super) endpoints: Vec<RangedEndpoint>,
    /// Where they stand, if there are any.
    pub(super) endpoints_spot: Option<Spot>,
    pub(super) allowed_ips: Vec<Written<IpNet>>,
    pub(super) persistent_keepalive: Option<u16>,
    pub(super) quota: Option<Written<Quota>>,
    pub(super) expires: Option<Written<Day>>,
    pub(super) rates: PeerRates,
    /// Where its `rate_down` is written.
    pub(super) rate_down: Option<Spot>,
}
