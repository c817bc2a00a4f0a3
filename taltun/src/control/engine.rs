//! Runs a tunnel from its configuration until told to stop.
//!
//! Everything but the packets themselves happens here, on one thread: the protocol's
//! control half, the maps of the eBPF programs, bans, endpoint names and the control
//! socket. What could fail because of the operator's mistake is tried before anything of
//! the host is changed; whatever is changed vanishes with this process or is undone at its
//! end.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{Notify, mpsc};
use tokio::time::Instant;
use tracing::{debug, error, info, warn};

use super::bans::{Bans, MAX_BANS};
use super::names::{Resolved, Resolver};
use super::reload;
use super::{ControlSocket, Request, Response, runtime_dir};
use crate::accel::{self, Shield};
use crate::config::{self, Config, Mode, Overrides};
use crate::crypto::PublicKey;
use crate::dataplane::clock;
use crate::dataplane::counters::Counters;
use crate::dataplane::filter::Filter;
use crate::dataplane::runs::Runs;
use crate::dataplane::sys::StopSignal;
use crate::dataplane::tun::Tun;
use crate::dataplane::udp::{Sender, Socket};
use crate::dataplane::worker::{self, HANDSHAKE_QUEUE, Handshake, Shared, Workers};
use crate::protocol::device::{Device, Event, PeerSettings, Settings};
use crate::protocol::peer::Endpoint;
use crate::protocol::time::Time;
use crate::report::{PeerStatus, Stats, Status};
use crate::system::Host;

/// Handshakes waiting at once from which on senders must prove their address.
const LOAD_THRESHOLD: usize = HANDSHAKE_QUEUE / 8;
/// How long "under load" outlives the moment that caused it.
const LOAD_MEMORY: Duration = Duration::from_secs(1);
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

/// Runs `config` until SIGINT or SIGTERM.
pub async fn run(config: Config, origin: Origin) -> anyhow::Result<()> {
    // Whatever the operator may have got wrong comes first, in the order in which the
    // least is touched.
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let workers = worker::default_count(cores);
    let name = config.interface.tun_name.clone();
    let listen = config.interface.local_addr;
    let sockets = Socket::bind_group(listen, workers).with_context(|| {
        let file = origin
            .path
            .as_ref()
            .map_or_else(String::new, |path| format!("{}: ", path.display()));
        format!(
            "{file}interface.local_addr: cannot listen on {listen} (`ss -ulpn` shows who uses \
             which port; choose another address or port)"
        )
    })?;
    let control = ControlSocket::bind(&name)?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut hangup = signal(SignalKind::hangup())?;
    let mut seed = [0; 32];
    getrandom::fill(&mut seed).map_err(|error| anyhow::anyhow!("no randomness: {error}"))?;

    let tuns = Tun::create(&name, workers)
        .with_context(|| format!("cannot create the interface {name}"))?;
    let host = Host::configure(
        &name,
        config.interface.mtu,
        &config.interface.vip,
        &config.interface.routes,
    )
    .await?;

    let (handshakes_in, mut handshakes) = mpsc::channel(HANDSHAKE_QUEUE);
    let (calls_in, mut calls) = mpsc::channel(16);
    let (resolver, mut resolved) = Resolver::new();
    let mut engine = Engine::new(config, origin, seed, &sockets, resolver);
    let wake = Arc::new(Notify::new());
    let shared = Arc::new(Shared {
        tunnel: Arc::clone(engine.device.tunnel()),
        filter: Arc::clone(&engine.filter),
        counters: Arc::clone(&engine.counters),
        handshakes: handshakes_in,
        wake: Arc::clone(&wake),
        stop: StopSignal::new()?,
    });
    let workers = Workers::start(shared, &sockets, tuns).context("cannot start the workers")?;
    engine.greet();
    info!(
        "{name} is up, listening on {}, with {} peers",
        sockets[0].local_addr(),
        engine.config.peers.len()
    );

    let mut serve = pin!(control.serve(calls_in));
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
            Some((request, answer)) = calls.recv() => {
                let _ = answer.send(engine.handle_call(&request));
            }
            () = &mut serve => break Err(anyhow::anyhow!("the control socket is gone")),
            _ = interrupt.recv() => break Ok(()),
            _ = terminate.recv() => break Ok(()),
            _ = hangup.recv() => match engine.reload() {
                Ok(summary) => info!("{summary}"),
                Err(reason) => error!("not reloaded: {reason}"),
            },
            _ = health.tick() => {
                if workers.any_ended() {
                    break Err(anyhow::anyhow!(
                        "a worker ended; was the interface {name} deleted?"
                    ));
                }
                engine.shield.refresh();
            },
        }
    };
    info!("{name} is going down");
    drop(workers);
    drop(engine);
    host.undo().await;
    outcome
}

