//! Tables that fit: on a narrow terminal columns come closer, texts are cut, and then whole columns
//! go, those first that matter least.

use super::screen::{Screen, Style};
use super::width::{cut, width};

/// A column of a table.
#[derive(Debug, Clone, Copy)]
pub(super) struct Column {
    /// What is above it.
    pub(super) head: &'static str,
    /// Whether it is flush right, as numbers are.
    pub(super) right: bool,
    /// The columns of the terminal that it may be cut down to, if it may be.
    pub(super) least: Option<usize>,
    /// How wide it is at the least, so that it stays where it is while figures change.
    pub(super) floor: usize,
    /// When it goes: the one with the highest number first, and those with 0 never.
    pub(super) goes: u8,
}

impl Column {
    /// One that is never cut, flush left.
    pub(super) const fn text(head: &'static str, goes: u8) -> Self {
        Self {
            head,
            right: false,
            least: None,
            floor: 0,
            goes,
        }
    }

    /// One of numbers, flush right.
    pub(super) const fn number(head: &'static str, goes: u8) -> Self {
        Self {
            head,
            right: true,
            least: None,
            floor: 0,
            goes,
        }
    }

    /// The same, and always so wide, unless it goes.
    pub(super) const fn at_least(self, floor: usize) -> Self {
        Self { floor, ..self }
    }

    /// The same, which may be cut.
    pub(super) const fn cut_to(self, least: usize) -> Self {
        Self {
            least: Some(least),
            ..self
        }
    }
}

/// A text with its style.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Cell {
    /// What is there.
    pub(super) text: String,
    /// How it looks.
    pub(super) style: Style,
}

impl Cell {
    /// A cell in a style.
    pub(super) fn of(text: impl Into<String>, style: Style) -> Self {
        Self {
            text: text.into(),
            style,
        }
    }
}

impl From<String> for Cell {
    fn from(text: String) -> Self {
        Self::of(text, Style::Plain)
    }
}

impl From<&str> for Cell {
    fn from(text: &str) -> Self {
        Self::of(text, Style::Plain)
    }
}

/// A table with its heads, a line each row.
pub(super) fn grid(columns: &[Column], rows: &[Vec<Cell>], screen: &Screen) -> String {
    let mut text = String::new();
    for line in lines(columns, rows, screen.columns()) {
        for Cell { text: part, style } in line {
            text.push_str(&screen.paint(style, &part));
        }
        text.push('\n');
    }
    text
}

/// The lines of a table in so many columns of a terminal, that of the heads first: what they are put
/// together of, blanks included.
pub(super) fn lines(columns: &[Column], rows: &[Vec<Cell>], room: Option<usize>) -> Vec<Vec<Cell>> {
    let natural: Vec<usize> = (0..columns.len())
        .map(|at| {
            let cells = rows.iter().filter_map(|row| row.get(at));
            let widest = cells.map(|cell| width(&cell.text)).max().unwrap_or(0);
            // What nobody has a word of isn't there.
            match widest.max(columns[at].floor) {
                0 => 0,
                widest => widest.max(width(columns[at].head)),
            }
        })
        .collect();
    let (widths, gap) = fit(columns, natural, room);
    let heads: Vec<Cell> = columns
        .iter()
        .map(|column| Cell::of(column.head, Style::Strong))
        .collect();
    let rows = std::iter::once(&heads).chain(rows);
    rows.map(|row| line(columns, row, &widths, gap)).collect()
}

/// A row, without blanks at its end.
fn line(columns: &[Column], row: &[Cell], widths: &[usize], gap: usize) -> Vec<Cell> {
    let mut parts = Vec::new();
    let mut blanks = 0;
    for ((cell, column), columns) in row.iter().zip(columns).zip(widths) {
        if *columns == 0 {
            continue;
        }
        let shown = cut(&cell.text, *columns);
        let free = columns - width(&shown).min(*columns);
        if shown.is_empty() {
            blanks += columns + gap;
            continue;
        }
        let before = if column.right { free } else { 0 };
        if blanks + before > 0 {
            parts.push(Cell::from(" ".repeat(blanks + before)));
        }
        parts.push(Cell::of(shown, cell.style));
        blanks = free - before + gap;
    }
    parts
}

