//! What `stats` shows to people: tables.

use std::collections::HashMap;
use std::fmt::Write;
use std::net::IpAddr;
use std::time::Duration;

use taltun_common::drops::DropReason;

use crate::cli::grid::{Cell, Column, grid};
use crate::cli::human;
use crate::cli::screen::Screen;
use crate::layer::Layer;
use crate::report::{BanStatus, Source, Stats, per_second};

/// Sources shown; JSON has them all.
const SOURCES_SHOWN: usize = 20;
/// Sources shown by `--watch`, so that it fits on a screen.
const SOURCES_WATCHED: usize = 8;

const TRAFFIC: &[Column] = &[
    Column::text("TRAFFIC", 0),
    Column::number("PACKETS", 1),
    Column::number("BYTES", 0),
    Column::number("PACKETS/S", 2),
    Column::number("NOW", 0),
];
const DROPPED: &[Column] = &[
    Column::text("DROPPED", 0).cut_to(10),
    Column::number("TOTAL", 0),
    Column::number("LAST MIN", 0),
    Column::number("NOW/S", 1),
    Column::text("MEANING", 2).cut_to(12),
    Column::text("MOST FROM", 3),
];

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

pub(super) fn render(stats: &Stats, since: Option<&Since<'_>>, screen: &Screen) -> String {
    let mut text = traffic(stats, since, screen);
    text.push('\n');
    text.push_str(&dropped(stats, since, screen));
    text.push_str(&udpgw(stats, since, screen));
    let before = since.map(|since| &since.stats.sources);
    text.push_str(&sources(OUTSIDE, &stats.sources, since.zip(before), screen));
    let before = since.map(|since| &since.stats.sources_inner);
    let inner = since.zip(before);
    text.push_str(&sources(INSIDE, &stats.sources_inner, inner, screen));
    text.push_str(&banned(stats, screen));
    text
}

/// What the workers moved; how fast by their last second, or since an earlier look.
fn traffic(stats: &Stats, since: Option<&Since<'_>>, screen: &Screen) -> String {
    let now = &stats.traffic;
    let lately = stats.rates.map(|rates| rates.traffic);
    let before = since.map(|since| since.stats.traffic);
    let rows = [
        (
            "received",
            (|it| (it.rx_packets, it.rx_bytes)) as fn(&crate::report::Traffic) -> _,
        ),
        ("sent", |it| (it.tx_packets, it.tx_bytes)),
        ("relayed", |it| (it.relayed_packets, it.relayed_bytes)),
    ];
    let rows: Vec<Vec<Cell>> = rows
        .into_iter()
        .map(|(name, of)| {
            let (packets, bytes) = of(now);
            let rates = match (since, before.as_ref().map(of)) {
                (Some(since), Some(before)) => {
                    Some((since.rate(before.0, packets), since.rate(before.1, bytes)))
                }
                _ => lately.as_ref().map(of),
            };
            let mut row: Vec<Cell> = vec![
                name.into(),
                human::count(packets).into(),
                human::bytes(bytes).into(),
            ];
            if let Some((packets, bytes)) = rates {
                row.push(human::count(packets).into());
                row.push(human::rate(bytes).into());
            }
            row
        })
        .collect();
    grid(TRAFFIC, &rows, screen)
}

/// Drops by reason. One that never came up says nothing; JSON has them all.
fn dropped(stats: &Stats, since: Option<&Since<'_>>, screen: &Screen) -> String {
    let drops = stats.drops.largest_first();
    if drops.is_empty() {
        return "nothing dropped in the tunnel\n".to_owned();
    }
    let most = most_from(stats);
    let rows: Vec<Vec<Cell>> = drops
        .into_iter()
        .map(|(reason, count)| {
            let now = match since {
                Some(since) => Some(since.rate(since.stats.drops[reason], count)),
                None => stats.rates.map(|rates| rates.drops[reason]),
            };
            vec![
                reason.label().into(),
                human::count(count).into(),
                human::count(stats.drops_last_minute[reason]).into(),
                now.map(human::count).unwrap_or_default().into(),
                reason.meaning().into(),
                most.get(&reason).cloned().unwrap_or_default().into(),
            ]
        })
        .collect();
    grid(DROPPED, &rows, screen)
}

