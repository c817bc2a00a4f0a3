//! The controller's state: the protocol's device and the components beside it, each with a state
//! of its own. The engine passes on to them what happens by itself (`events`) and what is asked
//! (`requests`). One thread owns it.

mod edits;
mod events;
mod fleet_bans;
mod host_rules;
#[cfg(feature = "fleet")]
mod mesh;
#[cfg(not(feature = "fleet"))]
mod no_mesh;
mod privileged;
mod requests;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use ipnet::IpNet;
use tokio::sync::{Notify, mpsc, watch};
use tokio::time::Instant;
use tracing::{error, info};

use self::privileged::Marks;
use super::audit::Audit;
use super::bans::Bans;
use super::diagnosis::Diagnosis;
use super::dialer::Dialer;
use super::dirs;
use super::dns_routes::{RoutedNames, TunnelRoutes};
use super::flaps::Flaps;
use super::fleet::Link;
use super::forwards::Forwards;
use super::gateway::Gateway;
use super::handshake_load::HandshakeLoad;
use super::hop;
use super::kernel_relay::KernelRelay;
use super::ledger::Ledger;
use super::limits::Limits;
use super::memory::Memory;
#[cfg(feature = "fleet")]
use super::mesh::Mesh;
use super::metrics::{self, Metrics};
use super::name_service::{Known, NameService, NameSockets};
use super::names::{Resolved, Resolver};
use super::network_watch::NetworkWatch;
use super::origin::{Origin, TunnelKind};
use super::pace::Pace;
use super::peers::{self, PeerList, Peers};
use super::port_range::LedPorts;
use super::pretenders::{Pretenders, peers_networks};
use super::rate_meter::RateMeter;
use super::request::Call;
use super::rules::FiledRules;
use super::runtime_dir;
use super::shaping::FiledRates;
use super::uapi::WgChanges;
use super::underlay::Underlay;
use super::watching::Watches;
use super::web::{self, Web};
use crate::accel::{self, Shield};
use crate::config::{self, Config, DnsRoutes, Mode};
use crate::crypto::PrivateKey;
use crate::dataplane::clock::{self, Apart};
use crate::dataplane::counters::Counters;
use crate::dataplane::data_plane::DataPlane;
use crate::dataplane::gate::Gate;
use crate::dataplane::scheduling::Scheduling;
use crate::dataplane::shared::{Handshake, Inputs};
use crate::dataplane::sparse::SparseQueues;
use crate::dataplane::tun::Tun;
use crate::dataplane::udp::{Socket, UdpSettings};
use crate::dataplane::worker_set::WorkerSettings;
use crate::dataplane::xsk::LanePolicy;
use crate::layer::Layer;
use crate::name_service::{Learned, Zone};
use crate::os::capabilities;
use crate::protocol::device::{Device, Settings};
use crate::protocol::randomness::{NoRandomness, Randomness};
use crate::protocol::time::Time;
use crate::protocol::tunnel::Tunnel;
use crate::report::{Priority, ProcessRights, UnixTime};
use crate::system::{Host, Kept};

