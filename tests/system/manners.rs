//! What WireGuard's own users rely on, each as a test with its name.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use taltun_tests::command::output_of;
use taltun_tests::lab::{PORT, Role};
use taltun_tests::netns::Namespace;
use taltun_tests::topology::{Pair, Star, WIRE_A, WIRE_B, private_prefix};
use taltun_tests::traffic::ping::Pinger;

use crate::ends::{Ends, end};
use crate::support::{ANSWER_LIMIT, Case, ensure_answers, ensure_silent};
use crate::wireguard::{Program, Wg, WgKeys, WgPeer, at};

pub const CASES: &[Case] = &[
    Case {
        name: "interop: transfer counters count as the kernel's do",
        programs: &["wg", "ping"],
        run: counters,
    },
    Case {
        name: "interop: a persistent keepalive holds a NAT mapping of 2 s open, and without one it closes",
        programs: &["wg", "nft"],
        run: nat,
    },
    Case {
        name: "interop: a listen port changes live, and a taken one is refused while the old one stays",
        programs: &["wg"],
        run: listen_port,
    },
    Case {
        name: "interop: a private key is replaced live and the next packet goes through",
        programs: &["wg"],
        run: private_key,
    },
    Case {
        name: "interop: allowed IPs move to another peer while packets flow, and back, and a more specific prefix wins",
        programs: &["wg"],
        run: moving_routes,
    },
    Case {
        name: "interop: the seven low-order public keys never cause a packet",
        programs: &["wg"],
        run: low_order_keys,
    },
    Case {
        name: "interop: every datagram carries the fwmark",
        programs: &["wg", "nft"],
        run: fwmark,
    },
    Case {
        name: "interop: a sender hears at once that there is no peer for its packet",
        programs: &["wg", "ping"],
        run: unreachable,
    },
    Case {
        name: "interop: a machine with IPv6 switched off starts and is reached",
        programs: &["wg"],
        run: without_ipv6,
    },
];

fn counters() -> Result<()> {
    let ends = Ends::start(Program::Taltun)?;
    let mut ping = ends.pair.left.command("ping");
    let output = ping
        .args(["-c", "10", "-i", "0.05", "-W", "5", "10.200.0.2"])
        .output()?;
    ensure!(output.status.success(), "not all pings were answered");
    // netns.sh of the kernel: ten packets of 84 bytes padded to 96 with 32 of overhead, the
    // handshake, and perhaps a keepalive.
    let (received, sent) = ends.left.transfer()?;
    ensure!(
        received == 1372 && (sent == 1428 || sent == 1460),
        "{received} received and {sent} sent"
    );
    ensure!(ends.right.transfer()? == (sent, received));
    ensure!(
        ends.left.peer()?[4] != "0",
        "there is no time of a handshake"
    );
    Ok(())
}

/// Runs beside the others.
pub const WAITING: &[Case] = &[Case {
    name: "interop: a sender hears when no handshake was answered for 90 seconds",
    programs: &["wg", "ping"],
    run: unanswered,
}];

fn unanswered() -> Result<()> {
    let pair = Pair::create(&private_prefix())?;
    let left = Wg::start(Program::Taltun, &pair.left)?;
    let nobody = end(&WgKeys::generate()?, 2, at(WIRE_A.far_v4(), PORT));
    left.configure(&WgKeys::generate()?, PORT, &[nobody])?;
    left.bring_up(&["10.200.0.1/24"])?;
    let start = Instant::now();
    let mut ping = pair.left.command("ping");
    let output = ping.args(["-c", "1", "-W", "130", "10.200.0.2"]).output()?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let waited = start.elapsed();
    ensure!(
        said.contains("From 10.200.0.2 icmp_seq=1 Destination Host Unreachable"),
        "after {waited:?}: {said}"
    );
    ensure!(waited > Duration::from_secs(85), "after {waited:?} already");
    Ok(())
}

