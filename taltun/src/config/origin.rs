//! Where something of a configuration is written.

use std::fmt;

/// A place to point people to: `hub.toml:7`. Where something is written makes no difference
/// between two configurations.
#[derive(Debug, Clone, Default)]
pub struct Origin(Box<str>);

impl Origin {
    /// The place, if there is one.
    pub fn place(&self) -> Option<&str> {
        Some(&*self.0).filter(|place| !place.is_empty())
    }
}

impl From<String> for Origin {
    fn from(place: String) -> Self {
        Self(place.into())
    }
}

impl PartialEq for Origin {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Origin {}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
