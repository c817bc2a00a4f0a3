//! What came out: the samples by row and contender, with medians and ratios. This is what
//! `--json` writes.

use serde::Serialize;

use super::contender::{Contender, Kind};
use super::machine::Machine;
use super::measure::Sample;
use super::row::Row;
use super::statistics::median;

/// The whole result.
#[derive(Debug, Serialize)]
pub struct Results {
    /// Where it was measured.
    pub machine: Machine,
    /// What has to be said with the figures.
    pub limits: Vec<String>,
    /// iperf3's version.
    pub iperf3: String,
    /// Seconds a measurement.
    pub seconds: u64,
    /// How many times round, of which the last may not be complete.
    pub rounds: usize,
    /// Who was measured, in the order of the columns.
    pub contenders: Vec<Party>,
    /// What was measured.
    pub rows: Vec<Line>,
}

/// A contender, for the record.
#[derive(Debug, Clone, Serialize)]
pub struct Party {
    #[serde(skip)]
    pub(super) kind: Kind,
    /// What it is called.
    pub name: &'static str,
    /// What it says of itself.
    pub version: String,
}

/// A row with its figures.
#[derive(Debug, Serialize)]
pub struct Line {
    /// What it is called.
    pub name: &'static str,
    /// What is measured.
    pub title: String,
    /// In what.
    pub unit: &'static str,
    /// Whether less is better.
    pub less_is_better: bool,
    /// One for each contender, in their order.
    pub cells: Vec<Cell>,
    /// Taltun's median over wireguard-go's.
    pub ratio_to_wireguard_go: Option<f64>,
    /// Taltun's median over that of a Taltun that encrypts nothing: its part of what is possible here.
    pub ratio_to_null_cipher: Option<f64>,
    /// Taltun's median over the best rival's.
    pub ratio_to_best_rival: Option<f64>,
    /// Who that is.
    pub best_rival: Option<&'static str>,
}

/// The samples of one contender in one row.
#[derive(Debug, Clone, Serialize)]
pub struct Cell {
    #[serde(skip)]
    pub(super) kind: Kind,
    /// Who it is.
    pub contender: &'static str,
    /// The median of the samples.
    pub median: Option<f64>,
    /// The median of theirs.
    pub cpu_seconds_per_gigabit: Option<f64>,
    /// The median of theirs.
    pub resident_mb: Option<f64>,
    /// One a round.
    pub samples: Vec<Sample>,
    /// Why there are not more.
    pub failures: Vec<String>,
}

impl From<&Contender> for Party {
    fn from(contender: &Contender) -> Self {
        Self {
            kind: contender.kind,
            name: contender.kind.word(),
            version: contender.version.clone(),
        }
    }
}

impl Line {
    /// `row`, with nothing measured yet.
    pub fn new(row: Row, kinds: impl IntoIterator<Item = Kind>) -> Self {
        Self {
            name: row.name.word(),
            title: row.title(),
            unit: row.unit(),
            less_is_better: row.less_is_better(),
            cells: kinds.into_iter().map(Cell::new).collect(),
            ratio_to_wireguard_go: None,
            ratio_to_null_cipher: None,
            ratio_to_best_rival: None,
            best_rival: None,
        }
    }

    /// Takes medians and ratios anew.
    pub fn sum_up(&mut self) {
        for cell in &mut self.cells {
            cell.sum_up();
        }
        let ours = self.median_of(Kind::Taltun);
        let ratio = |theirs: Option<f64>| Some(ours? / theirs.filter(|value| *value > 0.0)?);
        self.ratio_to_wireguard_go = ratio(self.median_of(Kind::WireguardGo));
        self.ratio_to_null_cipher = ratio(self.median_of(Kind::NullCipher));
        let best = self.best().map(|cell| (cell.median, cell.contender));
        self.ratio_to_best_rival = best.and_then(|(median, _)| ratio(median));
        self.best_rival = best.map(|(_, contender)| contender);
    }

    /// The median of a contender, if it has one.
    pub fn median_of(&self, kind: Kind) -> Option<f64> {
        self.cells.iter().find(|cell| cell.kind == kind)?.median
    }

    fn best(&self) -> Option<&Cell> {
        let measured = self
            .cells
            .iter()
            .filter(|cell| cell.kind.is_rival() && cell.median.is_some());
        let by_median = |left: &&Cell, right: &&Cell| f64::total_cmp(&left.value(), &right.value());
        if self.less_is_better {
            measured.min_by(by_median)
        } else {
            measured.max_by(by_median)
        }
    }
}