/// a is behind the hub's NAT; b is the other end.
fn nat() -> Result<()> {
    let star = Star::create(&private_prefix())?;
    star.hub.run(|| {
        let set = |name: &str, value: &str| std::fs::write(format!("/proc/sys/net/{name}"), value);
        set("ipv4/ip_forward", "1")
    })??;
    star.a.ip("route add default via 10.99.1.1")?;
    output_of(star.hub.command("nft").args([
        "add table ip nat; add chain ip nat out { type nat hook postrouting priority 100; }; \
         add rule ip nat out oifname to-b masquerade; add table ip gate; \
         add chain ip gate f { type filter hook forward priority 0; policy drop; }; \
         add rule ip gate f iifname to-a accept; \
         add rule ip gate f ct state established accept",
    ]))?;
    star.hub.run(|| {
        let set = |name: &str| std::fs::write(format!("/proc/sys/net/netfilter/{name}"), "2");
        set("nf_conntrack_udp_timeout").and_then(|()| set("nf_conntrack_udp_timeout_stream"))
    })??;
    let (a, b) = (
        Wg::start(Program::Taltun, &star.a)?,
        Wg::start(Program::Taltun, &star.b)?,
    );
    let (a_keys, b_keys) = (WgKeys::generate()?, WgKeys::generate()?);
    let mut to_b = end(&b_keys, 2, at(WIRE_B.far_v4(), PORT));
    let to_a = WgPeer {
        public_key: a_keys.public.clone(),
        allowed_ips: "10.200.0.1/32".to_owned(),
        ..WgPeer::default()
    };
    a.configure(&a_keys, PORT, &[to_b.clone()])?;
    b.configure(&b_keys, PORT, &[to_a])?;
    a.bring_up(&["10.200.0.1/24"])?;
    b.bring_up(&["10.200.0.2/24"])?;
    ensure_answers(&star.a, Role::A.v4())?;
    let seen = b.endpoint()?;
    ensure!(seen.starts_with("10.99.2.1:"), "b sees {seen}");
    // Keepalives after data stop within ten seconds; the mapping closes two later.
    sleep(Duration::from_secs(14));
    ensure_silent(&star.b, Role::Hub.v4())?;
    to_b.keepalive = Some(1);
    a.configure(&a_keys, PORT, &[to_b])?;
    ensure_answers(&star.a, Role::A.v4())?;
    sleep(Duration::from_secs(14));
    ensure_answers(&star.b, Role::Hub.v4())
}

fn listen_port() -> Result<()> {
    let ends = Ends::start(Program::Taltun)?;
    ends.left_reaches_right()?;
    let taken = ends.pair.left.udp("0.0.0.0:9200")?;
    let refused = ends.left.try_wg("set", &["listen-port", "9200"])?;
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    ensure!(!refused.status.success(), "a taken port was accepted");
    ensure!(said.contains("Address already in use"), "{said}");
    ensure!(ends.left.wg("show", &["listen-port"])?.trim() == "9000");
    ends.right_reaches_left()?;
    drop(taken);
    ends.left.wg("set", &["listen-port", "9200"])?;
    ends.left_reaches_right()?;
    ensure!(ends.right.endpoint()? == at(WIRE_A.near_v4(), 9200));
    ends.right_reaches_left()?;
    // The old one is free for others again.
    ends.pair.left.udp("0.0.0.0:9000")?;
    Ok(())
}

fn private_key() -> Result<()> {
    let ends = Ends::start(Program::Taltun)?;
    ends.left_reaches_right()?;
    let new = WgKeys::generate()?;
    ends.left
        .set_with_secret(&["private-key", "FILE"], &new.private)?;
    ends.right
        .wg("set", &["peer", &ends.left_keys.public, "remove"])?;
    ends.right.wg(
        "set",
        &["peer", &new.public, "allowed-ips", "10.200.0.1/32"],
    )?;
    ends.left_reaches_right()?;
    ends.right_reaches_left()
}

