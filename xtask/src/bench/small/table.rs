//! The table of `cargo xtask bench small`.

use std::fmt::Write as _;

use super::outcome::{Figures, Outcome};
use super::targets;
use crate::bench::table::aligned;

/// The medians, a line for each candidate and kind of packets.
pub fn report(outcomes: &[Outcome], pinned: bool) -> String {
    let mut text = String::from(if pinned {
        "NAPI threaded; the hub and its NAPI on one core, the load on another\n"
    } else {
        "NAPI in softirqs, everything where the scheduler puts it\n"
    });
    let titles = [
        "hub",
        "bytes",
        "spokes",
        "rounds",
        "k packets/s",
        "µs/packet",
        "k/core-second",
        "most k/s",
        "k/core-second",
        "offered k/s",
        "of best rival",
    ];
    let mut rows = vec![titles.map(str::to_owned).to_vec()];
    let measured = outcomes.iter().filter(|it| it.failure.is_none());
    rows.extend(measured.map(|outcome| row(outcome, outcomes)));
    let _ = writeln!(text, "\n{}", aligned(&rows, 1));
    for outcome in outcomes {
        if let Some(failure) = &outcome.failure {
            let _ = writeln!(text, "{} failed: {failure}", outcome.name);
        }
    }
    text += "each number is the median of the rounds. Without loss: k packets/s and what they \
             cost; most: the most packets a second that came through at any rate, what a core \
             carried then, and how many times the best rival's it is; +: hardly more were offered\n";
    text
}

fn row(outcome: &Outcome, outcomes: &[Outcome]) -> Vec<String> {
    let number =
        |value: Option<f64>, digits| value.map_or("-".to_owned(), |it| format!("{it:.digits$}"));
    let thousands = |value: Option<f64>| number(value.map(|value| value / 1e3), 0);
    let figures = &outcome.figures;
    let limit = if figures.is_limited_by_load() {
        "+"
    } else {
        ""
    };
    let rival = targets::best_rival(outcomes, outcome.bytes, outcome.spokes);
    vec![
        outcome.name.clone(),
        outcome.bytes.to_string(),
        outcome.spokes.to_string(),
        outcome.rounds.len().to_string(),
        thousands(figures.sustained),
        number(figures.cpu_us, 2),
        thousands(figures.per_core()),
        thousands(figures.most) + limit,
        thousands(figures.per_core_at_most()),
        thousands(figures.offered),
        number(figures.most.zip(rival).map(|(most, rival)| most / rival), 2),
    ]
}

/// The figures of one round.
pub fn in_words(figures: &Figures) -> String {
    let lossless = figures
        .sustained
        .zip(figures.cpu_us)
        .map_or("lossy from the first step".into(), |(rate, cpu)| {
            format!("{:.0} k/s, {cpu:.2} µs", rate / 1e3)
        });
    let [most, offered] = [figures.most, figures.offered].map(Option::unwrap_or_default);
    format!(
        "{lossless}; at most {:.0} k/s of {:.0} k/s came through{}",
        most / 1e3,
        offered / 1e3,
        figures
            .cpu_us_at_most
            .map(|cpu| format!(", {cpu:.2} µs"))
            .unwrap_or_default(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_failed_or_was_never_without_loss_is_no_number() {
        let outcome = |name: &str, sustained: Option<f64>, failure: Option<&str>| {
            let mut outcome = Outcome::new(name, name != "af_xdp-driver", 64, 200);
            outcome.add(
                1,
                Figures {
                    sustained,
                    cpu_us: sustained.map(|_| 2.5),
                    most: Some(sustained.unwrap_or(100e3)),
                    cpu_us_at_most: sustained.map(|_| 4.0),
                    offered: Some(400e3),
                },
            );
            outcome.failure = failure.map(str::to_owned);
            outcome
        };
        let text = report(
            &[
                outcome("af_xdp-driver", Some(312_500.0), None),
                outcome("wireguard-go", None, None),
                outcome("gotatun-cli", Some(390_000.0), None),
                outcome("kernel", None, Some("not here")),
            ],
            true,
        );
        for line in [
            "| af_xdp-driver |    64 |    200 |      1 |         312 |      2.50 |           400 |      312 |           250 |         400 |          0.80 |",
            "| wireguard-go  |    64 |    200 |      1 |           - |         - |             - |      100 |             - |         400 |          0.26 |",
            "| gotatun-cli   |    64 |    200 |      1 |         390 |      2.50 |           400 |     390+ |           250 |         400 |          1.00 |",
            "kernel failed: not here",
        ] {
            assert!(text.lines().any(|it| it == line), "{text}");
        }
    }
}
