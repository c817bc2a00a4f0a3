//! The manual's page on the JSON, in both languages, has every field that is printed, and none
//! that isn't: compared with what serde makes of an example of each document.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde::Serialize;
use serde_json::Value;
use taltun_common::drops::DropReason;

use super::*;

/// The fields of a document, by their paths, each with the types that it has.
type Fields = BTreeMap<String, BTreeSet<&'static str>>;

/// A section of the page: a heading of the second level each, in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Section {
    Status,
    NotRunning,
    Stats,
    Usage,
    Explain,
    Trace,
    Peer,
    Ping,
    Fleet,
}

/// The documents in the order of the page's sections, each in examples that together show all types of all fields.
fn documents() -> [(Section, Fields); 9] {
    [
        (
            Section::Status,
            fields(&[
                json(&status(true)),
                json(&status(false)),
                json(&services_run()),
            ]),
        ),
        (
            Section::NotRunning,
            fields(&[not_running(true), not_running(false)]),
        ),
        (
            Section::Stats,
            fields(&[json(&stats(true)), json(&stats(false))]),
        ),
        (
            Section::Usage,
            fields(&[json(&usage(true)), json(&usage(false))]),
        ),
        (
            Section::Explain,
            fields(&[json(&explanation(true)), json(&explanation(false))]),
        ),
        (
            Section::Trace,
            fields(&[json(&traced(true)), json(&traced(false))]),
        ),
        (
            Section::Peer,
            fields(&[edited(Some(true)), edited(Some(false)), edited(None)]),
        ),
        (
            Section::Ping,
            fields(&[
                json(&ping(true, Some(true))),
                json(&ping(false, Some(false))),
                json(&ping(true, None)),
            ]),
        ),
        (
            Section::Fleet,
            fields(&[json(&fleet(true)), json(&fleet(false))]),
        ),
    ]
}

#[test]
fn the_page_has_every_field_with_its_types_and_no_other() {
    for page in ["json.md", "es/json.md"] {
        let text = page_of_manual(page);
        for (section, fields) in documents() {
            let rows = rows(&text, section);
            let documented: Vec<&str> = rows.iter().map(|row| row.path.as_str()).collect();
            for (path, types) in &fields {
                let row = rows.iter().find(|row| row.path == *path);
                let row = row.unwrap_or_else(|| panic!("{page}, {section:?}: there is no {path}"));
                let types: Vec<&str> = types.iter().copied().collect();
                assert_eq!(row.types, types.join(", "), "{page}, {section:?}: {path}");
            }
            for path in &documented {
                assert!(
                    fields.contains_key(*path),
                    "{page}, {section:?}: nothing prints {path}"
                );
            }
            let once: BTreeSet<&&str> = documented.iter().collect();
            assert_eq!(once.len(), documented.len(), "{page}, {section:?}: twice");
        }
    }
}

#[test]
fn the_page_has_every_word() {
    fn all<T: Copy + ToString>(words: &[T]) -> Vec<String> {
        words.iter().map(ToString::to_string).collect()
    }
    let status = Section::Status;
    for page in ["json.md", "es/json.md"] {
        let text = page_of_manual(page);
        for (section, path, words) in [
            (status, "mode", all(TunnelMode::ALL)),
            (status, "aead", all(Aead::ALL)),
            (status, "xdp[].mode", all(XdpAttachment::ALL)),
            (status, "af_xdp[].mode", all(AfXdpSocket::ALL)),
            (status, "tc.mode", all(TcAttachment::ALL)),
            (status, "steering.mode", all(Steering::ALL)),
            (status, "priority.wanted", all(Priority::ALL)),
            (status, "priority.mode", all(Priority::ALL)),
            (status, "peers[].problem.cause", all(ProblemCause::ALL)),
            (status, "peers[].paths[].state", all(PathUse::ALL)),
            (status, "host.put_back[].what", all(HostPart::ALL)),
            (status, "usage.kept", all(UsageKept::ALL)),
            (status, "audit.kept", all(AuditKept::ALL)),
            (status, "peers[].refused", all(RefusedBy::ALL)),
            (Section::Usage, "usage.kept", all(UsageKept::ALL)),
            (Section::Explain, "steps[].step", all(StepKind::ALL)),
            (Section::Trace, "verdict", all(TraceVerdict::ALL)),
            (Section::Trace, "place", all(TracePlace::ALL)),
            (
                Section::NotRunning,
                "kill_switches[].state",
                all(SwitchLeftState::ALL),
            ),
        ] {
            let rows = rows(&text, section);
            let row = rows.iter().find(|row| row.path == path).unwrap();
            for word in words {
                let word = format!("`{word}`");
                assert!(row.about.contains(&word), "{page}: {path} lacks {word}");
            }
        }
        assert!(text.contains(&format!("`version`: {VERSION}")), "{page}");
    }
}

