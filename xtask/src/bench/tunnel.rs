//! A contender put to work: its tunnel between the namespaces of a [`Star`].
//!
//! The hub has 10.200.0.1 in the tunnel, a .2 and b .3; b takes part only in a relay. Taltun
//! relays by itself, the others let the hub's kernel forward.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use taltun_tests::lab::Role;
use taltun_tests::netns::Namespace;
use taltun_tests::node::{Keys, Node, XdpMode};
use taltun_tests::sys::Signal;
use taltun_tests::topology::{Star, WIRE_A, WIRE_B, Wire};
use taltun_tests::traffic::ping::Pinger;

use super::configs::{Wanted, keys, taltun_configs, wg_configs};
use super::contender::{Contender, Kind};
use super::rival::{Rival, forward};

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
    Rival(Rival),
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
            Kind::Taltun | Kind::NullCipher => {
                for (role, text) in taltun_configs(wanted, &tunnel.keys) {
                    let namespace = namespace(net, role);
                    let node = Node::start_with_text(namespace, &contender.program, &text)?;
                    ensure_shield(&node, wanted.shield.mode_of(role))?;
                    tunnel.hosts.push(Host::Taltun(node));
                }
            }
            _ => {
                if wanted.relay {
                    forward(&net.hub)?;
                }
                for (role, text) in wg_configs(wanted, &tunnel.keys) {
                    let (namespace, address) = (namespace(net, role), role.v4());
                    let address = format!("{address}/24");
                    let rival = Rival::start(contender, namespace, role as u8, &text, &address)?;
                    tunnel.hosts.push(Host::Rival(rival));
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

    /// Where the hub reaches a.
    pub fn client_address(&self) -> IpAddr {
        match self.kind {
            Kind::Bare => WIRE_A.far_v4(),
            _ => Role::A.v4(),
        }
    }

    /// The processes that are the tunnel.
    pub fn pids(&self) -> Vec<u32> {
        self.hosts
            .iter()
            .filter_map(|host| match host {
                Host::Taltun(node) => Some(node.pid()),
                Host::Rival(rival) => rival.pid(),
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

/// From `namespace`, at the far end of `by`, to the network of the wire `to`.
fn route(namespace: &Namespace, to: Wire, by: Wire) -> Result<()> {
    let words = format!("route add {}/32 via {}", to.far_v4(), by.near_v4());
    namespace.ip(&words).map(drop)
}
