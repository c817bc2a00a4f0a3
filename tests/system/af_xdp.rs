//! AF_XDP: packets come in through it, and go on coming whatever happens to the interface
//! below it.

use std::net::SocketAddr;
use std::process::Command;
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use taltun_tests::command::{find, output_of};
use taltun_tests::lab::{Lab, Options, Role};
use taltun_tests::netns::Namespace;
use taltun_tests::node::{AfXdp, XdpMode};
use taltun_tests::report::{AfXdp as QueueStatus, Stats};
use taltun_tests::sys::Signal;
use taltun_tests::topology::private_prefix;
use taltun_tests::traffic::datagrams;
use taltun_tests::traffic::ping::Pinger;

use crate::support::{ANSWER_LIMIT, Case, UP_LIMIT, ensure_answers, eventually, lab, take_down};

pub const CASES: &[Case] = &[
    Case {
        name: "AF_XDP: what comes in comes through it, relayed or not, but for handshakes",
        programs: &[],
        run: packets_come_through_it,
    },
    Case {
        name: "AF_XDP: what leaves by the interface it came in on leaves in its frame, by IPv4",
        programs: &[],
        run: || relayed_in_its_frame(false),
    },
    Case {
        name: "AF_XDP: what leaves by the interface it came in on leaves in its frame, by IPv6",
        programs: &[],
        run: || relayed_in_its_frame(true),
    },
    Case {
        name: "AF_XDP: auto leaves a driver without zero copy alone and says so",
        programs: &[],
        run: auto_says_why_not,
    },
    Case {
        name: "AF_XDP: in generic mode what may be merged goes the ordinary way",
        programs: &[],
        run: generic_mode_works,
    },
    Case {
        name: "AF_XDP: what a hub that stands still has no room for is counted, and nothing else",
        programs: &["kill"],
        run: losses_are_counted,
    },
];

/// How long traffic may be gone: a second until it is noticed, and a slow machine.
pub const BACK_LIMIT: Duration = Duration::from_secs(10);

pub fn over_af_xdp() -> Options {
    Options {
        xdp: XdpMode::Driver,
        af_xdp: AfXdp::On,
        ..Options::default()
    }
}

/// A lab whose hub has a socket on each queue.
pub fn connected() -> Result<Lab> {
    let lab = lab(over_af_xdp())?;
    wait_for_sockets(&lab, 2)?;
    ensure_answers(&lab.net.a, Role::Hub.v4())?;
    ensure_answers(&lab.net.b, Role::Hub.v4())?;
    Ok(lab)
}

pub fn wait_for_sockets(lab: &Lab, queues: usize) -> Result<()> {
    eventually("every queue has its socket", BACK_LIMIT, || {
        Ok(lab.hub.status()?.queues_over_af_xdp() == Some(queues))
    })
    .with_context(|| format!("{:?}", lab.hub.status().map(|status| status.af_xdp)))
}

/// Frames that the hub has received through AF_XDP on an interface.
pub fn received(lab: &Lab, interface: &str) -> Result<u64> {
    sum_of_queues(lab, interface, |queue| queue.received)
}

/// What a counter comes to over an interface's queues.
pub fn sum_of_queues(
    lab: &Lab,
    interface: &str,
    counter: impl Fn(&QueueStatus) -> u64,
) -> Result<u64> {
    let status = lab.hub.status()?;
    let queues = status.af_xdp.iter();
    let of_interface = queues.filter(|queue| queue.interface == interface);
    Ok(of_interface.map(counter).sum())
}

/// Pings from a to the hub come in through AF_XDP.
pub fn ensure_in_use(lab: &Lab) -> Result<()> {
    let before = received(lab, "to-a")?;
    ensure_answers(&lab.net.a, Role::Hub.v4())?;
    let after = received(lab, "to-a")?;
    ensure!(
        after >= before + 5,
        "5 pings, and {before} frames before, {after} after: {:?}",
        lab.hub.status()?.af_xdp
    );
    Ok(())
}

/// Ends a test that has replaced an interface, which isn't as it was before.
pub fn take_down_replaced(lab: Lab) -> Result<()> {
    let end = lab.stop(Signal::Terminate)?;
    ensure!(end.disorderly.is_empty(), "{}", end.disorderly.join("; "));
    Ok(())
}

pub fn ethtool(namespace: &Namespace, arguments: &[&str]) -> Result<()> {
    output_of(namespace.command("ethtool").args(arguments)).map(drop)
}

