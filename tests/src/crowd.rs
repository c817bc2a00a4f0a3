//! Many peers of one hub, each a whole WireGuard client of its own, in one thread: they ping the hub
//! through their tunnels, and say how long each took to be answered again after something happened.
//!
//! ```text
//!  10.100.0.1 ─ peer 0 ┐
//!  10.100.0.2 ─ peer 1 ┼ one namespace ═══ wire ═══ hub
//!  …                   ┘
//! ```
//!
//! Each has an address outside of its own, as hubs count by that, or two. All of them are the namespace's:
//! Linux takes a whole network for its own if a local route says so. What the peers do is the
//! protocol core's; only their sockets and clocks are here.

use std::cell::Cell;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, anyhow, bail, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustix::process::{Resource, getrlimit, setrlimit};
use taltun_crypto::{PresharedKey, PrivateKey, PublicKey};
use taltun_protocol::batch::Opened;
use taltun_protocol::device::{Device, PeerSettings, Settings};
use taltun_protocol::messages::{DATA_HEADER_LEN, Message};
use taltun_protocol::peer::Endpoint;
use taltun_protocol::randomness::Randomness;
use taltun_protocol::time::Time;
use taltun_protocol::tunnel::Tunnel;
use tokio::net::UdpSocket as AsyncSocket;
use tokio::sync::watch;
use tokio::task::LocalSet;
use tokio::time::interval_at;

use crate::netns::Namespace;
use crate::topology::{Pair, WIRE_A};
use crate::traffic::ping::{Pinger, echo_request};

/// The peers' addresses outside.
const OUTSIDE: &str = "10.100.0.0/16";
/// What of their addresses inside they send to.
const INSIDE: &str = "10.201.0.0/16";
/// What a datagram may have, and room for the tag of one that is sealed.
const BUFFER: usize = 2048;

/// Peers that are at work until this is dropped.
#[derive(Debug)]
pub struct Crowd {
    moments: Option<watch::Sender<Moment>>,
    answers: Receiver<Duration>,
    count: u16,
    roams: bool,
    tid: u32,
    thread: Option<JoinHandle<()>>,
}

/// The public key of the peer with this number, base64.
pub fn public_key(number: u16) -> String {
    private_key(number).public_key().to_string()
}

/// The address in the tunnel of the peer with this number.
pub fn inner(number: u16) -> Ipv4Addr {
    Ipv4Addr::new(10, 201, (number / 250) as u8, (number % 250) as u8 + 1)
}

/// At home, and elsewhere.
fn outer(number: u16) -> [Ipv4Addr; 2] {
    [0x0a64_0001, 0x0a64_8001].map(|first| Ipv4Addr::from(first + u32::from(number)))
}

/// Something has happened.
#[derive(Debug, Clone, Copy, Default)]
struct Moment {
    /// At which of their two addresses outside the peers are now.
    home: usize,
}

/// Where peers and hub are, and what the peers do.
#[derive(Debug, Clone)]
pub struct Plan {
    /// How many peers there are.
    pub count: u16,
    /// The hub's public key, base64.
    pub hub_key: String,
    /// Where it listens.
    pub hub: SocketAddr,
    /// Its address in the tunnel.
    pub hub_inner: Ipv4Addr,
    /// How often each pings it.
    pub interval: Duration,
    /// Whether each has a second address outside to go to, which takes one more open file.
    pub roams: bool,
}

impl Plan {
    fn addresses(&self) -> usize {
        if self.roams { 2 } else { 1 }
    }
}

