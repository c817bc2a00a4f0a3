//! Tunnels through tunnels, and routes that lead into a tunnel instead of around it.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::process::Stdio;
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Result, ensure};
use taltun_tests::lab::PORT;
use taltun_tests::netns::Namespace;
use taltun_tests::traffic::ping::Pinger;
use taltun_tests::traffic::stream::Stream;

use crate::ends::{Ends, dropped};
use crate::support::{ANSWER_LIMIT, Case, ensure_answers};
use crate::wireguard::{Program, Wg, WgKeys, WgPeer, at};

pub const CASES: &[Case] = &[
    Case {
        name: "interop: a routing loop through itself ends",
        programs: &["wg", "ping"],
        run: || loop_through_itself(Outer::V4),
    },
    Case {
        name: "interop: a routing loop through itself ends, over IPv6",
        programs: &["wg", "ping"],
        run: || loop_through_itself(Outer::V6),
    },
    Case {
        name: "interop: a routing loop through a second interface ends",
        programs: &["wg", "ping"],
        run: || loop_through_another(Outer::V4, 1420),
    },
    Case {
        name: "interop: a routing loop through a second interface ends, over IPv6",
        programs: &["wg", "ping"],
        run: || loop_through_another(Outer::V6, 1420),
    },
    Case {
        name: "interop: a routing loop through a second interface of a large MTU ends",
        programs: &["wg", "ping"],
        run: || loop_through_another(Outer::V4, 65_000),
    },
    Case {
        name: "interop: a tunnel through a tunnel works",
        programs: &["wg"],
        run: through_a_tunnel,
    },
];

/// What a loop may send, bytes: the limit of the kernel's own tests.
const LOOP_LIMIT: u64 = 70_000;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Outer {
    V4,
    V6,
}

impl Outer {
    /// The right end, and one more address that it has.
    fn far(self) -> [&'static str; 2] {
        match self {
            Self::V4 => ["10.99.1.2", "10.99.1.3"],
            Self::V6 => ["fd99:1::2", "fd99:1::3"],
        }
    }

    /// Two ends that reach each other this way, the left one with all addresses for its peer.
    fn start(self) -> Result<Ends> {
        let ends = Ends::start(Program::Taltun)?;
        ends.pair.right.ip("addr add 10.99.1.3/24 dev to-left")?;
        let right = &ends.pair.right;
        right.ip("addr add fd99:1::3/64 dev to-left nodad")?;
        let key = &ends.right_keys.public;
        let endpoint = at(self.far()[0].parse()?, PORT);
        let peer = [
            "peer",
            key,
            "allowed-ips",
            "0.0.0.0/0,::/0",
            "endpoint",
            &endpoint,
        ];
        ends.left.wg("set", &peer)?;
        ends.left_reaches_right()?;
        Ok(ends)
    }
}

fn loop_through_itself(outer: Outer) -> Result<()> {
    let ends = outer.start()?;
    let [far, _] = outer.far();
    // From now on the way to the other end is the tunnel to the other end.
    let interface = ends.left.interface();
    ends.left.ip(&format!("route add {far} dev {interface}"))?;
    let sent = sent_by_flood(&ends.left, &ends.pair.left, "10.200.0.2", 56)?;
    ensure!(sent < LOOP_LIMIT, "{sent} bytes were sent");
    ensure!(dropped(&ends.left, "routing_loop")? > 0);
    // And without that route all is well again.
    ends.left.ip(&format!("route del {far} dev {interface}"))?;
    ends.left_reaches_right()
}

/// Bytes that `wg` sends while a hundred pings are sent to an address, and in a second after.
fn sent_by_flood(wg: &Wg, namespace: &Namespace, to: &str, size: u16) -> Result<u64> {
    let (_, before) = wg.transfer()?;
    let mut flood = namespace.command("ping");
    let flood = flood.args([
        "-q",
        "-f",
        "-c",
        "100",
        "-W",
        "1",
        "-s",
        &size.to_string(),
        to,
    ]);
    flood.stdout(Stdio::null()).status()?;
    sleep(Duration::from_secs(1));
    Ok(wg.transfer()?.1 - before)
}

