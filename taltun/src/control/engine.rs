//! Runs a tunnel from its configuration until told to stop.
//!
//! Everything but the packets themselves happens here, on one thread: the protocol's
//! control half, the maps of the eBPF programs, bans, endpoint names and the control
//! socket. What could fail because of the operator's mistake is tried before anything of
//! the host is changed; whatever is changed vanishes with this process or is undone at its
//! end.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::PathBuf;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use ipnet::IpNet;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tracing::{debug, error, info, warn};

use super::bans::Bans;
use super::dns_routes::Table;
use super::follow::Surroundings;
use super::forwarder::{Forwarder, Learned};
use super::hooks::Hooks;
use super::lanes::Lanes;
use super::load::Load;
use super::names::{self, Resolved, Resolver};
use super::plant::{Parts, Plant};
use super::reload;
use super::uapi::{UapiCall, UapiSocket};
use super::{ControlError, ControlSocket, Request, Response, runtime_dir};
use crate::accel::{self, Shield};
use crate::config::{self, Config, Mode, Overrides};
use crate::crypto::{AeadKey, PublicKey};
use crate::dataplane::clock;
use crate::dataplane::counters::Counters;
use crate::dataplane::filter::Filter;
use crate::dataplane::gate::Gate;
use crate::dataplane::runs::Runs;
use crate::dataplane::tun::Tun;
use crate::dataplane::udp::{Sender, Socket, UdpOffloads};
use crate::dataplane::unreachable::Unreachable;
use crate::dataplane::worker::{self, HANDSHAKE_QUEUE, Handshake};
use crate::protocol::device::{Device, Event, PeerSettings, Settings};
use crate::protocol::peer::{Endpoint, Peer};
use crate::protocol::time::Time;
use crate::report::{Fallbacks, PeerStatus, Stats, Status, SteeringStatus};
use crate::system::{self, Endpoints, Host};

/// Sources that `stats` tells at most.
const MOST_SOURCES: usize = 1024;

/// What a configuration was made of, to make it again on `reload`.
#[derive(Default)]
pub struct Origin {
    /// The file, if there is one.
    pub path: Option<PathBuf>,
    /// What the command line said, which has the last word.
    pub overrides: Overrides,
}

/// How the tunnel came to be, which decides what is ours to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Manner {
    /// From a configuration: addresses and routes are ours, and a server relays.
    Configured,
    /// By name alone, as `wireguard-go` does: who runs us sets all of that up, the kernel's
    /// routes decide about every packet, and the tunnel ends with its interface or with its
    /// UAPI socket.
    Plain,
}

