//! What is around each page: its head, the ways to other pages, and what became of the last change.

use maud::{DOCTYPE, Markup, html};

use crate::web::changes::Notice;
use crate::web::request::Fields;
use crate::web::words::Language;

/// What is around a page.
pub(crate) struct Frame<'a> {
    pub(crate) language: Language,
    pub(crate) path: &'a str,
    /// What the forms of this session hold.
    pub(crate) form: &'a str,
    /// The number of a form that is done once.
    pub(crate) once: &'a str,
    /// The name of the token that it is by.
    pub(crate) user: &'a str,
    /// What became of the last change.
    pub(crate) notice: Option<Notice>,
    /// What was typed in a form that wasn't done.
    pub(crate) typed: &'a Fields,
    pub(crate) has_rules: bool,
}

/// A page of the tunnel `interface`. What changes while somebody looks comes from `live`.
pub(super) fn page(
    frame: &Frame<'_>,
    interface: &str,
    title: &str,
    live: Option<&str>,
    content: &Markup,
) -> Markup {
    let words = frame.language.words();
    let ways = [
        ("/", words.overview, true),
        ("/sources", words.sources, true),
        ("/rules", words.rules, frame.has_rules),
        ("/usage", words.usage, true),
    ];
    document(
        frame.language,
        &format!("{title} · {interface}"),
        &html! {
            a.skip href="#content" { (words.skip) }
            header {
                a.brand href="/" { (mark()) span { (words.title) } span.of { (interface) } }
                nav aria-label=(words.title) {
                    @for (path, name, is_there) in ways {
                        @if is_there {
                            a href=(path) aria-current=[(path == frame.path).then_some("page")] { (name) }
                        }
                    }
                }
                div.session {
                    (language_switch(frame.language))
                    form method="post" action="/logout" {
                        (held(frame))
                        button.plain type="submit" title=(frame.user) { (words.log_out) }
                    }
                }
            }
            main #content data-live=[live] {
                p #offline.notice.refused role="status" hidden { (words.offline) }
                @if let Some(notice) = &frame.notice {
                    @if notice.is_done {
                        p.notice.done role="status" { (notice.text)
                            @if let Some(undo) = &notice.undo { " " (words.undo) " " code { (undo) } }
                        }
                    } @else {
                        p.notice.refused role="alert" { (notice.text) }
                    }
                    @for warning in &notice.warnings { p.notice role="status" { (warning) } }
                }
                (content)
            }
        },
    )
}

/// A page without ways to others.
pub(super) fn bare(language: Language, title: &str, content: &Markup) -> Markup {
    let words = language.words();
    document(
        language,
        title,
        &html! {
            main.bare {
                p.brand { (mark()) span { (words.title) } }
                (content)
                (language_switch(language))
            }
        },
    )
}

/// A page that says why there is no other.
pub(crate) fn sorry(language: Language, reason: &str) -> Markup {
    let words = language.words();
    bare(
        language,
        words.title,
        &html! {
            p role="alert" { (reason) }
            p { a href="/" { (words.back) } }
        },
    )
}

/// What each form holds, so that no other page can send it.
pub(super) fn held(frame: &Frame<'_>) -> Markup {
    html! { input type="hidden" name="form" value=(frame.form); }
}

fn document(language: Language, title: &str, body: &Markup) -> Markup {
    html! {
        (DOCTYPE)
        html lang=(language.code()) {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                title { (title) }
                link rel="icon" type="image/svg+xml" href="/icon.svg";
                link rel="stylesheet" href="/style.css";
                script src="/script.js" defer {}
            }
            body { (body) }
        }
    }
}

fn language_switch(language: Language) -> Markup {
    let other = language.other();
    html! {
        a.language href={ "/language/" (other.code()) } lang=(other.code()) hreflang=(other.code()) {
            (language.words().other_language)
        }
    }
}

/// The sign beside the name.
fn mark() -> Markup {
    html! {
        svg.mark viewBox="0 0 24 24" aria-hidden="true" {
            path d="M3 20V12a9 9 0 0 1 18 0v8" {}
            path d="M8 20v-7a4 4 0 0 1 8 0v7" {}
        }
    }
}
