//! Who reaches whom through the tunnel, and who doesn't.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use anyhow::{Result, ensure};
use taltun_tests::lab::{Lab, Options, Role};
use taltun_tests::node::XdpMode;
use taltun_tests::traffic::ping::Pinger;
use taltun_tests::traffic::stream::Stream;

use crate::support::{Case, UP_LIMIT, ensure_answers, ensure_silent, eventually, lab, take_down};

pub const CASES: &[Case] = &[
    Case {
        name: "the spokes and the hub reach each other, by IPv4 and IPv6",
        programs: &[],
        run: || all_reach_all(Options::default()),
    },
    Case {
        name: "they reach each other when the underlay is IPv6",
        programs: &[],
        run: || {
            all_reach_all(Options {
                outer_v6: true,
                ..Options::default()
            })
        },
    },
    Case {
        name: "they reach each other without any XDP program",
        programs: &[],
        run: || {
            all_reach_all(Options {
                xdp: XdpMode::Off,
                ..Options::default()
            })
        },
    },
    Case {
        name: "a packet from another peer's address is dropped and counted",
        programs: &[],
        run: foreign_source_is_dropped,
    },
    Case {
        name: "a packet to nobody is dropped and counted",
        programs: &[],
        run: no_peer_is_counted,
    },
    Case {
        name: "TCP arrives whole at the hub and through the relay",
        programs: &[],
        run: || tcp_arrives(""),
    },
    Case {
        name: "TCP arrives whole without any offload",
        programs: &[],
        run: || tcp_arrives("[dataplane]\ntun_offload = false\nudp_gso = false\nudp_gro = false\n"),
    },
    Case {
        name: "TCP arrives whole where only the sockets have offloads",
        programs: &[],
        run: || tcp_arrives("[dataplane]\ntun_offload = false\n"),
    },
    Case {
        name: "TCP arrives whole where only the TUN has offloads",
        programs: &[],
        run: || tcp_arrives("[dataplane]\nudp_gso = false\nudp_gro = false\n"),
    },
    Case {
        name: "TCP arrives whole over a path that is narrower than the tunnel",
        programs: &[],
        run: narrow_path,
    },
    Case {
        name: "TCP arrives whole with three workers that look before they sleep",
        programs: &[],
        run: || tcp_arrives("[dataplane]\nworkers = 3\nbusy_poll_us = 50\n"),
    },
    Case {
        name: "TCP arrives whole where several threads share the cipher work of a batch",
        programs: &[],
        run: shared_cipher_work,
    },
    Case {
        name: "two workers each get the data of their own sessions alone",
        programs: &[],
        run: steered,
    },
];

/// Every ordered pair, which makes the spokes talk through the relay; and the kernel of the
/// hub forwards nothing for that.
fn all_reach_all(options: Options) -> Result<()> {
    let lab = lab(options)?;
    // The hub learns from the spokes where they are, so they go first.
    for from in [Role::A, Role::B, Role::Hub] {
        for to in Role::ALL {
            ensure_answers(lab.namespace(from), to.v4())?;
            ensure_answers(lab.namespace(from), to.v6())?;
        }
    }
    let stats = lab.hub.stats()?;
    ensure!(stats.traffic.relayed_packets > 0, "the relay moved nothing");
    let forwarding: Vec<_> = lab
        .changes(Role::Hub)?
        .into_iter()
        .filter(|change| change.contains("forward"))
        .collect();
    ensure!(forwarding.is_empty(), "the hub's {forwarding:?}");
    take_down(lab)
}

fn foreign_source_is_dropped() -> Result<()> {
    let lab = lab(Options::default())?;
    ensure_answers(&lab.net.a, Role::Hub.v4())?;
    ensure_answers(&lab.net.b, Role::Hub.v4())?;

    // a pretends to be b.
    lab.net.a.ip("addr add 10.200.0.3/32 dev taltun0")?;
    let before = lab.hub.stats()?.dropped("inner_source");
    ensure_no_answers(&lab, Role::B.v4(), Role::Hub.v4())?;
    let dropped = lab.hub.stats()?.dropped("inner_source") - before;
    ensure!(dropped == 5, "{dropped} of 5 packets were counted");
    lab.net.a.ip("addr del 10.200.0.3/32 dev taltun0")?;

    // a pretends to be somebody unknown, and writes to b by the relay.
    lab.net.a.ip("addr add 10.200.0.77/32 dev taltun0")?;
    let received = lab.b.stats()?.traffic.rx_packets;
    ensure_no_answers(&lab, [10, 200, 0, 77].into(), Role::B.v4())?;
    let received = lab.b.stats()?.traffic.rx_packets - received;
    ensure!(received == 0, "{received} packets of a stranger reached b");
    lab.net.a.ip("addr del 10.200.0.77/32 dev taltun0")?;

    ensure_answers(&lab.net.a, Role::B.v4())?;
    take_down(lab)
}

fn ensure_no_answers(lab: &Lab, from: IpAddr, to: IpAddr) -> Result<()> {
    let mut pinger = Pinger::from_source(&lab.net.a, from, to)?;
    let answered = pinger.count_answers(5, Duration::from_millis(300))?;
    ensure!(
        answered == 0,
        "{to} answered {answered} of 5 pings from {from}"
    );
    Ok(())
}

