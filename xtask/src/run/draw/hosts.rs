//! The machines: one in the middle, the others left and right of it, with lines between them.
//!
//! As boxes where there is room, on two lines each where there is less, and as a list on a narrow
//! terminal.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::Style;
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, BorderType, Widget};

use super::{Theme, put, row};
use crate::run::model::{Host, Link, Model, State};
use crate::run::units;

/// A line between two machines is at least this long, so that it can say "BANNED".
const LINK: u16 = 10;
/// A machine beside another needs this.
const NARROWEST: u16 = 16;
/// A machine wider than this looks empty.
const WIDEST: u16 = 28;
/// What is in a box.
const LINES: u16 = 3;

/// How they are drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shape {
    /// One below the other.
    List,
    /// Side by side, so many rows each.
    Beside(u16),
}

/// The rows that the machines take, of those that there are.
pub fn height(model: &Model, width: u16, most: u16) -> u16 {
    let rows = model.left.len().max(model.right.len()).max(1) as u16;
    let wanted = match shape(model, width, most) {
        Shape::List => model.hosts().count() as u16,
        // The one in the middle is never without its border.
        Shape::Beside(each) => (rows * each).max(LINES + 2),
    };
    wanted.min(most)
}

/// Paints them into `area`, which is as high as [`height`] says.
pub fn paint(model: &Model, theme: Theme, area: Rect, to: &mut Buffer) {
    match shape(model, area.width, area.height) {
        Shape::List => {
            for (host, at) in model.hosts().zip(0..area.height) {
                put(&list_line(host, theme), row(area, at), to);
            }
        }
        Shape::Beside(each) => beside(model, theme, each, area, to),
    }
}

fn shape(model: &Model, width: u16, most: u16) -> Shape {
    let rows = model.left.len().max(model.right.len()).max(1) as u16;
    let both = !model.left.is_empty() && !model.right.is_empty();
    let columns = if both { 3 } else { 2 };
    if width < NARROWEST * columns + LINK * (columns - 1) || most < LINES + 2 {
        return Shape::List;
    }
    // With a border and all lines, where one has the whole height; then with fewer lines, and
    // without a border.
    let heights = [LINES + 3, LINES + 2, LINES + 1, 2].into_iter();
    heights
        .skip(usize::from(rows > 1))
        .find(|each| rows * each <= most)
        .map_or(Shape::List, Shape::Beside)
}

fn beside(model: &Model, theme: Theme, each: u16, area: Rect, to: &mut Buffer) {
    let sides = [&model.left, &model.right].map(|side| u16::from(!side.is_empty()));
    let columns = 1 + sides[0] + sides[1];
    let box_width = ((area.width - LINK * (columns - 1)) / columns).min(WIDEST);
    let link = (area.width - box_width * columns)
        .checked_div(columns - 1)
        .unwrap_or_default();
    let centre_x = area.x + sides[0] * (box_width + link);
    let right_x = centre_x + box_width + link;
    for (hosts, x, link_x) in [
        (&model.left, area.x, area.x + box_width),
        (&model.right, right_x, centre_x + box_width),
    ] {
        // Fewer than on the other side are spread over the same height.
        let slot = area.height / hosts.len().max(1) as u16;
        for (host, at) in hosts.iter().zip(0..) {
            let place = Rect {
                x,
                y: area.y + at * slot + (slot.saturating_sub(each)) / 2,
                width: box_width,
                height: each,
            };
            machine(host, theme, place, to);
            let line = Rect {
                x: link_x,
                y: place.y + each / 2,
                width: link,
                height: 1,
            };
            put(
                &link_line(host.link, model.centre.state, theme, link),
                line,
                to,
            );
        }
    }
    let centre = Rect {
        x: centre_x,
        width: box_width,
        ..area
    };
    machine(&model.centre, theme, centre, to);
}

