//! What is told of a kill switch that was found.

/// Whether a kill switch closes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::system) enum Standing {
    /// Its rules are there, and none besides.
    Closed,
    /// It has rules that Taltun didn't make and that may let packets pass, or such stand in
    /// front of it: this one.
    Odd(String),
    /// What isn't there.
    Open(&'static str),
}

impl Standing {
    /// Whether this one closes better than `other`.
    pub(super) fn closes_better_than(&self, other: &Self) -> bool {
        let rank = |standing: &Self| match standing {
            Self::Closed => 2,
            Self::Odd(_) => 1,
            Self::Open(_) => 0,
        };
        rank(self) > rank(other)
    }
}
