//! A tunnel over a wire that loses, doubles, delays and corrupts what it carries, and over a
//! path whose MTU changes: all that arrives is right, arrives once, and every fault is
//! counted where it belongs.

use std::fs;
use std::net::SocketAddr;
use std::thread::{self, sleep};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use taltun_tests::lab::{Options, PORT, Role};
use taltun_tests::netns::Namespace;
use taltun_tests::node::{Config, Keys, Node, Peer};
use taltun_tests::sys::Signal;
use taltun_tests::topology::{Chain, Link, WIRE_A, WIRE_B, WIRE_C, private_prefix};
use taltun_tests::traffic::bad_wire::{BadWire, Counts, End, Faults};
use taltun_tests::traffic::checked_datagrams;
use taltun_tests::traffic::stream::Stream;

use crate::support::{Case, ensure_answers, taltun};
use crate::wireguard::{Program, Wg, WgKeys, WgPeer, at};

pub const CASES: &[Case] = &[
    Case {
        name: "bad wire: 200 MB of TCP arrive right through loss, reordering, copies, corruption and changes of MTU",
        programs: &[],
        run: || streams(&Amount::of(200_000_000), Other::Taltun),
    },
    Case {
        name: "bad wire: 40 MB of TCP to and from wireguard-go arrive right through the same",
        programs: &["wireguard-go", "wg"],
        run: || streams(&Amount::of(40_000_000), Other::WireguardGo),
    },
    Case {
        name: "bad wire: every datagram arrives right and once, or was lost or corrupted on the wire",
        programs: &[],
        run: || datagrams(DOUBLES_AND_CORRUPTS),
    },
    Case {
        name: "bad wire: what was only late or lost is never taken for replayed or forged",
        programs: &[],
        run: || datagrams(LOSES_AND_DELAYS),
    },
];

/// Run by [`crate::soak`].
pub fn ten_gigabytes() -> Result<()> {
    let amount = Amount {
        bytes: 10_000_000_000,
        handshakes: 2,
        limit: Duration::from_mins(30),
    };
    streams(&amount, Other::Taltun)
}

/// Bad enough that every kind of fault comes often, good enough that TCP gets on.
const BAD: Faults = Faults {
    loss: 1_500,
    duplication: 2_000,
    delay: 2_000,
    corruption: 500,
    window: 64,
    // Some copies come after the replay window has moved on.
    copy_window: 12_000,
};
const DOUBLES_AND_CORRUPTS: Faults = Faults {
    loss: 10_000,
    duplication: 20_000,
    delay: 20_000,
    corruption: 5_000,
    window: 200,
    copy_window: 12_000,
};
const LOSES_AND_DELAYS: Faults = Faults {
    loss: 10_000,
    duplication: 0,
    delay: 50_000,
    corruption: 0,
    // Far more than a card or a router reorders, and less than the replay window holds.
    window: 4_000,
    copy_window: 0,
};

/// Datagrams each way.
const DATAGRAMS: u64 = 40_000;
/// The same each time, though when packets come isn't.
const SEED: u64 = 20_261_121;

const USUAL_MTU: u16 = 1420;
const LINK_MTU: u16 = 1500;

/// What changes while packets are under way. Each is undone by a later one.
const CHANGES: &[(&str, Change)] = &[
    (
        "a narrow link behind a router",
        Change::Path(Link::Second, 1300),
    ),
    ("a wide one", Change::Path(Link::Second, LINK_MTU)),
    ("a smaller tunnel", Change::Tunnel(1280)),
    ("a narrow link of our own", Change::Path(Link::First, 1350)),
    ("the usual tunnel", Change::Tunnel(USUAL_MTU)),
    ("a wide link", Change::Path(Link::First, LINK_MTU)),
];
/// How much arrives between two of these in a long run.
const BETWEEN_CHANGES: u64 = 200_000_000;

#[derive(Debug, Clone, Copy)]
enum Change {
    Path(Link, u16),
    Tunnel(u16),
}

/// Who is on the right.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Other {
    Taltun,
    WireguardGo,
}

/// How much is enough.
#[derive(Debug)]
struct Amount {
    /// Of all streams together.
    bytes: u64,
    /// Sessions that have to have been made.
    handshakes: u64,
    limit: Duration,
}

impl Amount {
    fn of(bytes: u64) -> Self {
        Self {
            bytes,
            handshakes: 1,
            limit: Duration::from_mins(5),
        }
    }
}

/// The right end, kept running.
enum Right {
    Taltun(Node),
    Other(Wg),
}

/// Two machines, each of which takes the wire for the other.
struct Tunnel {
    left: Node,
    right: Right,
    wire: BadWire,
    chain: Chain,
}