/// Who had the most dropped, by the reason of its last drop.
fn most_from(stats: &Stats) -> HashMap<DropReason, String> {
    let mut most: HashMap<DropReason, &Source> = HashMap::new();
    for source in stats.sources.iter().chain(&stats.sources_inner) {
        let Some(reason) = source.reason.filter(|_| source.drops > 0) else {
            continue;
        };
        let other = most.entry(reason).or_insert(source);
        if source.drops > other.drops {
            *other = source;
        }
    }
    most.into_iter()
        .map(|(reason, source)| (reason, address(source.addr)))
        .collect()
}

/// What the UDP gateway counted, if there is one; what never came up says nothing.
fn udpgw(stats: &Stats, since: Option<&Since<'_>>, screen: &Screen) -> String {
    const COLUMNS: &[Column] = &[
        Column::text("UDPGW", 0),
        Column::number("COUNT", 0),
        Column::number("A SECOND", 1),
    ];
    let Some(gateway) = &stats.udpgw else {
        return String::new();
    };
    let since = since.and_then(|since| Some((since, since.stats.udpgw.as_ref()?)));
    let now = [
        ("clients", gateway.clients),
        ("connections", gateway.connections),
    ];
    let row = |name: &str, value| vec![Cell::from(name), human::count(value).into()];
    let now = now.map(|(name, value)| row(name, value)).into_iter();
    let counted = gateway.counters.iter().filter(|(_, value)| **value > 0);
    let counted = counted.map(|(name, value)| {
        let mut row = row(name, *value);
        if let Some((since, before)) = since {
            let before = before.counters.get(name).copied();
            let rate = since.rate(before.unwrap_or_default(), *value);
            row.push(human::count(rate).into());
        }
        row
    });
    let rows: Vec<Vec<Cell>> = now.chain(counted).collect();
    format!("\n{}", grid(COLUMNS, &rows, screen))
}

const OUTSIDE: &[Column] = &sources_of("SOURCE", "DROPPED BY XDP");
const INSIDE: &[Column] = &sources_of("SOURCE INSIDE", "DROPPED BY TC");

/// The columns of sources, and which program drops of them: what user space drops is counted by
/// reason alone, and for no source.
const fn sources_of(title: &'static str, program: &'static str) -> [Column; 6] {
    [
        Column::text(title, 0),
        Column::number("PACKETS", 0),
        Column::number("BYTES", 2),
        Column::number(program, 0),
        Column::number("PACKETS/S", 1),
        Column::text("LAST REASON", 3),
    ]
}