/// A machine: with a border where it is high enough for one.
fn machine(host: &Host, theme: Theme, area: Rect, to: &mut Buffer) {
    if area.height <= 2 {
        let mut lines = lines(host, theme, 2);
        let name = Line::styled(host.name.as_str(), Theme::strong());
        let mut first = name.clone();
        first.push_span(Span::raw(format!(" {}", host.address)));
        let fits = first.width() <= usize::from(area.width);
        put(if fits { &first } else { &name }, row(area, 0), to);
        // What matters most is last, and the address is first.
        let is_more = lines.len() > 1;
        if let Some(line) = lines.pop().filter(|_| is_more || !fits) {
            put(&line, row(area, 1), to);
        }
        return;
    }
    let border = if matches!(host.state, State::Killed(_)) {
        theme.bad()
    } else {
        Style::new()
    };
    let kind = if host.state == State::Bare {
        BorderType::Plain
    } else {
        BorderType::Double
    };
    let block = Block::bordered()
        .border_type(kind)
        .border_style(border)
        .title(Line::styled(format!(" {} ", host.name), Theme::strong()));
    let inside = block.inner(area);
    block.render(area, to);
    let lines = lines(host, theme, inside.height);
    let above = inside.height.saturating_sub(lines.len() as u16) / 2;
    for (line, at) in lines.into_iter().zip(above..inside.height) {
        put(&line.centered(), row(inside, at), to);
    }
}

/// What is in a machine's box: its address, and what it is doing, on so many lines where that can be.
fn lines(host: &Host, theme: Theme, room: u16) -> Vec<Line<'_>> {
    let mut lines = vec![Line::raw(host.address.as_str())];
    if !host.note.is_empty() {
        lines.push(Line::styled(host.note.as_str(), Theme::faint()));
    }
    match (host.state, host.link) {
        (State::Killed(time), _) => {
            lines.push(Line::styled(
                format!("✗ KILLED {}", units::clock(time)),
                theme.bad(),
            ));
        }
        (State::Starting, _) => lines.push(Line::raw("starting again")),
        (_, Link::Banned(left)) => lines.push(Line::styled(banned(left), theme.bad())),
        _ => match host.rates {
            Some((sent, received)) if lines.len() as u16 + 2 <= room => {
                lines.push(Line::raw(format!("↑ {}", units::rate(sent))));
                lines.push(Line::raw(format!("↓ {}", units::rate(received))));
            }
            Some((sent, received)) => {
                lines.push(Line::raw(format!("↑{} ↓{}", short(sent), short(received))));
            }
            None => {}
        },
    }
    lines
}

fn list_line(host: &Host, theme: Theme) -> Line<'_> {
    let mut line = Line::styled(host.name.as_str(), Theme::strong());
    line.push_span(Span::raw(" "));
    let sign = match host.link {
        Link::Plain => Span::raw("─"),
        Link::Tunnel => Span::styled("═", theme.good()),
        Link::Waiting => Span::raw("╌"),
        Link::Banned(_) => Span::styled("╳", theme.bad()),
    };
    line.push_span(sign);
    // What changes comes before what doesn't: it is cut last.
    for part in lines(host, theme, 0).into_iter().rev() {
        line.push_span(Span::raw(" "));
        line.extend(part.spans.into_iter().map(|span| {
            let style = part.style.patch(span.style);
            span.style(style)
        }));
    }
    line
}

/// The line to the machine in the middle.
fn link_line<'a>(link: Link, centre: State, theme: Theme, width: u16) -> Line<'a> {
    let gone = matches!(centre, State::Killed(_) | State::Starting);
    let (stroke, word, style) = match link {
        Link::Plain => ("─", String::new(), Theme::faint()),
        Link::Banned(_) => ("─", " ╳ ".to_owned(), theme.bad()),
        Link::Tunnel | Link::Waiting if gone => ("╌", " ╳ ".to_owned(), theme.bad()),
        Link::Waiting => ("╌", String::new(), Theme::faint()),
        Link::Tunnel => ("═", String::new(), theme.good()),
    };
    let length = usize::from(width).saturating_sub(Span::raw(&word).width());
    let text = format!(
        "{}{word}{}",
        stroke.repeat(length / 2),
        stroke.repeat(length - length / 2)
    );
    Line::styled(text, style)
}

fn banned(left: Option<std::time::Duration>) -> String {
    // The second that has begun counts.
    let left = left.map(|left| format!(" {} s", left.as_secs_f64().ceil()));
    format!("✗ BANNED{}", left.unwrap_or_default())
}

/// A rate by the first letter of its unit, where both ways share a line.
fn short(bits: f64) -> String {
    let text = units::rate(bits);
    let (number, unit) = text.split_once(' ').unwrap_or((&text, ""));
    let letter = unit.chars().next().filter(|letter| *letter != 'b');
    letter.map_or_else(|| number.to_owned(), |letter| format!("{number} {letter}"))
}