/// The controller's state.
pub(in crate::control) struct Engine {
    /// Early, so that the workers end before anything that they use.
    data_plane: DataPlane,
    device: Device,
    shield: Shield,
    /// What was last read, with what was changed of `[interface]` since; its peers are in
    /// `peers`.
    config: Config,
    origin: Origin,
    kind: TunnelKind,
    peers: Peers,
    bans: Bans,
    /// What names are routed, where `[dns_routes]` is.
    names: Option<RoutedNames>,
    /// What the name service knows of peers' names, where `[names]` is.
    zone: Option<watch::Sender<Arc<Zone>>>,
    dialer: Dialer,
    diagnosis: Diagnosis,
    /// Peers that two machines seem to share.
    flaps: Flaps,
    /// The gateway of `[udpgw]`.
    gateway: Gateway,
    /// Those of `[metrics]`, once services are started.
    metrics: Option<Metrics>,
    /// The resolver, where there is `[names]` or `[dns_routes]`.
    name_service: Option<NameService>,
    /// That of `[web]`, likewise.
    web: Option<Web>,
    /// The range of `[hop]` that leads to our port.
    led_ports: LedPorts,
    /// Ports that lead to peers.
    forwards: Forwards,
    /// Who would send in another's name.
    pretenders: Pretenders,
    kernel_relay: KernelRelay,
    /// Who may start what with whom.
    rules: FiledRules,
    /// How fast peers may be.
    filed_rates: FiledRates,
    rates: RateMeter,
    /// Of a tunnel that is configured: nobody knows the peers of another before they are set.
    memory: Option<Memory>,
    /// Likewise.
    ledger: Option<Ledger>,
    /// Of a tunnel that is configured it writes down what is changed.
    audit: Audit,
    limits: Limits,
    /// The way to the thread of `[fleet]`, where there is one.
    fleet: Option<Link>,
    /// The key that the hubs of our group answer with, in place of the file's.
    group_key: Option<PrivateKey>,
    /// Bans that came by it, each with its end.
    fleet_bans: BTreeMap<(IpNet, Layer), u64>,
    /// The other hubs of it.
    #[cfg(feature = "fleet")]
    mesh: Option<Mesh>,
    /// Who watches packets.
    watches: Watches,
    /// What `wg` changed and the log doesn't have yet.
    by_wg: WgChanges,
    /// What the privileged process may do, or why there is none.
    privileged: Result<ProcessRights, String>,
    marks: Marks,
    /// The host's network.
    network: NetworkWatch,
    /// The way to the peers.
    underlay: Underlay,
    /// What of the host's set-up others took away, where there is one.
    kept: Option<Kept>,
    /// Which handshake messages we have time for.
    gate: Arc<Gate>,
    handshake_load: HandshakeLoad,
    clocks: Apart,
    started: Time,
    started_at: UnixTime,
    /// How often peers' addresses are told, and how often all peers are looked at.
    telling_endpoints: Pace,
    looking: Pace,
}

/// What an [`Engine`] starts with.
pub(in crate::control) struct EngineInputs {
    pub config: Config,
    pub origin: Origin,
    pub kind: TunnelKind,
    pub sockets: Vec<Arc<Socket>>,
    pub tuns: Vec<Tun>,
    pub handshakes: mpsc::Sender<Handshake>,
    pub wake: Arc<Notify>,
    pub resolver: Resolver,
    pub underlay: Underlay,
    pub network: NetworkWatch,
    /// Tells the name service what `[dns_routes]` says.
    pub dns_routes: Option<watch::Sender<Arc<DnsRoutes>>>,
    /// Tells it the names of peers.
    pub zone: Option<watch::Sender<Arc<Zone>>>,
    /// The mark that our datagrams are going to have.
    pub mark: Option<u32>,
    /// The way to the fleet's thread.
    pub fleet: Option<Link>,
    /// What the privileged process may do, or why there is none.
    pub privileged: Result<ProcessRights, String>,
}

