//! Sparklines: a name, a column for each piece of time with the latest at the right, and the last
//! value.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::text::{Line, Span};

use super::{Theme, put, row};
use crate::run::model::{Mark, Track};

const BARS: [&str; 8] = ["▁", "▂", "▃", "▄", "▅", "▆", "▇", "█"];
/// Something that failed.
const MISS: &str = "✗";
/// Columns of the value, where there is room for all.
const VALUE: u16 = 13;
/// A sparkline with less than this isn't one.
const LEAST: u16 = 6;

/// Paints a row for each of `tracks`.
pub fn paint(tracks: &[Track], theme: Theme, area: Rect, to: &mut Buffer) {
    let longest = tracks.iter().map(|track| Span::raw(&track.name).width());
    let name = longest.max().unwrap_or_default() as u16 + 1;
    // The name gives way first, then the sparkline goes.
    let name = name.min(area.width.saturating_sub(VALUE + LEAST + 1));
    let bars = area.width.saturating_sub(name + VALUE + 1);
    for (track, at) in tracks.iter().zip(0..area.height) {
        let row = row(area, at);
        let part = |x: u16, width: u16| Rect {
            x: row.x + x,
            width: width.min(row.width.saturating_sub(x)),
            ..row
        };
        put(&Line::raw(&track.name), part(0, name.saturating_sub(1)), to);
        put(&bars_of(track, theme, bars), part(name, bars), to);
        let value = Line::raw(&track.value).right_aligned();
        put(&value, part(name + bars + 1, VALUE), to);
    }
}

fn bars_of<'a>(track: &Track, theme: Theme, width: u16) -> Line<'a> {
    let width = usize::from(width);
    let shown = || {
        let skipped = track.marks.len().saturating_sub(width);
        track.marks.iter().skip(skipped)
    };
    let highest = shown().fold(0.0_f64, |highest, mark| match mark {
        Mark::Level(level) => highest.max(*level),
        Mark::Miss => highest,
    });
    let mut spans = vec![Span::raw(" ".repeat(width - shown().count()))];
    spans.extend(shown().map(|mark| match mark {
        Mark::Miss => Span::styled(MISS, theme.bad()),
        Mark::Level(level) => {
            let bar = BARS[step(*level, highest)];
            let bad = track.is_loss && *level > 0.0;
            Span::styled(bar, if bad { theme.bad() } else { theme.good() })
        }
    }));
    spans.into()
}

/// Which bar is for `level`, of at most `highest`.
fn step(level: f64, highest: f64) -> usize {
    // Bounds between two bars that are at or below it.
    let steps = (1..BARS.len()).map(|step| (step as f64 - 0.5) / (BARS.len() - 1) as f64);
    steps.take_while(|bound| level > bound * highest).count()
}
