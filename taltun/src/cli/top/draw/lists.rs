//! The lists: peers, senders and drops, and what is beside the peers.

use std::net::IpAddr;

use super::super::model::{Model, SourceRate, pair_name, source_name};
use super::super::places::View;
use super::frame::Line;
use crate::cli::grid::{Cell, Column, lines};
use crate::cli::human;
use crate::cli::peers::{mark, title};
use crate::cli::screen::Style;
use crate::cli::width::{cut, printable, width};
use crate::layer::Layer;
use crate::report::{PeerStatus, RelayPair, Source};

// As wide as their figures get: a table that moves each second can't be read.
const RATE: usize = "999 kbit/s".len();
const BYTES: usize = "999.9 MiB".len();
const COUNT: usize = "9,999,999".len();
const SPARK: usize = 6;

const PEERS: &[Column] = &[
    Column::text("  PEER", 0).cut_to(14).at_least(14),
    Column::number("↓ NOW", 0).at_least(RATE),
    Column::text("↓", 3).at_least(SPARK),
    Column::number("↑ NOW", 1).at_least(RATE),
    Column::text("↑", 6).at_least(SPARK),
    Column::text("HANDSHAKE", 2),
    Column::text("FROM", 4),
    Column::text("ADDRESS", 5),
    Column::number("TOTAL", 7).at_least(BYTES),
];
const SOURCES: &[Column] = &[
    Column::text("SENDER", 0),
    Column::text("WHO", 4).cut_to(6),
    Column::number("NOW/S", 0).at_least(COUNT),
    Column::number("DROPPED/S", 0),
    Column::text("", 3).at_least(SPARK),
    Column::number("PACKETS", 2).at_least(COUNT),
    Column::number("DROPPED", 1).at_least(COUNT),
    Column::text("LAST REASON", 5),
];
const DROPS: &[Column] = &[
    Column::text("DROPPED", 0).cut_to(10),
    Column::number("NOW/S", 0).at_least(COUNT),
    Column::text("", 3).at_least(SPARK),
    Column::number("LAST MIN", 1).at_least(COUNT),
    Column::number("TOTAL", 0).at_least(COUNT),
    Column::text("MEANING", 2).cut_to(12),
];

const PAIRS: &[Column] = &[
    Column::text("FROM", 0).cut_to(14),
    Column::text("TO", 0).cut_to(14),
    Column::number("NOW", 0).at_least(RATE),
    Column::text("", 2).at_least(SPARK),
    Column::number("PACKETS", 3).at_least(COUNT),
    Column::number("SINCE LOOKED AT", 1),
];

/// The list that is looked at, its heads first.
pub(super) fn list(model: &Model, room: usize) -> Vec<Line> {
    let places = picture(room);
    match model.view {
        View::Peers => {
            let rows: Vec<Line> = model
                .peers()
                .iter()
                .map(|peer| row(model, peer, places))
                .collect();
            let word = if model.find.is_empty() {
                "no peers; to add one: `taltun peer new NAME`"
            } else {
                "no peer is called so; Esc shows all"
            };
            or_nothing(lines(PEERS, &rows, Some(room)), &rows, word)
        }
        View::Outside => sources(model, Layer::Outer, room),
        View::Inside => sources(model, Layer::Inner, room),
        View::Drops => {
            let rows = reasons(model, places);
            let shown: Vec<Line> = rows.into_iter().skip(model.first).collect();
            or_nothing(
                lines(DROPS, &shown, Some(room)),
                &shown,
                "nothing was dropped",
            )
        }
        View::Relayed => pairs(model, room),
    }
}

/// What is dropped and who sends it, side by side if there is room for both.
pub(super) fn beside(model: &Model, room: usize, rows: usize) -> Vec<Line> {
    const GAP: usize = 2;
    let half = room.saturating_sub(GAP) / 2;
    // There is little room.
    let narrow = |column: Column| column.at_least(0);
    let drops = [DROPS[0], DROPS[1], DROPS[2], DROPS[4]].map(narrow);
    let of_drops = reasons(model, picture(room)).into_iter().map(|mut row| {
        row.truncate(5);
        row.remove(3);
        row
    });
    let of_drops: Vec<Line> = of_drops.collect();
    let left = or_nothing(
        lines(&drops, &of_drops, Some(half)),
        &of_drops,
        "nothing dropped",
    );
    let senders = [SOURCES[0], SOURCES[2], SOURCES[3], SOURCES[7]].map(narrow);
    let of_senders = source_rows(model, Layer::Outer, 0).into_iter().map(|row| {
        let [address, _, now, dropped, _, _, _, reason] = row;
        vec![address, now, dropped, reason]
    });
    let of_senders: Vec<Line> = of_senders.collect();
    let right = or_nothing(
        lines(&senders, &of_senders, Some(half)),
        &of_senders,
        "no sender was seen",
    );
    let rule = Cell::of("─".repeat(room), Style::Faint);
    let mut all = vec![vec![rule]];
    for at in 0..rows.saturating_sub(1) {
        let mut line = left.get(at).cloned().unwrap_or_default();
        let taken: usize = line.iter().map(|cell| width(&cell.text)).sum();
        line.push(" ".repeat((half + GAP).saturating_sub(taken)).into());
        line.extend(right.get(at).cloned().unwrap_or_default());
        all.push(line);
    }
    all
}

/// Places of a sparkline.
fn picture(room: usize) -> usize {
    match room {
        0..100 => 6,
        100..140 => 12,
        _ => 20,
    }
}

/// A table, or a word where it has no row.
fn or_nothing(table: Vec<Line>, rows: &[Line], word: &str) -> Vec<Line> {
    if rows.is_empty() {
        return vec![vec![Cell::of(word, Style::Faint)]];
    }
    table
}

