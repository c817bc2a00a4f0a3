//! What `status` shows to people, much as `wg show` does.

use std::fmt::Write;
use std::net::IpAddr;
use std::time::Duration;

use super::limits;
use crate::cli::{host_line, human};
use crate::layer::Layer;
use crate::report::{
    Aead, AfXdpStatus, AuditStatus, BanStatus, ForwardStatus, ForwardedBy, MetricsStatus,
    NameAround, NamesStatus, PathStatus, PathUse, PeerStatus, PolicyStatus, PortRangeStatus,
    SourceSeen, Status, Steering, SteeringStatus, TunnelMode, UdpgwStatus, UnknownKey,
};
use crate::system::LeftSwitches;

pub(super) fn render(status: &Status, left: &LeftSwitches) -> String {
    let mut text = format!("interface: {}\n", status.interface);
    let vip: Vec<String> = status.vip.iter().map(ToString::to_string).collect();
    line(&mut text, "public key", &status.public_key);
    line(&mut text, "mode", mode(status.mode));
    line(&mut text, "listens on", &status.listen.to_string());
    if !vip.is_empty() {
        line(&mut text, "address", &vip.join(", "));
    }
    line(&mut text, "mtu", &status.mtu.to_string());
    line(&mut text, "cipher", &cipher(status.aead));
    line(&mut text, "up for", &human::span(status.uptime_seconds));
    for xdp in &status.xdp {
        let place = if xdp.interface.is_empty() {
            String::new()
        } else {
            format!("{}: ", xdp.interface)
        };
        line(
            &mut text,
            "xdp",
            &format!("{place}{} ({})", xdp.mode, xdp.reason),
        );
    }
    for queue in &status.af_xdp {
        line(&mut text, "af_xdp", &af_xdp(queue));
    }
    line(
        &mut text,
        "tc",
        &format!("{} ({})", status.tc.mode, status.tc.reason),
    );
    for told in status.host.iter().flat_map(host_line::render) {
        line(&mut text, "host", &told);
    }
    for told in left.found.iter().filter_map(host_line::of_another) {
        line(&mut text, "host", &told);
    }
    if let Some(NamesStatus { domain, names }) = &status.names {
        line(&mut text, "names", &format!("{names} in {domain}"));
    }
    if let Some(gateway) = &status.udpgw {
        line(&mut text, "udpgw", &udpgw(gateway));
    }
    if let Some(metrics) = &status.metrics {
        line(&mut text, "metrics", &self::metrics(metrics));
    }
    kept(&mut text, status);
    let steering = &status.steering;
    if steering.mode != Steering::None {
        let SteeringStatus { mode, reason } = steering;
        line(&mut text, "steering", &format!("{mode} ({reason})"));
    }
    if let Some(range) = &status.port_range {
        line(&mut text, "ports", &port_range(range));
    }
    for forward in &status.forwards {
        line(&mut text, "forward", &self::forward(forward));
    }
    if let Some(policy) = &status.policy {
        line(&mut text, "rules", &self::policy(policy));
    }
    if let Some(uplink) = status.uplink_bits_per_second {
        line(&mut text, "uplink", &limits::bits(uplink));
    }
    let drops = status.drops.largest_first();
    if !drops.is_empty() {
        let drops: Vec<String> = drops
            .into_iter()
            .map(|(reason, count)| format!("{} {}", human::count(count), reason.label()))
            .collect();
        line(&mut text, "dropped", &drops.join(", "));
    }
    for route in &status.routes_around {
        let route = if route.refused {
            format!("{route}, refused by the kill switch")
        } else {
            route.to_string()
        };
        line(&mut text, "goes around", &route);
    }
    for NameAround { address, reason } in &status.names_around {
        line(&mut text, "goes around", &format!("{address}: {reason}"));
    }
    for peer in &status.peers {
        render_peer(&mut text, peer);
    }
    render_unknown(&mut text, &status.unknown_keys);
    text
}

/// Peers alone, with what went wrong with them before.
pub(super) fn render_peers(peers: &[PeerStatus]) -> String {
    let mut text = String::new();
    for peer in peers {
        render_peer(&mut text, peer);
        if let Some(problem) = &peer.last_problem {
            let ago = human::span(whole(problem.seconds_ago));
            let told = format!("{} ({ago} ago, over)", problem.message);
            line(&mut text, "last problem", &told);
        }
    }
    text.trim_start().to_owned()
}

