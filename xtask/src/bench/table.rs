//! The results as Markdown tables that read well on a terminal too.

use std::fmt::Write as _;

use super::contender::Kind;
use super::results::{Cell, Party, Results};

/// What stands where there is nothing to measure.
pub const NOTHING: &str = "–";
/// What stands where measuring went wrong.
const FAILED: &str = "failed";

/// The whole report.
pub fn report(results: &Results) -> String {
    let mut text = format!("Measured on {}.\n\n", results.machine.line());
    text += &aligned(&figures(results), 2);
    text.extend(optional(
        results,
        "CPU seconds of the tunnel's processes for each gigabit that arrived",
        "s/Gbit",
        |cell| cell.cpu_seconds_per_gigabit,
    ));
    text.extend(optional(
        results,
        "Resident memory of the largest process under load, MB",
        "MB",
        |cell| cell.resident_mb,
    ));
    let _ = writeln!(
        text,
        "\nMedians; {} of interleaved measurements, {} s each; {}. {}",
        rounds(results.rounds),
        results.seconds,
        results.iperf3,
        results.limits.join(" ")
    );
    let _ = writeln!(text, "{}", versions(&results.contenders));
    text
}

/// A sentence for each row and rival, for a run that compares with one or two.
pub fn sentences(results: &Results) -> String {
    let mut text = String::new();
    for line in &results.rows {
        let Some(ours) = line.median_of(Kind::Taltun) else {
            continue;
        };
        for cell in line.cells.iter().filter(|cell| cell.kind.is_rival()) {
            if let Some(theirs) = cell.median.filter(|value| *value > 0.0) {
                let _ = writeln!(
                    text,
                    "{}: taltun {} {unit}, {} {} {unit}, ratio {}",
                    line.name,
                    number(ours),
                    cell.contender,
                    number(theirs),
                    number(ours / theirs),
                    unit = line.unit,
                );
            }
        }
    }
    text
}

/// Three digits that count.
pub fn number(value: f64) -> String {
    match value {
        // What would be rounded up to the next power of ten belongs there.
        value if value < 9.995 => format!("{value:.2}"),
        value if value < 99.95 => format!("{value:.1}"),
        value => format!("{value:.0}"),
    }
}

/// So many rounds, in words.
pub fn rounds(count: usize) -> String {
    match count {
        1 => "1 round".to_owned(),
        count => format!("{count} rounds"),
    }
}

fn figures(results: &Results) -> Vec<Vec<String>> {
    let has = |kind: Kind| results.contenders.iter().any(|party| party.kind == kind);
    let rivals = results
        .contenders
        .iter()
        .filter(|party| party.kind.is_rival());
    // With wireguard-go as the only one, it is the best.
    let (to_go, to_best) = (
        has(Kind::WireguardGo),
        rivals.count() > usize::from(has(Kind::WireguardGo)),
    );
    let mut header = header(results);
    if to_go {
        header.push("taltun ÷ wireguard-go".to_owned());
    }
    if to_best {
        header.push("taltun ÷ best rival".to_owned());
    }
    let to_null = has(Kind::NullCipher);
    if to_null {
        header.push("taltun ÷ null cipher".to_owned());
    }
    let rows = results.rows.iter().map(|line| {
        let mut words = vec![line.title.clone(), line.unit.to_owned()];
        words.extend(line.cells.iter().map(value));
        if to_go {
            words.push(or_nothing(line.ratio_to_wireguard_go));
        }
        if to_best {
            let best = line.best_rival.unwrap_or_default();
            words.push(match line.ratio_to_best_rival {
                Some(ratio) => format!("{} ({best})", number(ratio)),
                None => NOTHING.to_owned(),
            });
        }
        if to_null {
            words.push(or_nothing(line.ratio_to_null_cipher));
        }
        words
    });
    std::iter::once(header).chain(rows).collect()
}

/// A table of something that not every contender and row has; none if nobody has it.
fn optional(
    results: &Results,
    title: &str,
    unit: &str,
    value: impl Fn(&Cell) -> Option<f64>,
) -> Option<String> {
    let known = results.rows.iter();
    let known = known.filter(|line| line.cells.iter().any(|cell| value(cell).is_some()));
    let rows = known.map(|line| {
        let mut words = vec![line.title.clone(), unit.to_owned()];
        words.extend(line.cells.iter().map(|cell| or_nothing(value(cell))));
        words
    });
    let table: Vec<_> = std::iter::once(header(results)).chain(rows).collect();
    (table.len() > 1).then(|| format!("\n{title}:\n\n{}", aligned(&table, 2)))
}

fn header(results: &Results) -> Vec<String> {
    let mut words = vec![String::new(), "unit".to_owned()];
    words.extend(results.contenders.iter().map(|party| party.name.to_owned()));
    words
}

/// A figure, if there is one.
pub fn or_nothing(value: Option<f64>) -> String {
    value.map_or_else(|| NOTHING.to_owned(), number)
}

/// Who was measured, in which version.
pub fn versions(contenders: &[Party]) -> String {
    let versions = contenders
        .iter()
        .map(|party| format!("{} ({})", party.name, party.version));
    format!("Measured: {}.", versions.collect::<Vec<_>>().join(", "))
}

