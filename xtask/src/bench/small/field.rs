//! The wire between the spokes and the hub, and who works where.

use std::collections::BTreeSet;
use std::fs;
use std::os::fd::OwnedFd;
use std::process::Command;

use anyhow::{Context, Result};
use taltun_tests::command::output_of;
use taltun_tests::netns::Namespace;
use taltun_tests::sys::Attach;
use taltun_tests::topology::{Pair, WIRE_A, private_prefix};

use crate::bench::usage;
use crate::bench::wires::{attach_drop, link_address, received};

/// The hub's end of the wire, and the spokes'.
const NEAR: &str = "to-right";
pub const FAR: &str = "to-left";

/// Two namespaces on one wire: the hub's is the left one.
pub struct Field {
    pub net: Pair,
}

impl Field {
    /// Lays the wire. Both ends know each other's link address for good, as nothing will
    /// answer for the spokes.
    pub fn lay() -> Result<Self> {
        let net = Pair::create(&private_prefix())?;
        let field = Self { net };
        let (near, far) = (field.hub_mac()?, field.own_mac()?);
        let know = |namespace: &Namespace, interface, address, mac: &str| {
            namespace.ip(&format!(
                "neigh replace {address} lladdr {mac} dev {interface} nud permanent"
            ))
        };
        know(&field.net.left, NEAR, WIRE_A.far_v4(), &far)?;
        know(&field.net.right, FAR, WIRE_A.near_v4(), &near)?;
        Ok(field)
    }

    /// The link address of the hub's end.
    pub fn hub_mac(&self) -> Result<String> {
        link_address(&self.net.left, NEAR)
    }

    /// The link address of the spokes' end.
    pub fn own_mac(&self) -> Result<String> {
        link_address(&self.net.right, FAR)
    }

    /// Once all have shaken hands: what arrives at the spokes is counted and thrown away, at
    /// once, so that it costs the hub nothing more; and if `pinned`, each end receives on a
    /// core of its own.
    pub fn ready(self, pinned: bool) -> Result<Ready> {
        let drops = attach_drop(&self.net.right, FAR, Attach::Driver)?;
        let mut threads = Vec::new();
        // NAPI is what XDP in the driver needs anyway; so all have it. A veth uses it if it
        // merges and the other end doesn't segment.
        let mut ethtool = self.net.left.command("ethtool");
        output_of(ethtool.args(["-K", NEAR, "gro", "on"]))?;
        let mut ethtool = self.net.right.command("ethtool");
        output_of(ethtool.args(["-K", FAR, "tso", "off"]))?;
        if pinned {
            threads = thread_napi(&self.net.left, NEAR, hub_core())?;
            thread_napi(&self.net.right, FAR, LOAD_CORE)?;
        }
        Ok(Ready {
            field: self,
            _drops: drops,
            threads,
        })
    }
}

/// A field on which packets may be sent.
pub struct Ready {
    field: Field,
    _drops: OwnedFd,
    /// The hub's NAPI threads.
    threads: Vec<u32>,
}

impl Ready {
    /// Packets that arrived at the spokes so far.
    pub fn arrived(&self) -> Result<u64> {
        received(&self.field.net.right, FAR)
    }

    /// The hub's namespace.
    pub fn hub(&self) -> &Namespace {
        &self.field.net.left
    }

    /// CPU seconds that the hub's NAPI threads have used.
    pub fn cpu_seconds(&self) -> f64 {
        usage::cpu_seconds(&self.threads).unwrap_or_default()
    }
}

/// Where the load works.
pub const LOAD_CORE: usize = 0;

/// Where the hub works: any other core.
pub fn hub_core() -> usize {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    cores - 1
}

/// Gives the NAPI of an interface a thread and that a core; the threads.
fn thread_napi(namespace: &Namespace, interface: &str, core: usize) -> Result<Vec<u32>> {
    let before = napi_threads(interface);
    let mut command = namespace.command("sh");
    let path = format!("/sys/class/net/{interface}/threaded");
    output_of(command.args(["-c", &format!("echo 1 > {path}")]))
        .context("this kernel has no threaded NAPI (it takes 5.12)")?;
    let new: Vec<u32> = napi_threads(interface)
        .difference(&before)
        .copied()
        .collect();
    for thread in &new {
        pin(*thread, core)?;
    }
    Ok(new)
}

/// Has a thread run on this core only.
pub fn pin(thread: u32, core: usize) -> Result<()> {
    let words = ["-cp".to_owned(), core.to_string(), thread.to_string()];
    output_of(Command::new("taskset").args(words)).map(drop)
}

/// The NAPI threads of all interfaces of this name, in whatever namespace.
fn napi_threads(interface: &str) -> BTreeSet<u32> {
    let name = format!("napi/{interface}");
    fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| {
            let pid: u32 = entry.file_name().to_str()?.parse().ok()?;
            let comm = fs::read_to_string(entry.path().join("comm")).ok()?;
            comm.starts_with(&name).then_some(pid)
        })
        .collect()
}
