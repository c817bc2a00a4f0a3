//! Adding a peer: the form, and what its device needs, shown this once.

use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use maud::{Markup, html};
use zeroize::Zeroizing;

use super::layout::{self, Frame, held};
use super::query::of_peer;
use crate::client_file::code::Code;
use crate::web::new_peer::Added;

/// Modules of nothing around a code, so that cameras find it (ISO/IEC 18004).
const QUIET: usize = 4;

/// The form.
pub(super) fn form(frame: &Frame<'_>, interface: &str) -> Markup {
    let words = frame.language.words();
    layout::page(
        frame,
        interface,
        words.add_peer,
        None,
        &html! {
            p.back { a href="/" { "← " (words.all_peers) } }
            h1 { (words.add_peer) }
            section.card {
                form.row method="post" action="/new" {
                    (held(frame))
                    div { label for="name" { (words.name) }
                        input #name type="text" name="name" required maxlength="63" autocomplete="off"
                            autocapitalize="none" spellcheck="false" placeholder=(words.name_hint); }
                    div { label for="expires" { (words.expires) " (" (words.optional) ")" }
                        input #expires type="date" name="expires"; }
                    div { label for="endpoint" { (words.hub_place) " (" (words.optional) ")" }
                        input #endpoint type="text" name="endpoint" maxlength="253" autocomplete="off"
                            autocapitalize="none" spellcheck="false" placeholder="vpn.example.org:9000"; }
                    div.check { label { input type="checkbox" name="psk" value="1" checked; " " (words.preshared) } }
                    button type="submit" { (words.add) }
                }
                p.hint { (words.add_hint) }
            }
        },
    )
}

/// What the device of a new peer needs.
pub(crate) fn added(frame: &Frame<'_>, added: &Added) -> Markup {
    let words = frame.language.words();
    let edited = &added.edited;
    let name = edited.name.as_deref().unwrap_or(&edited.public_key);
    layout::page(
        frame,
        &edited.interface,
        words.add_peer,
        None,
        &html! {
            p.back { a href="/" { "← " (words.all_peers) } }
            h1 { bdi { (name) } }
            p.notice.done role="status" { (edited.done) }
            @for warning in &edited.warnings { p.notice.refused role="status" { (warning) } }
            section.card {
                h2 { (words.shown_once) }
                @match &added.code {
                    Some(code) => { p { (words.scan) } (drawn(code, words.scan)) }
                    None => p.hint { (words.too_long_for_code) },
                }
            }
            section.card {
                h2 { (words.for_wireguard) }
                p { (saved(&added.wg_quick, name, "conf", words.save)) }
                textarea.file #wg-file readonly rows="12" spellcheck="false" aria-label=(words.for_wireguard) { (*added.wg_quick) }
            }
            section.card {
                h2 { (words.for_taltun) }
                p { (saved(&added.toml, name, "toml", words.save)) }
                textarea.file readonly rows="12" spellcheck="false" aria-label=(words.for_taltun) { (*added.toml) }
            }
            p { a href=(of_peer("/peer", &edited.public_key)) { bdi { (name) } } }
            p.hint { (words.undo) " " code { (edited.undo) } }
        },
    )
}

/// A link that saves a text as a file, without asking anybody for it again.
fn saved(text: &str, name: &str, ending: &str, word: &str) -> Markup {
    let safe = |c: char| {
        if c.is_alphanumeric() || "-_.".contains(c) {
            c
        } else {
            '-'
        }
    };
    let file: String = name.chars().map(safe).collect();
    let text = Zeroizing::new(BASE64.encode(text));
    html! {
        a.button download={ (file) "." (ending) } href={ "data:text/plain;base64," (*text) } { (word) }
    }
}

/// A code as one path, dark on white whatever the page is.
fn drawn(code: &Code, about: &str) -> Markup {
    let size = code.size();
    let whole = size.saturating_add(2 * QUIET);
    let mut path = String::new();
    for y in 0..size {
        for x in (0..size).filter(|x| code.is_dark(*x, y)) {
            let (x, y) = (x.saturating_add(QUIET), y.saturating_add(QUIET));
            // Writing to a String can't fail.
            let _ = write!(path, "M{x} {y}h1v1h-1z");
        }
    }
    html! {
        svg.code viewBox={ "0 0 " (whole) " " (whole) } role="img" aria-label=(about) shape-rendering="crispEdges" {
            rect width=(whole) height=(whole) fill="#fff" {}
            path d=(path) fill="#000" {}
        }
    }
}
