//! The screen of a terminal as SVG: text that can be read, searched and zoomed, on light pages and on
//! dark ones.

use std::fmt::Write;

use vt100::{Cell, Color, Screen};

/// A character's place.
const WIDTH: f64 = 8.0;
const HEIGHT: f64 = 17.0;
/// From a place's top to the line that characters stand on.
const BASE: f64 = 13.0;
/// Around all of it, and above it for the title.
const EDGE: f64 = 14.0;
const TITLE: f64 = 30.0;

/// Colours are classes, so that each page has its own: by the number of the terminal's colour.
const STYLE: &str = "\
svg{--b:#fbfbfa;--f:#24292f;--t:#6e7781;--l:#d0d7de;\
--c1:#b42318;--c2:#1a7f37;--c3:#8a5a00;--c4:#0550ae;--c5:#8250df;--c6:#0a6b74;--c7:#57606a}\
@media(prefers-color-scheme:dark){svg{--b:#16191d;--f:#d7dde3;--t:#8b949e;--l:#30363d;\
--c1:#ff7b72;--c2:#56d364;--c3:#e3b341;--c4:#79c0ff;--c5:#d2a8ff;--c6:#56d4dd;--c7:#9da7b1}}\
text{font:14px ui-monospace,'DejaVu Sans Mono',Menlo,Consolas,monospace;fill:var(--f);white-space:pre}\
.t{fill:var(--t);text-anchor:middle}.b{font-weight:700}.d{opacity:.62}.r{fill:var(--b)}\
.c1{fill:var(--c1)}.c2{fill:var(--c2)}.c3{fill:var(--c3)}.c4{fill:var(--c4)}.c5{fill:var(--c5)}\
.c6{fill:var(--c6)}.c7{fill:var(--c7)}.f{fill:var(--f)}";

/// Draws a screen, under a title, down to its last line with something in it.
pub fn draw(screen: &Screen, title: &str) -> String {
    let columns = screen.size().1.get();
    let rows = used_rows(screen);
    let width = f64::from(columns) * WIDTH + 2.0 * EDGE;
    let height = f64::from(rows) * HEIGHT + TITLE + EDGE;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" \
         width=\"{width}\" height=\"{height}\" role=\"img\" aria-label=\"{label}\">\n\
         <style>{STYLE}</style>\n\
         <rect x=\".5\" y=\".5\" width=\"{inner_width}\" height=\"{inner_height}\" rx=\"8\" \
         style=\"fill:var(--b);stroke:var(--l)\"/>\n\
         <text class=\"t\" x=\"{middle}\" y=\"20\">{label}</text>\n",
        label = escaped(title),
        inner_width = width - 1.0,
        inner_height = height - 1.0,
        middle = width / 2.0,
    );
    for row in 0..rows {
        draw_row(&mut svg, screen, row, columns);
    }
    svg.push_str("</svg>\n");
    svg
}

/// Rows down to the last one that isn't empty.
fn used_rows(screen: &Screen) -> u16 {
    let (rows, columns) = screen.size();
    let (rows, columns) = (rows.get(), columns.get());
    let is_used = |row: u16| {
        (0..columns).any(|column| {
            let cell = screen.cell(row, column);
            cell.is_some_and(|cell| !cell.contents().trim().is_empty() || cell.inverse())
        })
    };
    (0..rows)
        .rev()
        .find(|row| is_used(*row))
        .map_or(1, |row| row + 1)
}

/// Draws a row: characters of one look together, and the blocks of sparklines as what they are, as
/// each font has them a little different.
fn draw_row(svg: &mut String, screen: &Screen, row: u16, columns: u16) {
    let top = TITLE + f64::from(row) * HEIGHT;
    let mut run: Option<Run> = None;
    for column in 0..columns {
        let Some(cell) = screen.cell(row, column) else {
            continue;
        };
        // The second half of a wide character.
        if cell.is_wide_continuation() {
            if let Some(run) = &mut run {
                run.columns += 1;
            }
            continue;
        }
        let left = EDGE + f64::from(column) * WIDTH;
        let text = cell.contents();
        let look = look_of(cell);
        if cell.inverse() {
            let class = colour(cell.fgcolor()).unwrap_or("f");
            rect(svg, class, (left, top), (WIDTH, HEIGHT));
        }
        if let Some(eighths) = block(text) {
            finish(svg, &mut run, top);
            let tall = (HEIGHT - 3.0) * f64::from(eighths) / 8.0;
            let class = match colour(cell.fgcolor()) {
                _ if cell.inverse() => "r",
                Some(class) => class,
                None => "f",
            };
            rect(
                svg,
                class,
                (left, top + HEIGHT - 2.0 - tall),
                (WIDTH - 1.0, tall),
            );
            continue;
        }
        let is_blank = text.trim().is_empty();
        match &mut run {
            Some(run) if run.look == look || is_blank => run.add(if is_blank { " " } else { text }),
            _ if is_blank => {}
            _ => {
                finish(svg, &mut run, top);
                run = Some(Run::begin(left, look, text));
            }
        }
    }
    finish(svg, &mut run, top);
}