fn value(cell: &Cell) -> String {
    match cell.median {
        Some(value) => number(value),
        None if cell.failures.is_empty() => NOTHING.to_owned(),
        None => FAILED.to_owned(),
    }
}

/// Markdown with columns of one width each: so many of the first, which have words, to the left,
/// figures to the right.
pub fn aligned(rows: &[Vec<String>], words: usize) -> String {
    let columns = rows.first().map_or(0, Vec::len);
    let widths: Vec<usize> = (0..columns)
        .map(|column| {
            let lengths = rows.iter().map(|row| row[column].chars().count());
            lengths.max().unwrap_or_default().max(2)
        })
        .collect();
    let mut text = String::new();
    for (index, row) in rows.iter().enumerate() {
        for (column, word) in row.iter().enumerate() {
            let width = widths[column];
            // Writing to a String can't fail.
            let _ = if column < words {
                write!(text, "| {word:<width$} ")
            } else {
                write!(text, "| {word:>width$} ")
            };
        }
        text += "|\n";
        if index == 0 {
            for (column, width) in widths.iter().enumerate() {
                let (dashes, end) = (
                    "-".repeat(width + 1),
                    if column < words { '-' } else { ':' },
                );
                let _ = write!(text, "|{dashes}{end}");
            }
            text += "|\n";
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::super::results::tests::{line, results};
    use super::super::row::Name;
    use super::*;

    #[test]
    fn numbers_have_three_digits_that_count() {
        for (value, shown) in [
            (0.004, "0.00"),
            (1.234, "1.23"),
            (9.994, "9.99"),
            (9.996, "10.0"),
            (99.94, "99.9"),
            (99.96, "100"),
            (1234.5, "1234"),
        ] {
            assert_eq!(number(value), shown);
        }
    }

    #[test]
    fn the_table_is_markdown() {
        let results = results(vec![
            line(
                Name::Tcp1,
                &[
                    (Kind::Bare, Some(12.0)),
                    (Kind::Taltun, Some(3.0)),
                    (Kind::WireguardGo, Some(1.5)),
                    (Kind::BoringtunCli, Some(2.0)),
                ],
            ),
            line(
                Name::Ping,
                &[
                    (Kind::Bare, Some(10.0)),
                    (Kind::Taltun, Some(100.0)),
                    (Kind::WireguardGo, Some(400.0)),
                    (Kind::BoringtunCli, None),
                ],
            ),
        ]);
        assert_eq!(
            report(&results),
            "\
Measured on A CPU, 2 cores, Linux 6.1, TCP by cubic, load 0.00 before.

|                    | unit   | bare | taltun | wireguard-go | boringtun-cli | taltun ÷ wireguard-go |  taltun ÷ best rival |
|--------------------|--------|-----:|-------:|-------------:|--------------:|----------------------:|---------------------:|
| TCP, 1 stream      | Gbit/s | 12.0 |   3.00 |         1.50 |          2.00 |                  2.00 | 1.50 (boringtun-cli) |
| ping, idle, median | µs     | 10.0 |    100 |          400 |        failed |                  0.25 |  0.25 (wireguard-go) |

CPU seconds of the tunnel's processes for each gigabit that arrived:

|                    | unit   | bare | taltun | wireguard-go | boringtun-cli |
|--------------------|--------|-----:|-------:|-------------:|--------------:|
| TCP, 1 stream      | s/Gbit |    – |      – |         0.50 |          0.50 |
| ping, idle, median | s/Gbit |    – |      – |         0.50 |             – |

Resident memory of the largest process under load, MB:

|                    | unit | bare | taltun | wireguard-go | boringtun-cli |
|--------------------|------|-----:|-------:|-------------:|--------------:|
| TCP, 1 stream      | MB   |    – |      – |          102 |           102 |
| ping, idle, median | MB   |    – |      – |          500 |             – |

Medians; 5 rounds of interleaved measurements, 4 s each; iperf 3.12. Take it with salt.
Measured: bare (1), taltun (1), wireguard-go (1), boringtun-cli (1).
"
        );
    }

    #[test]
    fn a_null_cipher_is_no_rival_and_says_what_part_taltun_has() {
        let results = results(vec![line(
            Name::Tcp1,
            &[(Kind::Taltun, Some(3.0)), (Kind::NullCipher, Some(4.0))],
        )]);
        let table = report(&results);
        assert!(table.contains("| taltun ÷ null cipher |"), "{table}");
        assert!(
            table.contains("| 0.75 |") || table.contains(" 0.75 |"),
            "{table}"
        );
        assert!(!table.contains("best rival"), "{table}");
        assert_eq!(sentences(&results), "");
    }

    #[test]
    fn one_rival_gets_one_ratio() {
        let results = results(vec![line(
            Name::Tcp1,
            &[(Kind::Taltun, Some(3.0)), (Kind::BoringtunCli, Some(2.0))],
        )]);
        let table = report(&results);
        assert!(!table.contains("÷ wireguard-go"));
        assert!(table.contains("1.50 (boringtun-cli)"));
        assert_eq!(
            sentences(&results),
            "tcp1: taltun 3.00 Gbit/s, boringtun-cli 2.00 Gbit/s, ratio 1.50\n"
        );
    }
}
