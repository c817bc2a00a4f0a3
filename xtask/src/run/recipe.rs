//! `cargo xtask run --recipe`: one of the manual's recipes, live.

use std::fmt::Write;
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use taltun_tests::node::{Node, RUNTIME_DIR};
use taltun_tests::recipes::{Deployment, Recipe};
use taltun_tests::report::{Peer, Status};
use taltun_tests::sys;

use super::report::{Check, Report, Source, Xdp};
use super::view;
use crate::setup;

/// Builds the recipe, checks it, shows it for `duration` or until Ctrl-C, and takes it down.
pub fn play(
    recipe: Recipe,
    prefix: &str,
    taltun: &Path,
    duration: Option<Duration>,
    quiet: bool,
) -> Report {
    let start = Instant::now();
    let mut report = Report::of(Vec::new());
    setup::step(&format!("starting recipe {}", recipe.title()));
    let mut lab = match Deployment::start(recipe, prefix, taltun) {
        Ok(lab) => lab,
        Err(error) => {
            report.add(Check::failed("recipe starts", format!("{error:#}")));
            return report;
        }
    };
    if !quiet {
        view::say(&what_is_up(&lab));
    }
    setup::step("checking what has to be so, and what must not");
    for finding in lab.check() {
        let check = Check::from_result(finding.name, finding.outcome);
        if !quiet {
            view::say(&view::check_line(&check));
        }
        report.add(check);
    }
    let over = || {
        sys::stop_requested().is_some()
            || duration.is_some_and(|duration| start.elapsed() >= duration)
    };
    let mut last = Instant::now();
    while !over() {
        sleep(Duration::from_millis(50));
        if last.elapsed() >= Duration::from_secs(1) && !quiet {
            last = Instant::now();
            view::say(&table(&lab, start.elapsed()));
        }
    }
    report.xdp = xdp(&lab);
    setup::step("killing every daemon, starting and stopping it again, taking the recipe down");
    let end = lab
        .end()
        .map(|()| "every machine is as before, also after SIGKILL, a start and a stop".to_owned());
    report.add(Check::from_result("nothing left behind", end));
    report
}

/// The machines, and where their networks are.
fn what_is_up(lab: &Deployment) -> String {
    let mut text = format!("recipe {}\n", lab.recipe.title());
    for machine in &lab.machines {
        let addresses = machine.namespace.ip("-o addr show scope global");
        let mut words: Vec<String> = Vec::new();
        for line in addresses.unwrap_or_default().lines() {
            let fields: Vec<&str> = line.split_whitespace().collect();
            if let [_, interface, _, address, ..] = fields[..] {
                words.push(format!("{interface} {address}"));
            }
        }
        // Writing to a String can't fail.
        let _ = writeln!(
            text,
            "  {:<9} {:<7} {}",
            machine.name,
            if machine.node.is_some() { "taltun" } else { "" },
            words.join(", ")
        );
        let _ = writeln!(
            text,
            "            {}",
            shell_line(
                machine.namespace.name(),
                machine.node.as_ref().map(Node::directory)
            )
        );
    }
    text
}

/// What to type for a shell on a machine, in which `taltun status` finds its tunnel.
fn shell_line(namespace: &str, directory: Option<&Path>) -> String {
    match directory {
        Some(directory) => format!(
            "ip netns exec {namespace} env {RUNTIME_DIR}={} bash",
            directory.display()
        ),
        None => format!("ip netns exec {namespace} bash"),
    }
}

/// Who has a tunnel with whom now.
fn table(lab: &Deployment, elapsed: Duration) -> String {
    let mut text = format!("── {} s\n", elapsed.as_secs());
    for machine in &lab.machines {
        let Some(node) = &machine.node else { continue };
        match node.status() {
            Ok(Status { peers, .. }) => {
                for peer in peers {
                    let _ = writeln!(text, "  {:<8} {}", machine.name, peer_line(&peer));
                }
            }
            Err(error) => {
                let _ = writeln!(text, "  {:<8} {error:#}", machine.name);
            }
        }
    }
    text
}

fn peer_line(peer: &Peer) -> String {
    let name = peer.name.as_deref().unwrap_or(&peer.public_key);
    let endpoint = peer
        .endpoint
        .map_or("nowhere yet".into(), |at| at.to_string());
    let handshake = peer
        .latest_handshake_seconds
        .map_or("no handshake".into(), |age| {
            format!("handshake {age:.0} s ago")
        });
    format!(
        "{name:<8} at {endpoint:<24} {handshake:<20} {:>8} B in {:>8} B out",
        peer.rx_bytes, peer.tx_bytes
    )
}

/// What the first Taltun's XDP program counted: that of the hub.
fn xdp(lab: &Deployment) -> Xdp {
    let node = lab
        .machines
        .iter()
        .find_map(|machine| machine.node.as_ref());
    let mode = node
        .and_then(|node| node.status().ok())
        .and_then(|status| Some(status.xdp.first()?.mode.clone()))
        .unwrap_or_else(|| "off".into());
    let stats = node.and_then(|node| node.stats().ok());
    let (sources, drops) =
        stats.map_or_else(Default::default, |stats| (stats.sources, stats.drops));
    Xdp {
        mode,
        sources: sources
            .into_iter()
            .map(|source| Source {
                addr: source.addr,
                packets: source.packets,
                bytes: source.bytes,
            })
            .collect(),
        drops,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shell_that_is_offered_finds_the_tunnel() {
        assert_eq!(
            shell_line("taltun-hub", Some(Path::new("/run/x/taltun-hub"))),
            "ip netns exec taltun-hub env TALTUN_RUNTIME_DIR=/run/x/taltun-hub bash"
        );
        assert_eq!(
            shell_line("taltun-lan", None),
            "ip netns exec taltun-lan bash"
        );
    }
}
