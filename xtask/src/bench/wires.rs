//! The veths under a tunnel, made as a row wants them.

use std::os::fd::OwnedFd;

use anyhow::{Context, Result};
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

fn wires(net: &Star) -> impl Iterator<Item = (&Namespace, &'static str)> {
    [
        (&net.hub, "to-a"),
        (&net.hub, "to-b"),
        (&net.a, "to-hub"),
        (&net.b, "to-hub"),
    ]
    .into_iter()
}
