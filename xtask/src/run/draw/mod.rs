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
pub use theme::Theme;

/// With less room than this there is nothing to be drawn.
const SMALLEST: (u16, u16) = (16, 3);

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
    put(&title(model), row(area, 0), to);
    for (line, at) in keys.into_iter().zip(area.height - below..) {
        put(&line, row(area, at), to);
    }
    // Between the two: an empty line above and below the machines where there is room for it.
    let mut rest = cut(area, 1, below);
    let roomy = rest.height > 16;
    if roomy {
        rest = cut(rest, 1, 0);
    }
    let tracks = (model.tracks.len() as u16).min(rest.height);
    let height = hosts::height(model, rest.width, rest.height - tracks);
    hosts::paint(model, theme, first(rest, height), to);
    rest = cut(rest, (height + u16::from(roomy)).min(rest.height), 0);
    let tracks = tracks.min(rest.height);
    tracks::paint(&model.tracks, theme, first(rest, tracks), to);
    rest = cut(rest, (tracks + u16::from(roomy)).min(rest.height), 0);
    let shown = model.news.len().saturating_sub(usize::from(rest.height));
    for (news, at) in model.news.iter().skip(shown).zip(0..rest.height) {
        put(&news_line(news, theme), row(rest, at), to);
    }
}

fn title(model: &Model) -> Line<'_> {
    let mut spans = vec![
        Span::styled(model.title.as_str(), Theme::strong()),
        Span::raw(format!("  {}", units::clock(model.elapsed))),
    ];
    if let Some(doing) = &model.doing {
        spans.push(Span::styled(format!("  {doing}"), Theme::faint()));
    }
    spans.into()
}

fn news_line(news: &News, theme: Theme) -> Line<'_> {
    let (sign, style) = match news.ok {
        Some(true) => ("✓".to_owned(), theme.good()),
        Some(false) => ("✗".to_owned(), theme.bad()),
        None => (units::clock(news.at), Theme::faint()),
    };
    vec![
        Span::styled(sign, style),
        Span::raw(" "),
        Span::raw(news.text.as_str()),
    ]
    .into()
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
