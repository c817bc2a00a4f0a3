//! Bans: an address falls silent, the others don't notice, and it comes back.

use std::net::{IpAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, sleep};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};
use serde_json::Value;
use taltun_tests::lab::{Lab, Options, Role};
use taltun_tests::netns::Namespace;
use taltun_tests::node::{Keys, Node, XdpMode};
use taltun_tests::sys::Signal;
use taltun_tests::topology::{Pair, WIRE_A, WIRE_B, private_prefix};

use crate::support::{
    Case, UP_LIMIT, ensure_answers, ensure_answers_within, ensure_silent, eventually, lab,
    take_down, taltun,
};

/// Within this a ban has to work.
const BAN_LIMIT: Duration = Duration::from_millis(100);
/// The time between two datagrams, while a ban is watched.
const PACE: Duration = Duration::from_millis(1);
/// How many datagrams there are before the ban, and after it.
const SENT_BEFORE: u64 = 200;
const SENT_AFTER: u64 = 500;
/// When nothing has arrived for so long, nothing will.
const SILENCE: Duration = Duration::from_secs(3);
/// The most bans at once.
const MOST_BANS: usize = 10_000;

pub const CASES: &[Case] = &[
    Case {
        name: "a banned address falls silent and returns, xdp auto",
        programs: &[],
        run: || outer(XdpMode::Auto, false),
    },
    Case {
        name: "a banned address falls silent and returns, xdp driver",
        programs: &[],
        run: || outer(XdpMode::Driver, false),
    },
    Case {
        name: "a banned address falls silent and returns, xdp generic",
        programs: &[],
        run: || outer(XdpMode::Generic, false),
    },
    Case {
        name: "a banned address falls silent and returns, xdp off",
        programs: &[],
        run: || outer(XdpMode::Off, false),
    },
    Case {
        name: "a banned IPv6 address falls silent and returns, xdp auto",
        programs: &[],
        run: || outer(XdpMode::Auto, true),
    },
    Case {
        name: "a banned IPv6 address falls silent and returns, xdp off",
        programs: &[],
        run: || outer(XdpMode::Off, true),
    },
    Case {
        name: "a ban works at once, xdp driver",
        programs: &[],
        run: || at_once(XdpMode::Driver),
    },
    Case {
        name: "a ban works at once, xdp generic",
        programs: &[],
        run: || at_once(XdpMode::Generic),
    },
    Case {
        name: "more bans than the limit are refused, and those before stay",
        programs: &[],
        run: too_many,
    },
    Case {
        name: "a ban of a network covers its addresses",
        programs: &[],
        run: network,
    },
    Case {
        name: "a ban with a time ends by itself",
        programs: &[],
        run: for_a_while,
    },
    Case {
        name: "an inner ban silences an address inside the tunnel",
        programs: &[],
        run: inner,
    },
    Case {
        name: "a ban of what is no address is refused",
        programs: &[],
        run: nonsense,
    },
];

fn outer(xdp: XdpMode, outer_v6: bool) -> Result<()> {
    let lab = lab(Options {
        xdp,
        outer_v6,
        ..Options::default()
    })?;
    let banned: IpAddr = if outer_v6 {
        WIRE_A.far_v6()
    } else {
        WIRE_A.far_v4()
    };
    let banned = banned.to_string();
    ensure_answers(&lab.net.a, Role::Hub.v4())?;
    ensure_answers(&lab.net.b, Role::Hub.v4())?;
    ensure_answers(&lab.net.a, Role::B.v4())?;

    lab.hub.tell(&["ban", &banned])?;
    ensure_silent(&lab.net.a, Role::Hub.v4())?;
    ensure_silent(&lab.net.a, Role::B.v4())?;
    ensure_answers(&lab.net.b, Role::Hub.v4())?;
    let stats = lab.hub.stats()?;
    ensure!(
        stats.denied.iter().any(|net| net.starts_with(&banned)),
        "{banned} isn't among the denied {:?}",
        stats.denied
    );
    ensure!(
        stats.dropped("denied") >= 10,
        "{} of 10 pings were counted",
        stats.dropped("denied")
    );

    lab.hub.tell(&["unban", &banned])?;
    ensure_answers(&lab.net.a, Role::Hub.v4())?;
    ensure_answers(&lab.net.a, Role::B.v4())?;
    let stats = lab.hub.stats()?;
    ensure!(stats.denied.is_empty(), "still denied: {:?}", stats.denied);
    take_down(lab)
}

