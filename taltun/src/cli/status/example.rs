//! A tunnel with one of everything, for the tests.

use taltun_common::drops::DropReason;

use crate::layer::Layer;
use crate::report::*;

/// One of everything.
#[allow(
    clippy::too_many_lines,
    reason = "a value for each field that there is"
)]
pub(in crate::cli) fn hub() -> Status {
    Status {
        version: VERSION,
        timestamp: UnixTime::default(),
        interface: "hub".into(),
        mode: TunnelMode::Server,
        public_key: "HUB=".into(),
        listen: "[::]:9000".parse().unwrap(),
        vip: vec!["10.0.0.1/24".parse().unwrap()],
        fwmark: None,
        mtu: 1420,
        aead: Aead::Ring,
        uptime_seconds: 125,
        started_at: UnixTime::default(),
        routes_around: vec![RouteAround {
            net: "198.51.100.0/24".parse().unwrap(),
            interface: "eth0".into(),
            gateway: Some("192.0.2.1".parse().unwrap()),
            refused: false,
            origin: "dhcp".to_owned().into(),
        }],
        names_around: Vec::new(),
        peers: vec![
            PeerStatus {
                hub: false,
                name: Some("office".into()),
                public_key: "OFFICE=".into(),
                preshared_key: false,
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
                vip: Vec::new(),
                seen_seconds: Some(3.2),
                latest_handshake_seconds: Some(12.7),
                handshakes: 1,
                rx_bytes: 1_258_291,
                tx_bytes: 148,
                rates: Some(PeerRates {
                    rx_bytes: 312_500,
                    tx_bytes: 0,
                }),
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
                hub: false,
                name: None,
                public_key: "ROAMER=".into(),
                preshared_key: false,
                endpoint: None,
                endpoint_name: Some("vpn.example.invalid:9000".into()),
                banned: Vec::new(),
                moves_between: Vec::new(),
                unreachable: None,
                paths: Vec::new(),
                allowed_ips: vec![],
                vip: Vec::new(),
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
        sparse_queue: SparseQueueStatus {
            on: true,
            reason: "an eBPF program fills it".into(),
        },
        priority: PriorityStatus {
            wanted: Priority::Realtime,
            mode: Priority::High,
            reason: "why".into(),
            demotions: 2,
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
        drops_last_minute: [(DropReason::Mac1, 12)].into_iter().collect(),
        standing: Ways {
            tun_to_udp: Some(Stood {
                median_seconds: 16e-6,
                p99_seconds: 128e-6,
            }),
            udp_to_tun: None,
            udp_to_udp: Some(Stood {
                median_seconds: 64e-6,
                p99_seconds: 4096e-6,
            }),
        },
        bans: 2,
        host: None,
        resolver: Some(ResolverStatus {
            ended: Some("why".into()),
        }),
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
        web: Some(WebStatus {
            listen: vec!["10.0.0.1:8080".into()],
            ended: Some("why".into()),
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
        rights: RightsStatus {
            capabilities: vec!["CAP_NET_ADMIN".into(), "CAP_BPF".into()],
            packet_threads: PacketThreads {
                count: 5,
                seccomp: true,
                ..PacketThreads::default()
            },
            memory: MemoryStatus {
                locked: true,
                reason: None,
            },
            privileged: Some(ProcessRights {
                name: "taltun-verbs".into(),
                capabilities: vec!["CAP_NET_ADMIN".into(), "CAP_NET_RAW".into()],
                seccomp: true,
                landlock: true,
                ..ProcessRights::default()
            }),
            privileged_problem: Some("doesn't answer".into()),
            processes: vec![ProcessRights {
                name: "taltun-metrics".into(),
                user: 65534,
                seccomp: true,
                reason: Some("the kernel has no landlock".into()),
                ..ProcessRights::default()
            }],
        },
        unknown_keys: vec![UnknownKey {
            public_key: "WHO=".into(),
            endpoint: "192.0.2.4:7".parse().unwrap(),
            tries: 3,
            seconds_ago: 5.0,
        }],
    }
}
