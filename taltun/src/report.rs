//! What `status` and `stats` tell, as data: the control socket sends it, the commands
//! print it, the lab reads it. Names of fields and words are part of the interface: the
//! manual's page on the JSON has each of them, which `schema` holds. They are only ever added.

mod around;
mod drops;
mod explanation;
mod fleet;
mod limits;
mod overview;
mod owner;
mod peer_edit;
mod ping;
mod rates;
mod refused;
mod rights;
#[cfg(test)]
pub(crate) mod schema;
mod standing;
mod stats;
mod traced;
mod unix_time;
mod usage;
mod web;
mod words;

use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

pub use self::around::{NameAround, RouteAround, RouteOrigin};
pub use self::drops::Drops;
pub use self::explanation::{ExplainedStep, Explanation};
pub use self::fleet::{EtcdMember, EtcdStatus, FleetStatus, HubPath, HubStatus};
pub use self::limits::{QuotaStatus, RateStatus};
pub use self::overview::{Overview, PeerCounts, RelayPair};
pub use self::owner::owner;
pub use self::peer_edit::{ClientAccess, PeerEdited, PeerTold};
pub use self::ping::{Ping, RoundTrips};
pub use self::rates::{PeerRates, Rates, Traffic, per_second, whole_seconds};
pub use self::refused::{Refused, Why};
pub use self::rights::{MemoryStatus, PacketThreads, ProcessRights, RightsStatus};
pub use self::standing::{CLASSES, StandingCounts, Stood, Ways, class, most_seconds};
pub use self::stats::{Fallbacks, Load, SocketLoad, Source, Stats, ThreadLoad, UdpgwStats};
pub use self::traced::{TraceMessage, TracedPacket};
pub use self::unix_time::UnixTime;
pub use self::usage::{DayUsage, PeerUsage, Usage, UsageStatus};
pub use self::web::{Moment, WebStatus, WebToken};
pub use self::words::{
    Aead, AfXdpSocket, AuditKept, ForwardedBy, HostPart, PathUse, PortRangeBy, Priority,
    ProblemCause, RefusedBy, RuleAction, SourceSeen, Steering, StepKind, SwitchLeftState,
    TcAttachment, TracePlace, TraceVerdict, TunnelMode, UsageKept, XdpAttachment,
};
use crate::layer::Layer;
use crate::protocol::messages::REJECT_AFTER_TIME;

/// The version of the JSON. It goes up when a field goes away or means something else, and
/// stays when one is added.
pub const VERSION: u32 = 1;