impl Engine {
    pub(in crate::control) fn new(inputs: EngineInputs) -> anyhow::Result<Self> {
        let now = clock::now();
        let mut config = inputs.config;
        let peers = Peers::new(Arc::new(std::mem::take(&mut config.peers)));
        let interface = &config.interface;
        let mut device = device(&config, inputs.kind, &peers, now);
        device.set_workers(inputs.sockets.len() as u32);
        let bans = Bans::new(&config.accel, inputs.origin.path.clone());
        let listen = inputs.sockets[0].local_addr();
        let mut shield = shield(&config, listen, inputs.mark, &bans, &device);
        let sparse = sparse_queues(&config, &inputs.tuns)
            .inspect_err(|reason| info!(reason, "no sparse queue"));
        // Before any thread is started that would keep it.
        give_up_loading(&shield);
        let gate = Arc::new(Gate::default());
        // Before any packet is taken.
        let mut rules = FiledRules::new()?;
        rules.follow(&config, &[], inputs.kind.relays(&config), &mut shield);
        let mut filed_rates = FiledRates::new().context("cannot start shaping")?;
        filed_rates.follow(&config.shaping, &peers, &device, now);
        let shared = Inputs {
            tunnel: Arc::clone(device.tunnel()),
            filter: Arc::clone(bans.filter()),
            rules: Arc::clone(rules.rules()),
            shaper: Arc::clone(filed_rates.shaper()),
            counters: Arc::new(Counters::default()),
            relayed_sources: Arc::default(),
            gate: Arc::clone(&gate),
            handshakes: inputs.handshakes,
            wake: inputs.wake,
            busy_poll: Duration::from_micros(config.dataplane.busy_poll_us.into()),
            scheduling: Arc::new(Scheduling::new(priority(&config))),
            rights: Arc::default(),
        };
        let settings = worker_settings(&config);
        let name = &interface.tun_name;
        let is_configured = inputs.kind == TunnelKind::Configured;
        let memory = is_configured.then(|| Memory::of(&dirs::state(), name));
        let has_limits = peers.with_limits().next().is_some();
        let keep = config.usage.keep_days;
        let ledger = is_configured.then(|| Ledger::of(&dirs::state(), name, keep, has_limits));
        let audit = audit(inputs.kind, &config);
        let mut limits = Limits::default();
        // Before any packet is taken.
        if let Some(ledger) = &ledger {
            limits.follow(&mut device, &peers, ledger, now);
        }
        let names = inputs.dns_routes;
        let names = names.map(|told| RoutedNames::new(told, interface));
        let (sockets, tuns) = (inputs.sockets, inputs.tuns);
        let data_plane = DataPlane::start(shared, settings, lanes(&config), sockets, tuns, sparse)
            .context("cannot start the workers")?;
        data_plane.steer(&mut shield);
        #[cfg(feature = "fleet")]
        let mesh = mesh(inputs.fleet.as_ref(), &config, now);
        Ok(Self {
            data_plane,
            device,
            shield,
            dialer: Dialer::new(inputs.resolver, interface.mode == Mode::Client),
            config,
            origin: inputs.origin,
            kind: inputs.kind,
            peers,
            bans,
            names,
            zone: inputs.zone,
            diagnosis: Diagnosis::start(),
            flaps: Flaps::default(),
            #[cfg(feature = "fleet")]
            mesh,
            fleet: inputs.fleet,
            group_key: None,
            fleet_bans: BTreeMap::new(),
            gateway: Gateway::default(),
            metrics: None,
            name_service: None,
            web: None,
            led_ports: LedPorts::default(),
            forwards: Forwards::default(),
            pretenders: Pretenders::default(),
            kernel_relay: KernelRelay::default(),
            watches: Watches::new(Arc::clone(rules.rules())),
            rules,
            filed_rates,
            rates: RateMeter::default(),
            memory,
            ledger,
            audit,
            limits,
            by_wg: WgChanges::default(),
            privileged: inputs.privileged,
            marks: Marks::new(inputs.mark),
            network: inputs.network,
            underlay: inputs.underlay,
            kept: None,
            gate,
            handshake_load: HandshakeLoad::default(),
            clocks: Apart::new(clock::wall(), now),
            started: now,
            started_at: UnixTime::at(clock::wall()),
            telling_endpoints: Pace::default(),
            looking: Pace::default(),
        })
    }

    /// The sessions and routes that the workers use.
    pub(in crate::control) fn tunnel(&self) -> &Arc<Tunnel> {
        self.device.tunnel()
    }

    /// What was last read, without its peers.
    pub(in crate::control) fn config(&self) -> &Config {
        &self.config
    }

