//! Who sends, outside and inside, and what is banned.

use maud::{Markup, html};

use super::forms::{button, durations};
use super::layout::{self, Frame, held};
use super::overview::since;
use crate::layer::Layer;
use crate::report::{BanStatus, Source};
use crate::web::{Report, units};

/// Sources that are shown of each side.
const SHOWN: usize = 50;

/// The page.
pub(super) fn page(frame: &Frame<'_>, report: &Report) -> Markup {
    let (language, words) = (frame.language, frame.language.words());
    let stats = &report.stats;
    let unknown = &report.status.unknown_keys;
    layout::page(
        frame,
        &report.status.interface,
        words.sources,
        None,
        &html! {
            h1 { (words.sources) }
            section.card {
                h2 { (words.ban_network) }
                form.row method="post" action="/ban" {
                    (held(frame))
                    div { label for="net" { (words.network) }
                        input #net type="text" name="net" required maxlength="100" placeholder="198.51.100.0/24"
                            autocapitalize="none" spellcheck="false" autocomplete="off"; }
                    div { label for="layer" { (words.layer) } select #layer name="layer" {
                        option value="outside" { (words.outside_long) }
                        option value="inside" { (words.inside_long) }
                    } }
                    div { label for="for" { (words.how_long) } select #for name="for" { (durations(words)) } }
                    button.danger type="submit" { (words.ban) }
                }
                h3 { (words.bans) }
                (bans(frame, &stats.bans))
            }
            section.card { h2 { (words.sources_outside) } (sources(frame, &stats.sources, Layer::Outer)) }
            section.card { h2 { (words.sources_inside) } (sources(frame, &stats.sources_inner, Layer::Inner)) }
            @if !unknown.is_empty() {
                section.card {
                    h2 { (words.unknown_keys) }
                    table.cards role="table" {
                        thead role="rowgroup" { tr role="row" {
                            th role="columnheader" { (words.public_key) }
                            th role="columnheader" { (words.address) }
                            th.number role="columnheader" { (words.tries) }
                        } }
                        tbody role="rowgroup" {
                            @for key in unknown {
                                tr role="row" {
                                    th scope="row" role="rowheader" { code { (key.public_key) } }
                                    td role="cell" data-label=(words.address) { (key.endpoint)
                                        span.sub { (since(key.seconds_ago, words)) } }
                                    td.number role="cell" data-label=(words.tries) { (units::count(key.tries, language)) }
                                }
                            }
                        }
                    }
                }
            }
        },
    )
}

/// A layer, as forms have it.
fn word(layer: Layer) -> &'static str {
    match layer {
        Layer::Inner => "inside",
        Layer::Outer => "outside",
    }
}

fn bans(frame: &Frame<'_>, bans: &[BanStatus]) -> Markup {
    let words = frame.language.words();
    html! {
        @if bans.is_empty() {
            p.empty { (words.no_bans) }
        } @else {
            table.cards role="table" {
                thead role="rowgroup" { tr role="row" {
                    th role="columnheader" { (words.network) }
                    th role="columnheader" { (words.layer) }
                    th role="columnheader" { (words.ends) }
                    th role="columnheader" { span.hidden { (words.unban) } }
                } }
                tbody role="rowgroup" { @for ban in bans { (ban_row(frame, ban)) } }
            }
        }
    }
}

fn ban_row(frame: &Frame<'_>, ban: &BanStatus) -> Markup {
    let words = frame.language.words();
    let net = ban.net.to_string();
    let values = [("net", &*net), ("layer", word(ban.layer))];
    html! {
        tr role="row" {
            th scope="row" role="rowheader" {
                (net)
                @if !ban.peers.is_empty() { span.sub { bdi { (ban.peers.join(", ")) } } }
            }
            td role="cell" data-label=(words.layer) {
                @match ban.layer { Layer::Inner => (words.inside), Layer::Outer => (words.outside) }
            }
            td role="cell" data-label=(words.ends) {
                @match (ban.banned, ban.seconds_left) {
                    (true, Some(left)) => (units::span(left)),
                    (true, None) => (words.until_unbanned),
                    (false, _) => (words.by_file),
                }
            }
            td.action role="cell" {
                @if ban.banned { (button(frame, "/unban", &values, "plain", words.unban, &net)) }
            }
        }
    }
}

fn sources(frame: &Frame<'_>, sources: &[Source], layer: Layer) -> Markup {
    let (language, words) = (frame.language, frame.language.words());
    html! {
        @if sources.is_empty() {
            p.empty { (words.no_sources) }
        } @else {
            table.cards role="table" {
                thead role="rowgroup" { tr role="row" {
                    th role="columnheader" { (words.address) }
                    th.number role="columnheader" { (words.packets) }
                    th.number role="columnheader" { (words.bytes) }
                    th.number role="columnheader" { (words.dropped) }
                    th.place role="columnheader" { (words.why) }
                    th role="columnheader" { span.hidden { (words.ban) } }
                } }
                tbody role="rowgroup" {
                    @for source in sources.iter().take(SHOWN) { (source_row(frame, source, layer)) }
                }
            }
            @if sources.len() > SHOWN {
                p.hint { (words.shown_of) " " (units::count(sources.len() as u64, language)) "." }
            }
        }
    }
}

fn source_row(frame: &Frame<'_>, source: &Source, layer: Layer) -> Markup {
    let (language, words) = (frame.language, frame.language.words());
    let count = |number| units::count(number, language);
    let address = source.addr.to_string();
    let values = [("net", &*address), ("layer", word(layer)), ("for", "3600")];
    // That one stands for many.
    let can_be_banned = !source.addr.is_unspecified();
    let text = format!("{} {}", words.ban, words.one_hour);
    html! {
        tr role="row" {
            th scope="row" role="rowheader" { (address) }
            td.number role="cell" data-label=(words.packets) { (count(source.packets)) }
            td.number role="cell" data-label=(words.bytes) { (units::bytes(source.bytes, language)) }
            td.number role="cell" data-label=(words.dropped) { (count(source.drops)) }
            td.place role="cell" data-label=(words.why) {
                @match source.reason { Some(reason) => (reason.label()), None => "–" }
            }
            td.action role="cell" {
                @if can_be_banned { (button(frame, "/ban", &values, "danger small", &text, &address)) }
            }
        }
    }
}