/// The controller's state.
struct Engine {
    config: Config,
    origin: Origin,
    device: Device,
    shield: Shield,
    bans: Bans,
    filter: Arc<Filter>,
    counters: Arc<Counters>,
    sender: Sender,
    runs: Runs,
    resolver: Resolver,
    listen: SocketAddr,
    started: Time,
    under_load_until: Option<Time>,
}

impl Engine {
    fn new(
        config: Config,
        origin: Origin,
        seed: [u8; 32],
        sockets: &[Arc<Socket>],
        resolver: Resolver,
    ) -> Self {
        let now = clock::now();
        let interface = &config.interface;
        let mut device = Device::new(Settings {
            private_key: interface.private_key.clone(),
            seed,
            wall_clock_at_zero: clock::wall_clock_at_zero(),
            mtu: interface.mtu,
            local_addresses: interface.vip.iter().map(ipnet::IpNet::addr).collect(),
            relay: interface.mode == Mode::Server,
        });
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
        let listen = sockets[0].local_addr();
        let shield = Shield::start(&accel::Request {
            interfaces: &config.accel.interfaces,
            listen,
            mode: config.accel.xdp,
            deny: &bans.nets(false),
            deny_inner: &bans.nets(true),
            routes: &routes(&config),
            mac1_key: device.mac1_key(),
            handshakes_per_second: config.accel.handshakes_per_second,
            tun_name: &interface.tun_name,
            verifier_log: &runtime_dir().join(format!("{}.verifier.log", interface.tun_name)),
        });
        let counters = Arc::new(Counters::default());
        Self {
            sender: Sender::new(Arc::clone(&sockets[0]), Arc::clone(&counters)),
            config,
            origin,
            device,
            shield,
            bans,
            filter,
            counters,
            runs: Runs::with_capacity(1),
            resolver,
            listen,
            started: now,
            under_load_until: None,
        }
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
    }

    /// Nobody answered for 90 s: the peer may have moved to where its name leads now. A
    /// client goes on trying, a server waits.
    fn handle_given_up(&mut self, key: &PublicKey) {
        let Some(peer) = self
            .config
            .peers
            .iter()
            .find(|peer| peer.public_key == *key)
        else {
            return;
        };
        info!("no answer from {}", peer.label());
        match &peer.endpoint {
            Some(config::Endpoint::Name(host, port)) => {
                self.resolver.resolve(*key, host, *port);
            }
            Some(config::Endpoint::Address(_)) if self.is_client() => {
                self.device.initiate(key, clock::now());
            }
            Some(config::Endpoint::Address(_)) | None => {}
        }
    }

    fn handle_resolved(&mut self, resolved: Resolved) {
        let Some(peer) = self
            .config
            .peers
            .iter()
            .find(|peer| peer.public_key == resolved.peer)
        else {
            return;
        };
        match resolved.address {
            Ok(address) => {
                debug!("{} is at {address}", peer.label());
                self.device
                    .set_endpoint(&resolved.peer, Some(Endpoint::from(address)));
                if self.is_client() {
                    self.device.initiate(&resolved.peer, clock::now());
                }
            }
            Err(reason) => warn!("{}: {reason}; trying again", peer.label()),
        }
    }