    /// The peers that the file had when it was last read.
    pub(in crate::control) fn filed_peers(&self) -> &PeerList {
        self.peers.filed()
    }

    /// The port that we listen on.
    pub(in crate::control) fn listen_port(&self) -> u16 {
        self.data_plane.listen_address().port()
    }

    /// When to call [`Self::handle_timeout`].
    pub(in crate::control) fn next_timeout(&self) -> Option<Time> {
        self.device.poll_timeout()
    }

    /// When to call [`Self::expire_bans`].
    pub(in crate::control) fn next_ban_end(&self) -> Option<Instant> {
        self.bans.next_end()
    }

    /// When to call [`Self::speak_to_remembered`].
    pub(in crate::control) fn next_remembered(&self) -> Option<Instant> {
        let next = self.memory.as_ref()?.next_at()?;
        self.may_speak_first().then_some(next)
    }

    /// When to call [`Self::look_at_kernel`].
    pub(in crate::control) fn next_kernel_look(&self) -> Option<Instant> {
        self.watches.next_look()
    }

    /// Whether a worker ended by itself.
    pub(in crate::control) fn has_ended(&self) -> bool {
        self.data_plane.has_ended()
    }

    /// Marks all datagrams from now on.
    pub(in crate::control) fn set_mark(&mut self, mark: u32) -> std::io::Result<()> {
        self.data_plane.set_mark(mark)
    }

    /// The host was set up; `kept` says what of it others take away.
    pub(in crate::control) fn set_kept(&mut self, kept: Option<Kept>) {
        self.kept = kept;
    }

    /// Starts the gateway, the metrics and the page that the file asks for, once our vips are there.
    /// `calls` leads back here.
    pub(in crate::control) fn start_services(
        &mut self,
        calls: mpsc::Sender<Call>,
    ) -> Result<(), String> {
        let (settings, interface) = (self.config.udpgw.clone(), &self.config.interface);
        let mut metrics = metrics::new(calls.clone());
        let dir = dirs::state().join(&interface.tun_name);
        let mut web = Web::new(&dir, calls, self.rates.moments());
        self.gateway = Gateway::start(settings, interface, self.device.tunnel())?;
        metrics.start(metrics::settings(self.config.metrics.as_ref()), interface);
        self.metrics = Some(metrics);
        web.served.start(web::settings(&self.config), interface);
        self.web = Some(web);
        Ok(())
    }

    /// Has questions for names answered by what is `known`; `learned` leads back here.
    pub(in crate::control) fn serve_names(
        &mut self,
        sockets: NameSockets,
        known: Known,
        learned: mpsc::Sender<Learned>,
    ) {
        let tunnel = Arc::clone(self.device.tunnel());
        let service = NameService::start(sockets, known, learned, tunnel);
        self.name_service = Some(service);
    }

    /// Speaks to peers, some names being looked up already, and leads names that were led
    /// before.
    pub(in crate::control) async fn begin(
        &mut self,
        resolved: Vec<Resolved>,
        host: &mut Option<Host>,
    ) {
        self.dialer.set_mark(self.data_plane.mark());
        let guarded = peers_networks(&self.config, self.peers.filed());
        self.network.guard(guarded);
        self.network
            .read_foreign(&self.config.interface.tun_name, &mut self.device);
        self.follow_rules();
        for resolved in resolved {
            self.handle_resolved(resolved);
        }
        let filed = Arc::clone(self.peers.filed());
        self.approach(&filed);
        if let Some((names, mut routes)) = self.names_and_routes() {
            names.lead_remembered(&mut routes, host).await;
        }
        self.lead_ports(host).await;
        self.forward_ports(host).await;
        self.follow_kernel_relay(host.as_ref());
        self.refuse_pretenders(host).await;
        self.audit.started(self.origin.path.as_deref());
        info!(
            "{} is up, listening on {}, with {} peer{}",
            self.config.interface.tun_name,
            self.data_plane.listen_address(),
            filed.len(),
            if filed.len() == 1 { "" } else { "s" }
        );
    }

