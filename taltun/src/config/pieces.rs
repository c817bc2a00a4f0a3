//! A large file in pieces. The tables `[[peers]]` of a hub stand one after the other and are
//! nearly all of its file; parsed as a whole they take twenty times the file's size, and much
//! of the time goes into getting that memory. So a run of them is cut before headers, and each
//! piece is parsed, read and freed before the next one.
//!
//! TOML is read from the start to the end, and a header begins anew wherever it stands. So where
//! each piece begins with a header, ends with a line and is valid by itself, each means the same
//! within the file. A cut within a list or a text of many lines leaves a piece that isn't valid;
//! then the file is parsed as a whole.

use toml::Spanned;
use toml::de::DeTable;

/// A good least size of a piece, bytes: enough to be worth a parser, little enough for the cache.
pub(super) const PIECE: usize = 16 * 1024;

/// A file in three parts.
pub(super) struct Pieces<'a> {
    pub(super) head: &'a str,
    pub(super) run: AdjacentTables<'a>,
    pub(super) tail: &'a str,
}

/// Tables `[[name]]` with nothing between them.
pub(super) struct AdjacentTables<'a> {
    name: &'static str,
    text: &'a str,
    /// Where it begins in the file.
    start: usize,
    /// The least size of a piece, bytes.
    piece: usize,
}

impl<'a> Pieces<'a> {
    /// Cuts `text` where its tables `[[name]]` begin and where they end, and these into pieces
    /// of at least `piece` bytes; `None` if there are none.
    pub(super) fn of(text: &'a str, name: &'static str, piece: usize) -> Option<Self> {
        let (start, _) = headers(text).find(|(_, line)| is_of(line, name))?;
        let (head, rest) = text.split_at_checked(start)?;
        let end = headers(rest).find(|(_, line)| !is_of(line, name));
        let (text, tail) = rest.split_at_checked(end.map_or(rest.len(), |(at, _)| at))?;
        Some(Self {
            head,
            run: AdjacentTables {
                name,
                text,
                start,
                piece,
            },
            tail,
        })
    }
}

impl<'a> AdjacentTables<'a> {
    /// What its tables are called.
    pub(super) fn name(&self) -> &'static str {
        self.name
    }

    /// Where it ends in the file.
    pub(super) fn end(&self) -> usize {
        self.start.saturating_add(self.text.len())
    }

    /// Its pieces, each with where it begins in the file.
    pub(super) fn pieces(&self) -> impl Iterator<Item = (usize, &'a str)> + '_ {
        let mut rest = self.text;
        std::iter::from_fn(move || {
            if rest.is_empty() {
                return None;
            }
            let start = self.end().saturating_sub(rest.len());
            let cut = headers_from(rest, self.piece).find(|(_, line)| is_of(line, self.name));
            let (piece, more) = rest.split_at_checked(cut.map_or(rest.len(), |(at, _)| at))?;
            rest = more;
            Some((start, piece))
        })
    }
}

/// A piece as TOML; `None` if it isn't valid.
pub(super) fn parse(piece: &str) -> Option<Spanned<DeTable<'_>>> {
    let (root, errors) = DeTable::parse_recoverable(piece);
    errors.is_empty().then_some(root)
}

/// The lines that look like headers, and where they begin.
fn headers(text: &str) -> impl Iterator<Item = (usize, &str)> {
    lines(text, 0).filter(|(_, line)| line.trim_start().starts_with('['))
}

/// Those of them that begin after the line in which the byte `at` is.
fn headers_from(text: &str, at: usize) -> impl Iterator<Item = (usize, &str)> {
    let bytes = text.as_bytes().get(at..).unwrap_or_default();
    let end = bytes.iter().position(|byte| *byte == b'\n');
    let start = end.map_or(text.len(), |end| at.saturating_add(end).saturating_add(1));
    lines(text, start).filter(|(_, line)| line.trim_start().starts_with('['))
}

/// The lines of `text` from `start` on, where one begins.
fn lines(text: &str, start: usize) -> impl Iterator<Item = (usize, &str)> {
    let mut at = start;
    let lines = text.get(start..).unwrap_or_default().split_inclusive('\n');
    lines.map(move |line| {
        let start = at;
        at = at.saturating_add(line.len());
        (start, line)
    })
}

/// Whether a line is the header `[[name]]` and no more than that.
fn is_of(line: &str, name: &str) -> bool {
    let inner = line.trim().strip_prefix("[[");
    inner.and_then(|rest| rest.strip_suffix("]]")) == Some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What comes before the run, its pieces, and what comes after it.
    type Cut<'a> = (&'a str, Vec<(usize, &'a str)>, &'a str);

    fn cut(text: &str) -> Option<Cut<'_>> {
        let pieces = Pieces::of(text, "peers", PIECE)?;
        let run = pieces.run.pieces().collect();
        Some((pieces.head, run, pieces.tail))
    }

    #[test]
    fn a_file_is_cut_before_headers() {
        assert_eq!(cut("[interface]\n"), None);
        let text = "[interface]\n[[peers]]\na = 1\n  [[peers]]\r\n[accel]\n[[peers]]\n";
        let (head, run, tail) = cut(text).unwrap();
        assert_eq!(head, "[interface]\n");
        assert_eq!(run, [(12, "[[peers]]\na = 1\n  [[peers]]\r\n")]);
        assert_eq!(tail, "[accel]\n[[peers]]\n");
        // No line feed at the end.
        assert_eq!(cut("[[peers]]").unwrap(), ("", vec![(0, "[[peers]]")], ""));
    }

    #[test]
    fn the_pieces_of_a_long_run_are_all_of_it() {
        let peer = |n: usize| format!("[[peers]]\nname = \"ñ{}\"\n", "x".repeat(n % 97));
        let peers: String = (0..5_000).map(peer).collect();
        let text = format!("a = 1\n{peers}[b]\n");
        let (head, run, tail) = cut(&text).unwrap();
        assert!(run.len() > 5, "{}", run.len());
        let mut at = head.len();
        for (start, piece) in &run {
            assert_eq!(*start, at);
            assert!(piece.starts_with("[[peers]]\n") && piece.ends_with('\n'));
            assert!(piece.len() < PIECE + 200, "{}", piece.len());
            assert!(parse(piece).is_some());
            at += piece.len();
        }
        assert_eq!(&text[at..], tail);
        assert_eq!(tail, "[b]\n");
    }
}