impl Tunnel {
    fn start(other: Other) -> Result<Self> {
        let taltun = taltun()?;
        let chain = Chain::create(&private_prefix())?;
        let end = |ours, theirs| End {
            ours: SocketAddr::new(ours, PORT),
            theirs: SocketAddr::new(theirs, PORT),
        };
        let left = end(WIRE_C.far_v4(), WIRE_A.far_v4());
        let right = end(WIRE_B.near_v4(), WIRE_B.far_v4());
        let wire = BadWire::start(&chain.wire, left, right, SEED)?;

        let ours = Keys::generate(&taltun)?;
        let (right, public_key) = match other {
            Other::Taltun => {
                let keys = Keys::generate(&taltun)?;
                let peer = peer(Role::Hub, &ours.public, None);
                let config = config("server", Role::A, &keys.private, peer);
                let node = Node::start(&chain.right, &taltun, &config)?;
                (Right::Taltun(node), keys.public)
            }
            Other::WireguardGo => {
                let keys = WgKeys::generate()?;
                let other = Wg::start(Program::WireguardGo, &chain.right)?;
                let peer = WgPeer {
                    public_key: ours.public.clone(),
                    allowed_ips: "10.200.0.1/32, fd00:200::1/128".to_owned(),
                    ..WgPeer::default()
                };
                other.configure(&keys, PORT, &[peer])?;
                other.bring_up(&["10.200.0.2/24", "fd00:200::2/64"])?;
                (Right::Other(other), keys.public)
            }
        };
        let peer = peer(Role::A, &public_key, Some(at(WIRE_C.far_v4(), PORT)));
        let config = config("client", Role::Hub, &ours.private, peer);
        let left = Node::start(&chain.left, &taltun, &config)?;
        let tunnel = Self {
            left,
            right,
            wire,
            chain,
        };
        ensure_answers(&tunnel.chain.left, Role::A.v4())?;
        ensure_answers(&tunnel.chain.right, Role::Hub.v6())?;
        Ok(tunnel)
    }

    fn make(&self, change: Change) -> Result<()> {
        match change {
            Change::Path(link, mtu) => self.chain.set_mtu(link, mtu),
            Change::Tunnel(mtu) => {
                let right = match &self.right {
                    Right::Taltun(_) => "taltun0",
                    Right::Other(other) => other.interface(),
                };
                let (left, chain) = ("taltun0", &self.chain);
                chain.left.ip(&format!("link set {left} mtu {mtu}"))?;
                chain.right.ip(&format!("link set {right} mtu {mtu}"))?;
                Ok(())
            }
        }
    }

    /// What Taltun refused of what came from the wire, each way: left to right, right to left.
    /// Nothing is known of another's.
    fn refusals(&self) -> Result<[Option<Refusals>; 2]> {
        let right = match &self.right {
            Right::Taltun(node) => Some(Refusals::of(node)?),
            Right::Other(_) => None,
        };
        Ok([right, Some(Refusals::of(&self.left)?)])
    }

    fn stop(self) -> Result<()> {
        self.left.stop(Signal::Terminate)?;
        if let Right::Taltun(node) = self.right {
            node.stop(Signal::Terminate)?;
        }
        Ok(())
    }
}

/// What a node refused because of the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Refusals {
    replayed: u64,
    /// Whichever bit it was that had changed.
    corrupted: u64,
    /// Those that came faster than an AF_XDP socket was emptied.
    too_fast: u64,
}

impl Refusals {
    fn of(node: &Node) -> Result<Self> {
        let stats = node.stats()?;
        let corrupted = [
            "authentication",
            "shape",
            "unknown_index",
            "mac1",
            "handshake",
        ];
        Ok(Self {
            replayed: stats.dropped("replay"),
            corrupted: corrupted.iter().map(|reason| stats.dropped(reason)).sum(),
            too_fast: stats.dropped("ring_full"),
        })
    }
}

/// TCP both ways, over IPv4 and IPv6 at once, until `amount` has arrived.
fn streams(amount: &Amount, other: Other) -> Result<()> {
    let tunnel = Tunnel::start(other)?;
    let (left, right) = (&tunnel.chain.left, &tunnel.chain.right);
    tunnel.wire.set(BAD);
    let start = Instant::now();
    let mut streams = Vec::new();
    for (from, to, role) in [(left, right, Role::A), (right, left, Role::Hub)] {
        for address in [role.v4(), role.v6()] {
            streams.push(Stream::start(from, to, SocketAddr::new(address, 0))?);
        }
    }
    let step = BETWEEN_CHANGES.min(amount.bytes / (CHANGES.len() as u64 + 1));
    let mut changes = CHANGES.iter().cycle();
    let (mut at_last_change, mut latest, mut made) = (0, "nothing", 0);
    loop {
        sleep(Duration::from_millis(50));
        let broken = streams.iter().any(Stream::is_broken);
        let received: u64 = streams.iter().map(Stream::received).sum();
        ensure!(
            start.elapsed() < amount.limit,
            "only {received} bytes within {:?}; {:?}",
            amount.limit,
            tunnel.wire.counts()
        );
        let handshakes = tunnel.left.status()?.peers[0].handshakes;
        let is_enough = received >= amount.bytes
            && handshakes >= amount.handshakes
            && made >= CHANGES.len()
            && received >= at_last_change + step;
        if broken || is_enough {
            break;
        }
        if received >= at_last_change + step
            && let Some((name, change)) = changes.next()
        {
            tunnel
                .make(*change)
                .with_context(|| format!("can't change to {name}"))?;
            (at_last_change, latest) = (received, name);
            made += 1;
        }
    }
    let mut bytes = 0;
    for stream in streams {
        let outcome = stream.finish();
        bytes += outcome
            .with_context(|| format!("a connection broke; the last change was {latest}"))?
            .bytes;
    }
    let (counts, refusals) = (tunnel.wire.counts(), tunnel.refusals()?);
    println!(
        "{bytes} bytes in {:.0} s, {} handshakes, {made} changes; {counts:?}; {refusals:?}",
        start.elapsed().as_secs_f64(),
        tunnel.left.status()?.peers[0].handshakes
    );
    for namespace in [left, &tunnel.chain.wire] {
        ensure!(
            joined_fragments(namespace)? > 0,
            "no link was ever too narrow on the way to {}",
            namespace.name()
        );
    }
    for (counts, refusals) in counts.iter().zip(refusals) {
        ensure!(
            counts.lost > 0 && counts.doubled > 0 && counts.delayed > 0 && counts.corrupted > 0,
            "the wire was good: {counts:?}"
        );
        let Some(refusals) = refusals else { continue };
        ensure_accounted(*counts, refusals)?;
    }
    tunnel.stop()
}

