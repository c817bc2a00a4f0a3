//! What `stats` shows to people: tables.

use std::collections::HashMap;
use std::fmt::Write;
use std::net::IpAddr;
use std::time::Duration;

use taltun_common::drops::DropReason;

use crate::cli::human;
use crate::cli::table::table;
use crate::layer::Layer;
use crate::report::{Source, Stats, per_second};

/// Sources shown; JSON has them all.
const SOURCES_SHOWN: usize = 20;
/// Sources shown by `--watch`, so that it fits on a screen.
const SOURCES_WATCHED: usize = 8;

/// An earlier look, to tell rates by.
pub(super) struct Since<'a> {
    pub(super) stats: &'a Stats,
    pub(super) over: Duration,
}

impl Since<'_> {
    /// What a counter gained a second.
    fn rate(&self, before: u64, now: u64) -> u64 {
        per_second(before, now, self.over)
    }
}

pub(super) fn render(stats: &Stats, since: Option<&Since<'_>>) -> String {
    let traffic = &stats.traffic;
    let before = since.map(|since| &since.stats.traffic);
    let row = |name: &str, (packets, bytes), before: Option<(u64, u64)>| {
        let mut row = vec![name.to_owned(), human::count(packets), human::bytes(bytes)];
        if let (Some(since), Some(before)) = (since, before) {
            row.push(human::count(since.rate(before.0, packets)));
            row.push(human::bytes(since.rate(before.1, bytes)));
        }
        row
    };
    let mut head = vec!["traffic", "packets", "bytes"];
    if since.is_some() {
        head.extend(["packets/s", "bytes/s"]);
    }
    let mut text = table(
        &head,
        &[
            row(
                "received",
                (traffic.rx_packets, traffic.rx_bytes),
                before.map(|before| (before.rx_packets, before.rx_bytes)),
            ),
            row(
                "sent",
                (traffic.tx_packets, traffic.tx_bytes),
                before.map(|before| (before.tx_packets, before.tx_bytes)),
            ),
            row(
                "relayed",
                (traffic.relayed_packets, traffic.relayed_bytes),
                before.map(|before| (before.relayed_packets, before.relayed_bytes)),
            ),
        ],
    );

    // A reason that never came up says nothing; JSON has them all.
    let drops = stats.drops.largest_first();
    text.push('\n');
    if drops.is_empty() {
        text.push_str("nothing dropped in the tunnel\n");
    } else {
        let mut head = vec!["dropped because", "packets"];
        if since.is_some() {
            head.push("packets/s");
        }
        let rows: Vec<_> = drops
            .into_iter()
            .map(|(reason, count)| {
                let mut row = vec![reason.label().to_owned(), human::count(count)];
                if let Some(since) = since {
                    let rate = since.rate(since.stats.drops[reason], count);
                    row.push(human::count(rate));
                }
                row
            })
            .collect();
        text.push_str(&table(&head, &rows));
    }

    text.push_str(&udpgw(stats, since));

    let before = since.map(|since| &since.stats.sources);
    text.push_str(&sources(
        ("source", "XDP"),
        &stats.sources,
        since.zip(before),
    ));
    let before = since.map(|since| &since.stats.sources_inner);
    let inner = since.zip(before);
    text.push_str(&sources(
        ("source inside", "TC"),
        &stats.sources_inner,
        inner,
    ));

    let titles = [
        (Layer::Outer, "banned"),
        (Layer::Inner, "banned inside the tunnel"),
    ];
    for (layer, title) in titles {
        let bans = stats.bans.iter().filter(|ban| ban.layer == layer);
        let mut rows: Vec<Vec<String>> = bans
            .map(|ban| vec![ban.net.to_string(), human::until(ban), ban.peers.join(", ")])
            .collect();
        let mut head = vec![title, "lasts", "peers"];
        if rows.iter().all(|row| row[2].is_empty()) {
            head.pop();
            for row in &mut rows {
                row.pop();
            }
        }
        if !rows.is_empty() {
            let _ = write!(text, "\n{}", table(&head, &rows));
        }
    }
    text
}

