//! Characters that somebody sees. Others make two names look alike, or turn the text around them.

/// Selects the picture of a character that is also a sign.
const AS_PICTURE: char = '\u{fe0f}';
/// Joins pictures to one: 👩, it and 🚀 make 👩‍🚀.
const JOINER: char = '\u{200d}';
/// Makes a key of a digit.
const KEYCAP: char = '\u{20e3}';

/// The characters of a text that nobody sees, with where they are. Those that make one picture of
/// several, as emoji are written, belong to what is seen.
pub fn unseen(text: &str) -> impl Iterator<Item = (usize, char)> {
    text.char_indices().filter(|&(at, c)| {
        let end = at.saturating_add(c.len_utf8());
        let before = text.get(..at).unwrap_or_default();
        let after = text.get(end..).and_then(|after| after.chars().next());
        let is_part = match c {
            AS_PICTURE => {
                before.ends_with(is_picture) || (before.ends_with(is_key) && after == Some(KEYCAP))
            }
            JOINER => {
                let before = before.strip_suffix(AS_PICTURE).unwrap_or(before);
                before.ends_with(is_picture) && after.is_some_and(is_picture)
            }
            _ => false,
        };
        !is_part && !is_visible(c)
    })
}

/// Whether a character by itself shows as what it is: no command to a terminal, nothing that turns the
/// direction of a text, nothing blank but a space, and nothing without a width of its own
/// (`Default_Ignorable_Code_Point` and the line separators of Unicode 16).
pub fn is_visible(c: char) -> bool {
    !c.is_control()
        && (!c.is_whitespace() || c == ' ')
        && !matches!(
            c,
            '\u{ad}'
                | '\u{34f}'
                | '\u{61c}'
                | '\u{115f}'
                | '\u{1160}'
                | '\u{17b4}'
                | '\u{17b5}'
                | '\u{180b}'..='\u{180f}'
                | '\u{200b}'..='\u{200f}'
                | '\u{2028}'..='\u{202e}'
                | '\u{2060}'..='\u{206f}'
                // Braille without a dot.
                | '\u{2800}'
                | '\u{3164}'
                | '\u{fe00}'..='\u{fe0f}'
                | '\u{feff}'
                | '\u{ffa0}'
                | '\u{fff0}'..='\u{fffb}'
                | '\u{1bca0}'..='\u{1bca3}'
                | '\u{1d173}'..='\u{1d17a}'
                | '\u{e0000}'..='\u{e0fff}'
        )
}

/// Whether a character may be a picture: the blocks that have those of `Extended_Pictographic`, and the
/// colours of skin.
fn is_picture(c: char) -> bool {
    matches!(
        c,
        '\u{a9}' | '\u{ae}' | '\u{203c}' | '\u{2049}' | '\u{2122}' | '\u{2139}'
            | '\u{2194}'..='\u{21aa}'
            | '\u{231a}'..='\u{23ff}'
            | '\u{24c2}'
            | '\u{25aa}'..='\u{27bf}'
            | '\u{2934}'..='\u{2935}'
            | '\u{2b05}'..='\u{2b55}'
            | '\u{3030}' | '\u{303d}' | '\u{3297}' | '\u{3299}'
            | '\u{1f000}'..='\u{1faff}'
    )
}

/// Whether a character may be on a key.
fn is_key(c: char) -> bool {
    c.is_ascii_digit() || matches!(c, '#' | '*')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_nobody_sees_is_told_from_letters_of_all_scripts() {
        for c in "aé ñ東京عربיअ-_.😀\u{301}".chars() {
            assert!(is_visible(c), "{c:?}");
        }
        for c in
            "\0\x1b\n\u{85}\u{a0}\u{ad}\u{2003}\u{200b}\u{200d}\u{200f}\u{202e}\u{2066}\u{2069}\
                  \u{2800}\u{3000}\u{feff}\u{e0041}"
                .chars()
        {
            assert!(!is_visible(c), "{c:?}");
        }
    }

    #[test]
    fn what_joins_emoji_is_seen_in_them_alone() {
        for text in [
            "ana ❤\u{fe0f}",
            "👩\u{200d}🚀",
            "🏳\u{fe0f}\u{200d}🌈",
            "👩🏽\u{200d}💻",
            "1\u{fe0f}\u{20e3}",
            "🇪🇸",
        ] {
            assert_eq!(unseen(text).next(), None, "{text:?}");
        }
        for (text, at) in [
            ("a\u{fe0f}", 1),
            ("1\u{fe0f}", 1),
            ("a\u{200d}b", 1),
            ("👩\u{200d}", 4),
            ("👩\u{200d}a", 4),
            ("\u{200d}👩", 0),
            ("👩\u{200d}\u{200d}👩", 4),
            ("❤\u{fe0f}\u{fe0f}", 6),
            ("\u{2800}", 0),
        ] {
            assert_eq!(unseen(text).next().map(|(at, _)| at), Some(at), "{text:?}");
        }
    }
}