/// Runs `config` until SIGINT or SIGTERM; `up` is called once everything answers.
pub async fn run(
    config: Config,
    origin: Origin,
    manner: Manner,
    up: impl FnOnce() -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    // Whatever the operator may have got wrong comes first, in the order in which the
    // least is touched.
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let workers = config
        .dataplane
        .workers
        .unwrap_or_else(|| worker::default_count(cores));
    let name = config.interface.tun_name.clone();
    let sockets = bind_sockets(&config, &origin, workers)?;
    let control = ControlSocket::bind(&name)?;
    let uapi = bind_uapi(&name, manner)?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut hangup = signal(SignalKind::hangup())?;
    let mut seed = [0; 32];
    getrandom::fill(&mut seed).map_err(|error| anyhow::anyhow!("no randomness: {error}"))?;

    let tuns = Tun::create(&name, workers, config.dataplane.tun_offload)
        .with_context(|| format!("cannot create the interface {name}"))?;
    let names = names::look_up(&config).await;
    let mut host = set_up_host(&config, &names, manner).await?;
    let (learned_in, mut learned) = mpsc::channel(16);
    let _forwarder = forward_names(&config, learned_in).await?;
    let mark = host.as_ref().and_then(Host::mark);
    let mut surroundings = Surroundings::watch()?;

    let (handshakes_in, mut handshakes) = mpsc::channel(HANDSHAKE_QUEUE);
    let (calls_in, mut calls) = mpsc::channel(16);
    let (uapi_in, mut uapi_calls) = mpsc::channel(16);
    let (resolver, mut resolved) = Resolver::new();
    let wake = Arc::new(Notify::new());
    let mut engine = Engine::new(Making {
        config,
        origin,
        manner,
        seed,
        sockets,
        tuns,
        handshakes: handshakes_in,
        wake: Arc::clone(&wake),
        resolver,
    })?;
    engine.begin(mark, &names)?;
    up()?;
    let mut hooks = Hooks::start(&engine.config, engine.plant.listen_address().port(), mark);
    hooks.up(&engine.config.hooks);

    let mut serve = pin!(control.serve(calls_in));
    let mut serve_uapi = pin!(serve_if_bound(uapi.as_ref(), uapi_in));
    let mut health = tokio::time::interval(Duration::from_secs(1));
    let outcome = loop {
        engine.carry_out();
        tokio::select! {
            Some(handshake) = handshakes.recv() => {
                engine.handle_handshake(&handshake, handshakes.len());
            }
            () = wake.notified() => engine.device.handle_requests(clock::now()),
            () = sleep_until_time(engine.device.poll_timeout()) => {
                engine.device.handle_timeout(clock::now());
            }
            () = sleep_until(engine.bans.next_end()) => engine.expire_bans(),
            Some(answer) = resolved.recv() => engine.handle_resolved(answer),
            Some(learned) = learned.recv() => engine.learn(learned, &mut host).await,
            Some((request, answer)) = calls.recv() => {
                let _ = answer.send(engine.handle_call(&request));
            }
            Some(call) = uapi_calls.recv() => engine.handle_uapi(call),
            () = &mut serve => break Err(anyhow::anyhow!("the control socket is gone")),
            () = &mut serve_uapi => break Err(anyhow::anyhow!("the UAPI socket is gone")),
            _ = interrupt.recv() => break Ok(()),
            _ = terminate.recv() => break Ok(()),
            _ = hangup.recv() => match engine.reload() {
                Ok(summary) => info!("{summary}"),
                Err(reason) => error!("not reloaded: {reason}"),
            },
            _ = health.tick() => {
                engine.follow(&mut surroundings);
                engine.shield.refresh();
                engine.tell_endpoints();
                hooks.follow(&engine.config.hooks, || engine.status().peers);
                engine.follow_queues();
                engine.forget_names(&mut host).await;
                let told_to_go = manner == Manner::Plain
                    && uapi.as_ref().is_none_or(|socket| !socket.is_in_place());
                if told_to_go {
                    info!("the UAPI socket was removed");
                    break Ok(());
                }
            },
        }
        if engine.plant.has_ended() {
            break engine.interface_gone();
        }
    };
    info!("{name} is going down");
    hooks.finish(&engine.config.hooks).await;
    drop(engine);
    if let Some(host) = host {
        host.undo().await;
    }
    outcome
}

fn bind_sockets(
    config: &Config,
    origin: &Origin,
    count: usize,
) -> anyhow::Result<Vec<Arc<Socket>>> {
    let listen = config.interface.local_addr;
    Socket::bind_group(listen, count, offloads(config)).with_context(|| {
        let file = origin
            .path
            .as_ref()
            .map_or_else(String::new, |path| format!("{}: ", path.display()));
        format!(
            "{file}interface.local_addr: cannot listen on {listen} (`ss -ulpn` shows who uses \
             which port; choose another address or port)"
        )
    })
}

fn offloads(config: &Config) -> UdpOffloads {
    UdpOffloads {
        gso: config.dataplane.udp_gso,
        gro: config.dataplane.udp_gro,
    }
}

/// Without a configuration the UAPI socket is the only way to be told anything. With one
/// the tunnel can do without.
fn bind_uapi(name: &str, manner: Manner) -> Result<Option<UapiSocket>, ControlError> {
    match (UapiSocket::bind(name), manner) {
        (Ok(socket), _) => Ok(Some(socket)),
        (Err(error), Manner::Plain) => Err(error),
        (Err(error), Manner::Configured) => {
            warn!("wg can't be used on {name}: {error}");
            Ok(None)
        }
    }
}

async fn serve_if_bound(socket: Option<&UapiSocket>, calls: mpsc::Sender<UapiCall>) {
    match socket {
        Some(socket) => socket.serve(calls).await,
        None => std::future::pending().await,
    }
}