/// A line of a table of the page.
struct Row {
    path: String,
    types: String,
    about: String,
}

fn page_of_manual(page: &str) -> String {
    let manual = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/manual");
    std::fs::read_to_string(manual.join(page)).unwrap()
}

/// The rows of a section.
fn rows(text: &str, section: Section) -> Vec<Row> {
    let sections: Vec<&str> = text.split("\n## ").skip(1).collect();
    assert_eq!(sections.len(), documents().len());
    let rows = sections[section as usize].lines();
    let rows = rows.filter_map(|line| {
        let (path, rest) = line.strip_prefix("| `")?.split_once("` | ")?;
        let (types, about) = rest.split_once(" | ")?;
        let text = ToOwned::to_owned;
        Some(Row {
            path: text(path),
            types: text(types),
            about: text(about),
        })
    });
    rows.collect()
}

fn fields(examples: &[Value]) -> Fields {
    let mut fields = Fields::new();
    for example in examples {
        walk(example, "", &mut fields);
    }
    for (path, types) in &fields {
        assert!(types.len() > 1 || !types.contains("null"), "{path}: null");
    }
    fields
}

/// Adds what is inside `value`, which is at `path`.
fn walk(value: &Value, path: &str, fields: &mut Fields) {
    match value {
        Value::Object(object) => {
            let by_reason = matches!(path.rsplit('.').next(), Some("drops" | "drops_last_minute"));
            if by_reason {
                let reasons = DropReason::ALL.iter().map(|reason| reason.label());
                let (reasons, keys): (BTreeSet<&str>, BTreeSet<&str>) = (
                    reasons.collect(),
                    object.keys().map(String::as_str).collect(),
                );
                assert_eq!(reasons, keys, "{path}");
            }
            for (key, inside) in object {
                let key = match path {
                    _ if by_reason => "REASON",
                    "udpgw.counters" => "NAME",
                    _ => key,
                };
                let dot = if path.is_empty() { "" } else { "." };
                let path = format!("{path}{dot}{key}");
                fields.entry(path.clone()).or_default().insert(kind(inside));
                walk(inside, &path, fields);
            }
        }
        Value::Array(list) => {
            for inside in list {
                walk(inside, &format!("{path}[]"), fields);
            }
        }
        _ => {}
    }
}

/// What the page calls its type.
fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(number) if number.is_f64() => "number",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(list) => match list.first().map(kind) {
            Some("string") => "list of strings",
            Some("object") => "list of objects",
            Some("integer") => "list of integers",
            other => panic!("a list of {other:?}"),
        },
        Value::Object(_) => "object",
    }
}

fn json(value: &impl Serialize) -> Value {
    serde_json::to_value(value).unwrap()
}

fn usage(full: bool) -> Usage {
    Usage {
        version: VERSION,
        timestamp: now(),
        interface: "hub".to_owned(),
        running: true,
        first_day: "2026-10-31".to_owned(),
        last_day: "2026-11-29".to_owned(),
        usage: kept(full),
        peers: vec![PeerUsage {
            name: full.then(|| "office".to_owned()),
            public_key: "OFFICE=".to_owned(),
            rx_bytes: 1,
            rx_packets: 1,
            tx_bytes: 1,
            tx_packets: 1,
            days: vec![DayUsage {
                day: "2026-11-29".to_owned(),
                rx_bytes: 1,
                rx_packets: 1,
                tx_bytes: 1,
                tx_packets: 1,
            }],
        }],
    }
}