/// Characters of one look beside each other.
struct Run {
    left: f64,
    look: String,
    text: String,
    columns: u16,
}

impl Run {
    fn begin(left: f64, look: String, text: &str) -> Self {
        Self {
            left,
            look,
            text: text.to_owned(),
            columns: 1,
        }
    }

    fn add(&mut self, text: &str) {
        self.text.push_str(text);
        self.columns += 1;
    }
}

/// Writes the characters that wait.
fn finish(svg: &mut String, run: &mut Option<Run>, top: f64) {
    let Some(mut run) = run.take() else { return };
    let text = run.text.trim_end();
    run.columns -= (run.text.len() - text.len()) as u16;
    // The length keeps columns in line, whatever font there is.
    let length = f64::from(run.columns) * WIDTH;
    let class = if run.look.is_empty() {
        String::new()
    } else {
        format!(" class=\"{}\"", run.look)
    };
    // Writing to a String can't fail.
    let _ = writeln!(
        svg,
        "<text{class} x=\"{}\" y=\"{}\" textLength=\"{length}\">{}</text>",
        run.left,
        top + BASE,
        escaped(text)
    );
}

fn rect(svg: &mut String, class: &str, (x, y): (f64, f64), (width, height): (f64, f64)) {
    let _ = writeln!(
        svg,
        "<rect class=\"{class}\" x=\"{x}\" y=\"{y:.1}\" width=\"{width}\" height=\"{height:.1}\"/>"
    );
}

/// How many eighths of its place a block fills from below.
fn block(text: &str) -> Option<u32> {
    let mut characters = text.chars();
    let first = characters.next()?;
    if characters.next().is_some() {
        return None;
    }
    (u32::from(first))
        .checked_sub(0x2580)
        .filter(|eighths| (1..=8).contains(eighths))
}

/// The classes of a character.
fn look_of(cell: &Cell) -> String {
    let mut classes = Vec::new();
    if cell.bold() {
        classes.push("b");
    }
    if cell.dim() {
        classes.push("d");
    }
    if cell.inverse() {
        classes.push("r");
    } else {
        classes.extend(colour(cell.fgcolor()));
    }
    classes.join(" ")
}

/// The class of a colour; of those that terminals name, as we use no others.
fn colour(colour: Color) -> Option<&'static str> {
    match colour {
        Color::Idx(1 | 9) => Some("c1"),
        Color::Idx(2 | 10) => Some("c2"),
        Color::Idx(3 | 11) => Some("c3"),
        Color::Idx(4 | 12) => Some("c4"),
        Color::Idx(5 | 13) => Some("c5"),
        Color::Idx(6 | 14) => Some("c6"),
        Color::Idx(7 | 8) => Some("c7"),
        Color::Default | Color::Idx(_) | Color::Rgb(..) => None,
    }
}

/// `text` with what means something to XML written so that it doesn't.
pub fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU16;

    use super::*;

    fn drawn(text: &str) -> String {
        let size = |count| NonZeroU16::new(count).unwrap();
        let mut parser = vt100::Parser::new(size(4), size(20), 0);
        parser.process(text.as_bytes());
        draw(parser.screen(), "a <title>")
    }

    #[test]
    fn a_screen_is_drawn_with_its_looks() {
        let svg = drawn("\x1b[1mab\x1b[0m  c<d\r\n\x1b[32m●\x1b[0m 東 \x1b[31m▁█\x1b[0m");
        for part in [
            "aria-label=\"a &lt;title&gt;\"",
            "<text class=\"b\" x=\"14\" y=\"43\" textLength=\"16\">ab</text>",
            "<text x=\"46\" y=\"43\" textLength=\"24\">c&lt;d</text>",
            "<text class=\"c2\" x=\"14\" y=\"60\" textLength=\"8\">●</text>",
            "<text x=\"30\" y=\"60\" textLength=\"16\">東</text>",
            "<rect class=\"c1\" x=\"54\"",
            "<rect class=\"c1\" x=\"62\"",
        ] {
            assert!(svg.contains(part), "{part}\n{svg}");
        }
        // Two lines, and no more.
        assert!(svg.contains("viewBox=\"0 0 188 78\""), "{svg}");
    }

    #[test]
    fn what_is_inverse_is_drawn_on_its_colour() {
        let svg = drawn("\x1b[7mx\x1b[0m");
        assert!(
            svg.contains("<rect class=\"f\" x=\"14\" y=\"30.0\""),
            "{svg}"
        );
        assert!(svg.contains("<text class=\"r\""), "{svg}");
    }
}