/// The keys that tried and are of no peer.
fn render_unknown(text: &mut String, keys: &[UnknownKey]) {
    if !keys.is_empty() {
        text.push_str("\nunknown keys that tried:\n");
    }
    for unknown in keys {
        let ago = human::span(whole(unknown.seconds_ago));
        let times = if unknown.tries == 1 { "time" } else { "times" };
        let _ = writeln!(
            text,
            "  {} from {}, {} {times}, last {ago} ago",
            unknown.public_key, unknown.endpoint, unknown.tries
        );
    }
}

/// What decides about the tunnel.
fn mode(mode: TunnelMode) -> &'static str {
    match mode {
        TunnelMode::Plain => "made by its name; its addresses and routes are set by others",
        other => other.word(),
    }
}

/// The cipher, and what does its arithmetic.
fn cipher(aead: Aead) -> String {
    let by = match aead {
        Aead::Avx512 => "AVX-512",
        other => other.word(),
    };
    format!("ChaCha20-Poly1305 ({by})")
}

fn af_xdp(queue: &AfXdpStatus) -> String {
    let mut text = String::new();
    if !queue.interface.is_empty() {
        text = format!("{}: ", queue.interface);
    }
    if let Some(number) = queue.queue {
        text = format!("{} queue {number}: ", queue.interface);
    }
    let _ = write!(text, "{} ({})", queue.mode, queue.reason);
    if queue.received > 0 {
        let received = human::count(queue.received);
        let _ = write!(
            text,
            ", {received} frames in, {} out",
            human::count(queue.sent)
        );
    }
    let lost = queue.ring_full + queue.dropped;
    if lost > 0 {
        let _ = write!(text, ", {} lost", human::count(lost));
    }
    text
}

fn port_range(range: &PortRangeStatus) -> String {
    let by = match range.elsewhere {
        Some(elsewhere) => format!(
            "{} on {}, {elsewhere} elsewhere",
            range.by,
            range.interfaces.join(", ")
        ),
        None => range.by.to_string(),
    };
    let mut text = format!("{}-{}: {by} ({})", range.first, range.last, range.reason);
    if !range.left.is_empty() {
        let left: Vec<String> = range.left.iter().map(u16::to_string).collect();
        let _ = write!(text, ", left to other programs: {}", left.join(", "));
    }
    text
}

fn forward(forward: &ForwardStatus) -> String {
    let ForwardStatus { listen, to, by, .. } = forward;
    let mut text = format!("{listen} -> {to}");
    match (by, &forward.reason) {
        (ForwardedBy::None, Some(reason)) => {
            let _ = write!(text, ", not open: {reason}");
        }
        (_, reason) => {
            let _ = write!(text, " ({by})");
            if forward.source == SourceSeen::Keep {
                text.push_str(", the sender's address is kept");
            }
            if let Some(reason) = reason {
                let _ = write!(text, ", {reason}");
            }
        }
    }
    if !forward.taken.is_empty() {
        let taken: Vec<String> = forward.taken.iter().map(u16::to_string).collect();
        let _ = write!(text, ", kept from other programs: {}", taken.join(", "));
    }
    text
}

fn policy(policy: &PolicyStatus) -> String {
    let denied: u64 = policy.rules.iter().map(|rule| rule.denied).sum();
    let mut text = format!(
        "{}, default {}: {} of {} flows, {} packets denied",
        human::count(policy.rules.len() as u64),
        policy.default,
        human::count(policy.flows),
        human::count(policy.flows_max),
        human::count(denied + policy.by_default.denied + policy.denied_by_tc),
    );
    if policy.flows_displaced > 0 {
        let _ = write!(
            text,
            ", {} flows made room for others",
            human::count(policy.flows_displaced)
        );
    }
    text
}

fn metrics(metrics: &MetricsStatus) -> String {
    let listen = metrics.listen.join(", ");
    match &metrics.ended {
        Some(reason) => format!("{listen}: doesn't answer: {reason}"),
        None => listen,
    }
}

