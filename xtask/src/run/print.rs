//! The result for people: each check once, aligned.

use std::fmt::Write as _;
use std::io::{self, IsTerminal};

use super::report::{Check, Report};
use super::view::say;
use super::wrap::{width, wrapped};

/// Names up to this long have their details beside them, else below.
const BESIDE: usize = 24;

/// Prints what of the result hasn't been printed, and whether all is well.
pub fn report(report: &Report) {
    let mut text = String::from("\n");
    text += &lines(&report.checks[report.printed..], terminal_width());
    text.push('\n');
    text += &verdict(report);
    say(false, &text);
}

/// The checks and their verdicts, aligned with each other, wrapped where a terminal would.
fn lines(checks: &[Check], terminal: Option<usize>) -> String {
    let widths = checks.iter().map(|check| width(&check.name));
    let longest = widths.max().unwrap_or_default();
    let mut text = String::new();
    for check in checks {
        if longest > BESIDE {
            text.push_str(&sentence(check, terminal));
            continue;
        }
        let space = " ".repeat(longest - width(&check.name) + 2);
        let detail = detail(check, longest + 4, terminal);
        // Writing to a String can't fail.
        let _ = writeln!(text, "{}{space}{detail}", first(check));
    }
    text
}

/// The same for one that is printed as soon as it is known, with its detail always below.
pub fn early_line(check: &Check) -> String {
    sentence(check, terminal_width())
}

/// A check with its detail below.
fn sentence(check: &Check, terminal: Option<usize>) -> String {
    let name = match terminal {
        Some(room) => wrapped(&first(check), room).join("\n  "),
        None => first(check),
    };
    format!("{name}\n    {}\n", detail(check, 4, terminal))
}

fn first(check: &Check) -> String {
    format!("{} {}", if check.ok { "✓" } else { "✗" }, check.name)
}

/// The detail that begins at column `indent`, and so do its further lines.
fn detail(check: &Check, indent: usize, terminal: Option<usize>) -> String {
    let Some(columns) = terminal else {
        return check.detail.clone();
    };
    let room = columns.saturating_sub(indent).max(20);
    wrapped(&check.detail, room).join(&format!("\n{}", " ".repeat(indent)))
}

/// Columns of the terminal that stdout is, if it is one.
fn terminal_width() -> Option<usize> {
    let is_terminal = io::stdout().is_terminal();
    let size = is_terminal.then(|| crossterm::terminal::size().ok());
    size.flatten().map(|(columns, _)| usize::from(columns))
}

fn verdict(report: &Report) -> String {
    let failed = report.checks.iter().filter(|check| !check.ok);
    let failed: Vec<&str> = failed.map(|check| check.name.as_str()).collect();
    let all = report.checks.len();
    let mut text = match (all, failed.len()) {
        (1, 0) => "The only check is ok.".to_owned(),
        (_, 0) => format!("All {all} checks are ok."),
        (_, count) => format!("{count} of {all} checks failed: {}.", failed.join(", ")),
    };
    if report.cut_short {
        text.push_str(" It was ended before everything was checked.");
    }
    text.push('\n');
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn details_are_aligned_and_each_check_is_there_once() {
        let checks = [
            Check::passed("ping a→hub", "5 of 5"),
            Check::failed("tcp a→b by relay", "not a byte arrived"),
        ];
        assert_eq!(
            lines(&checks, None),
            "✓ ping a→hub        5 of 5\n✗ tcp a→b by relay  not a byte arrived\n"
        );
        let report = Report::of(checks.into());
        assert_eq!(
            verdict(&report),
            "1 of 2 checks failed: tcp a→b by relay.\n"
        );
    }

    #[test]
    fn what_a_terminal_would_break_is_broken_between_words() {
        let check = Check::passed("tcp", "one two three four five six");
        let shown = lines(&[check], Some(27));
        assert_eq!(shown, "✓ tcp  one two three four\n       five six\n");
    }

    #[test]
    fn a_sentence_has_its_detail_below() {
        let check = Check::passed("the laptop reaches the hub, and nobody else", "3 of 3");
        let text = "✓ the laptop reaches the hub, and nobody else\n    3 of 3\n";
        assert_eq!(lines(std::slice::from_ref(&check), Some(80)), text);
        assert_eq!(sentence(&check, None), text);
        assert_eq!(
            sentence(&check, Some(24)),
            "✓ the laptop reaches the\n  hub, and nobody else\n    3 of 3\n"
        );
        assert_eq!(verdict(&Report::of(vec![check])), "The only check is ok.\n");
        let mut ended = Report::of(vec![]);
        ended.cut_short = true;
        assert_eq!(
            verdict(&ended),
            "All 0 checks are ok. It was ended before everything was checked.\n"
        );
    }
}
