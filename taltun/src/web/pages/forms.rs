//! Pieces of forms that several pages have.

use maud::{Markup, html};

use super::layout::{Frame, held};
use crate::web::words::Words;

/// For how long something is banned.
pub(super) fn durations(words: &Words) -> Markup {
    html! {
        option value="600" { (words.ten_minutes) }
        option value="3600" selected { (words.one_hour) }
        option value="86400" { (words.one_day) }
        option value="" { (words.until_unbanned) }
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