fn problem() -> Problem {
    Problem {
        cause: ProblemCause::NoAnswer,
        message: "why".to_owned(),
        seconds_ago: 1.5,
    }
}

fn traced(full: bool) -> TracedPacket {
    let text = |text: &str| full.then(|| text.to_owned());
    TracedPacket {
        version: VERSION,
        timestamp: UnixTime::default(),
        verdict: TraceVerdict::Dropped,
        reason: full.then_some(DropReason::Rule),
        rule: text("hub.toml:8"),
        place: full.then_some(TracePlace::Relayed),
        from: text("ana"),
        to: text("berta"),
        outer: text("192.0.2.7:9"),
        protocol: text("tcp"),
        source: full.then_some([10, 0, 0, 2].into()),
        source_port: full.then_some(1234),
        destination: full.then_some([10, 0, 0, 3].into()),
        destination_port: full.then_some(80),
        packets: 1,
        bytes: full.then_some(60),
    }
}

fn ping(tunnel: bool, path: Option<bool>) -> Ping {
    let trips = |answered: bool| {
        let time = answered.then_some(0.001);
        RoundTrips {
            address: "10.0.0.2".parse().unwrap(),
            sent: 1,
            received: u64::from(answered),
            min_seconds: time,
            median_seconds: time,
            p99_seconds: time,
            max_seconds: time,
            problem: (!answered).then(String::new),
        }
    };
    Ping {
        version: VERSION,
        timestamp: now(),
        interface: "hub".to_owned(),
        peer: "ana".to_owned(),
        tunnel: trips(tunnel),
        path: path.map(trips),
    }
}

fn explanation(full: bool) -> Explanation {
    Explanation {
        version: VERSION,
        timestamp: now(),
        interface: "hub".to_owned(),
        from: "office".to_owned(),
        source: "192.0.2.1".parse().unwrap(),
        destination: "192.0.2.2".parse().unwrap(),
        service: "tcp/443".to_owned(),
        passes: !full,
        reason: full.then_some(DropReason::Rule),
        steps: vec![ExplainedStep {
            step: StepKind::Rules,
            passes: !full,
            why: "why".to_owned(),
            origin: full.then(|| "hub.toml:7".to_owned()),
        }],
    }
}

fn rate(full: bool) -> RateStatus {
    RateStatus {
        bits_per_second: full.then_some(1),
        waiting_packets: 1,
        waiting_bytes: 1,
        dropped_packets: 1,
    }
}

fn kept(full: bool) -> UsageStatus {
    UsageStatus {
        kept: UsageKept::Memory,
        reason: full.then(|| "why".to_owned()),
        clock: full.then(|| "why".to_owned()),
        keep_days: full.then_some(1),
    }
}

fn audit(full: bool) -> AuditStatus {
    AuditStatus {
        kept: AuditKept::Memory,
        reason: full.then(|| "why".to_owned()),
        lost: 1,
    }
}

fn now() -> UnixTime {
    UnixTime::from(1_795_909_552.125)
}

/// Both with a value for each field, for the tests of others.
pub(crate) fn full() -> (Status, Stats) {
    (status(true), stats(true))
}

