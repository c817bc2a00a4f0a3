//! Pieces of forms that several pages have.

use maud::{Markup, html};

use super::layout::{Frame, held};
use crate::web::once;

/// For how long something is banned: an hour, if nothing else was chosen.
pub(super) fn durations(frame: &Frame<'_>) -> Markup {
    let words = frame.language.words();
    let typed = frame.typed.get("for").unwrap_or("3600");
    let all = [
        ("600", words.ten_minutes),
        ("3600", words.one_hour),
        ("86400", words.one_day),
        ("", words.until_unbanned),
    ];
    html! { @for (value, word) in all { (chosen(value, word, typed == value)) } }
}

/// One of several that can be chosen.
pub(super) fn chosen(value: &str, word: &str, is_chosen: bool) -> Markup {
    html! { option value=(value) selected[is_chosen] { (word) } }
}

/// Where the peer's file says that the hub is, and whether there is a preshared key. Whoever has one
/// gets another one, unless somebody takes the tick away.
pub(super) fn file_fields(frame: &Frame<'_>, has_psk: bool) -> Markup {
    let words = frame.language.words();
    let typed = frame.typed.get("endpoint");
    let endpoint = typed.unwrap_or_default();
    let psk = match typed {
        Some(_) => frame.typed.get("psk").is_some(),
        None => has_psk,
    };
    let preshared = if has_psk {
        words.preshared_again
    } else {
        words.preshared
    };
    html! {
        input type="hidden" name=(once::FIELD) value=(frame.once);
        div { label for="endpoint" { (words.hub_place) " (" (words.optional) ")" }
            input #endpoint type="text" name="endpoint" maxlength="253" autocomplete="off" value=(endpoint)
                autocapitalize="none" spellcheck="false" placeholder="vpn.example.org:9000"; }
        div.check { label { input type="checkbox" name="psk" value="1" checked[psk]; " " (preshared) } }
    }
}

/// What a peer is to be called.
pub(super) fn name_field(frame: &Frame<'_>, label: &str, otherwise: &str) -> Markup {
    let words = frame.language.words();
    let name = frame.typed.get("name").unwrap_or(otherwise);
    html! {
        div { label for="name" { (label) }
            input #name type="text" name="name" required maxlength="64" autocomplete="off" value=(name)
                autocapitalize="none" spellcheck="false" placeholder=(words.name_hint); }
    }
}

/// A form that is a button: it sends these values.
pub(super) fn button(
    frame: &Frame<'_>,
    action: &str,
    values: &[(&str, &str)],
    class: &str,
    text: &str,
    about: &str,
) -> Markup {
    html! {
        form.inline method="post" action=(action) {
            (held(frame))
            @for (name, value) in values {
                input type="hidden" name=(name) value=(value);
            }
            button class=(class) type="submit" aria-label={ (text) " " (about) } { (text) }
        }
    }
}
