//! Namespaces joined by veth pairs: the wires and addresses under the tunnel.
//!
//! ```text
//!  a ── to-hub ═══ to-a ── hub ── to-b ═══ to-hub ── b
//!     10.99.1.2  10.99.1.1     10.99.2.1  10.99.2.2
//!     fd99:1::2  fd99:1::1     fd99:2::1  fd99:2::2
//! ```
//!
//! Nobody has a route beyond its own wires and nobody forwards, so whatever gets from a to b
//! went through the tunnel.

use std::cell::Cell;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use crate::netns::{self, Namespace};
use crate::sys;

/// How long a new link may take to be usable.
const SETTLE_LIMIT: Duration = Duration::from_secs(5);

/// A wire: the two addresses of one end, and the same of the other.
#[derive(Debug, Clone, Copy)]
pub struct Wire {
    /// The hub's end, or the left one's.
    pub near: (Ipv4Addr, Ipv6Addr),
    /// The spoke's end, or the right one's.
    pub far: (Ipv4Addr, Ipv6Addr),
}

impl Wire {
    /// The hub's address on this wire.
    pub fn near_v4(self) -> IpAddr {
        self.near.0.into()
    }

    /// The spoke's address on this wire.
    pub fn far_v4(self) -> IpAddr {
        self.far.0.into()
    }

    /// The hub's IPv6 address on this wire.
    pub fn near_v6(self) -> IpAddr {
        self.near.1.into()
    }

    /// The spoke's IPv6 address on this wire.
    pub fn far_v6(self) -> IpAddr {
        self.far.1.into()
    }
}

/// Between the hub and a; between the two of a [`Pair`]; between router and left of a [`Chain`].
pub const WIRE_A: Wire = wire(1);
/// Between the hub and b; between `wire` and right of a [`Chain`].
pub const WIRE_B: Wire = wire(2);
/// Between router and `wire` of a [`Chain`].
pub const WIRE_C: Wire = wire(3);

/// The interfaces of a [`Pair`]: the left one's, and the right one's.
pub const PAIR_LINKS: (&str, &str) = ("to-right", "to-left");

/// A hub with two spokes.
#[derive(Debug)]
pub struct Star {
    /// Where the hub runs; its interfaces are `to-a` and `to-b`.
    pub hub: Namespace,
    /// The first spoke; its interface is `to-hub`.
    pub a: Namespace,
    /// The second spoke; its interface is `to-hub`.
    pub b: Namespace,
}

impl Star {
    /// Makes the namespaces `PREFIX-hub`, `PREFIX-a` and `PREFIX-b` and joins them.
    pub fn create(prefix: &str) -> Result<Self> {
        let star = Self {
            hub: Namespace::create(&format!("{prefix}-hub"))?,
            a: Namespace::create(&format!("{prefix}-a"))?,
            b: Namespace::create(&format!("{prefix}-b"))?,
        };
        join((&star.hub, "to-a"), (&star.a, "to-hub"), WIRE_A)?;
        join((&star.hub, "to-b"), (&star.b, "to-hub"), WIRE_B)?;
        Ok(star)
    }

    /// Takes it all down.
    pub fn delete(self) -> Result<()> {
        self.a.delete()?;
        self.b.delete()?;
        self.hub.delete()
    }
}

/// Two machines on one wire.
#[derive(Debug)]
pub struct Pair {
    /// One; its interface is `to-right`.
    pub left: Namespace,
    /// The other; its interface is `to-left`.
    pub right: Namespace,
}

impl Pair {
    /// Makes the namespaces `PREFIX-left` and `PREFIX-right` and joins them by [`WIRE_A`].
    pub fn create(prefix: &str) -> Result<Self> {
        let pair = Self {
            left: Namespace::create(&format!("{prefix}-left"))?,
            right: Namespace::create(&format!("{prefix}-right"))?,
        };
        join(
            (&pair.left, PAIR_LINKS.0),
            (&pair.right, PAIR_LINKS.1),
            WIRE_A,
        )?;
        Ok(pair)
    }

    /// Takes the wire out.
    pub fn unplug(&self) -> Result<()> {
        self.left.ip(&format!("link del {}", PAIR_LINKS.0))?;
        Ok(())
    }

    /// Lays another wire where one was taken out, with these hardware addresses at its ends.
    pub fn plug_in(&self, hardware: &[String; 2]) -> Result<()> {
        let (near, far) = PAIR_LINKS;
        self.left.ip(&format!(
            "link add {near} address {} type veth peer name {far} address {} netns {}",
            hardware[0],
            hardware[1],
            self.right.name()
        ))?;
        set_up((&self.left, near), (&self.right, far), WIRE_A)
    }