fn packets_come_through_it() -> Result<()> {
    let lab = connected()?;
    ensure_in_use(&lab)?;
    let before = (received(&lab, "to-b")?, lab.hub.stats()?.traffic);
    for address in [Role::B.v4(), Role::B.v6()] {
        ensure_answers(&lab.net.a, address)?;
    }
    let traffic = lab.hub.stats()?.traffic;
    let answers = received(&lab, "to-b")? - before.0;
    ensure!(answers >= 10, "{answers} answers came through AF_XDP");
    let relayed = traffic.relayed_packets - before.1.relayed_packets;
    ensure!(relayed >= 20, "{relayed} relayed");
    // The counters of the shield are those of the same packets.
    let status = lab.hub.status()?;
    let frames: u64 = status.af_xdp.iter().map(|queue| queue.received).sum();
    let lost: u64 = status
        .af_xdp
        .iter()
        .map(|queue| queue.ring_full + queue.dropped)
        .sum();
    ensure!(lost == 0, "{lost} lost: {:?}", status.af_xdp);
    let packets: u64 = lab
        .hub
        .stats()?
        .sources
        .iter()
        .map(|source| source.packets)
        .sum();
    ensure!(
        (1..=packets).contains(&frames),
        "{frames} frames through AF_XDP, {packets} seen by XDP"
    );
    take_down(lab)
}

/// Puts both spokes behind one interface of the hub's, by a switch, which `connect` joins
/// with the hub: by `to-a` in the hub's namespace and `port-hub` in the switch's.
pub fn behind_one_interface(
    lab: &Lab,
    connect: impl FnOnce(&Namespace) -> Result<()>,
) -> Result<Namespace> {
    let switch = Namespace::create(&format!("{}-switch", private_prefix()))?;
    lab.net.hub.ip("link delete to-a")?;
    lab.net.hub.ip("link delete to-b")?;
    switch.ip("link add bridge type bridge")?;
    switch.ip("link set bridge up")?;
    connect(&switch)?;
    for (namespace, port) in [(&lab.net.a, "port-a"), (&lab.net.b, "port-b")] {
        switch.ip(&format!(
            "link add {port} type veth peer name to-hub netns {}",
            namespace.name()
        ))?;
    }
    for port in ["port-hub", "port-a", "port-b"] {
        switch.ip(&format!("link set {port} master bridge up"))?;
    }
    // The hub has an address on both wires that have become one.
    let hosts = [
        (&lab.net.hub, "to-a", 1, 1),
        (&lab.net.hub, "to-a", 2, 1),
        (&lab.net.a, "to-hub", 1, 2),
        (&lab.net.b, "to-hub", 2, 2),
    ];
    for (namespace, interface, wire, host) in hosts {
        namespace.ip(&format!("addr add 10.99.{wire}.{host}/24 dev {interface}"))?;
        namespace.ip(&format!(
            "addr add fd99:{wire}::{host}/64 dev {interface} nodad"
        ))?;
        namespace.ip(&format!("link set {interface} up"))?;
    }
    Ok(switch)
}

/// Waits until the hub's only interface has its socket, in this mode, and both spokes reach
/// the hub.
pub fn wait_for_one_interface(lab: &Lab, mode: &str) -> Result<()> {
    wait_for_modes(lab, &[mode], UP_LIMIT)
}

/// Waits until the hub's only interface has so many queues, in these modes, and then for so
/// long until both spokes reach the hub.
pub fn wait_for_modes(lab: &Lab, modes: &[&str], limit: Duration) -> Result<()> {
    // Not the sockets of one that is on its way out.
    eventually("the one interface has its sockets", BACK_LIMIT, || {
        let queues = lab.hub.status()?.af_xdp;
        let all_here = queues.iter().all(|queue| queue.interface == "to-a");
        Ok(all_here
            && queues
                .iter()
                .map(|queue| queue.mode.as_str())
                .eq(modes.iter().copied()))
    })
    .with_context(|| format!("{:?}", lab.hub.status().map(|status| status.af_xdp)))?;
    for namespace in [&lab.net.a, &lab.net.b] {
        Pinger::new(namespace, Role::Hub.v4())?.wait_until_answered(limit)?;
    }
    Ok(())
}

/// Frames that the hub has sent past the network stack.
pub fn sent(lab: &Lab) -> Result<u64> {
    let status = lab.hub.status()?;
    Ok(status.af_xdp.iter().map(|queue| queue.sent).sum())
}

