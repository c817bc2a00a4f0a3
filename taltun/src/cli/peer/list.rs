//! `taltun peer list`

use clap::Args;

use super::show::{addresses, last_handshake};
use crate::cli::failure::Failure;
use crate::cli::table::table;
use crate::cli::target::Target;
use crate::cli::{human, output};
use crate::control::request;
use crate::report::PeerStatus;

/// List the peers of a running tunnel.
#[derive(Args)]
pub(super) struct List {
    /// Print JSON: the peers as `taltun status --json` has them.
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    target: Target,
}

impl List {
    pub(super) fn run(self) -> Result<(), Failure> {
        let status = self.target.ask(request::Status)?;
        if self.json {
            output::print_json(&status.peers)
        } else {
            output::print(&render(&status.peers))
        }
    }
}

fn render(peers: &[PeerStatus]) -> String {
    if peers.is_empty() {
        return "no peers; `taltun peer new NAME` adds one\n".to_owned();
    }
    let row = |peer: &PeerStatus| {
        vec![
            peer.name.clone().unwrap_or_else(|| peer.public_key.clone()),
            addresses(peer),
            last_handshake(peer),
            human::bytes(peer.rx_bytes.saturating_add(peer.tx_bytes)),
            peer.expires.clone().unwrap_or_else(|| "-".to_owned()),
        ]
    };
    let rows: Vec<Vec<String>> = peers.iter().map(row).collect();
    table(
        &["peer", "addresses", "last handshake", "moved", "last day"],
        &rows,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer() -> PeerStatus {
        let told = serde_json::json!({
            "name": null, "public_key": "KEY=", "endpoint": null, "allowed_ips": [],
            "latest_handshake_seconds": null, "handshakes": 0, "rx_bytes": 0, "tx_bytes": 0,
            "persistent_keepalive": null,
        });
        serde_json::from_value(told).unwrap()
    }

    #[test]
    fn peers_are_a_table() {
        let mut ana = peer();
        ana.name = Some("ana".to_owned());
        ana.allowed_ips = vec![
            "10.0.0.2/32".parse().unwrap(),
            "192.168.50.0/24".parse().unwrap(),
        ];
        ana.latest_handshake_seconds = Some(75.2);
        (ana.rx_bytes, ana.tx_bytes) = (1024, 1024);
        ana.expires = Some("2026-12-31".to_owned());
        assert_eq!(
            render(&[ana, peer()]),
            "\
peer                  addresses            last handshake    moved    last day
ana   10.0.0.2, 192.168.50.0/24  1 minute, 15 seconds ago  2.0 KiB  2026-12-31
KEY=                          -                     never      0 B           -
"
        );
        assert!(render(&[]).contains("taltun peer new NAME"));
    }
}
