//! What came of a candidate: each round's figures, and their medians.
//!
//! In a round every candidate has its turn, so what the machine does meanwhile is shared by all
//! of them, and each has a hub of its own in each round. The median of three takes one round that
//! went wrong for what it is.

use serde::Serialize;

use crate::bench::statistics::median;

/// How much more than the most that came through has to be offered, to be enough.
const ENOUGH: f64 = 1.2;

/// What was measured.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Figures {
    /// Packets a second at the last step without loss; `None` if there was none.
    pub sustained: Option<f64>,
    /// CPU time of the hub's a packet then, µs: its process, and its NAPI threads where there
    /// are any.
    pub cpu_us: Option<f64>,
    /// The most packets a second that came through at any step, lost ones or not: those that
    /// did while the others were being sent.
    pub most: Option<f64>,
    /// CPU time a packet that came through then, µs.
    pub cpu_us_at_most: Option<f64>,
    /// The most packets a second that were sent.
    pub offered: Option<f64>,
}

impl Figures {
    /// Of each figure the median of those that there are.
    fn medians(rounds: &[Round]) -> Self {
        let of = |figure: fn(&Self) -> Option<f64>| {
            let values = rounds.iter().filter_map(|round| figure(&round.figures));
            median(&values.collect::<Vec<_>>())
        };
        Self {
            sustained: of(|it| it.sustained),
            cpu_us: of(|it| it.cpu_us),
            most: of(|it| it.most),
            cpu_us_at_most: of(|it| it.cpu_us_at_most),
            offered: of(|it| it.offered),
        }
    }

    /// Packets in a second of one core, at the last step without loss.
    pub fn per_core(&self) -> Option<f64> {
        self.cpu_us.map(|us| 1e6 / us)
    }

    /// The same where the most came through.
    pub fn per_core_at_most(&self) -> Option<f64> {
        self.cpu_us_at_most.map(|us| 1e6 / us)
    }

    /// Whether more might have come through if more had been sent.
    pub fn is_limited_by_load(&self) -> bool {
        self.offered
            .zip(self.most)
            .is_some_and(|(offered, most)| offered < most * ENOUGH)
    }
}

/// The figures of one round.
#[derive(Debug, Clone, Serialize)]
pub struct Round {
    /// Which one, from 1.
    pub round: usize,
    /// What was measured in it.
    #[serde(flatten)]
    pub figures: Figures,
}

/// What came of one candidate with packets of one size.
#[derive(Debug, Clone, Serialize)]
pub struct Outcome {
    /// The candidate's.
    pub name: String,
    /// Whether it is somebody to be better than.
    pub rival: bool,
    /// Bytes of each inner packet.
    pub bytes: u64,
    /// How many spokes sent in turn.
    pub spokes: u16,
    /// The medians of all rounds.
    #[serde(flatten)]
    pub figures: Figures,
    /// The rounds.
    pub rounds: Vec<Round>,
    /// Why it couldn't be measured.
    pub failure: Option<String>,
}

impl Outcome {
    /// Nothing measured yet.
    pub fn new(name: &str, rival: bool, bytes: u64, spokes: u16) -> Self {
        Self {
            name: name.to_owned(),
            rival,
            bytes,
            spokes,
            figures: Figures::default(),
            rounds: Vec::new(),
            failure: None,
        }
    }

    /// Adds what a round came to.
    pub fn add(&mut self, round: usize, figures: Figures) {
        self.rounds.push(Round { round, figures });
        self.figures = Figures::medians(&self.rounds);
    }

    /// The same, as if there had been this round only; `None` without it.
    pub fn in_round(&self, number: usize) -> Option<Self> {
        let round = self.rounds.iter().find(|round| round.round == number)?;
        Some(Self {
            figures: round.figures,
            rounds: vec![round.clone()],
            ..self.clone()
        })
    }

    /// The least that was sustained in any round; `None` if there was none, or one in which
    /// nothing was.
    pub fn least_sustained(&self) -> Option<f64> {
        let sustained = self.rounds.iter().map(|round| round.figures.sustained);
        let sustained: Option<Vec<f64>> = sustained.collect();
        sustained?.into_iter().min_by(f64::total_cmp)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figures(cpu_us: Option<f64>, most: f64) -> Figures {
        Figures {
            sustained: cpu_us.map(|_| most * 0.9),
            cpu_us,
            most: Some(most),
            cpu_us_at_most: Some(2.0),
            offered: Some(most * 2.0),
        }
    }

    #[test]
    fn one_round_that_went_wrong_changes_little() {
        let mut outcome = Outcome::new("socket", false, 64, 200);
        for (number, (cpu_us, most)) in [(4.5, 190e3), (7.3, 70e3), (4.6, 188e3)]
            .into_iter()
            .enumerate()
        {
            outcome.add(number + 1, figures(Some(cpu_us), most));
        }
        assert_eq!(outcome.figures, figures(Some(4.6), 188e3));
        assert_eq!(outcome.least_sustained(), Some(63e3));
        let second = outcome.in_round(2).unwrap();
        assert_eq!(second.figures, figures(Some(7.3), 70e3));
        assert!(outcome.in_round(4).is_none());
    }

    #[test]
    fn a_round_without_a_lossless_step_says_nothing_of_the_cost_of_a_packet() {
        let mut outcome = Outcome::new("wireguard-go", true, 64, 200);
        assert_eq!(outcome.least_sustained(), None);
        outcome.add(1, figures(None, 30e3));
        assert_eq!(outcome.figures.per_core(), None);
        outcome.add(2, figures(Some(20.0), 40e3));
        assert_eq!(outcome.figures.per_core(), Some(50e3));
        assert_eq!(outcome.figures.most, Some(35e3));
        assert_eq!(outcome.figures.per_core_at_most(), Some(500e3));
        // Half of what isn't known is where everybody begins.
        assert_eq!(outcome.least_sustained(), None);
    }

    #[test]
    fn the_json_has_the_medians_and_every_round() {
        let mut outcome = Outcome::new("socket", false, 64, 200);
        outcome.add(1, figures(Some(4.0), 100e3));
        outcome.add(2, figures(Some(5.0), 200e3));
        let json = serde_json::to_value(&outcome).unwrap();
        assert_eq!(json["cpu_us"], 4.5);
        assert_eq!(json["rounds"][1]["round"], 2);
        assert_eq!(json["rounds"][1]["most"], 200e3);
        assert_eq!(json["rounds"][0]["cpu_us_at_most"], 2.0);
    }
}
