//! AF_XDP: what leaves by it that didn't come in by the same queue: what the host itself sends,
//! and what is relayed out by another interface.

use std::fs;
use std::net::{SocketAddr, UdpSocket};
use std::thread::{self, sleep};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use taltun_tests::lab::{Lab, Options, PORT, Role};
use taltun_tests::report::Stats;
use taltun_tests::sys;
use taltun_tests::traffic::checked_datagrams;
use taltun_tests::traffic::flow::Flow;
use taltun_tests::traffic::ping::Pinger;
use taltun_tests::traffic::stream::Stream;

use crate::af_xdp::{BACK_LIMIT, connected, over_af_xdp, sent, sum_of_queues, wait_for_sockets};
use crate::support::{ANSWER_LIMIT, Case, UP_LIMIT, ensure_answers, eventually, lab, take_down};

pub const CASES: &[Case] = &[
    Case {
        name: "AF_XDP: what the hub itself sends in small packets leaves by it, by IPv4",
        programs: &[],
        run: || small_packets_leave_by_it(false),
    },
    Case {
        name: "AF_XDP: what the hub itself sends in small packets leaves by it, by IPv6",
        programs: &[],
        run: || small_packets_leave_by_it(true),
    },
    Case {
        name: "AF_XDP: bulk of the hub's own leaves by the socket, and arrives as it was",
        programs: &[],
        run: bulk_leaves_by_the_socket,
    },
    Case {
        name: "AF_XDP: what is relayed leaves by the other interface's queue",
        programs: &[],
        run: relayed_by_the_other_queue,
    },
    Case {
        name: "AF_XDP: with a fwmark all that leaves, leaves by the socket",
        programs: &[],
        run: marked_leaves_by_the_socket,
    },
    Case {
        name: "AF_XDP: a tunnel's datagram in a tunnel keeps its mark in the hop limit",
        programs: &[],
        run: nested_keeps_its_mark,
    },
    Case {
        name: "AF_XDP: what the hub itself sends goes on after the interface was down",
        programs: &[],
        run: interface_down_and_up,
    },
    Case {
        name: "AF_XDP: what the hub itself sends loses nothing when sockets are closed",
        programs: &[],
        run: sockets_closed,
    },
];

/// How long a flow is watched before a change, and after it: changes are noticed within a
/// second.
const BEFORE: Duration = Duration::from_millis(500);
const AFTER: Duration = Duration::from_secs(3);
/// How long it may take until a spoke notices that the hub has lost its sessions.
const MISSED_LIMIT: Duration = Duration::from_secs(40);
/// Packets that may have been lost on a wire that was taken down, and that no sender can know
/// of.
const ON_THE_WIRE: u64 = 20;
/// Bytes that a connection has to carry, and how long it may take.
const ENOUGH: u64 = 20_000_000;
const STREAM_LIMIT: Duration = Duration::from_secs(60);
/// Bytes in the largest piece of a connection.
const PIECE: u64 = 1400;

/// Frames that the hub has sent by an interface's queues.
fn sent_by(lab: &Lab, interface: &str) -> Result<u64> {
    sum_of_queues(lab, interface, |queue| queue.sent)
}

/// What the hub itself sends to b in small packets leaves past the network stack.
pub fn ensure_own_packets_leave(lab: &Lab) -> Result<()> {
    ensure_answers(&lab.net.hub, Role::B.v4())?;
    let before = sent(lab)?;
    let mut pinger = Pinger::new(&lab.net.hub, Role::B.v4())?;
    let answered = pinger.count_answers(100, ANSWER_LIMIT)?;
    ensure!(answered == 100, "{answered} of 100 answered");
    let sent = sent(lab)? - before;
    // But for those by which the kernel was asked where to, one a second.
    ensure!(sent >= 50, "{sent} of 100 left by AF_XDP");
    Ok(())
}