/// A document with a value for each field, where `full`; else without what may be absent.
#[allow(
    clippy::too_many_lines,
    reason = "a value for each field that there is"
)]
fn status(full: bool) -> Status {
    let (address, endpoint) = (
        "192.0.2.1".parse().unwrap(),
        "192.0.2.1:9000".parse().unwrap(),
    );
    Status {
        version: VERSION,
        timestamp: now(),
        interface: "hub".to_owned(),
        mode: TunnelMode::Server,
        public_key: "HUB=".to_owned(),
        listen: endpoint,
        vip: vec![net()],
        fwmark: full.then_some(51820),
        mtu: 1420,
        aead: Aead::Ring,
        uptime_seconds: 5,
        started_at: now(),
        routes_around: vec![RouteAround {
            net: net(),
            interface: "eth0".to_owned(),
            refused: false,
            gateway: full.then_some(address),
            origin: RouteOrigin::Kernel,
        }],
        names_around: vec![NameAround {
            address,
            reason: "why".to_owned(),
        }],
        resolver: full.then(|| ResolverStatus {
            ended: Some("why".to_owned()),
        }),
        names: full.then(|| NamesStatus {
            domain: "vpn".to_owned(),
            names: 3,
        }),
        peers: vec![PeerStatus {
            name: full.then(|| "office".to_owned()),
            public_key: "OFFICE=".to_owned(),
            hub: false,
            preshared_key: true,
            endpoint: full.then_some(endpoint),
            endpoint_name: full.then(|| "office.example:9000".to_owned()),
            banned: vec![ban(full)],
            moves_between: vec![endpoint, endpoint],
            unreachable: full.then(|| "why".to_owned()),
            paths: vec![PathStatus {
                address,
                first_port: 1,
                last_port: 1,
                state: PathUse::Used,
                delay_seconds: full.then_some(1.5),
                loss_percent: full.then_some(1),
            }],
            allowed_ips: vec![net()],
            vip: vec![address],
            seen_seconds: full.then_some(1.5),
            latest_handshake_seconds: full.then_some(1.5),
            handshakes: 1,
            rx_bytes: 1,
            tx_bytes: 1,
            rates: full.then(PeerRates::default),
            persistent_keepalive: full.then_some(25),
            problem: full.then(problem),
            last_problem: full.then(problem),
            rate_up: full.then(|| rate(true)),
            rate_down: full.then(|| rate(true)),
            quota: full.then(|| QuotaStatus {
                bytes: 1,
                period: "month".to_owned(),
                used_bytes: 1,
                ends_at: now(),
            }),
            expires: full.then(|| "2026-12-31".to_owned()),
            refused: full.then_some(RefusedBy::Quota),
        }],
        xdp: vec![XdpStatus {
            interface: "eth0".to_owned(),
            mode: XdpAttachment::Driver,
            reason: "why".to_owned(),
        }],
        af_xdp: vec![AfXdpStatus {
            interface: "eth0".to_owned(),
            queue: full.then_some(0),
            mode: AfXdpSocket::Copy,
            reason: "why".to_owned(),
            received: 1,
            sent: 1,
            ring_full: 1,
            dropped: 1,
            fill_empty: 1,
        }],
        tc: TcStatus {
            mode: TcAttachment::Tcx,
            reason: "why".to_owned(),
        },
        steering: SteeringStatus::none(),
        sparse_queue: SparseQueueStatus::default(),
        priority: PriorityStatus::default(),
        port_range: full.then(|| PortRangeStatus {
            first: 1,
            last: 1,
            by: PortRangeBy::Xdp,
            reason: "why".to_owned(),
            interfaces: vec!["eth0".to_owned()],
            elsewhere: Some(PortRangeBy::Nftables),
            left: vec![1],
        }),
        forwards: vec![ForwardStatus {
            listen: "tcp/1".to_owned(),
            to: "who:1".to_owned(),
            addresses: vec!["where".to_owned()],
            source: SourceSeen::Hub,
            by: ForwardedBy::Nftables,
            reason: full.then(|| "why".to_owned()),
            taken: vec![1],
        }],
        uplink_bits_per_second: full.then_some(1),
        policy: full.then(|| PolicyStatus {
            default: RuleAction::Deny,
            by_default: DefaultStatus::default(),
            rules: vec![RuleStatus {
                origin: "hub.toml:9".to_owned(),
                allowed: 1,
                denied: 1,
            }],
            denied_by_tc: 1,
            flows: 1,
            flows_max: 1,
            flows_displaced: 1,
        }),
        drops: Drops::default(),
        drops_last_minute: Drops::default(),
        standing: Ways::default().map(|()| {
            full.then_some(Stood {
                median_seconds: 1.5,
                p99_seconds: 1.5,
            })
        }),
        bans: 1,
        unknown_keys: vec![UnknownKey {
            public_key: "WHO=".to_owned(),
            endpoint,
            tries: 1,
            seconds_ago: 1.5,
        }],
        host: full.then(|| HostStatus {
            kill_switch: true,
            default_routes: vec![net()],
            dns: vec![address],
            ip_forward: true,
            not_relayed: vec!["IPv6".to_owned()],
            put_back: vec![PutBack {
                what: HostPart::Routes,
                times: 1,
                seconds_ago: 1,
            }],
            missing: vec![Missing {
                what: HostPart::Routes,
                reason: "why".to_owned(),
            }],
        }),
        udpgw: full.then(|| UdpgwStatus {
            listen: vec![endpoint],
            clients: 1,
            max_clients: 1,
            connections: 1,
            ended: Some("why".to_owned()),
        }),
        metrics: full.then(|| MetricsStatus {
            listen: vec!["where".to_owned()],
            ended: Some("why".to_owned()),
        }),
        web: full.then(|| WebStatus {
            listen: vec!["where".to_owned()],
            ended: Some("why".to_owned()),
        }),
        usage: full.then(|| kept(true)),
        audit: full.then(|| audit(true)),
        rights: RightsStatus {
            capabilities: vec!["CAP_NET_ADMIN".to_owned()],
            packet_threads: PacketThreads {
                count: 1,
                capabilities: vec!["CAP_NET_RAW".to_owned()],
                seccomp: true,
                reason: full.then(|| "why".to_owned()),
                refused_calls: 1,
            },
            memory: MemoryStatus {
                locked: !full,
                reason: full.then(|| "why".to_owned()),
            },
            privileged: full.then(|| process_rights("taltun-verbs", full)),
            privileged_problem: (!full).then(|| "why".to_owned()),
            processes: vec![process_rights("taltun-metrics", full)],
        },
    }
}

