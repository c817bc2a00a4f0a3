//! Anybody who knows the hub's public key, and where a peer is, can send initiations in that
//! peer's name. That must not keep the peer out: the address is asked to prove itself, which the
//! peer can and whoever only claims its address can't.

use std::net::SocketAddr;
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Result, ensure};
use taltun_tests::lab::{PORT, Role};
use taltun_tests::node::{AfXdp, Config, Keys, Node, Peer, XdpMode};
use taltun_tests::sys::Signal;
use taltun_tests::topology::{Pair, WIRE_A, private_prefix};
use taltun_tests::traffic::ping::Pinger;

use crate::cookies::{Flood, initiation_to};
use crate::support::{Case, eventually, taltun};
use crate::wireguard::{Program, Wg, WgKeys, WgPeer};

pub const CASES: &[Case] = &[
    Case {
        name: "initiations in a peer's name don't lock it out: it is asked for a cookie, xdp off",
        programs: &["wg"],
        run: || not_locked_out(XdpMode::Off),
    },
    Case {
        name: "initiations in a peer's name don't lock it out: it is asked for a cookie",
        programs: &["wg"],
        run: || not_locked_out(XdpMode::Generic),
    },
];

/// A cookie comes with the answer to the first initiation; another initiation comes five seconds
/// after it, and may get lost.
const LIMIT: Duration = Duration::from_secs(40);

fn not_locked_out(xdp: XdpMode) -> Result<()> {
    let taltun = taltun()?;
    let pair = Pair::create(&private_prefix())?;
    let (ours, theirs) = (Keys::generate(&taltun)?, WgKeys::generate()?);
    let config = Config {
        more: "",
        mode: "server",
        vip: Role::Hub.interface_vips(),
        local_addr: format!("[::]:{PORT}"),
        private_key: ours.private,
        xdp,
        af_xdp: AfXdp::Off,
        peers: vec![Peer {
            name: "peer",
            public_key: theirs.public.clone(),
            vip: Role::A.vips(),
            endpoint: None,
            allowed_ips: Vec::new(),
        }],
    };
    let hub = Node::start(&pair.left, &taltun, &config)?;
    let initiation = initiation_to(&pair.right, &ours.public)?;
    let to_hub = SocketAddr::new(WIRE_A.near_v4(), PORT);
    // Twice as many as one address may send, from the peer's: more than its share all the time.
    let flood = Flood::steady(&pair.right, to_hub, initiation, 40)?;
    eventually("the address is asked for a cookie", LIMIT, || {
        Ok(flood.cookies() > 0)
    })?;
    // What it may send at once is used up by now.
    sleep(Duration::from_secs(1));
    let peer = Wg::start(Program::Taltun, &pair.right)?;
    let at_hub = WgPeer {
        public_key: ours.public,
        allowed_ips: "10.200.0.0/24".to_owned(),
        endpoint: Some(to_hub.to_string()),
        ..WgPeer::default()
    };
    peer.configure(&theirs, PORT, &[at_hub])?;
    peer.bring_up(&["10.200.0.2/24"])?;
    Pinger::new(&pair.right, Role::Hub.v4())?.wait_until_answered(LIMIT)?;
    let status = hub.status()?;
    ensure!(status.peers[0].handshakes > 0, "no handshake is counted");
    let (sent, cookies) = flood.stop();
    println!("{sent} sent in the peer's name, {cookies} cookies for them");
    hub.stop(Signal::Terminate)
}