    /// Has rules know the addresses that this host has by now, and TC what rules say.
    fn follow_rules(&mut self) {
        let relays = self.kind.relays(&self.config);
        let own = self.network.own_addresses();
        self.rules
            .follow(&self.config, own, relays, &mut self.shield);
        self.rules.rules().tell_left_out();
        if self.shield.has_open_all() {
            self.shield.close(self.rules.closed(&self.device));
        }
    }

    /// What is left to do at the end.
    pub(in crate::control) async fn finish(&mut self) {
        self.watches.finish().await;
        self.metrics = None;
        self.name_service = None;
        self.web = None;
        self.gateway.stop().await;
        if let Some(memory) = &mut self.memory {
            memory.finish();
        }
        if let Some(ledger) = &mut self.ledger {
            ledger.finish(&self.device, &self.peers);
        }
        self.audit.finish();
    }

    /// What it means that a worker ended by itself: who made the interface by name may delete
    /// it.
    pub(in crate::control) fn interface_gone(&self) -> anyhow::Result<()> {
        if self.kind == TunnelKind::Plain {
            info!("the interface was deleted");
            return Ok(());
        }
        let name = &self.config.interface.tun_name;
        Err(anyhow::anyhow!(
            "a worker ended; was the interface {name} deleted?"
        ))
    }

    /// Speaks to peers whose place is given.
    fn approach(&mut self, peers: &[config::Peer]) {
        let now = self.now();
        for peer in peers {
            self.dialer.approach(peer, &mut self.device, now);
        }
    }

    /// Forgets what is known of peers that are no more.
    fn forget_removed(&mut self) {
        for key in self.device.take_forgotten() {
            self.peers.touch([key]);
            // It may be back already.
            if self.device.peer(&key).is_some() {
                continue;
            }
            self.peers.forget(&key);
            self.diagnosis.forget(&key);
            self.flaps.forget(&key);
            if let Some(memory) = &mut self.memory {
                memory.forget(&key);
            }
        }
        self.dialer.end_look_ups(&self.peers);
    }

    /// Refuses peers that have reached a limit, and allows others again.
    fn follow_limits(&mut self) {
        let now = self.now();
        if let Some(ledger) = &self.ledger {
            self.limits
                .follow(&mut self.device, &self.peers, ledger, now);
        }
    }

    /// Now, having told the device what the wall clock shows.
    fn now(&mut self) -> Time {
        let now = clock::now();
        self.device.set_wall_clock(clock::wall(), now);
        now
    }

    /// The names that are routed, where there are any, and the routes that they change.
    fn names_and_routes(&mut self) -> Option<(&mut RoutedNames, TunnelRoutes<'_>)> {
        let routes = TunnelRoutes {
            device: &mut self.device,
            shield: &mut self.shield,
            peers: &self.peers,
            config: &self.config,
        };
        Some((self.names.as_mut()?, routes))
    }
}

/// The other hubs, where there is a fleet.
#[cfg(feature = "fleet")]
fn mesh(fleet: Option<&Link>, config: &Config, now: Time) -> Option<Mesh> {
    fleet.map(|fleet| Mesh::new(fleet, config, now))
}

/// The trail of changes of a tunnel that is configured.
fn audit(kind: TunnelKind, config: &Config) -> Audit {
    let name = &config.interface.tun_name;
    match kind {
        TunnelKind::Configured => Audit::of(&dirs::state(), name, config.audit.keep_mib),
        TunnelKind::Plain => Audit::none(),
    }
}