/// UDP both ways at once, over a wire as bad as `faults`.
fn datagrams(faults: Faults) -> Result<()> {
    let tunnel = Tunnel::start(Other::Taltun)?;
    let (left, right) = (&tunnel.chain.left, &tunnel.chain.right);
    tunnel.wire.set(faults);
    let ways = [
        (left, right, SocketAddr::new(Role::A.v4(), 0)),
        (right, left, SocketAddr::new(Role::Hub.v6(), 0)),
    ];
    let outcomes: Result<Vec<_>> = thread::scope(|scope| {
        let send = |(from, to, address)| {
            scope.spawn(move || checked_datagrams::send(from, to, address, DATAGRAMS))
        };
        let running = ways.map(send);
        running
            .into_iter()
            .map(|way| way.join().map_err(|_| anyhow!("a sender panicked"))?)
            .collect()
    });
    let (outcomes, counts, refusals) = (outcomes?, tunnel.wire.counts(), tunnel.refusals()?);
    println!("{outcomes:?}; {counts:?}; {refusals:?}");
    for ((outcome, counts), refusals) in outcomes.iter().zip(counts).zip(refusals) {
        let missing = outcome.sent - outcome.arrived;
        ensure!(
            counts.lost > 0 && missing > 0 && counts.delayed > 0,
            "the wire was good: {counts:?}"
        );
        let refusals = refusals.context("both are Taltun")?;
        ensure!(
            missing <= counts.lost + counts.corrupted + counts.refused + refusals.too_fast,
            "{missing} datagrams are missing; {counts:?}, {refusals:?}"
        );
        ensure_accounted(counts, refusals)?;
    }
    tunnel.stop()
}

/// How many datagrams came to `namespace` in fragments and were put together.
fn joined_fragments(namespace: &Namespace) -> Result<u64> {
    let snmp = namespace.run(|| fs::read_to_string("/proc/thread-self/net/snmp"))??;
    let mut lines = snmp.lines().filter_map(|line| line.strip_prefix("Ip: "));
    let (names, values) = (lines.next(), lines.next());
    let names = names.context("no counters of IP")?.split(' ');
    let mut both = names.zip(values.context("no counters of IP")?.split(' '));
    let (_, joined) = both
        .find(|(name, _)| *name == "ReasmOKs")
        .context("no count of fragments")?;
    Ok(joined.parse()?)
}

/// What the wire doubled is refused as replayed and what it corrupted as not authentic, and
/// nothing else is.
fn ensure_accounted(counts: Counts, refusals: Refusals) -> Result<()> {
    for (done, refused, what) in [
        (counts.doubled, refusals.replayed, "replayed"),
        (counts.corrupted, refusals.corrupted, "corrupted"),
    ] {
        ensure!(
            refused <= done && (refused > 0) == (done > 0),
            "{refused} were refused as {what}, but {counts:?}"
        );
        // Some copies are lost or corrupted themselves, and so on; most aren't.
        ensure!(
            refused >= done / 2,
            "only {refused} were refused as {what}, but {counts:?}"
        );
    }
    Ok(())
}

/// The file of one that has `role`'s addresses and knows one other.
fn config(mode: &'static str, role: Role, private_key: &str, peer: Peer) -> Config {
    let options = Options::default();
    Config {
        mode,
        vip: role.interface_vips(),
        local_addr: format!("0.0.0.0:{PORT}"),
        private_key: private_key.to_owned(),
        xdp: options.xdp,
        af_xdp: options.af_xdp,
        more: options.more,
        peers: vec![peer],
    }
}

fn peer(role: Role, public_key: &str, endpoint: Option<String>) -> Peer {
    Peer {
        name: "other",
        public_key: public_key.to_owned(),
        vip: role.vips(),
        endpoint,
        allowed_ips: Vec::new(),
    }
}
