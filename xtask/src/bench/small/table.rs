//! The table of `cargo xtask bench small`.

use std::fmt::Write as _;

use super::Outcome;

/// What was measured, a line for each candidate and kind of packets.
pub fn report(outcomes: &[Outcome], pinned: bool) -> String {
    let mut text = String::from(if pinned {
        "NAPI threaded; the hub and its NAPI on one core, the load on another\n"
    } else {
        "NAPI in softirqs, everything where the scheduler puts it\n"
    });
    let _ = writeln!(
        text,
        "{:<16}{:>7}{:>8}{:>13}{:>13}{:>15}",
        "hub", "bytes", "spokes", "k packets/s", "µs/packet", "k/core-second"
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
        let _ = writeln!(
            text,
            "{:<16}{:>7}{:>8}{:>13}{:>13}{:>15}",
            outcome.name,
            outcome.bytes,
            outcome.spokes,
            number(outcome.sustained.map(thousand), 0),
            number(outcome.cpu_us, 2),
            number(outcome.per_core().map(thousand), 0),
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_failed_or_was_never_without_loss_is_no_number() {
        let outcome = |name: &str, sustained, failure: Option<&str>| Outcome {
            name: name.into(),
            bytes: 64,
            spokes: 200,
            sustained,
            cpu_us: sustained.map(|_| 2.5),
            failure: failure.map(str::to_owned),
        };
        let text = report(
            &[
                outcome("af_xdp-driver", Some(312_500.0), None),
                outcome("wireguard-go", None, None),
                outcome("kernel", None, Some("not here")),
            ],
            true,
        );
        let lines: Vec<Vec<&str>> = text
            .lines()
            .skip(2)
            .map(|line| line.split_whitespace().collect())
            .collect();
        assert_eq!(
            lines[0],
            ["af_xdp-driver", "64", "200", "312", "2.50", "400"]
        );
        assert_eq!(lines[1], ["wireguard-go", "64", "200", "-", "-", "-"]);
        assert_eq!(lines[2], ["kernel", "failed:", "not", "here"]);
    }
}