/// Two hosts behind the hub both have 10.200.0.99. Whose it is is changed under a stream of
/// pings, none of which is lost, and each change takes effect at once.
fn moving_routes() -> Result<()> {
    let star = Star::create(&private_prefix())?;
    let hub = Wg::start(Program::Taltun, &star.hub)?;
    let (a, b) = (
        Wg::start(Program::Taltun, &star.a)?,
        Wg::start(Program::Taltun, &star.b)?,
    );
    let (hub_keys, a_keys, b_keys) = (
        WgKeys::generate()?,
        WgKeys::generate()?,
        WgKeys::generate()?,
    );
    let to_a = end(&a_keys, 2, at(WIRE_A.far_v4(), PORT));
    let to_b = end(&b_keys, 3, at(WIRE_B.far_v4(), PORT));
    hub.configure(&hub_keys, PORT, &[to_a, to_b])?;
    hub.bring_up(&["10.200.0.1/24"])?;
    for (wg, keys, near, own) in [
        (&a, &a_keys, WIRE_A.near_v4(), "10.200.0.2/24"),
        (&b, &b_keys, WIRE_B.near_v4(), "10.200.0.3/24"),
    ] {
        wg.configure(keys, PORT, &[end(&hub_keys, 1, at(near, PORT))])?;
        wg.bring_up(&[own, "10.200.0.99/32"])?;
    }
    ensure_answers(&star.hub, Role::A.v4())?;
    ensure_answers(&star.hub, Role::B.v4())?;

    let shared = IpAddr::from(Ipv4Addr::new(10, 200, 0, 99));
    let (a_key, b_key) = (&a_keys.public, &b_keys.public);
    let mut pinger = Pinger::new(&star.hub, shared)?;
    let mut flow = |from: &Wg, not_from: &Wg| -> Result<()> {
        let before = (from.transfer()?.1, not_from.transfer()?.1);
        let answered = pinger.count_answers(20, ANSWER_LIMIT)?;
        ensure!(answered == 20, "{answered} of 20 pings were answered");
        let after = (from.transfer()?.1, not_from.transfer()?.1);
        ensure!(after.0 - before.0 >= 20 * 96, "they went elsewhere");
        ensure!(after.1 - before.1 < 96, "some went to the other one");
        Ok(())
    };
    let give = |key: &str, nets: &str| hub.wg("set", &["peer", key, "allowed-ips", nets]);
    give(a_key, "10.200.0.2/32,10.200.0.96/28")?;
    flow(&a, &b).context("a wider prefix of a's")?;
    give(b_key, "10.200.0.3/32,10.200.0.99/32")?;
    flow(&b, &a).context("a more specific one of b's")?;
    give(a_key, "10.200.0.2/32,10.200.0.99/32")?;
    flow(&a, &b).context("the same, moved to a")?;
    ensure!(
        hub.wg("show", &["allowed-ips"])?
            .contains(&format!("{b_key}\t10.200.0.3/32\n"))
    );
    give(b_key, "10.200.0.3/32,10.200.0.96/28")?;
    flow(&a, &b).context("while a's is more specific")?;
    give(a_key, "10.200.0.2/32")?;
    flow(&b, &a).context("once a has none")
}

/// Points of small order, from the kernel's netns.sh: with them as a peer's key every
/// secret would be zero.
const LOW_ORDER: [&str; 7] = [
    "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=",
    "AQAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=",
    "4Ot6fDtBuK4WVuP68Z/EatoJjeucMrH9hmIFFl9JuAA=",
    "X5yVvKNQjCSx0LFVnIPvWwREXMRYHI6G2CJO3dCfEVc=",
    "7P///////////////////////////////////////38=",
    "7f///////////////////////////////////////38=",
    "7v///////////////////////////////////////38=",
];

