//! What AF_XDP is to be worth: in CPU time, compared with our own socket, and in packets,
//! compared with whoever else there is.

use serde::Serialize;

use super::outcome::Outcome;

/// The one that is judged.
const JUDGED: &str = "af_xdp-driver";
/// Whom it is compared with in CPU time: the better one of them.
const OWN_SOCKETS: [&str; 2] = ["socket", "socket-driver"];
/// Bytes of the packets that count.
const BYTES: u64 = 64;
/// Packets in a core-second, times those of our own socket.
const OF_OWN_SOCKET: f64 = 1.8;
/// Packets a second, times those of the best rival.
const OF_BEST_RIVAL: f64 = 3.0;

/// A target, and how near it is.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Target {
    what: String,
    /// A ratio of medians; `None` where one of the two wasn't measured.
    reached: Option<f64>,
    wanted: f64,
    /// What it was in single rounds, for who wants to know how steady it is.
    in_rounds: Vec<f64>,
}

impl Target {
    fn is_missed(&self) -> bool {
        self.reached.is_some_and(|reached| reached < self.wanted)
    }
}

/// The targets, judged by the medians. At one given rate, which everybody may carry, only CPU
/// time says something.
pub fn judge(outcomes: &[Outcome], at_one_rate: bool) -> Vec<Target> {
    let mut targets = judge_one(outcomes, at_one_rate);
    let rounds = outcomes.iter().flat_map(|outcome| &outcome.rounds);
    let last = rounds.map(|round| round.round).max().unwrap_or_default();
    for round in 1..=last {
        let there = outcomes
            .iter()
            .filter_map(|outcome| outcome.in_round(round));
        let there: Vec<Outcome> = there.collect();
        for single in judge_one(&there, at_one_rate) {
            let of = targets.iter_mut().find(|target| target.what == single.what);
            if let Some(target) = of {
                target.in_rounds.extend(single.reached);
            }
        }
    }
    targets
}

fn judge_one(outcomes: &[Outcome], at_one_rate: bool) -> Vec<Target> {
    let small = |outcome: &&Outcome| outcome.bytes == BYTES;
    let mut spokes: Vec<u16> = outcomes
        .iter()
        .filter(small)
        .map(|row| row.spokes)
        .collect();
    spokes.sort_unstable();
    spokes.dedup();
    let mut targets = Vec::new();
    for spokes in spokes.into_iter().rev() {
        let rows = || {
            let rows = outcomes.iter().filter(small);
            rows.filter(move |outcome| outcome.spokes == spokes)
        };
        let judged = || rows().filter(|row| row.name == JUDGED);
        let ratio = |of: Option<f64>, to: Option<f64>| Some(of? / to.filter(|to| *to > 0.0)?);
        if spokes > 1 {
            let own = rows().filter(|row| OWN_SOCKETS.contains(&row.name.as_str()));
            targets.push(Target {
                what: format!(
                    "packets in a core-second, times those of our own socket: {BYTES} bytes, \
                     {spokes} spokes"
                ),
                reached: ratio(
                    best(judged().map(|row| row.figures.per_core())),
                    best(own.map(|row| row.figures.per_core())),
                ),
                wanted: OF_OWN_SOCKET,
                in_rounds: Vec::new(),
            });
        }
        if !at_one_rate {
            let of = if spokes == 1 { "spoke" } else { "spokes" };
            targets.push(Target {
                what: format!(
                    "packets a second, times those of the best rival: {BYTES} bytes, {spokes} {of}"
                ),
                reached: ratio(
                    best(judged().map(|row| row.figures.most)),
                    best_rival(outcomes, BYTES, spokes),
                ),
                wanted: OF_BEST_RIVAL,
                in_rounds: Vec::new(),
            });
        }
    }
    targets
}

/// The most packets a second of any rival's.
pub fn best_rival(outcomes: &[Outcome], bytes: u64, spokes: u16) -> Option<f64> {
    let rivals = outcomes.iter().filter(|row| row.rival);
    let rivals = rivals.filter(|row| (row.bytes, row.spokes) == (bytes, spokes));
    best(rivals.map(|row| row.figures.most))
}