fn process_rights(name: &str, full: bool) -> ProcessRights {
    ProcessRights {
        name: name.to_owned(),
        user: 65534,
        capabilities: vec!["CAP_NET_RAW".to_owned()],
        seccomp: true,
        landlock: true,
        reason: full.then(|| "why".to_owned()),
    }
}

fn services_run() -> Status {
    let gateway = status(true).udpgw;
    let peers = status(true).peers.into_iter().map(|peer| PeerStatus {
        rate_up: Some(rate(false)),
        rate_down: Some(rate(false)),
        ..peer
    });
    Status {
        udpgw: gateway.map(|gateway| UdpgwStatus {
            ended: None,
            ..gateway
        }),
        resolver: Some(ResolverStatus { ended: None }),
        rights: RightsStatus {
            privileged: Some(process_rights("taltun-verbs", false)),
            ..status(true).rights
        },
        metrics: Some(MetricsStatus {
            listen: vec!["where".to_owned()],
            ended: None,
        }),
        web: Some(WebStatus {
            listen: vec!["where".to_owned()],
            ended: None,
        }),
        // And the range leads to us in one way alone.
        port_range: status(true).port_range.map(|range| PortRangeStatus {
            elsewhere: None,
            ..range
        }),
        usage: Some(kept(false)),
        // Only the uplink limits them.
        peers: peers.collect(),
        audit: Some(audit(false)),
        ..status(true)
    }
}

fn not_running(full: bool) -> Value {
    json(&NotRunning {
        version: VERSION,
        timestamp: now(),
        running: false,
        kill_switches: vec![SwitchLeft {
            interface: "hub".to_owned(),
            state: SwitchLeftState::Holds,
            reason: full.then(|| "why".to_owned()),
            start: full.then(|| "taltun run".to_owned()),
            elsewhere: false,
        }],
        cannot_look: full.then(|| "why".to_owned()),
    })
}