/// `taltun status --json`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Status {
    /// [`VERSION`].
    #[serde(default)]
    pub version: u32,
    /// When this was so.
    #[serde(default)]
    pub timestamp: UnixTime,
    /// Name of the TUN interface.
    pub interface: String,
    /// What decides about the tunnel.
    pub mode: TunnelMode,
    /// Our public key, base64.
    pub public_key: String,
    /// Where the UDP sockets listen.
    pub listen: SocketAddr,
    /// Our addresses inside the tunnel.
    pub vip: Vec<IpNet>,
    /// The mark of its datagrams, for rules of routing; `None` for none.
    #[serde(default)]
    pub fwmark: Option<u32>,
    /// MTU of the tunnel, bytes.
    pub mtu: u16,
    /// What seals and opens the traffic on this machine.
    pub aead: Aead,
    /// Seconds since the start.
    pub uptime_seconds: u64,
    /// When that was, by the clock of that moment.
    #[serde(default)]
    pub started_at: UnixTime,
    /// Routes of others that lead out of a full tunnel, as they are more specific than its own
    /// (at most 64).
    #[serde(default)]
    pub routes_around: Vec<RouteAround>,
    /// Addresses of names of `[dns_routes]` that go around the tunnel all the same.
    #[serde(default)]
    pub names_around: Vec<NameAround>,
    /// The names of peers that are answered, where `[names]` is.
    #[serde(default)]
    pub names: Option<NamesStatus>,
    /// The process that answers for them, and for `[dns_routes]`; `None` without both.
    #[serde(default)]
    pub resolver: Option<ResolverStatus>,
    /// The peers, in file order.
    pub peers: Vec<PeerStatus>,
    /// The XDP program on each underlay interface.
    pub xdp: Vec<XdpStatus>,
    /// The AF_XDP socket of each queue of these, or why there is none.
    #[serde(default)]
    pub af_xdp: Vec<AfXdpStatus>,
    /// The TC programs on the tunnel interface.
    pub tc: TcStatus,
    /// How datagrams find their worker.
    pub steering: SteeringStatus,
    /// Whether flows that send little have a queue of the TUN of their own.
    #[serde(default)]
    pub sparse_queue: SparseQueueStatus,
    /// How the threads that move packets compete for the cores.
    #[serde(default)]
    pub priority: PriorityStatus,
    /// The range of ports that leads to the one we listen on, where there is one.
    #[serde(default)]
    pub port_range: Option<PortRangeStatus>,
    /// Ports of this host that lead to peers, in file order.
    #[serde(default)]
    pub forwards: Vec<ForwardStatus>,
    /// Who may start what with whom, where there are rules.
    #[serde(default)]
    pub policy: Option<PolicyStatus>,
    /// How fast all that leaves for peers may go together, bit/s; `None` for no limit.
    #[serde(default)]
    pub uplink_bits_per_second: Option<u64>,
    /// Dropped packets by reason, as in [`Stats`].
    #[serde(default)]
    pub drops: Drops,
    /// Those of the last minute.
    #[serde(default)]
    pub drops_last_minute: Drops,
    /// How long packets stood in the tunnel's process in the last minute; `None` for a way that none took.
    #[serde(default)]
    pub standing: Ways<Option<Stood>>,
    /// Networks that are denied now, outside and inside.
    #[serde(default)]
    pub bans: u64,
    /// Unknown keys that tried, the last one first (at most 16).
    #[serde(default)]
    pub unknown_keys: Vec<UnknownKey>,
    /// What the host does for the tunnel; `None` for an interface without a configuration file.
    #[serde(default)]
    pub host: Option<HostStatus>,
    /// The UDP gateway, where `[udpgw]` is.
    #[serde(default)]
    pub udpgw: Option<UdpgwStatus>,
    /// The metrics, where `[metrics]` is.
    #[serde(default)]
    pub metrics: Option<MetricsStatus>,
    /// The page in the browser, where `[web]` is.
    #[serde(default)]
    pub web: Option<WebStatus>,
    /// Where what peers move is kept; `None` for an interface without a configuration file.
    #[serde(default)]
    pub usage: Option<UsageStatus>,
    /// The trail of changes; `None` for an interface without a configuration file.
    #[serde(default)]
    pub audit: Option<AuditStatus>,
    /// What the kernel lets the tunnel do.
    #[serde(default)]
    pub rights: RightsStatus,
}

/// The names that the resolver on our vips knows.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NamesStatus {
    /// What they end in.
    pub domain: String,
    /// How many there are, ours included.
    pub names: u64,
}

/// The resolver, as `status` shows it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResolverStatus {
    /// Why it doesn't answer; `None` while it does.
    pub ended: Option<String>,
}

/// The metrics, as `status` shows them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MetricsStatus {
    /// Where scrapers connect to: addresses with a port, and files.
    pub listen: Vec<String>,
    /// Why nobody answers there; `None` while somebody does.
    pub ended: Option<String>,
}

/// The UDP gateway, as `status` shows it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct UdpgwStatus {
    /// Where clients connect to.
    pub listen: Vec<SocketAddr>,
    /// How many are connected.
    pub clients: u64,
    /// How many may be.
    pub max_clients: u64,
    /// Their connections.
    pub connections: u64,
    /// Why it doesn't run though it should; `None` while it does.
    pub ended: Option<String>,
}

