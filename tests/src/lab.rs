//! The usual whole: a hub and two spokes, running, with a tunnel between them.
//!
//! ```text
//!  a 10.200.0.2 ═══╗               ╔═══ b 10.200.0.3
//!    fd00:200::2   ╠═══ hub ═══════╣      fd00:200::3
//!                  ║ 10.200.0.1    ║
//!                  ║ fd00:200::1   ║
//! ```

use std::cell::Cell;
use std::fmt::{self, Display};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;

use anyhow::{Context, Result, ensure};

use crate::leftovers::Before;
use crate::netns::Namespace;
use crate::node::{AfXdp, Config, Keys, Node, Peer, XdpMode};
use crate::snapshot::Snapshot;
use crate::sys::Signal;
use crate::topology::{Star, WIRE_A, WIRE_B, Wire};

/// The UDP port that every node listens on.
pub const PORT: u16 = 9000;

/// One of the three.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// The hub.
    Hub,
    /// The first spoke.
    A,
    /// The second spoke.
    B,
}

impl Role {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Hub, Self::A, Self::B];

    /// Its IPv4 address in the tunnel.
    pub const fn v4(self) -> IpAddr {
        IpAddr::V4(Ipv4Addr::new(10, 200, 0, self.number()))
    }

    /// Its IPv6 address in the tunnel.
    pub const fn v6(self) -> IpAddr {
        IpAddr::V6(Ipv6Addr::new(
            0xfd00,
            0x200,
            0,
            0,
            0,
            0,
            0,
            self.number() as u16,
        ))
    }

    /// Its addresses as a peer's `vip`.
    pub fn vips(self) -> Vec<String> {
        vec![self.v4().to_string(), self.v6().to_string()]
    }

    /// Its addresses as an interface's `vip`.
    pub fn interface_vips(self) -> Vec<String> {
        vec![format!("{}/24", self.v4()), format!("{}/64", self.v6())]
    }

    const fn number(self) -> u8 {
        match self {
            Self::Hub => 1,
            Self::A => 2,
            Self::B => 3,
        }
    }
}

impl Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Hub => "hub",
            Self::A => "a",
            Self::B => "b",
        })
    }
}

thread_local! {
    static OVER_AF_XDP: Cell<bool> = const { Cell::new(false) };
}

/// From now on, in this thread, [`Options`] that say nothing else are for labs whose packets come in through
/// AF_XDP, with the XDP program in driver mode; or, on `false`, by the socket again. So the
/// same tests can be run over both.
pub fn use_af_xdp(yes: bool) {
    OVER_AF_XDP.set(yes);
}

/// What a lab is to be like.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// How every node attaches its XDP program.
    pub xdp: XdpMode,
    /// Whether every node uses AF_XDP.
    pub af_xdp: AfXdp,
    /// The spokes reach the hub by IPv6.
    pub outer_v6: bool,
    /// What every node's file says besides, in TOML.
    pub more: &'static str,
}

impl Default for Options {
    fn default() -> Self {
        let over_af_xdp = OVER_AF_XDP.get();
        let (xdp, af_xdp) = if over_af_xdp {
            (XdpMode::Driver, AfXdp::On)
        } else {
            (XdpMode::Auto, AfXdp::Auto)
        };
        Self {
            xdp,
            af_xdp,
            outer_v6: false,
            more: "",
        }
    }
}

/// How a lab ended; all empty is as it should be.
#[derive(Debug, Default)]
pub struct End {
    /// Nodes that had died, didn't stop in time, or stopped with an error.
    pub disorderly: Vec<String>,
    /// What is not as it was before, in the namespaces or on the machine.
    pub left: Vec<String>,
}

impl End {
    /// An error that names everything, if there is anything.
    pub fn into_result(self) -> Result<()> {
        let all = [self.disorderly, self.left].concat();
        ensure!(all.is_empty(), "{}", all.join("; "));
        Ok(())
    }
}

/// A running lab; dropping it takes it down.
#[derive(Debug)]
pub struct Lab {
    // In this order, because the nodes have to go before their namespaces do.
    /// The hub.
    pub hub: Node,
    /// The first spoke.
    pub a: Node,
    /// The second spoke.
    pub b: Node,
    /// Where they run.
    pub net: Star,
    untouched: [Snapshot; 3],
    before: Before,
}

