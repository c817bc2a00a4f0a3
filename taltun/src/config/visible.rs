//! Characters that somebody sees. Others make two names look alike, or turn the text around them.

/// Whether a character shows as what it is: no command to a terminal, nothing that turns the
/// direction of a text, and nothing without a width of its own (`Default_Ignorable_Code_Point` and the
/// line separators of Unicode 16).
pub fn is_visible(c: char) -> bool {
    !c.is_control()
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_nobody_sees_is_told_from_letters_of_all_scripts() {
        for c in "aé ñ東京عربיअ-_.😀\u{301}".chars() {
            assert!(is_visible(c), "{c:?}");
        }
        for c in
            "\0\x1b\n\u{85}\u{ad}\u{200b}\u{200d}\u{200f}\u{202e}\u{2066}\u{2069}\u{feff}\u{e0041}"
                .chars()
        {
            assert!(!is_visible(c), "{c:?}");
        }
    }
}
