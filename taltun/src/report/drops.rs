//! Dropped packets by reason. In JSON it is an object with every reason, those of 0 too: a
//! program that watches one finds it before it comes up.

use std::ops::{Add, Index, IndexMut};

use serde::de::Deserializer;
use serde::ser::{SerializeMap, Serializer};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use taltun_common::drops::{DROP_REASONS, DropReason};

/// A number for each reason.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Drops([u64; DROP_REASONS]);

impl Drops {
    /// Each reason with its number.
    pub fn iter(&self) -> impl Iterator<Item = (DropReason, u64)> {
        DropReason::ALL.iter().copied().zip(self.0)
    }

    /// Those that aren't 0, the largest first.
    pub fn largest_first(&self) -> Vec<(DropReason, u64)> {
        let mut found: Vec<_> = self.iter().filter(|(_, count)| *count > 0).collect();
        found.sort_by_key(|(reason, count)| (std::cmp::Reverse(*count), reason.label()));
        found
    }
}

impl Drops {
    /// What was counted since an earlier look; a counter that has begun anew counts as it is.
    #[must_use]
    pub fn since(&self, before: &Self) -> Self {
        let counts = self.iter();
        counts
            .map(|(reason, count)| (reason, count.checked_sub(before[reason]).unwrap_or(count)))
            .collect()
    }

    /// All of them together.
    pub fn sum(&self) -> u64 {
        let add = |sum: u64, count: u64| sum.saturating_add(count);
        self.0.iter().copied().fold(0, add)
    }
}

impl Index<DropReason> for Drops {
    type Output = u64;

    fn index(&self, reason: DropReason) -> &u64 {
        &self.0[reason as usize]
    }
}

impl IndexMut<DropReason> for Drops {
    fn index_mut(&mut self, reason: DropReason) -> &mut u64 {
        &mut self.0[reason as usize]
    }
}

impl Add for Drops {
    type Output = Self;

    fn add(mut self, other: Self) -> Self {
        for (sum, count) in self.0.iter_mut().zip(other.0) {
            *sum = sum.saturating_add(count);
        }
        self
    }
}

impl FromIterator<(DropReason, u64)> for Drops {
    fn from_iter<T: IntoIterator<Item = (DropReason, u64)>>(counts: T) -> Self {
        let mut drops = Self::default();
        for (reason, count) in counts {
            drops[reason] = count;
        }
        drops
    }
}

impl Serialize for Drops {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(DROP_REASONS))?;
        for (reason, count) in self.iter() {
            map.serialize_entry(reason.label(), &count)?;
        }
        map.end()
    }
}

/// A reason that isn't there is 0, and one that we don't know is left out: the other side may
/// be another version.
impl<'de> Deserialize<'de> for Drops {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let counts = BTreeMap::<String, u64>::deserialize(deserializer)?;
        let counts = counts.into_iter();
        Ok(counts
            .filter_map(|(label, count)| Some((named(&label)?, count)))
            .collect())
    }
}

fn named(label: &str) -> Option<DropReason> {
    let mut all = DropReason::ALL.iter().copied();
    all.find(|reason| reason.label() == label)
}

/// One reason, or none, as JSON has it.
pub(super) mod reason {
    use super::{Deserialize, Deserializer, DropReason, Serialize, Serializer, named};

    #[allow(
        clippy::ref_option,
        clippy::trivially_copy_pass_by_ref,
        reason = "so serde calls it"
    )]
    pub(in crate::report) fn serialize<S: Serializer>(
        reason: &Option<DropReason>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        reason.map(DropReason::label).serialize(serializer)
    }

    pub(in crate::report) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<DropReason>, D::Error> {
        let label = Option::<String>::deserialize(deserializer)?;
        Ok(label.as_deref().and_then(named))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_is_in_the_json_and_another_versions_are_no_error() {
        let drops: Drops = [(DropReason::Mac1, 3)].into_iter().collect();
        let json = serde_json::to_value(drops).unwrap();
        assert_eq!(json["mac1"], 3);
        assert_eq!(json["replay"], 0);
        assert_eq!(json.as_object().unwrap().len(), DROP_REASONS);
        let other = r#"{"mac1": 3, "of_the_future": 5}"#;
        assert_eq!(serde_json::from_str::<Drops>(other).unwrap(), drops);
    }

    #[test]
    fn the_largest_come_first_and_those_of_nothing_not_at_all() {
        let some = [(DropReason::Mac1, 3), (DropReason::Denied, 5)];
        let twice = some.into_iter().collect::<Drops>() + some.into_iter().collect();
        assert_eq!(
            twice.largest_first(),
            [(DropReason::Denied, 10), (DropReason::Mac1, 6)]
        );
    }
}
