//! What a flood may cost: how often a second the programs do what takes long.
//!
//! Source addresses are easily forged, so a flood may come from ever new sources, and limits per
//! source don't stop it. These limits do, for all sources together. But a flood can use up a
//! limit for everybody. So only what *fails* counts (a right MAC costs nothing), above the limit
//! a share as large as the limit is still verified, and sources where peers were heard have a
//! budget of their own.

use crate::bucket::Rate;

/// One kind of costly work; each CPU has a bucket for each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum Budget {
    /// First MACs that turn out wrong, of sources where no peer was heard.
    Mac1,
    /// The same, of sources where a peer was heard.
    Mac1Known,
    /// Second MACs that turn out wrong, of sources that were given no cookie lately.
    Mac2,
    /// The same, of sources that were, or where a peer was heard.
    Mac2Known,
    /// Sources outside that aren't counted yet.
    Sources,
    /// Sources inside that aren't counted yet.
    SourcesInner,
    /// Dropped packets that the log shows, if it shows any.
    Samples,
    /// Data of sessions that aren't ours, from where a peer of another hub was heard.
    Misrouted,
}

/// How many budgets there are: the length of the map.
pub const BUDGETS: usize = 8;

/// Initiations without a cookie that are answered with one, a second, on all CPUs together.
/// That is what a flood of right first MACs leaves user space to do.
pub const COOKIE_REPLIES: Rate = Rate::with_burst(5_000, 500);

/// Cookie replies a second to one source whose token bucket is empty. Somebody with a forged
/// address can empty that bucket; with a cookie the true owner gets in all the same. A tenth of
/// all replies, so that one source doesn't use them up.
pub const SOURCE_REPLIES: Rate = Rate::with_burst(500, 500);

impl Budget {
    /// How much there is of it, a CPU.
    #[inline(always)]
    #[must_use]
    pub const fn rate(self) -> Rate {
        match self {
            // Half a microsecond each: 2.5 % of a CPU.
            Self::Mac1 | Self::Mac1Known => Rate::with_burst(50_000, 500),
            // A microsecond and a half each.
            Self::Mac2 | Self::Mac2Known => Rate::with_burst(10_000, 100),
            // A quarter of a microsecond each; and what was counted before is to be seen for
            // a while.
            Self::Sources | Self::SourcesInner => Rate::with_burst(1_000, 4_000),
            // Lines for people to read.
            Self::Samples => Rate::with_burst(10, 10),
            // User space looks up where it comes from.
            Self::Misrouted => Rate::with_burst(1_000, 1_000),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_budget_has_its_place_and_an_end() {
        let all = [
            Budget::Mac1,
            Budget::Mac1Known,
            Budget::Mac2,
            Budget::Mac2Known,
            Budget::Sources,
            Budget::SourcesInner,
            Budget::Samples,
            Budget::Misrouted,
        ];
        assert_eq!(all.len(), BUDGETS);
        for (place, budget) in all.into_iter().enumerate() {
            assert_eq!(budget as usize, place);
            let rate = budget.rate();
            assert!(rate.token > 0 && rate.bucket >= rate.token, "{budget:?}");
            // The first token is there before the clock has gone far.
            assert!(rate.allows(0, 0), "{budget:?}");
        }
    }
}