async fn set_up_host(
    config: &Config,
    names: &Endpoints,
    manner: Manner,
) -> anyhow::Result<Option<Host>> {
    if manner == Manner::Plain {
        let (name, mtu) = (&config.interface.tun_name, config.interface.mtu);
        system::set_mtu(name, mtu).with_context(|| format!("cannot set the MTU of {name}"))?;
        return Ok(None);
    }
    Ok(Some(Host::configure(config, names, &runtime_dir()).await?))
}

/// Serves the names of `[dns_routes]`, if there are any, until what this returns is dropped.
async fn forward_names(
    config: &Config,
    learned: mpsc::Sender<Learned>,
) -> anyhow::Result<Option<JoinSet<()>>> {
    let Some(routes) = &config.dns_routes else {
        return Ok(None);
    };
    let vips: Vec<IpAddr> = config.interface.vip.iter().map(IpNet::addr).collect();
    let forwarder = Forwarder::bind(routes, &vips, learned).await;
    Ok(Some(forwarder.map_err(anyhow::Error::msg)?.serve()))
}

/// The controller's state.
pub(super) struct Engine {
    /// Before the workers, whose sockets they use.
    lanes: Lanes,
    /// Early, so that the workers end before anything that they use.
    pub(super) plant: Plant,
    /// What was last read, with what was changed of `[interface]` since.
    pub(super) config: Config,
    origin: Origin,
    pub(super) device: Device,
    /// What is known of peers beyond what the device knows, which is the live truth.
    pub(super) known: HashMap<PublicKey, Known>,
    pub(super) shield: Shield,
    pub(super) bans: Bans,
    pub(super) filter: Arc<Filter>,
    gate: Arc<Gate>,
    counters: Arc<Counters>,
    sender: Sender,
    unreachable: Unreachable,
    runs: Runs,
    resolver: Resolver,
    manner: Manner,
    /// What names are routed, where `[dns_routes]` is.
    pub(super) names_routed: Option<Table>,
    started: Time,
    load: Load,
}

/// What a peer is called, and where it was said to be, which may be a name.
#[derive(Debug, Default)]
pub(super) struct Known {
    pub(super) name: Option<String>,
    pub(super) endpoint: Option<config::Endpoint>,
    /// Which of the file's peers it is.
    pub(super) place: Option<usize>,
}

/// What an [`Engine`] is made of.
struct Making {
    config: Config,
    origin: Origin,
    manner: Manner,
    seed: [u8; 32],
    sockets: Vec<Arc<Socket>>,
    tuns: Vec<Tun>,
    handshakes: mpsc::Sender<Handshake>,
    wake: Arc<Notify>,
    resolver: Resolver,
}

impl Engine {
    fn new(making: Making) -> anyhow::Result<Self> {
        let now = clock::now();
        let config = making.config;
        let interface = &config.interface;
        let plain = making.manner == Manner::Plain;
        let mut device = Device::new(Settings {
            private_key: interface.private_key.clone(),
            seed: making.seed,
            wall_clock_at_zero: clock::wall_clock_at_zero(),
            mtu: interface.mtu,
            local_addresses: interface.vip.iter().map(IpNet::addr).collect(),
            relay: interface.mode == Mode::Server && !plain,
        });
        if plain {
            device.set_private_key(None, now);
        }
        for peer in &config.peers {
            if let Err(error) = device.add_peer(peer_settings(peer), now) {
                // The configuration was checked for this.
                error!("{}: {error}", peer.label());
            }
        }
        let mut bans = Bans::default();
        bans.configure(&config.accel.deny, &config.accel.deny_inner);
        let filter = Arc::new(Filter::default());
        filter.set(&bans.nets(false), &bans.nets(true));
        device.set_workers(making.sockets.len() as u32);
        let mut shield = Shield::start(&accel::Request {
            interfaces: &config.accel.interfaces,
            listen: making.sockets[0].local_addr(),
            mode: config.accel.xdp,
            af_xdp: config.accel.af_xdp == config::AfXdp::On,
            deny: &bans.nets(false),
            deny_inner: &bans.nets(true),
            routes: &owned(&device),
            mac1_key: device.mac1_key(),
            handshakes_per_second: config.accel.handshakes_per_second,
            tun_name: &interface.tun_name,
            debug: interface.debug,
            verifier_log: &runtime_dir().join(format!("{}.verifier.log", interface.tun_name)),
        });
        shield.steer(&fds(&making.sockets));
        let counters = Arc::new(Counters::default());
        let gate = Arc::new(Gate::default());
        let parts = Parts {
            tunnel: Arc::clone(device.tunnel()),
            filter: Arc::clone(&filter),
            counters: Arc::clone(&counters),
            gate: Arc::clone(&gate),
            handshakes: making.handshakes,
            wake: making.wake,
            offloads: offloads(&config),
            busy_poll: Duration::from_micros(config.dataplane.busy_poll_us.into()),
        };
        let names_routed = config.dns_routes.as_ref();
        let names_routed = names_routed.map(|routes| Table::new(routes.via, routes.keep));
        let plant =
            Plant::start(parts, making.sockets, making.tuns).context("cannot start the workers")?;
        Ok(Self {
            lanes: Lanes::new(config.accel.af_xdp),
            sender: plant.sender(),
            unreachable: Unreachable::default(),
            known: known(&config.peers),
            plant,
            config,
            origin: making.origin,
            device,
            shield,
            bans,
            filter,
            gate,
            counters,
            runs: Runs::with_capacity(1),
            resolver: making.resolver,
            manner: making.manner,
            names_routed,
            started: now,
            load: Load::default(),
        })
    }

