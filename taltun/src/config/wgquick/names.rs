//! What peers are called, where comments of a wg-quick file say so.
//!
//! No two programs write names in the same way:
//!
//! ```text
//! # Name = ana          # friendly_name=ana      ### Client ana     # Client: ana (7f0…)
//! ### begin ana ###     # BEGIN_PEER ana         # ana
//! ```
//!
//! They stand directly above `[Peer]`, beside it or directly below. Whatever isn't clearly a
//! name is a comment.

/// Words that a name follows.
const KEYS: &[&str] = &["name", "friendly_name", "client", "peer", "user", "device"];
/// Words that begin a peer's part of the file; the same with `end` ends it.
const BEGINS: &[&str] = &["begin_peer", "begin-peer", "begin"];
const ENDS: &[&str] = &["end_peer", "end-peer", "end"];
/// The longest comment that may be a name by itself.
const PLAIN_MAX: usize = 32;
const PLAIN_WORDS: usize = 3;

/// The name that comments around a peer's header give it, without their `#`. `above` are
/// those directly above, without a blank line between, `below` those beside and below.
pub(super) fn find(above: &[&str], below: &[&str]) -> Option<String> {
    let nearest = above.iter().rev().chain(below);
    let marked = nearest.clone().find_map(|comment| marked(comment));
    marked.or_else(|| {
        // One line by itself; more of them are a text.
        let alone = match (above, below) {
            ([.., one], _) if above.len() == 1 => Some(*one),
            (_, [one, ..]) => Some(*one),
            _ => None,
        };
        alone.and_then(plain)
    })
}

/// Whether a comment only ends the part of the peer before.
pub(super) fn is_end(comment: &str) -> bool {
    let word = bare(comment).split_whitespace().next().unwrap_or_default();
    ENDS.contains(&word.to_ascii_lowercase().as_str())
}

fn marked(comment: &str) -> Option<String> {
    let text = bare(comment);
    if let Some((key, value)) = text.split_once(['=', ':']) {
        let key = key.trim().to_ascii_lowercase();
        return KEYS.contains(&key.as_str()).then(|| name(value)).flatten();
    }
    let (first, rest) = text.split_once(char::is_whitespace)?;
    let first = first.to_ascii_lowercase();
    let begins = BEGINS.contains(&first.as_str());
    // `### Client ana`, but not `# Client of the office`.
    let client = first == "client" && rest.split_whitespace().count() == 1;
    (begins || client).then(|| name(rest)).flatten()
}

fn plain(comment: &str) -> Option<String> {
    let text = bare(comment);
    let few = text.len() <= PLAIN_MAX && text.split_whitespace().count() <= PLAIN_WORDS;
    let is_name = few && !text.contains(['=', ':', '[', '!', '?']) && !text.ends_with(['.', ',']);
    (is_name && !is_end(comment)).then(|| name(text)).flatten()
}

/// The text without the signs around it.
fn bare(comment: &str) -> &str {
    comment.trim_matches(|c: char| c.is_whitespace() || matches!(c, '#' | '-' | '*' | ';'))
}

fn name(text: &str) -> Option<String> {
    // wg-easy puts the identifier in brackets behind it.
    let text = match text.rsplit_once(" (") {
        Some((name, identifier)) if identifier.ends_with(')') && identifier.len() > 30 => name,
        _ => text,
    };
    let text = text.trim();
    let quoted = |quote| text.strip_prefix(quote)?.strip_suffix(quote);
    let text = quoted('"').or_else(|| quoted('\'')).unwrap_or(text).trim();
    let fits = !text.is_empty() && text.chars().count() <= 64;
    (fits && !text.chars().any(char::is_control)).then(|| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_found_in_what_programs_and_people_write() {
        for (comment, expected) in [
            (" Name = ana", Some("ana")),
            ("name: ana's phone", Some("ana's phone")),
            (" friendly_name=ana", Some("ana")),
            ("## Client ana", Some("ana")),
            (
                " Client: ana (7f0c3e6e-5a0b-4d5e-9f6c-0c7d4f1f2a11)",
                Some("ana"),
            ),
            ("## begin ana ###", Some("ana")),
            (" BEGIN_PEER ana", Some("ana")),
            (" ana", Some("ana")),
            (" Ana's old laptop", Some("Ana's old laptop")),
            (" END_PEER ana", None),
            ("## end ana ###", None),
            (" PublicKey = abc", None),
            (" Endpoint: 192.0.2.1:7", None),
            (" This one is down since May.", None),
            ("", None),
        ] {
            assert_eq!(find(&[comment], &[]).as_deref(), expected, "{comment}");
            assert_eq!(find(&[], &[comment]).as_deref(), expected, "{comment}");
        }
        // The nearest counts; two lines of text are a text.
        assert_eq!(
            find(&["## begin ana ###", " the phone"], &[]).as_deref(),
            Some("ana")
        );
        assert_eq!(find(&[" Peers follow", " from May"], &[]), None);
    }
}