/// How wide each column is, 0 for one that went, and how far they are apart.
fn fit(columns: &[Column], mut widths: Vec<usize>, room: Option<usize>) -> (Vec<usize>, usize) {
    const WIDE: usize = 2;
    let Some(room) = room else {
        return (widths, WIDE);
    };
    let taken = |widths: &[usize], gap: usize| {
        let shown = widths.iter().filter(|width| **width > 0).count();
        widths.iter().sum::<usize>() + gap * shown.saturating_sub(1)
    };
    if taken(&widths, WIDE) <= room {
        return (widths, WIDE);
    }
    loop {
        let excess = taken(&widths, 1).saturating_sub(room);
        let spare = |(column, width): (&Column, &usize)| match column.least {
            Some(least) => width.saturating_sub(least),
            None => 0,
        };
        let most: usize = columns.iter().zip(&widths).map(spare).sum();
        if excess <= most {
            shrink(columns, &mut widths, excess);
            return (widths, 1);
        }
        let shown = columns.iter().enumerate();
        let next = shown
            .filter(|(at, column)| column.goes > 0 && widths[*at] > 0)
            .max_by_key(|(_, column)| column.goes);
        let Some((next, _)) = next else {
            shrink(columns, &mut widths, most);
            return (widths, 1);
        };
        widths[next] = 0;
    }
}

/// Takes so much from those that may be cut, always from the widest.
fn shrink(columns: &[Column], widths: &mut [usize], amount: usize) {
    for _ in 0..amount {
        let all = columns.iter().enumerate();
        let widest = all
            .filter(|(at, column)| column.least.is_some_and(|least| widths[*at] > least))
            .max_by_key(|(at, _)| widths[*at]);
        if let Some((at, _)) = widest {
            widths[at] -= 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const COLUMNS: &[Column] = &[
        Column::text("NAME", 0).cut_to(4),
        Column::number("NOW", 0),
        Column::text("FROM", 2),
        Column::number("TOTAL", 1),
    ];

    fn rows() -> Vec<Vec<Cell>> {
        let row = |cells: [&str; 4]| cells.map(Cell::from).to_vec();
        vec![
            row(["東京支店", "5 Mbit/s", "192.0.2.1:9", "1.0 GiB"]),
            row(["a long name", "–", "", "9 B"]),
        ]
    }

    fn at(columns: Option<usize>) -> String {
        let screen = Screen {
            size: columns.map(|columns| (columns, 24)),
            colour: false,
        };
        grid(COLUMNS, &rows(), &screen)
    }

    #[test]
    fn a_table_takes_the_room_that_there_is() {
        let whole = "\
NAME              NOW  FROM           TOTAL
東京支店     5 Mbit/s  192.0.2.1:9  1.0 GiB
a long name         –                   9 B
";
        assert_eq!(at(None), whole);
        assert_eq!(at(Some(43)), whole);
        assert_eq!(
            at(Some(36)),
            "\
NAME         NOW FROM          TOTAL
東京支… 5 Mbit/s 192.0.2.1:9 1.0 GiB
a long…        –                 9 B
"
        );
        assert_eq!(
            at(Some(24)),
            "\
NAME         NOW   TOTAL
東京支… 5 Mbit/s 1.0 GiB
a long…        –     9 B
"
        );
        assert_eq!(
            at(Some(13)),
            "NAME      NOW\n東…  5 Mbit/s\na l…        –\n"
        );
        for columns in 13..60 {
            for line in at(Some(columns)).lines() {
                assert!(width(line) <= columns, "{columns}: {line}");
            }
        }
    }

    #[test]
    fn a_column_without_a_word_isnt_shown() {
        let rows = vec![vec![
            Cell::from("a"),
            Cell::default(),
            Cell::default(),
            Cell::from("1"),
        ]];
        assert_eq!(
            grid(COLUMNS, &rows, &Screen::NONE),
            "NAME  TOTAL\na         1\n"
        );
        let mut columns = COLUMNS.to_vec();
        columns[1] = columns[1].at_least(8);
        assert_eq!(
            grid(&columns, &rows, &Screen::NONE),
            "NAME       NOW  TOTAL\na                   1\n"
        );
    }
}