    /// Says hello to peers, our datagrams having `mark` and endpoints in `names` being known.
    fn begin(&mut self, mark: Option<u32>, names: &Endpoints) -> anyhow::Result<()> {
        if let Some(mark) = mark {
            self.plant.set_mark(mark)?;
        }
        for resolved in names::answers(&self.config, names) {
            self.handle_resolved(resolved);
        }
        self.greet();
        info!(
            "{} is up, listening on {}, with {} peers",
            self.config.interface.tun_name,
            self.plant.listen_address(),
            self.config.peers.len()
        );
        Ok(())
    }

    /// What it means that a worker ended by itself: who made the interface by name may delete
    /// it.
    fn interface_gone(&self) -> anyhow::Result<()> {
        if self.manner == Manner::Plain {
            info!("the interface was deleted");
            return Ok(());
        }
        let name = &self.config.interface.tun_name;
        Err(anyhow::anyhow!(
            "a worker ended; was the interface {name} deleted?"
        ))
    }

    /// Listens at `address` from now on. An error leaves all as it was. Port 0 is any port,
    /// and one that is any port already stays.
    pub(super) fn listen(&mut self, address: SocketAddr) -> std::io::Result<()> {
        let configured = self.config.interface.local_addr;
        let same_port = address.port() == configured.port()
            || address.port() == self.plant.listen_address().port();
        if address.ip() == configured.ip() && same_port {
            return Ok(());
        }
        // They send on the sockets that are about to go.
        self.lanes.end(&mut self.shield, &self.counters);
        self.plant.listen(address)?;
        self.config.interface.local_addr = address;
        self.sender = self.plant.sender();
        let listen = self.plant.listen_address();
        self.shield.rebind(listen);
        self.shield.steer(&fds(self.plant.sockets()));
        info!("listening on {listen}");
        Ok(())
    }

    /// Tells those who sort handshakes before us where peers are, which may have moved since.
    fn tell_endpoints(&mut self) {
        let peers = self.device.peers();
        let endpoints = peers.filter_map(|peer| Some(peer.endpoint()?.remote.ip().to_canonical()));
        let endpoints: HashSet<IpAddr> = endpoints.collect();
        self.shield.set_endpoints(endpoints.iter().copied());
        self.gate.set_endpoints(endpoints);
    }

    /// Has every queue that should have one an AF_XDP lane.
    fn follow_queues(&mut self) {
        self.lanes
            .follow(&mut self.shield, &self.plant, &self.counters);
    }

    /// Forgets what is known of peers that are no more.
    pub(super) fn forget_strangers(&mut self) {
        let device = &self.device;
        self.known.retain(|key, _| device.peer(key).is_some());
    }

    /// What to call a peer.
    fn label(&self, key: &PublicKey) -> String {
        let name = self.known.get(key).and_then(|known| known.name.clone());
        name.unwrap_or_else(|| key.to_string())
    }

    /// Says hello to peers whose place is known: a client does so at once, a server leaves
    /// it to its peers. Names are looked up in either case.
    fn greet(&mut self) {
        for peer in self.config.peers.clone() {
            self.approach(&peer);
        }
    }

