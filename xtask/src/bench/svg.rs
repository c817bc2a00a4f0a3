//! The results as a chart: a panel a row, a bar a contender, each panel with a scale of its
//! own, since the rows have different units.

use std::fmt::Write as _;

use super::contender::Kind;
use super::results::{Cell, Line, Results};
use super::table::{number, rounds};
use crate::pictures::svg::escaped;

/// The whole width.
const WIDTH: u32 = 720;
/// Where the bars begin, right of the names.
const LEFT: u32 = 130;
/// The length of the longest bar, which leaves room for its figure.
const LONGEST: f64 = 480.0;
/// The height of a bar with its gap, and of a line of text.
const STEP: u32 = 22;
/// The height of a bar.
const BAR: u32 = 16;
/// Around everything, and between panels.
const MARGIN: u32 = 16;

/// The chart.
pub fn chart(results: &Results) -> String {
    let mut body = String::new();
    let mut y = MARGIN + STEP;
    text(&mut body, MARGIN, y, "head", "Taltun and others");
    y += STEP;
    text(&mut body, MARGIN, y, "note", &results.machine.line());
    y += STEP;
    let made = format!(
        "medians; {}, {} s a measurement; veths on one machine, both ends on the same cores",
        rounds(results.rounds),
        results.seconds
    );
    text(&mut body, MARGIN, y, "note", &made);
    y += MARGIN;
    for line in &results.rows {
        y = panel(&mut body, line, y);
    }
    let height = y + MARGIN;
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{height}\" viewBox=\"0 0 {WIDTH} {height}\" role=\"img\">\n\
         <title>Taltun and others</title>\n\
         <style>text{{font:13px sans-serif;fill:#222}} .head{{font-size:17px;font-weight:bold}} .panel{{font-weight:bold}} .note{{fill:#666}} .name{{text-anchor:end}}</style>\n\
         <rect width=\"{WIDTH}\" height=\"{height}\" fill=\"#fff\"/>\n{body}</svg>\n"
    )
}

/// Draws `line` below `y` and returns where it ends.
fn panel(body: &mut String, line: &Line, y: u32) -> u32 {
    let direction = if line.less_is_better {
        ", less is better"
    } else {
        ""
    };
    let title = format!("{}, {}{direction}", line.title, line.unit);
    let mut y = y + STEP;
    text(body, MARGIN, y, "panel", &title);
    y += STEP - BAR;
    let medians = line.cells.iter().filter_map(|cell| cell.median);
    let most = medians.fold(0.0, f64::max);
    for cell in &line.cells {
        bar(body, cell, y, most);
        y += STEP;
    }
    y
}

/// Draws the bar of `cell` with its top at `y`; `most` is what the longest bar stands for.
fn bar(body: &mut String, cell: &Cell, y: u32, most: f64) {
    let base = y + BAR - 4;
    text(body, LEFT - 8, base, "name", cell.contender);
    let (length, figure) = match cell.median {
        Some(value) if most > 0.0 => (value / most * LONGEST, number(value)),
        Some(value) => (0.0, number(value)),
        None => (0.0, "failed".to_owned()),
    };
    let colour = match cell.kind {
        Kind::Taltun => "#c2410c",
        Kind::NullCipher => "#e7a27f",
        Kind::Bare => "#d4d4d4",
        _ => "#7c93ad",
    };
    // Writing to a String can't fail.
    let _ = writeln!(
        body,
        "<rect x=\"{LEFT}\" y=\"{y}\" width=\"{length:.1}\" height=\"{BAR}\" fill=\"{colour}\"/>"
    );
    let x = f64::from(LEFT) + length + 6.0;
    let _ = writeln!(body, "<text x=\"{x:.1}\" y=\"{base}\">{figure}</text>");
}

fn text(body: &mut String, x: u32, y: u32, class: &str, words: &str) {
    let words = escaped(words);
    let _ = writeln!(
        body,
        "<text x=\"{x}\" y=\"{y}\" class=\"{class}\">{words}</text>"
    );
}

#[cfg(test)]
mod tests {
    use super::super::results::tests::{line, results};
    use super::super::row::Name;
    use super::*;

    fn sample() -> String {
        let mut results = results(vec![
            line(
                Name::Tcp1,
                &[
                    (Kind::Taltun, Some(3.0)),
                    (Kind::WireguardGo, Some(1.5)),
                    (Kind::BoringtunCli, None),
                ],
            ),
            line(Name::Ping, &[(Kind::Taltun, Some(0.0))]),
        ]);
        results.machine.cpu = "A <CPU> & more".to_owned();
        chart(&results)
    }

    #[test]
    fn bars_are_as_long_as_their_figures_are_large() {
        let chart = sample();
        assert!(chart.contains("width=\"480.0\" height=\"16\" fill=\"#c2410c\""));
        assert!(chart.contains("width=\"240.0\" height=\"16\" fill=\"#7c93ad\""));
        assert!(chart.contains(">failed</text>"));
        assert!(chart.contains("less is better"));
        assert!(!chart.contains("NaN"));
    }

    #[test]
    fn every_element_is_closed_and_no_name_breaks_it() {
        let chart = sample();
        assert!(chart.contains("A &lt;CPU&gt; &amp; more"));
        assert_eq!(
            chart.matches("<text").count(),
            chart.matches("</text>").count()
        );
        let rects = chart.lines().filter(|line| line.starts_with("<rect"));
        assert!(rects.into_iter().all(|rect| rect.ends_with("/>")));
        assert!(chart.starts_with("<svg ") && chart.ends_with("</svg>\n"));
    }
}