/// A second pair of interfaces between the ends, with 10.201.0.1 and 10.201.0.2, whose peer
/// is at `far` as the left end sees it.
fn second_pair(ends: &Ends, far: IpAddr, mtu: u16) -> Result<(Wg, Wg)> {
    let left = Wg::start(Program::Taltun, &ends.pair.left)?;
    let right = Wg::start(Program::Taltun, &ends.pair.right)?;
    let (left_keys, right_keys) = (WgKeys::generate()?, WgKeys::generate()?);
    let peer = |keys: &WgKeys, allowed_ips: &str, endpoint| WgPeer {
        public_key: keys.public.clone(),
        allowed_ips: allowed_ips.to_owned(),
        endpoint,
        ..WgPeer::default()
    };
    let to_right = Some(at(far, PORT + 1));
    let everything = "0.0.0.0/0, ::/0";
    left.configure(
        &left_keys,
        PORT + 1,
        &[peer(&right_keys, everything, to_right)],
    )?;
    right.configure(&right_keys, PORT + 1, &[peer(&left_keys, everything, None)])?;
    left.bring_up(&["10.201.0.1/24"])?;
    right.bring_up(&["10.201.0.2/24"])?;
    for wg in [&left, &right] {
        wg.ip(&format!("link set {} mtu {mtu}", wg.interface()))?;
    }
    ensure_answers(&ends.pair.left, IpAddr::from(Ipv4Addr::new(10, 201, 0, 2)))?;
    Ok((left, right))
}

/// The way to the first interface's peer is the second interface, and the other way round.
fn loop_through_another(outer: Outer, mtu: u16) -> Result<()> {
    let ends = outer.start()?;
    let [first, second] = outer.far();
    let (other, _far) = second_pair(&ends, second.parse()?, mtu)?;
    let (one, two) = (ends.left.interface(), other.interface());
    ends.left.ip(&format!("route add {first} dev {two}"))?;
    ends.left.ip(&format!("route add {second} dev {one}"))?;
    // Small packets, and such as become fragments on the way.
    for size in [56, 1372] {
        let sent = sent_by_flood(&ends.left, &ends.pair.left, "10.200.0.2", size)?;
        println!("{sent} bytes were sent for a hundred pings of {size}");
        // Each may come by a few times, in two pieces in the end.
        ensure!(sent < 10 * 100 * 1500, "{sent} bytes were sent");
        let (_, before) = ends.left.transfer()?;
        sleep(Duration::from_secs(1));
        let (_, after) = ends.left.transfer()?;
        // But for an attempt at a handshake, which nobody can answer.
        let more = after - before;
        ensure!(more < 20_000, "it goes on with {more} bytes a second");
    }
    ensure!(dropped(&ends.left, "routing_loop")? + dropped(&other, "routing_loop")? > 0);
    ends.left.ip(&format!("route del {first} dev {two}"))?;
    ends.left.ip(&format!("route del {second} dev {one}"))?;
    ends.left_reaches_right()
}

/// Three in one another, the outer ones with no less an MTU, so that there are fragments.
fn through_a_tunnel() -> Result<()> {
    let ends = Ends::start(Program::Taltun)?;
    let _second = second_pair(&ends, "10.200.0.2".parse()?, 1420)?;
    ends.left_reaches_right()?;
    let inner = SocketAddr::new(IpAddr::from(Ipv4Addr::new(10, 201, 0, 2)), 0);
    let stream = Stream::start(&ends.pair.left, &ends.pair.right, inner)?;
    stream.wait_for_more_than(20_000_000, Duration::from_mins(1))?;
    stream.finish()?;
    let answered = Pinger::new(&ends.pair.left, inner.ip())?.count_answers(5, ANSWER_LIMIT)?;
    ensure!(answered == 5, "{answered} of 5");
    Ok(())
}
