//! `taltun stats`

use std::fmt::Write;

use clap::Args;
use ipnet::IpNet;

use super::failure::Failure;
use super::target::{Subject, unexpected};
use super::{human, output};
use crate::control::{Request, Response};
use crate::report::Stats;

/// Sources shown to people; JSON has them all.
const SOURCES_SHOWN: usize = 20;

/// Show what a running tunnel moved and dropped, and who sends to it.
#[derive(Args)]
pub(super) struct StatsCommand {
    #[command(flatten)]
    subject: Subject,

    /// Print JSON.
    #[arg(long)]
    json: bool,
}

impl StatsCommand {
    pub(super) fn run(self) -> Result<(), Failure> {
        match self.subject.ask(&Request::Stats)? {
            Response::Stats(stats) if self.json => output::print_json(&stats),
            Response::Stats(stats) => output::print(&render(&stats)),
            other => Err(unexpected(&other)),
        }
    }
}

fn render(stats: &Stats) -> String {
    let traffic = &stats.traffic;
    let row = |name: &str, packets, bytes| {
        vec![name.to_owned(), human::count(packets), human::bytes(bytes)]
    };
    let mut text = table(
        &["traffic", "packets", "bytes"],
        &[
            row("received", traffic.rx_packets, traffic.rx_bytes),
            row("sent", traffic.tx_packets, traffic.tx_bytes),
            row("relayed", traffic.relayed_packets, traffic.relayed_bytes),
        ],
    );

    // A reason that never came up says nothing; JSON has them all.
    let mut drops: Vec<(&String, u64)> = stats
        .drops
        .iter()
        .map(|(reason, count)| (reason, *count))
        .filter(|(_, count)| *count > 0)
        .collect();
    drops.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    text.push('\n');
    if drops.is_empty() {
        text.push_str("nothing dropped\n");
    } else {
        let rows: Vec<_> = drops
            .into_iter()
            .map(|(reason, count)| vec![reason.clone(), human::count(count)])
            .collect();
        text.push_str(&table(&["dropped because", "packets"], &rows));
    }

    if !stats.sources.is_empty() {
        let rows: Vec<_> = stats
            .sources
            .iter()
            .take(SOURCES_SHOWN)
            .map(|source| {
                vec![
                    source.addr.to_string(),
                    human::count(source.packets),
                    human::bytes(source.bytes),
                    human::count(source.drops),
                ]
            })
            .collect();
        text.push('\n');
        text.push_str(&table(&["source", "packets", "bytes", "dropped"], &rows));
        let more = stats.sources.len().saturating_sub(SOURCES_SHOWN);
        if more > 0 {
            // Writing to a String can't fail.
            let _ = writeln!(text, "and {more} more; --json shows them");
        }
    }

    for (offload, refusals) in [
        ("udp_gso", stats.fallbacks.udp_gso),
        ("tun_offload", stats.fallbacks.tun_offload),
    ] {
        if refusals > 0 {
            let _ = writeln!(
                text,
                "\n{offload} was refused by the kernel {} times; what was refused went again without",
                human::count(refusals)
            );
        }
    }

    for (title, nets) in [
        ("banned", &stats.denied),
        ("banned inside the tunnel", &stats.denied_inner),
    ] {
        if !nets.is_empty() {
            let nets: Vec<String> = nets.iter().map(IpNet::to_string).collect();
            let _ = writeln!(text, "\n{title}: {}", nets.join(", "));
        }
    }
    text
}

/// Columns under a head: the first flush left, the others, which are numbers, flush right.
fn table(head: &[&str], rows: &[Vec<String>]) -> String {
    let width = |column: usize| {
        rows.iter()
            .filter_map(|row| row.get(column))
            .map(String::len)
            .chain([head[column].len()])
            .max()
            .unwrap_or(0)
    };
    let widths: Vec<usize> = (0..head.len()).map(width).collect();
    let mut text = String::new();
    let head: Vec<String> = head.iter().map(|name| (*name).to_owned()).collect();
    for row in std::iter::once(&head).chain(rows) {
        for (column, (cell, width)) in row.iter().zip(&widths).enumerate() {
            let _ = if column == 0 {
                write!(text, "{cell:<width$}")
            } else {
                write!(text, "  {cell:>width$}")
            };
        }
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::{Source, Traffic};

    #[test]
    fn statistics_are_tables() {
        let stats = Stats {
            drops: [("bad_shape", 3), ("denied", 1200), ("replay", 0)]
                .map(|(reason, count)| (reason.to_owned(), count))
                .into(),
            traffic: Traffic {
                rx_packets: 1_234_567,
                rx_bytes: 1 << 30,
                ..Traffic::default()
            },
            sources: (1..=21_u8)
                .map(|i| Source {
                    addr: [192, 0, 2, i].into(),
                    packets: 10,
                    bytes: 1024,
                    drops: 1,
                })
                .collect(),
            sources_inner: vec![],
            denied: vec!["198.51.100.0/24".parse().unwrap()],
            denied_inner: vec![],
            ..Stats::default()
        };
        let text = render(&stats);
        assert!(
            text.starts_with(
                "traffic     packets    bytes\n\
             received  1,234,567  1.0 GiB\n\
             sent              0      0 B\n\
             relayed           0      0 B\n\
             \n\
             dropped because  packets\n\
             denied             1,200\n\
             bad_shape              3\n\
             \n\
             source      packets    bytes  dropped\n\
             192.0.2.1        10  1.0 KiB        1\n"
            ),
            "{text}"
        );
        assert!(text.ends_with("and 1 more; --json shows them\n\nbanned: 198.51.100.0/24\n"));
    }

    #[test]
    fn nothing_at_all_is_fine_too() {
        let text = render(&Stats::default());
        assert!(text.ends_with("\nnothing dropped\n"), "{text}");
    }
}
