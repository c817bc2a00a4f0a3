//! Tunnels through tunnels, and routes that lead into a tunnel instead of around it.

use std::process::Stdio;
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Result, ensure};

use crate::ends::{Ends, dropped};
use crate::support::Case;
use crate::wireguard::Program;

pub const CASES: &[Case] = &[Case {
    name: "interop: a routing loop through itself ends",
    programs: &["wg", "ping"],
    run: routing_loop,
}];

fn routing_loop() -> Result<()> {
    let ends = Ends::start(Program::Taltun)?;
    let key = &ends.right_keys.public;
    ends.left
        .wg("set", &["peer", key, "allowed-ips", "0.0.0.0/0"])?;
    ends.left_reaches_right()?;
    // From now on the way to the other end is the tunnel to the other end.
    let interface = ends.left.interface();
    ends.left
        .ip(&format!("route add 10.99.1.2/32 dev {interface}"))?;
    let (_, before) = ends.left.transfer()?;
    let mut flood = ends.pair.left.command("ping");
    let flood = flood.args(["-q", "-f", "-c", "100", "-W", "1", "10.200.0.2"]);
    flood.stdout(Stdio::null()).status()?;
    sleep(Duration::from_secs(1));
    let (_, after) = ends.left.transfer()?;
    ensure!(
        after - before < 70_000,
        "{} bytes were sent",
        after - before
    );
    ensure!(dropped(&ends.left, "routing_loop")? > 0);
    // And without that route all is well again.
    ends.left
        .ip(&format!("route del 10.99.1.2/32 dev {interface}"))?;
    ends.left_reaches_right()
}
