//! Under a flood of initiations each side asks the other to prove its address first, and
//! the other can.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle, sleep};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use taltun_tests::lab::{PORT, Role};
use taltun_tests::netns::Namespace;
use taltun_tests::node::{AfXdp, Config, Keys, Node, Peer, XdpMode};
use taltun_tests::sys::Signal;
use taltun_tests::topology::{Pair, WIRE_A, private_prefix};
use taltun_tests::traffic::ping::Pinger;

use crate::interop::{Starts, plain_pair};
use crate::support::{Case, KERNEL_WIREGUARD, eventually, taltun};
use crate::watch::{MessageKind, Watch};
use crate::wireguard::{Program, Wg, WgKeys, WgPeer};

pub const CASES: &[Case] = &[
    Case {
        name: "interop: under load Taltun gives wireguard-go a cookie, which comes back with it",
        programs: &["wireguard-go", "wg", "nft"],
        run: || taltun_under_load(Program::WireguardGo),
    },
    Case {
        name: "interop: wireguard-go under load gives Taltun a cookie, which comes back with it",
        programs: &["wireguard-go", "wg", "nft"],
        run: || other_under_load(Program::WireguardGo),
    },
    Case {
        name: "interop: under load Taltun gives the kernel's WireGuard a cookie, which comes back with it",
        programs: &["wg", "nft", KERNEL_WIREGUARD],
        run: || taltun_under_load(Program::Kernel),
    },
];

/// How long a tunnel may take under load: the first initiation is answered with a cookie,
/// and a later one, five seconds after it each, may be lost in the flood.
const LOADED_UP_LIMIT: Duration = Duration::from_secs(60);
/// A hub that has refused so many has been under load for seconds.
const REFUSED_UNDER_LOAD: u64 = 40_000;
const LENGTH_OF_INITIATION: usize = 148;
const LENGTH_OF_COOKIE_REPLY: usize = 64;

/// On a busy machine the flood may stand still for longer than a load lasts, and then nobody is
/// asked for anything.
fn taltun_under_load(program: Program) -> Result<()> {
    for _ in 0..3 {
        if is_asked_under_load(program)? {
            return Ok(());
        }
    }
    bail!("{program:?} was not asked for a proof")
}

fn is_asked_under_load(program: Program) -> Result<bool> {
    let taltun = taltun()?;
    let pair = Pair::create(&private_prefix())?;
    let (ours, theirs) = (Keys::generate(&taltun)?, WgKeys::generate()?);
    // The programs in front of the port would keep the flood away.
    let hub = Node::start(
        &pair.left,
        &taltun,
        &Config {
            more: "",
            mode: "server",
            vip: Role::Hub.interface_vips(),
            local_addr: format!("[::]:{PORT}"),
            private_key: ours.private,
            xdp: XdpMode::Off,
            af_xdp: AfXdp::Auto,
            peers: vec![Peer {
                name: "other",
                public_key: theirs.public.clone(),
                vip: Role::A.vips(),
                endpoint: None,
                allowed_ips: Vec::new(),
            }],
        },
    )?;
    let initiation = initiation_to(&pair.right, &ours.public)?;
    let watch = Watch::start(&pair.right)?;
    let to_hub = SocketAddr::new(WIRE_A.near_v4(), PORT);
    let flood = Flood::start(&pair.right, to_hub, initiation)?;
    eventually("the flood gets cookies", LOADED_UP_LIMIT, || {
        Ok(flood.cookies() > 0)
    })?;
    // A source that sends too much gets them also without a load, and a load begins for good only once
    // more came than a hub takes at once.
    eventually("the hub is under load", LOADED_UP_LIMIT, || {
        Ok(hub.stats()?.dropped("no_cookie") > REFUSED_UNDER_LOAD)
    })?;
    let other = Wg::start(program, &pair.right)?;
    let peer = WgPeer {
        public_key: ours.public,
        allowed_ips: "10.200.0.0/24".to_owned(),
        endpoint: Some(to_hub.to_string()),
        ..WgPeer::default()
    };
    other.configure(&theirs, PORT, &[peer])?;
    other.bring_up(&["10.200.0.2/24"])?;
    Pinger::new(&pair.right, Role::Hub.v4())?.wait_until_answered(LOADED_UP_LIMIT)?;
    let cookies = watch.received(MessageKind::CookieReply)?;
    let proofs = watch.sent(MessageKind::InitiationWithMac2)?;
    let (sent, got) = flood.stop();
    let refused = hub.stats()?.dropped("no_cookie");
    println!(
        "flood: {sent} sent, {got} cookies; {refused} refused; {cookies} cookies for {program:?}, {proofs} proofs of it"
    );
    ensure!(cookies == 0 || proofs > 0, "{program:?} gave no proof");
    ensure!(refused > 0, "nothing is counted");
    ensure!(
        hub.status()?.peers[0].handshakes > 0,
        "no handshake is counted"
    );
    hub.stop(Signal::Terminate)?;
    Ok(cookies > 0)
}

