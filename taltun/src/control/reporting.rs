//! What the controller tells of itself: `status` and `stats`. It reads, and changes nothing.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;

use ipnet::IpNet;
use tokio::sync::watch;

use super::audit::Audit;
use super::bans::Bans;
use super::diagnosis::Diagnosis;
use super::dns_routes::RoutedNames;
use super::flaps::Flaps;
use super::forwards::Forwards;
use super::gateway::Gateway;
use super::hop;
use super::kernel_relay;
use super::ledger::Ledger;
use super::limits::{self, Limits, Refusal};
use super::load;
use super::metrics::{self, Metrics};
use super::name_service::NameService;
use super::origin::TunnelKind;
use super::overview::Looked;
use super::peers::Peers;
use super::port_range::LedPorts;
use super::rate_meter::RateMeter;
use super::request;
use super::rules::FiledRules;
use super::shaping::FiledRates;
use super::underlay::Underlay;
use super::web::Web;
use crate::accel::Shield;
use crate::config::{Config, Endpoint, Mode, PeerLimits, Rate};
use crate::crypto::{AeadKey, BackEnd, PublicKey};
use crate::dataplane::clock;
use crate::dataplane::data_plane::DataPlane;
use crate::dataplane::relay_pairs::Relayed;
use crate::layer::Layer;
use crate::name_service::Zone;
use crate::os::{capabilities, locked_memory};
use crate::protocol::device::Device;
use crate::protocol::messages::REJECT_AFTER_TIME;
use crate::protocol::peer::Peer;
use crate::protocol::time::Time;
use crate::report::{
    Aead, Drops, Fallbacks, HostStatus, Load, MemoryStatus, Overview, PeerStatus, ProcessRights,
    QuotaStatus, RelayPair, ResolverStatus, RightsStatus, RouteAround, Source, Stats, Status,
    TunnelMode, UnixTime, VERSION,
};
use crate::system::Kept;
use crate::verbs;

/// Sources that `stats` tells at most.
const MOST_SOURCES: usize = 1024;
/// Sources that are looked at for a screen, which asks each second: under a flood from more than these
/// none of them matters.
const SOURCES_LOOKED_AT: usize = 1024;

/// All that is told of.
#[derive(Clone, Copy)]
pub(super) struct View<'a> {
    pub kind: TunnelKind,
    /// The file that the configuration is from, if there is one.
    pub file: Option<&'a Path>,
    pub started: Time,
    /// The same by the wall clock of that moment.
    pub started_at: UnixTime,
    pub config: &'a Config,
    pub device: &'a Device,
    pub peers: &'a Peers,
    pub data_plane: &'a DataPlane,
    pub shield: &'a Shield,
    pub bans: &'a Bans,
    pub names: Option<&'a RoutedNames>,
    pub zone: Option<&'a watch::Sender<Arc<Zone>>>,
    pub diagnosis: &'a Diagnosis,
    pub flaps: &'a Flaps,
    pub gateway: &'a Gateway,
    pub privileged: &'a Result<ProcessRights, String>,
    pub metrics: Option<&'a Metrics>,
    pub name_service: Option<&'a NameService>,
    pub web: Option<&'a Web>,
    pub led_ports: &'a LedPorts,
    pub forwards: &'a Forwards,
    pub rules: &'a FiledRules,
    pub rates: &'a RateMeter,
    pub filed_rates: &'a FiledRates,
    pub underlay: &'a Underlay,
    /// What of the host's set-up others took away, where there is one.
    pub kept: Option<&'a Kept>,
    pub ledger: Option<&'a Ledger>,
    pub audit: &'a Audit,
    pub limits: &'a Limits,
}

