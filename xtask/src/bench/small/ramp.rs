//! How the rate rises in one round, and what is read from it.
//!
//! Each step offers a quarter more than the one before. What a packet costs is read at the last
//! step at which none got lost: nearer to its limit a hub takes larger batches, so the cost
//! falls as the rate rises, and all have to be compared near their limits. So the figure is only
//! as steady as that step is. What makes it so:
//!
//! - A hub loses packets before its limit when something else has its core for a few
//!   milliseconds: a veth holds 256 frames, which are 2 ms at 120,000/s. One packet in a hundred
//!   may be lost at a step that counts, as that is 7 ms of a step.
//! - A step that loses more, but not more than a tenth, is done once more, and the better one of
//!   both counts. Twice in a row is rarely chance; and what loses more than a tenth of
//!   0.7 s isn't a moment.
//! - It goes on after a step that lost packets, until two in a row lost some and brought no more
//!   of them through than steps before. Each later step without loss counts, and takes the place
//!   of the one before it.
//!
//! The last step offers twice of that, for the most that comes through. What a packet costs where
//! the most came through is the second figure. It needs no lossless step; but it has the work in
//! it that was done for packets that were thrown away later.
//!
//! What is left to chance, rounds take out: see [`super::outcome`].

use anyhow::Result;

use super::outcome::Figures;

/// The first step of the rate, packets a second.
const FIRST_RATE: u64 = 20_000;
/// Each step is higher than the one before it by one part in so many.
const STEP: u64 = 4;
/// More than a hub on one core will carry.
pub const LAST_RATE: u64 = 1_200_000;
/// What may be lost at a step that counts.
const LOSS: f64 = 0.01;
/// What may be lost at a step that is done again.
const LOSS_BY_CHANCE: f64 = 0.1;
/// Steps in a row that may lose packets, and bring no more of them than others did, before it
/// is over.
const FAILURES: usize = 2;
/// How much more it has to be, to be more.
const GROWTH: f64 = 1.02;

/// What was measured at one rate.
#[derive(Debug, Clone, Copy)]
pub struct Step {
    /// Packets sent.
    pub sent: f64,
    /// Those of them that had arrived when the last one was sent.
    pub through: f64,
    /// Those that arrived at all.
    pub arrived: f64,
    /// How long sending took.
    pub seconds: f64,
    /// CPU seconds of the hub's.
    pub cpu: f64,
}

impl Step {
    fn loss(&self) -> f64 {
        1.0 - self.arrived / self.sent
    }

    /// CPU time a packet, µs.
    fn cpu_us(&self) -> Option<f64> {
        (self.arrived > 0.0).then(|| self.cpu / self.arrived * 1e6)
    }
}

/// Where to begin when so much was sustained before: well below it, at one of the steps.
pub fn first_rate(sustained: Option<f64>) -> u64 {
    let below = sustained.unwrap_or_default() / 2.0;
    let mut rate = FIRST_RATE;
    while (next(rate) as f64) < below {
        rate = next(rate);
    }
    rate
}

/// Raises the rate from `first` on until no more comes through. `offer` takes a rate, packets a
/// second; `stop` ends it early.
///
/// # Errors
/// Those of `offer`.
pub fn climb(
    first: u64,
    mut offer: impl FnMut(u64) -> Result<Step>,
    stop: impl Fn() -> bool,
) -> Result<Figures> {
    let mut seen = Seen::default();
    let mut failures = 0;
    let mut rate = first;
    while rate <= LAST_RATE && failures < FAILURES && !stop() {
        let most = seen.most;
        let mut lossless = seen.add(&offer(rate)?);
        if !lossless && seen.last_loss <= LOSS_BY_CHANCE && !stop() {
            lossless = seen.add(&offer(rate)?);
        }
        let grew = seen.most > most * GROWTH;
        failures = if lossless || grew { 0 } else { failures + 1 };
        rate = next(rate);
    }
    if !stop() {
        // More than enough.
        seen.add(&offer((2 * rate).min(2 * LAST_RATE))?);
    }
    Ok(seen.figures())
}

/// A single step, which counts whatever is lost at it.
///
/// # Errors
/// Those of `offer`.
pub fn once(rate: u64, mut offer: impl FnMut(u64) -> Result<Step>) -> Result<Figures> {
    let mut seen = Seen::default();
    let step = offer(rate)?;
    if !seen.add(&step) && step.arrived > 0.0 {
        seen.best = Some(step);
    }
    Ok(seen.figures())
}

fn next(rate: u64) -> u64 {
    rate + rate / STEP
}

/// What was seen so far.
#[derive(Default)]
struct Seen {
    /// The last step without loss.
    best: Option<Step>,
    /// The most packets a second that came through, and the CPU time of each then, µs.
    most: f64,
    cpu_us_at_most: Option<f64>,
    offered: f64,
    /// The share of the last step's packets that got lost.
    last_loss: f64,
}

impl Seen {
    /// Adds a step; whether it is one without loss.
    fn add(&mut self, step: &Step) -> bool {
        self.last_loss = step.loss();
        self.offered = self.offered.max(step.sent / step.seconds);
        let lossless = self.last_loss <= LOSS;
        // What lies in queues is no part of it, where the queues are full.
        let through = if lossless { step.arrived } else { step.through };
        let rate = through / step.seconds;
        if rate > self.most {
            self.most = rate;
            self.cpu_us_at_most = step.cpu_us();
        }
        if lossless {
            self.best = Some(*step);
        }
        lossless
    }