impl Crowd {
    /// Has the peers ready on the right side of `pair`, whose left one is the hub's. Each has made
    /// its initiation, and sends it at the first [`go`](Self::go).
    pub fn ready(pair: &Pair, plan: Plan) -> Result<Self> {
        let (right, left) = (&pair.right, &pair.left);
        right.ip(&format!("route replace local {OUTSIDE} dev lo"))?;
        let gateway = WIRE_A.far_v4();
        left.ip(&format!("route replace {OUTSIDE} via {gateway}"))?;
        // Else most of the first packets would be lost, which wait for the neighbour's hardware address.
        Pinger::new(right, WIRE_A.near_v4())?.wait_until_answered(Duration::from_secs(5))?;
        raise_file_limit(plan.addresses() as u64 * u64::from(plan.count) + 256)?;
        let sockets = bind(right, &plan)?;
        let (moments, moment) = watch::channel(Moment::default());
        let (answers, answered) = channel();
        let (started, is_started) = channel();
        let (count, roams) = (plan.count, plan.roams);
        let thread = std::thread::spawn(move || {
            let outcome = run(plan, sockets, moment, answers, &started);
            if let Err(error) = outcome
                && let Err(unheard) = started.send(Err(error))
            {
                eprintln!("the peers ended: {:?}", unheard.0);
            }
        });
        let tid = is_started.recv().context("the peers ended")??;
        Ok(Self {
            moments: Some(moments),
            answers: answered,
            count,
            roams,
            tid,
            thread: Some(thread),
        })
    }

    /// The thread of all peers, as the kernel numbers it.
    pub fn thread(&self) -> u32 {
        self.tid
    }

    /// From now on it counts: the first time the peers begin; later, something has happened to
    /// the hub.
    pub fn go(&self) {
        self.tell(|_| {});
    }

    /// The same, and all peers, which must be such as roam, are elsewhere: at their other address
    /// outside, and back the next time.
    pub fn go_elsewhere(&self) {
        assert!(self.roams, "the peers have one address each");
        self.tell(|moment| moment.home ^= 1);
    }

    fn tell(&self, change: impl FnOnce(&mut Moment)) {
        // What came late of the moment before.
        while self.answers.try_recv().is_ok() {}
        let moments = self.moments.as_ref().expect("it is there until the drop");
        moments.send_modify(change);
    }

    /// Waits until each peer got an answer to a ping that it sent after that moment. How long that
    /// took each, the fastest first.
    pub fn wait(&self, limit: Duration) -> Result<Vec<Duration>> {
        let begun = Instant::now();
        let mut took = Vec::new();
        while took.len() < usize::from(self.count) {
            let left = limit.saturating_sub(begun.elapsed());
            if let Ok(time) = self.answers.recv_timeout(left) {
                took.push(time);
                continue;
            }
            let answered = took.len();
            let all = self.count;
            ensure!(
                left.is_zero() || begun.elapsed() >= limit,
                "the peers ended after {answered} of {all} were answered"
            );
            bail!("only {answered} of {all} peers were answered in {limit:?}");
        }
        took.sort_unstable();
        Ok(took)
    }
}

