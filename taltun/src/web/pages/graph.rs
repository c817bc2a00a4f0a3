//! The last minutes, drawn: traffic as three lines, and drops as bars below. The words are beside the
//! drawing, so that it can be as wide as there is room.

use maud::{Markup, html};

use crate::report::Moment;
use crate::web::units;
use crate::web::words::Language;

/// How wide the drawing is, in units of its own: one a second.
const WIDTH: usize = 300;
/// How high the lines get, and the bars.
const HEIGHT: f64 = 100.0;
const BARS: f64 = 24.0;
/// The least that the lines' scale shows, bytes a second, and the bars', packets.
const LEAST: u64 = 1250;
const LEAST_DROPS: u64 = 10;

/// A line of the drawing: its class, what it is called, and its value at a moment.
type Series<'w> = (&'w str, &'w str, fn(&Moment) -> u64);

/// The drawing, with what its lines are.
pub(super) fn graph(moments: &[Moment], language: Language) -> Markup {
    let words = language.words();
    let series: [Series<'_>; 3] = [
        ("rx", words.to_hub, |moment| moment.rx_bytes),
        ("tx", words.from_hub, |moment| moment.tx_bytes),
        ("relayed", words.relayed, |moment| moment.relayed_bytes),
    ];
    let largest = moments.iter().filter_map(|moment| {
        let of = |(_, _, value): &Series<'_>| value(moment);
        series.iter().map(of).max()
    });
    let top = ceiling(largest.max().unwrap_or(0).saturating_mul(8).max(LEAST * 8));
    let most_drops = moments.iter().map(|moment| moment.drops).max();
    let top_drops = ceiling(most_drops.unwrap_or(0).max(LEAST_DROPS));
    html! {
        ul.legend {
            @for (class, name, _) in &series { li class=(class) { (name) } }
            li.drops { (words.drops) }
        }
        div.plot {
            svg viewBox={ "0 0 " (WIDTH) " " (HEIGHT) } preserveAspectRatio="none" role="img"
                aria-label=(words.traffic) {
                @for line in [25, 50, 75] {
                    line.grid x1="0" x2=(WIDTH) y1=(line) y2=(line) {}
                }
                @for (class, _, value) in &series {
                    @let points = points(moments, *value, top);
                    @if *class == "rx" && !points.is_empty() {
                        polygon.area points={ (first(moments)) "," (HEIGHT) " " (points) " " (WIDTH) "," (HEIGHT) } {}
                    }
                    polyline class=(class) points=(points) {}
                }
            }
            span.top { (units::rate(top / 8, language)) }
        }
        div.plot.bars {
            svg viewBox={ "0 0 " (WIDTH) " " (BARS) } preserveAspectRatio="none" role="img"
                aria-label=(words.drops) {
                path.drops d=(bars(moments, top_drops)) {}
            }
            span.top { (units::count(top_drops, language)) "/s" }
        }
        div.times { span { (words.minutes_ago) } span { (words.now) } }
    }
}

/// Where the first moment is.
fn first(moments: &[Moment]) -> usize {
    WIDTH.saturating_sub(moments.len())
}

/// A line's points, the last one at the right edge.
fn points(moments: &[Moment], value: fn(&Moment) -> u64, top: u64) -> String {
    let shown = moments.iter().rev().take(WIDTH).rev();
    let points = shown.zip(first(moments)..).map(|(moment, x)| {
        let bits = value(moment).saturating_mul(8) as f64;
        let y = HEIGHT - bits / top as f64 * HEIGHT;
        (x.saturating_add(1), format!("{y:.1}"))
    });
    let points: Vec<(usize, String)> = points.collect();
    // Where a line is level its ends are enough: it is sent each second.
    let is_level = |at: usize| {
        let y = |at: Option<usize>| points.get(at?).map(|(_, y)| y);
        let (before, own, after) = (y(at.checked_sub(1)), y(Some(at)), y(at.checked_add(1)));
        before == own && own == after
    };
    let kept = points.iter().enumerate().filter(|(at, _)| !is_level(*at));
    let kept = kept.map(|(_, (x, y))| format!("{x},{y}"));
    kept.collect::<Vec<_>>().join(" ")
}

/// Bars, those without height left out.
fn bars(moments: &[Moment], top: u64) -> String {
    let shown = moments.iter().rev().take(WIDTH).rev();
    let bars = shown.zip(first(moments)..).filter_map(|(moment, x)| {
        // One packet is seen, too.
        let height = (moment.drops as f64 / top as f64 * BARS).max(1.5);
        (moment.drops > 0).then(|| format!("M{x},{BARS}v-{height:.1}h1v{height:.1}z"))
    });
    bars.collect()
}

/// The next number that is 1, 2 or 5 with noughts.
fn ceiling(number: u64) -> u64 {
    let mut step: u64 = 1;
    loop {
        for factor in [1, 2, 5] {
            let Some(round) = step.checked_mul(factor) else {
                return number;
            };
            if round >= number {
                return round;
            }
        }
        step = step.saturating_mul(10);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scales_end_at_round_numbers() {
        for (number, round) in [(0, 1), (1, 1), (3, 5), (11, 20), (200, 200), (201, 500)] {
            assert_eq!(ceiling(number), round);
        }
        assert_eq!(ceiling(u64::MAX), u64::MAX);
    }

    #[test]
    fn lines_end_at_the_right_and_at_their_heights() {
        let moment = |rx_bytes, drops| Moment {
            rx_bytes,
            drops,
            ..Moment::default()
        };
        let moments = [moment(0, 0), moment(125_000, 5)];
        let drawn = graph(&moments, Language::English).into_string();
        assert!(drawn.contains("points=\"299,100.0 300,0.0\""), "{drawn}");
        assert!(drawn.contains("M299,24v-12.0h1v12.0z"), "{drawn}");
        assert!(drawn.contains("1.0\u{a0}Mbit/s"), "{drawn}");
        let level = [moment(0, 0), moment(0, 0), moment(0, 0), moment(125_000, 0)];
        let drawn = graph(&level, Language::English).into_string();
        assert!(
            drawn.contains("points=\"297,100.0 299,100.0 300,0.0\""),
            "{drawn}"
        );
        let many = vec![moment(u64::MAX, u64::MAX); 1000];
        let drawn = graph(&many, Language::Spanish).into_string();
        assert!(!drawn.contains("NaN") && !drawn.contains('∞'), "{drawn}");
        graph(&[], Language::English);
    }
}