/// What was set up on the host for the tunnel, and what others did to it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostStatus {
    /// Whether nothing leaves but through the tunnel.
    pub kill_switch: bool,
    /// Default routes into the tunnel, whole or in halves.
    pub default_routes: Vec<IpNet>,
    /// The name servers that the resolver was told of.
    pub dns: Vec<IpAddr>,
    /// Whether the host was told to forward packets.
    pub ip_forward: bool,
    /// `IPv4`, `IPv6`: of which nothing passes between peers, as `relay = false` leaves it to the kernel,
    /// which forwards none.
    #[serde(default)]
    pub not_relayed: Vec<String>,
    /// What others took away and was put back.
    pub put_back: Vec<PutBack>,
    /// What others took away and can't be put back.
    pub missing: Vec<Missing>,
}

/// Something that others took away and that was put back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PutBack {
    /// What it is a part of.
    pub what: HostPart,
    /// How often.
    pub times: u64,
    /// Seconds since the last time.
    pub seconds_ago: u64,
}

/// Something that isn't there and should be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Missing {
    /// As in [`PutBack`].
    pub what: HostPart,
    /// Why it can't be put back.
    pub reason: String,
}

/// The trail of changes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditStatus {
    /// Whether it is written.
    pub kept: AuditKept,
    /// Why it can't be written.
    pub reason: Option<String>,
    /// Changes since the start that there was no room for.
    pub lost: u64,
}

/// A peer, as `status` shows it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct PeerStatus {
    /// Its name, if it has one.
    pub name: Option<String>,
    /// Its public key, base64.
    pub public_key: String,
    /// Whether it is another hub of the fleet, which no file names.
    #[serde(default)]
    pub hub: bool,
    /// Whether it has a preshared key.
    #[serde(default)]
    pub preshared_key: bool,
    /// Where it was last heard, or is configured to be.
    pub endpoint: Option<SocketAddr>,
    /// `NAME:PORT` where its endpoint is given by a name. Without an endpoint it isn't resolved
    /// yet.
    #[serde(default)]
    pub endpoint_name: Option<String>,
    /// Bans and denied networks that drop what comes from it, all or a part.
    #[serde(default)]
    pub banned: Vec<BanStatus>,
    /// The two places between which it moves back and forth, if it does: two machines with one
    /// key, most likely.
    #[serde(default)]
    pub moves_between: Vec<SocketAddr>,
    /// Why nothing can be sent there now: `no route to ADDRESS`.
    #[serde(default)]
    pub unreachable: Option<String>,
    /// The paths to it, in the order of preference, where it has several addresses or ports.
    #[serde(default)]
    pub paths: Vec<PathStatus>,
    /// What may come from it and goes to it.
    pub allowed_ips: Vec<IpNet>,
    /// Those of them that the file has as its own addresses.
    #[serde(default)]
    pub vip: Vec<IpAddr>,
    /// Seconds since anything genuine came from it; `None` for never since the start.
    #[serde(default)]
    pub seen_seconds: Option<f64>,
    /// Seconds since the last completed handshake; `None` before the first.
    pub latest_handshake_seconds: Option<f64>,
    /// Handshakes completed since the start.
    pub handshakes: u64,
    /// Bytes received from it, handshakes and keepalives included, as the kernel counts.
    pub rx_bytes: u64,
    /// Bytes sent to it, counted likewise.
    pub tx_bytes: u64,
    /// What both gained a second, lately; `None` in its first seconds.
    #[serde(default)]
    pub rates: Option<PeerRates>,
    /// Seconds between keepalives; `None` for off.
    pub persistent_keepalive: Option<u16>,
    /// What last kept it from a handshake; `None` once there is one.
    #[serde(default)]
    pub problem: Option<Problem>,
    /// What kept it from one before, and is over.
    #[serde(default)]
    pub last_problem: Option<Problem>,
    /// How fast it may send, where that is limited.
    #[serde(default)]
    pub rate_up: Option<RateStatus>,
    /// How fast it may be sent to, where that is limited, be it by the uplink of all alone.
    #[serde(default)]
    pub rate_down: Option<RateStatus>,
    /// How much it may move, where that is limited.
    #[serde(default)]
    pub quota: Option<QuotaStatus>,
    /// Its last day, in UTC: `YYYY-MM-DD`; `None` for no last day.
    #[serde(default)]
    pub expires: Option<String>,
    /// Why it is refused; `None` while it isn't.
    #[serde(default)]
    pub refused: Option<RefusedBy>,
}