/// Which targets are met.
pub fn verdict(targets: &[Target]) -> String {
    let judged: Vec<&Target> = targets.iter().filter(|it| it.reached.is_some()).collect();
    let lines = |chosen: Vec<&&Target>| -> String {
        let line = |it: &&Target| {
            let reached = it.reached.unwrap_or_default();
            format!(
                "\n- {reached:.2} of {:.1}: {}{}",
                it.wanted,
                it.what,
                range(&it.in_rounds)
            )
        };
        chosen.into_iter().map(line).collect()
    };
    let missed: Vec<_> = judged.iter().filter(|it| it.is_missed()).collect();
    let met: Vec<_> = judged.iter().filter(|it| !it.is_missed()).collect();
    match (judged.len(), missed.len()) {
        (0, _) => "No target was measured.".to_owned(),
        (all, 0) => format!("All {all} targets are met:{}", lines(met)),
        (all, count) => format!(
            "{count} of {all} targets are missed:{}{}",
            lines(missed),
            if met.is_empty() {
                String::new()
            } else {
                format!("\nMet:{}", lines(met))
            }
        ),
    }
}

/// From where to where they go, where that says more than their median.
fn range(in_rounds: &[f64]) -> String {
    let least = in_rounds.iter().copied().min_by(f64::total_cmp);
    let most = in_rounds.iter().copied().max_by(f64::total_cmp);
    match (least, most) {
        (Some(least), Some(most)) if in_rounds.len() > 1 => {
            format!(" ({least:.2} to {most:.2} in single rounds)")
        }
        _ => String::new(),
    }
}

fn best(values: impl Iterator<Item = Option<f64>>) -> Option<f64> {
    values.flatten().max_by(f64::total_cmp)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::small::outcome::Figures;

    fn outcome(name: &str, rival: bool, spokes: u16, most: f64, cpu_us: f64) -> Outcome {
        let mut outcome = Outcome::new(name, rival, 64, spokes);
        outcome.add(1, figures(most, cpu_us));
        outcome
    }

    fn figures(most: f64, cpu_us: f64) -> Figures {
        Figures {
            sustained: Some(most * 0.9),
            cpu_us: Some(cpu_us),
            most: Some(most),
            cpu_us_at_most: Some(cpu_us),
            offered: Some(most * 2.0),
        }
    }

    fn outcomes() -> Vec<Outcome> {
        vec![
            outcome("socket", false, 200, 150e3, 6.0),
            outcome("socket-driver", false, 200, 180e3, 5.0),
            outcome("af_xdp-driver", false, 200, 400e3, 2.0),
            outcome("af_xdp-driver", false, 1, 290e3, 2.0),
            outcome("wireguard-go", true, 200, 50e3, 20.0),
            outcome("gotatun-cli", true, 200, 100e3, 9.0),
            outcome("gotatun-cli", true, 1, 100e3, 9.0),
        ]
    }

    #[test]
    fn it_is_compared_with_the_better_socket_and_the_best_rival() {
        let targets = judge(&outcomes(), false);
        let reached: Vec<_> = targets.iter().map(|target| target.reached).collect();
        assert_eq!(reached, [Some(2.5), Some(4.0), Some(2.9)]);
        let text = verdict(&targets);
        assert!(text.starts_with("1 of 3 targets are missed:\n- 2.90 of 3.0: "));
        assert!(text.contains("\nMet:\n- 2.50 of 1.8: packets in a core-second"));
        assert!(verdict(&targets[..2]).starts_with("All 2 targets are met:"));
    }

    #[test]
    fn what_was_not_measured_is_neither_met_nor_missed() {
        let alone = &outcomes()[2..3];
        let targets = judge(alone, false);
        assert_eq!(targets.len(), 2);
        assert!(targets.iter().all(|target| target.reached.is_none()));
        assert_eq!(verdict(&targets), "No target was measured.");
        assert_eq!(judge(&outcomes(), true).len(), 1);
    }

    #[test]
    fn a_target_is_judged_by_the_medians_and_says_what_single_rounds_came_to() {
        let mut outcomes = outcomes();
        // A round in which our own socket had no luck, and one in which AF_XDP had none.
        outcomes[1].add(2, figures(70e3, 7.5));
        outcomes[2].add(2, figures(400e3, 2.5));
        outcomes[1].add(3, figures(180e3, 5.0));
        outcomes[2].add(3, figures(300e3, 3.125));
        let targets = judge(&outcomes, true);
        assert_eq!(targets.len(), 1);
        assert_eq!(targets[0].reached, Some(2.0));
        // The other socket was there in the first round only.
        assert_eq!(targets[0].in_rounds, [2.5, 3.0, 1.6]);
        let text = verdict(&targets);
        assert!(text.starts_with("All 1 targets are met:"), "{text}");
        assert!(text.ends_with("(1.60 to 3.00 in single rounds)"), "{text}");
    }
}