fn other_under_load(program: Program) -> Result<()> {
    let pair = Pair::create(&private_prefix())?;
    let watch = Watch::start(&pair.left)?;
    let (_taltun, other) = plain_pair(&pair, program, Starts::Taltun, false, None)?;
    let key = other.wg("show", &["public-key"])?.trim().to_owned();
    let initiation = initiation_to(&pair.left, &key)?;
    let to_other = SocketAddr::new(WIRE_A.far_v4(), PORT);
    let flood = Flood::start(&pair.left, to_other, initiation)?;
    eventually("the flood gets cookies", LOADED_UP_LIMIT, || {
        Ok(flood.cookies() > 0)
    })?;
    Pinger::new(&pair.left, Role::A.v4())?.wait_until_answered(LOADED_UP_LIMIT)?;
    let cookies = watch.received(MessageKind::CookieReply)?;
    let proofs = watch.sent(MessageKind::InitiationWithMac2)?;
    let (sent, got) = flood.stop();
    println!(
        "flood: {sent} sent, {got} cookies; {cookies} cookies for us, {proofs} proofs of ours"
    );
    ensure!(cookies > 0, "we were not asked for a proof");
    ensure!(proofs > 0, "we gave no proof");
    Ok(())
}

/// A true initiation of a stranger to whoever has this public key: it costs him all the
/// arithmetic to find out that he doesn't know its sender.
pub fn initiation_to(namespace: &Namespace, public_key: &str) -> Result<Vec<u8>> {
    let socket = namespace.udp("127.0.0.1:0")?;
    socket.set_read_timeout(Some(Duration::from_secs(10)))?;
    let stranger = Wg::start(Program::Taltun, namespace)?;
    let peer = WgPeer {
        public_key: public_key.to_owned(),
        endpoint: Some(socket.local_addr()?.to_string()),
        keepalive: Some(1),
        ..WgPeer::default()
    };
    stranger.configure(&WgKeys::generate()?, 0, &[peer])?;
    stranger.bring_up(&[])?;
    let mut buffer = vec![0; 2048];
    let length = socket.recv(&mut buffer).context("no initiation came")?;
    ensure!(length == LENGTH_OF_INITIATION, "{length} bytes came");
    buffer.truncate(length);
    Ok(buffer)
}

/// The same initiation over and over, with some room between them for somebody who is serious;
/// dropping it ends it.
pub struct Flood {
    stop: Arc<AtomicBool>,
    sent: Arc<AtomicU64>,
    cookies: Arc<AtomicU64>,
    thread: Option<JoinHandle<()>>,
}

impl Flood {
    /// More than any implementation lets wait without being under load.
    const BURST: u64 = 900;
    const PAUSE: Duration = Duration::from_millis(50);

    fn start(from: &Namespace, to: SocketAddr, initiation: Vec<u8>) -> Result<Self> {
        Self::begin(from, to, initiation, Self::BURST, Self::PAUSE)
    }

    /// One after the other, so many a second.
    pub fn steady(
        from: &Namespace,
        to: SocketAddr,
        initiation: Vec<u8>,
        a_second: u32,
    ) -> Result<Self> {
        Self::begin(from, to, initiation, 1, Duration::from_secs(1) / a_second)
    }

    fn begin(
        from: &Namespace,
        to: SocketAddr,
        initiation: Vec<u8>,
        burst: u64,
        pause: Duration,
    ) -> Result<Self> {
        let socket = from.udp("0.0.0.0:0")?;
        socket.connect(to)?;
        socket.set_nonblocking(true)?;
        let mut flood = Self {
            stop: Arc::default(),
            sent: Arc::default(),
            cookies: Arc::default(),
            thread: None,
        };
        let (stop, sent, cookies) = (
            Arc::clone(&flood.stop),
            Arc::clone(&flood.sent),
            Arc::clone(&flood.cookies),
        );
        flood.thread = Some(thread::spawn(move || {
            let mut buffer = [0; 2048];
            while !stop.load(Ordering::Relaxed) {
                for _ in 0..burst {
                    let gone = socket.send(&initiation).is_ok();
                    sent.fetch_add(u64::from(gone), Ordering::Relaxed);
                }
                while let Ok(length) = socket.recv(&mut buffer) {
                    let is_cookie = length == LENGTH_OF_COOKIE_REPLY;
                    cookies.fetch_add(u64::from(is_cookie), Ordering::Relaxed);
                }
                sleep(pause);
            }
        }));
        Ok(flood)
    }

    /// Cookies that came for it.
    pub fn cookies(&self) -> u64 {
        self.cookies.load(Ordering::Relaxed)
    }

    /// Ends it; what was sent, and how many cookies came.
    pub fn stop(mut self) -> (u64, u64) {
        self.end();
        (self.sent.load(Ordering::Relaxed), self.cookies())
    }

    fn end(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Drop for Flood {
    fn drop(&mut self) {
        self.end();
    }
}