fn stats(full: bool) -> Stats {
    let source = Source {
        addr: "192.0.2.1".parse().unwrap(),
        packets: 1,
        bytes: 1,
        drops: 1,
        reason: full.then_some(DropReason::Mac1),
    };
    Stats {
        rates: full.then(Rates::default),
        sources: vec![source.clone()],
        sources_inner: vec![source],
        denied: vec![net()],
        denied_inner: vec![net()],
        bans: vec![ban(full)],
        udpgw: full.then(|| UdpgwStats {
            clients: 1,
            connections: 1,
            counters: [("to_udp".to_owned(), 1)].into(),
        }),
        load: Load {
            threads: vec![ThreadLoad {
                name: "taltun-in-0".to_owned(),
                cpu_seconds: 1.5,
                waited_seconds: 0.5,
            }],
            sockets: vec![SocketLoad::default()],
            tunnel_queue_drops: full.then_some(1),
        },
        // Numbers and texts show their types as they are.
        ..Stats::default()
    }
}

/// With a client's part, with and without what may be absent in it, or without it.
fn edited(client: Option<bool>) -> Value {
    let text = client.map(|_| "text".to_owned());
    let edited = PeerEdited {
        version: VERSION,
        interface: "hub0".to_owned(),
        name: text.clone(),
        public_key: "KEY=".to_owned(),
        done: "done".to_owned(),
        undo: "undo".to_owned(),
        warnings: vec!["odd".to_owned()],
        client: client.map(self::client),
    };
    json(&PeerTold {
        edited: &edited,
        file: text.as_deref(),
    })
}

fn fleet(full: bool) -> FleetStatus {
    let text = |text: &str| full.then(|| text.to_owned());
    FleetStatus {
        version: VERSION,
        timestamp: now(),
        interface: "hub0".to_owned(),
        name: "example".to_owned(),
        hub: "madrid".to_owned(),
        joined: true,
        admin: true,
        admin_key: text("07"),
        to_sign: 1,
        etcd: EtcdStatus {
            connected: full,
            error: text("no answer"),
            revision: full.then_some(7),
            members: vec![EtcdMember {
                endpoint: "http://10.1.0.1:2379".to_owned(),
                answers: full.then_some(true),
                error: text("no answer"),
            }],
        },
        pending: 1,
        peers: 1,
        bans: 1,
        hubs: vec![HubStatus {
            name: "madrid".to_owned(),
            own: true,
            live: full,
            public_key: "KEY=".to_owned(),
            answers_as: "KEY=".to_owned(),
            shared_address: full.then(|| "192.0.2.10".parse().unwrap()),
            leads: full,
            leaving: full,
            admin: full,
            vip: vec!["10.0.0.1".parse().unwrap()],
            endpoints: vec!["192.0.2.1:9000".to_owned()],
            group: text("eu"),
            taltun: text("0.1.0"),
            since: full.then(now),
            clock_ahead_s: full.then_some(0.1),
            homes: 1,
            path: full.then_some(HubPath {
                up: true,
                loss: Some(0.1),
                delay_ms: Some(1.5),
            }),
        }],
        nudges: 1,
        saved_at: full.then(now),
        from_disk_at: full.then(now),
        problems: vec!["odd".to_owned()],
    }
}

fn client(full: bool) -> ClientAccess {
    ClientAccess {
        addresses: vec![net()],
        hub_public_key: "KEY=".to_owned(),
        hub_addresses: vec!["10.0.0.1".parse().unwrap()],
        endpoint: "192.0.2.1:9000".to_owned(),
        plain_endpoint: "192.0.2.1:9000".to_owned(),
        endpoint_is_guess: false,
        routes: vec![net()],
        dns: vec!["10.0.0.1".to_owned()],
        mtu: full.then_some(1420),
        persistent_keepalive: 25,
    }
}

fn ban(full: bool) -> BanStatus {
    BanStatus {
        net: net(),
        layer: Layer::Inner,
        configured: false,
        banned: true,
        seconds_left: full.then_some(5),
        ends_at: full.then(now),
        peers: vec!["office".to_owned()],
        remedy: "`taltun unban office`".to_owned(),
    }
}

fn net() -> IpNet {
    "10.0.0.0/24".parse().unwrap()
}