fn row(model: &Model, peer: &PeerStatus, places: usize) -> Line {
    let (mark, style) = mark(peer);
    let rates = peer.rates.unwrap_or_default();
    let rate = |rate| match rate {
        0 => Cell::of("–", Style::Faint),
        rate => human::rate(rate).into(),
    };
    let spark = |all: &super::super::history::Histories| {
        Cell::of(all.spark(&peer.public_key, places), Style::Good)
    };
    let handshake = match peer.latest_handshake_seconds {
        Some(seconds) => human::age(seconds),
        None => "never".to_owned(),
    };
    let from = match (&peer.endpoint, &peer.endpoint_name) {
        (Some(endpoint), _) => endpoint.to_string(),
        (None, Some(name)) => name.clone(),
        (None, None) => String::new(),
    };
    let address = peer.allowed_ips.first().map(|net| net.addr().to_string());
    vec![
        Cell::of(format!("{mark} {}", title(peer)), style),
        rate(rates.rx_bytes),
        spark(&model.peers_down),
        rate(rates.tx_bytes),
        spark(&model.peers_up),
        handshake.into(),
        from.into(),
        address.unwrap_or_default().into(),
        human::bytes(peer.rx_bytes.saturating_add(peer.tx_bytes)).into(),
    ]
}

fn sources(model: &Model, layer: Layer, room: usize) -> Vec<Line> {
    let rows = source_rows(model, layer, picture(room))
        .into_iter()
        .skip(model.first);
    let rows: Vec<Line> = rows.take(model.rows).map(|row| row.to_vec()).collect();
    let word = if model.find.is_empty() {
        "no sender was seen"
    } else {
        "no sender has such an address; Esc shows all"
    };
    or_nothing(lines(SOURCES, &rows, Some(room)), &rows, word)
}

fn pairs(model: &Model, room: usize) -> Vec<Line> {
    let places = picture(room);
    let row = |(pair, rate): (&RelayPair, u64)| -> Line {
        vec![
            printable(&pair.from).into_owned().into(),
            printable(&pair.to).into_owned().into(),
            match rate {
                0 => Cell::of("–", Style::Faint),
                rate => human::rate(rate).into(),
            },
            Cell::of(model.pairs.spark(&pair_name(pair), places), Style::Good),
            human::count(pair.packets).into(),
            human::bytes(pair.bytes).into(),
        ]
    };
    let all = model.pairs().into_iter().skip(model.first);
    let rows: Vec<Line> = all.take(model.rows).map(row).collect();
    let word = if model.find.is_empty() {
        "no peer sends to another"
    } else {
        "no such peer sends to another"
    };
    or_nothing(lines(PAIRS, &rows, Some(room)), &rows, word)
}

fn source_rows(model: &Model, layer: Layer, places: usize) -> Vec<[Cell; 8]> {
    let all = model.sources(layer).into_iter();
    all.map(|(source, rate)| source_row(model, layer, source, rate, places))
        .collect()
}

fn source_row(
    model: &Model,
    layer: Layer,
    source: &Source,
    rate: SourceRate,
    places: usize,
) -> [Cell; 8] {
    let name = if source.addr.is_unspecified() {
        "(others)".to_owned()
    } else {
        source.addr.to_string()
    };
    let bad = if rate.drops > 0 {
        Style::Bad
    } else {
        Style::Plain
    };
    let count = |count| match count {
        0 => Cell::of("–", Style::Faint),
        count => human::count(count).into(),
    };
    let reason = source.reason.filter(|_| source.drops > 0);
    [
        Cell::of(name, bad),
        who(model, layer, source.addr).into(),
        count(rate.packets),
        Cell::of(count(rate.drops).text, bad),
        Cell::of(
            model
                .sources
                .spark(&source_name(layer, source.addr), places),
            Style::Good,
        ),
        human::count(source.packets).into(),
        count(source.drops),
        reason.map_or("", |reason| reason.label()).into(),
    ]
}

/// Which of the peers that are known here has this address, and whether it is banned.
fn who(model: &Model, layer: Layer, address: IpAddr) -> String {
    let has = |peer: &&PeerStatus| match layer {
        Layer::Outer => peer
            .endpoint
            .is_some_and(|endpoint| endpoint.ip() == address),
        Layer::Inner => peer.allowed_ips.iter().any(|net| net.contains(&address)),
    };
    let peer = model.peers().iter().find(has);
    let bans = model
        .overview
        .iter()
        .flat_map(|overview| &overview.stats.bans);
    let mut bans = bans.filter(|ban| ban.layer == layer);
    let banned = bans
        .any(|ban| ban.net.contains(&address))
        .then_some("banned");
    let title = peer.map(|peer| cut(&title(peer), 20).into_owned());
    let parts: Vec<String> = title.into_iter().chain(banned.map(str::to_owned)).collect();
    parts.join(", ")
}

fn reasons(model: &Model, places: usize) -> Vec<Line> {
    let Some(overview) = &model.overview else {
        return Vec::new();
    };
    let stats = &overview.stats;
    let rates = stats.rates.unwrap_or_default();
    let all = model.reasons().into_iter();
    all.map(|(reason, count)| {
        let now = rates.drops[reason];
        let style = if now > 0 { Style::Bad } else { Style::Plain };
        vec![
            Cell::of(reason.label(), style),
            Cell::of(human::count(now), style),
            Cell::of(model.reasons.spark(reason.label(), places), Style::Good),
            human::count(stats.drops_last_minute[reason]).into(),
            human::count(count).into(),
            reason.meaning().into(),
        ]
    })
    .collect()
}
