//! AF_XDP: packets come in through it, and go on coming whatever happens to the interface
//! below it.

use std::net::SocketAddr;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, sleep};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use taltun_tests::command::{find, output_of};
use taltun_tests::lab::{Lab, Options, Role};
use taltun_tests::netns::Namespace;
use taltun_tests::node::{AfXdp, XdpMode};
use taltun_tests::report::Stats;
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
    Case {
        name: "AF_XDP: traffic goes on after the interface was down",
        programs: &[],
        run: interface_down_and_up,
    },
    Case {
        name: "AF_XDP: traffic goes on with another MTU, and with frames that are too large",
        programs: &[],
        run: mtu_change,
    },
    Case {
        name: "AF_XDP: an interface that vanishes and comes back gets its socket again",
        programs: &[],
        run: interface_vanishes,
    },
    Case {
        name: "AF_XDP: a new queue gets its own socket",
        programs: &["ethtool"],
        run: queues_change,
    },
    Case {
        name: "AF_XDP: sockets that are closed under load lose nothing",
        programs: &[],
        run: closed_under_load,
    },
];

/// How long traffic may be gone: a second until it is noticed, and a slow machine.
const BACK_LIMIT: Duration = Duration::from_secs(10);

fn over_af_xdp() -> Options {
    Options {
        xdp: XdpMode::Driver,
        af_xdp: AfXdp::On,
        ..Options::default()
    }
}

/// A lab whose hub has a socket on each queue.
fn connected() -> Result<Lab> {
    let lab = lab(over_af_xdp())?;
    wait_for_sockets(&lab, 2)?;
    ensure_answers(&lab.net.a, Role::Hub.v4())?;
    ensure_answers(&lab.net.b, Role::Hub.v4())?;
    Ok(lab)
}

fn wait_for_sockets(lab: &Lab, queues: usize) -> Result<()> {
    eventually("every queue has its socket", BACK_LIMIT, || {
        Ok(lab.hub.status()?.queues_over_af_xdp() == Some(queues))
    })
    .with_context(|| format!("{:?}", lab.hub.status().map(|status| status.af_xdp)))
}

/// Frames that the hub has received through AF_XDP on an interface.
fn received(lab: &Lab, interface: &str) -> Result<u64> {
    let status = lab.hub.status()?;
    let queues = status.af_xdp.iter();
    let of_interface = queues.filter(|queue| queue.interface == interface);
    Ok(of_interface.map(|queue| queue.received).sum())
}

/// Pings from a to the hub come in through AF_XDP.
fn ensure_in_use(lab: &Lab) -> Result<()> {
    let before = received(lab, "to-a")?;
    ensure_answers(&lab.net.a, Role::Hub.v4())?;
    let after = received(lab, "to-a")?;
    ensure!(
        after >= before + 5,
        "of 5 pings {} came through AF_XDP: {:?}",
        after - before,
        lab.hub.status()?.af_xdp
    );
    Ok(())
}

/// Ends a test that has replaced an interface, which isn't as it was before.
fn take_down_replaced(lab: Lab) -> Result<()> {
    let end = lab.stop(Signal::Terminate)?;
    ensure!(end.disorderly.is_empty(), "{}", end.disorderly.join("; "));
    Ok(())
}