fn no_peer_is_counted() -> Result<()> {
    let lab = lab(Options::default())?;
    ensure_answers(&lab.net.a, Role::Hub.v4())?;
    let before = lab.hub.stats()?.dropped("no_peer");
    // In the hub's subnet, so it is routed into the tunnel, but no peer's.
    ensure_silent(&lab.net.hub, [10, 200, 0, 200].into())?;
    eventually("the drops are counted", UP_LIMIT, || {
        Ok(lab.hub.stats()?.dropped("no_peer") >= before + 5)
    })?;
    ensure_answers(&lab.net.a, Role::Hub.v4())?;
    take_down(lab)
}

fn tcp_arrives(more: &'static str) -> Result<()> {
    let lab = lab(Options {
        more,
        ..Options::default()
    })?;
    for to in [Role::Hub, Role::B] {
        for address in [to.v4(), to.v6()] {
            ensure_answers(&lab.net.a, address)?;
            ensure_answers(&lab.net.b, Role::Hub.v4())?;
            let stream = Stream::start(&lab.net.a, lab.namespace(to), SocketAddr::new(address, 0))?;
            stream.wait_for_more_than(20_000_000, Duration::from_mins(1))?;
            stream.finish()?;
        }
    }
    take_down(lab)
}

/// Large batches are sealed and opened by helpers, too, on the way out, on the way in and by the
/// relay; the content is right, and the counter says that it happened.
fn shared_cipher_work() -> Result<()> {
    let lab = lab(Options {
        more: "[dataplane]\ncrypto_threads = 2\n",
        ..Options::default()
    })?;
    for from in [Role::A, Role::B] {
        ensure_answers(lab.namespace(from), Role::Hub.v4())?;
    }
    for (from, to) in [
        (Role::A, Role::Hub),
        (Role::Hub, Role::A),
        (Role::A, Role::B),
    ] {
        let address = SocketAddr::new(to.v4(), 0);
        let stream = Stream::start(lab.namespace(from), lab.namespace(to), address)?;
        stream.wait_for_more_than(50_000_000, Duration::from_mins(1))?;
        if std::thread::available_parallelism()?.get() > 1 {
            // On a busy machine no core may have been idle so far.
            eventually("a helper helps", Duration::from_mins(1), || {
                let in_all = [&lab.hub, &lab.a, &lab.b]
                    .into_iter()
                    .map(|node| Ok(node.stats()?.parallel_batches))
                    .sum::<Result<u64>>()?;
                Ok(in_all > 0)
            })?;
        }
        stream.finish()?;
    }
    for (name, node) in [("the hub", &lab.hub), ("a", &lab.a), ("b", &lab.b)] {
        let stats = node.stats()?;
        println!("{name}: {} parallel batches", stats.parallel_batches);
        for reason in ["authentication", "replay", "inner_malformed"] {
            let dropped = stats.dropped(reason);
            ensure!(dropped == 0, "{name} dropped {dropped} for {reason}");
        }
    }
    take_down(lab)
}

/// The receiver index leads each datagram to its worker.
fn steered() -> Result<()> {
    let lab = lab(Options {
        more: "[dataplane]\nworkers = 2\n",
        ..Options::default()
    })?;
    let steering = lab.hub.status()?.steering;
    ensure!(steering.mode == "ebpf", "not steered: {steering:?}");
    for from in [Role::A, Role::B] {
        for to in Role::ALL {
            ensure_answers(lab.namespace(from), to.v4())?;
            ensure_answers(lab.namespace(from), to.v6())?;
        }
    }
    let address = SocketAddr::new(Role::Hub.v4(), 0);
    let stream = Stream::start(&lab.net.a, lab.namespace(Role::Hub), address)?;
    stream.wait_for_more_than(20_000_000, Duration::from_mins(1))?;
    stream.finish()?;
    for node in [&lab.hub, &lab.a, &lab.b] {
        let stats = node.stats()?;
        ensure!(stats.traffic.rx_packets > 0, "nothing was received");
        let strayed = stats.fallbacks.strayed;
        ensure!(strayed == 0, "{strayed} datagrams came to a wrong worker");
    }
    take_down(lab)
}

/// The kernel refuses to cut segments that don't fit the path: they go one by one then, as
/// fragments, and nothing is lost.
fn narrow_path() -> Result<()> {
    let lab = lab(Options::default())?;
    ensure_answers(&lab.net.a, Role::Hub.v4())?;
    let set_mtu = |mtu| -> Result<()> {
        lab.net.a.ip(&format!("link set to-hub mtu {mtu}"))?;
        lab.net.hub.ip(&format!("link set to-a mtu {mtu}"))?;
        Ok(())
    };
    set_mtu(1300)?;
    let address = SocketAddr::new(Role::Hub.v4(), 0);
    let stream = Stream::start(&lab.net.a, &lab.net.hub, address)?;
    stream.wait_for_more_than(20_000_000, Duration::from_mins(1))?;
    stream.finish()?;
    set_mtu(1500)?;
    take_down(lab)
}
