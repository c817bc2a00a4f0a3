//! A contender put to work: its tunnel between the namespaces of a [`Star`].
//!
//! The hub has 10.200.0.1 in the tunnel, a .2 and b .3; b takes part only in a relay. Taltun
//! relays by itself, the others let the hub's kernel forward.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write as _;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use taltun_tests::files::FILES;
use taltun_tests::lab::Role;
use taltun_tests::netns::Namespace;
use taltun_tests::node::{Keys, Node, XdpMode};
use taltun_tests::sys::Signal;
use taltun_tests::topology::{Star, WIRE_A, WIRE_B, Wire};
use taltun_tests::traffic::ping::Pinger;

use super::configs::{Wanted, keys, taltun_configs, wg_configs};
use super::contender::{Contender, Kind};
use super::process::Process;
use super::socket::{Socket, interface_name};

/// The MTU of every tunnel.
const MTU: u16 = 1420;
/// How long a program may take until it can be configured.
const START_LIMIT: Duration = Duration::from_secs(5);
/// How long the first packet may take, a handshake included.
const UP_LIMIT: Duration = Duration::from_secs(10);

/// A running tunnel; dropping it ends it.
pub struct Tunnel {
    kind: Kind,
    /// The hub's first; nobody has any without a tunnel.
    keys: Vec<Keys>,
    hosts: Vec<Host>,
}

/// What runs in one namespace.
enum Host {
    Taltun(Node),
    // In this order, because a socket is left alone while its program runs.
    Rival { process: Process, _socket: Socket },
}

impl Tunnel {
    /// Starts `contender` in `net` and waits until it carries packets.
    pub fn start(
        contender: &Contender,
        net: &Star,
        wanted: Wanted<'_>,
        taltun: &Path,
    ) -> Result<Self> {
        let mut tunnel = Self {
            kind: contender.kind,
            keys: match contender.kind {
                Kind::Bare => Vec::new(),
                _ => keys(wanted.relay, taltun)?,
            },
            hosts: Vec::new(),
        };
        match contender.kind {
            Kind::Bare => {
                if wanted.relay {
                    forward(&net.hub)?;
                    route(&net.a, WIRE_B, WIRE_A)?;
                    route(&net.b, WIRE_A, WIRE_B)?;
                }
            }
            Kind::Taltun => {
                for (role, text) in taltun_configs(wanted, &tunnel.keys) {
                    let namespace = namespace(net, role);
                    let node = Node::start_with_text(namespace, taltun, &text)?;
                    ensure_shield(&node, wanted.shield.mode_of(role))?;
                    tunnel.hosts.push(Host::Taltun(node));
                }
            }
            _ => {
                if wanted.relay {
                    forward(&net.hub)?;
                }
                for (role, text) in wg_configs(wanted, &tunnel.keys) {
                    let host = start_host(contender, namespace(net, role), role, &text)?;
                    tunnel.hosts.extend(host);
                }
            }
        }
        // The hub learns from a handshake where a spoke is, and not every program starts one
        // unasked.
        if wanted.relay && contender.kind != Kind::Bare {
            Pinger::new(&net.b, Role::Hub.v4())?.wait_until_answered(UP_LIMIT)?;
        }
        let far = tunnel.address(wanted.relay);
        Pinger::new(&net.a, far)?.wait_until_answered(UP_LIMIT)?;
        Ok(tunnel)
    }

    /// Where a reaches the hub, or b for a relay.
    pub fn address(&self, relay: bool) -> IpAddr {
        match (self.kind, relay) {
            (Kind::Bare, false) => WIRE_A.near_v4(),
            (Kind::Bare, true) => WIRE_B.far_v4(),
            (_, false) => Role::Hub.v4(),
            (_, true) => Role::B.v4(),
        }
    }

    /// The processes that are the tunnel.
    pub fn pids(&self) -> Vec<u32> {
        self.hosts
            .iter()
            .map(|host| match host {
                Host::Taltun(node) => node.pid(),
                Host::Rival { process, .. } => process.pid(),
            })
            .collect()
    }

    /// The hub's public key.
    pub fn hub_key(&self) -> Result<[u8; 32]> {
        let keys = self.keys.first().context("there is no tunnel")?;
        keys.public_bytes()
    }

    /// What the hub has dropped so far, by reason, if it is a Taltun.
    pub fn hub_drops(&self) -> Result<BTreeMap<String, u64>> {
        match self.hosts.first() {
            Some(Host::Taltun(node)) => Ok(node.stats()?.drops),
            _ => Ok(BTreeMap::new()),
        }
    }

    /// Ends it, in order. A Taltun that has trouble with that is an error.
    pub fn stop(self) -> Result<()> {
        for host in self.hosts {
            if let Host::Taltun(node) = host {
                node.stop(Signal::Terminate)?;
            }
        }
        Ok(())
    }
}