/// What isn't kept as it should be.
fn kept(text: &mut String, status: &Status) {
    if let Some(reason) = status.usage.iter().find_map(|it| it.reason.as_ref()) {
        line(text, "usage", &format!("in memory only: {reason}"));
    }
    if let Some(trouble) = status.usage.iter().find_map(|it| it.clock.as_ref()) {
        line(text, "day", &format!("NOT THE CLOCK'S: {trouble}"));
    }
    if let Some(told) = status.audit.as_ref().and_then(audit) {
        line(text, "audit", &told);
    }
}

/// Nothing while each change is written down.
fn audit(audit: &AuditStatus) -> Option<String> {
    let reason = audit.reason.as_ref();
    let lost = (audit.lost > 0).then(|| format!("{} lost", human::counted(audit.lost, "change")));
    let reason = reason.map(|reason| format!("in memory only: {reason}"));
    let told: Vec<String> = reason.into_iter().chain(lost).collect();
    (!told.is_empty()).then(|| told.join("; "))
}

fn udpgw(gateway: &UdpgwStatus) -> String {
    let listen: Vec<String> = gateway.listen.iter().map(ToString::to_string).collect();
    let listen = listen.join(", ");
    match &gateway.ended {
        Some(reason) => format!("{listen}: doesn't run: {reason}"),
        None => format!(
            "{listen}: {} of at most {} clients, {} {}",
            human::count(gateway.clients),
            human::count(gateway.max_clients),
            human::count(gateway.connections),
            if gateway.connections == 1 {
                "connection"
            } else {
                "connections"
            }
        ),
    }
}

fn render_peer(text: &mut String, peer: &PeerStatus) {
    let title = peer.name.as_deref().unwrap_or(&peer.public_key);
    // Writing to a String can't fail.
    let _ = writeln!(text, "\npeer: {title}");
    if peer.name.is_some() {
        line(text, "public key", &peer.public_key);
    }
    if let Some(endpoint) = peer.endpoint {
        let unreachable = peer.unreachable.as_ref();
        let unreachable = unreachable.map_or_else(String::new, |reason| format!(" ({reason})"));
        line(text, "endpoint", &format!("{endpoint}{unreachable}"));
    } else if let Some(name) = &peer.endpoint_name {
        line(text, "endpoint", &format!("{name} (not resolved)"));
    }
    if let [one, other] = peer.moves_between[..] {
        line(
            text,
            "warning",
            &format!("moves between {one} and {other}; do two machines have its key?"),
        );
    }
    for path in &peer.paths {
        line(text, "path", &render_path(path));
    }
    let allowed: Vec<String> = peer.allowed_ips.iter().map(ToString::to_string).collect();
    let allowed = if allowed.is_empty() {
        "(none)".into()
    } else {
        allowed.join(", ")
    };
    line(text, "allowed ips", &allowed);
    let handshake = match peer.latest_handshake_seconds {
        Some(seconds) if seconds < 1.0 => "now".into(),
        Some(seconds) => format!("{} ago", human::span(whole(seconds))),
        None => "never".into(),
    };
    line(text, "latest handshake", &handshake);
    if let Some(problem) = &peer.problem {
        let ago = human::span(whole(problem.seconds_ago));
        line(text, "problem", &format!("{} ({ago} ago)", problem.message));
    }
    for ban in &peer.banned {
        line(text, "banned", &banned(ban));
    }
    for told in limits::of_peer(peer) {
        line(text, "limit", &told);
    }
    line(
        text,
        "transfer",
        &format!(
            "{} received, {} sent",
            human::bytes(peer.rx_bytes),
            human::bytes(peer.tx_bytes)
        ),
    );
    if let Some(seconds) = peer.persistent_keepalive {
        line(
            text,
            "keepalive",
            &format!("every {}", human::span(u64::from(seconds))),
        );
    }
}

fn render_path(path: &PathStatus) -> String {
    let mut text = match path.address {
        IpAddr::V4(address) => format!("{address}:{}", path.first_port),
        IpAddr::V6(address) => format!("[{address}]:{}", path.first_port),
    };
    // Writing to a String can't fail.
    if path.last_port != path.first_port {
        let _ = write!(text, "-{}", path.last_port);
    }
    text.push_str(match path.state {
        PathUse::Used => ", in use",
        PathUse::Ready => ", ready",
        PathUse::SetAside => ", set aside",
        PathUse::Silent => ", no answer",
        PathUse::Unknown => ", not probed",
    });
    if let Some(seconds) = path.delay_seconds {
        let _ = write!(text, ", {:.1} ms", seconds * 1e3);
    }
    if let Some(loss) = path.loss_percent {
        let _ = write!(text, ", {loss} % lost");
    }
    text
}

