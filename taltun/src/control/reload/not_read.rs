//! Why there is nothing new.

use crate::report::Refused;

/// Why there is nothing new.
#[derive(Debug)]
pub(in crate::control) enum NotRead {
    /// The file has mistakes, or can't be read.
    Mistakes(String),
    /// Something else.
    Other(Refused),
}

impl NotRead {
    /// Why.
    pub(in crate::control) fn reason(&self) -> &str {
        match self {
            Self::Mistakes(reason) => reason,
            Self::Other(reason) => &reason.text,
        }
    }
}

/// What is refused for a reason of its own.
impl<R: Into<Refused>> From<R> for NotRead {
    fn from(reason: R) -> Self {
        Self::Other(reason.into())
    }
}
