//! What a figure was over the last looks, and its sparkline.

use std::collections::{HashMap, VecDeque};

/// Looks that are remembered: a wide terminal shows as many.
const LOOKS: usize = 60;
/// The heights of a sparkline's places.
const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// The last values of a figure, the newest last.
#[derive(Debug, Clone, Default)]
pub(super) struct History(VecDeque<u64>);

impl History {
    /// One look more.
    pub(super) fn push(&mut self, value: u64) {
        if self.0.len() == LOOKS {
            self.0.pop_front();
        }
        self.0.push_back(value);
    }

    /// The last of them as a line of so many places, its own largest at the top; nothing yet is blank.
    pub(super) fn spark(&self, places: usize) -> String {
        let shown = self.0.len().min(places);
        let values = self.0.iter().skip(self.0.len() - shown);
        let most = values.clone().copied().max().unwrap_or(0).max(1);
        let blank = std::iter::repeat_n(' ', places - shown);
        blank
            .chain(values.map(|value| {
                let steps = u128::from(*value) * (BARS.len() as u128 - 1);
                BARS[steps.div_ceil(most.into()) as usize]
            }))
            .collect()
    }

    fn is_silent(&self) -> bool {
        self.0.iter().all(|value| *value == 0)
    }
}

/// Figures of many, by their names.
#[derive(Debug, Default)]
pub(super) struct Histories(HashMap<String, History>);

impl Histories {
    /// One look more at all of them: who isn't named now moved nothing that is known.
    pub(super) fn push<'a>(&mut self, values: impl Iterator<Item = (&'a str, u64)>) {
        let now: HashMap<&str, u64> = values.collect();
        for (name, history) in &mut self.0 {
            history.push(now.get(name.as_str()).copied().unwrap_or(0));
        }
        self.0
            .retain(|name, history| now.contains_key(name.as_str()) || !history.is_silent());
        for (name, value) in now {
            if !self.0.contains_key(name) {
                let mut history = History::default();
                history.push(value);
                self.0.insert(name.to_owned(), history);
            }
        }
    }

    /// The sparkline of one.
    pub(super) fn spark(&self, name: &str, places: usize) -> String {
        let history = self.0.get(name);
        history.map_or_else(|| " ".repeat(places), |history| history.spark(places))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sparkline_is_as_high_as_its_own_largest() {
        let mut history = History::default();
        for value in [0, 1, 50, 100] {
            history.push(value);
        }
        assert_eq!(history.spark(6), "  ▁▂▅█");
        assert_eq!(history.spark(2), "▅█");
        assert_eq!(History::default().spark(3), "   ");
        for value in 0..200 {
            history.push(value);
        }
        assert_eq!(history.spark(100).trim_start().chars().count(), LOOKS);
        let mut large = History::default();
        large.push(u64::MAX);
        assert_eq!(large.spark(1), "█");
    }

    #[test]
    fn who_isnt_named_any_more_falls_silent_and_is_forgotten() {
        let mut all = Histories::default();
        all.push([("ana", 5), ("luis", 0)].into_iter());
        all.push([("ana", 0)].into_iter());
        assert_eq!(all.spark("ana", 2), "█▁");
        assert_eq!(all.0.len(), 1);
        for _ in 0..LOOKS {
            all.push(std::iter::empty());
        }
        assert!(all.0.is_empty());
    }
}