    /// The hardware addresses of the wire's ends.
    pub fn hardware(&self) -> Result<[String; 2]> {
        let (near, far) = PAIR_LINKS;
        Ok([self.left.hardware(near)?, self.right.hardware(far)?])
    }
}

/// Two machines, and between them a router and another machine where a wire of our own can
/// be: the way from left to `wire` has a link in its middle, that from there to right is one.
///
/// ```text
///  left ── to-router ═══ to-left ── router ── to-wire ═══ to-router ── wire ── to-right ═══ to-wire ── right
///      10.99.1.2     10.99.1.1        10.99.3.1      10.99.3.2       10.99.2.1        10.99.2.2
/// ```
#[derive(Debug)]
pub struct Chain {
    /// One end; its interface is `to-router`.
    pub left: Namespace,
    /// The other end; its interface is `to-wire`.
    pub right: Namespace,
    /// In the middle; its interfaces are `to-router` and `to-right`.
    pub wire: Namespace,
    /// Forwards between left and `wire`; its interfaces are `to-left` and `to-wire`.
    pub router: Namespace,
}

/// A link of a [`Chain`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Link {
    /// Of left itself, which therefore knows its MTU.
    First,
    /// Behind the router, which tells left when something is too long for it.
    Second,
}

impl Chain {
    /// Makes the namespaces `PREFIX-left`, `PREFIX-router`, `PREFIX-wire` and `PREFIX-right`
    /// and joins them.
    pub fn create(prefix: &str) -> Result<Self> {
        let create = |name| Namespace::create(&format!("{prefix}-{name}"));
        let chain = Self {
            left: create("left")?,
            router: create("router")?,
            wire: create("wire")?,
            right: create("right")?,
        };
        let Self {
            left,
            router,
            wire,
            right,
        } = &chain;
        join((router, "to-left"), (left, "to-router"), WIRE_A)?;
        join((router, "to-wire"), (wire, "to-router"), WIRE_C)?;
        join((wire, "to-right"), (right, "to-wire"), WIRE_B)?;
        router.run(|| fs::write("/proc/sys/net/ipv4/ip_forward", "1"))??;
        let (towards_left, towards_wire) = (WIRE_A.near_v4(), WIRE_C.near_v4());
        left.ip(&format!("route add 10.99.3.0/24 via {towards_left}"))?;
        wire.ip(&format!("route add 10.99.1.0/24 via {towards_wire}"))?;
        Ok(chain)
    }

    /// Gives both ends of a link this MTU, and lets everybody forget what they had learned of
    /// the path's.
    pub fn set_mtu(&self, link: Link, mtu: u16) -> Result<()> {
        let ends = match link {
            Link::First => [(&self.left, "to-router"), (&self.router, "to-left")],
            Link::Second => [(&self.router, "to-wire"), (&self.wire, "to-router")],
        };
        for (namespace, interface) in ends {
            namespace.ip(&format!("link set {interface} mtu {mtu}"))?;
        }
        for namespace in [&self.left, &self.wire] {
            namespace.ip("route flush cache")?;
        }
        Ok(())
    }
}

/// Machines on one Ethernet, joined by a bridge in a namespace of its own.
///
/// ```text
///  0 ── eth0 ═══ bridge ═══ eth0 ── 1
///   10.99.9.1  10.99.9.254  10.99.9.2
/// ```
#[derive(Debug)]
pub struct Lan {
    /// Declared before the bridge, so that they go first. The interface of each is `eth0`.
    pub hosts: Vec<Namespace>,
    /// Where the bridge is, with an address of its own: [`Lan::BRIDGE`].
    pub bridge: Namespace,
}

impl Lan {
    /// The address in the namespace of the bridge.
    pub const BRIDGE: Ipv4Addr = Ipv4Addr::new(10, 99, 9, 254);

    /// Makes the namespaces `PREFIX-0` and so on, and `PREFIX-lan`.
    pub fn create(prefix: &str, hosts: u8) -> Result<Self> {
        let bridge = Namespace::create(&format!("{prefix}-lan"))?;
        bridge.ip("link add lan type bridge forward_delay 0")?;
        bridge.ip(&format!("addr add {}/24 dev lan", Self::BRIDGE))?;
        bridge.ip("link set lan up")?;
        let host = |number: u8| -> Result<Namespace> {
            let host = Namespace::create(&format!("{prefix}-{number}"))?;
            let port = format!("port{number}");
            bridge.ip(&format!(
                "link add {port} type veth peer name eth0 netns {}",
                host.name()
            ))?;
            bridge.ip(&format!("link set {port} master lan up"))?;
            host.ip(&format!("addr add {}/24 dev eth0", Self::address(number)))?;
            host.ip("link set eth0 up")?;
            Ok(host)
        };
        let lan = Self {
            hosts: (0..hosts).map(host).collect::<Result<_>>()?,
            bridge,
        };
        for host in &lan.hosts {
            wait_until_settled(host, "eth0")?;
        }
        Ok(lan)
    }

