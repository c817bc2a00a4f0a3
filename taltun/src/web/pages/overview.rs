//! How the tunnel is at a glance, and the list of its peers.

use maud::{Markup, html};

use super::graph::graph;
use super::layout::{self, Frame};
use super::listed::{self, Listed};
use super::part::Part;
use super::query::{Query, of_peer};
use crate::report::{PeerStatus, whole_seconds};
use crate::web::reports::Seen;
use crate::web::units;
use crate::web::words::{Language, Words, drop_reason, filled, xdp};

/// Reasons of drops that are shown.
const REASONS: usize = 5;
/// What is so many seconds ago is now.
const JUST_NOW: u64 = 10;

/// The page.
pub(super) fn page(frame: &Frame<'_>, seen: &Seen, query: &Query) -> Markup {
    let (language, words) = (frame.language, frame.language.words());
    let status = &seen.report.status;
    let listed = listed::choose(seen, query);
    let live = query.at("/live", listed.page);
    layout::page(
        frame,
        &status.interface,
        words.overview,
        Some(&live),
        &html! {
            h1.hidden { (status.interface) }
            section #tiles.tiles { (tiles(seen, language)) }
            section.card {
                h2 { (words.traffic) }
                div #graph { (graph(&seen.report.moments, language)) }
                div #reasons { (reasons(seen, language)) }
            }
            section.card {
                div.head {
                    h2 { (words.peers) }
                    a.button href="/new" { (words.add_peer) }
                    form.search method="get" action="/" role="search" {
                        label.hidden for="q" { (words.search) }
                        input #q type="search" name="q" value=(query.search)
                            placeholder=(words.search_hint) maxlength="200";
                        button type="submit" { (words.search) }
                    }
                }
                @if listed.keys.is_empty() {
                    p.empty { @if query.search.is_empty() { (words.nobody) } @else { (words.nothing_found) } }
                    @if !query.search.is_empty() { p { a href="/" { (words.all_peers) } } }
                } @else {
                    table.cards.peers role="table" {
                        thead role="rowgroup" { tr role="row" {
                            th role="columnheader" { (words.name) }
                            th role="columnheader" { (words.state) }
                            th.number role="columnheader" { (words.up) }
                            th.number role="columnheader" { (words.down) }
                            th.number role="columnheader" { (words.moved) }
                            th.place role="columnheader" { (words.place) }
                        } }
                        tbody #rows role="rowgroup" { (rows(seen, &listed, language)) }
                    }
                    (pages(&listed, query, words))
                }
            }
        },
    )
}

/// What changes while somebody looks.
pub(super) fn parts(seen: &Seen, listed: &Listed, language: Language) -> Vec<Part> {
    let mut parts = vec![
        Part::of("tiles", tiles(seen, language)),
        Part::of("graph", graph(&seen.report.moments, language)),
        Part::of("reasons", reasons(seen, language)),
    ];
    // Each row by itself: of many peers most stay as they are.
    for peer in listed::peers(seen, listed) {
        parts.push(Part::of(row_id(peer), row(peer, language)));
    }
    parts
}

fn row_id(peer: &PeerStatus) -> String {
    format!("peer-{}", peer.public_key)
}

fn tiles(seen: &Seen, language: Language) -> Markup {
    let words = language.words();
    let status = &seen.report.status;
    let online = status.peers.iter().filter(|peer| peer.has_session());
    let now = seen.report.moments.last().copied().unwrap_or_default();
    let rate = |bytes| units::rate(bytes, language);
    let ever = |figure: String| format!("{figure} {}", words.ever);
    html! {
        div.tile {
            span.what { (words.peers_online) }
            b { (units::count(online.count() as u64, language)) }
            span { (words.of) " " (units::count(status.peers.len() as u64, language)) }
        }
        div.tile.rx { span.what { (words.to_hub) } b { (rate(now.rx_bytes)) }
            span { (ever(units::bytes(seen.report.stats.traffic.rx_bytes, language))) } }
        div.tile.tx { span.what { (words.from_hub) } b { (rate(now.tx_bytes)) }
            span { (ever(units::bytes(seen.report.stats.traffic.tx_bytes, language))) } }
        div.tile.relayed { span.what { (words.relayed) } b { (rate(now.relayed_bytes)) }
            span { (ever(units::bytes(seen.report.stats.traffic.relayed_bytes, language))) } }
        div.tile.drops { span.what { (words.drops) } b { (units::count(now.drops, language)) "/s" }
            span { (ever(units::count(seen.report.stats.drops.sum(), language))) } }
        div.tile { span.what { (words.uptime) } b { (units::span(status.uptime_seconds)) }
            span { (modes(seen, language)) } }
    }
}

