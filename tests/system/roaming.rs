//! Where datagrams go and where they come from: peers that move, and our own addresses.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use taltun_tests::lab::{PORT, Role};
use taltun_tests::netns::Namespace;
use taltun_tests::topology::WIRE_A;
use taltun_tests::traffic::ping::Pinger;
use taltun_tests::traffic::stream::Stream;

use crate::ends::{Ends, ensure_loses_none};
use crate::support::{Case, KERNEL_WIREGUARD, RECENT_WIREGUARD_GO, ensure_silent, eventually};
use crate::wireguard::{Program, WgKeys, at};

pub const CASES: &[Case] = &[
    Case {
        name: "interop: a peer may roam to another port and address, over IPv4 and IPv6",
        programs: &["wg"],
        run: || roaming(Program::Taltun),
    },
    Case {
        name: "interop: wireguard-go may roam to another port and address, over IPv4 and IPv6",
        programs: &["wg", "wireguard-go", RECENT_WIREGUARD_GO],
        run: || roaming(Program::WireguardGo),
    },
    Case {
        name: "interop: the kernel's WireGuard may roam to another port and address, over IPv4 and IPv6",
        programs: &["wg", KERNEL_WIREGUARD],
        run: || roaming(Program::Kernel),
    },
    Case {
        name: "interop: a source that belongs to another peer is refused, and the endpoint still follows",
        programs: &["wg"],
        run: refused_source,
    },
    Case {
        name: "interop: an answer leaves from the address that was addressed, also to coalesced datagrams",
        programs: &["wg"],
        run: sticky_source,
    },
    Case {
        name: "interop: when our address is removed another one is used, over IPv4 and IPv6",
        programs: &["wg"],
        run: not_too_sticky,
    },
    Case {
        name: "interop: when another interface takes over, its address is used, over IPv4 and IPv6",
        programs: &["wg"],
        run: another_way,
    },
    Case {
        name: "interop: a link-local endpoint with its scope is reached",
        programs: &["wg"],
        run: link_local,
    },
];

fn roaming(program: Program) -> Result<()> {
    let ends = Ends::start(program)?;
    let moved = |what: &'static str| {
        ensure_loses_none(&ends.pair.right, Role::Hub)
            .with_context(|| format!("from another {what}"))
    };
    ends.right_reaches_left().context("before it moves")?;
    ends.right.wg("set", &["listen-port", "9100"])?;
    moved("port")?;
    ensure!(ends.left.endpoint()? == at(WIRE_A.far_v4(), 9100));
    let right = &ends.pair.right;
    right.ip("addr add 10.99.1.77/24 dev to-left")?;
    right.ip("addr del 10.99.1.2/24 dev to-left")?;
    // The first of the two was the primary one, and took the second along.
    right.ip("addr replace 10.99.1.77/24 dev to-left")?;
    moved("address")?;
    ensure!(ends.left.endpoint()? == "10.99.1.77:9100");
    ends.left_reaches_right()?;
    let to_left = at(WIRE_A.near_v6(), PORT);
    let key = &ends.left_keys.public;
    ends.right.wg("set", &["peer", key, "endpoint", &to_left])?;
    if program == Program::WireguardGo {
        // The versions that distributions have write an IPv6 address where an IPv4 address
        // was before, and only its first four bytes: the first datagrams, one for each
        // buffer that was in use, go to fd99:1::. Two of them do it to each other, too.
        use_up_stale_buffers(&ends)?;
    }
    moved("family")?;
    ensure!(ends.left.endpoint()? == at(WIRE_A.far_v6(), 9100));
    right.ip("addr add fd99:1::77/64 dev to-left nodad")?;
    right.ip("addr del fd99:1::2/64 dev to-left")?;
    moved("IPv6 address")?;
    ensure!(ends.left.endpoint()? == "[fd99:1::77]:9100");
    ends.left_reaches_right()
}

/// Until twenty pings in a row are answered.
fn use_up_stale_buffers(ends: &Ends) -> Result<()> {
    let mut pinger = Pinger::new(&ends.pair.right, Role::Hub.v4())?;
    eventually("all buffers are fresh", Duration::from_secs(15), || {
        Ok(pinger.count_answers(20, Duration::from_millis(250))? == 20)
    })
}

fn refused_source() -> Result<()> {
    let ends = Ends::start(Program::Taltun)?;
    ends.right_reaches_left()?;
    let other = WgKeys::generate()?.public;
    let key = &ends.right_keys.public;
    ends.left
        .wg("set", &["peer", key, "allowed-ips", "10.200.0.0/24"])?;
    ends.left
        .wg("set", &["peer", &other, "allowed-ips", "10.200.0.2/32"])?;
    let interface = ends.right.interface();
    ends.right
        .ip(&format!("addr add 10.200.0.9/24 dev {interface}"))?;
    ends.right.wg("set", &["listen-port", "9100"])?;
    ensure_silent(&ends.pair.right, Role::Hub.v4())?;
    ensure!(
        ends.left.endpoint()? == at(WIRE_A.far_v4(), 9100),
        "the endpoint did not follow"
    );
    // From an address that is its own the same peer is heard.
    let nine = IpAddr::from(Ipv4Addr::new(10, 200, 0, 9));
    let answered = Pinger::from_source(&ends.pair.right, nine, Role::Hub.v4())?
        .count_answers(3, Duration::from_secs(2))?;
    ensure!(answered == 3, "{answered} of 3");
    Ok(())
}

