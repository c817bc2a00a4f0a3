//! Names of networks, hubs and peers in the store: labels of DNS in small letters.

use std::borrow::Borrow;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Bytes of a label at the most.
pub const MAX_LABEL: usize = 63;

/// A name of 1 to 63 letters a to z, digits and hyphens, with no hyphen at an end. It never needs
/// to be escaped, and no two of them look alike but for their case.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Label(Box<str>);

/// A text that isn't a [`Label`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a name has 1 to 63 small letters, digits and hyphens, with no hyphen at an end")]
pub struct NotALabel;

impl Label {
    /// Its text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Label {
    type Err = NotALabel;
    fn from_str(text: &str) -> Result<Self, NotALabel> {
        let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        let fits = (1..=MAX_LABEL).contains(&text.len())
            && text.bytes().all(allowed)
            && !text.starts_with('-')
            && !text.ends_with('-');
        fits.then(|| Self(text.into())).ok_or(NotALabel)
    }
}

impl TryFrom<String> for Label {
    type Error = NotALabel;
    fn try_from(text: String) -> Result<Self, NotALabel> {
        text.parse()
    }
}

impl From<Label> for String {
    fn from(label: Label) -> Self {
        label.0.into()
    }
}

impl Borrow<str> for Label {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_needs_no_escape_anywhere() {
        for good in ["a", "madrid-2", "0", &"x".repeat(63)] {
            assert_eq!(good.parse::<Label>().unwrap().as_str(), good);
        }
        for bad in [
            "",
            "-a",
            "a-",
            "A",
            "a.b",
            "a/b",
            "ñ",
            "a b",
            &"x".repeat(64),
        ] {
            assert_eq!(bad.parse::<Label>(), Err(NotALabel), "{bad:?}");
            let json = serde_json::to_string(bad).unwrap();
            assert!(serde_json::from_str::<Label>(&json).is_err(), "{bad:?}");
        }
    }
}
