//! A fair share for everybody who asks at once: nobody can take all the places there are.

// What comes from outside must not be able to make anything here panic.
#![cfg_attr(
    not(test),
    warn(clippy::arithmetic_side_effects, clippy::indexing_slicing)
)]

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, PoisonError};

/// Places, of which each source gets a share.
#[derive(Debug)]
pub(super) struct Shares<T> {
    taken: Arc<Mutex<HashMap<T, usize>>>,
    each: usize,
    all: usize,
}

/// A place that is taken; dropping it gives it back.
#[derive(Debug)]
pub(super) struct Place<T: Eq + Hash> {
    taken: Arc<Mutex<HashMap<T, usize>>>,
    source: Option<T>,
}

impl<T: Copy + Eq + Hash> Shares<T> {
    /// So many places for each source, and in all.
    pub(super) fn new(each: usize, all: usize) -> Self {
        Self {
            taken: Arc::default(),
            each,
            all,
        }
    }

    /// A place for this source, if there is one for it. While others wait in vain, a source has
    /// no more than an equal part of all.
    pub(super) fn take(&self, source: T) -> Option<Place<T>> {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let sum: usize = taken.values().sum();
        let own = taken.get(&source).copied().unwrap_or(0);
        // One part stays free for whoever comes next.
        let with_own = taken.len().saturating_add(usize::from(own == 0));
        let sources = with_own.saturating_add(1);
        let share = self.all.checked_div(sources).unwrap_or(self.all);
        let share = self.each.min(share.max(1));
        if sum >= self.all || own >= share {
            return None;
        }
        taken.insert(source, own.saturating_add(1));
        Some(Place {
            taken: Arc::clone(&self.taken),
            source: Some(source),
        })
    }
}

impl<T: Eq + Hash> Drop for Place<T> {
    fn drop(&mut self) {
        let Some(source) = self.source.take() else {
            return;
        };
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        match taken.get_mut(&source) {
            Some(count) if *count > 1 => *count = count.saturating_sub(1),
            _ => drop(taken.remove(&source)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_takes_all_places_and_they_come_back() {
        let shares = Shares::new(8, 32);
        let mut places = Vec::new();
        for source in 0..3 {
            let before = places.len();
            places.extend((0..100).map_while(|_| shares.take(source)));
            assert!((1..=8).contains(&(places.len() - before)));
        }
        // Whoever comes late still gets one.
        assert!(shares.take(9).is_some());
        places.clear();
        assert!(shares.taken.lock().unwrap().is_empty());
        assert!(shares.take(0).is_some());
    }

    #[test]
    fn there_is_an_end_for_all_together() {
        let shares = Shares::new(8, 32);
        let places: Vec<_> = (0..1000).filter_map(|source| shares.take(source)).collect();
        assert_eq!(places.len(), 32);
    }
}