    /// The address of a host.
    pub fn address(number: u8) -> Ipv4Addr {
        Ipv4Addr::new(10, 99, 9, number + 1)
    }

    /// Takes a host's wire out, or plugs it in again.
    pub fn plug(&self, number: u8, is_in: bool) -> Result<()> {
        let state = if is_in { "up" } else { "down" };
        self.bridge.ip(&format!("link set port{number} {state}"))?;
        Ok(())
    }
}

/// A prefix for the namespaces of this thread's test, so that tests that run at the same time,
/// in this process or in others, don't meet.
pub fn private_prefix() -> String {
    format!("tt{}n{}", std::process::id(), TEST.get())
}

/// A name for a namespace that isn't a lab's, which has to be gone when the lab is.
pub fn name_beside_lab(name: &str) -> String {
    // Tests are numbered from 1 on.
    format!("tt{}n0-{}-{name}", std::process::id(), TEST.get())
}

/// From now on this thread does another test, with another [`private_prefix`].
pub fn start_test() {
    static STARTED: AtomicU32 = AtomicU32::new(0);
    TEST.set(STARTED.fetch_add(1, Ordering::Relaxed) + 1);
}

thread_local! {
    static TEST: Cell<u32> = const { Cell::new(0) };
}

/// Removes what test processes left that were killed before they could clean up.
pub fn remove_remains_of_dead_tests() -> Result<()> {
    for name in netns::names_with("tt") {
        let owner: String = name[2..].chars().take_while(char::is_ascii_digit).collect();
        let is_ours = name[2 + owner.len()..].starts_with('n');
        let proc = std::path::Path::new("/proc");
        if !owner.is_empty() && is_ours && !proc.join(owner).exists() {
            netns::remove(&name)?;
        }
    }
    Ok(())
}

const fn wire(number: u8) -> Wire {
    Wire {
        near: (
            Ipv4Addr::new(10, 99, number, 1),
            Ipv6Addr::new(0xfd99, number as u16, 0, 0, 0, 0, 0, 1),
        ),
        far: (
            Ipv4Addr::new(10, 99, number, 2),
            Ipv6Addr::new(0xfd99, number as u16, 0, 0, 0, 0, 0, 2),
        ),
    }
}

/// Lays `wire` between two namespaces, each given with the name its interface is to have. Where
/// the kernel has no IPv6, the wire has none.
fn join(near: (&Namespace, &str), far: (&Namespace, &str), wire: Wire) -> Result<()> {
    // Made where they are to be, so that the host never sees them.
    near.0.ip(&format!(
        "link add {} type veth peer name {} netns {}",
        near.1,
        far.1,
        far.0.name()
    ))?;
    set_up(near, far, wire)
}

/// Gives both ends of a new link the addresses of `wire`, and waits until it carries packets.
fn set_up(near: (&Namespace, &str), far: (&Namespace, &str), wire: Wire) -> Result<()> {
    for ((namespace, interface), (v4, v6)) in [(near, wire.near), (far, wire.far)] {
        namespace.ip(&format!("addr add {v4}/24 dev {interface}"))?;
        if sys::kernel_has_ipv6() {
            namespace.ip(&format!("addr add {v6}/64 dev {interface} nodad"))?;
        }
        namespace.ip(&format!("link set {interface} up"))?;
    }
    for (namespace, interface) in [near, far] {
        wait_until_settled(namespace, interface)?;
    }
    Ok(())
}

/// Waits until the kernel has noticed that the wire has two ends and given this one its
/// link-local address. Until then a snapshot would show changes that are nobody's.
pub(crate) fn wait_until_settled(namespace: &Namespace, interface: &str) -> Result<()> {
    let start = Instant::now();
    loop {
        let link = namespace.ip(&format!("-o link show dev {interface}"))?;
        let address = namespace.ip(&format!("-o -6 addr show dev {interface} scope link"))?;
        let has_address = !address.is_empty() && !address.contains("tentative");
        let has_address = has_address || !sys::kernel_has_ipv6();
        if link.contains("state UP") && !link.contains("NO-CARRIER") && has_address {
            return Ok(());
        }
        ensure!(
            start.elapsed() < SETTLE_LIMIT,
            "{interface} in {} doesn't come up: {link}{address}",
            namespace.name()
        );
        sleep(Duration::from_millis(10));
    }
}