    fn handle_handshake(&mut self, handshake: &Handshake, waiting: usize) {
        let now = clock::now();
        if waiting >= LOAD_THRESHOLD {
            self.under_load_until = Some(now + LOAD_MEMORY);
        }
        let under_load = self.under_load_until.is_some_and(|until| now < until);
        let from = handshake.from;
        let outcome = self
            .device
            .handle_handshake(handshake.datagram(), from, under_load, now);
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
            Request::Unban { net, inner } => {
                if !self.bans.remove(net, inner) {
                    return Response::Error(format!("{net} is not banned"));
                }
                self.apply_bans();
                self.unban(net.trunc(), inner);
                Response::Done(format!("{net} may send again"))
            }
            Request::Reload => match self.reload() {
                Ok(summary) => Response::Done(summary),
                Err(reason) => Response::Error(reason),
            },
        }
    }

    fn ban(&mut self, net: ipnet::IpNet, inner: bool, lasting: Option<Duration>) -> Response {
        if !self.bans.add(net, inner, lasting) {
            return Response::Error(format!("there are {MAX_BANS} bans, which is the most"));
        }
        self.apply_bans();
        let (place, banned) = if inner {
            ("TC", self.shield.ban_inner(net.trunc()))
        } else {
            ("XDP", self.shield.ban(net.trunc()))
        };
        let place = match banned {
            Ok(()) => place,
            Err(reason) => {
                debug!("ban {net} in {place}: {reason}");
                "user space"
            }
        };
        let lasting = lasting.map_or_else(String::new, |lasting| {
            format!(" for {} seconds", lasting.as_secs())
        });
        Response::Done(format!("{net} is banned{lasting}, dropped in {place}"))
    }

    fn expire_bans(&mut self) {
        let before = self.banned();
        if !self.bans.expire() {
            return;
        }
        self.unban_all_but(&before, &self.banned());
        self.apply_bans();
    }

    /// What is banned, and whether that is inside.
    fn banned(&self) -> Vec<(ipnet::IpNet, bool)> {
        [false, true]
            .into_iter()
            .flat_map(|inner| {
                self.bans
                    .nets(inner)
                    .into_iter()
                    .map(move |net| (net, inner))
            })
            .collect()
    }

    /// Takes those of `before` off the programs' lists that are not in `after`.
    fn unban_all_but(&mut self, before: &[(ipnet::IpNet, bool)], after: &[(ipnet::IpNet, bool)]) {
        for &(net, inner) in before.iter().filter(|ban| !after.contains(ban)) {
            info!("{net} may send again");
            self.unban(net, inner);
        }
    }

    fn unban(&mut self, net: ipnet::IpNet, inner: bool) {
        let unbanned = if inner {
            self.shield.unban_inner(net)
        } else {
            self.shield.unban(net)
        };
        if let Err(reason) = unbanned {
            debug!("unban {net} in eBPF: {reason}");
        }
    }

    fn apply_bans(&self) {
        self.filter
            .set(&self.bans.nets(false), &self.bans.nets(true));
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
        let plan = reload::plan(&self.config, &new)?;
        let now = clock::now();
        // What somebody gains is let through before, what nobody has any more is not after.
        self.shield.add_routes(&routes(&new));
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
        self.shield.set_routes(&routes(&new));
        self.shield
            .set_handshakes_per_second(new.accel.handshakes_per_second);
        let before = self.banned();
        self.bans.configure(&new.accel.deny, &new.accel.deny_inner);
        let after = self.banned();
        // New bans first, so that no packet passes between two states of the list.
        self.apply_bans();
        for &(net, inner) in after.iter().filter(|ban| !before.contains(ban)) {
            let banned = if inner {
                self.shield.ban_inner(net)
            } else {
                self.shield.ban(net)
            };
            if let Err(reason) = banned {
                debug!("ban {net} in eBPF: {reason}");
            }
        }
        self.unban_all_but(&before, &after);
        self.config = new;
        for peer in &greeted {
            self.approach(peer);
        }
        Ok(plan.summary())
    }

    fn is_client(&self) -> bool {
        self.config.interface.mode == Mode::Client
    }

    fn status(&self) -> Status {
        let now = clock::now();
        let interface = &self.config.interface;
        Status {
            interface: interface.tun_name.clone(),
            mode: match interface.mode {
                Mode::Server => "server",
                Mode::Client => "client",
            }
            .to_owned(),
            public_key: self.device.public_key().to_string(),
            listen: self.listen,
            vip: interface.vip.clone(),
            mtu: interface.mtu,
            uptime_seconds: now.since(self.started).as_secs(),
            peers: self
                .config
                .peers
                .iter()
                .filter_map(|peer| self.peer_status(peer, now))
                .collect(),
            xdp: self.shield.status(),
            tc: self.shield.tunnel_status(),
        }
    }

    fn peer_status(&self, peer: &config::Peer, now: Time) -> Option<PeerStatus> {
        let live = self.device.peer(&peer.public_key)?;
        Some(PeerStatus {
            name: peer.name.clone(),
            public_key: peer.public_key.to_string(),
            endpoint: live.endpoint().map(|endpoint| endpoint.remote),
            allowed_ips: peer.allowed_ips.clone(),
            latest_handshake_seconds: live.last_handshake().map(|at| now.since(at).as_secs_f64()),
            handshakes: live.handshakes(),
            rx_bytes: live.rx_bytes(),
            tx_bytes: live.tx_bytes(),
            persistent_keepalive: peer.persistent_keepalive,
        })
    }

    fn stats(&self) -> Stats {
        let mut drops = BTreeMap::new();
        for (reason, count) in self.counters.drops().into_iter().chain(self.shield.drops()) {
            *drops.entry(reason.to_owned()).or_insert(0) += count;
        }
        Stats {
            drops,
            traffic: self.counters.traffic(),
            sources: self.shield.sources(MOST_SOURCES),
            sources_inner: self.shield.sources_inner(MOST_SOURCES),
            denied: self.bans.nets(false),
            denied_inner: self.bans.nets(true),
        }
    }
}

/// What the peers of a configuration own.
fn routes(config: &Config) -> Vec<ipnet::IpNet> {
    let peers = config.peers.iter();
    peers
        .flat_map(|peer| peer.allowed_ips.iter().map(ipnet::IpNet::trunc))
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
