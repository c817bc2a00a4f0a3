//! What is told of a kill switch that was found.

/// Whether a kill switch closes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::system) enum Standing {
    /// Its rules are there.
    Closed,
    /// What isn't.
    Open(&'static str),
}