impl View<'_> {
    /// Who we are and how the peers are.
    pub(super) fn status(&self) -> Status {
        let now = clock::now();
        let mut peers: Vec<(usize, PeerStatus)> = self
            .device
            .peers()
            .map(|peer| {
                let nets = self.device.allowed_ips_of(peer.id()).collect();
                let (order, nets) = self.in_file_order(peer.public_key(), nets);
                (order, self.peer_status(peer, nets, now))
            })
            .collect();
        peers.sort_by_key(|(order, _)| *order);
        self.status_with(peers.into_iter().map(|(_, status)| status).collect())
    }

    /// As much of the status and the statistics as a screen shows.
    pub(super) fn overview(&self, asked: &request::Overview) -> Overview {
        let now = clock::now();
        let looked = Looked {
            device: self.device,
            peers: self.peers,
            rates: self.rates,
            now,
        };
        let find = asked.find.as_deref();
        let (skip, most) = (asked.skip as usize, asked.peers as usize);
        let chosen = looked.choose(asked.order, find, skip, most);
        let peers = chosen.shown.into_iter().map(|peer| {
            let nets = self.device.allowed_ips_of(peer.id()).collect();
            let (_, nets) = self.in_file_order(peer.public_key(), nets);
            self.peer_status(peer, nets, now)
        });
        let most = (asked.sources as usize).min(MOST_SOURCES);
        let (mut outer, inner) = (
            self.shield.some_sources(Layer::Outer, SOURCES_LOOKED_AT),
            self.shield.some_sources(Layer::Inner, SOURCES_LOOKED_AT),
        );
        outer.sort_by_key(|source| std::cmp::Reverse(source.packets));
        outer.truncate(most);
        Overview {
            file: self.file.and_then(|file| std::path::absolute(file).ok()),
            status: self.status_with(peers.collect()),
            // Who is busy with what is a question for `stats`.
            stats: self.stats_with(outer, self.inner_sources(inner, most), Load::default()),
            peers: chosen.counts,
            found: chosen.found as u64,
            pairs: self.relay_pairs((asked.pairs as usize).min(MOST_SOURCES)),
        }
    }

    /// Who sends most to whom by the relay, by their names. Who asks sees to it that it goes on
    /// being counted.
    fn relay_pairs(&self, most: usize) -> Vec<RelayPair> {
        if most == 0 {
            return Vec::new();
        }
        let batch = self.device.tunnel().batch(clock::now());
        let name = |address: IpAddr| {
            let (peer, _) = batch.peer_behind(address)?;
            Some(self.peers.label(peer.public_key()))
        };
        let mut all: HashMap<(String, String), Relayed> = HashMap::new();
        for ((from, to), relayed) in self.data_plane.look_at_pairs() {
            // Who was removed meanwhile sends nothing any more.
            if let (Some(from), Some(to)) = (name(from), name(to)) {
                all.entry((from, to)).or_default().take_in(relayed);
            }
        }
        let pairs = all.into_iter().map(|((from, to), relayed)| RelayPair {
            from,
            to,
            packets: relayed.packets,
            bytes: relayed.bytes,
        });
        let mut pairs: Vec<RelayPair> = pairs.collect();
        pairs.sort_by_key(|pair| std::cmp::Reverse(pair.bytes));
        pairs.truncate(most);
        pairs
    }

    /// The status with these peers.
    pub(super) fn status_with(&self, peers: Vec<PeerStatus>) -> Status {
        let now = clock::now();
        let interface = &self.config.interface;
        Status {
            version: VERSION,
            timestamp: UnixTime::at(clock::wall()),
            interface: interface.tun_name.clone(),
            mode: match (self.kind, interface.mode) {
                (TunnelKind::Plain, _) => TunnelMode::Plain,
                (TunnelKind::Configured, Mode::Server) => TunnelMode::Server,
                (TunnelKind::Configured, Mode::Client) => TunnelMode::Client,
            },
            public_key: match self.device.private_key() {
                Some(_) => self.device.public_key().to_string(),
                None => "(none)".to_owned(),
            },
            listen: self.data_plane.listen_address(),
            vip: interface.vip.clone(),
            fwmark: Some(self.data_plane.mark()).filter(|mark| *mark != 0),
            mtu: self.device.tunnel().mtu() as u16,
            aead: match AeadKey::back_end() {
                BackEnd::Avx512 => Aead::Avx512,
                BackEnd::Ring | BackEnd::Avx2 => Aead::Ring,
                BackEnd::Portable => Aead::Portable,
            },
            uptime_seconds: now.since(self.started).as_secs(),
            started_at: self.started_at,
            routes_around: self.routes_around(),
            names_around: self.names.map(RoutedNames::around).unwrap_or_default(),
            names: self.zone.map(|zone| zone.borrow().status()),
            resolver: self.name_service.map(|service| ResolverStatus {
                ended: service.ended(),
            }),
            peers,
            xdp: self.shield.status(),
            af_xdp: self.data_plane.lanes_status(self.shield),
            tc: self.shield.tunnel_status(),
            steering: self.data_plane.steering_status(self.shield),
            sparse_queue: self.data_plane.sparse_queue_status(),
            priority: self.data_plane.priority_status(),
            port_range: self.led_ports.status(),
            forwards: self.forwards.status().to_vec(),
            policy: self.rules.status(self.shield),
            uplink_bits_per_second: self.config.shaping.uplink.map(Rate::bits),
            drops: self.drops(),
            drops_last_minute: self.rates.drops_last_minute(),
            standing: self.rates.stood(),
            bans: self.bans.count() as u64,
            unknown_keys: self.diagnosis.unknown_keys(now),
            host: self.kept.map(|kept| self.host_status(kept)),
            udpgw: self.gateway.status(),
            metrics: self.metrics.and_then(metrics::status),
            web: self.web.and_then(Web::status),
            usage: self.ledger.map(Ledger::status),
            audit: self.audit.status(),
            rights: RightsStatus {
                capabilities: capabilities::held().map_or_else(|_| Vec::new(), capabilities::names),
                memory: memory(),
                packet_threads: self.data_plane.rights().status(),
                privileged: self.privileged.clone().ok(),
                privileged_problem: match self.privileged {
                    Err(reason) => Some(reason.clone()),
                    Ok(_) => verbs::trouble().map(|trouble| trouble.words().to_owned()),
                },
                processes: self
                    .metrics
                    .and_then(Metrics::rights)
                    .into_iter()
                    .chain(self.web.and_then(Web::rights))
                    .chain(self.name_service.and_then(NameService::rights))
                    .chain(self.gateway.rights())
                    .collect(),
            },
        }
    }

    /// Whether the kill switch refuses what would go around a full tunnel: it is wanted, and its
    /// rules are there.
    pub(super) fn refuses_around(&self) -> bool {
        let lacks_rules = self.kept.is_some_and(Kept::lacks_firewall);
        self.config.host.kill_switch && !lacks_rules
    }

    /// What goes around a full tunnel, unless the kill switch refuses it.
    fn routes_around(&self) -> Vec<RouteAround> {
        let refused = self.refuses_around();
        let routes = self.underlay.routes_around().iter();
        routes
            .map(|route| RouteAround {
                refused,
                ..route.clone()
            })
            .collect()
    }

    fn host_status(&self, kept: &Kept) -> HostStatus {
        let host = &self.config.host;
        let routes = self.config.interface.routes.iter();
        HostStatus {
            kill_switch: host.kill_switch,
            default_routes: routes
                .filter(|net| net.prefix_len() <= 1)
                .copied()
                .collect(),
            dns: host.dns.servers.clone(),
            ip_forward: host.ip_forward,
            not_relayed: kernel_relay::lacking(self.config)
                .iter()
                .map(|lack| lack.family.to_owned())
                .collect(),
            put_back: kept.put_back(),
            missing: kept.missing(),
        }
    }

    /// How many peers have a session.
    pub(super) fn count_up(&self) -> usize {
        let now = clock::now();
        let all = self.device.peers();
        all.filter(|peer| has_session(peer, now)).count()
    }

    /// The peers that have a session.
    pub(super) fn peers_up(&self) -> Vec<PeerStatus> {
        let now = clock::now();
        let up = self.device.peers();
        let up = up.filter(|peer| has_session(peer, now));
        let describe = |peer: &Arc<Peer>| {
            let nets = self.device.allowed_ips_of(peer.id()).collect();
            let (_, nets) = self.in_file_order(peer.public_key(), nets);
            self.peer_status(peer, nets, now)
        };
        up.map(describe).collect()
    }

    /// A peer, if it is there.
    pub(super) fn peer(&self, key: &PublicKey) -> Option<PeerStatus> {
        let peer = self.device.peer(key)?;
        let nets = self.device.allowed_ips_of(peer.id()).collect();
        let (_, nets) = self.in_file_order(key, nets);
        Some(self.peer_status(peer, nets, clock::now()))
    }

    /// Where a peer stands in the file, last of all if it isn't there, and its allowed IPs
    /// in the order in which the file has them.
    pub(super) fn in_file_order(
        &self,
        key: &PublicKey,
        mut nets: Vec<IpNet>,
    ) -> (usize, Vec<IpNet>) {
        let Some(order) = self.peers.place(key) else {
            return (usize::MAX, nets);
        };
        if let Some(peer) = self.peers.in_file(key)
            && nets.len() > 1
        {
            let listed = peer.allowed_ips.iter().enumerate();
            let places: HashMap<IpNet, usize> = listed.map(|(at, net)| (net.trunc(), at)).collect();
            nets.sort_by_key(|net| places.get(net).copied().unwrap_or(usize::MAX));
        }
        (order, nets)
    }

    fn peer_status(&self, peer: &Peer, allowed_ips: Vec<IpNet>, now: Time) -> PeerStatus {
        let key = peer.public_key();
        let interval = self.device.persistent_keepalive(key);
        let filed = self.peers.in_file(key);
        let rates = filed.map(|peer| peer.rates);
        let [rate_up, rate_down] = self.filed_rates.status(peer, &rates.unwrap_or_default());
        PeerStatus {
            name: self.peers.name(key).map(str::to_owned),
            public_key: key.to_string(),
            hub: self.peers.is_hub(key),
            preshared_key: self
                .device
                .preshared_key(key)
                .is_some_and(|shared| !shared.is_none()),
            endpoint: peer.endpoint().map(|endpoint| endpoint.remote),
            endpoint_name: match self.peers.endpoint(key) {
                Some(Endpoint::Name(host, port)) => Some(format!("{host}:{port}")),
                Some(Endpoint::Address(_)) | None => None,
            },
            banned: self.bans.of_peer(peer, &allowed_ips, self.peers),
            moves_between: self.flaps.of(key).map(Vec::from).unwrap_or_default(),
            unreachable: self.underlay.unreachable(key).map(str::to_owned),
            paths: hop::status(self.device, peer, now),
            allowed_ips,
            vip: filed.map(|peer| peer.vip.clone()).unwrap_or_default(),
            seen_seconds: peer.last_heard().map(|at| now.since(at).as_secs_f64()),
            latest_handshake_seconds: peer.last_handshake().map(|at| now.since(at).as_secs_f64()),
            handshakes: peer.handshakes(),
            rx_bytes: peer.rx_bytes(),
            tx_bytes: peer.tx_bytes(),
            rates: self.rates.of_peer(peer),
            persistent_keepalive: interval.map(|interval| interval.as_secs() as u16),
            problem: self.diagnosis.problem(key, now),
            last_problem: self.diagnosis.last_problem(key, now),
            rate_up,
            rate_down,
            quota: self.quota(key),
            expires: self.limits_of(key).expires.map(|day| day.to_string()),
            refused: self.limits.refusal(key).map(Refusal::word),
        }
    }

    fn limits_of(&self, key: &PublicKey) -> PeerLimits {
        let filed = self.peers.in_file(key);
        filed.map(|peer| peer.limits).unwrap_or_default()
    }

    pub(super) fn quota(&self, key: &PublicKey) -> Option<QuotaStatus> {
        let quota = self.limits_of(key).quota?;
        let ledger = self.ledger?;
        Some(ledger.known(|known| limits::quota_status(quota, key, known)))
    }

    /// Who sends inside the tunnel: what TC counted at the interface, and what is relayed past it.
    fn inner_sources(&self, of_tc: Vec<Source>, most: usize) -> Vec<Source> {
        let mut all: BTreeMap<IpAddr, Source> = BTreeMap::new();
        for source in of_tc.into_iter().chain(self.data_plane.relayed_sources()) {
            let added = all.entry(source.addr).or_insert_with(|| Source {
                packets: 0,
                bytes: 0,
                drops: 0,
                reason: None,
                ..source.clone()
            });
            added.packets = added.packets.saturating_add(source.packets);
            added.bytes = added.bytes.saturating_add(source.bytes);
            added.drops = added.drops.saturating_add(source.drops);
            added.reason = added.reason.or(source.reason);
        }
        let mut all: Vec<Source> = all.into_values().collect();
        all.sort_by_key(|source| std::cmp::Reverse(source.packets));
        all.truncate(most);
        all
    }

    /// Dropped packets by reason, in user space and before.
    fn drops(&self) -> Drops {
        self.data_plane.counters().drops() + self.shield.drops()
    }

    /// What was moved and what was dropped.
    pub(super) fn stats(&self) -> Stats {
        let of_tc = self.shield.sources(Layer::Inner, usize::MAX);
        self.stats_with(
            self.shield.sources(Layer::Outer, MOST_SOURCES),
            self.inner_sources(of_tc, MOST_SOURCES),
            Load {
                threads: load::threads(),
                sockets: self.data_plane.socket_loads(),
                tunnel_queue_drops: load::no_room_in(&self.config.interface.tun_name),
            },
        )
    }

    fn stats_with(&self, sources: Vec<Source>, sources_inner: Vec<Source>, load: Load) -> Stats {
        let counters = self.data_plane.counters();
        Stats {
            version: VERSION,
            timestamp: UnixTime::at(clock::wall()),
            interface: self.config.interface.tun_name.clone(),
            drops: self.drops(),
            traffic: counters.traffic(),
            rates: self.rates.rates(),
            drops_last_minute: self.rates.drops_last_minute(),
            fallbacks: Fallbacks {
                udp_gso: counters.gso_fallbacks(),
                tun_offload: counters.join_fallbacks(),
                strayed: counters.strayed(),
            },
            parallel_batches: counters.parallel_batches(),
            standing: counters.standing(),
            sources,
            sources_inner,
            denied: self.bans.nets(Layer::Outer),
            denied_inner: self.bans.nets(Layer::Inner),
            bans: self.bans.with_peers(self.device, self.peers),
            udpgw: self.gateway.stats(),
            load,
        }
    }
}

fn memory() -> MemoryStatus {
    let locked = locked_memory::locked();
    MemoryStatus {
        locked: locked.is_some_and(Result::is_ok),
        reason: locked.and_then(|it| it.as_ref().err().cloned()),
    }
}

/// Whether its last handshake is so young that its session lives.
pub(super) fn has_session(peer: &Peer, now: Time) -> bool {
    let at = peer.last_handshake();
    at.is_some_and(|at| now.since(at) < REJECT_AFTER_TIME)
}