    /// Looks a peer's name up, or where its address is known and we are a client, asks
    /// for a handshake.
    fn approach(&mut self, peer: &config::Peer) {
        match &peer.endpoint {
            Some(config::Endpoint::Name(host, port)) => {
                self.resolver.resolve(peer.public_key, host, *port);
            }
            Some(config::Endpoint::Address(_)) if self.is_client() => {
                self.device.initiate(&peer.public_key, clock::now());
            }
            Some(config::Endpoint::Address(_)) | None => {}
        }
    }

    /// Does what the device wants done: the filter learns of an index before the message
    /// that carries it leaves.
    fn carry_out(&mut self) {
        while let Some(event) = self.device.poll_event() {
            match event {
                Event::IndexBorn(index) => self.shield.allow_index(index),
                Event::IndexDied(index) => self.shield.forget_index(index),
                Event::CookieGiven(source) => {
                    if let Some((secret, lasting)) = self.device.cookie_secret(clock::now()) {
                        self.shield.give_cookie(source, secret, lasting);
                    }
                }
                Event::HandshakeGivenUp(id) => {
                    let key = self
                        .device
                        .peers()
                        .find(|peer| peer.id() == id)
                        .map(|peer| *peer.public_key());
                    if let Some(key) = key {
                        self.handle_given_up(&key);
                    }
                }
            }
        }
        while let Some(transmit) = self.device.poll_transmit() {
            self.runs
                .push(0, transmit.payload.len(), transmit.endpoint, false);
            self.sender.send(&transmit.payload, &mut self.runs);
        }
        while let Some(packet) = self.device.poll_given_up() {
            self.unreachable
                .tell(&packet, clock::now(), self.plant.tun());
        }
    }

    /// Nobody answered for 90 s: the peer may have moved to where its name leads now. A
    /// client goes on trying, a server waits.
    fn handle_given_up(&mut self, key: &PublicKey) {
        info!("no answer from {}", self.label(key));
        match self.known.get(key).and_then(|known| known.endpoint.clone()) {
            Some(config::Endpoint::Name(host, port)) => {
                self.resolver.resolve(*key, &host, port);
            }
            Some(config::Endpoint::Address(_)) if self.is_client() => {
                self.device.initiate(key, clock::now());
            }
            Some(config::Endpoint::Address(_)) | None => {}
        }
    }

    fn handle_resolved(&mut self, resolved: Resolved) {
        let key = &resolved.peer;
        let still_named = self
            .known
            .get(key)
            .is_some_and(|known| matches!(known.endpoint, Some(config::Endpoint::Name(..))));
        if !still_named {
            return;
        }
        match resolved.address {
            Ok(address) => {
                debug!("{} is at {address}", self.label(key));
                self.device.set_endpoint(key, Some(Endpoint::from(address)));
                if self.is_client() {
                    self.device.initiate(key, clock::now());
                }
            }
            Err(reason) => warn!("{}: {reason}; trying again", self.label(key)),
        }
    }

    fn handle_handshake(&mut self, handshake: &Handshake, waiting: usize) {
        let now = clock::now();
        let lasting = self.load.note(waiting, now);
        if let Some(lasting) = lasting {
            self.gate.close_until(now + lasting);
            self.shield.set_under_load(lasting);
        }
        let from = handshake.from;
        let outcome =
            self.device
                .handle_handshake(handshake.datagram(), from, lasting.is_some(), now);
        if let Err(reason) = outcome {
            debug!("handshake message from {}: {}", from.remote, reason.label());
            self.counters.drop_packet(reason);
        }
    }

    fn handle_call(&mut self, request: &Request) -> Response {
        match *request {
            Request::Status => Response::Status(Box::new(self.status())),
            Request::Stats => Response::Stats(Box::new(self.stats())),
            Request::Ban {
                net,
                inner,
                seconds,
            } => self.ban(net, inner, seconds.map(Duration::from_secs)),
            Request::Unban { net, inner } => self.take_back_ban(net, inner),
            Request::Export => Response::Export(self.export()),
            Request::Reload => match self.reload() {
                Ok(summary) => Response::Done(summary),
                Err(reason) => Response::Error(reason),
            },
        }
    }