/// The eBPF programs, attached as the configuration says.
fn shield(
    config: &Config,
    listen: SocketAddr,
    mark: Option<u32>,
    bans: &Bans,
    device: &Device,
) -> Shield {
    let interface = &config.interface;
    Shield::start(&accel::ShieldSettings {
        interfaces: &config.accel.interfaces,
        listen,
        mark: mark.unwrap_or_default(),
        mode: config.accel.xdp,
        prefer_driver: config.accel.af_xdp == config::AfXdp::On,
        deny: &bans.nets(Layer::Outer),
        deny_inner: &bans.nets(Layer::Inner),
        routes: &device.routes(),
        mac1_key: device.mac1_key(),
        handshakes_per_second: config.accel.handshakes_per_second,
        tun_name: &interface.tun_name,
        debug: interface.debug,
        verifier_log: &runtime_dir().join(format!("{}.verifier.log", interface.tun_name)),
    })
}

/// All programs are loaded by now, and a reload attaches them elsewhere and no more.
fn give_up_loading(shield: &Shield) {
    if !shield.needs_no_loading() {
        info!("Linux before 5.19: the controller keeps the capability to load eBPF programs");
    } else if let Err(error) = capabilities::lose(capabilities::OF_LOADING) {
        info!("the controller keeps the capability to load eBPF programs: {error}");
    }
}

/// The protocol's device with the peers of the configuration.
fn device(config: &Config, kind: TunnelKind, peers: &Peers, now: Time) -> Device {
    let interface = &config.interface;
    let mut device = Device::new(Settings {
        private_key: interface.private_key.clone(),
        randomness: Randomness::new(random),
        wall_clock_at_zero: clock::wall_clock_at_zero(),
        mtu: interface.mtu,
        local_addresses: interface.vip.iter().map(IpNet::addr).collect(),
        relay: kind.relays(config),
    });
    if kind == TunnelKind::Plain {
        device.set_private_key(None, now);
    }
    for peer in peers.filed().iter() {
        if let Err(error) = device.add_peer(peers::settings(peer), now) {
            // The configuration was checked for this.
            error!("{}: {error}", peer.label());
        }
    }
    device.set_initiations_per_second(Some(config.accel.handshakes_per_second));
    device.set_hop(hop::settings(config), now);
    device
}

/// Random bytes of the system's. It knows of copies of the machine and we may not.
fn random(bytes: &mut [u8]) -> Result<(), NoRandomness> {
    getrandom::fill(bytes).map_err(|error| {
        error!("no handshake is possible: no randomness: {error}");
        NoRandomness
    })
}

/// What the configuration says of sockets.
pub(in crate::control) fn udp_settings(config: &Config) -> UdpSettings {
    UdpSettings {
        gso: config.dataplane.udp_gso,
        gro: config.dataplane.udp_gro,
        shared_address: config.fleet.as_ref().and_then(|fleet| fleet.shared_address),
    }
}

/// The queues that sparse flows have, or why they have none.
fn sparse_queues(config: &Config, tuns: &[Tun]) -> Result<SparseQueues, String> {
    if !config.dataplane.sparse_queue {
        return Err("switched off by dataplane.sparse_queue".to_owned());
    }
    let chooser = accel::tun_queue::attach(&tuns[0], tuns.len() as u32)?;
    SparseQueues::open(tuns, chooser).map_err(|error| format!("the kernel refuses it: {error}"))
}

fn priority(config: &Config) -> Priority {
    match config.dataplane.priority {
        config::Priority::Normal => Priority::Normal,
        config::Priority::High => Priority::High,
        config::Priority::Realtime => Priority::Realtime,
    }
}

fn worker_settings(config: &Config) -> WorkerSettings {
    WorkerSettings {
        udp: udp_settings(config),
        crypto_threads: config.dataplane.crypto_threads,
    }
}

fn lanes(config: &Config) -> LanePolicy {
    match config.accel.af_xdp {
        config::AfXdp::Off => LanePolicy::Off,
        config::AfXdp::Auto => LanePolicy::ZeroCopy,
        config::AfXdp::On => LanePolicy::CopyToo,
    }
}
