//! The controller's state, and what it does about what happens: handshakes, timers, endpoint
//! names, calls. One thread owns it. Parts of it that are a subject of their own have a file
//! of their own: bans, reloading, reporting, routes by name, the UAPI.

use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use ipnet::IpNet;
use taltun_common::drops::DropReason;
use tokio::sync::{Notify, mpsc, watch};
use tracing::{debug, error, info, warn};

use super::bans::{BanOptions, Bans, Owners};
use super::dirs;
use super::dns_routes::Table;
use super::flaps::Flaps;
use super::icmp::Icmp;
use super::lanes::Lanes;
use super::load::Load;
use super::memory::Memory;
use super::names::{Resolved, Resolver};
use super::pace::Pace;
use super::peer_log::{Cause, PeerLog};
use super::peers::{self, Peers};
use super::plant::{Parts, Plant};
use super::uapi::WgChanges;
use super::underlay::Underlay;
use super::{Request, Response, runtime_dir};
use crate::accel::{self, Shield};
use crate::config::{self, Config, DnsRoutes, Mode, Overrides};
use crate::crypto::PublicKey;
use crate::dataplane::clock::{self, Apart};
use crate::dataplane::counters::Counters;
use crate::dataplane::gate::Gate;
use crate::dataplane::runs::{Run, Runs};
use crate::dataplane::shared::Handshake;
use crate::dataplane::tun::Tun;
use crate::dataplane::udp::{Sender, Socket, UdpOffloads};
use crate::dataplane::unreachable::Unreachable;
use crate::layer::Layer;
use crate::protocol::device::{Device, Event, Settings};
use crate::protocol::randomness::{NoRandomness, Randomness};
use crate::protocol::time::Time;
use crate::system::Kept;

/// What a configuration was made of, to make it again on `reload`.
#[derive(Clone, Default)]
pub struct Origin {
    /// The file, if there is one.
    pub path: Option<PathBuf>,
    /// What the command line said, which has the last word.
    pub overrides: Overrides,
    /// Whether a kill switch stays closed at SIGTERM, which may be for a restart.
    pub keep_kill_switch: bool,
    /// Switches the longer log on and off.
    pub debug_switch: Option<fn(bool)>,
}