    /// Reads the configuration again and changes what can be changed under way.
    fn reload(&mut self) -> Result<String, String> {
        let Origin { path, overrides } = &self.origin;
        let path = path.as_deref();
        path.ok_or("started without a configuration file")?;
        let loaded = config::load_with(path, overrides).map_err(|error| error.to_string())?;
        for warning in &loaded.warnings {
            warn!("{warning}");
        }
        let new = loaded.config;
        let plan = reload::plan(&self.live_config(), &new)?;
        let now = clock::now();
        // The one thing that can fail comes first.
        self.listen(new.interface.local_addr).map_err(|error| {
            let wanted = new.interface.local_addr;
            format!("interface.local_addr: cannot listen on {wanted}: {error}")
        })?;
        // What somebody gains is let through before, what nobody has any more is not after.
        self.shield.add_routes(&routes(&new));
        let key = new.interface.private_key.clone();
        self.device.set_private_key(Some(key), now);
        for key in &plan.removed {
            self.device.remove_peer(key);
        }
        let mut greeted = Vec::new();
        for (peer, change) in &plan.changed {
            reload::apply(&mut self.device, peer, change, now);
            if change.endpoint {
                greeted.push(peer.clone());
            }
        }
        for peer in &plan.added {
            self.device
                .add_peer(peer_settings(peer), now)
                .map_err(|error| format!("{}: {error}", peer.label()))?;
            greeted.push(peer.clone());
        }
        self.lead_names_again();
        self.tell_shield();
        self.shield
            .set_handshakes_per_second(new.accel.handshakes_per_second);
        self.configure_bans(&new.accel.deny, &new.accel.deny_inner);
        self.known = known(&new.peers);
        self.config = new;
        for peer in &greeted {
            self.approach(peer);
        }
        Ok(plan.summary())
    }

    /// Tells the eBPF programs what they must know of our key and of what peers own.
    pub(super) fn tell_shield(&mut self) {
        self.shield.set_mac1_key(self.device.mac1_key());
        self.shield.set_routes(&owned(&self.device));
    }

    fn is_client(&self) -> bool {
        self.config.interface.mode == Mode::Client
    }

    /// The configuration as it is now, with what came by way of `wg`.
    pub(super) fn live_config(&self) -> Config {
        let mut allowed_ips = self.device.allowed_ips();
        let peers = self.device.peers().map(|peer| {
            let key = peer.public_key();
            let known = self.known.get(key);
            let interval = self.device.persistent_keepalive(key);
            config::Peer {
                name: known.and_then(|known| known.name.clone()),
                public_key: *key,
                preshared_key: self.device.preshared_key(key).cloned().unwrap_or_default(),
                vip: Vec::new(),
                endpoint: known.and_then(|known| known.endpoint.clone()),
                allowed_ips: allowed_ips.remove(&peer.id()).unwrap_or_default(),
                persistent_keepalive: interval.map(|interval| interval.as_secs() as u16),
            }
        });
        Config {
            peers: peers.collect(),
            ..self.config.clone()
        }
    }

    fn status(&self) -> Status {
        let now = clock::now();
        let interface = &self.config.interface;
        let mut allowed_ips = self.device.allowed_ips();
        let mut peers: Vec<(usize, PeerStatus)> = self
            .device
            .peers()
            .map(|peer| {
                let nets = allowed_ips.remove(&peer.id()).unwrap_or_default();
                let (order, nets) = self.in_file_order(peer.public_key(), nets);
                (order, self.peer_status(peer, nets, now))
            })
            .collect();
        peers.sort_by_key(|(order, _)| *order);
        Status {
            interface: interface.tun_name.clone(),
            mode: match (self.manner, interface.mode) {
                (Manner::Plain, _) => "plain",
                (Manner::Configured, Mode::Server) => "server",
                (Manner::Configured, Mode::Client) => "client",
            }
            .to_owned(),
            public_key: match self.device.private_key() {
                Some(_) => self.device.public_key().to_string(),
                None => "(none)".to_owned(),
            },
            listen: self.plant.listen_address(),
            vip: interface.vip.clone(),
            mtu: self.device.tunnel().mtu() as u16,
            aead: AeadKey::back_end().to_owned(),
            uptime_seconds: now.since(self.started).as_secs(),
            peers: peers.into_iter().map(|(_, status)| status).collect(),
            xdp: self.shield.status(),
            af_xdp: self.lanes.status(&self.shield),
            tc: self.shield.tunnel_status(),
            steering: self.steering_status(),
            drops: self.drops(),
        }
    }