impl Cell {
    fn new(kind: Kind) -> Self {
        Self {
            kind,
            contender: kind.word(),
            median: None,
            cpu_seconds_per_gigabit: None,
            resident_mb: None,
            samples: Vec::new(),
            failures: Vec::new(),
        }
    }

    fn sum_up(&mut self) {
        let median_by = |part: &dyn Fn(&Sample) -> Option<f64>| {
            median(&self.samples.iter().filter_map(part).collect::<Vec<_>>())
        };
        self.median = median_by(&|sample| Some(sample.value));
        self.cpu_seconds_per_gigabit = median_by(&|sample| sample.cpu_seconds_per_gigabit);
        self.resident_mb = median_by(&|sample| sample.resident_mb);
    }

    fn value(&self) -> f64 {
        self.median.unwrap_or_default()
    }
}

impl Results {
    /// Whether every contender has a figure in every row.
    pub fn is_complete(&self) -> bool {
        let mut cells = self.rows.iter().flat_map(|line| &line.cells);
        cells.all(|cell| cell.median.is_some())
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::bench::row::{Name, choose};

    /// A row with these values, one sample each.
    pub fn line(name: Name, values: &[(Kind, Option<f64>)]) -> Line {
        let row = choose(&[name], None, false)[0];
        let mut line = Line::new(row, values.iter().map(|(kind, _)| *kind));
        for (cell, (_, value)) in line.cells.iter_mut().zip(values) {
            match value {
                Some(value) => cell.samples.push(Sample {
                    value: *value,
                    cpu_seconds_per_gigabit: cell.kind.is_rival().then_some(0.5),
                    resident_mb: cell.kind.is_rival().then_some(100.0 + value),
                }),
                None => cell.failures.push("it <fell> & broke".to_owned()),
            }
        }
        line.sum_up();
        line
    }

    /// A result with these rows, whose contenders are those of the first.
    pub fn results(rows: Vec<Line>) -> Results {
        let contenders = rows[0].cells.iter().map(|cell| Party {
            kind: cell.kind,
            name: cell.contender,
            version: "1".to_owned(),
        });
        Results {
            machine: Machine {
                cpu: "A CPU".to_owned(),
                cores: 2,
                kernel: "6.1".to_owned(),
                tcp_congestion_control: "cubic".to_owned(),
                load_before: 0.0,
                groups_by_session: false,
            },
            limits: vec!["Take it with salt.".to_owned()],
            iperf3: "iperf 3.12".to_owned(),
            seconds: 4,
            rounds: 5,
            contenders: contenders.collect(),
            rows,
        }
    }

    #[test]
    fn ratios_are_to_wireguard_go_and_to_the_best() {
        let line = line(
            Name::Tcp1,
            &[
                (Kind::Bare, Some(12.0)),
                (Kind::Taltun, Some(3.0)),
                (Kind::WireguardGo, Some(1.5)),
                (Kind::BoringtunCli, Some(2.0)),
            ],
        );
        assert_eq!(line.ratio_to_wireguard_go, Some(2.0));
        assert_eq!(line.ratio_to_best_rival, Some(1.5));
        assert_eq!(line.best_rival, Some("boringtun-cli"));
    }

    #[test]
    fn the_best_ping_is_the_shortest() {
        let line = line(
            Name::Ping,
            &[
                (Kind::Taltun, Some(100.0)),
                (Kind::WireguardGo, Some(400.0)),
                (Kind::GotatunCli, Some(200.0)),
            ],
        );
        assert_eq!(line.ratio_to_wireguard_go, Some(0.25));
        assert_eq!(line.ratio_to_best_rival, Some(0.5));
        assert_eq!(line.best_rival, Some("gotatun-cli"));
    }

    #[test]
    fn who_failed_is_compared_with_nobody() {
        let line = line(
            Name::Tcp1,
            &[(Kind::Taltun, Some(3.0)), (Kind::WireguardGo, None)],
        );
        assert_eq!(line.ratio_to_wireguard_go, None);
        assert_eq!(line.best_rival, None);
        assert!(!results(vec![line]).is_complete());
    }

    #[test]
    fn medians_are_taken_over_the_samples() {
        let mut line = line(Name::Tcp1, &[(Kind::BoringtunCli, Some(1.0))]);
        for value in [5.0, 2.0] {
            line.cells[0].samples.push(Sample {
                value,
                cpu_seconds_per_gigabit: None,
                resident_mb: Some(1.0),
            });
        }
        line.sum_up();
        assert_eq!(line.median_of(Kind::BoringtunCli), Some(2.0));
        assert_eq!(line.cells[0].cpu_seconds_per_gigabit, Some(0.5));
        assert_eq!(line.cells[0].resident_mb, Some(1.0));
    }
}
