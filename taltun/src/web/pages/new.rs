//! Adding a peer: the form. And what a device with new keys needs, shown this once.

use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use maud::{Markup, html};
use zeroize::Zeroizing;

use super::forms::{file_fields, name_field};
use super::layout::{self, Frame, held};
use super::query::of_peer;
use crate::client_file;
use crate::client_file::code::Code;
use crate::web::new_peer::Keyed;
use crate::web::words::filled;

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
                    (name_field(frame, words.name, ""))
                    div { label for="expires" { (words.expires) " (" (words.optional) ")" }
                        input #expires type="date" name="expires" value=(frame.typed.get("expires").unwrap_or_default()); }
                    (file_fields(frame, false))
                    button type="submit" { (words.add) }
                }
                p.hint { (words.add_hint) }
            }
        },
    )
}

/// What the device needs of a peer that was added, or has other keys.
pub(crate) fn keyed(frame: &Frame<'_>, keyed: &Keyed) -> Markup {
    let words = frame.language.words();
    let edited = &keyed.edited;
    let name = edited.name.as_deref().unwrap_or(&edited.public_key);
    let (title, done) = match frame.path {
        "/new" => (words.add_peer, words.done_add),
        _ => (words.new_keys, words.done_new_keys),
    };
    layout::page(
        frame,
        &edited.interface,
        title,
        None,
        &html! {
            p.back { a href="/" { "← " (words.all_peers) } }
            h1 { bdi { (name) } }
            p.notice.done role="status" { (filled(done, &[name])) }
            @for warning in &edited.warnings { p.notice role="status" { (warning) } }
            section.card {
                h2 { (words.shown_once) }
                p.hint { (words.shown_once_hint) }
                @match &keyed.code {
                    Some(code) => { p { (words.scan) } (drawn(code, words.scan)) }
                    None => p.hint { (words.too_long_for_code) },
                }
            }
            section.card {
                h2 { (words.for_wireguard) }
                p { (saved(&keyed.wg_quick, name, "conf", words.save)) }
                textarea.file #wg-file readonly rows="12" spellcheck="false" aria-label=(words.for_wireguard) { (*keyed.wg_quick) }
            }
            section.card {
                h2 { (words.for_taltun) }
                p { (saved(&keyed.toml, name, "toml", words.save)) }
                textarea.file readonly rows="12" spellcheck="false" aria-label=(words.for_taltun) { (*keyed.toml) }
            }
            p { a href=(of_peer("/peer", &edited.public_key)) { bdi { (name) } } }
            p.hint { (words.undo) " " code { (edited.undo) } }
        },
    )
}

/// A link that saves a text as a file, without asking anybody for it again.
fn saved(text: &str, name: &str, ending: &str, word: &str) -> Markup {
    let file = client_file::stem(name);
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