/// A path to a peer: one of its addresses.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PathStatus {
    /// The address.
    pub address: IpAddr,
    /// The first of its ports.
    pub first_port: u16,
    /// The last one, which may be the first.
    pub last_port: u16,
    /// What becomes of it.
    pub state: PathUse,
    /// Seconds from a probe to its answer, smoothed; `None` before the first.
    pub delay_seconds: Option<f64>,
    /// Of the last 20 probes, how many in a hundred were lost; `None` before ten.
    pub loss_percent: Option<u32>,
}

impl PeerStatus {
    /// What it is called: by its name, or by its key if it has none.
    pub fn label(&self) -> &str {
        self.name.as_deref().unwrap_or(&self.public_key)
    }

    /// Whether its last handshake is so young that its session lives.
    pub fn has_session(&self) -> bool {
        let age = self.latest_handshake_seconds;
        age.is_some_and(|age| age < REJECT_AFTER_TIME.as_secs_f64())
    }
}

/// Why there is no handshake with a peer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Problem {
    /// Which it is.
    pub cause: ProblemCause,
    /// What happened and what to do, in a sentence.
    pub message: String,
    /// Seconds since it last happened.
    pub seconds_ago: f64,
}

/// A network that is denied: by a ban, by the configuration, or by both.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BanStatus {
    /// The network.
    pub net: IpNet,
    /// Where it is; in JSON whether that is inside the tunnel.
    #[serde(rename = "inner")]
    pub layer: Layer,
    /// Whether the configuration denies it.
    pub configured: bool,
    /// Whether an operator does: by `taltun ban`, in `top` or on the page.
    pub banned: bool,
    /// When that ban ends, in seconds from now; `None` for one that lasts until it is taken
    /// back.
    pub seconds_left: Option<u64>,
    /// The same by the wall clock.
    #[serde(default)]
    pub ends_at: Option<UnixTime>,
    /// Peers that are in it, by name or public key (at most 4 of them).
    #[serde(default)]
    pub peers: Vec<String>,
    /// What lets it through again: a command, or what to take out of the file.
    pub remedy: String,
}

/// Somebody who speaks WireGuard to us, and whose public key is no peer's.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct UnknownKey {
    /// Its public key, base64.
    pub public_key: String,
    /// Where it tried from.
    pub endpoint: SocketAddr,
    /// How often.
    pub tries: u64,
    /// Seconds since the last try.
    pub seconds_ago: f64,
}

/// What the XDP program does on one interface, and why it is so.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct XdpStatus {
    /// The underlay interface; empty where the reason concerns all.
    pub interface: String,
    /// Where it runs.
    pub mode: XdpAttachment,
    /// Why this mode, in a sentence.
    pub reason: String,
}

/// What goes past the network stack, through AF_XDP, on one queue of an interface.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AfXdpStatus {
    /// The underlay interface; empty where the reason concerns all.
    pub interface: String,
    /// Which of its receive queues; `None` where the reason concerns all of them.
    pub queue: Option<u32>,
    /// How it takes frames.
    pub mode: AfXdpSocket,
    /// Why this mode, in a sentence.
    pub reason: String,
    /// Frames received through it.
    pub received: u64,
    /// Frames sent through it: what is relayed and leaves by this interface, and small packets
    /// of the host's own.
    #[serde(default)]
    pub sent: u64,
    /// Frames lost because the ring was full.
    pub ring_full: u64,
    /// Frames lost because no memory was free for them.
    pub dropped: u64,
    /// How often the kernel looked for free memory and found none.
    pub fill_empty: u64,
}

/// How the TC programs guard the tunnel interface, and why it is so.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TcStatus {
    /// How they hang on it.
    pub mode: TcAttachment,
    /// Why this mode, in a sentence.
    pub reason: String,
}

/// Whether each worker gets the datagrams of its own sessions, and why it is so.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SteeringStatus {
    /// By what.
    pub mode: Steering,
    /// Why, in a sentence.
    pub reason: String,
}

