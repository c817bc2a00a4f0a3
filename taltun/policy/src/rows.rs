//! Sets of rules as rows of bits, of which equal ones are kept once.
//!
//! For each source, destination and service there is a row: the rules that it matches. A packet
//! matches the rules that are in all three, and the first of them is found a word at a time.
//!
//! Most rows have few rules, so that nearly all of their words are empty. Before its words each row
//! says, a bit a word, which aren't: only those that may have something in common are read. A row of
//! which few aren't has only these, so that the rows of thousands of peers fit a cache.

use std::collections::HashMap;

/// Which of the rows of some [`Rows`]: where it begins, and whether its empty words are left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct RowId(u32);

/// The bit of a row without its empty words.
const SPARSE: u32 = 1 << 31;
/// The most words that such a row has.
const MOST_SPARSE: usize = 16;

impl RowId {
    #[inline]
    fn start(self) -> usize {
        (self.0 & !SPARSE) as usize
    }

    #[inline]
    fn is_sparse(self) -> bool {
        self.0 & SPARSE != 0
    }
}

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

/// Rows for the same rules, behind each other.
#[derive(Debug, Clone)]
pub struct Rows {
    /// Words before those of a row that say which of them aren't empty.
    summary: usize,
    words: Vec<u64>,
    known: HashMap<Row, RowId>,
}

impl Rows {
    /// For sets of so many rules.
    pub fn new(rules: usize) -> Self {
        Self {
            summary: rules.div_ceil(64).div_ceil(64),
            words: Vec::new(),
            known: HashMap::new(),
        }
    }

    /// Takes in a row, unless there is one that equals it.
    pub fn intern(&mut self, row: Row) -> RowId {
        let start = self.words.len() as u32;
        *self.known.entry(row).or_insert_with_key(|Row(words)| {
            let summary = words.chunks(64).map(|words| {
                let words = words.iter().enumerate();
                words.fold(0, |bits, (at, word)| bits | u64::from(*word != 0) << at)
            });
            self.words.extend(summary);
            let full = words.iter().copied().filter(|word| *word != 0);
            if full.clone().count() > MOST_SPARSE {
                self.words.extend_from_slice(words);
                return RowId(start);
            }
            self.words.extend(full);
            RowId(start | SPARSE)
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
        self.first(from, to, service, |_, rules| rules)
    }

    /// The first of these that is in all of them.
    pub fn first_among(
        &self,
        these: &Row,
        from: [RowId; 3],
        to: [RowId; 3],
        service: RowId,
    ) -> Option<usize> {
        self.first(from, to, service, |at, rules| rules & these.0[at])
    }

    /// The first rule, of those that are left of each word.
    #[inline]
    fn first(
        &self,
        from: [RowId; 3],
        to: [RowId; 3],
        service: RowId,
        left: impl Fn(usize, u64) -> u64,
    ) -> Option<usize> {
        for block in 0..self.summary {
            let summary = |id: RowId| self.words[id.start() + block];
            let mut candidates = common(from.map(summary), to.map(summary), summary(service));
            while candidates != 0 {
                let bit = candidates & candidates.wrapping_neg();
                let word = |id: RowId| self.word(id, block, bit);
                let at = block * 64 + bit.trailing_zeros() as usize;
                let rules = left(at, common(from.map(word), to.map(word), word(service)));
                if rules != 0 {
                    return Some(at * 64 + rules.trailing_zeros() as usize);
                }
                candidates ^= bit;
            }
        }
        None
    }

    /// The word of a row for which this bit of this word of its summary stands.
    #[inline]
    fn word(&self, id: RowId, block: usize, bit: u64) -> u64 {
        let start = id.start();
        if !id.is_sparse() {
            let at = block * 64 + bit.trailing_zeros() as usize;
            return self.words[start + self.summary + at];
        }
        let summary = &self.words[start..=start + block];
        if summary[block] & bit == 0 {
            return 0;
        }
        let before = summary[..block].iter().map(|bits| bits.count_ones());
        let before = before.sum::<u32>() + (summary[block] & (bit - 1)).count_ones();
        self.words[start + self.summary + before as usize]
    }
}

/// The bits that one of the first, one of the second and the last have.
#[inline]
fn common(from: [u64; 3], to: [u64; 3], service: u64) -> u64 {
    let any = |[a, b, c]: [u64; 3]| a | b | c;
    any(from) & any(to) & service
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
        // Of four words, three are empty.
        assert_eq!(rows.words.len(), 2 * (1 + 1));
    }

    #[test]
    fn of_many_rules_the_first_is_found_wherever_it_is() {
        const RULES: usize = 9000;
        for rule in [0, 63, 64, 4095, 4096, 4159, 8191, 8192, RULES - 1] {
            let mut rows = Rows::new(RULES);
            let row = |rules: &[usize]| {
                let mut row = Row::none(RULES);
                for rule in rules {
                    row.insert(*rule);
                }
                row
            };
            // Others in the same words, which not all have.
            let (before, behind) = (rule.saturating_sub(1), (rule + 1).min(RULES - 1));
            let a = rows.intern(row(&[before, rule, RULES - 1]));
            // Too many to leave the empty words out.
            let some = rows.intern(row(&(rule..RULES).step_by(300).collect::<Vec<_>>()));
            let b = rows.intern(row(&[rule, behind, RULES - 1]));
            let all = rows.intern(row(&(0..RULES).collect::<Vec<_>>()));
            let none = rows.intern(Row::none(RULES));
            let first = |from, to, service| {
                rows.first_in_all([none, from, none], [to, none, none], service)
            };
            assert_eq!(first(a, b, all), Some(rule));
            assert_eq!(first(all, b, a), Some(rule));
            assert_eq!(first(some, b, a), Some(rule));
            assert_eq!(first(all, all, some), Some(rule));
            assert_eq!(first(all, all, all), Some(0));
            assert_eq!(first(a, none, all), None);
            if rule > 0 && rule < RULES - 1 {
                let c = rows.intern(row(&[before]));
                let d = rows.intern(row(&[behind]));
                let first = |from, to| rows.first_in_all([from; 3], [to; 3], all);
                assert_eq!(first(c, d), None);
                assert_eq!(first(b, d), Some(behind));
            }
        }
    }
}