/// Checks that Taltun attached its XDP program as it was told, rather than as it could.
fn ensure_shield(node: &Node, wanted: XdpMode) -> Result<()> {
    for xdp in node.status()?.xdp {
        ensure!(
            xdp.mode == wanted.name(),
            "{} XDP was asked for, it is {} {}: {}",
            wanted.name(),
            xdp.mode,
            xdp.interface,
            xdp.reason
        );
    }
    Ok(())
}

fn namespace(net: &Star, role: Role) -> &Namespace {
    match role {
        Role::Hub => &net.hub,
        Role::A => &net.a,
        Role::B => &net.b,
    }
}

/// Has the kernel of `hub` forward, and not tell those who send that there is a better way:
/// there isn't.
fn forward(hub: &Namespace) -> Result<()> {
    hub.run(|| {
        fs::write("/proc/sys/net/ipv4/conf/all/send_redirects", "0")?;
        fs::write("/proc/sys/net/ipv4/conf/default/send_redirects", "0")?;
        fs::write("/proc/sys/net/ipv4/ip_forward", "1")
    })?
    .context("can't switch forwarding on")
}

/// From `namespace`, at the far end of `by`, to the network of the wire `to`.
fn route(namespace: &Namespace, to: Wire, by: Wire) -> Result<()> {
    let words = format!("route add {}/32 via {}", to.far_v4(), by.near_v4());
    namespace.ip(&words).map(drop)
}

/// Starts one host of a rival and configures it; the kernel's has no process.
fn start_host(
    contender: &Contender,
    namespace: &Namespace,
    role: Role,
    config: &str,
) -> Result<Option<Host>> {
    let interface = interface_name(role as u8);
    let host = if contender.kind == Kind::Kernel {
        namespace.ip(&format!("link add {interface} type wireguard"))?;
        None
    } else {
        Some(start_process(contender, namespace, &interface)?)
    };
    configure(namespace, &interface, role, config)
        .with_context(|| format!("can't configure it (its log: {:?})", end_of_log(namespace)))?;
    Ok(host)
}

fn start_process(contender: &Contender, namespace: &Namespace, interface: &str) -> Result<Host> {
    let word = contender.kind.word();
    let log = log_of(namespace);
    fs::create_dir_all(log.parent().context("the log is in no directory")?)?;
    let log = File::create(&log).with_context(|| format!("can't write {}", log.display()))?;
    let mut command = namespace.command(&contender.program);
    command
        .args(contender.kind.arguments())
        .arg(interface)
        .stdout(log.try_clone()?)
        .stderr(log);
    let mut process = Process::spawn(&mut command, word)?;
    let deadline = Instant::now() + START_LIMIT;
    let socket = Socket::of(interface);
    while !socket.is_there() {
        ensure!(
            process.is_running()?,
            "{word} ended at once: {}",
            end_of_log(namespace)
        );
        if Instant::now() > deadline {
            bail!("{word} made no socket within {START_LIMIT:?}");
        }
        sleep(Duration::from_millis(10));
    }
    Ok(Host::Rival {
        process,
        _socket: socket,
    })
}

fn configure(namespace: &Namespace, interface: &str, role: Role, config: &str) -> Result<()> {
    let mut wg = namespace.command("wg");
    // Not /dev/stdin, which small systems lack.
    wg.args(["setconf", interface, "/proc/self/fd/0"]);
    feed(&mut wg, config)?;
    namespace.ip(&format!("addr add {}/24 dev {interface}", role.v4()))?;
    namespace.ip(&format!("link set {interface} mtu {MTU} up"))?;
    Ok(())
}

/// Runs `command` with `text` as its input.
fn feed(command: &mut Command, text: &str) -> Result<()> {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .context("can't run wg")?;
    let mut input = child.stdin.take().context("wg has no stdin")?;
    // What it doesn't read, it explains.
    let written = input.write_all(text.as_bytes());
    drop(input);
    let output = child.wait_with_output()?;
    ensure!(
        output.status.success(),
        "wg refused the configuration: {}",
        String::from_utf8_lossy(&output.stderr).trim()
    );
    written.context("wg didn't read the configuration")
}

/// A rival's log, where it goes when its namespace does.
fn log_of(namespace: &Namespace) -> PathBuf {
    Path::new(FILES).join(namespace.name()).join("log")
}

fn end_of_log(namespace: &Namespace) -> String {
    let log = fs::read_to_string(log_of(namespace)).unwrap_or_default();
    let lines: Vec<_> = log.lines().map(str::trim).collect();
    lines[lines.len().saturating_sub(5)..].join("; ")
}
