//! Why what was asked isn't done: in a sentence for who types commands, and as a code for who says it
//! in other words, as the page does.

use std::fmt;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

/// Why it isn't done. On the control socket it is its sentence.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
pub struct Refused {
    /// Which of the reasons that have a code.
    pub why: Option<Why>,
    /// What is wrong and what would help.
    pub text: String,
}

/// A reason that others may say in their own words.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Why {
    /// A peer is called so already.
    NameTaken,
    /// It can't be a peer's name.
    NameUnfit,
    /// The last day is no day, or is past.
    DayUnfit,
    /// That is no place of a hub.
    EndpointUnfit,
    /// Nobody knows where clients reach the hub.
    NoEndpoint,
    /// No address is free in these subnets.
    Full(String),
    /// Groups, rules or the like name the peer: where.
    Named(String),
    /// The file has changes that the tunnel hasn't taken over.
    NotTakenOver,
    /// The file can't be changed.
    NotWritten,
    /// The peer isn't in the file, or there is none.
    NotInFile,
    /// The browser comes from there.
    OwnWay(IpAddr),
    /// It would drop nearly everything.
    TooWide,
    /// It is this machine's own address, or has it in it.
    OwnAddress,
    /// It is inside the tunnel, and was to be banned outside.
    IsInside,
    /// It isn't banned.
    NotBanned,
    /// A ban lasts at least a second and at most a hundred years.
    BanTime,
}

impl Refused {
    /// A reason with a code.
    pub fn because(why: Why, text: impl Into<String>) -> Self {
        Self {
            why: Some(why),
            text: text.into(),
        }
    }

    /// The same with more words behind it.
    #[must_use]
    pub fn and(mut self, more: &str) -> Self {
        self.text.push_str(more);
        self
    }
}

impl From<String> for Refused {
    fn from(text: String) -> Self {
        Self { why: None, text }
    }
}

impl From<&str> for Refused {
    fn from(text: &str) -> Self {
        text.to_owned().into()
    }
}

impl From<Refused> for String {
    fn from(refused: Refused) -> Self {
        refused.text
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}
