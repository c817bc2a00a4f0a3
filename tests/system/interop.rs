//! Taltun with other implementations of WireGuard, both ways round.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Result, ensure};
use taltun_tests::lab::{PORT, Role};
use taltun_tests::node::{AfXdp, Config, Keys, Node, Peer, XdpMode};
use taltun_tests::sys::Signal;
use taltun_tests::topology::{Pair, WIRE_A, private_prefix};
use taltun_tests::traffic::stream::Stream;

use crate::support::{Case, KERNEL_WIREGUARD, ensure_answers, taltun};
use crate::wireguard::{Program, Wg, WgKeys, WgPeer, at, preshared_key};

pub const CASES: &[Case] = &[
    Case {
        name: "interop: a boringtun spoke reaches a Taltun hub",
        programs: &["boringtun-cli", "wg"],
        run: || hub_and_other(Program::Boringtun, Starts::Other),
    },
    Case {
        name: "interop: a Taltun spoke reaches a boringtun hub",
        programs: &["boringtun-cli", "wg"],
        run: || hub_and_other(Program::Boringtun, Starts::Taltun),
    },
    Case {
        name: "interop: a wireguard-go spoke reaches a Taltun hub",
        programs: &["wireguard-go", "wg"],
        run: || hub_and_other(Program::WireguardGo, Starts::Other),
    },
    Case {
        name: "interop: a Taltun spoke reaches a wireguard-go hub",
        programs: &["wireguard-go", "wg"],
        run: || hub_and_other(Program::WireguardGo, Starts::Taltun),
    },
    Case {
        name: "interop: wireguard-go starts, over IPv4, without a preshared key",
        programs: &["wireguard-go", "wg"],
        run: || drop_in(Program::WireguardGo, Starts::Other, false, false),
    },
    Case {
        name: "interop: wireguard-go starts, over IPv4, with a preshared key",
        programs: &["wireguard-go", "wg"],
        run: || drop_in(Program::WireguardGo, Starts::Other, false, true),
    },
    Case {
        name: "interop: wireguard-go starts, over IPv6, with a preshared key",
        programs: &["wireguard-go", "wg"],
        run: || drop_in(Program::WireguardGo, Starts::Other, true, true),
    },
    Case {
        name: "interop: Taltun starts, over IPv4, without a preshared key",
        programs: &["wireguard-go", "wg"],
        run: || drop_in(Program::WireguardGo, Starts::Taltun, false, false),
    },
    Case {
        name: "interop: Taltun starts, over IPv4, with a preshared key",
        programs: &["wireguard-go", "wg"],
        run: || drop_in(Program::WireguardGo, Starts::Taltun, false, true),
    },
    Case {
        name: "interop: Taltun starts, over IPv6, without a preshared key",
        programs: &["wireguard-go", "wg"],
        run: || drop_in(Program::WireguardGo, Starts::Taltun, true, false),
    },
    Case {
        name: "interop: the kernel's WireGuard starts, over IPv4, without a preshared key",
        programs: &["wg", KERNEL_WIREGUARD],
        run: || drop_in(Program::Kernel, Starts::Other, false, false),
    },
    Case {
        name: "interop: the kernel's WireGuard starts, over IPv6, with a preshared key",
        programs: &["wg", KERNEL_WIREGUARD],
        run: || drop_in(Program::Kernel, Starts::Other, true, true),
    },
    Case {
        name: "interop: Taltun starts with the kernel's WireGuard, over IPv4, with a preshared key",
        programs: &["wg", KERNEL_WIREGUARD],
        run: || drop_in(Program::Kernel, Starts::Taltun, false, true),
    },
    Case {
        name: "interop: Taltun starts with the kernel's WireGuard, over IPv6, without a preshared key",
        programs: &["wg", KERNEL_WIREGUARD],
        run: || drop_in(Program::Kernel, Starts::Taltun, true, false),
    },
];

/// They load the machine.
pub const BULK: &[Case] = &[
    Case {
        name: "interop: a gigabyte of TCP to and one from wireguard-go arrive without a wrong byte",
        programs: &["wireguard-go", "wg"],
        run: || bulk(Program::WireguardGo, 1_000_000_000),
    },
    Case {
        name: "interop: 200 MB of TCP to and as many from the kernel's WireGuard arrive without a wrong byte",
        // Less than with wireguard-go, as virtual machines without hardware support are slow.
        programs: &["wg", KERNEL_WIREGUARD],
        run: || bulk(Program::Kernel, 200_000_000),
    },
];

/// Who starts the handshake.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Starts {
    Taltun,
    Other,
}