fn small_packets_leave_by_it(outer_v6: bool) -> Result<()> {
    let lab = lab(Options {
        outer_v6,
        ..over_af_xdp()
    })?;
    wait_for_sockets(&lab, 2)?;
    for address in [Role::B.v4(), Role::B.v6()] {
        ensure_answers(&lab.net.hub, address)?;
        let before = (sent_by(&lab, "to-b")?, lab.hub.stats()?.traffic.tx_packets);
        let mut pinger = Pinger::new(&lab.net.hub, address)?;
        let answered = pinger.count_answers(100, ANSWER_LIMIT)?;
        ensure!(answered == 100, "{answered} of 100 answered");
        let flow = Flow::start(&lab.net.hub, &lab.net.b, SocketAddr::new(address, 0))?;
        sleep(AFTER);
        let outcome = flow.finish()?;
        ensure!(
            outcome.arrived() == outcome.sent,
            "{} of {} arrived",
            outcome.arrived(),
            outcome.sent
        );
        // But for those by which the kernel was asked where to, one a second, and those that
        // a busy machine brought in twos.
        let all = outcome.sent + 100;
        let by_queue = sent_by(&lab, "to-b")? - before.0;
        ensure!(
            by_queue * 10 >= all * 7 && by_queue <= all + ON_THE_WIRE,
            "{by_queue} of {all} packets to {address} left by AF_XDP: {:?}",
            lab.hub.status()?.af_xdp
        );
        let counted = lab.hub.stats()?.traffic.tx_packets - before.1;
        ensure!(
            (all..=all + ON_THE_WIRE).contains(&counted),
            "{counted} of {all} packets were counted as sent"
        );
    }
    ensure!(sent_by(&lab, "to-a")? <= ON_THE_WIRE);
    take_down(lab)
}

fn bulk_leaves_by_the_socket() -> Result<()> {
    let lab = connected()?;
    ensure_own_packets_leave(&lab)?;
    let before = sent(&lab)?;
    for address in [Role::B.v4(), Role::B.v6()] {
        let stream = Stream::start(&lab.net.hub, &lab.net.b, SocketAddr::new(address, 0))?;
        stream.wait_for_more_than(ENOUGH, STREAM_LIMIT)?;
        let carried = stream.finish().with_context(|| format!("to {address}"))?;
        let pieces = carried.bytes / PIECE;
        let by_queue = sent(&lab)? - before;
        ensure!(
            by_queue * 4 < pieces,
            "{by_queue} frames left by AF_XDP, and {pieces} pieces were sent"
        );
    }
    // Of all lengths, some in groups that leave as one and some not, with every byte compared.
    let to = SocketAddr::new(Role::B.v4(), 0);
    let outcome = checked_datagrams::send(&lab.net.hub, &lab.net.b, to, 10_000)?;
    ensure!(outcome.arrived == outcome.sent, "{outcome:?}");
    take_down(lab)
}

fn relayed_by_the_other_queue() -> Result<()> {
    let lab = connected()?;
    ensure_answers(&lab.net.a, Role::B.v4())?;
    let look = || -> Result<_> { Ok([sent_by(&lab, "to-a")?, sent_by(&lab, "to-b")?]) };
    let before = look()?;
    let mut pinger = Pinger::new(&lab.net.a, Role::B.v4())?;
    let answered = pinger.count_answers(200, ANSWER_LIMIT)?;
    ensure!(answered == 200, "{answered} of 200 answered");
    let after = look()?;
    for (interface, (before, after)) in ["to-a", "to-b"].iter().zip(before.into_iter().zip(after)) {
        let by_queue = after - before;
        ensure!(
            (150..=220).contains(&by_queue),
            "{by_queue} of 200 left by {interface}: {:?}",
            lab.hub.status()?.af_xdp
        );
    }
    // Whatever its size, and with every byte compared.
    let before = (look()?, lab.hub.stats()?.traffic.relayed_packets);
    let to = SocketAddr::new(Role::B.v6(), 0);
    let stream = Stream::start(&lab.net.a, &lab.net.b, to)?;
    stream.wait_for_more_than(ENOUGH / 4, STREAM_LIMIT)?;
    stream.finish()?;
    let to = SocketAddr::new(Role::A.v4(), 0);
    let outcome = checked_datagrams::send(&lab.net.b, &lab.net.a, to, 10_000)?;
    ensure!(outcome.arrived == outcome.sent, "{outcome:?}");
    let by_queues: u64 = look()?.iter().sum::<u64>() - before.0.iter().sum::<u64>();
    let relayed = lab.hub.stats()?.traffic.relayed_packets - before.1;
    ensure!(
        by_queues * 10 >= relayed * 7,
        "{by_queues} of {relayed} relayed packets left by AF_XDP"
    );
    take_down(lab)
}

