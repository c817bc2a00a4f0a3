//! What standard output is: a terminal with so much room, with colours or without, or something
//! else, where nothing is cut.

use std::env;
use std::io::{self, IsTerminal};

use rustix::termios::tcgetwinsize;

/// Where people read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Screen {
    /// Its columns and rows, if it is a terminal.
    pub(super) size: Option<(usize, usize)>,
    /// Whether it may have colours.
    pub(super) colour: bool,
}

/// A terminal that doesn't say how large it is.
const USUAL: (usize, usize) = (80, 24);

impl Screen {
    /// A pipe or a file.
    pub(super) const NONE: Self = Self {
        size: None,
        colour: false,
    };

    /// Standard output.
    pub(super) fn of_stdout() -> Self {
        let stdout = io::stdout();
        if !stdout.is_terminal() {
            return Self::NONE;
        }
        let size = tcgetwinsize(&stdout).ok();
        let size = size.map(|size| (usize::from(size.ws_col), usize::from(size.ws_row)));
        Self {
            size: size
                .filter(|(columns, rows)| *columns > 0 && *rows > 0)
                .or(Some(USUAL)),
            colour: has_colours(),
        }
    }

    /// Its columns, if it is a terminal.
    pub(super) fn columns(&self) -> Option<usize> {
        self.size.map(|(columns, _)| columns)
    }

    /// A text in a style, if there are colours.
    pub(super) fn paint(&self, style: Style, text: &str) -> String {
        match style.code() {
            Some(code) if self.colour && !text.is_empty() => format!("\x1b[{code}m{text}\x1b[0m"),
            _ => text.to_owned(),
        }
    }
}

/// Whether a terminal may have colours.
pub(super) fn has_colours() -> bool {
    wants_colour(env::var_os("NO_COLOR")) && !is_dumb()
}

/// Whether the terminal knows no more than a typewriter.
pub(super) fn is_dumb() -> bool {
    env::var_os("TERM").is_none_or(|term| term.is_empty() || term == "dumb")
}

/// Any value of `NO_COLOR` but an empty one asks for none (<https://no-color.org>).
pub(super) fn wants_colour(no_color: Option<std::ffi::OsString>) -> bool {
    no_color.is_none_or(|value| value.is_empty())
}

/// What a text is: the colours are those that every terminal has, on light and on dark.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Style {
    /// As any text.
    #[default]
    Plain,
    /// It works.
    Good,
    /// It needs attention.
    Bad,
    /// It matters less.
    Faint,
    /// A heading.
    Strong,
}

impl Style {
    fn code(self) -> Option<&'static str> {
        match self {
            Self::Plain => None,
            Self::Good => Some("32"),
            Self::Bad => Some("31"),
            Self::Faint => Some("2"),
            Self::Strong => Some("1"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn styles_are_for_those_who_want_colours() {
        let colours = Screen {
            size: Some(USUAL),
            colour: true,
        };
        assert_eq!(colours.paint(Style::Good, "x"), "\x1b[32mx\x1b[0m");
        assert_eq!(colours.paint(Style::Plain, "x"), "x");
        assert_eq!(Screen::NONE.paint(Style::Bad, "x"), "x");
        assert!(wants_colour(None) && wants_colour(Some("".into())));
        assert!(!wants_colour(Some("1".into())));
    }
}
