//! A small internet: a namespace that forwards between all the wires that end in it.

use std::fs;

use anyhow::{Result, bail};

use crate::netns::Namespace;
use crate::topology::wait_until_settled;

/// How a machine is connected to another.
#[derive(Debug, Clone, Copy)]
pub struct Link {
    /// The machine's address with its prefix length.
    pub v4: &'static str,
    /// The other end, without.
    pub v4_gateway: &'static str,
    /// The same for IPv6; empty for none.
    pub v6: &'static str,
    /// The other end.
    pub v6_gateway: &'static str,
}

/// The hub of every recipe, as its clients know it.
pub const HUB: Link = link(
    "203.0.113.1/24",
    "203.0.113.254",
    "2001:db8:1::1/64",
    "2001:db8:1::ff",
);
/// A machine somewhere.
pub const HERE: Link = link(
    "198.51.100.2/24",
    "198.51.100.254",
    "2001:db8:2::2/64",
    "2001:db8:2::ff",
);
/// A machine somewhere else.
pub const THERE: Link = link(
    "192.0.2.2/24",
    "192.0.2.254",
    "2001:db8:3::2/64",
    "2001:db8:3::ff",
);
/// What everybody wants to reach.
pub const WORLD: Link = link(
    "198.18.0.80/24",
    "198.18.0.254",
    "2001:db8:18::80/64",
    "2001:db8:18::ff",
);
/// A machine behind its router at home.
pub const HOME: Link = link(
    "192.168.1.2/24",
    "192.168.1.1",
    "2001:db8:4::2/64",
    "2001:db8:4::ff",
);

const fn link(
    v4: &'static str,
    v4_gateway: &'static str,
    v6: &'static str,
    v6_gateway: &'static str,
) -> Link {
    Link {
        v4,
        v4_gateway,
        v6,
        v6_gateway,
    }
}

/// Lets `namespace` forward, as routers do.
pub fn make_router(namespace: &Namespace) -> Result<()> {
    namespace.run(|| {
        fs::write("/proc/sys/net/ipv4/ip_forward", "1")?;
        fs::write("/proc/sys/net/ipv6/conf/all/forwarding", "1")
    })??;
    Ok(())
}

/// Lays a wire from `interface` of `machine` to `router`, whose end is called `end`, and makes
/// that the machine's default route if `default`.
pub fn connect(
    machine: (&Namespace, &str),
    router: (&Namespace, &str),
    link: Link,
    default: bool,
) -> Result<()> {
    router.0.ip(&format!(
        "link add {} type veth peer name {} netns {}",
        router.1,
        machine.1,
        machine.0.name()
    ))?;
    let Some((_, v4_bits)) = link.v4.split_once('/') else {
        bail!("{} has no prefix length", link.v4);
    };
    machine
        .0
        .ip(&format!("addr add {} dev {}", link.v4, machine.1))?;
    router.0.ip(&format!(
        "addr add {}/{v4_bits} dev {}",
        link.v4_gateway, router.1
    ))?;
    if !link.v6.is_empty() {
        machine
            .0
            .ip(&format!("addr add {} dev {} nodad", link.v6, machine.1))?;
        router.0.ip(&format!(
            "addr add {}/64 dev {} nodad",
            link.v6_gateway, router.1
        ))?;
    }
    for (namespace, interface) in [machine, router] {
        namespace.ip(&format!("link set {interface} up"))?;
    }
    for (namespace, interface) in [machine, router] {
        wait_until_settled(namespace, interface)?;
    }
    if default {
        machine
            .0
            .ip(&format!("route add default via {}", link.v4_gateway))?;
        if !link.v6.is_empty() {
            machine
                .0
                .ip(&format!("-6 route add default via {}", link.v6_gateway))?;
        }
    }
    Ok(())
}