fn marked_leaves_by_the_socket() -> Result<()> {
    let mut lab = connected()?;
    lab.hub.kill()?;
    let config = lab.hub.directory().join("config.toml");
    let text = fs::read_to_string(&config)?;
    let marked = text.replacen("[interface]\n", "[interface]\nfwmark = 66\n", 1);
    ensure!(marked != text, "no [interface] in {text}");
    fs::write(&config, marked)?;
    lab.hub.start_again(&lab.net.hub)?;
    wait_for_sockets(&lab, 2)?;
    for (from, to) in [(&lab.net.b, Role::Hub), (&lab.net.a, Role::B)] {
        Pinger::new(from, to.v4())?.wait_until_answered(MISSED_LIMIT)?;
    }
    ensure_answers(&lab.net.hub, Role::B.v4())?;
    ensure_answers(&lab.net.a, Role::B.v6())?;
    let status = lab.hub.status()?;
    let received: u64 = status.af_xdp.iter().map(|queue| queue.received).sum();
    ensure!(received > 0 && sent(&lab)? == 0, "{:?}", status.af_xdp);
    take_down(lab)
}

/// What a datagram leaves with that the hub sends to b, carrying a datagram that begins with
/// these bytes.
fn hop_limit_of(lab: &Lab, content: [u8; 4], port: u16) -> Result<u8> {
    const LENGTH: usize = 600;
    const WHOLE: usize = 14 + 20 + 8 + LENGTH;
    let socket: UdpSocket = lab
        .net
        .b
        .run(|| -> Result<_> {
            let socket = sys::socket(libc::AF_PACKET, libc::SOCK_RAW, 0)?;
            let index = sys::interface_index("to-hub")?;
            sys::bind_packet_socket(&socket, index, libc::ETH_P_ALL as u16)?;
            Ok(socket)
        })??
        .into();
    socket.set_read_timeout(Some(ANSWER_LIMIT))?;
    let sender = lab.net.hub.udp("0.0.0.0:0")?;
    let to = SocketAddr::new(Role::B.v4(), port);
    thread::scope(|scope| {
        let sending = scope.spawn(|| -> Result<()> {
            let mut datagram = vec![7; LENGTH];
            datagram[..4].copy_from_slice(&content);
            for _ in 0..20 {
                sender.send_to(&datagram, to)?;
                sleep(Duration::from_millis(5));
            }
            Ok(())
        });
        // Frames of the tunnel that can carry it; one is still the socket's.
        let mut limits = Vec::new();
        let mut frame = [0; 2048];
        while limits.len() < 10 {
            let len = socket.recv(&mut frame).context("too few were sent")?;
            if frame[12..14] == [8, 0]
                && frame[23] == 17
                && frame[34..36] == PORT.to_be_bytes()
                && len > WHOLE
            {
                limits.push(frame[22]);
            }
        }
        sending.join().expect("it doesn't panic")?;
        ensure!(limits.iter().all(|limit| *limit == limits[0]), "{limits:?}");
        Ok(limits[0])
    })
}

