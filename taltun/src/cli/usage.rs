//! `taltun usage`

use std::fmt::Write;

use clap::Args;
use taltun_usage::Day;
use taltun_usage::book::oldest;

use super::failure::Failure;
use super::table::table;
use super::{human, output};
use crate::control::{self, Since, request};
use crate::report::{Usage, UsageKept};

/// Show what each peer moved, by day for one of them.
///
/// Bytes are those of WireGuard's messages, as `wg show` counts them, and days are those of UTC.
/// A tunnel that runs is asked; of one that doesn't, the file is read.
#[derive(Args)]
pub(super) struct UsageCommand {
    /// The only peer to show, by its name or public key: day by day.
    peer: Option<String>,

    /// The tunnel's interface; needed only where there are several.
    #[arg(long, short, value_name = "NAME")]
    interface: Option<String>,

    /// From when on: 7d for the last seven days, today included, or a date such as 2026-12-31.
    #[arg(long, value_name = "DAYS|DATE", default_value = "30d")]
    since: Since,

    /// Print JSON.
    #[arg(long)]
    json: bool,
}

impl UsageCommand {
    pub(super) fn run(self) -> Result<(), Failure> {
        let asked = request::Usage {
            peer: self.peer,
            since: self.since,
        };
        let usage = control::usage(self.interface.as_deref(), &asked)?;
        if self.json {
            output::print_json(&usage)
        } else {
            output::print(&render(&usage))
        }
    }
}

/// The first day that is kept, if an earlier one was asked for.
fn first_kept(usage: &Usage) -> Option<Day> {
    let days = usage.usage.keep_days.filter(|days| *days > 0)?;
    let asked: Day = usage.first_day.parse().ok()?;
    let first = oldest(usage.last_day.parse().ok()?, days);
    (asked < first).then_some(first)
}

/// A row: what it is of, and four counts.
type Row = (String, [u64; 4]);

fn render(usage: &Usage) -> String {
    let mut text = format!(
        "{}: {} to {} (UTC)",
        usage.interface, usage.first_day, usage.last_day
    );
    if !usage.running {
        text.push_str(", as its file has it: it doesn't run");
    }
    text.push('\n');
    match (usage.usage.kept, &usage.usage.reason) {
        (UsageKept::Memory, Some(reason)) => {
            let _ = writeln!(text, "in memory only: {reason}");
        }
        (UsageKept::Off, _) => text.push_str("since the tunnel started: keep_days is 0\n"),
        (UsageKept::Disk | UsageKept::Memory, _) => {}
    }
    if let Some(trouble) = &usage.usage.clock {
        let _ = writeln!(text, "{trouble}");
    }
    if let Some(first) = first_kept(usage) {
        let days = usage.usage.keep_days.unwrap_or_default();
        let _ = writeln!(
            text,
            "days before {first} are forgotten: keep_days is {days}"
        );
    }
    let (head, rows): (&str, Vec<Row>) = match &usage.peers[..] {
        [] => {
            text.push_str("nothing was moved\n");
            return text;
        }
        [one] if !one.days.is_empty() => {
            let label = one.name.as_ref().unwrap_or(&one.public_key);
            let days = one.days.iter().map(|day| {
                let counts = [day.rx_bytes, day.tx_bytes, day.rx_packets, day.tx_packets];
                (day.day.clone(), counts)
            });
            (label, days.collect())
        }
        peers => {
            let rows = peers.iter().map(|peer| {
                let label = peer.name.as_ref().unwrap_or(&peer.public_key).clone();
                let counts = [
                    peer.rx_bytes,
                    peer.tx_bytes,
                    peer.rx_packets,
                    peer.tx_packets,
                ];
                (label, counts)
            });
            ("peer", rows.collect())
        }
    };
    text.push_str(&rendered(head, &rows));
    text
}

fn rendered(head: &str, rows: &[Row]) -> String {
    let row = |label: &str, [rx, tx, rx_packets, tx_packets]: [u64; 4]| {
        vec![
            label.to_owned(),
            human::bytes(rx),
            human::bytes(tx),
            human::bytes(rx.saturating_add(tx)),
            human::count(rx_packets),
            human::count(tx_packets),
        ]
    };
    let mut all = [0_u64; 4];
    for (_, counts) in rows {
        for (sum, count) in all.iter_mut().zip(counts) {
            *sum = sum.saturating_add(*count);
        }
    }
    let mut lines: Vec<_> = rows
        .iter()
        .map(|(label, counts)| row(label, *counts))
        .collect();
    if rows.len() > 1 {
        lines.push(row("all", all));
    }
    let head = [
        head,
        "received",
        "sent",
        "together",
        "packets received",
        "packets sent",
    ];
    table(&head, &lines)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::{DayUsage, PeerUsage, UnixTime, UsageStatus, VERSION};

    fn peer(name: Option<&str>, bytes: u64) -> PeerUsage {
        PeerUsage {
            name: name.map(str::to_owned),
            public_key: "KEY=".to_owned(),
            rx_bytes: bytes,
            rx_packets: 1234,
            tx_bytes: 148,
            tx_packets: 1,
            days: Vec::new(),
        }
    }

    fn usage(peers: Vec<PeerUsage>) -> Usage {
        Usage {
            version: VERSION,
            timestamp: UnixTime::default(),
            interface: "hub".to_owned(),
            running: true,
            first_day: "2026-10-31".to_owned(),
            last_day: "2026-11-29".to_owned(),
            usage: UsageStatus {
                kept: UsageKept::Disk,
                reason: None,
                clock: None,
                keep_days: Some(400),
            },
            peers,
        }
    }

    #[test]
    fn peers_are_a_table_with_their_sum() {
        let told = render(&usage(vec![peer(Some("maría"), 3 << 20), peer(None, 0)]));
        assert_eq!(
            told,
            "\
hub: 2026-10-31 to 2026-11-29 (UTC)
peer   received   sent  together  packets received  packets sent
maría   3.0 MiB  148 B   3.0 MiB             1,234             1
KEY=        0 B  148 B     148 B             1,234             1
all     3.0 MiB  296 B   3.0 MiB             2,468             2
"
        );
    }

    #[test]
    fn one_peer_is_a_table_of_its_days_and_what_is_odd_is_told() {
        let mut one = peer(Some("ana"), 5);
        one.days.push(DayUsage {
            day: "2026-11-29".to_owned(),
            rx_bytes: 5,
            rx_packets: 1,
            tx_bytes: 0,
            tx_packets: 0,
        });
        let mut told = usage(vec![one]);
        told.running = false;
        told.usage = UsageStatus {
            kept: UsageKept::Memory,
            reason: Some("the disk is full".to_owned()),
            clock: Some("the clock shows 2026-10-01".into()),
            keep_days: None,
        };
        assert_eq!(
            render(&told),
            "\
hub: 2026-10-31 to 2026-11-29 (UTC), as its file has it: it doesn't run
in memory only: the disk is full
the clock shows 2026-10-01
ana         received  sent  together  packets received  packets sent
2026-11-29       5 B   0 B       5 B                 1             0
"
        );
        told.usage.keep_days = Some(7);
        let forgotten = "days before 2026-11-01 are forgotten: keep_days is 7\n";
        assert!(render(&told).contains(forgotten), "{}", render(&told));
        told.first_day = "2026-11-01".to_owned();
        assert!(!render(&told).contains("forgotten"));
        told.peers.clear();
        assert!(render(&told).ends_with("nothing was moved\n"));
    }
}
