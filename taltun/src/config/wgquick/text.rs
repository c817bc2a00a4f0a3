//! The lines of a wg-quick file, as `wg` and `wg-quick` see them.
//!
//! Both cut a line at the first `#`. `wg` throws all white space of the line away before it
//! looks at it; `wg-quick` takes it off both ends of the key and of the value. Both read
//! bytes, so that a comment may be in any encoding.

use std::borrow::Cow;

use zeroize::Zeroizing;

use crate::config::error::{ConfigError, Spot};

/// A line of the file.
pub(super) struct Line<'a> {
    /// Counted from 1.
    pub(super) number: usize,
    /// What stands before the first `#`, without white space at its ends.
    pub(super) code: &'a str,
    /// What follows the first `#`.
    pub(super) comment: Option<&'a str>,
}

impl<'a> Line<'a> {
    /// The whole of it, or `None` for what isn't `Key = Value`: key and value.
    pub(super) fn setting(&self) -> Option<(&'a str, &'a str)> {
        let (key, value) = self.code.split_once('=')?;
        Some((trim(key), trim(value)))
    }
}

/// The white space of the C locale.
pub(super) fn is_space(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\n' | '\x0b' | '\x0c' | '\r')
}

pub(super) fn trim(text: &str) -> &str {
    text.trim_matches(is_space)
}

/// Without any white space, as `wg` reads.
pub(super) fn compact(text: &str) -> String {
    text.chars().filter(|c| !is_space(*c)).collect()
}

/// The text of a file that may begin with a byte order mark. Bytes that are no UTF-8 may
/// stand in comments only.
///
/// # Errors
/// Other bytes that are no text, naming their line.
pub(super) fn decode(bytes: &[u8], file: &str) -> Result<Zeroizing<String>, ConfigError> {
    let utf16 = match bytes {
        [0xff, 0xfe, rest @ ..] => Some((rest, u16::from_le_bytes as fn([u8; 2]) -> u16)),
        [0xfe, 0xff, rest @ ..] => Some((rest, u16::from_be_bytes as fn([u8; 2]) -> u16)),
        _ => None,
    };
    if let Some((rest, unit)) = utf16 {
        let units = rest.chunks(2).map(|pair| match *pair {
            [one, two] => unit([one, two]),
            _ => 0xfffd,
        });
        let text: Result<String, _> = char::decode_utf16(units).collect();
        return text.map(Zeroizing::new).map_err(|_| {
            Spot::file(file).error("not valid UTF-16 text; save the file as UTF-8 and try again")
        });
    }
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    let mut text = Zeroizing::new(String::with_capacity(bytes.len()));
    for (number, line) in bytes.split(|byte| *byte == b'\n').enumerate() {
        let code = line.split(|byte| *byte == b'#').next().unwrap_or_default();
        if std::str::from_utf8(code).is_err() || code.contains(&0) {
            return Err(Spot::line(file, number.saturating_add(1), "").error(
                "not text: only comments may have bytes that are no UTF-8; save the file as \
                 UTF-8 and try again",
            ));
        }
        if number > 0 {
            text.push('\n');
        }
        text.push_str(&String::from_utf8_lossy(line));
    }
    Ok(text)
}

/// All lines.
pub(super) fn lines(text: &str) -> impl Iterator<Item = Line<'_>> {
    // The text of a test, or what a program wrote, has no such mark, but it does no harm.
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let count = text.strip_suffix('\n').unwrap_or(text).split('\n');
    count.enumerate().map(|(index, line)| {
        let (code, comment) = match line.split_once('#') {
            Some((code, comment)) => (code, Some(comment)),
            None => (line, None),
        };
        Line {
            number: index.saturating_add(1),
            code: trim(code),
            comment: comment.map(|comment| comment.trim_end_matches(is_space)),
        }
    })
}

/// A comment as TOML allows it: without control characters.
pub(super) fn printable(comment: &str) -> Cow<'_, str> {
    if comment.chars().any(|c| c.is_control() && c != '\t') {
        Cow::Owned(comment.replace(|c: char| c.is_control() && c != '\t', " "))
    } else {
        Cow::Borrowed(comment)
    }
}
