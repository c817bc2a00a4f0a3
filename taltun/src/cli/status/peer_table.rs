//! The peers as a table, those first that matter most.

use crate::cli::grid::{Cell, Column, grid};
use crate::cli::human;
use crate::cli::peers::{Standing, by_weight, mark, title};
use crate::cli::screen::Screen;
use crate::cli::width::cut;
use crate::report::{PeerRates, PeerStatus};

const COLUMNS: &[Column] = &[
    Column::text("  PEER", 0).cut_to(14),
    Column::text("ADDRESS", 2),
    Column::text("SEEN", 0),
    Column::text("FROM", 4),
    Column::number("↓ NOW", 1),
    Column::number("↑ NOW", 3),
    Column::number("↓ TOTAL", 5),
    Column::number("↑ TOTAL", 6),
];

/// Who was heard so lately is there.
const NOW: f64 = 30.0;

/// The table and how many peers there are; with `room` the first so many rows.
pub(super) fn render(peers: &[PeerStatus], room: Option<usize>, screen: &Screen) -> String {
    let sorted = by_weight(peers);
    let shown = room.unwrap_or(usize::MAX).min(sorted.len());
    let rows: Vec<Vec<Cell>> = sorted.iter().take(shown).map(|peer| row(peer)).collect();
    let mut text = if rows.is_empty() {
        String::new()
    } else {
        grid(COLUMNS, &rows, screen)
    };
    let mut foot = Vec::new();
    if shown < peers.len() {
        let more = human::count((peers.len() - shown) as u64);
        foot.push(format!("  and {more} more: --all"));
    }
    foot.push(count(peers));
    for line in foot {
        text.push_str(&cut(&line, screen.columns().unwrap_or(usize::MAX)));
        text.push('\n');
    }
    text
}

/// How many peers there are, and how they stand.
fn count(peers: &[PeerStatus]) -> String {
    let all = human::counted(peers.len() as u64, "peer");
    if peers.is_empty() {
        return format!("{all}; to add one: `taltun peer new NAME`");
    }
    let of = |standing| {
        let these = peers.iter().filter(|peer| Standing::of(peer) == standing);
        these.count() as u64
    };
    let parts = [
        (of(Standing::Online), "online"),
        (of(Standing::Away), "away"),
        (of(Standing::Never), "never seen"),
    ];
    let parts: Vec<String> = parts
        .into_iter()
        .filter(|(count, _)| *count > 0)
        .map(|(count, word)| format!("{} {word}", human::count(count)))
        .collect();
    if parts.is_empty() {
        return all;
    }
    format!("{all}: {}", parts.join(", "))
}

fn row(peer: &PeerStatus) -> Vec<Cell> {
    let (mark, style) = mark(peer);
    let from = match (&peer.endpoint, &peer.endpoint_name) {
        (Some(endpoint), _) => endpoint.to_string(),
        (None, Some(name)) => format!("{name} (not resolved)"),
        (None, None) => "–".to_owned(),
    };
    let rate = |of: fn(PeerRates) -> u64| match peer.rates.map(of) {
        None | Some(0) => "–".to_owned(),
        Some(rate) => human::rate(rate),
    };
    let total = |bytes| match bytes {
        0 => "–".to_owned(),
        bytes => human::bytes(bytes),
    };
    vec![
        Cell::of(format!("{mark} {}", title(peer)), style),
        address(peer).into(),
        seen(peer).into(),
        from.into(),
        rate(|rates| rates.rx_bytes).into(),
        rate(|rates| rates.tx_bytes).into(),
        total(peer.rx_bytes).into(),
        total(peer.tx_bytes).into(),
    ]
}

/// Its first address or network inside, and how many more it has.
fn address(peer: &PeerStatus) -> String {
    let Some(first) = peer.allowed_ips.first() else {
        return "–".to_owned();
    };
    let first = if first.prefix_len() == first.max_prefix_len() {
        first.addr().to_string()
    } else {
        first.to_string()
    };
    match peer.allowed_ips.len() - 1 {
        0 => first,
        more => format!("{first} +{more}"),
    }
}

fn seen(peer: &PeerStatus) -> String {
    match (Standing::of(peer), peer.seen_seconds) {
        (Standing::Never, None) => "never".to_owned(),
        (_, None) => "–".to_owned(),
        (_, Some(seconds)) if seconds < NOW => "now".to_owned(),
        (_, Some(seconds)) => human::age(seconds),
    }
}