fn ethtool(namespace: &Namespace, arguments: &[&str]) -> Result<()> {
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

/// Both spokes behind one interface of the hub's, by a switch.
fn relayed_in_its_frame(outer_v6: bool) -> Result<()> {
    let lab = lab(Options {
        outer_v6,
        ..over_af_xdp()
    })?;
    wait_for_sockets(&lab, 2)?;
    let switch = Namespace::create(&format!("{}-switch", private_prefix()))?;
    lab.net.hub.ip("link delete to-a")?;
    lab.net.hub.ip("link delete to-b")?;
    switch.ip("link add bridge type bridge")?;
    switch.ip("link set bridge up")?;
    for (namespace, interface, port) in [
        (&lab.net.hub, "to-a", "port-hub"),
        (&lab.net.a, "to-hub", "port-a"),
        (&lab.net.b, "to-hub", "port-b"),
    ] {
        switch.ip(&format!(
            "link add {port} type veth peer name {interface} netns {}",
            namespace.name()
        ))?;
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
    // Not the socket of one that is on its way out.
    eventually("the one interface has its socket", BACK_LIMIT, || {
        let queues = lab.hub.status()?.af_xdp;
        Ok(matches!(&queues[..], [queue] if queue.interface == "to-a" && queue.mode == "copy"))
    })?;
    for namespace in [&lab.net.a, &lab.net.b] {
        Pinger::new(namespace, Role::Hub.v4())?.wait_until_answered(UP_LIMIT)?;
    }
    let sent = || -> Result<u64> {
        let status = lab.hub.status()?;
        Ok(status.af_xdp.iter().map(|queue| queue.sent).sum())
    };
    let before = sent()?;
    for address in [Role::B.v4(), Role::B.v6()] {
        ensure_answers(&lab.net.a, address)?;
    }
    let mut pinger = Pinger::new(&lab.net.a, Role::B.v4())?;
    let answered = pinger.count_answers(200, ANSWER_LIMIT)?;
    ensure!(answered == 200, "{answered} of 200 answered");
    // But for those by which the kernel was asked where to, one a second.
    let sent = sent()? - before;
    ensure!(
        sent >= 300,
        "{sent} left in their frames: {:?}",
        lab.hub.status()?.af_xdp
    );
    switch.delete()?;
    take_down_replaced(lab)
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

fn interface_down_and_up() -> Result<()> {
    let lab = connected()?;
    ensure_in_use(&lab)?;
    lab.net.hub.ip("link set to-a down")?;
    sleep(Duration::from_millis(1500));
    lab.net.hub.ip("link set to-a up")?;
    // Taking it down took the address of IPv6 away, which nothing here needs.
    lab.net.hub.ip("addr add fd99:1::1/64 dev to-a nodad")?;
    Pinger::new(&lab.net.a, Role::Hub.v4())?.wait_until_answered(BACK_LIMIT)?;
    ensure_in_use(&lab)?;
    ensure_answers(&lab.net.a, Role::B.v4())?;
    take_down(lab)
}

fn mtu_change() -> Result<()> {
    let lab = connected()?;
    let set = |mtu: u32| -> Result<()> {
        lab.net.hub.ip(&format!("link set to-a mtu {mtu}"))?;
        lab.net.a.ip(&format!("link set to-hub mtu {mtu}"))?;
        Ok(())
    };
    for mtu in [1300, 3000, 1500] {
        set(mtu)?;
        wait_for_sockets(&lab, 2)?;
        Pinger::new(&lab.net.a, Role::Hub.v4())?.wait_until_answered(BACK_LIMIT)?;
        // The socket is bound again for larger frames, and packets go by the other way
        // until it is.
        eventually("packets come through AF_XDP again", BACK_LIMIT, || {
            Ok(ensure_in_use(&lab).is_ok())
        })?;
    }
    take_down(lab)
}

fn interface_vanishes() -> Result<()> {
    let lab = connected()?;
    lab.net.hub.ip("link delete to-a")?;
    eventually("its socket is gone", BACK_LIMIT, || {
        Ok(lab.hub.status()?.queues_over_af_xdp() == Some(1))
    })?;
    ensure_answers(&lab.net.b, Role::Hub.v4())?;
    lab.net.hub.ip(&format!(
        "link add to-a type veth peer name to-hub netns {}",
        lab.net.a.name()
    ))?;
    for (namespace, interface, host) in [(&lab.net.hub, "to-a", 1), (&lab.net.a, "to-hub", 2)] {
        namespace.ip(&format!("addr add 10.99.1.{host}/24 dev {interface}"))?;
        namespace.ip(&format!("addr add fd99:1::{host}/64 dev {interface} nodad"))?;
        namespace.ip(&format!("link set {interface} up"))?;
    }
    wait_for_sockets(&lab, 2)?;
    Pinger::new(&lab.net.a, Role::Hub.v4())?.wait_until_answered(UP_LIMIT)?;
    ensure_in_use(&lab)?;
    take_down_replaced(lab)
}

fn queues_change() -> Result<()> {
    let lab = connected()?;
    // Make room for more queues than one: a veth has as many as it was made with.
    lab.net.hub.ip("link delete to-a")?;
    lab.net.hub.ip(&format!(
        "link add to-a numrxqueues 4 numtxqueues 4 type veth peer name to-hub numrxqueues 4 \
         numtxqueues 4 netns {}",
        lab.net.a.name()
    ))?;
    ethtool(&lab.net.hub, &["-L", "to-a", "rx", "1", "tx", "1"])?;
    ethtool(&lab.net.a, &["-L", "to-hub", "rx", "1", "tx", "1"])?;
    for (namespace, interface, host) in [(&lab.net.hub, "to-a", 1), (&lab.net.a, "to-hub", 2)] {
        namespace.ip(&format!("addr add 10.99.1.{host}/24 dev {interface}"))?;
        namespace.ip(&format!("addr add fd99:1::{host}/64 dev {interface} nodad"))?;
        namespace.ip(&format!("link set {interface} up"))?;
    }
    wait_for_sockets(&lab, 2)?;
    Pinger::new(&lab.net.a, Role::Hub.v4())?.wait_until_answered(UP_LIMIT)?;
    ethtool(&lab.net.hub, &["-L", "to-a", "rx", "4", "tx", "4"])?;
    wait_for_sockets(&lab, 5)?;
    ensure_in_use(&lab)?;
    // Fewer queues than have sockets: the kernel doesn't let it happen.
    let fewer = ethtool(&lab.net.hub, &["-L", "to-a", "rx", "1", "tx", "1"]);
    if fewer.is_ok() {
        wait_for_sockets(&lab, 2)?;
    }
    ensure_in_use(&lab)?;
    take_down_replaced(lab)
}

/// Frames of another size take another socket: the old one is closed while packets come in,
/// and what is on its ring is carried through.
fn closed_under_load() -> Result<()> {
    let lab = connected()?;
    let before = lab.hub.stats()?;
    let stop = AtomicBool::new(false);
    let (sent, answered) = thread::scope(|scope| -> Result<_> {
        let load = scope.spawn(|| -> Result<(usize, usize)> {
            let mut pinger = Pinger::new(&lab.net.a, Role::B.v4())?;
            let (mut sent, mut answered) = (0, 0);
            while !stop.load(Ordering::Relaxed) {
                sent += 10;
                answered += pinger.count_answers(10, BACK_LIMIT)?;
            }
            Ok((sent, answered))
        });
        let change = || -> Result<()> {
            for mtu in [3000, 1500, 3000, 1500] {
                lab.net.hub.ip(&format!("link set to-a mtu {mtu}"))?;
                lab.net.hub.ip(&format!("link set to-b mtu {mtu}"))?;
                sleep(Duration::from_millis(2500));
            }
            Ok(())
        };
        let changed = change();
        stop.store(true, Ordering::Relaxed);
        let load = load
            .join()
            .map_err(|_| anyhow::anyhow!("the load panicked"))?;
        changed.and(load)
    })?;
    let after = lab.hub.stats()?;
    ensure!(answered == sent, "{answered} of {sent} pings answered");
    let relayed = after.traffic.relayed_packets - before.traffic.relayed_packets;
    ensure!(
        relayed >= 2 * answered as u64,
        "{relayed} relayed for {answered} pings"
    );
    let dropped = after.dropped("ring_full") - before.dropped("ring_full");
    ensure!(dropped == 0, "{dropped} dropped");
    wait_for_sockets(&lab, 2)?;
    ensure_in_use(&lab)?;
    take_down(lab)
}
