//! A peer by itself: what is known of it, what it moved, and what can be done about it.

use maud::{Markup, html};

use super::forms::{button, durations, file_fields, name_field};
use super::layout::{self, Frame, held};
use super::overview::{since, state};
use super::part::Part;
use super::query::{Query, of_peer};
use super::set;
use super::usage::days;
use crate::report::{PeerStatus, Usage};
use crate::web::reports::Seen;
use crate::web::units;
use crate::web::words::{Language, period, problem, refused_by};

/// The page; `None` if there is no such peer.
pub(super) fn page(
    frame: &Frame<'_>,
    seen: &Seen,
    usage: Option<&Usage>,
    query: &Query,
) -> Option<Markup> {
    let (language, words) = (frame.language, frame.language.words());
    let peer = find(seen, &query.peer)?;
    let key = peer.public_key.as_str();
    let live = of_peer("/live", key);
    let is_banned = peer.banned.iter().any(|ban| ban.banned);
    let used = usage.and_then(|usage| usage.peers.first());
    let content = html! {
        p.back { a href="/" { "← " (words.all_peers) } }
        h1 { bdi { (peer.label()) } }
        section.card { div #facts { (facts(peer, language)) } }
        section.card {
            h2 { (words.days_of_usage) }
            @match used {
                Some(used) if !used.days.is_empty() => (days(&used.days, language)),
                _ => p.empty { (words.nothing_moved) },
            }
        }
        section.card {
            h2 { (words.ban_this) }
            form.row method="post" action="/ban-peer" {
                (held(frame))
                input type="hidden" name="key" value=(key);
                div { label for="for" { (words.how_long) } select #for name="for" { (durations(frame)) } }
                button.danger type="submit" { (words.ban) }
            }
            @if is_banned {
                (button(frame, "/unban-peer", &[("key", key)], "plain", words.unban, peer.label()))
            }
        }
        section.card { (set::form(frame, peer)) }
        section.card {
            h2 { (words.rename_this) }
            form.row method="post" action="/rename" {
                (held(frame))
                input type="hidden" name="key" value=(key);
                (name_field(frame, words.new_name, peer.name.as_deref().unwrap_or_default()))
                button type="submit" { (words.rename) }
            }
        }
        section.card {
            details open[frame.typed.get("endpoint").is_some()] {
                summary { (words.new_keys) }
                p { (words.new_keys_hint) }
                form.row method="post" action="/rotate" {
                    (held(frame))
                    input type="hidden" name="key" value=(key);
                    (file_fields(frame, peer.preshared_key))
                    button.danger type="submit" aria-label=(words.new_keys_make) { (words.new_keys_make) }
                }
            }
        }
        section.card {
            details {
                summary { (words.remove_this) }
                p { (words.remove_hint) }
                (button(frame, "/remove", &[("key", key)], "danger", words.remove, peer.label()))
            }
        }
    };
    let interface = &seen.report.status.interface;
    Some(layout::page(
        frame,
        interface,
        peer.label(),
        Some(&live),
        &content,
    ))
}

/// What changes while somebody looks.
pub(super) fn parts(seen: &Seen, query: &Query, language: Language) -> Vec<Part> {
    let peer = find(seen, &query.peer).into_iter();
    peer.map(|peer| Part::of("facts", facts(peer, language)))
        .collect()
}

fn find<'s>(seen: &'s Seen, key: &str) -> Option<&'s PeerStatus> {
    let mut peers = seen.report.status.peers.iter();
    peers.find(|peer| peer.public_key == key)
}

fn facts(peer: &PeerStatus, language: Language) -> Markup {
    let words = language.words();
    let rates = peer.rates.unwrap_or_default();
    let both = |rate: u64, bytes: u64| {
        let (rate, bytes) = (units::rate(rate, language), units::bytes(bytes, language));
        format!("{rate} · {bytes} {}", words.ever)
    };
    let limit = |bits: u64| units::rate(bits / 8, language);
    let nets: Vec<String> = peer.allowed_ips.iter().map(ToString::to_string).collect();
    let rate_up = peer.rate_up.as_ref().and_then(|rate| rate.bits_per_second);
    let rate_down = peer.rate_down.as_ref();
    let rate_down = rate_down.and_then(|rate| rate.bits_per_second);
    html! {
        dl.facts {
            dt { (words.state) } dd { (state(peer, words)) }
            dt { (words.up) } dd { (both(rates.rx_bytes, peer.rx_bytes)) }
            dt { (words.down) } dd { (both(rates.tx_bytes, peer.tx_bytes)) }
            dt { (words.place) } dd { @match peer.endpoint {
                Some(endpoint) => { (endpoint) }
                None => { (peer.endpoint_name.as_deref().unwrap_or(words.not_known)) }
            } }
            dt { (words.addresses) } dd { (nets.join(", ")) }
            dt { (words.public_key) } dd { code { (peer.public_key) } }
            dt { (words.preshared_key) } dd { (if peer.preshared_key { words.yes } else { words.none }) }
            @if let Some(trouble) = &peer.problem {
                dt { (words.problem) }
                dd { (problem(trouble, language)) " (" (since(trouble.seconds_ago, words)) ")" }
            }
            @if let Some(reason) = peer.refused { dt { (words.is_refused) } dd { (refused_by(reason, language)) } }
            @if !peer.banned.is_empty() {
                dt { (words.bans) }
                dd { ul.plain { @for ban in &peer.banned { li { (ban.net) ", "
                    @if ban.banned { (words.by_hand) } @else { (words.by_file) }
                    @if let Some(left) = ban.seconds_left { ", " (units::span(left)) }
                } } } }
            }
            @if let Some(quota) = &peer.quota {
                dt { (words.quota) }
                dd { (units::bytes(quota.used_bytes, language)) " / " (units::bytes(quota.bytes, language))
                    " " (period(&quota.period, language)) }
            }
            @if let Some(day) = &peer.expires { dt { (words.expires) } dd { (day) } }
            @if let Some(bits) = rate_up { dt { (words.limit_up) } dd { (limit(bits)) } }
            @if let Some(bits) = rate_down { dt { (words.limit_down) } dd { (limit(bits)) } }
            @if let Some(seconds) = peer.persistent_keepalive {
                dt { (words.keepalive) } dd { (units::span(seconds.into())) }
            }
        }
    }
}