fn low_order_keys() -> Result<()> {
    let pair = Pair::create(&private_prefix())?;
    let wg = Wg::start(Program::Taltun, &pair.left)?;
    let far = SocketAddr::new(WIRE_A.far_v4(), 1111);
    let socket = pair.right.udp(far)?;
    socket.set_read_timeout(Some(Duration::from_secs(3)))?;
    let peer = |key: &str| WgPeer {
        public_key: key.to_owned(),
        endpoint: Some(far.to_string()),
        keepalive: Some(1),
        ..WgPeer::default()
    };
    let own = WgKeys::generate()?;
    wg.configure(&own, PORT, &LOW_ORDER.map(peer))?;
    wg.bring_up(&[])?;
    ensure!(wg.wg("show", &["peers"])?.lines().count() == LOW_ORDER.len());
    let mut buffer = [0; 2048];
    let received = socket.recv(&mut buffer);
    ensure!(received.is_err(), "{received:?} bytes came");
    // An ordinary key does cause one, so we listened in the right place.
    wg.configure(&own, PORT, &[peer(&WgKeys::generate()?.public)])?;
    ensure!(socket.recv(&mut buffer)? == 148);
    Ok(())
}

fn fwmark() -> Result<()> {
    let ends = Ends::start(Program::Taltun)?;
    let drop_marked = "add table inet t; \
        add chain inet t out { type filter hook output priority 0; }; \
        add rule inet t out meta mark 0x42 udp sport { 9000, 9100 } counter drop";
    output_of(ends.pair.left.command("nft").arg(drop_marked))?;
    ends.left_reaches_right()?;
    ends.left.wg("set", &["fwmark", "0x42"])?;
    ensure_silent(&ends.pair.left, Role::A.v4())?;
    // The mark stays with the sockets of another port.
    ends.left.wg("set", &["listen-port", "9100"])?;
    ensure_silent(&ends.pair.left, Role::A.v4())?;
    ends.left.wg("set", &["fwmark", "off"])?;
    ends.left_reaches_right()
}

/// What `ping` says about one address.
fn ping_says(namespace: &Namespace, address: &str) -> Result<String> {
    let mut ping = namespace.command("ping");
    let output = ping.args(["-c", "1", "-W", "2", address]).output()?;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn unreachable() -> Result<()> {
    let ends = Ends::start(Program::Taltun)?;
    ends.left_reaches_right()?;
    for (address, expected) in [
        (
            "10.200.0.77",
            "From 10.200.0.77 icmp_seq=1 Destination Host Unreachable",
        ),
        (
            "fd00:200::77",
            "Destination unreachable: Address unreachable",
        ),
    ] {
        let said = ping_says(&ends.pair.left, address)?;
        ensure!(said.contains(expected), "{said}");
    }
    // A peer of which nobody knows where it is.
    let stranger = WgKeys::generate()?.public;
    ends.left
        .wg("set", &["peer", &stranger, "allowed-ips", "10.200.0.78/32"])?;
    let said = ping_says(&ends.pair.left, "10.200.0.78")?;
    ensure!(said.contains("Host Unreachable"), "{said}");
    Ok(())
}

fn without_ipv6() -> Result<()> {
    let pair = Pair::create(&private_prefix())?;
    for namespace in [&pair.left, &pair.right] {
        namespace.run(|| std::fs::write("/proc/sys/net/ipv6/conf/all/disable_ipv6", "1"))??;
    }
    let (left, right) = (
        Wg::start(Program::Taltun, &pair.left)?,
        Wg::start(Program::Taltun, &pair.right)?,
    );
    let (left_keys, right_keys) = (WgKeys::generate()?, WgKeys::generate()?);
    let to_right = end(&right_keys, 2, at(WIRE_A.far_v4(), PORT));
    let to_left = end(&left_keys, 1, at(WIRE_A.near_v4(), PORT));
    left.configure(&left_keys, PORT, &[to_right])?;
    right.configure(&right_keys, PORT, &[to_left])?;
    left.bring_up(&["10.200.0.1/24"])?;
    right.bring_up(&["10.200.0.2/24"])?;
    ensure_answers(&pair.left, Role::A.v4())
}