impl Origin {
    /// The words after `taltun run` that start the same tunnel again, but for our key.
    pub(super) fn words(&self) -> Vec<String> {
        let mut words = Vec::new();
        if let Some(path) = &self.path {
            let path = std::path::absolute(path).unwrap_or_else(|_| path.clone());
            words.extend(["--config".to_owned(), path.display().to_string()]);
        }
        words.extend(self.overrides.words());
        if self.keep_kill_switch {
            words.push("--keep-kill-switch".to_owned());
        }
        words
    }
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

/// The controller's state.
pub(super) struct Engine {
    /// Before the workers, whose sockets they use.
    pub(super) lanes: Lanes,
    /// Early, so that the workers end before anything that they use.
    pub(super) plant: Plant,
    /// What was last read, with what was changed of `[interface]` since; its peers are in
    /// `peers`.
    pub(super) config: Config,
    /// What is known of peers beyond what the device knows, which is the live truth.
    pub(super) peers: Peers,
    pub(super) origin: Origin,
    pub(super) device: Device,
    pub(super) shield: Shield,
    pub(super) bans: Bans,
    pub(super) gate: Arc<Gate>,
    pub(super) counters: Arc<Counters>,
    sender: Sender,
    unreachable: Unreachable,
    runs: Runs,
    pub(super) resolver: Resolver,
    pub(super) manner: Manner,
    /// What names are routed, where `[dns_routes]` is.
    pub(super) names_routed: Option<Table>,
    /// What `wg` changed and the log doesn't have yet.
    pub(super) by_wg: WgChanges,
    /// What of the host's set-up others took away, where there is one.
    pub(super) kept: Option<Kept>,
    pub(super) started: Time,
    /// Addresses of this host.
    pub(super) own_addresses: Vec<IpAddr>,
    /// The network that the tunnel runs over.
    pub(super) underlay: Underlay,
    load: Load,
    /// Peers that two machines seem to share.
    pub(super) flaps: Flaps,
    clocks: Apart,
    pub(super) peer_log: PeerLog,
    /// Of a tunnel that is configured: nobody knows the peers of another before they are set.
    pub(super) memory: Option<Memory>,
    pub(super) icmp: Icmp,
    /// When sources were last looked at for a wrong key of ours, and how many such messages
    /// XDP had dropped then.
    pub(super) looked_for_misled: Option<Time>,
    pub(super) misled_before: u64,
    /// How often peers' addresses are told.
    telling: Pace,
    /// Where the kernel refused to send, and why, until that is told.
    pub(super) not_sent: HashMap<SocketAddr, i32>,
}

/// What an [`Engine`] is made of.
pub(super) struct Making {
    pub config: Config,
    pub origin: Origin,
    pub manner: Manner,
    pub sockets: Vec<Arc<Socket>>,
    pub tuns: Vec<Tun>,
    pub handshakes: mpsc::Sender<Handshake>,
    pub wake: Arc<Notify>,
    pub resolver: Resolver,
    pub underlay: Underlay,
    /// Tells the forwarder what `[dns_routes]` says.
    pub dns_routes: Option<watch::Sender<Arc<DnsRoutes>>>,
    /// The mark that our datagrams are going to have.
    pub mark: Option<u32>,
}

impl Engine {
    pub(super) fn new(making: Making) -> anyhow::Result<Self> {
        let now = clock::now();
        let mut config = making.config;
        let peers = Peers::new(Arc::new(std::mem::take(&mut config.peers)));
        let interface = &config.interface;
        let plain = making.manner == Manner::Plain;
        let mut device = Device::new(Settings {
            private_key: interface.private_key.clone(),
            randomness: Randomness::new(random),
            wall_clock_at_zero: clock::wall_clock_at_zero(),
            mtu: interface.mtu,
            local_addresses: interface.vip.iter().map(IpNet::addr).collect(),
            relay: relays(&config, making.manner),
        });
        if plain {
            device.set_private_key(None, now);
        }
        for peer in peers.filed().iter() {
            if let Err(error) = device.add_peer(peers::settings(peer), now) {
                // The configuration was checked for this.
                error!("{}: {error}", peer.label());
            }
        }
        let bans = Bans::new(&config.accel, making.origin.path.clone());
        device.set_workers(making.sockets.len() as u32);
        device.set_initiations_per_second(Some(config.accel.handshakes_per_second));
        let mut shield = Shield::start(&accel::ShieldSettings {
            interfaces: &config.accel.interfaces,
            listen: making.sockets[0].local_addr(),
            mark: making.mark.unwrap_or_default(),
            mode: config.accel.xdp,
            af_xdp: config.accel.af_xdp == config::AfXdp::On,
            deny: &bans.nets(Layer::Outer),
            deny_inner: &bans.nets(Layer::Inner),
            routes: &device.routes(),
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
            filter: Arc::clone(bans.filter()),
            counters: Arc::clone(&counters),
            gate: Arc::clone(&gate),
            handshakes: making.handshakes,
            wake: making.wake,
            offloads: offloads(&config),
            busy_poll: Duration::from_micros(config.dataplane.busy_poll_us.into()),
            crypto_threads: config.dataplane.crypto_threads,
        };
        let memory = (!plain).then(|| Memory::of(&dirs::state(), &config.interface.tun_name));
        let names_routed = making.dns_routes.map(|told| Table::new(told, interface));
        let plant =
            Plant::start(parts, making.sockets, making.tuns).context("cannot start the workers")?;
        Ok(Self {
            lanes: Lanes::new(config.accel.af_xdp),
            sender: plant.sender(),
            unreachable: Unreachable::default(),
            peers,
            plant,
            config,
            origin: making.origin,
            device,
            shield,
            bans,
            gate,
            counters,
            runs: Runs::with_capacity(1),
            resolver: making.resolver,
            manner: making.manner,
            names_routed,
            by_wg: WgChanges::default(),
            kept: None,
            started: now,
            own_addresses: Vec::new(),
            underlay: making.underlay,
            load: Load::default(),
            flaps: Flaps::default(),
            clocks: Apart::new(clock::wall(), now),
            peer_log: PeerLog::default(),
            memory,
            icmp: Icmp::listen(),
            looked_for_misled: None,
            misled_before: 0,
            telling: Pace::default(),
            not_sent: HashMap::new(),
        })
    }

    /// Now, having told the device what the wall clock shows.
    pub(super) fn now(&mut self) -> Time {
        let now = clock::now();
        self.device.set_wall_clock(clock::wall(), now);
        now
    }

    /// Does what workers asked for.
    pub(super) fn handle_requests(&mut self) {
        let now = self.now();
        self.device.handle_requests(now);
    }

    /// Does what is due.
    pub(super) fn handle_timeout(&mut self) {
        let now = self.now();
        self.device.handle_timeout(now);
    }

    /// Marks all datagrams from now on. What leaves past the network stack can't be marked, so
    /// nothing may leave there before the first marked one does.
    pub(super) fn set_mark(&mut self, mark: u32) -> std::io::Result<()> {
        self.lanes.leave_by_socket(mark != 0);
        let outcome = self.plant.set_mark(mark);
        self.lanes.leave_by_socket(self.plant.mark() != 0);
        outcome
    }

    /// Ends all sessions if the clocks say that this is another run of the machine: one that
    /// was stopped, rolled back or copied. Call it once a second.
    pub(super) fn follow_clocks(&mut self) {
        if self.clocks.have_parted(clock::wall(), clock::now()) {
            self.start_over("the wall clock was set, or the machine was stopped or rolled back");
        }
    }

    /// Ends all sessions, so that no key and nonce is used a second time, and makes new ones.
    pub(super) fn start_over(&mut self, why: &str) {
        warn!("{why}: all sessions end, and new ones are made");
        let now = self.now();
        self.device.start_over(now);
    }

    /// Says hello to peers, some names being looked up already.
    pub(super) fn begin(&mut self, resolved: Vec<Resolved>) {
        self.resolver.set_mark(self.plant.mark());
        self.read_foreign();
        for resolved in resolved {
            self.handle_resolved(resolved);
        }
        self.greet();
    }

    /// Tells that all is done.
    pub(super) fn tell_up(&self) {
        info!(
            "{} is up, listening on {}, with {} peer{}",
            self.config.interface.tun_name,
            self.plant.listen_address(),
            self.peers.filed().len(),
            if self.peers.filed().len() == 1 {
                ""
            } else {
                "s"
            }
        );
    }

    /// What it means that a worker ended by itself: who made the interface by name may delete
    /// it.
    pub(super) fn interface_gone(&self) -> anyhow::Result<()> {
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
        self.lanes
            .end(&mut self.shield, &self.plant, &self.counters);
        self.plant.listen(address)?;
        self.config.interface.local_addr = address;
        self.sender = self.plant.sender();
        let listen = self.plant.listen_address();
        self.shield.rebind(listen);
        self.shield.steer(&fds(self.plant.sockets()));
        Ok(())
    }

    /// Tells those who sort handshakes before us where peers are, if any has moved since.
    pub(super) fn tell_endpoints(&mut self) {
        let due = self.telling.is_due(self.device.len());
        if !due || !self.device.tunnel().take_places_changed() {
            return;
        }
        let peers = self.device.peers();
        let endpoints = peers.filter_map(|peer| Some(peer.endpoint()?.remote.ip().to_canonical()));
        let endpoints: HashSet<IpAddr> = endpoints.collect();
        self.shield.set_endpoints(endpoints.iter().copied());
        self.gate.set_endpoints(endpoints);
    }

    /// Has every queue that should have one an AF_XDP lane.
    pub(super) fn follow_queues(&mut self) {
        self.lanes
            .follow(&mut self.shield, &self.plant, &self.counters);
    }

    /// Forgets what is known of peers that are no more.
    pub(super) fn forget_strangers(&mut self) {
        for key in self.device.take_forgotten() {
            self.peers.touch([key]);
            // It may be back already.
            if self.device.peer(&key).is_some() {
                continue;
            }
            self.peers.forget(&key);
            self.peer_log.forget(&key);
            self.flaps.forget(&key);
            if let Some(memory) = &mut self.memory {
                memory.forget(&key);
            }
        }
        self.end_look_ups();
    }

    /// Ends look-ups of names that are nobody's endpoint any more.
    pub(super) fn end_look_ups(&mut self) {
        let peers = &self.peers;
        self.resolver.retain(|peer, host, port| {
            matches!(
                peers.endpoint(peer),
                Some(config::Endpoint::Name(name, at)) if name == host && *at == port
            )
        });
    }

    /// What to call a peer.
    pub(super) fn label(&self, key: &PublicKey) -> String {
        self.peers.label(key)
    }

    /// Says hello to peers whose place is known: a client does so at once, a server leaves
    /// it to its peers. Names are looked up in either case.
    fn greet(&mut self) {
        let peers = Arc::clone(self.peers.filed());
        for peer in peers.iter() {
            self.approach(peer);
        }
    }

    /// Looks a peer's name up, or where its address is known and we are a client, asks
    /// for a handshake.
    pub(super) fn approach(&mut self, peer: &config::Peer) {
        match &peer.endpoint {
            Some(config::Endpoint::Name(host, port)) => {
                self.resolver.resolve(peer.public_key, host, *port);
            }
            Some(config::Endpoint::Address(_)) if self.is_client() => {
                let now = self.now();
                self.device.initiate(&peer.public_key, now);
            }
            Some(config::Endpoint::Address(_)) | None => {}
        }
    }

    /// Does what the device wants done: the filter learns of an index before the message
    /// that carries it leaves.
    pub(super) fn carry_out(&mut self) {
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
                    if let Some(key) = self.device.key_of(id).copied() {
                        self.handle_given_up(&key);
                    }
                }
                other => self.tell(other),
            }
        }
        while let Some(transmit) = self.device.poll_transmit() {
            let run = Run {
                ecn: transmit.ecn,
                ..Run::of_one(0, transmit.payload.len(), transmit.endpoint)
            };
            self.runs.push(run, false);
            self.sender.send(&transmit.payload, &mut self.runs);
            if let Some(errno) = self.sender.take_refusal() {
                self.tell_not_sent(transmit.endpoint.remote, errno);
            }
        }
        while let Some(packet) = self.device.poll_given_up() {
            self.unreachable
                .tell(&packet, clock::now(), self.plant.tun());
        }
    }

    /// Nobody answered for 90 s. A client goes on trying, a server waits.
    fn handle_given_up(&mut self, key: &PublicKey) {
        debug!("no answer from {}", self.label(key));
        match self.peers.endpoint(key) {
            Some(config::Endpoint::Name(..)) => self.look_up_again(key),
            Some(config::Endpoint::Address(_)) if self.is_client() => {
                let now = self.now();
                self.device.initiate(key, now);
            }
            Some(config::Endpoint::Address(_)) => {}
            None => self.peer_log.let_go(key),
        }
    }

    /// A peer that doesn't answer may have moved to where its name leads now.
    pub(super) fn look_up_again(&mut self, key: &PublicKey) {
        if let Some(config::Endpoint::Name(host, port)) = self.peers.endpoint(key) {
            self.resolver.resolve(*key, host, *port);
        }
    }

    pub(super) fn handle_resolved(&mut self, resolved: Resolved) {
        let key = &resolved.peer;
        if !matches!(self.peers.endpoint(key), Some(config::Endpoint::Name(..))) {
            return;
        }
        match resolved.addresses {
            Ok(addresses) => {
                debug!("{} is at {addresses:?}", self.label(key));
                self.peer_log.resolved(key);
                self.device.set_places(key, &addresses, clock::now());
                if self.is_client() {
                    let now = self.now();
                    self.device.initiate(key, now);
                }
            }
            Err(reason) => {
                let label = self.label(key);
                let (cause, now) = (Cause::NotResolved(reason), clock::now());
                self.peer_log.trouble(key, &label, None, cause, now);
            }
        }
    }

    pub(super) fn handle_handshake(&mut self, handshake: &Handshake, waiting: usize) {
        let now = self.now();
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
            if reason == DropReason::Mac1 {
                self.peer_log.misled(from.remote.ip(), now);
            }
        }
    }

    pub(super) fn handle_call(&mut self, request: &Request) -> Response {
        match *request {
            Request::Status => Response::Status(Box::new(self.status())),
            Request::Stats => Response::Stats(Box::new(self.stats())),
            Request::Ban {
                net,
                inner,
                outer,
                force,
                seconds,
            } => {
                let layer = match (inner, outer) {
                    (true, _) => Some(Layer::Inner),
                    (false, true) => Some(Layer::Outer),
                    (false, false) => None,
                };
                let options = BanOptions { force, seconds };
                let (bans, mut owners, shield) = self.bans_and_owners();
                said(bans.ban(net, layer, options, &mut owners, shield))
            }
            Request::BanPeer {
                ref peer,
                outer,
                force,
                seconds,
            } => {
                let layer = Layer::from(!outer);
                let options = BanOptions { force, seconds };
                let (bans, mut owners, shield) = self.bans_and_owners();
                said(bans.ban_peer(peer, layer, options, &mut owners, shield))
            }
            Request::Unban { net, inner } => {
                said(self.bans.unban(net, inner.into(), &mut self.shield))
            }
            Request::UnbanPeer { ref peer, outer } => {
                let (bans, mut owners, shield) = self.bans_and_owners();
                said(bans.unban_peer(peer, Layer::from(!outer), &mut owners, shield))
            }
            Request::Export => Response::Export(self.export()),
            // The main loop does that, as it takes the host as well.
            Request::Reload => Response::Error("the tunnel is busy; try again".into()),
        }
    }

    /// The bans, what they are about, and where they are carried into.
    fn bans_and_owners(&mut self) -> (&mut Bans, Owners<'_>, &mut Shield) {
        let owners = Owners {
            device: &mut self.device,
            peers: &self.peers,
            vips: &self.config.interface.vip,
            own: &self.own_addresses,
        };
        (&mut self.bans, owners, &mut self.shield)
    }

    /// Ends the bans whose time is over.
    pub(super) fn expire_bans(&mut self) {
        self.bans.expire(&mut self.shield);
    }

    /// Tells the eBPF programs what they must know of our key and of what peers own no more.
    pub(super) fn tell_shield(&mut self) {
        self.shield.set_mac1_key(self.device.mac1_key());
        self.shield.remove_routes(&self.device.take_lost_routes());
    }

    pub(super) fn is_client(&self) -> bool {
        self.config.interface.mode == Mode::Client
    }
}

/// Whether packets between peers go straight from one to the other.
pub(super) fn relays(config: &Config, manner: Manner) -> bool {
    manner == Manner::Configured && config.relays()
}

/// Random bytes of the system's. It knows of copies of the machine and we may not.
fn random(bytes: &mut [u8]) -> Result<(), NoRandomness> {
    getrandom::fill(bytes).map_err(|error| {
        error!("no handshake is possible: no randomness: {error}");
        NoRandomness
    })
}

/// The sockets as the kernel knows them.
fn fds(sockets: &[Arc<Socket>]) -> Vec<BorrowedFd<'_>> {
    sockets.iter().map(|socket| socket.as_fd()).collect()
}

/// What the configuration leaves switched on.
pub(super) fn offloads(config: &Config) -> UdpOffloads {
    UdpOffloads {
        gso: config.dataplane.udp_gso,
        gro: config.dataplane.udp_gro,
    }
}

/// What a command did, or why it didn't.
fn said(outcome: Result<String, String>) -> Response {
    match outcome {
        Ok(done) => Response::Done(done),
        Err(reason) => Response::Error(reason),
    }
}