impl Drop for Crowd {
    fn drop(&mut self) {
        // Its end is heard by all peers.
        self.moments = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Each peer has a socket for each of its addresses.
fn raise_file_limit(least: u64) -> Result<()> {
    let mut limit = getrlimit(Resource::Nofile);
    if limit.current.is_some_and(|current| current < least) {
        limit.current = Some(least);
        limit.maximum = limit.maximum.map(|maximum| maximum.max(least));
        setrlimit(Resource::Nofile, limit).context("no more files than there are peers")?;
    }
    Ok(())
}

/// The sockets of each peer, bound to the addresses outside that are its own.
fn bind(namespace: &Namespace, plan: &Plan) -> Result<Vec<Vec<UdpSocket>>> {
    let bind = |address: Ipv4Addr| {
        let socket = UdpSocket::bind((address, 0))?;
        socket.set_nonblocking(true)?;
        io::Result::Ok(socket)
    };
    let of_peer = |number| {
        let addresses = outer(number).into_iter().take(plan.addresses());
        addresses.map(bind).collect()
    };
    let sockets = namespace.run(|| (0..plan.count).map(of_peer).collect::<io::Result<_>>())?;
    sockets.context("no socket for each peer")
}

/// What all peers share.
struct World {
    plan: Plan,
    key: PublicKey,
    clock: Clock,
    /// When the last moment was.
    begun: Cell<Instant>,
    answers: Sender<Duration>,
}

fn run(
    plan: Plan,
    sockets: Vec<Vec<UdpSocket>>,
    moment: watch::Receiver<Moment>,
    answers: Sender<Duration>,
    started: &Sender<Result<u32>>,
) -> Result<()> {
    let bytes: Option<[u8; 32]> = STANDARD.decode(&plan.hub_key)?.try_into().ok();
    let world = Rc::new(World {
        key: PublicKey(bytes.context("a key has 32 bytes")?),
        plan,
        clock: Clock::start(),
        begun: Cell::new(Instant::now()),
        answers,
    });
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let peers = LocalSet::new();
    peers.block_on(&runtime, async {
        let mut tasks = Vec::new();
        for (number, sockets) in (0..).zip(sockets) {
            let sockets = sockets.into_iter().map(AsyncSocket::from_std);
            let peer = Peer::new(world.clone(), number, sockets.collect::<io::Result<_>>()?)?;
            tasks.push(tokio::task::spawn_local(peer.run(moment.clone())));
        }
        let mut moment = moment;
        let _ = started.send(Ok(rustix::thread::gettid().as_raw_pid().cast_unsigned()));
        while moment.changed().await.is_ok() {
            world.begun.set(Instant::now());
        }
        for task in tasks {
            task.await??;
        }
        Ok(())
    })
}

/// One of them.
struct Peer {
    world: Rc<World>,
    number: u16,
    /// At home, and elsewhere.
    sockets: Vec<AsyncSocket>,
    /// Which of them it uses.
    home: usize,
    device: Device,
    tunnel: Arc<Tunnel>,
    /// The next ping's.
    sequence: u16,
    /// The first that counts, once something happened; `None` when it has been answered.
    counts_from: Option<u16>,
}

impl Peer {
    fn new(world: Rc<World>, number: u16, sockets: Vec<AsyncSocket>) -> Result<Self> {
        let mut seed = [0x17; 32];
        seed[..2].copy_from_slice(&number.to_be_bytes());
        let mut device = Device::new(Settings {
            private_key: private_key(number),
            randomness: Randomness::seeded(seed),
            wall_clock_at_zero: world.clock.wall(),
            mtu: 1420,
            local_addresses: vec![IpAddr::V4(inner(number))],
            relay: false,
        });
        let peer = PeerSettings {
            public_key: world.key,
            preshared_key: PresharedKey::default(),
            endpoint: Some(Endpoint::from(world.plan.hub)),
            allowed_ips: vec![INSIDE.parse()?],
            persistent_keepalive: None,
        };
        let now = world.clock.now();
        let added = device.add_peer(peer, now);
        added.map_err(|error| anyhow!("{error}"))?;
        device.initiate(&world.key, now);
        Ok(Self {
            tunnel: Arc::clone(device.tunnel()),
            world,
            number,
            sockets,
            home: 0,
            device,
            sequence: 0,
            counts_from: None,
        })
    }

    async fn run(mut self, mut moment: watch::Receiver<Moment>) -> Result<()> {
        if moment.changed().await.is_err() {
            return Ok(());
        }
        self.counts_from = Some(0);
        // Not all at once.
        let (interval, count) = (self.world.plan.interval, self.world.plan.count);
        let first = interval * u32::from(self.number) / u32::from(count);
        let mut ping = interval_at((Instant::now() + first).into(), interval);
        let mut buffer = [0; BUFFER];
        loop {
            self.advance().await?;
            let wake = self.wake();
            tokio::select! {
                received = self.sockets[self.home].recv_from(&mut buffer) => match received {
                    Ok((length, from)) => self.hear(&mut buffer[..length], from).await?,
                    // The hub is away: its machine says that nobody listens.
                    Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {}
                    Err(error) => return Err(error.into()),
                },
                () = tokio::time::sleep_until(wake.into()) => {}
                _ = ping.tick() => self.ping().await?,
                changed = moment.changed() => match changed {
                    Ok(()) => {
                        self.home = moment.borrow_and_update().home;
                        self.counts_from = Some(self.sequence);
                    }
                    Err(_) => return Ok(()),
                },
            }
        }
    }

    /// Does what is due, and sends what has to go.
    async fn advance(&mut self) -> Result<()> {
        let now = self.world.clock.now();
        self.device.handle_requests(now);
        self.device.handle_timeout(now);
        while self.device.poll_event().is_some() {}
        while let Some(transmit) = self.device.poll_transmit() {
            self.send(&transmit.payload).await?;
        }
        Ok(())
    }

    fn wake(&self) -> Instant {
        let clock = &self.world.clock;
        let far = clock.start + Duration::from_secs(3600 * 24);
        let due = self.device.poll_timeout();
        due.map_or(far, |due| clock.start + due.since(Time::START))
    }

    async fn ping(&mut self) -> Result<()> {
        let request = echo_request(
            inner(self.number),
            self.world.plan.hub_inner,
            self.number,
            self.sequence,
        );
        let mut message = vec![0; DATA_HEADER_LEN + request.len() + 64];
        message[DATA_HEADER_LEN..][..request.len()].copy_from_slice(&request);
        let now = self.world.clock.now();
        let sealed = self.tunnel.batch(now).seal(&mut message, request.len());
        let Ok(sealed) = sealed else {
            // There is no session, and the next handshake is under way or due.
            self.device.initiate(&self.world.key, now);
            return Ok(());
        };
        self.sequence = self.sequence.wrapping_add(1);
        self.send(&message[..sealed.len]).await
    }

    async fn send(&self, message: &[u8]) -> Result<()> {
        match self.sockets[self.home]
            .send_to(message, self.world.plan.hub)
            .await
        {
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => Ok(()),
            sent => Ok(sent.map(drop)?),
        }
    }

    async fn hear(&mut self, datagram: &mut [u8], from: SocketAddr) -> Result<()> {
        let now = self.world.clock.now();
        let from = Endpoint::from(from);
        if let Ok(Message::Data { receiver, counter }) = Message::parse(datagram) {
            let mut batch = self.tunnel.batch(now);
            let opened = batch.open(receiver, counter, datagram, from);
            drop(batch);
            if matches!(opened, Ok(Opened::Local(_))) {
                self.hear_answer(&datagram[DATA_HEADER_LEN..]);
            }
        } else {
            // What isn't right is the hub's affair; the peer tries again.
            let _ = self.device.handle_handshake(datagram, from, false, now);
        }
        // The hub is there, so the next ping needn't wait.
        match self.counts_from {
            Some(_) => self.ping().await,
            None => Ok(()),
        }
    }

    fn hear_answer(&mut self, packet: &[u8]) {
        let Some([high, low]) = packet.get(26..28) else {
            return;
        };
        let sequence = u16::from_be_bytes([*high, *low]);
        // So many pings later, as numbers go round.
        let counts = |first: u16| sequence.wrapping_sub(first) < u16::MAX / 2;
        if self.counts_from.is_some_and(counts) {
            self.counts_from = None;
            let took = self.world.begun.get().elapsed();
            let _ = self.world.answers.send(took);
        }
    }
}

fn private_key(number: u16) -> PrivateKey {
    let mut bytes = [0x5a; 32];
    // Not at the start: three bits of the first byte aren't part of a key.
    bytes[1..3].copy_from_slice(&number.to_be_bytes());
    PrivateKey::from_bytes(bytes)
}

/// The clock that the protocol is told.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Clock {
    start: Instant,
    wall: Duration,
}

impl Clock {
    pub(crate) fn start() -> Self {
        let wall = SystemTime::now().duration_since(UNIX_EPOCH);
        Self {
            start: Instant::now(),
            wall: wall.unwrap_or_default(),
        }
    }

    /// What the wall clock showed at the start.
    pub(crate) fn wall(self) -> Duration {
        self.wall
    }

    pub(crate) fn now(self) -> Time {
        Time::START + self.start.elapsed()
    }
}