fn sticky_source() -> Result<()> {
    let ends = Ends::start(Program::Taltun)?;
    let left = &ends.pair.left;
    left.ip("addr add 10.99.1.11/24 dev to-right")?;
    left.ip("addr add fd99:1::11/64 dev to-right nodad")?;
    // One that isn't on the interface that the datagrams come in on.
    left.ip("addr add 10.50.0.1/32 dev lo")?;
    ends.pair.right.ip("route add 10.50.0.1 via 10.99.1.1")?;
    let key = &ends.left_keys.public;
    for address in [
        "10.99.1.11",
        "10.99.1.1",
        "fd99:1::11",
        "fd99:1::1",
        "10.50.0.1",
    ] {
        let endpoint = at(address.parse()?, PORT);
        ends.right
            .wg("set", &["peer", key, "endpoint", &endpoint])?;
        ends.right_reaches_left()?;
        let now = ends.right.endpoint()?;
        ensure!(now == endpoint, "answered from {now}, not {endpoint}");
        // TCP fills batches, which arrive in one piece.
        let stream = Stream::start(&ends.pair.right, left, SocketAddr::new(Role::Hub.v4(), 0))?;
        stream.wait_for_more_than(5_000_000, Duration::from_mins(1))?;
        stream.finish()?;
        let now = ends.right.endpoint()?;
        ensure!(now == endpoint, "after TCP from {now}, not {endpoint}");
    }
    Ok(())
}

fn not_too_sticky() -> Result<()> {
    let ends = Ends::start(Program::Taltun)?;
    let left = &ends.pair.left;
    let key = &ends.left_keys.public;
    left.ip("addr add 10.99.1.11/24 dev to-right")?;
    left.ip("addr add fd99:1::11/64 dev to-right nodad")?;
    for (address, prefix, remaining) in [
        ("10.99.1.11", 24, "10.99.1.1"),
        ("fd99:1::11", 64, "fd99:1::1"),
    ] {
        let endpoint = at(address.parse()?, PORT);
        ends.right
            .wg("set", &["peer", key, "endpoint", &endpoint])?;
        ends.right_reaches_left()?;
        ensure!(ends.right.endpoint()? == endpoint);
        left.ip(&format!("addr del {address}/{prefix} dev to-right"))?;
        ends.left_reaches_right()?;
        let now = ends.right.endpoint()?;
        ensure!(now == at(remaining.parse()?, PORT), "it is {now}");
    }
    Ok(())
}

/// The route to the other end moves to a second wire in the middle of a flow, and back.
fn another_way() -> Result<()> {
    let ends = Ends::start(Program::Taltun)?;
    let (left, right) = (&ends.pair.left, &ends.pair.right);
    left.ip(&format!(
        "link add second type veth peer name second netns {}",
        right.name()
    ))?;
    left.ip("addr add 10.98.1.3/32 dev second")?;
    left.ip("addr add fd98:1::3/128 dev second nodad")?;
    for namespace in [left, right] {
        namespace.ip("link set second up")?;
        namespace.run(|| std::fs::write("/proc/sys/net/ipv4/conf/all/rp_filter", "0"))??;
        namespace.run(|| std::fs::write("/proc/sys/net/ipv4/conf/second/rp_filter", "0"))??;
    }
    let [to_right, to_left] = [&right, &left].map(|namespace| link_local_of(namespace, "second"));
    let (to_right, to_left) = (to_right?, to_left?);
    right.ip("route add 10.98.1.3 dev second")?;
    right.ip(&format!("route add fd98:1::3 via {to_left} dev second"))?;
    let key = &ends.left_keys.public;
    for (first, second, route) in [
        (
            WIRE_A.near_v4(),
            "10.98.1.3",
            "10.99.1.2 dev second src 10.98.1.3".to_owned(),
        ),
        (
            WIRE_A.near_v6(),
            "fd98:1::3",
            format!("fd99:1::2 via {to_right} dev second src fd98:1::3"),
        ),
    ] {
        ends.right
            .wg("set", &["peer", key, "endpoint", &at(first, PORT)])?;
        ends.right_reaches_left()?;
        ensure!(ends.right.endpoint()? == at(first, PORT));
        let is_heard_from = |address: IpAddr| {
            eventually("another address is used", Duration::from_secs(60), || {
                let mut pinger = Pinger::new(left, Role::A.v4())?;
                let answered = pinger.ping(Duration::from_millis(500))?.is_some();
                Ok(answered && ends.right.endpoint()? == at(address, PORT))
            })
        };
        left.ip(&format!("route add {route}"))?;
        is_heard_from(second.parse()?).context("after another route")?;
        left.ip(&format!("route del {route}"))?;
        is_heard_from(first).context("without it")?;
    }
    Ok(())
}

/// The link-local address of an interface.
fn link_local_of(namespace: &Namespace, interface: &str) -> Result<String> {
    let mut found = String::new();
    eventually(
        "a link-local address is there",
        Duration::from_secs(5),
        || {
            let told = namespace.ip(&format!("-6 -o addr show dev {interface} scope link"))?;
            let mut words = told.split_whitespace();
            let address = words.find_map(|word| word.strip_suffix("/64"));
            address.unwrap_or_default().clone_into(&mut found);
            Ok(!found.is_empty())
        },
    )?;
    Ok(found)
}

fn link_local() -> Result<()> {
    let ends = Ends::start(Program::Taltun)?;
    let address = link_local_of(&ends.pair.left, "to-right")?;
    let endpoint = format!("[{address}%to-left]:{PORT}");
    let key = &ends.left_keys.public;
    ends.right
        .wg("set", &["peer", key, "endpoint", &endpoint])?;
    ends.right_reaches_left()?;
    eventually("both use it", Duration::from_secs(2), || {
        let seen = ends.left.wg("show", &["endpoints"])?;
        Ok(seen.contains("[fe80::") && seen.contains("%to-right]:9000"))
    })?;
    ends.left_reaches_right()
}