fn nested_keeps_its_mark() -> Result<()> {
    let mut lab = connected()?;
    ensure_answers(&lab.net.hub, Role::B.v4())?;
    // What b's program takes off the wire, nobody else there sees.
    lab.b.kill()?;
    let before = sent_by(&lab, "to-b")?;
    let plain = hop_limit_of(&lab, [9, 9, 9, 9], 9)?;
    ensure!(plain == 64, "{plain}");
    let nested = hop_limit_of(&lab, [4, 0, 0, 0], 9)?;
    ensure!(nested == 255, "{nested}");
    let by_queue = sent_by(&lab, "to-b")? - before;
    ensure!(by_queue >= 30, "{by_queue} of 40 left by AF_XDP");
    lab.b.start_again(&lab.net.b)?;
    ensure_answers(&lab.net.hub, Role::B.v4())?;
    take_down(lab)
}

/// The hub sends a flow to b, and something changes meanwhile. `change` returns when that was
/// done; from then on the flow must go on. Nothing may arrive twice, and what doesn't arrive
/// must be counted.
fn own_flow(lab: &Lab, change: impl FnOnce() -> Result<Instant>) -> Result<[u64; 2]> {
    Pinger::new(&lab.net.hub, Role::B.v4())?.wait_until_answered(UP_LIMIT)?;
    let before = (lab.hub.stats()?, sent_by(lab, "to-b")?);
    let to = SocketAddr::new(Role::B.v4(), 0);
    let flow = Flow::start(&lab.net.hub, &lab.net.b, to)?;
    sleep(BEFORE);
    let by_queue = sent_by(lab, "to-b")? - before.1;
    ensure!(by_queue > 50, "{by_queue} left by AF_XDP before the change");
    let changed = change()?;
    sleep(AFTER);
    let by_queue = sent_by(lab, "to-b")?;
    sleep(BEFORE);
    let by_queue = sent_by(lab, "to-b")? - by_queue;
    let outcome = flow.finish()?;
    ensure!(by_queue > 50, "{by_queue} left by AF_XDP after the change");
    let dropped = |stats: &Stats| stats.dropped_in_all();
    let (arrived, lost) = (outcome.arrived(), outcome.sent - outcome.arrived());
    eventually("the counters add up", BACK_LIMIT, || {
        let dropped = dropped(&lab.hub.stats()?) - dropped(&before.0);
        Ok(dropped.abs_diff(lost) <= ON_THE_WIRE)
    })
    .with_context(|| {
        format!(
            "{arrived} of {} arrived; {:?}, before {:?}",
            outcome.sent,
            lab.hub.stats().map(|stats| stats.drops),
            before.0.drops
        )
    })?;
    let pause = outcome.longest_pause(changed);
    eprintln!("{arrived} of {} arrived, pause {pause:?}", outcome.sent);
    ensure!(pause < AFTER, "nothing arrived for {pause:?}");
    Ok([outcome.sent, arrived])
}

fn interface_down_and_up() -> Result<()> {
    let lab = connected()?;
    let [sent, arrived] = own_flow(&lab, || {
        lab.net.hub.ip("link set to-b down")?;
        sleep(Duration::from_millis(1500));
        lab.net.hub.ip("link set to-b up")?;
        // What waits for a neighbour's answer is the kernel's, which throws it away uncounted.
        let b = lab.net.b.hardware("to-hub")?;
        let neighbour = format!("neigh replace 10.99.2.2 lladdr {b} dev to-b nud permanent");
        lab.net.hub.ip(&neighbour)?;
        Ok(Instant::now())
    })?;
    ensure!(arrived < sent, "it was never down");
    // Taking it down took the address of IPv6 away.
    lab.net.hub.ip("addr add fd99:2::1/64 dev to-b nodad")?;
    ensure_answers(&lab.net.hub, Role::B.v4())?;
    take_down(lab)
}

/// Frames of another size take another socket: the old one is closed while the hub sends.
fn sockets_closed() -> Result<()> {
    let lab = connected()?;
    let [sent, arrived] = own_flow(&lab, || {
        let start = Instant::now();
        for mtu in [3000, 1500, 3000, 1500] {
            lab.net.hub.ip(&format!("link set to-b mtu {mtu}"))?;
            sleep(AFTER);
        }
        Ok(start)
    })?;
    ensure!(arrived == sent, "{arrived} of {sent} datagrams arrived");
    wait_for_sockets(&lab, 2)?;
    take_down(lab)
}
