//! The veths under a tunnel, made as a row wants them, and what they count.

use std::os::fd::OwnedFd;

use anyhow::{Context, Result};
use serde_json::Value;
use taltun_tests::command::output_of;
use taltun_tests::netns::Namespace;
use taltun_tests::sys::{Attach, Verdict, attach_xdp, interface_index, load_xdp};
use taltun_tests::topology::Star;

/// Attaches, in driver mode, a program that passes everything to every wire of `net`, for as
/// long as the result lives.
pub fn attach_pass(net: &Star) -> Result<Vec<OwnedFd>> {
    let program = load_xdp(Verdict::Pass).context("can't load an XDP program")?;
    wires(net)
        .map(|(namespace, interface)| {
            namespace
                .run(|| attach_xdp(&program, interface_index(interface)?, Attach::Driver))?
                .with_context(|| format!("can't attach XDP to {interface}"))
        })
        .collect()
}

/// Switches GRO on, on every wire of `net`: with XDP in the driver veth leaves it off.
pub fn switch_gro_on(net: &Star) -> Result<()> {
    for (namespace, interface) in wires(net) {
        let mut ethtool = namespace.command("ethtool");
        output_of(ethtool.args(["-K", interface, "gro", "on"]))?;
    }
    Ok(())
}

/// Attaches a program that drops every packet to an interface of `namespace`, for as long as the
/// result lives.
pub fn attach_drop(namespace: &Namespace, interface: &str, attach: Attach) -> Result<OwnedFd> {
    let program = load_xdp(Verdict::Drop).context("can't load an XDP program")?;
    namespace
        .run(|| attach_xdp(&program, interface_index(interface)?, attach))?
        .with_context(|| format!("can't attach XDP to {interface}"))
}

/// Packets that an interface of `namespace` has received so far.
pub fn received(namespace: &Namespace, interface: &str) -> Result<u64> {
    let packets = link(namespace, interface)?["stats64"]["rx"]["packets"].as_u64();
    packets.context("ip doesn't say how many packets were received")
}

/// The link address of an interface of `namespace`.
pub fn link_address(namespace: &Namespace, interface: &str) -> Result<String> {
    let link = link(namespace, interface)?;
    let address = link["address"].as_str().map(str::to_owned);
    address.context("ip doesn't say the link address")
}

fn link(namespace: &Namespace, interface: &str) -> Result<Value> {
    let text = namespace.ip(&format!("-s -j link show dev {interface}"))?;
    let mut links: Value = serde_json::from_str(&text)?;
    Ok(links[0].take())
}

fn wires(net: &Star) -> impl Iterator<Item = (&Namespace, &'static str)> {
    [
        (&net.hub, "to-a"),
        (&net.hub, "to-b"),
        (&net.a, "to-hub"),
        (&net.b, "to-hub"),
    ]
    .into_iter()
}
