//! Why there is nothing new.

/// Why there is nothing new.
#[derive(Debug)]
pub(in crate::control) enum NotRead {
    /// The file has mistakes, or can't be read.
    Mistakes(String),
    /// Something else.
    Other(String),
}

impl NotRead {
    /// Why.
    pub(in crate::control) fn reason(&self) -> &str {
        match self {
            Self::Mistakes(reason) | Self::Other(reason) => reason,
        }
    }
}

/// What is refused for a reason of its own.
impl From<String> for NotRead {
    fn from(reason: String) -> Self {
        Self::Other(reason)
    }
}