/// Taltun from TOML on the left, with the hub's addresses, the other on the right with
/// those of a.
fn hub_and_other(program: Program, starts: Starts) -> Result<()> {
    let taltun = taltun()?;
    let pair = Pair::create(&private_prefix())?;
    let (ours, theirs) = (Keys::generate(&taltun)?, WgKeys::generate()?);
    let (mode, endpoint) = match starts {
        Starts::Taltun => ("client", Some(at(WIRE_A.far_v4(), PORT))),
        Starts::Other => ("server", None),
    };
    let other = Wg::start(program, &pair.right)?;
    let hub = WgPeer {
        public_key: ours.public,
        allowed_ips: "10.200.0.0/24, fd00:200::/64".to_owned(),
        endpoint: (starts == Starts::Other).then(|| at(WIRE_A.near_v4(), PORT)),
        ..WgPeer::default()
    };
    other.configure(&theirs, PORT, &[hub])?;
    let vips = Role::A.interface_vips();
    other.bring_up(&vips.iter().map(String::as_str).collect::<Vec<_>>())?;
    let node = Node::start(
        &pair.left,
        &taltun,
        &Config {
            more: "",
            mode,
            vip: Role::Hub.interface_vips(),
            local_addr: format!("[::]:{PORT}"),
            private_key: ours.private,
            xdp: XdpMode::Auto,
            af_xdp: AfXdp::Auto,
            peers: vec![Peer {
                name: "other",
                public_key: theirs.public,
                vip: Role::A.vips(),
                endpoint,
                allowed_ips: Vec::new(),
            }],
        },
    )?;

    let (first, to_v4, to_v6) = match starts {
        Starts::Taltun => (&pair.left, Role::A.v4(), Role::A.v6()),
        Starts::Other => (&pair.right, Role::Hub.v4(), Role::Hub.v6()),
    };
    ensure_answers(first, to_v4)?;
    ensure_answers(first, to_v6)?;
    for (from, to, address) in [
        (&pair.left, &pair.right, Role::A.v4()),
        (&pair.right, &pair.left, Role::Hub.v6()),
    ] {
        let stream = Stream::start(from, to, SocketAddr::new(address, 0))?;
        stream.wait_for_more_than(10_000_000, Duration::from_mins(1))?;
        stream.finish()?;
    }
    let handshakes = node.status()?.peers[0].handshakes;
    ensure!(
        handshakes == 1,
        "{handshakes} handshakes where one would have done"
    );
    node.stop(Signal::Terminate)
}

/// Taltun by name on the left, `program` on the right, both set up with `wg`.
pub fn plain_pair(
    pair: &Pair,
    program: Program,
    starts: Starts,
    outer_v6: bool,
    secret: Option<&str>,
) -> Result<(Wg, Wg)> {
    let (ours, theirs) = (WgKeys::generate()?, WgKeys::generate()?);
    let taltun = Wg::start(Program::Taltun, &pair.left)?;
    let other = Wg::start(program, &pair.right)?;
    let (near, far) = if outer_v6 {
        (WIRE_A.near_v6(), WIRE_A.far_v6())
    } else {
        (WIRE_A.near_v4(), WIRE_A.far_v4())
    };
    let peer = |keys: &WgKeys, number, endpoint| WgPeer {
        public_key: keys.public.clone(),
        preshared_key: secret.map(str::to_owned),
        endpoint,
        allowed_ips: format!("10.200.0.{number}/32, fd00:200::{number}/128"),
        keepalive: None,
    };
    let to_taltun = (starts == Starts::Other).then(|| at(near, PORT));
    let to_other = (starts == Starts::Taltun).then(|| at(far, PORT));
    taltun.configure(&ours, PORT, &[peer(&theirs, 2, to_other)])?;
    other.configure(&theirs, PORT, &[peer(&ours, 1, to_taltun)])?;
    taltun.bring_up(&["10.200.0.1/24", "fd00:200::1/64"])?;
    other.bring_up(&["10.200.0.2/24", "fd00:200::2/64"])?;
    Ok((taltun, other))
}

fn drop_in(program: Program, starts: Starts, outer_v6: bool, with_secret: bool) -> Result<()> {
    let pair = Pair::create(&private_prefix())?;
    let secret = with_secret.then(preshared_key).transpose()?;
    let (taltun, other) = plain_pair(&pair, program, starts, outer_v6, secret.as_deref())?;
    let (first, last) = match starts {
        Starts::Taltun => ((&pair.left, Role::A), (&pair.right, Role::Hub)),
        Starts::Other => ((&pair.right, Role::Hub), (&pair.left, Role::A)),
    };
    for (from, to) in [first, last] {
        ensure_answers(from, to.v4())?;
        ensure_answers(from, to.v6())?;
    }
    taltun.wg("show", &[])?;
    other.wg("show", &[])?;
    let (ours, theirs) = (taltun.transfer()?, other.transfer()?);
    ensure!(
        ours.0 == theirs.1 && ours.1 == theirs.0,
        "Taltun counts {ours:?} and {program:?} {theirs:?}"
    );
    for (from, to, address) in [
        (&pair.left, &pair.right, Role::A.v6()),
        (&pair.right, &pair.left, Role::Hub.v4()),
    ] {
        let stream = Stream::start(from, to, SocketAddr::new(address, 0))?;
        stream.wait_for_more_than(10_000_000, Duration::from_mins(2))?;
        stream.finish()?;
    }
    // The other one moves to another port, and is followed.
    other.wg("set", &["listen-port", "9100"])?;
    ensure_answers(&pair.right, Role::Hub.v4())?;
    let now = taltun.endpoint()?;
    ensure!(
        now.ends_with(":9100"),
        "it is still believed to be at {now}"
    );
    Ok(())
}

/// Each way so many bytes, one way over IPv4, the other over IPv6.
fn bulk(program: Program, each: u64) -> Result<()> {
    let pair = Pair::create(&private_prefix())?;
    let _both = plain_pair(&pair, program, Starts::Taltun, false, None)?;
    ensure_answers(&pair.left, Role::A.v4())?;
    for (from, to, address) in [
        (&pair.left, &pair.right, Role::A.v4()),
        (&pair.right, &pair.left, Role::Hub.v6()),
    ] {
        // Each byte is compared with what was sent.
        let stream = Stream::start(from, to, SocketAddr::new(address, 0))?;
        stream.wait_for_more_than(each, Duration::from_mins(5))?;
        let outcome = stream.finish()?;
        println!("{} bytes, {:.2} Gbit/s", outcome.bytes, outcome.gbps());
    }
    Ok(())
}
