//! A recipe where nothing is drawn: its machines, and each second who has a tunnel with whom.

use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

use taltun_tests::node::{Node, RUNTIME_DIR};
use taltun_tests::recipes::Deployment;
use taltun_tests::report::{Peer, Status};

use super::units;

/// The machines, and where their networks are.
pub fn what_is_up(lab: &Deployment) -> String {
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
        let directory = machine.node.as_ref().map(Node::directory);
        let line = shell_line(machine.namespace.name(), directory);
        let _ = writeln!(text, "            {line}");
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
pub fn table(statuses: &[(String, Status)], elapsed: Duration) -> String {
    let mut text = format!("── {}\n", units::clock(elapsed));
    for (name, status) in statuses {
        for peer in &status.peers {
            let _ = writeln!(text, "  {name:<8} {}", peer_line(peer));
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
            let age = units::clock(Duration::from_secs_f64(age.max(0.0)));
            format!("handshake {age} ago")
        });
    format!(
        "{name:<8} at {endpoint:<24} {handshake:<22} {:>10} in {:>10} out",
        units::bytes(peer.rx_bytes),
        units::bytes(peer.tx_bytes)
    )
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
