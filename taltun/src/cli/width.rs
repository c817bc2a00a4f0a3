//! Text as wide as it is on a terminal: wide characters take two columns, and what others wrote
//! can't move the cursor.

use std::borrow::Cow;

use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

/// Stands for what was cut off.
const CUT: char = '…';

/// How many columns a text takes.
pub(super) fn width(text: &str) -> usize {
    text.width()
}

/// The text without what a terminal takes for commands, or what turns its direction.
pub(super) fn printable(text: &str) -> Cow<'_, str> {
    if text.chars().all(is_printable) {
        return Cow::Borrowed(text);
    }
    let safe = text.chars();
    Cow::Owned(
        safe.map(|c| if is_printable(c) { c } else { '\u{fffd}' })
            .collect(),
    )
}

fn is_printable(c: char) -> bool {
    let turns =
        matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    !c.is_control() && !turns && !matches!(c, '\u{2028}' | '\u{2029}' | '\u{feff}')
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
    kept.truncate(kept.trim_end().len());
    kept.push(CUT);
    Cow::Owned(kept)
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
    fn nothing_in_a_name_moves_the_cursor() {
        assert_eq!(printable("ana"), "ana");
        assert_eq!(printable("a\x1b[2Jb\r\n"), "a\u{fffd}[2Jb\u{fffd}\u{fffd}");
        assert_eq!(printable("a\u{202e}b"), "a\u{fffd}b");
        assert_eq!(printable("東京 é"), "東京 é");
    }
}
