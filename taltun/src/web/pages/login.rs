//! The page on which one logs in.

use maud::{Markup, html};

use super::layout::bare;
use crate::web::words::Language;

/// Asks for a token; says why the last one was no good.
pub(crate) fn login(language: Language, refused: Option<String>) -> Markup {
    let words = language.words();
    bare(
        language,
        &format!("{} · {}", words.log_in, words.title),
        &html! {
            @if let Some(refused) = refused {
                p.notice.refused role="alert" { (refused) }
            }
            form.card method="post" action="/login" {
                label for="token" { (words.token) }
                input #token type="password" name="token" required autofocus autocomplete="off"
                    autocapitalize="none" spellcheck="false" maxlength="200";
                button type="submit" { (words.log_in) }
                p.hint { (words.how_to_token) br; code { "taltun web token --for 8h" } }
            }
        },
    )
}