impl Lab {
    /// Builds the namespaces `PREFIX-hub`, `PREFIX-a` and `PREFIX-b` and starts `taltun` in
    /// each.
    pub fn start(prefix: &str, taltun: &Path, options: Options) -> Result<Self> {
        let before = Before::look(prefix)?;
        let net = Star::create(prefix)?;
        let untouched = [
            Snapshot::take(&net.hub)?,
            Snapshot::take(&net.a)?,
            Snapshot::take(&net.b)?,
        ];
        let keys = [
            Keys::generate(taltun)?,
            Keys::generate(taltun)?,
            Keys::generate(taltun)?,
        ];
        let hub = Node::start(&net.hub, taltun, &hub_config(&keys, options))?;
        let a = Node::start(
            &net.a,
            taltun,
            &spoke_config(Role::A, &keys[1], &keys[0], WIRE_A, options),
        )?;
        let b = Node::start(
            &net.b,
            taltun,
            &spoke_config(Role::B, &keys[2], &keys[0], WIRE_B, options),
        )?;
        Ok(Self {
            hub,
            a,
            b,
            net,
            untouched,
            before,
        })
    }

    /// The namespace of one of the three.
    pub fn namespace(&self, role: Role) -> &Namespace {
        match role {
            Role::Hub => &self.net.hub,
            Role::A => &self.net.a,
            Role::B => &self.net.b,
        }
    }

    /// The node of one of the three.
    pub fn node(&self, role: Role) -> &Node {
        match role {
            Role::Hub => &self.hub,
            Role::A => &self.a,
            Role::B => &self.b,
        }
    }

    /// What differs in the namespace of `role` from before its node was started.
    pub fn changes(&self, role: Role) -> Result<Vec<String>> {
        let now = Snapshot::take(self.namespace(role))?;
        Ok(self.untouched[role as usize].difference(&now))
    }

    /// Stops the nodes by `signal`, takes everything down and says what wasn't as it should
    /// be. Every socket in the namespaces has to be closed by then.
    pub fn stop(self, signal: Signal) -> Result<End> {
        let mut end = End::default();
        for (role, node) in [(Role::A, self.a), (Role::B, self.b), (Role::Hub, self.hub)] {
            if let Err(error) = node.stop(signal) {
                end.disorderly.push(format!("{role}: {error:#}"));
            }
        }
        for (role, namespace) in [
            (Role::Hub, &self.net.hub),
            (Role::A, &self.net.a),
            (Role::B, &self.net.b),
        ] {
            let now = Snapshot::take(namespace)?;
            for change in self.untouched[role as usize].difference(&now) {
                end.left.push(format!("{role}: {change}"));
            }
        }
        self.net.delete().context("can't take the lab down")?;
        end.left.extend(self.before.leftovers()?);
        Ok(end)
    }
}

/// The hub knows both spokes and waits for them; its keys come first in `keys`.
fn hub_config(keys: &[Keys; 3], options: Options) -> Config {
    let spoke = |role: Role, name| Peer {
        name,
        public_key: keys[role as usize].public.clone(),
        vip: role.vips(),
        endpoint: None,
        allowed_ips: Vec::new(),
    };
    Config {
        mode: "server",
        vip: Role::Hub.interface_vips(),
        local_addr: format!("[::]:{PORT}"),
        private_key: keys[0].private.clone(),
        xdp: options.xdp,
        af_xdp: options.af_xdp,
        more: options.more,
        peers: vec![spoke(Role::A, "a"), spoke(Role::B, "b")],
    }
}

/// A spoke knows the hub, and reaches the whole tunnel through it.
fn spoke_config(role: Role, own: &Keys, hub: &Keys, wire: Wire, options: Options) -> Config {
    let endpoint = if options.outer_v6 {
        format!("[{}]:{PORT}", wire.near_v6())
    } else {
        format!("{}:{PORT}", wire.near_v4())
    };
    Config {
        mode: "client",
        vip: role.interface_vips(),
        local_addr: format!("[::]:{PORT}"),
        private_key: own.private.clone(),
        xdp: options.xdp,
        af_xdp: options.af_xdp,
        more: options.more,
        peers: vec![Peer {
            name: "hub",
            public_key: hub.public.clone(),
            vip: Role::Hub.vips(),
            endpoint: Some(endpoint),
            allowed_ips: vec!["10.200.0.0/24".into(), "fd00:200::/64".into()],
        }],
    }
}