impl SteeringStatus {
    /// There is nothing to steer.
    pub fn none() -> Self {
        Self {
            mode: Steering::None,
            reason: "there is one worker".into(),
        }
    }
}

/// Whether flows that send little have a queue of the TUN that is read before bulk.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SparseQueueStatus {
    /// Whether they have it.
    pub on: bool,
    /// Why, in a sentence.
    pub reason: String,
}

/// How the threads that move packets compete for the cores, and why it is so.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PriorityStatus {
    /// What the file asks for.
    pub wanted: Priority,
    /// What they have.
    pub mode: Priority,
    /// Why, in a sentence.
    pub reason: String,
    /// How often they lost realtime, as they left others nothing.
    pub demotions: u64,
}

impl Default for PriorityStatus {
    /// What a tunnel has that doesn't say so.
    fn default() -> Self {
        Self {
            wanted: Priority::Normal,
            mode: Priority::Normal,
            reason: String::new(),
            demotions: 0,
        }
    }
}

/// What leads a range of ports to the one we listen on, and why it is so.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortRangeStatus {
    /// The first port.
    pub first: u16,
    /// The last port, which is one of them.
    pub last: u16,
    /// By what.
    pub by: PortRangeBy,
    /// Why, in a sentence.
    pub reason: String,
    /// The interfaces whose XDP program does it.
    #[serde(default)]
    pub interfaces: Vec<String>,
    /// What does it on other interfaces; `None` where there is no other.
    #[serde(default)]
    pub elsewhere: Option<PortRangeBy>,
    /// Ports that other sockets of this host have: they keep them.
    pub left: Vec<u16>,
}

/// Ports of this host that lead to a peer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ForwardStatus {
    /// The ports, as the file has them.
    pub listen: String,
    /// The peer and its ports, as the file has them.
    pub to: String,
    /// The addresses and ports that these are.
    pub addresses: Vec<String>,
    /// Whose address the peer sees.
    pub source: SourceSeen,
    /// What leads there.
    pub by: ForwardedBy,
    /// What is amiss, in a sentence.
    pub reason: Option<String>,
    /// Ports that other programs of this host listen on, and that lead to the peer all the same.
    pub taken: Vec<u16>,
}

/// Rules, and the flows that they let start.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PolicyStatus {
    /// What happens where no rule matches.
    pub default: RuleAction,
    /// What that has decided.
    pub by_default: DefaultStatus,
    /// The rules, in the order of the file.
    pub rules: Vec<RuleStatus>,
    /// Packets that TC dropped, as no rule lets them through; no rule has counted them.
    pub denied_by_tc: u64,
    /// Flows by now.
    pub flows: u64,
    /// How many there may be.
    pub flows_max: u64,
    /// Flows that had to make room for others.
    pub flows_displaced: u64,
}

/// What was decided where no rule matched.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DefaultStatus {
    /// Flows that might start.
    pub allowed: u64,
    /// Packets that were dropped.
    pub denied: u64,
}

/// What a rule has decided since it was last changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RuleStatus {
    /// File and line.
    pub origin: String,
    /// Flows that it let start.
    pub allowed: u64,
    /// Packets that it dropped.
    pub denied: u64,
}

/// `taltun status --json` where nobody answers; the exit code says so as well.
#[derive(Debug, Clone, Serialize)]
pub struct NotRunning {
    /// [`VERSION`].
    pub version: u32,
    /// When this was so.
    pub timestamp: UnixTime,
    /// Always `false`.
    pub running: bool,
    /// The kill switches that tunnels left.
    pub kill_switches: Vec<SwitchLeft>,
    /// Why there may be more kill switches than these.
    pub cannot_look: Option<String>,
}

/// A kill switch of a tunnel that doesn't run.
#[derive(Debug, Clone, Serialize)]
pub struct SwitchLeft {
    /// The tunnel's interface.
    pub interface: String,
    /// What it does.
    pub state: SwitchLeftState,
    /// Why it is open, or can't be looked at.
    pub reason: Option<String>,
    /// The command that starts its tunnel; `None` where that isn't known.
    pub start: Option<String>,
    /// In another network namespace.
    pub elsewhere: bool,
}
