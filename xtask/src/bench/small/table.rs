//! The table of `cargo xtask bench small`.

use std::fmt::Write as _;

use super::{Outcome, targets};

/// What was measured, a line for each candidate and kind of packets.
pub fn report(outcomes: &[Outcome], pinned: bool) -> String {
    let mut text = String::from(if pinned {
        "NAPI threaded; the hub and its NAPI on one core, the load on another\n"
    } else {
        "NAPI in softirqs, everything where the scheduler puts it\n"
    });
    let _ = writeln!(
        text,
        "{:<16}{:>7}{:>8}{:>13}{:>13}{:>15}{:>13}{:>13}{:>14}",
        "hub",
        "bytes",
        "spokes",
        "k packets/s",
        "µs/packet",
        "k/core-second",
        "most k/s",
        "offered k/s",
        "of best rival"
    );
    for outcome in outcomes {
        if let Some(failure) = &outcome.failure {
            let _ = writeln!(text, "{:<16} failed: {failure}", outcome.name);
            continue;
        }
        let number = |value: Option<f64>, digits| {
            value.map_or("-".to_owned(), |value| format!("{value:.digits$}"))
        };
        let thousand = |value: f64| value / 1e3;
        let limit = if outcome.is_limited_by_load() {
            "+"
        } else {
            ""
        };
        let rival = targets::best_rival(outcomes, outcome.bytes, outcome.spokes);
        let _ = writeln!(
            text,
            "{:<16}{:>7}{:>8}{:>13}{:>13}{:>15}{:>13}{:>13}{:>14}",
            outcome.name,
            outcome.bytes,
            outcome.spokes,
            number(outcome.sustained.map(thousand), 0),
            number(outcome.cpu_us, 2),
            number(outcome.per_core().map(thousand), 0),
            number(outcome.most.map(thousand), 0) + limit,
            number(outcome.offered.map(thousand), 0),
            number(outcome.most.zip(rival).map(|(most, rival)| most / rival), 2),
        );
    }
    text += "most: the most packets a second that came through at any rate, and how many times \
             the best rival's it is; +: hardly more were offered\n";
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_failed_or_was_never_without_loss_is_no_number() {
        let outcome = |name: &str, sustained, failure: Option<&str>| Outcome {
            name: name.into(),
            rival: name != "af_xdp-driver",
            bytes: 64,
            spokes: 200,
            sustained,
            cpu_us: sustained.map(|_| 2.5),
            most: failure.is_none().then_some(sustained.unwrap_or(100e3)),
            offered: failure.is_none().then_some(400e3),
            failure: failure.map(str::to_owned),
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
        let lines: Vec<String> = text
            .lines()
            .skip(2)
            .map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "))
            .collect();
        assert_eq!(
            lines[..4],
            [
                "af_xdp-driver 64 200 312 2.50 400 312 400 0.80",
                "wireguard-go 64 200 - - - 100 400 0.26",
                "gotatun-cli 64 200 390 2.50 400 390+ 400 1.00",
                "kernel failed: not here",
            ]
        );
    }
}
