//! Who sends, outside and inside, and what is banned.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;

use maud::{Markup, html};

use super::forms::{button, chosen, durations};
use super::layout::{self, Frame, held};
use super::overview::since;
use super::part::Part;
use crate::layer::Layer;
use crate::report::{self, BanStatus, PeerStatus, Source};
use crate::web::reports::{Seen, SourceRate, of_layer};
use crate::web::units;
use crate::web::words::drop_reason;

/// Sources that are shown of each side.
const SHOWN: usize = 50;
/// The query of what changes while somebody looks.
pub(super) const VIEW: &str = "sources";

/// Which sources are shown, in their order. A row that changed places under a finger would be a trap, as it
/// has a button.
#[derive(Debug, Default)]
pub(super) struct Shown {
    outside: Vec<IpAddr>,
    inside: Vec<IpAddr>,
}

/// The page.
pub(super) fn page(frame: &Frame<'_>, seen: &Seen) -> Markup {
    let (language, words) = (frame.language, frame.language.words());
    let report = &seen.report;
    let unknown = &report.status.unknown_keys;
    let shown = Shown::default().with_new(seen);
    let live = format!("/live?view={VIEW}");
    let typed = |name| frame.typed.get(name).unwrap_or_default();
    layout::page(
        frame,
        &report.status.interface,
        words.sources,
        Some(&live),
        &html! {
            h1 { (words.sources) }
            section.card {
                h2 { (words.ban_network) }
                form.row method="post" action="/ban" {
                    (held(frame))
                    div { label for="net" { (words.network) }
                        input #net type="text" name="net" required maxlength="100" placeholder="198.51.100.0/24"
                            value=(typed("net")) autocapitalize="none" spellcheck="false" autocomplete="off"; }
                    div { label for="layer" { (words.layer) } select #layer name="layer" {
                        (chosen("outside", words.outside_long, typed("layer") != "inside"))
                        (chosen("inside", words.inside_long, typed("layer") == "inside"))
                    } }
                    div { label for="for" { (words.how_long) } select #for name="for" { (durations(frame)) } }
                    button.danger type="submit" { (words.ban) }
                }
                h3 { (words.bans) }
                div #bans { (bans(frame, &report.stats.bans)) }
            }
            section.card { h2 { (words.sources_outside) } div #outside { (sources(frame, seen, &shown, Layer::Outer)) } }
            section.card { h2 { (words.sources_inside) } div #inside { (sources(frame, seen, &shown, Layer::Inner)) } }
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

/// What changes while somebody looks.
pub(super) fn parts(frame: &Frame<'_>, seen: &Seen, shown: &Shown) -> Vec<Part> {
    vec![
        Part::of("bans", bans(frame, &seen.report.stats.bans)),
        Part::of("outside", sources(frame, seen, shown, Layer::Outer)),
        Part::of("inside", sources(frame, seen, shown, Layer::Inner)),
    ]
}

impl Shown {
    /// The same with sources that are new, below those that there are: at first those that send most
    /// now, or did.
    pub(super) fn with_new(mut self, seen: &Seen) -> Self {
        for layer in [Layer::Outer, Layer::Inner] {
            let rate = |source: &Source| seen.source(layer, source.addr).unwrap_or_default();
            let mut all: Vec<&Source> = of_layer(&seen.report.stats, layer).iter().collect();
            // Those of equal rates stay in the tunnel's order.
            all.sort_by_cached_key(|source| {
                let SourceRate { packets, drops } = rate(source);
                std::cmp::Reverse((drops, packets))
            });
            let ours = self.of_mut(layer);
            let known: HashSet<IpAddr> = ours.iter().copied().collect();
            let new = all.into_iter().map(|source| source.addr);
            let room = SHOWN.saturating_sub(ours.len());
            ours.extend(new.filter(|it| !known.contains(it)).take(room));
        }
        self
    }

    fn of_mut(&mut self, layer: Layer) -> &mut Vec<IpAddr> {
        match layer {
            Layer::Outer => &mut self.outside,
            Layer::Inner => &mut self.inside,
        }
    }

    fn of(&self, layer: Layer) -> &[IpAddr] {
        match layer {
            Layer::Outer => &self.outside,
            Layer::Inner => &self.inside,
        }
    }
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
                    // By the minute: it is a promise, and no clock.
                    (true, Some(left)) => (units::span(minutes(left))),
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

/// Whole minutes, where there are some.
fn minutes(seconds: u64) -> u64 {
    if seconds < 120 {
        seconds
    } else {
        seconds.saturating_sub(seconds % 60)
    }
}

fn sources(frame: &Frame<'_>, seen: &Seen, shown: &Shown, layer: Layer) -> Markup {
    let (language, words) = (frame.language, frame.language.words());
    let all = of_layer(&seen.report.stats, layer);
    let by_address: HashMap<IpAddr, &Source> =
        all.iter().map(|source| (source.addr, source)).collect();
    html! {
        @if all.is_empty() {
            p.empty { (words.no_sources) }
        } @else {
            table.cards role="table" {
                thead role="rowgroup" { tr role="row" {
                    th role="columnheader" { (words.address) }
                    th.number role="columnheader" { (words.now_in) }
                    th.number role="columnheader" { (words.dropped_now) }
                    th.number role="columnheader" { (words.packets) }
                    th.number role="columnheader" { (words.bytes) }
                    th.number role="columnheader" { (words.dropped) }
                    th.place role="columnheader" { (words.why) }
                    th role="columnheader" { span.hidden { (words.ban) } }
                } }
                tbody role="rowgroup" {
                    @for source in shown.of(layer).iter().filter_map(|address| by_address.get(address)) {
                        (source_row(frame, seen, source, layer))
                    }
                }
            }
            p.hint { (words.dropped_early) }
            @if all.len() > SHOWN {
                p.hint { (words.shown_of) " " (units::count(all.len() as u64, language)) "." }
            }
        }
    }
}

fn source_row(frame: &Frame<'_>, seen: &Seen, source: &Source, layer: Layer) -> Markup {
    let (language, words) = (frame.language, frame.language.words());
    let count = |number| units::count(number, language);
    let address = source.addr.to_string();
    let values = [
        ("net", &*address),
        ("layer", word(layer)),
        ("seen", "1"),
        ("for", "3600"),
    ];
    // That one stands for many.
    let can_be_banned = !source.addr.is_unspecified();
    let text = format!("{} {}", words.ban, words.one_hour);
    let rate = seen.source(layer, source.addr);
    let now = |value: Option<u64>| match value {
        Some(0) => "0".to_owned(),
        Some(value) => format!("{}/s", count(value)),
        None => "–".to_owned(),
    };
    html! {
        tr id={ (word(layer)) "-" (address) } role="row" {
            th scope="row" role="rowheader" {
                @if can_be_banned { (address) } @else { (words.others) }
                @if let Some(peer) = owner(&seen.report.status.peers, source.addr, layer) {
                    span.sub { bdi { (peer.label()) } }
                }
            }
            td.number role="cell" data-label=(words.now_in) { (now(rate.map(|rate| rate.packets))) }
            td.number role="cell" data-label=(words.dropped_now) { (now(rate.map(|rate| rate.drops))) }
            td.number role="cell" data-label=(words.packets) { (count(source.packets)) }
            td.number role="cell" data-label=(words.bytes) { (units::bytes(source.bytes, language)) }
            td.number role="cell" data-label=(words.dropped) { (count(source.drops)) }
            td.place role="cell" data-label=(words.why) {
                @match source.reason { Some(reason) => (drop_reason(reason, language)), None => "–" }
            }
            td.action role="cell" {
                @if can_be_banned { (button(frame, "/ban", &values, "danger small", &text, &address)) }
            }
        }
    }
}

/// Whose address that is.
fn owner(peers: &[PeerStatus], address: IpAddr, layer: Layer) -> Option<&PeerStatus> {
    let is_at = |peer: &&PeerStatus| {
        let endpoint = peer.endpoint.map(|endpoint| endpoint.ip().to_canonical());
        endpoint == Some(address)
    };
    match layer {
        Layer::Outer => peers.iter().find(is_at),
        Layer::Inner => report::owner(peers, address).map(|(peer, _)| peer),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::schema;
    use crate::web::Report;

    fn seen(addresses: &[&str]) -> Seen {
        let (status, mut stats) = schema::full();
        let one = stats.sources[0].clone();
        let all = addresses.iter().map(|text| Source {
            addr: text.parse().unwrap(),
            ..one.clone()
        });
        stats.sources = all.collect();
        Seen::alone(Report {
            status,
            stats,
            moments: Vec::new(),
        })
    }

    #[test]
    fn a_row_keeps_its_place_and_new_ones_come_below() {
        let shown = Shown::default().with_new(&seen(&["192.0.2.1", "192.0.2.2"]));
        let shown = shown.with_new(&seen(&["192.0.2.9", "192.0.2.2", "192.0.2.1"]));
        let addresses: Vec<String> = shown.outside.iter().map(ToString::to_string).collect();
        assert_eq!(addresses, ["192.0.2.1", "192.0.2.2", "192.0.2.9"]);
        let many: Vec<String> = (0..200).map(|last| format!("198.51.100.{last}")).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        assert_eq!(shown.with_new(&seen(&many)).outside.len(), SHOWN);
    }

    #[test]
    fn the_smallest_network_says_whose_an_address_is() {
        let (status, _) = schema::full();
        let peer = |name: &str, net: &str, endpoint: &str| PeerStatus {
            name: Some(name.to_owned()),
            allowed_ips: vec![net.parse().unwrap()],
            endpoint: Some(endpoint.parse().unwrap()),
            ..status.peers[0].clone()
        };
        let peers = [
            peer("site", "10.0.0.0/8", "192.0.2.1:1"),
            peer("phone", "10.0.0.7/32", "[::ffff:192.0.2.2]:1"),
        ];
        let name = |address: &str, layer| {
            let peer = owner(&peers, address.parse().unwrap(), layer);
            peer.map(PeerStatus::label)
        };
        assert_eq!(name("10.0.0.7", Layer::Inner), Some("phone"));
        assert_eq!(name("10.0.0.8", Layer::Inner), Some("site"));
        assert_eq!(name("192.0.2.2", Layer::Outer), Some("phone"));
        assert_eq!(name("192.0.2.2", Layer::Inner), None);
    }
}
