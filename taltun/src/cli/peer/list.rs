//! `taltun peer list`

use clap::Args;

use super::show::{addresses, last_handshake};
use crate::cli::failure::Failure;
use crate::cli::grid::{Cell, Column, grid};
use crate::cli::screen::Screen;
use crate::cli::target::Target;
use crate::cli::width::{cut, printable};
use crate::cli::{human, output};
use crate::control::request;
use crate::report::PeerStatus;

const COLUMNS: &[Column] = &[
    Column::text("PEER", 0).cut_to(10),
    Column::text("ADDRESSES", 0).cut_to(10),
    Column::text("HANDSHAKE", 1),
    Column::number("TOTAL", 3),
    Column::text("LAST DAY", 2),
];
/// Lines beside the peers: the heads, how many more there are, and the prompt.
const OTHERS: usize = 3;
/// Peers that are shown however small the terminal is.
const LEAST: usize = 5;

/// List the peers of a running tunnel.
#[derive(Args)]
pub(super) struct List {
    /// Print JSON: the peers as `taltun status --json` has them.
    #[arg(long)]
    json: bool,

    /// Show all peers, also where the terminal has fewer lines.
    #[arg(long, conflicts_with = "json")]
    all: bool,

    #[command(flatten)]
    target: Target,
}

impl List {
    pub(super) fn run(self) -> Result<(), Failure> {
        let status = self.target.ask(request::Status)?;
        if self.json {
            return output::print_json(&status.peers);
        }
        let screen = Screen::of_stdout();
        let text = render(&status.peers, self.all, &screen);
        if status.peers.is_empty() {
            // It says what adds one.
            return output::print(&self.target.advice(&text));
        }
        output::print(&text)
    }
}

fn render(peers: &[PeerStatus], all: bool, screen: &Screen) -> String {
    if peers.is_empty() {
        return "no peers; `taltun peer new NAME` adds one\n".to_owned();
    }
    let room = screen.size.filter(|_| !all);
    let most = room.map_or(usize::MAX, |(_, rows)| {
        rows.saturating_sub(OTHERS).max(LEAST)
    });
    let row = |peer: &PeerStatus| -> Vec<Cell> {
        vec![
            printable(peer.label()).into_owned().into(),
            addresses(peer).into(),
            last_handshake(peer).into(),
            human::bytes(peer.rx_bytes.saturating_add(peer.tx_bytes)).into(),
            peer.expires
                .clone()
                .unwrap_or_else(|| "–".to_owned())
                .into(),
        ]
    };
    let rows: Vec<Vec<Cell>> = peers.iter().take(most).map(row).collect();
    let mut text = grid(COLUMNS, &rows, screen);
    if rows.len() < peers.len() {
        let more = human::count((peers.len() - rows.len()) as u64);
        let more = format!("and {more} more: --all");
        text.push_str(&cut(&more, screen.columns().unwrap_or(usize::MAX)));
        text.push('\n');
    }
    text
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
        let both = [ana, peer()];
        assert_eq!(
            render(&both, false, &Screen::NONE),
            "\
PEER  ADDRESSES                  HANDSHAKE         TOTAL  LAST DAY
ana   10.0.0.2, 192.168.50.0/24  1 min 15 s ago  2.0 KiB  2026-12-31
KEY=  –                          never               0 B  –
"
        );
        assert!(render(&[], false, &Screen::NONE).contains("taltun peer new NAME"));
        let narrow = Screen {
            size: Some((40, 10)),
            colour: false,
        };
        let many: Vec<PeerStatus> = (0..300).map(|_| both[0].clone()).collect();
        let text = render(&many, false, &narrow);
        assert!(
            text.lines().all(|line| line.chars().count() <= 40),
            "{text}"
        );
        assert_eq!(text.lines().count(), 9);
        assert!(text.ends_with("and 293 more: --all\n"), "{text}");
        assert_eq!(render(&many, true, &narrow).lines().count(), 301);
        // A name from elsewhere turns nothing around it.
        let mut odd = peer();
        odd.name = Some("a\u{202e}b\u{200b}".to_owned());
        assert!(render(&[odd], false, &narrow).contains("a\u{fffd}b\u{fffd}"));
    }
}