    fn steering_status(&self) -> SteeringStatus {
        match self.plant.sockets() {
            [_] => SteeringStatus::none(),
            _ => self.shield.steering_status(),
        }
    }

    /// Where a peer stands in the file, last of all if it isn't there, and its allowed IPs
    /// in the order in which the file has them.
    fn in_file_order(&self, key: &PublicKey, mut nets: Vec<IpNet>) -> (usize, Vec<IpNet>) {
        let Some(order) = self.known.get(key).and_then(|known| known.place) else {
            return (usize::MAX, nets);
        };
        if let Some(peer) = self.config.peers.get(order) {
            let listed = peer.allowed_ips.iter().enumerate();
            let places: HashMap<IpNet, usize> = listed.map(|(at, net)| (net.trunc(), at)).collect();
            nets.sort_by_key(|net| places.get(net).copied().unwrap_or(usize::MAX));
        }
        (order, nets)
    }

    fn peer_status(&self, peer: &Peer, allowed_ips: Vec<IpNet>, now: Time) -> PeerStatus {
        let key = peer.public_key();
        let interval = self.device.persistent_keepalive(key);
        PeerStatus {
            name: self.known.get(key).and_then(|known| known.name.clone()),
            public_key: key.to_string(),
            endpoint: peer.endpoint().map(|endpoint| endpoint.remote),
            allowed_ips,
            latest_handshake_seconds: peer.last_handshake().map(|at| now.since(at).as_secs_f64()),
            handshakes: peer.handshakes(),
            rx_bytes: peer.rx_bytes(),
            tx_bytes: peer.tx_bytes(),
            persistent_keepalive: interval.map(|interval| interval.as_secs() as u16),
        }
    }

    /// Dropped packets by reason, in user space and before.
    fn drops(&self) -> BTreeMap<String, u64> {
        let mut drops = BTreeMap::new();
        for (reason, count) in self.counters.drops().into_iter().chain(self.shield.drops()) {
            *drops.entry(reason.to_owned()).or_insert(0) += count;
        }
        drops
    }

    fn stats(&self) -> Stats {
        Stats {
            drops: self.drops(),
            traffic: self.counters.traffic(),
            fallbacks: Fallbacks {
                udp_gso: self.counters.gso_fallbacks(),
                tun_offload: self.counters.join_fallbacks(),
                strayed: self.counters.strayed(),
            },
            sources: self.shield.sources(MOST_SOURCES),
            sources_inner: self.shield.sources_inner(MOST_SOURCES),
            denied: self.bans.nets(false),
            denied_inner: self.bans.nets(true),
        }
    }
}

fn known(peers: &[config::Peer]) -> HashMap<PublicKey, Known> {
    let known = |(place, peer): (usize, &config::Peer)| {
        let known = Known {
            name: peer.name.clone(),
            endpoint: peer.endpoint.clone(),
            place: Some(place),
        };
        (peer.public_key, known)
    };
    peers.iter().enumerate().map(known).collect()
}

/// The sockets as the kernel knows them.
fn fds(sockets: &[Arc<Socket>]) -> Vec<BorrowedFd<'_>> {
    sockets.iter().map(|socket| socket.as_fd()).collect()
}

/// All that peers of the device own now.
fn owned(device: &Device) -> Vec<IpNet> {
    device.allowed_ips().into_values().flatten().collect()
}

/// What the peers of a configuration own.
fn routes(config: &Config) -> Vec<IpNet> {
    let peers = config.peers.iter();
    peers
        .flat_map(|peer| peer.allowed_ips.iter().map(IpNet::trunc))
        .collect()
}

/// A configured peer as the protocol knows it.
fn peer_settings(peer: &config::Peer) -> PeerSettings {
    PeerSettings {
        public_key: peer.public_key,
        preshared_key: peer.preshared_key.clone(),
        endpoint: reload::literal_endpoint(peer),
        allowed_ips: peer.allowed_ips.clone(),
        persistent_keepalive: reload::keepalive(peer),
    }
}

/// Sleeps until a point on the protocol's clock; for ever without one.
async fn sleep_until_time(deadline: Option<Time>) {
    match deadline {
        Some(deadline) => tokio::time::sleep(deadline.since(clock::now())).await,
        None => std::future::pending().await,
    }
}

async fn sleep_until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}