/// The top sources, outside or inside: by all that they sent, or watched, by what they send now.
fn sources(
    columns: &[Column],
    sources: &[Source],
    since: Option<(&Since<'_>, &Vec<Source>)>,
    screen: &Screen,
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
    let rows: Vec<Vec<Cell>> = rated
        .iter()
        .take(shown)
        .map(|(source, rate)| {
            vec![
                address(source.addr).into(),
                human::count(source.packets).into(),
                human::bytes(source.bytes).into(),
                human::count(source.drops).into(),
                since
                    .map(|_| human::count(*rate))
                    .unwrap_or_default()
                    .into(),
                source.reason.map_or("", DropReason::label).into(),
            ]
        })
        .collect();
    let mut text = format!("\n{}", grid(columns, &rows, screen));
    let more = sources.len().saturating_sub(shown);
    if more > 0 {
        // Writing to a String can't fail.
        let _ = writeln!(
            text,
            "and {} more; --json shows them",
            human::count(more as u64)
        );
    }
    text
}

/// Who is denied, by whom and for how long, outside and inside.
fn banned(stats: &Stats, screen: &Screen) -> String {
    const fn columns(title: &'static str) -> [Column; 4] {
        [
            Column::text(title, 0),
            Column::number("LEFT", 0),
            Column::text("BY", 1),
            Column::text("PEERS", 2).cut_to(6),
        ]
    }
    const OUTSIDE: &[Column] = &columns("BANNED");
    const INSIDE: &[Column] = &columns("BANNED INSIDE");
    let mut text = String::new();
    for (layer, columns) in [(Layer::Outer, OUTSIDE), (Layer::Inner, INSIDE)] {
        let bans = stats.bans.iter().filter(|ban| ban.layer == layer);
        let rows: Vec<Vec<Cell>> = bans
            .map(|ban| {
                vec![
                    ban.net.to_string().into(),
                    left(ban).into(),
                    by(ban).into(),
                    crate::cli::width::printable(&ban.peers.join(", "))
                        .into_owned()
                        .into(),
                ]
            })
            .collect();
        if !rows.is_empty() {
            let _ = write!(text, "\n{}", grid(columns, &rows, screen));
        }
    }
    text
}

/// How long a ban lasts yet. What the file denies lasts as long as it says so.
fn left(ban: &BanStatus) -> String {
    match ban.seconds_left {
        Some(seconds) if ban.banned && !ban.configured => human::span(seconds),
        _ => "no end".to_owned(),
    }
}

/// Who denies it, and so what ends it.
fn by(ban: &BanStatus) -> String {
    let hand = match ban.seconds_left {
        // It ends, and the network stays denied.
        Some(seconds) if ban.configured => {
            format!("an operator ({} left)", human::span(seconds))
        }
        _ => "an operator".to_owned(),
    };
    match (ban.banned, ban.configured) {
        (true, false) => hand,
        (true, true) => format!("the file, {hand}"),
        (false, _) => "the file".to_owned(),
    }
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
            drops_last_minute: [(DropReason::Denied, 12)].into_iter().collect(),
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
                    drops: if i == 7 { 9 } else { 1 },
                    reason: (i == 7).then_some(DropReason::Denied),
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
        let text = render(&stats, None, &Screen::NONE);
        assert!(
            text.starts_with(
                "TRAFFIC     PACKETS    BYTES
received  1,234,567  1.0 GiB
sent              0      0 B
relayed           0      0 B

DROPPED  TOTAL  LAST MIN  MEANING                  MOST FROM
denied   1,200        12  sender is banned         192.0.2.7
shape        3         0  not a WireGuard message

UDPGW                COUNT
clients                  3
connections             12
dropped_destination      7
to_udp               1,500

SOURCE      PACKETS    BYTES  DROPPED BY XDP  LAST REASON
192.0.2.1        10  1.0 KiB               1
"
            ),
            "{text}"
        );
        assert!(
            text.ends_with(
                "and 1 more; --json shows them

BANNED             LEFT  BY
198.51.100.0/24  no end  the file

BANNED INSIDE        LEFT  BY           PEERS
10.0.0.3/32    1 min 40 s  an operator  bob
"
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
        let text = render(&now, Some(&since), &Screen::NONE);
        assert!(
            text.ends_with(
                "DROPPED  TOTAL  LAST MIN  NOW/S  MEANING\n\
                 mac1     5,100         0  2,500  sender has a wrong key for us\n\
                 \n\
                 SOURCE INSIDE  PACKETS  BYTES  DROPPED BY TC  PACKETS/S\n\
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
        let text = render(&stats, None, &Screen::NONE);
        assert!(
            text.contains(
                "SOURCE     PACKETS  BYTES  DROPPED BY XDP  LAST REASON\n\
                 192.0.2.1        9    0 B               7  mac1\n"
            ),
            "{text}"
        );
    }

    #[test]
    fn nothing_at_all_is_fine_too() {
        let text = render(&Stats::default(), None, &Screen::NONE);
        assert!(
            text.ends_with("\nnothing dropped in the tunnel\n"),
            "{text}"
        );
    }
}