    fn figures(&self) -> Figures {
        Figures {
            sustained: self.best.map(|step| step.arrived / step.seconds),
            cpu_us: self.best.and_then(|step| step.cpu_us()),
            most: Some(self.most),
            cpu_us_at_most: self.cpu_us_at_most,
            offered: Some(self.offered),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(sent: f64, through: f64, arrived: f64) -> Step {
        Step {
            sent,
            through,
            arrived,
            seconds: 0.5,
            cpu: 0.25,
        }
    }

    /// A hub that carries so many packets a second, and works half of the time that it might;
    /// `unlucky` says which steps, from 0, lose a part of what they would carry.
    fn hub(
        limit: f64,
        unlucky: impl Fn(usize) -> Option<f64>,
        rates: &mut Vec<u64>,
    ) -> impl FnMut(u64) -> Result<Step> {
        move |rate| {
            let lost = unlucky(rates.len()).unwrap_or_default();
            rates.push(rate);
            let carried = (rate as f64).min(limit) * (1.0 - lost);
            Ok(Step {
                sent: rate as f64,
                through: carried,
                arrived: carried,
                seconds: 1.0,
                cpu: 0.5 * (rate as f64 / limit).min(1.0),
            })
        }
    }

    #[test]
    fn the_most_is_that_of_any_step_and_what_lay_in_queues_is_no_part_of_it() {
        let mut seen = Seen::default();
        assert!(seen.add(&step(100.0, 98.0, 100.0)));
        assert_eq!(seen.figures().sustained, Some(200.0));
        assert_eq!(seen.figures().cpu_us, Some(2500.0));
        assert!((seen.most - 200.0).abs() < 1e-9);
        assert!(!seen.add(&step(200.0, 150.0, 180.0)));
        assert!((seen.most - 300.0).abs() < 1e-9);
        assert_eq!(seen.figures().cpu_us, Some(2500.0));
        let at_most = seen.figures().cpu_us_at_most;
        assert!(at_most.is_some_and(|us| (us - 0.25 / 180.0 * 1e6).abs() < 1e-9));
        assert!(!seen.add(&step(400.0, 90.0, 95.0)));
        assert!((seen.most - 300.0).abs() < 1e-9);
        assert!((seen.offered - 800.0).abs() < 1e-9);
        assert_eq!(seen.figures().cpu_us_at_most, at_most);
    }

    #[test]
    fn it_climbs_until_no_more_comes_through_and_then_offers_twice_as_much() {
        let mut rates = Vec::new();
        let figures = climb(20_000, hub(30_000.0, |_| None, &mut rates), || false).unwrap();
        // 31,250 loses 4 % both times, more than 30,000 never come.
        assert_eq!(
            rates,
            [20_000, 25_000, 31_250, 31_250, 39_062, 48_827, 122_066]
        );
        assert_eq!(figures.sustained, Some(25_000.0));
        assert_eq!(figures.most, Some(30_000.0));
        assert_eq!(figures.offered, Some(122_066.0));
    }

    #[test]
    fn an_unlucky_step_is_done_again_and_a_second_one_is_left_behind() {
        let quiet = climb(20_000, hub(1e5, |_| None, &mut Vec::new()), || false).unwrap();
        // The third one, once; and the fourth one and its repetition.
        for unlucky in [vec![2], vec![3, 4]] {
            let lost = |number| unlucky.contains(&number).then_some(0.05);
            let mut rates = Vec::new();
            let figures = climb(20_000, hub(1e5, lost, &mut rates), || false).unwrap();
            assert_eq!(figures, quiet, "{unlucky:?}: {rates:?}");
            assert_eq!(rates[unlucky[0]], rates[unlucky[0] + 1]);
        }
        assert!(quiet.sustained.is_some_and(|rate| rate > 95_000.0));
    }

    #[test]
    fn what_loses_everything_from_the_first_step_has_no_cost_of_a_packet() {
        let mut rates = Vec::new();
        let nothing = hub(1e5, |_| Some(1.0), &mut rates);
        let figures = climb(20_000, nothing, || false).unwrap();
        assert_eq!((figures.sustained, figures.cpu_us), (None, None));
        assert_eq!(figures.cpu_us_at_most, None);
        assert_eq!(figures.most, Some(0.0));
    }

    #[test]
    fn a_single_step_counts_whatever_it_loses() {
        let figures = once(400_000, hub(1e5, |_| None, &mut Vec::new())).unwrap();
        assert_eq!(figures.sustained, Some(1e5));
        assert_eq!(figures.cpu_us, Some(5.0));
        let mut rates = Vec::new();
        let nothing = hub(1e5, |_| Some(1.0), &mut rates);
        assert_eq!(once(400_000, nothing).unwrap().cpu_us, None);
    }

    #[test]
    fn later_rounds_begin_below_half_of_what_was_sustained_at_one_of_the_same_steps() {
        assert_eq!(first_rate(None), 20_000);
        assert_eq!(first_rate(Some(36_000.0)), 20_000);
        assert_eq!(first_rate(Some(100_000.0)), 48_827);
        assert_eq!(first_rate(Some(90_000.0)), 39_062);
    }
}
