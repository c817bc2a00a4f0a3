//! Sets of rules as rows of bits, of which equal ones are kept once.
//!
//! For each source, destination and service there is a row: the rules that it matches. A packet
//! matches the rules that are in all three, and the first of them is found a word at a time.

use std::collections::HashMap;

/// Which of the rows of some [`Rows`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct RowId(u32);

/// A set of rules.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Row(Box<[u64]>);

impl Row {
    /// None of so many rules.
    pub fn none(rules: usize) -> Self {
        Self(vec![0; rules.div_ceil(64)].into_boxed_slice())
    }

    /// Takes in a rule. It must be one of those that the row is for.
    pub fn insert(&mut self, rule: usize) {
        self.0[rule / 64] |= 1 << (rule % 64);
    }

    /// Takes out a rule.
    pub fn remove(&mut self, rule: usize) {
        self.0[rule / 64] &= !(1 << (rule % 64));
    }

    /// Takes in all of another row's.
    pub fn union(&mut self, other: &Self) {
        for (word, more) in self.0.iter_mut().zip(&other.0) {
            *word |= more;
        }
    }
}

/// Rows of one length, behind each other.
#[derive(Debug, Clone)]
pub struct Rows {
    /// Words a row.
    len: usize,
    words: Vec<u64>,
    known: HashMap<Row, RowId>,
}

impl Rows {
    /// For sets of so many rules.
    pub fn new(rules: usize) -> Self {
        Self {
            len: rules.div_ceil(64),
            words: Vec::new(),
            known: HashMap::new(),
        }
    }

    /// Takes in a row, unless there is one that equals it.
    pub fn intern(&mut self, row: Row) -> RowId {
        let next = RowId(self.known.len() as u32);
        *self.known.entry(row).or_insert_with_key(|row| {
            self.words.extend_from_slice(&row.0);
            next
        })
    }

    /// No row is taken in any more: gives back the memory that finds equal ones.
    #[must_use]
    pub fn finished(mut self) -> Self {
        self.known = HashMap::new();
        self.words.shrink_to_fit();
        self
    }

    /// The first rule that is in one of the first three, in one of the second three, and in the
    /// last.
    #[inline]
    pub fn first_in_all(&self, from: [RowId; 3], to: [RowId; 3], service: RowId) -> Option<usize> {
        let [from, or_from, or_from_too] = from.map(|id| self.row(id));
        let [to, or_to, or_to_too] = to.map(|id| self.row(id));
        let service = self.row(service);
        for (at, service) in service.iter().enumerate() {
            let from = from[at] | or_from[at] | or_from_too[at];
            let to = to[at] | or_to[at] | or_to_too[at];
            let common = from & to & service;
            if common != 0 {
                return Some(at * 64 + common.trailing_zeros() as usize);
            }
        }
        None
    }

    #[inline]
    fn row(&self, id: RowId) -> &[u64] {
        let start = id.0 as usize * self.len;
        &self.words[start..start + self.len]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(rules: &[usize]) -> Row {
        let mut row = Row::none(200);
        for rule in rules {
            row.insert(*rule);
        }
        row
    }

    #[test]
    fn the_first_rule_is_one_that_all_have() {
        let mut rows = Rows::new(200);
        let ids = [
            &[3, 64, 199][..],
            &[4, 64, 199],
            &[64, 65, 199],
            &[199],
            &[],
        ];
        let [a, b, c, d, none] = ids.map(|rules| rows.intern(row(rules)));
        assert_eq!(
            rows.first_in_all([a, none, none], [none, none, b], c),
            Some(64)
        );
        assert_eq!(
            rows.first_in_all([none, a, d], [d, none, none], c),
            Some(199)
        );
        assert_eq!(rows.first_in_all([a, none, none], [none; 3], c), None);
    }

    #[test]
    fn equal_rows_are_kept_once() {
        let mut rows = Rows::new(200);
        let first = rows.intern(row(&[1, 2]));
        assert_ne!(rows.intern(row(&[1])), first);
        assert_eq!(rows.intern(row(&[2, 1])), first);
        assert_eq!(rows.words.len(), 8);
    }
}