/// The modes of the XDP program, each once.
fn modes(seen: &Seen, language: Language) -> String {
    let mut modes: Vec<&str> = Vec::new();
    for place in &seen.report.status.xdp {
        let mode = xdp(place.mode, language);
        if !modes.contains(&mode) {
            modes.push(mode);
        }
    }
    modes.join(", ")
}

fn reasons(seen: &Seen, language: Language) -> Markup {
    let words = language.words();
    let mut largest = seen.report.stats.drops.largest_first();
    largest.truncate(REASONS);
    html! {
        @if largest.is_empty() {
            p.hint { (words.no_drops) }
        } @else {
            p.hint { (words.drops) " " (words.ever) ": "
                @for (place, (reason, count)) in largest.iter().enumerate() {
                    @if place > 0 { ", " }
                    (drop_reason(*reason, language)) " " b { (units::count(*count, language)) }
                }
            }
        }
    }
}

fn rows(seen: &Seen, listed: &Listed, language: Language) -> Markup {
    html! {
        @for peer in listed::peers(seen, listed) {
            tr id=(row_id(peer)) role="row" { (row(peer, language)) }
        }
    }
}

/// What is in the row of a peer.
fn row(peer: &PeerStatus, language: Language) -> Markup {
    let words = language.words();
    html! {
        th scope="row" role="rowheader" {
            a href=(of_peer("/peer", &peer.public_key)) { bdi { (peer.label()) } }
            @if let Some(net) = peer.allowed_ips.first() {
                span.sub { (net.addr()) }
            }
        }
        td.standing role="cell" { (state(peer, words)) }
        (moving(peer, language))
        td.number role="cell" data-label=(words.moved) {
            (units::bytes(peer.rx_bytes.saturating_add(peer.tx_bytes), language))
        }
        td.place role="cell" data-label=(words.place) { (place(peer)) }
    }
}

/// How fast a peer is, both ways.
fn moving(peer: &PeerStatus, language: Language) -> Markup {
    let words = language.words();
    let rates = peer.rates;
    let shown = |bytes: Option<u64>| match bytes {
        Some(0) => "0".to_owned(),
        Some(bytes) => units::rate(bytes, language),
        None => "–".to_owned(),
    };
    html! {
        td.number role="cell" data-label=(words.up) { (shown(rates.map(|rates| rates.rx_bytes))) }
        td.number role="cell" data-label=(words.down) { (shown(rates.map(|rates| rates.tx_bytes))) }
    }
}

fn place(peer: &PeerStatus) -> String {
    match (peer.endpoint, &peer.endpoint_name) {
        (Some(endpoint), _) => endpoint.to_string(),
        (None, Some(name)) => name.clone(),
        (None, None) => "–".to_owned(),
    }
}

/// Whether it is there, in a word and a colour.
pub(super) fn state(peer: &PeerStatus, words: &Words) -> Markup {
    // Data comes more often than handshakes do.
    let age = peer.seen_seconds.or(peer.latest_handshake_seconds);
    let (class, word) = if !peer.banned.is_empty() {
        ("bad", words.is_banned)
    } else if peer.refused.is_some() {
        ("bad", words.is_refused)
    } else if peer.has_session() {
        ("good", words.is_online)
    } else if peer.problem.is_some() {
        ("odd", words.has_problem)
    } else {
        ("off", words.is_offline)
    };
    html! {
        span class={ "state " (class) } { (word) }
        span.sub {
            @match age {
                Some(age) => { (since(age, words)) }
                None => { (words.never) }
            }
        }
    }
}

/// How long ago, in the order of words of its language.
pub(super) fn since(seconds: f64, words: &Words) -> String {
    match whole_seconds(seconds) {
        // Who is there is heard every few seconds: a count of these says nothing, and changes always.
        0..JUST_NOW => words.just_now.to_owned(),
        seconds => filled(words.since, &[&units::span(seconds)]),
    }
}

fn pages(listed: &Listed, query: &Query, words: &Words) -> Markup {
    let before = listed.page.saturating_sub(1);
    let after = listed.page.saturating_add(1);
    html! {
        @if listed.pages > 1 {
            nav.pages aria-label=(words.page_of) {
                @if before > 0 { a rel="prev" href=(query.at("/", before)) { (words.previous) } }
                span { (words.page_of) " " (listed.page) " / " (listed.pages) " · " (listed.found) }
                @if after <= listed.pages { a rel="next" href=(query.at("/", after)) { (words.next) } }
            }
        }
    }
}
