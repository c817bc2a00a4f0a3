//! Taltun with another implementation of WireGuard: boringtun-cli as a spoke.

use std::io::Write;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use taltun_tests::command::{find, wait_for};
use taltun_tests::lab::{PORT, Role};
use taltun_tests::netns::Namespace;
use taltun_tests::node::{Config, Keys, Node, Peer, XdpMode};
use taltun_tests::sys::{self, Signal};
use taltun_tests::topology::{Pair, WIRE_A, private_prefix};
use taltun_tests::traffic::stream::Stream;

use crate::support::{Case, ensure_answers, eventually, taltun};

pub const CASES: &[Case] = &[
    Case {
        name: "a boringtun spoke reaches a Taltun hub",
        programs: &["boringtun-cli", "wg"],
        run: || boringtun(Starts::Other),
    },
    Case {
        name: "a Taltun spoke reaches a boringtun hub",
        programs: &["boringtun-cli", "wg"],
        run: || boringtun(Starts::Taltun),
    },
];

/// Who starts the handshake.
#[derive(Clone, Copy)]
enum Starts {
    Taltun,
    Other,
}

/// Taltun is on the left, with the hub's addresses, boringtun on the right with those of a.
fn boringtun(starts: Starts) -> Result<()> {
    let taltun = taltun()?;
    let pair = Pair::create(&private_prefix())?;
    let (ours, theirs) = (Keys::generate(&taltun)?, Keys::generate(&taltun)?);
    let (mode, endpoint) = match starts {
        Starts::Taltun => ("client", Some(format!("{}:{PORT}", WIRE_A.far_v4()))),
        Starts::Other => ("server", None),
    };
    let other = Boringtun::start(&pair.right)?;
    let their_endpoint = match starts {
        Starts::Taltun => String::new(),
        Starts::Other => format!("Endpoint = {}:{PORT}\n", WIRE_A.near_v4()),
    };
    let their_config = format!(
        "[Interface]\nPrivateKey = {}\nListenPort = {PORT}\n[Peer]\nPublicKey = {}\nAllowedIPs = 10.200.0.0/24, fd00:200::/64\n{their_endpoint}",
        theirs.private, ours.public
    );
    other.configure(&pair.right, &their_config)?;
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
            peers: vec![Peer {
                name: "boringtun",
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

/// A running boringtun-cli; dropping it stops it.
struct Boringtun {
    interface: String,
    process: Child,
}

impl Boringtun {
    /// Starts it in `namespace`. Its control socket has a fixed place and is named like its
    /// interface, so that name has to be this process's own.
    fn start(namespace: &Namespace) -> Result<Self> {
        let interface = format!("tt{}", std::process::id());
        let program = find("boringtun-cli").context("boringtun-cli is gone")?;
        let process = namespace
            .command(program)
            .args(["--foreground", "--disable-drop-privileges", &interface])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .context("can't start boringtun-cli")?;
        let started = Self { interface, process };
        eventually("boringtun is up", Duration::from_secs(5), || {
            Ok(started.socket().exists())
        })?;
        Ok(started)
    }

    /// Gives it a configuration for `wg setconf`, the addresses of a, and brings it up.
    fn configure(&self, namespace: &Namespace, config: &str) -> Result<()> {
        let mut wg = namespace
            .command("wg")
            .args(["setconf", &self.interface, "/dev/stdin"])
            .stdin(Stdio::piped())
            .spawn()
            .context("can't run wg")?;
        wg.stdin
            .take()
            .context("wg has no stdin")?
            .write_all(config.as_bytes())?;
        ensure!(wg.wait()?.success(), "wg refused the configuration");
        for vip in Role::A.interface_vips() {
            namespace.ip(&format!("addr add {vip} dev {}", self.interface))?;
        }
        namespace.ip(&format!("link set {} mtu 1420 up", self.interface))?;
        Ok(())
    }

    fn socket(&self) -> std::path::PathBuf {
        Path::new("/var/run/wireguard").join(format!("{}.sock", self.interface))
    }
}

impl Drop for Boringtun {
    fn drop(&mut self) {
        // Asked to, it removes its socket; killed, it would leave it there.
        let _ = sys::send_signal(self.process.id(), Signal::Terminate);
        if !matches!(
            wait_for(&mut self.process, Duration::from_secs(3)),
            Ok(Some(_))
        ) {
            let _ = self.process.kill();
            let _ = self.process.wait();
        }
        let _ = std::fs::remove_file(self.socket());
    }
}