fn relayed_in_its_frame(outer_v6: bool) -> Result<()> {
    let lab = lab(Options {
        outer_v6,
        ..over_af_xdp()
    })?;
    wait_for_sockets(&lab, 2)?;
    let switch = behind_one_interface(&lab, |switch| {
        let hub = lab.net.hub.name();
        let words = format!("link add port-hub type veth peer name to-a netns {hub}");
        switch.ip(&words).map(drop)
    })?;
    wait_for_one_interface(&lab, "copy")?;
    ensure_leaves_in_its_frame(&lab)?;
    switch.delete()?;
    take_down_replaced(lab)
}

/// What is relayed leaves past the network stack.
pub fn ensure_leaves_in_its_frame(lab: &Lab) -> Result<()> {
    let before = sent(lab)?;
    for address in [Role::B.v4(), Role::B.v6()] {
        ensure_answers(&lab.net.a, address)?;
    }
    let mut pinger = Pinger::new(&lab.net.a, Role::B.v4())?;
    let answered = pinger.count_answers(200, ANSWER_LIMIT)?;
    ensure!(answered == 200, "{answered} of 200 answered");
    // But for those by which the kernel was asked where to, one a second.
    let sent = sent(lab)? - before;
    ensure!(
        sent >= 300,
        "{sent} left in their frames: {:?}",
        lab.hub.status()?.af_xdp
    );
    Ok(())
}

fn auto_says_why_not() -> Result<()> {
    let lab = lab(Options {
        xdp: XdpMode::Driver,
        af_xdp: AfXdp::Auto,
        ..Options::default()
    })?;
    ensure_answers(&lab.net.a, Role::B.v4())?;
    let queues = lab.hub.status()?.af_xdp;
    ensure!(queues.len() == 2, "{queues:?}");
    for queue in &queues {
        ensure!(
            queue.mode == "off" && queue.reason.contains("zero copy"),
            "{queue:?}"
        );
    }
    take_down(lab)
}

fn generic_mode_works() -> Result<()> {
    let lab = lab(Options {
        xdp: XdpMode::Generic,
        af_xdp: AfXdp::On,
        ..Options::default()
    })?;
    wait_for_sockets(&lab, 2)?;
    // A veth leaves checksums unfinished, as merged packets have them: the socket's.
    ensure_answers(&lab.net.a, Role::Hub.v4())?;
    ensure_answers(&lab.net.a, Role::B.v4())?;
    // Finished ones show that a frame is one datagram.
    if find("ethtool").is_some() {
        ethtool(&lab.net.a, &["-K", "to-hub", "tx", "off"])?;
        ensure_in_use(&lab)?;
        ethtool(&lab.net.a, &["-K", "to-hub", "tx", "on"])?;
    }
    take_down(lab)
}

/// Every packet either gets to the hub or is counted as lost, once.
fn losses_are_counted() -> Result<()> {
    // More than a ring holds.
    const PACKETS: usize = 6000;
    let lab = connected()?;
    let signal = |signal: &str| -> Result<()> {
        let pid = lab.hub.pid().to_string();
        output_of(Command::new("kill").args([signal, &pid])).map(drop)
    };
    let before = lab.hub.stats()?;
    signal("-STOP")?;
    let to = SocketAddr::new(Role::Hub.v4(), 9);
    let sent = datagrams::send(&lab.net.a, to, vec![vec![7; 32]; PACKETS])?;
    // The last ones are on their way.
    sleep(Duration::from_millis(500));
    signal("-CONT")?;
    let lost = |stats: &Stats| stats.dropped("ring_full") - before.dropped("ring_full");
    let arrived = |stats: &Stats| stats.traffic.rx_packets - before.traffic.rx_packets;
    eventually("every packet is somewhere", BACK_LIMIT, || {
        let after = lab.hub.stats()?;
        Ok(lost(&after) + arrived(&after) >= sent)
    })
    .with_context(|| format!("{:?}", lab.hub.stats().map(|stats| stats.drops)))?;
    let after = lab.hub.stats()?;
    let (lost, arrived) = (lost(&after), arrived(&after));
    ensure!(lost > 0, "all {arrived} arrived");
    // But for what the kernel says of itself now and then.
    ensure!(
        lost + arrived <= sent + 20,
        "{lost} lost and {arrived} arrived of {sent}"
    );
    ensure_in_use(&lab)?;
    take_down(lab)
}
