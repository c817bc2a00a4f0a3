//! The toolkit itself, over a bare wire: a tool that can't see a fault would make every other
//! test worthless.

use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Result, ensure};
use taltun_tests::command::output_of;
use taltun_tests::files::FILES;
use taltun_tests::leftovers::Before;
use taltun_tests::netns::{self, Namespace};
use taltun_tests::node::RUNTIME_DIR;
use taltun_tests::snapshot::Snapshot;
use taltun_tests::topology::{Pair, Star, WIRE_A, WIRE_B, private_prefix};
use taltun_tests::traffic::ping::Pinger;
use taltun_tests::traffic::stream::Stream;
use taltun_tests::traffic::{datagrams, packets};

use crate::support::{ANSWER_LIMIT, Case, ensure_answers, ensure_silent, eventually};

pub const CASES: &[Case] = &[
    Case {
        name: "toolkit: two machines on a wire answer each other's pings",
        programs: &[],
        run: two_machines_answer,
    },
    Case {
        name: "toolkit: an address that nobody has doesn't answer",
        programs: &[],
        run: nobody_does_not_answer,
    },
    Case {
        name: "toolkit: the spokes can't reach each other without a tunnel",
        programs: &[],
        run: spokes_are_apart,
    },
    Case {
        name: "toolkit: a TCP stream arrives whole",
        programs: &[],
        run: stream_arrives,
    },
    Case {
        name: "toolkit: a TCP stream outlives a cut wire",
        programs: &[],
        run: stream_outlives_a_cut,
    },
    Case {
        name: "toolkit: a TCP stream that is reset counts as broken",
        programs: &[],
        run: reset_is_noticed,
    },
    Case {
        name: "toolkit: datagrams of every length arrive",
        programs: &[],
        run: datagrams_arrive,
    },
    Case {
        name: "toolkit: raw packets go out as they are",
        programs: &[],
        run: raw_packets_go_out,
    },
    Case {
        name: "toolkit: a snapshot shows what was changed",
        programs: &[],
        run: snapshot_shows_changes,
    },
    Case {
        name: "toolkit: what a killed run left is found, and removed by the next",
        programs: &[],
        run: leftovers_are_found,
    },
];

fn two_machines_answer() -> Result<()> {
    let pair = Pair::create(&private_prefix())?;
    ensure_answers(&pair.left, WIRE_A.far_v4())?;
    ensure_answers(&pair.left, WIRE_A.far_v6())?;
    ensure_answers(&pair.right, WIRE_A.near_v4())?;
    ensure_answers(&pair.right, WIRE_A.near_v6())
}

fn nobody_does_not_answer() -> Result<()> {
    let pair = Pair::create(&private_prefix())?;
    ensure_silent(&pair.left, IpAddr::from([10, 99, 1, 77]))
}

fn spokes_are_apart() -> Result<()> {
    let star = Star::create(&private_prefix())?;
    ensure_answers(&star.a, WIRE_A.near_v4())?;
    ensure_answers(&star.b, WIRE_B.near_v6())?;
    for to in [WIRE_B.far_v4(), WIRE_B.far_v6()] {
        let refused = Pinger::new(&star.a, to)?.ping(ANSWER_LIMIT).is_err();
        ensure!(refused, "a has a route to {to}");
    }
    Ok(())
}

fn stream_arrives() -> Result<()> {
    let pair = Pair::create(&private_prefix())?;
    for to in [WIRE_A.far_v4(), WIRE_A.far_v6()] {
        let stream = Stream::start(&pair.left, &pair.right, SocketAddr::new(to, 0))?;
        stream.wait_for_more_than(10_000_000, Duration::from_secs(20))?;
        let outcome = stream.finish()?;
        ensure!(outcome.bytes > 10_000_000 && outcome.gbps() > 0.0);
    }
    Ok(())
}

fn stream_outlives_a_cut() -> Result<()> {
    let pair = Pair::create(&private_prefix())?;
    let stream = Stream::start(&pair.left, &pair.right, SocketAddr::new(WIRE_A.far_v4(), 0))?;
    stream.wait_for_more_than(1_000_000, Duration::from_secs(20))?;
    pair.right.ip("link set to-left down")?;
    // What is under way is still read.
    std::thread::sleep(Duration::from_millis(200));
    let before = stream.received();
    std::thread::sleep(Duration::from_millis(500));
    ensure!(
        stream.received() == before,
        "bytes arrived through a cut wire"
    );
    pair.right.ip("link set to-left up")?;
    stream.wait_for_more_than(before + 1_000_000, Duration::from_secs(20))?;
    stream.finish()?;
    Ok(())
}

fn reset_is_noticed() -> Result<()> {
    let pair = Pair::create(&private_prefix())?;
    let stream = Stream::start(&pair.left, &pair.right, SocketAddr::new(WIRE_A.far_v4(), 0))?;
    stream.wait_for_more_than(1_000_000, Duration::from_secs(20))?;
    output_of(pair.right.command("ss").args(["-K", "src", "10.99.1.2"]))?;
    eventually("the stream is broken", Duration::from_secs(5), || {
        Ok(stream.is_broken())
    })?;
    ensure!(stream.finish().is_err(), "it ended as if nothing had been");
    Ok(())
}

