//! What came out: samples by row and column, with medians and what is kept. This is what
//! `--json` writes.

use serde::Serialize;

use super::attack::Sample;
use super::plan::{Case, Column};
use crate::bench::contender::Contender;
use crate::bench::machine::Machine;
use crate::bench::results::Party;
use crate::bench::statistics::median;

/// The whole result.
#[derive(Debug, Serialize)]
pub struct Results {
    /// Where it was measured.
    pub machine: Machine,
    /// iperf3's version.
    pub iperf3: String,
    /// Seconds a measurement.
    pub seconds: u64,
    /// How many times round, of which the last may not be complete.
    pub rounds: usize,
    /// Who was measured.
    pub contenders: Vec<Party>,
    /// The contenders, Taltun once for each shield.
    pub columns: Vec<String>,
    /// Which of the columns have targets to meet.
    #[serde(skip)]
    pub(super) with_targets: Vec<bool>,
    /// What was measured.
    pub rows: Vec<Row>,
}

/// A row with its figures.
#[derive(Debug, Serialize)]
pub struct Row {
    #[serde(skip)]
    pub(super) case: Case,
    /// What it is.
    pub title: String,
    /// One for each column, in their order.
    pub cells: Vec<Cell>,
}

/// The samples of one column in one row.
#[derive(Debug, Default, Serialize)]
pub struct Cell {
    /// The median, Gbit/s.
    pub gbps: Option<f64>,
    /// What that is of the throughput without a flood: the median of the rounds' ratios.
    pub of_quiet: Option<f64>,
    /// What it is of the throughput while a bare program eats the flood, likewise.
    pub of_eaten: Option<f64>,
    /// The samples with the number of their round.
    pub samples: Vec<(usize, Sample)>,
    /// Why there are not more.
    pub failures: Vec<String>,
}

impl Results {
    /// Nothing measured yet.
    pub fn new(
        machine: Machine,
        iperf3: String,
        seconds: u64,
        columns: &[Column],
        cases: &[Case],
    ) -> Self {
        let mut contenders: Vec<&Contender> = columns.iter().map(|it| &it.contender).collect();
        contenders.dedup_by_key(|contender| contender.kind);
        Self {
            machine,
            iperf3,
            seconds,
            rounds: 0,
            contenders: contenders.into_iter().map(Party::from).collect(),
            columns: columns.iter().map(|column| column.name.clone()).collect(),
            with_targets: columns.iter().map(Column::has_targets).collect(),
            rows: cases
                .iter()
                .map(|case| Row {
                    case: *case,
                    title: case.to_string(),
                    cells: columns.iter().map(|_| Cell::default()).collect(),
                })
                .collect(),
        }
    }

    /// Adds what was measured.
    pub fn add(&mut self, row: usize, column: usize, round: usize, sample: Sample) {
        self.rows[row].cells[column].samples.push((round, sample));
    }

    /// Notes that a measurement failed.
    pub fn fail(&mut self, row: usize, column: usize, why: String) {
        self.rows[row].cells[column].failures.push(why);
    }

    /// Takes medians and ratios.
    pub fn sum_up(&mut self) {
        for row in 0..self.rows.len() {
            let case = self.rows[row].case;
            for column in 0..self.columns.len() {
                let of_quiet = self.kept(row, column, Case::Quiet);
                let of_eaten = case
                    .rate()
                    .and_then(|rate| self.kept(row, column, Case::Eaten(rate)));
                let cell = &mut self.rows[row].cells[column];
                let values: Vec<f64> = cell.samples.iter().map(|(_, it)| it.gbps).collect();
                cell.gbps = median(&values);
                cell.of_quiet = of_quiet;
                cell.of_eaten = of_eaten;
            }
        }
    }

    /// The median over the rounds of what a row has of another one.
    fn kept(&self, row: usize, column: usize, standard: Case) -> Option<f64> {
        let standard = self.rows.iter().find(|row| row.case == standard)?;
        let standard = &standard.cells[column];
        let ratio = |(round, sample): &(usize, Sample)| {
            let mut same_round = standard.samples.iter().filter(|(other, _)| other == round);
            let (_, standard) = same_round.next()?;
            Some(sample.gbps / standard.gbps)
        };
        let samples = &self.rows[row].cells[column].samples;
        median(&samples.iter().filter_map(ratio).collect::<Vec<_>>())
    }

    /// Whether nothing was measured.
    pub fn is_empty(&self) -> bool {
        let mut cells = self.rows.iter().flat_map(|row| &row.cells);
        cells.all(|cell| cell.samples.is_empty())
    }

    /// Whether everybody has a figure in every row.
    pub fn is_complete(&self) -> bool {
        let mut cells = self.rows.iter().flat_map(|row| &row.cells);
        cells.all(|cell| cell.gbps.is_some())
    }
}
