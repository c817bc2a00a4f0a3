//! The results as Markdown tables that read well on a terminal too.

use std::fmt::Write as _;

use super::plan::Case;
use super::results::{Cell, Results};
use crate::bench::table::{NOTHING, aligned, or_nothing, rounds, versions};

/// The whole report.
pub fn report(results: &Results) -> String {
    let mut text = format!("Measured on {}.\n", results.machine.line());
    let percent = |kept: Option<f64>| {
        kept.map_or_else(
            || NOTHING.to_owned(),
            |kept| format!("{:.0} %", kept * 100.0),
        )
    };
    let plain = |cell: &Cell| or_nothing(cell.gbps);
    let flood = |case: Case| matches!(case, Case::Flood(..));
    for (title, wanted, value) in [
        (
            "A TCP stream from a to the hub, Gbit/s",
            &(|_| true) as &dyn Fn(Case) -> bool,
            &plain as &dyn Fn(&Cell) -> String,
        ),
        (
            "Kept of what is left while a bare XDP_DROP eats the flood",
            &flood,
            &|cell| percent(cell.of_eaten),
        ),
        (
            "Kept of what there is without a flood",
            &|case| case != Case::Quiet,
            &|cell| percent(cell.of_quiet),
        ),
    ] {
        let _ = write!(text, "\n{title}:\n\n{}", table(results, wanted, value));
    }
    let _ = writeln!(text, "\n{}", verdict(results));
    let _ = writeln!(
        text,
        "\nMedians; {} of interleaved measurements, {} s each; {}. All ends and the attacker, \
         which has precedence, share the {} cores. The flood comes by a veth of its own.",
        rounds(results.rounds),
        results.seconds,
        results.iperf3,
        results.machine.cores,
    );
    let _ = writeln!(text, "{}", versions(&results.contenders));
    text
}

fn table(
    results: &Results,
    wanted: &dyn Fn(Case) -> bool,
    value: &dyn Fn(&Cell) -> String,
) -> String {
    let header = ["packets/s".to_owned(), "flood".to_owned()];
    let header = header.into_iter().chain(results.columns.iter().cloned());
    let rows = results.rows.iter().filter(|row| wanted(row.case));
    let rows = rows.map(|row| {
        let title = row.title.split_once("/s ");
        let (rate, what) = title.unwrap_or(("", &row.title));
        let titles = [rate.to_owned(), what.to_owned()];
        titles
            .into_iter()
            .chain(row.cells.iter().map(value))
            .collect()
    });
    let table: Vec<Vec<String>> = std::iter::once(header.collect()).chain(rows).collect();
    aligned(&table, 2)
}

/// Which targets are met.
fn verdict(results: &Results) -> String {
    let (mut count, mut missed) = (0, Vec::new());
    for row in &results.rows {
        let Case::Flood(name, _) = row.case else {
            continue;
        };
        for (at, cell) in row.cells.iter().enumerate() {
            if !results.with_targets[at] {
                continue;
            }
            count += 1;
            let kept = cell.of_eaten.unwrap_or_default();
            if kept < name.target() {
                missed.push(format!(
                    "{} keeps {:.0} % of {:.0} %: {}",
                    results.columns[at],
                    kept * 100.0,
                    name.target() * 100.0,
                    row.title
                ));
            }
        }
    }
    match (count, &missed[..]) {
        (0, _) => "No column has a target.".to_owned(),
        (count, []) => format!("All {count} targets are met."),
        (count, missed) => format!(
            "{} of {count} targets are missed:\n- {}",
            missed.len(),
            missed.join("\n- ")
        ),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::path::PathBuf;

    use super::super::attack::Sample;
    use super::super::plan::{FloodName, cases, columns};
    use super::*;
    use crate::bench::Xdp;
    use crate::bench::contender::{Contender, Kind};
    use crate::bench::machine::Machine;

    /// Taltun with a generic shield: 4 Gbit/s, 3 while the flood is eaten, and this beside it.
    fn results(beside: &[f64]) -> Results {
        let machine = Machine {
            cpu: "A CPU".to_owned(),
            cores: 2,
            kernel: "6.1".to_owned(),
            tcp_congestion_control: "cubic".to_owned(),
            load_before: 0.0,
            groups_by_session: false,
        };
        let contender = Contender {
            kind: Kind::Taltun,
            version: "1".to_owned(),
            program: PathBuf::new(),
        };
        let columns = columns(&[contender], &[Xdp::Generic]);
        let cases = cases(&[FloodName::Data], &[100_000]);
        let mut results = Results::new(machine, "iperf 3.12".to_owned(), 3, &columns, &cases);
        for (round, &beside) in beside.iter().enumerate() {
            results.rounds = round + 1;
            for (row, gbps) in [4.0, 3.0, beside].into_iter().enumerate() {
                let sample = Sample {
                    gbps,
                    flood: None,
                    dropped: BTreeMap::new(),
                };
                results.add(row, 0, round, sample);
            }
        }
        results.sum_up();
        results
    }

    #[test]
    fn what_is_kept_is_kept_of_the_same_round() {
        let results = results(&[2.7, 3.0, 2.4]);
        let cell = &results.rows[2].cells[0];
        assert_eq!(cell.gbps, Some(2.7));
        assert!((cell.of_eaten.unwrap() - 0.9).abs() < 1e-9);
        assert!((cell.of_quiet.unwrap() - 0.675).abs() < 1e-9);
        assert!(results.is_complete());
    }

    #[test]
    fn the_report_is_markdown_and_says_what_is_missed() {
        let report = report(&results(&[2.7]));
        assert!(
            report.starts_with(
                "\
Measured on A CPU, 2 cores, Linux 6.1, TCP by cubic, load 0.00 before.

A TCP stream from a to the hub, Gbit/s:

| packets/s | flood                    | taltun generic |
|-----------|--------------------------|---------------:|
|           | no flood                 |           4.00 |
| 100,000   | eaten by a bare XDP_DROP |           3.00 |
| 100,000   | data for no session      |           2.70 |

Kept of what is left while a bare XDP_DROP eats the flood:

| packets/s | flood               | taltun generic |
|-----------|---------------------|---------------:|
| 100,000   | data for no session |           90 % |
"
            ),
            "{report}"
        );
        let missed = "taltun generic keeps 90 % of 95 %: 100,000/s data for no session";
        assert!(report.contains(missed), "{report}");
    }

    #[test]
    fn a_target_that_is_met_is_no_news() {
        assert_eq!(verdict(&results(&[2.9])), "All 1 targets are met.");
        assert!(results(&[]).is_empty());
    }
}
