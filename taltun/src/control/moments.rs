//! The rates of the last minutes, second by second, for who draws them.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::report::{Moment, Rates};

/// Moments that are kept: five minutes.
const KEPT: usize = 300;

/// The last minutes. Copies are of the same ones.
#[derive(Debug, Clone, Default)]
pub(super) struct Moments(Arc<Mutex<VecDeque<Moment>>>);

impl Moments {
    /// All of them, the oldest first.
    pub(super) fn all(&self) -> Vec<Moment> {
        self.lock().iter().copied().collect()
    }

    /// Another one, for which the oldest may go.
    pub(super) fn add(&self, rates: &Rates) {
        let mut moments = self.lock();
        if moments.len() >= KEPT {
            moments.pop_front();
        }
        moments.push_back(Moment {
            rx_bytes: rates.traffic.rx_bytes,
            tx_bytes: rates.traffic.tx_bytes,
            relayed_bytes: rates.traffic.relayed_bytes,
            drops: rates.drops.sum(),
        });
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<Moment>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use taltun_common::drops::DropReason;

    use super::*;

    #[test]
    fn no_more_than_five_minutes_are_kept_and_the_oldest_go() {
        let kept = Moments::default();
        let copy = kept.clone();
        for number in 1..=2 * KEPT as u64 {
            let drops = [(DropReason::Mac1, number), (DropReason::Denied, 1)];
            kept.add(&Rates {
                drops: drops.into_iter().collect(),
                ..Rates::default()
            });
        }
        let all = copy.all();
        assert_eq!(all.len(), KEPT);
        assert_eq!(all[0].drops, KEPT as u64 + 2);
    }
}