fn datagrams_arrive() -> Result<()> {
    let pair = Pair::create(&private_prefix())?;
    let receiver = pair.right.udp((WIRE_A.far_v4(), 9000))?;
    receiver.set_read_timeout(Some(ANSWER_LIMIT))?;
    let lengths = || (0..=1500).chain([9000, 65_507]);
    let reader = std::thread::spawn(move || -> Result<Vec<usize>> {
        let mut buffer = vec![0; 65_536];
        let mut got = Vec::new();
        while got.last() != Some(&65_507) {
            got.push(receiver.recv(&mut buffer)?);
        }
        Ok(got)
    });
    let to = SocketAddr::new(WIRE_A.far_v4(), 9000);
    let sent = datagrams::send(&pair.left, to, lengths().map(|length| vec![0; length]))?;
    let got = match reader.join() {
        Ok(got) => got?,
        Err(panic) => std::panic::resume_unwind(panic),
    };
    ensure!(sent == got.len() as u64, "{sent} sent, {} got", got.len());
    ensure!(got.into_iter().eq(lengths()), "not in order or not whole");
    Ok(())
}

fn raw_packets_go_out() -> Result<()> {
    let pair = Pair::create(&private_prefix())?;
    // Broadcast frames of a type for experiments, which the kernel leaves alone.
    let frame = |length: usize| {
        let mut frame = vec![0xff; 12];
        frame.extend([0x88, 0xb5]);
        frame.resize(14 + length, 0x5a);
        frame
    };
    let received = || -> Result<u64> {
        let json: serde_json::Value =
            serde_json::from_str(&pair.right.ip("-s -j link show to-left")?)?;
        Ok(json[0]["stats64"]["rx"]["packets"]
            .as_u64()
            .unwrap_or_default())
    };
    let before = received()?;
    let sent = packets::send(&pair.left, "to-right", (1..=200).map(frame))?;
    ensure!(sent == 200);
    eventually("all frames were received", ANSWER_LIMIT, || {
        Ok(received()? >= before + 200)
    })
}

fn snapshot_shows_changes() -> Result<()> {
    let pair = Pair::create(&private_prefix())?;
    let before = Snapshot::take(&pair.left)?;
    let unchanged = before.difference(&Snapshot::take(&pair.left)?);
    ensure!(unchanged.is_empty(), "changes by itself: {unchanged:?}");

    let changes: &[(&str, &str, &str)] = &[
        (
            "link add extra type veth peer name other",
            "link del extra",
            "link \"extra\"",
        ),
        (
            "addr add 10.1.2.3/32 dev lo",
            "addr del 10.1.2.3/32 dev lo",
            "10.1.2.3",
        ),
        (
            "route add 10.7.0.0/16 dev to-right",
            "route del 10.7.0.0/16 dev to-right",
            "route 10.7.0.0/16",
        ),
        (
            "-6 route add fd77::/64 dev to-right",
            "-6 route del fd77::/64 dev to-right",
            "route fd77::/64",
        ),
        (
            "rule add fwmark 7 table 7",
            "rule del fwmark 7 table 7",
            "fwmark",
        ),
        (
            "link set to-right mtu 1400",
            "link set to-right mtu 1500",
            "mtu 1400",
        ),
    ];
    for (change, undo, shown) in changes {
        pair.left.ip(change)?;
        let difference = before.difference(&Snapshot::take(&pair.left)?);
        ensure!(
            difference.iter().any(|line| line.contains(shown)),
            "`ip {change}` shows as {difference:?}"
        );
        pair.left.ip(undo)?;
        let difference = before.difference(&Snapshot::take(&pair.left)?);
        ensure!(
            difference.is_empty(),
            "after `ip {undo}` there is {difference:?}"
        );
    }

    let socket = pair.left.udp("0.0.0.0:9000")?;
    let difference = before.difference(&Snapshot::take(&pair.left)?);
    ensure!(
        difference == ["+ socket udp 00000000:2328"],
        "a socket shows as {difference:?}"
    );
    drop(socket);
    pair.left
        .run(|| fs::write("/proc/sys/net/ipv4/ip_forward", "1"))??;
    let difference = before.difference(&Snapshot::take(&pair.left)?);
    ensure!(
        difference
            .iter()
            .any(|line| line == "+ sysctl ipv4/ip_forward 1"),
        "forwarding shows as {difference:?}"
    );
    Ok(())
}

fn leftovers_are_found() -> Result<()> {
    let prefix = private_prefix();
    let before = Before::look(&prefix)?;
    let name = format!("{prefix}-killed");
    let directory = format!("{FILES}/{name}");
    // What there is when a lab's process is killed; nothing here cleans up after itself.
    output_of(Command::new("ip").args(["netns", "add", &name]))?;
    fs::create_dir_all(&directory)?;
    let mut process = Command::new("ip")
        .args(["netns", "exec", &name, "sleep", "600"])
        .env(RUNTIME_DIR, &directory)
        .stdout(Stdio::null())
        .spawn()?;
    eventually("the process is inside", ANSWER_LIMIT, || {
        let pids = output_of(Command::new("ip").args(["netns", "pids", &name]))?;
        Ok(!pids.trim().is_empty())
    })?;

    let found = before.leftovers()?;
    let expected = [
        format!("namespace {name}"),
        format!("process {}", process.id()),
        format!("directory {directory}"),
    ];
    ensure!(found == expected, "{found:?} were found");

    let again = Namespace::create(&name)?;
    ensure!(
        process.wait()?.code().is_none(),
        "the process inside wasn't killed"
    );
    again.delete()?;
    ensure!(netns::names_with(&name).is_empty());
    let found = before.leftovers()?;
    ensure!(found.is_empty(), "{found:?} are left");
    Ok(())
}
