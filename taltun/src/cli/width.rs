//! Text as wide as it is on a terminal: wide characters take two columns, and what others wrote
//! can't move the cursor.

use std::borrow::Cow;

use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

use crate::config::unseen;

/// Stands for what was cut off.
const CUT: char = '…';

/// Columns of a word that are shown back to whoever typed it: as long as the longest name.
const WORD_SHOWN: usize = 64;

/// Columns that a line has for words when it begins with blanks.
const LEAST_WORDS: usize = 16;

/// How many columns a text takes.
pub(super) fn width(text: &str) -> usize {
    text.width()
}

/// The text without what a terminal takes for commands, what turns its direction, and what nobody
/// sees.
pub(super) fn printable(text: &str) -> Cow<'_, str> {
    let mut unseen = unseen(text).map(|(at, _)| at).peekable();
    if unseen.peek().is_none() {
        return Cow::Borrowed(text);
    }
    let safe = text.char_indices().map(|(at, c)| {
        if unseen.next_if_eq(&at).is_some() {
            '\u{fffd}'
        } else {
            c
        }
    });
    Cow::Owned(safe.collect())
}

/// The text in so many columns at most: what is longer ends in `…`.
pub(super) fn cut(text: &str, columns: usize) -> Cow<'_, str> {
    if width(text) <= columns {
        return Cow::Borrowed(text);
    }
    let Some(room) = columns.checked_sub(1) else {
        return Cow::Borrowed("");
    };
    let mut kept = String::new();
    let mut used = 0;
    for c in text.chars() {
        used += c.width().unwrap_or(0);
        if used > room {
            break;
        }
        kept.push(c);
    }
    // Nothing is left for a joiner to join.
    let end = kept.trim_end_matches(|c: char| c.is_whitespace() || c == '\u{200d}');
    kept.truncate(end.len());
    kept.push(CUT);
    Cow::Owned(kept)
}

/// A word as it is shown back to whoever typed it.
pub(super) fn shown(word: &str) -> Cow<'_, str> {
    cut(word, WORD_SHOWN)
}

/// The text in lines of so many columns: broken between words, or within one that is longer than a line.
/// All but the first line begin with so many blanks, where there is room for them and a few words.
pub(super) fn wrap(text: &str, columns: usize, indent: usize) -> Vec<String> {
    let columns = columns.max(2);
    let indent = if indent + LEAST_WORDS <= columns {
        indent
    } else {
        0
    };
    let mut lines = Vec::new();
    let mut rest = text;
    let mut begin = 0;
    while width(rest) + begin > columns {
        let room = columns - begin;
        let mut used = 0;
        let fits = rest.char_indices().find_map(|(at, c)| {
            used += c.width().unwrap_or(0);
            (used > room).then_some(at)
        });
        let fits = fits.unwrap_or(rest.len());
        // A blank right behind the room is where a line may end, too.
        let words = rest.get(..=fits).unwrap_or(&rest[..fits]);
        let blank = words.rfind(' ').filter(|at| !rest[..*at].trim().is_empty());
        let end = blank.unwrap_or(fits);
        lines.push(format!("{:begin$}{}", "", rest[..end].trim_end()));
        rest = rest[end..].trim_start();
        begin = indent;
    }
    if !rest.is_empty() || lines.is_empty() {
        lines.push(format!("{:begin$}{rest}", ""));
    }
    lines
}

/// A key's first characters, which is enough to tell a few keys apart.
pub(super) fn short_key(key: &str) -> Cow<'_, str> {
    cut(key, 9)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_cut_by_its_columns() {
        assert_eq!(cut("office", 6), "office");
        assert_eq!(cut("office", 5), "offi…");
        assert_eq!(cut("office", 1), "…");
        assert_eq!(cut("office", 0), "");
        // Two columns a character: one would be half outside.
        assert_eq!(cut("東京支店", 8), "東京支店");
        assert_eq!(cut("東京支店", 6), "東京…");
        assert_eq!(cut("東京支店", 7), "東京支…");
        assert_eq!(cut("a b c", 3), "a…");
    }

    #[test]
    fn a_text_is_broken_between_words() {
        assert_eq!(wrap("one two", 7, 4), ["one two"]);
        assert_eq!(wrap("", 7, 4), [""]);
        assert_eq!(wrap("one two three", 7, 0), ["one two", "three"]);
        assert_eq!(wrap("one  two three", 8, 0), ["one  two", "three"]);
        assert_eq!(wrap("abcdefghij k", 4, 0), ["abcd", "efgh", "ij k"]);
        // Blanks before it are no place to break.
        assert_eq!(wrap("  abcdefgh", 6, 0), ["  abcd", "efgh"]);
        assert_eq!(
            wrap("shield   generic XDP, TC, 2 banned", 25, 9),
            ["shield   generic XDP, TC,", "         2 banned"]
        );
        // Where there is no room for the blanks there are none.
        assert_eq!(wrap("shield   generic", 10, 9), ["shield", "generic"]);
        assert_eq!(wrap("東京支店東京", 8, 0), ["東京支店", "東京"]);
        for columns in 0..30 {
            let lines = wrap(
                "東京 with some words of áéí and averyveryverylongone",
                columns,
                4,
            );
            let widest = lines.iter().map(|line| width(line)).max();
            assert!(widest <= Some(columns.max(2)), "{columns}: {lines:?}");
        }
    }

    #[test]
    fn nothing_in_a_name_moves_the_cursor() {
        assert_eq!(printable("ana"), "ana");
        assert_eq!(printable("a\x1b[2Jb\r\n"), "a\u{fffd}[2Jb\u{fffd}\u{fffd}");
        assert_eq!(printable("a\u{202e}b"), "a\u{fffd}b");
        assert_eq!(printable("東京 é"), "東京 é");
        assert_eq!(printable("👩\u{200d}🚀"), "👩\u{200d}🚀");
        assert_eq!(printable("a\u{200d}b👩\u{200d}"), "a\u{fffd}b👩\u{fffd}");
    }
}
