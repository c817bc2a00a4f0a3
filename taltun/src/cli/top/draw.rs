//! Makes a picture of a [`Model`], and of nothing else.
//!
//! From above: what the tunnel moves, how it is attached, the list, beside the peers what is dropped
//! and who sends it, and the keys. A low terminal has less of these, a narrow one fewer columns.

mod frame;
mod lists;
#[cfg(test)]
mod tests;

use std::time::Instant;

use ratatui::Frame;

use self::frame::{Line, put};
use super::model::{Mode, Model};
use super::places::Places;
use crate::cli::grid::Cell;
use crate::cli::screen::Style;
use crate::cli::status;
use crate::cli::width::wrap;

/// Blanks before what follows of a line of details: deeper than the line itself.
const INDENT: usize = 4;

/// Draws the picture.
pub(super) fn draw(frame: &mut Frame<'_>, model: &Model, now: Instant) {
    let area = frame.area();
    let (width, height) = (usize::from(area.width), usize::from(area.height));
    let places = Places::of(model.view, height);
    let mut lines: Vec<Line> = vec![frame::totals(model, width)];
    if places.modes > 0 {
        lines.push(frame::modes(model));
    }
    match &model.mode {
        Mode::Help(first) => {
            let room = height.saturating_sub(lines.len() + 1);
            lines.extend(scrolled(frame::help(width), usize::from(*first), room));
        }
        Mode::Details(first) => {
            let room = height.saturating_sub(lines.len() + 1);
            lines.extend(scrolled(details(model, width), usize::from(*first), room));
        }
        Mode::List | Mode::Find | Mode::Question(_) => {
            let mut list = lists::list(model, width);
            list.truncate(places.list);
            let missing = places.list - list.len();
            lines.extend(list);
            lines.extend(std::iter::repeat_n(Vec::new(), missing));
            if places.beside > 0 {
                lines.extend(lists::beside(model, width, places.beside));
            }
        }
    }
    let mut foot = frame::foot(model, width, now);
    foot.truncate(height);
    let below = height - foot.len();
    lines.truncate(below);
    let chosen = chosen_row(model, &places);
    for (row, line) in lines.iter().enumerate() {
        put(frame, row, line, model.colours, chosen == Some(row));
    }
    for (row, line) in (below..).zip(&foot) {
        put(frame, row, line, model.colours, false);
    }
}

/// The row of the chosen line of the list.
fn chosen_row(model: &Model, places: &Places) -> Option<usize> {
    if matches!(model.mode, Mode::Help(_) | Mode::Details(_)) || model.length() == 0 {
        return None;
    }
    let at = model.chosen.checked_sub(model.first)?;
    // Below the totals, the modes and the heads.
    (at + 1 < places.list).then_some(2 + places.modes + at)
}

/// A text from a line on, and no further than its last line shows.
fn scrolled(text: Vec<Line>, first: usize, room: usize) -> Vec<Line> {
    let last = text.len().saturating_sub(room.max(1));
    text.into_iter().skip(first.min(last)).collect()
}

/// All of the chosen peer, wrapped to the room there is.
fn details(model: &Model, room: usize) -> Vec<Line> {
    let Some(peer) = model.chosen_peer() else {
        return vec![vec![Cell::of("this peer is gone", Style::Faint)]];
    };
    let text = status::peer::alone(std::slice::from_ref(peer));
    let lines = text.lines().flat_map(|line| wrap(line, room, INDENT));
    let lines = lines.map(|line| vec![Cell::from(line)]);
    let sparks = [("↓", &model.peers_down), ("↑", &model.peers_up)].map(|(arrow, all)| {
        let spark = all.spark(&peer.public_key, room.saturating_sub(4).min(60));
        vec![
            Cell::from(format!("  {arrow} ")),
            Cell::of(spark, Style::Good),
        ]
    });
    lines.chain(sparks).collect()
}