fn banned(ban: &BanStatus) -> String {
    let inside = match ban.layer {
        Layer::Outer => "",
        Layer::Inner => " inside the tunnel",
    };
    let until = human::until(ban);
    format!("{}{inside}, {until}; to end it: {}", ban.net, ban.remedy)
}

/// Whole seconds are all that anybody reads; the fraction is for programs.
fn whole(seconds: f64) -> u64 {
    Duration::try_from_secs_f64(seconds).map_or(0, |span| span.as_secs())
}

fn line(text: &mut String, name: &str, value: &str) {
    let _ = writeln!(text, "  {:<17} {value}", format!("{name}:"));
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use taltun_common::drops::DropReason;

    use crate::report::{
        AfXdpSocket, AuditKept, DefaultStatus, Drops, PortRangeBy, Problem, ProblemCause, QuotaStatus,
        RateStatus, RefusedBy, RuleAction, RuleStatus, TcAttachment, TcStatus, UnixTime, UsageKept,
        UsageStatus, VERSION, XdpAttachment, XdpStatus,
    };

    /// One of everything.
    #[allow(
        clippy::too_many_lines,
        reason = "a value for each field that there is"
    )]
    pub(in crate::cli::status) fn hub() -> Status {
        Status {
            version: VERSION,
            timestamp: UnixTime::default(),
            interface: "hub".into(),
            mode: TunnelMode::Server,
            public_key: "HUB=".into(),
            listen: "[::]:9000".parse().unwrap(),
            vip: vec!["10.0.0.1/24".parse().unwrap()],
            mtu: 1420,
            aead: Aead::Ring,
            uptime_seconds: 125,
            started_at: UnixTime::default(),
            routes_around: vec![crate::report::RouteAround {
                net: "198.51.100.0/24".parse().unwrap(),
                interface: "eth0".into(),
                gateway: Some("192.0.2.1".parse().unwrap()),
                refused: false,
                origin: "dhcp".to_owned().into(),
            }],
            names_around: Vec::new(),
            peers: vec![
                PeerStatus {
                    name: Some("office".into()),
                    public_key: "OFFICE=".into(),
                    endpoint: Some("203.0.113.1:9000".parse().unwrap()),
                    endpoint_name: Some("office.example.net:9000".into()),
                    banned: vec![BanStatus {
                        net: "10.0.0.2/32".parse().unwrap(),
                        layer: Layer::Inner,
                        configured: false,
                        banned: true,
                        seconds_left: Some(100),
                        ends_at: None,
                        peers: vec!["office".into()],
                        remedy: "`taltun unban office`".into(),
                    }],
                    moves_between: Vec::new(),
                    unreachable: Some("no route to 203.0.113.1".into()),
                    paths: vec![
                        PathStatus {
                            address: "203.0.113.1".parse().unwrap(),
                            first_port: 4096,
                            last_port: 8191,
                            state: PathUse::Used,
                            delay_seconds: Some(0.0234),
                            loss_percent: Some(5),
                        },
                        PathStatus {
                            address: "2001:db8::1".parse().unwrap(),
                            first_port: 9000,
                            last_port: 9000,
                            state: PathUse::Silent,
                            delay_seconds: None,
                            loss_percent: None,
                        },
                    ],
                    allowed_ips: vec![
                        "10.0.0.2/32".parse().unwrap(),
                        "192.168.50.0/24".parse().unwrap(),
                    ],
                    seen_seconds: Some(3.2),
                    latest_handshake_seconds: Some(12.7),
                    handshakes: 1,
                    rx_bytes: 1_258_291,
                    tx_bytes: 148,
                    rates: None,
                    persistent_keepalive: Some(25),
                    problem: None,
                    last_problem: None,
                    rate_up: Some(RateStatus {
                        bits_per_second: Some(1_500_000),
                        waiting_packets: 0,
                        waiting_bytes: 0,
                        dropped_packets: 0,
                    }),
                    rate_down: Some(RateStatus {
                        bits_per_second: Some(20_000_000),
                        waiting_packets: 42,
                        waiting_bytes: 59_500,
                        dropped_packets: 1204,
                    }),
                    quota: Some(QuotaStatus {
                        bytes: 100 << 30,
                        period: "month".into(),
                        used_bytes: 101 << 30,
                        ends_at: UnixTime::default(),
                    }),
                    expires: Some("2026-12-31".into()),
                    refused: Some(RefusedBy::Quota),
                },
                PeerStatus {
                    name: None,
                    public_key: "ROAMER=".into(),
                    endpoint: None,
                    endpoint_name: Some("vpn.example.invalid:9000".into()),
                    banned: Vec::new(),
                    moves_between: Vec::new(),
                    unreachable: None,
                    paths: Vec::new(),
                    allowed_ips: vec![],
                    seen_seconds: None,
                    latest_handshake_seconds: None,
                    handshakes: 0,
                    rx_bytes: 0,
                    tx_bytes: 0,
                    rates: None,
                    persistent_keepalive: None,
                    problem: Some(Problem {
                        cause: ProblemCause::PortClosed,
                        message: "nobody listens at that port".into(),
                        seconds_ago: 3.4,
                    }),
                    last_problem: None,
                    rate_up: None,
                    rate_down: Some(RateStatus {
                        bits_per_second: None,
                        waiting_packets: 1,
                        waiting_bytes: 1420,
                        dropped_packets: 0,
                    }),
                    quota: Some(QuotaStatus {
                        bytes: 1 << 30,
                        period: "day".into(),
                        used_bytes: 1 << 28,
                        ends_at: UnixTime::default(),
                    }),
                    expires: None,
                    refused: None,
                },
            ],
            xdp: vec![XdpStatus {
                interface: "eth0".into(),
                mode: XdpAttachment::Driver,
                reason: "the driver supports it".into(),
            }],
            af_xdp: vec![
                AfXdpStatus {
                    interface: "eth0".into(),
                    queue: Some(1),
                    mode: AfXdpSocket::Copy,
                    reason: "asked for".into(),
                    received: 12_345,
                    sent: 67,
                    ring_full: 3,
                    dropped: 4,
                    fill_empty: 0,
                },
                AfXdpStatus {
                    interface: String::new(),
                    queue: None,
                    mode: AfXdpSocket::Off,
                    reason: "switched off".into(),
                    received: 0,
                    sent: 0,
                    ring_full: 0,
                    dropped: 0,
                    fill_empty: 0,
                },
            ],
            tc: TcStatus {
                mode: TcAttachment::Tcx,
                reason: "the kernel has it".into(),
            },
            steering: SteeringStatus {
                mode: Steering::Ebpf,
                reason: "4 workers share the port".into(),
            },
            port_range: Some(PortRangeStatus {
                first: 4096,
                last: 8191,
                by: PortRangeBy::Nftables,
                reason: "no XDP program is attached".into(),
                interfaces: Vec::new(),
                elsewhere: None,
                left: vec![5353, 8125],
            }),
            forwards: vec![
                ForwardStatus {
                    listen: "tcp/8443".into(),
                    to: "office:443".into(),
                    addresses: vec!["10.0.0.2:443".into()],
                    source: SourceSeen::Keep,
                    by: ForwardedBy::Iptables,
                    reason: Some("no interface has it".into()),
                    taken: vec![8443],
                },
                ForwardStatus {
                    listen: "udp/9000".into(),
                    to: "office:9000".into(),
                    addresses: vec!["10.0.0.2:9000".into()],
                    source: SourceSeen::Hub,
                    by: ForwardedBy::None,
                    reason: Some("the tunnel itself listens there".into()),
                    taken: Vec::new(),
                },
            ],
            policy: Some(PolicyStatus {
                default: RuleAction::Deny,
                by_default: DefaultStatus {
                    allowed: 0,
                    denied: 1000,
                },
                rules: vec![
                    RuleStatus {
                        origin: "hub.toml:21".into(),
                        allowed: 7,
                        denied: 0,
                    },
                    RuleStatus {
                        origin: "hub.toml:26".into(),
                        allowed: 0,
                        denied: 34,
                    },
                ],
                denied_by_tc: 200,
                flows: 12,
                flows_max: 262_144,
                flows_displaced: 0,
            }),
            uplink_bits_per_second: Some(95_000_000),
            drops: [(DropReason::Denied, 3), (DropReason::Mac1, 1200)]
                .into_iter()
                .collect(),
            drops_last_minute: Drops::default(),
            bans: 0,
            host: None,
            names: Some(NamesStatus {
                domain: "vpn".into(),
                names: 13,
            }),
            udpgw: Some(UdpgwStatus {
                listen: vec!["10.0.0.1:7300".parse().unwrap()],
                clients: 3,
                max_clients: 1000,
                connections: 12,
                ended: None,
            }),
            metrics: Some(MetricsStatus {
                listen: vec!["127.0.0.1:9586".into()],
                ended: None,
            }),
            usage: Some(UsageStatus {
                kept: UsageKept::Memory,
                reason: Some("the disk is full".into()),
                clock: Some("the clock shows 2026-11-29".into()),
                keep_days: Some(400),
            }),
            audit: Some(AuditStatus {
                kept: AuditKept::Memory,
                reason: Some("the disk is full".into()),
                lost: 2,
            }),
            unknown_keys: vec![UnknownKey {
                public_key: "WHO=".into(),
                endpoint: "192.0.2.4:7".parse().unwrap(),
                tries: 3,
                seconds_ago: 5.0,
            }],
        }
    }

    #[test]
    fn a_status_reads_like_wg_show() {
        assert_eq!(
            render(&hub(), &LeftSwitches::default()),
            "\
interface: hub
  public key:       HUB=
  mode:             server
  listens on:       [::]:9000
  address:          10.0.0.1/24
  mtu:              1420
  cipher:           ChaCha20-Poly1305 (ring)
  up for:           2 minutes, 5 seconds
  xdp:              eth0: driver (the driver supports it)
  af_xdp:           eth0 queue 1: copy (asked for), 12,345 frames in, 67 out, 7 lost
  af_xdp:           off (switched off)
  tc:               tcx (the kernel has it)
  names:            13 in vpn
  udpgw:            10.0.0.1:7300: 3 of at most 1,000 clients, 12 connections
  metrics:          127.0.0.1:9586
  usage:            in memory only: the disk is full
  day:              NOT THE CLOCK'S: the clock shows 2026-11-29
  audit:            in memory only: the disk is full; 2 changes lost
  steering:         ebpf (4 workers share the port)
  ports:            4096-8191: nftables (no XDP program is attached), left to other programs: 5353, 8125
  forward:          tcp/8443 -> office:443 (iptables), the sender's address is kept, no interface has it, kept from other programs: 8443
  forward:          udp/9000 -> office:9000, not open: the tunnel itself listens there
  rules:            2, default deny: 12 of 262,144 flows, 1,234 packets denied
  uplink:           95 Mbit/s
  dropped:          1,200 mac1, 3 denied
  goes around:      198.51.100.0/24 via 192.0.2.1 dev eth0 (dhcp)

peer: office
  public key:       OFFICE=
  endpoint:         203.0.113.1:9000 (no route to 203.0.113.1)
  path:             203.0.113.1:4096-8191, in use, 23.4 ms, 5 % lost
  path:             [2001:db8::1]:9000, no answer
  allowed ips:      10.0.0.2/32, 192.168.50.0/24
  latest handshake: 12 seconds ago
  banned:           10.0.0.2/32 inside the tunnel, for another 1 minute, 40 seconds; to end it: `taltun unban office`
  limit:            1.5 Mbit/s from it
  limit:            20 Mbit/s to it: 42 packets waiting (58.1 KiB), 1,204 dropped
  limit:            101.0 GiB of 100.0 GiB this month; REFUSED
  limit:            to the end of 2026-12-31 (UTC)
  transfer:         1.2 MiB received, 148 B sent
  keepalive:        every 25 seconds

peer: ROAMER=
  endpoint:         vpn.example.invalid:9000 (not resolved)
  allowed ips:      (none)
  latest handshake: never
  problem:          nobody listens at that port (3 seconds ago)
  limit:            uplink, to it: 1 packet waiting (1.4 KiB)
  limit:            256.0 MiB of 1.0 GiB today, 768.0 MiB left
  transfer:         0 B received, 0 B sent

unknown keys that tried:
  WHO= from 192.0.2.4:7, 3 times, last 5 seconds ago
"
        );
    }
}