/// No clock decides here but the sender's own: datagrams go out at a steady pace, and of those
/// sent after `taltun ban` has returned fewer may arrive than are sent in [`BAN_LIMIT`].
fn at_once(xdp: XdpMode) -> Result<()> {
    let lab = lab(Options {
        xdp,
        ..Options::default()
    })?;
    ensure_answers(&lab.net.a, Role::Hub.v4())?;
    let bind =
        |namespace: &Namespace, role: Role| -> Result<UdpSocket> { namespace.udp((role.v4(), 0)) };
    let receiver = bind(&lab.net.hub, Role::Hub)?;
    let sender = bind(&lab.net.a, Role::A)?;
    sender.connect(receiver.local_addr()?)?;
    receiver.set_read_timeout(Some(SILENCE))?;

    let (sent, done) = (AtomicU64::new(0), AtomicBool::new(false));
    let (returned_at, said, arrived) = thread::scope(|scope| -> Result<_> {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                let number = sent.load(Ordering::Relaxed);
                // A full buffer loses a datagram, which is then one that doesn't arrive.
                let _ = sender.send(&number.to_be_bytes());
                sent.store(number + 1, Ordering::Relaxed);
                sleep(PACE);
            }
        });
        let listener = scope.spawn(|| numbers(&receiver));
        let outcome = (|| -> Result<_> {
            wait_for(&sent, SENT_BEFORE)?;
            let said = lab.hub.tell(&["ban", &WIRE_A.far_v4().to_string()])?;
            let returned_at = sent.load(Ordering::Relaxed);
            wait_for(&sent, returned_at + SENT_AFTER)?;
            Ok((returned_at, said))
        })();
        done.store(true, Ordering::Relaxed);
        let (returned_at, said) = outcome?;
        let arrived = listener.join().map_err(|_| anyhow!("the listener died"))?;
        Ok((returned_at, said, arrived))
    })?;
    ensure!(said.contains("dropped in XDP"), "ban says: {said}");
    let before = arrived.iter().filter(|number| **number < SENT_BEFORE);
    ensure!(before.count() > 0, "nothing arrived even before the ban");
    let late = arrived.iter().filter(|number| **number >= returned_at);
    let (late, allowed) = (late.count() as u128, BAN_LIMIT.as_nanos() / PACE.as_nanos());
    ensure!(
        late < allowed,
        "{late} datagrams passed after the ban; in {BAN_LIMIT:?} there are {allowed}"
    );
    drop((receiver, sender));
    take_down(lab)
}

/// The numbers in the datagrams that arrive until it is silent.
fn numbers(receiver: &UdpSocket) -> Vec<u64> {
    let mut numbers = Vec::new();
    let mut number = [0; 8];
    while receiver.recv(&mut number).is_ok() {
        numbers.push(u64::from_be_bytes(number));
    }
    numbers
}

/// Waits until so many are sent.
fn wait_for(sent: &AtomicU64, count: u64) -> Result<()> {
    eventually("enough is sent", Duration::from_secs(30), || {
        Ok(sent.load(Ordering::Relaxed) >= count)
    })
}

fn too_many() -> Result<()> {
    let pair = Pair::create(&private_prefix())?;
    let taltun = taltun()?;
    let keys = Keys::generate(&taltun)?;
    let config = |denied: usize| {
        let nets =
            (0..denied).map(|number| format!("\"198.{}.{}.0/25\"", number / 256, number % 256));
        format!(
            "[interface]\nmode = \"server\"\nvip = \"10.200.0.1/24\"\nprivate_key = \"{}\"\n\
             [accel]\ndeny = [{}]\n",
            keys.private,
            nets.collect::<Vec<_>>().join(", ")
        )
    };
    let hub = Node::start_with_text(&pair.left, &taltun, &config(MOST_BANS))?;
    ensure!(hub.stats()?.denied.len() == MOST_BANS);
    let refusal = hub.tell(&["ban", "203.0.113.1"]);
    let refusal = refusal.err().context("one too many was taken")?;
    ensure!(
        refusal.to_string().contains(&MOST_BANS.to_string()),
        "it doesn't name the limit: {refusal:#}"
    );
    ensure!(hub.stats()?.denied.len() == MOST_BANS, "bans were lost");
    hub.tell(&["unban", "198.0.0.0/25"])?;
    hub.tell(&["ban", "203.0.113.1"])?;
    hub.stop(Signal::Terminate)?;

    let refusal = Node::start_with_text(&pair.left, &taltun, &config(MOST_BANS + 1));
    let refusal = format!("{:#}", refusal.err().context("too many were taken")?);
    for word in ["accel.deny", &MOST_BANS.to_string()] {
        ensure!(refusal.contains(word), "it doesn't say {word}: {refusal}");
    }
    Ok(())
}

