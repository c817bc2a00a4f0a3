//! The drawing of a lab: a function of the [`Model`] and of the room that there is.
//!
//! ```text
//! title, and what is being done
//! machines: some left, one in the middle, the others right   (hosts.rs)
//! what is measured all the time, as sparklines               (tracks.rs)
//! what was checked and what happened
//! keys
//! ```
//!
//! Nothing is told by colour alone, so that it can be left out.

mod hosts;
mod theme;
mod tracks;

use ratatui::Frame;
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::text::{Line, Span};
use ratatui::widgets::Widget;

use super::model::{Model, News};
use super::units;
use super::wrap::wrapped;
pub use theme::Theme;

/// With less room than this there is nothing to be drawn.
const SMALLEST: (u16, u16) = (16, 3);
/// Rows of the title and of what is being done: on a terminal of few rows, and else.
const HEAD: (usize, usize) = (1, 3);
/// Rows that are kept for news there: what was found last fits.
const NEWS: u16 = 3;
/// A terminal of so many rows hasn't few.
const ROWS: u16 = 20;

/// Draws `model`.
pub fn draw(frame: &mut Frame<'_>, model: &Model, theme: Theme) {
    let area = frame.area();
    paint(model, theme, area, frame.buffer_mut());
}

fn paint(model: &Model, theme: Theme, area: Rect, to: &mut Buffer) {
    if area.width < SMALLEST.0 || area.height < SMALLEST.1 {
        put(&Line::raw("too small"), row(area, 0), to);
        return;
    }
    let keys = key_lines(model, area.width);
    let below = (keys.len() as u16).min(area.height - 2);
    let mut head = head(model, area.width);
    head.truncate(if area.height < ROWS { HEAD.0 } else { HEAD.1 });
    let above = head.len() as u16;
    for (line, at) in head.into_iter().zip(0..) {
        put(&line, row(area, at), to);
    }
    for (line, at) in keys.into_iter().zip(area.height - below..) {
        put(&line, row(area, at), to);
    }
    // Between the two: an empty line above and below the machines where there is room for it. What is being
    // done may be in the upper one.
    let mut rest = cut(area, above, below);
    let roomy = rest.height > 16;
    if roomy && above == 1 {
        rest = cut(rest, 1, 0);
    }
    let tracks = (model.tracks.len() as u16).min(rest.height);
    let kept = if area.height < ROWS { 0 } else { NEWS };
    let most = (rest.height - tracks).saturating_sub(kept);
    let height = hosts::height(model, rest.width, most);
    hosts::paint(model, theme, first(rest, height), to);
    // No empty line where it would take the room of news.
    let blank = |rest: Rect, others: u16| u16::from(roomy && rest.height > others + NEWS);
    rest = cut(rest, height.min(rest.height), 0);
    rest = cut(rest, blank(rest, tracks), 0);
    let tracks = tracks.min(rest.height);
    tracks::paint(&model.tracks, theme, first(rest, tracks), to);
    rest = cut(rest, tracks, 0);
    rest = cut(rest, blank(rest, 0), 0);
    for (line, at) in latest(model, theme, rest).into_iter().zip(0..rest.height) {
        put(&line, row(rest, at), to);
    }
}

/// The title, and what is being done: behind it if there is room, else below.
fn head(model: &Model, width: u16) -> Vec<Line<'_>> {
    let mut title = Line::from(vec![
        Span::styled(model.title.as_str(), Theme::strong()),
        Span::raw(format!("  {}", units::clock(model.elapsed))),
    ]);
    let Some(doing) = &model.doing else {
        return vec![title];
    };
    let behind = Span::styled(format!("  {doing}"), Theme::faint());
    if title.width() + behind.width() <= usize::from(width) {
        title.push_span(behind);
        return vec![title];
    }
    let below = wrapped(doing, usize::from(width)).into_iter();
    let below = below.map(|line| Line::styled(line, Theme::faint()));
    std::iter::once(title).chain(below).collect()
}

/// The latest news, as many as there is room for, each whole.
fn latest(model: &Model, theme: Theme, room: Rect) -> Vec<Line<'_>> {
    let mut lines = Vec::new();
    for news in model.news.iter().rev() {
        let earlier = news_lines(news, theme, room.width);
        if !lines.is_empty() && lines.len() + earlier.len() > usize::from(room.height) {
            break;
        }
        lines.splice(0..0, earlier);
    }
    lines
}

/// On as many lines as it needs.
fn news_lines(news: &News, theme: Theme, width: u16) -> Vec<Line<'_>> {
    let (sign, style) = match news.ok {
        Some(true) => ("✓".to_owned(), theme.good()),
        Some(false) => ("✗".to_owned(), theme.bad()),
        None => (units::clock(news.at), Theme::faint()),
    };
    let mut begin = Span::styled(sign + " ", style);
    let indent = begin.width();
    let lines = wrapped(&news.text, usize::from(width).saturating_sub(indent));
    let lines = lines.into_iter().map(|line| {
        let next = Span::raw(" ".repeat(indent));
        Line::from(vec![std::mem::replace(&mut begin, next), Span::raw(line)])
    });
    lines.collect()
}

/// The keys, on as many lines as they need.
fn key_lines(model: &Model, width: u16) -> Vec<Line<'_>> {
    let mut lines = vec![Line::default()];
    for (key, what) in &model.keys {
        let spans = [
            Span::styled(key.as_str(), Theme::strong()),
            Span::raw(format!(" {what}")),
        ];
        let length: usize = spans.iter().map(Span::width).sum();
        let last = lines.last().map_or(0, Line::width);
        if last > 0 && last + 2 + length > usize::from(width) {
            lines.push(Line::default());
        } else if let Some(line) = lines.last_mut().filter(|line| line.width() > 0) {
            line.push_span("  ");
        }
        if let Some(line) = lines.last_mut() {
            line.extend(spans);
        }
    }
    lines
}

/// Writes a line, cut with `…` where it is longer than its row.
fn put(line: &Line<'_>, row: Rect, to: &mut Buffer) {
    if line.width() <= usize::from(row.width) {
        line.render(row, to);
        return;
    }
    // Also one that is aligned to the right keeps its beginning.
    line.clone().left_aligned().render(row, to);
    if let Some(cell) = to.cell_mut((row.right().saturating_sub(1), row.y)) {
        cell.set_symbol("…");
    }
}

fn row(area: Rect, at: u16) -> Rect {
    Rect {
        y: area.y + at.min(area.height),
        height: u16::from(at < area.height),
        ..area
    }
}

fn first(area: Rect, height: u16) -> Rect {
    Rect {
        height: height.min(area.height),
        ..area
    }
}

/// Without so many rows above and below.
fn cut(area: Rect, above: u16, below: u16) -> Rect {
    let above = above.min(area.height);
    Rect {
        y: area.y + above,
        height: (area.height - above).saturating_sub(below),
        ..area
    }
}

#[cfg(test)]
mod tests;