/// What the UDP gateway counted, if there is one; what never came up says nothing.
fn udpgw(stats: &Stats, since: Option<&Since<'_>>) -> String {
    let Some(gateway) = &stats.udpgw else {
        return String::new();
    };
    let since = since.and_then(|since| Some((since, since.stats.udpgw.as_ref()?)));
    let mut head = vec!["udpgw", "count"];
    if since.is_some() {
        head.push("a second");
    }
    let now = [
        ("clients", gateway.clients),
        ("connections", gateway.connections),
    ];
    let row = |name: &str, value| vec![name.to_owned(), human::count(value)];
    let now = now.map(|(name, value)| row(name, value)).into_iter();
    let counted = gateway.counters.iter().filter(|(_, value)| **value > 0);
    let counted = counted.map(|(name, value)| {
        let mut row = row(name, *value);
        if let Some((since, before)) = since {
            let before = before.counters.get(name).copied();
            let rate = since.rate(before.unwrap_or_default(), *value);
            row.push(human::count(rate));
        }
        row
    });
    let mut rows: Vec<Vec<String>> = now.chain(counted).collect();
    for row in &mut rows {
        row.resize(head.len(), String::new());
    }
    format!("\n{}", table(&head, &rows))
}

/// The top sources, outside or inside, and which program counts them: by all that they sent, or
/// watched, by what they send now.
fn sources(
    (title, program): (&str, &str),
    sources: &[Source],
    since: Option<(&Since<'_>, &Vec<Source>)>,
) -> String {
    if sources.is_empty() {
        return String::new();
    }
    let before: HashMap<IpAddr, u64> = since
        .iter()
        .flat_map(|(_, before)| before.iter())
        .map(|source| (source.addr, source.packets))
        .collect();
    let mut rated: Vec<(&Source, u64)> = sources
        .iter()
        .map(|source| {
            let rate = since.map_or(0, |(since, _)| {
                let before = before.get(&source.addr).copied();
                since.rate(before.unwrap_or_default(), source.packets)
            });
            (source, rate)
        })
        .collect();
    // Stable, so that without rates they stay as they come: those with most packets first.
    rated.sort_by_key(|(_, rate)| std::cmp::Reverse(*rate));
    let shown = if since.is_some() {
        SOURCES_WATCHED
    } else {
        SOURCES_SHOWN
    };
    let has_reasons = rated
        .iter()
        .take(shown)
        .any(|(source, _)| source.reason.is_some());
    let rows: Vec<_> = rated
        .iter()
        .take(shown)
        .map(|(source, rate)| {
            let mut row = vec![
                address(source.addr),
                human::count(source.packets),
                human::bytes(source.bytes),
                human::count(source.drops),
            ];
            if since.is_some() {
                row.push(human::count(*rate));
            }
            if has_reasons {
                row.push(source.reason.map_or("", DropReason::label).to_owned());
            }
            row
        })
        .collect();
    // What user space drops is counted by reason alone, and for no source.
    let dropped = format!("dropped by {program}");
    let mut head = vec![title, "packets", "bytes", &dropped];
    if since.is_some() {
        head.push("packets/s");
    }
    if has_reasons {
        head.push("last reason");
    }
    let mut text = format!("\n{}", table(&head, &rows));
    let more = sources.len().saturating_sub(shown);
    if more > 0 {
        // Writing to a String can't fail.
        let _ = writeln!(text, "and {more} more; --json shows them");
    }
    text
}

/// A source's address; what came from too many to tell apart has none.
fn address(addr: IpAddr) -> String {
    if addr.is_unspecified() {
        "(others)".into()
    } else {
        addr.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::{BanStatus, Traffic, UdpgwStats};

    fn ban(net: &str, layer: Layer, peers: &[&str]) -> BanStatus {
        BanStatus {
            net: net.parse().unwrap(),
            layer,
            configured: false,
            banned: true,
            seconds_left: Some(100),
            ends_at: None,
            peers: peers.iter().map(|peer| (*peer).to_owned()).collect(),
            remedy: String::new(),
        }
    }

    #[test]
    fn statistics_are_tables() {
        let stats = Stats {
            drops: [(DropReason::Shape, 3), (DropReason::Denied, 1200)]
                .into_iter()
                .collect(),
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
                    reason: None,
                })
                .collect(),
            sources_inner: vec![],
            bans: vec![
                BanStatus {
                    seconds_left: None,
                    banned: false,
                    configured: true,
                    ..ban("198.51.100.0/24", Layer::Outer, &[])
                },
                ban("10.0.0.3/32", Layer::Inner, &["bob"]),
            ],
            udpgw: Some(UdpgwStats {
                clients: 3,
                connections: 12,
                counters: [
                    ("dropped_destination", 7),
                    ("keepalives", 0),
                    ("to_udp", 1500),
                ]
                .map(|(name, count)| (name.to_owned(), count))
                .into(),
            }),
            ..Stats::default()
        };
        let text = render(&stats, None);
        assert!(
            text.starts_with(
                "traffic     packets    bytes\n\
             received  1,234,567  1.0 GiB\n\
             sent              0      0 B\n\
             relayed           0      0 B\n\
             \n\
             dropped because  packets\n\
             denied             1,200\n\
             shape                  3\n\
             \n\
             udpgw                count\n\
             clients                  3\n\
             connections             12\n\
             dropped_destination      7\n\
             to_udp               1,500\n\
             \n\
             source      packets    bytes  dropped by XDP\n\
             192.0.2.1        10  1.0 KiB               1\n"
            ),
            "{text}"
        );
        assert!(
            text.ends_with(
                "and 1 more; --json shows them\n\
                 \n\
                 banned                           lasts\n\
                 198.51.100.0/24  as the file denies it\n\
                 \n\
                 banned inside the tunnel                             lasts  peers\n\
                 10.0.0.3/32               for another 1 minute, 40 seconds    bob\n"
            ),
            "{text}"
        );
    }

    #[test]
    fn watched_sources_come_by_what_they_send_now() {
        let source = |last: u8, packets| Source {
            addr: [10, 0, 0, last].into(),
            packets,
            bytes: 0,
            drops: 0,
            reason: None,
        };
        let before = Stats {
            drops: [(DropReason::Mac1, 100)].into_iter().collect(),
            sources_inner: vec![source(1, 900), source(2, 10)],
            ..Stats::default()
        };
        let now = Stats {
            drops: [(DropReason::Mac1, 5100)].into_iter().collect(),
            sources_inner: vec![source(1, 900), source(2, 510), source(3, 50)],
            ..Stats::default()
        };
        let since = Since {
            stats: &before,
            over: Duration::from_secs(2),
        };
        let text = render(&now, Some(&since));
        assert!(
            text.ends_with(
                "dropped because  packets  packets/s\n\
                 mac1               5,100      2,500\n\
                 \n\
                 source inside  packets  bytes  dropped by TC  packets/s\n\
                 10.0.0.2           510    0 B              0        250\n\
                 10.0.0.3            50    0 B              0         25\n\
                 10.0.0.1           900    0 B              0          0\n"
            ),
            "{text}"
        );
    }

    #[test]
    fn a_counter_that_began_anew_has_no_negative_rate() {
        let stats = Stats::default();
        let since = Since {
            stats: &stats,
            over: Duration::from_secs(1),
        };
        assert_eq!(since.rate(1000, 30), 30);
    }

    #[test]
    fn why_a_source_is_dropped_is_told_where_it_is_known() {
        let source = |last: u8, drops, reason: Option<DropReason>| Source {
            addr: [192, 0, 2, last].into(),
            packets: 9,
            bytes: 0,
            drops,
            reason,
        };
        let stats = Stats {
            sources: vec![source(1, 7, Some(DropReason::Mac1)), source(2, 0, None)],
            ..Stats::default()
        };
        let text = render(&stats, None);
        assert!(
            text.contains(
                "source     packets  bytes  dropped by XDP  last reason\n\
                 192.0.2.1        9    0 B               7         mac1\n"
            ),
            "{text}"
        );
    }

    #[test]
    fn nothing_at_all_is_fine_too() {
        let text = render(&Stats::default(), None);
        assert!(
            text.ends_with("\nnothing dropped in the tunnel\n"),
            "{text}"
        );
    }
}