fn network() -> Result<()> {
    let lab = lab(Options::default())?;
    ensure_answers(&lab.net.a, Role::Hub.v4())?;
    ensure_answers(&lab.net.b, Role::Hub.v4())?;
    lab.hub.tell(&["ban", "10.99.2.0/24"])?;
    ensure_silent(&lab.net.b, Role::Hub.v4())?;
    ensure_answers(&lab.net.a, Role::Hub.v4())?;
    lab.hub.tell(&["unban", "10.99.2.0/24"])?;
    ensure_answers(&lab.net.b, Role::Hub.v4())?;
    take_down(lab)
}

fn for_a_while() -> Result<()> {
    let lab = lab(Options::default())?;
    ensure_answers(&lab.net.b, Role::Hub.v4())?;
    let banned = WIRE_B.far_v4().to_string();
    // Long enough for the silence to be seen, which takes a second and a half.
    lab.hub.tell(&["ban", &banned, "--for", "4s"])?;
    ensure_silent(&lab.net.b, Role::Hub.v4())?;
    ensure_answers_within(&lab.net.b, Role::Hub.v4(), UP_LIMIT)?;
    let stats = lab.hub.stats()?;
    ensure!(stats.denied.is_empty(), "still denied: {:?}", stats.denied);
    take_down(lab)
}

fn inner() -> Result<()> {
    let lab = lab(Options::default())?;
    let banned = Role::A.v4().to_string();
    ensure_answers(&lab.net.a, Role::Hub.v4())?;
    ensure_answers(&lab.net.b, Role::Hub.v4())?;

    lab.hub.tell(&["ban", &banned, "--inner"])?;
    let before = sent_inside(&lab, &banned)?;
    ensure_silent(&lab.net.a, Role::Hub.v4())?;
    ensure_silent(&lab.net.a, Role::B.v4())?;
    // Whether they were for the hub or for another peer.
    let counted = sent_inside(&lab, &banned)? - before;
    ensure!(
        (10..100).contains(&counted),
        "{counted} of 10 pings were counted by their source"
    );
    // Neither the peer's other address nor the other peer.
    ensure_answers(&lab.net.a, Role::Hub.v6())?;
    ensure_answers(&lab.net.b, Role::Hub.v4())?;
    let stats = lab.hub.stats()?;
    ensure!(
        stats
            .denied_inner
            .iter()
            .any(|net| net.starts_with(&banned)),
        "{banned} isn't among the denied {:?}",
        stats.denied_inner
    );
    ensure!(
        stats.dropped("inner_denied") >= 10,
        "{} of 10 pings were counted",
        stats.dropped("inner_denied")
    );

    lab.hub.tell(&["unban", &banned, "--inner"])?;
    ensure_answers_within(&lab.net.a, Role::Hub.v4(), Duration::from_secs(2))?;
    ensure_answers(&lab.net.a, Role::B.v4())?;
    take_down(lab)
}

/// How many packets the hub counts of a source inside the tunnel.
fn sent_inside(lab: &Lab, source: &str) -> Result<u64> {
    let stats: Value = serde_json::from_str(&lab.hub.tell(&["stats", "--json"])?)?;
    let sources = stats["sources_inner"].as_array().context("no sources")?;
    let found = sources.iter().find(|found| found["addr"] == source);
    let packets = found.and_then(|found| found["packets"].as_u64());
    packets.with_context(|| format!("{source} isn't in {stats}"))
}

fn nonsense() -> Result<()> {
    let lab = lab(Options::default())?;
    ensure_answers(&lab.net.a, Role::Hub.v4())?;
    for words in [
        &["ban", "banana"][..],
        &["ban", "10.0.0.0/33"],
        &["ban", ""],
        &["ban", "10.0.0.1", "--for", "soon"],
        &["unban", "203.0.113.0/24/24"],
    ] {
        ensure!(lab.hub.tell(words).is_err(), "`{words:?}` was accepted");
    }
    ensure!(lab.hub.stats()?.denied.is_empty());
    ensure_answers(&lab.net.a, Role::Hub.v4())?;
    take_down(lab)
}
