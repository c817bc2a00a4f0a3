//! Keepalives: those that tell a sender that it is heard, and those that keep a way open.

use std::net::SocketAddr;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use taltun_tests::lab::{PORT, Role};
use taltun_tests::topology::{Pair, WIRE_A, private_prefix};

use crate::interop::{Starts, plain_pair};
use crate::support::{Case, KERNEL_WIREGUARD, UP_LIMIT, ensure_answers, eventually};
use crate::watch::{MessageKind, Watch};
use crate::wireguard::{Program, Wg, WgKeys, WgPeer, at};

/// They run beside the others.
pub const CASES: &[Case] = &[
    Case {
        name: "interop: Taltun tells wireguard-go by a keepalive that it hears it",
        programs: &["wireguard-go", "wg", "nft"],
        run: || heard(Program::WireguardGo, Starts::Other),
    },
    Case {
        name: "interop: wireguard-go tells Taltun by a keepalive that it hears it",
        programs: &["wireguard-go", "wg", "nft"],
        run: || heard(Program::WireguardGo, Starts::Taltun),
    },
    Case {
        name: "interop: Taltun tells the kernel's WireGuard by a keepalive that it hears it",
        programs: &["wg", "nft", KERNEL_WIREGUARD],
        run: || heard(Program::Kernel, Starts::Other),
    },
    Case {
        name: "interop: persistent keepalives from and to wireguard-go come every second and nothing else",
        programs: &["wireguard-go", "wg"],
        run: || persistent(Program::WireguardGo),
    },
    Case {
        name: "interop: persistent keepalives from and to the kernel's WireGuard come every second and nothing else",
        programs: &["wg", KERNEL_WIREGUARD],
        run: || persistent(Program::Kernel),
    },
];

/// Bytes of an empty data message.
const KEEPALIVE: u64 = 32;

/// `talks` sends one datagram that nobody answers; ten seconds later the other says that it
/// got it, and nobody takes the silence for a broken session.
fn heard(program: Program, talks: Starts) -> Result<()> {
    let pair = Pair::create(&private_prefix())?;
    let watch = Watch::start(&pair.left)?;
    let (taltun, other) = plain_pair(&pair, program, talks, false, None)?;
    let (from, to, role, listener) = match talks {
        Starts::Taltun => (&pair.left, &pair.right, Role::A, &other),
        Starts::Other => (&pair.right, &pair.left, Role::Hub, &taltun),
    };
    ensure_answers(from, role.v4())?;
    let target = to.udp(SocketAddr::new(role.v4(), 0))?;
    let source = from.udp("0.0.0.0:0")?;
    let (_, before) = listener.transfer()?;
    source.send_to(b"hello", target.local_addr()?)?;
    let start = Instant::now();
    eventually("a keepalive is sent", Duration::from_secs(30), || {
        Ok(listener.transfer()?.1 > before)
    })?;
    let after = start.elapsed();
    ensure!(
        after > Duration::from_secs(8),
        "sent after {after:?} already"
    );
    // A sender that heard nothing for 15 s would start anew.
    sleep(Duration::from_secs(18).saturating_sub(after));
    let sent = listener.transfer()?.1 - before;
    ensure!(sent == KEEPALIVE, "{sent} bytes were sent");
    let initiations =
        watch.sent(MessageKind::Initiation)? + watch.received(MessageKind::Initiation)?;
    ensure!(initiations == 1, "{initiations} handshakes were started");
    Ok(())
}

/// Each in turn sends keepalives to an other that has nothing to say. They alone bring the
/// tunnel up, and are not answered.
fn persistent(program: Program) -> Result<()> {
    for taltun_sends in [true, false] {
        let pair = Pair::create(&private_prefix())?;
        let taltun = Wg::start(Program::Taltun, &pair.left)?;
        let other = Wg::start(program, &pair.right)?;
        let (ours, theirs) = (WgKeys::generate()?, WgKeys::generate()?);
        let peer = |keys: &WgKeys, number: u8, endpoint: Option<String>| WgPeer {
            public_key: keys.public.clone(),
            allowed_ips: format!("10.200.0.{number}/32"),
            keepalive: endpoint.is_some().then_some(1),
            endpoint,
            ..WgPeer::default()
        };
        let to_other = taltun_sends.then(|| at(WIRE_A.far_v4(), PORT));
        let to_taltun = (!taltun_sends).then(|| at(WIRE_A.near_v4(), PORT));
        // Who is to answer comes first.
        other.bring_up(&["10.200.0.2/24"])?;
        taltun.bring_up(&["10.200.0.1/24"])?;
        other.configure(&theirs, PORT, &[peer(&ours, 1, to_taltun)])?;
        taltun.configure(&ours, PORT, &[peer(&theirs, 2, to_other)])?;
        let receiver = if taltun_sends { &other } else { &taltun };
        eventually("the tunnel is up", UP_LIMIT, || {
            Ok(receiver.peer()?[4] != "0" && receiver.transfer()?.0 > 148)
        })?;
        let start = Instant::now();
        let before = receiver.transfer()?;
        sleep(Duration::from_secs(5));
        let after = receiver.transfer()?;
        let (received, answered) = (after.0 - before.0, after.1 - before.1);
        let most = start.elapsed().as_secs() + 2;
        ensure!(
            received.is_multiple_of(KEEPALIVE) && (3..=most).contains(&(received / KEEPALIVE)),
            "{received} bytes came in {most} seconds at most"
        );
        ensure!(answered == 0, "they were answered with {answered} bytes");
    }
    Ok(())
}
