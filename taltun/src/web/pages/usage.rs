//! What peers moved in the last 30 days.

use maud::{Markup, html};

use super::layout::{self, Frame};
use super::query::of_peer;
use crate::report::{DayUsage, PeerUsage, Usage};
use crate::web::units;
use crate::web::words::Language;

/// Peers that are shown, those that moved most.
const SHOWN: usize = 200;

/// The page.
pub(super) fn page(frame: &Frame<'_>, interface: &str, usage: Option<&Usage>) -> Markup {
    let (language, words) = (frame.language, frame.language.words());
    let peers = usage.map_or(&[][..], |usage| &usage.peers);
    let most = peers.iter().map(together).max().unwrap_or(0).max(1);
    layout::page(
        frame,
        interface,
        words.usage,
        None,
        &html! {
            h1 { (words.usage) }
            section.card {
                h2 { (words.days_of_usage) }
                @if peers.is_empty() { p.empty { (words.nothing_moved) } } @else {
                    table.cards role="table" {
                        thead role="rowgroup" { tr role="row" {
                            th role="columnheader" { (words.peer) }
                            th.number role="columnheader" { (words.received) }
                            th.number role="columnheader" { (words.sent) }
                            th.number role="columnheader" { (words.total) }
                            th role="columnheader" { span.hidden { (words.total) } }
                        } }
                        tbody role="rowgroup" { @for peer in peers.iter().take(SHOWN) {
                            tr role="row" {
                                th scope="row" role="rowheader" {
                                    a href=(of_peer("/peer", &peer.public_key)) {
                                        bdi { (peer.name.as_deref().unwrap_or(&peer.public_key)) }
                                    }
                                }
                                td.number role="cell" data-label=(words.received) { (units::bytes(peer.rx_bytes, language)) }
                                td.number role="cell" data-label=(words.sent) { (units::bytes(peer.tx_bytes, language)) }
                                td.number role="cell" data-label=(words.total) { (units::bytes(together(peer), language)) }
                                td.share role="cell" { (bar(together(peer), most)) }
                            }
                        } }
                    }
                    @if peers.len() > SHOWN {
                        p.hint { (words.shown_of) " " (units::count(peers.len() as u64, language)) "." }
                    }
                }
            }
        },
    )
}

fn together(peer: &PeerUsage) -> u64 {
    peer.rx_bytes.saturating_add(peer.tx_bytes)
}

/// How much it is of the most.
fn bar(number: u64, most: u64) -> Markup {
    let percent = number as f64 / most as f64 * 100.0;
    html! {
        svg viewBox="0 0 100 8" preserveAspectRatio="none" aria-hidden="true" {
            rect width=(format!("{percent:.1}")) height="8" {}
        }
    }
}

/// A peer's days.
pub(super) fn days(days: &[DayUsage], language: Language) -> Markup {
    let words = language.words();
    let all = |day: &DayUsage| day.rx_bytes.saturating_add(day.tx_bytes);
    let most = days.iter().map(all).max().unwrap_or(0).max(1);
    html! {
        table.cards role="table" {
            thead role="rowgroup" { tr role="row" {
                th role="columnheader" { (words.day) }
                th.number role="columnheader" { (words.received) }
                th.number role="columnheader" { (words.sent) }
                th role="columnheader" { span.hidden { (words.total) } }
            } }
            tbody role="rowgroup" { @for day in days.iter().rev() {
                tr role="row" {
                    th scope="row" role="rowheader" { (day.day) }
                    td.number role="cell" data-label=(words.received) { (units::bytes(day.rx_bytes, language)) }
                    td.number role="cell" data-label=(words.sent) { (units::bytes(day.tx_bytes, language)) }
                    td.share role="cell" { (bar(all(day), most)) }
                }
            } }
        }
    }
}
