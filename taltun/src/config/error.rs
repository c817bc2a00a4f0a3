//! Why a configuration is refused, always in one line that says where and what to do.

use std::fmt;

/// Where a setting was written: a key at a line of a file, or a flag.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Spot {
    /// `hub.toml:7`, `hub.toml`, or a flag such as `-vip`.
    origin: String,
    /// `interface.vip`, where the origin doesn't say it already.
    key: Option<String>,
}

impl Spot {
    /// `key` at a line, counted from 1, of a file.
    pub(super) fn line(file: &str, line: usize, key: &str) -> Self {
        Self {
            origin: format!("{file}:{line}"),
            key: (!key.is_empty()).then(|| key.to_owned()),
        }
    }

    /// A file as a whole.
    pub(super) fn file(file: &str) -> Self {
        Self {
            origin: file.to_owned(),
            key: None,
        }
    }

    /// A flag of the command line, as the user knows it.
    pub(super) fn flag(flag: &str) -> Self {
        Self::file(flag)
    }

    /// Another key at the same place: in a file, where its section begins.
    pub(super) fn sibling(&self, key: &str) -> Self {
        Self {
            origin: self.origin.clone(),
            key: Some(key.to_owned()),
        }
    }

    /// The place alone, to point at from another message.
    pub(super) fn origin(&self) -> &str {
        &self.origin
    }

    /// Refuses what is written here. `message` says what was expected and what to do.
    pub(super) fn error(&self, message: impl fmt::Display) -> ConfigError {
        ConfigError(self.say(message))
    }

    /// `message` with this place in front, in one line.
    pub(super) fn say(&self, message: impl fmt::Display) -> String {
        let text = match &self.key {
            Some(key) => format!("{}: {key}: {message}", self.origin),
            None => format!("{}: {message}", self.origin),
        };
        // A file name or a quoted value may hold a line break; a log line may not.
        text.replace(['\n', '\r'], " ")
    }
}

/// A configuration that can't be used. It displays as one line,
/// `file:line: key: what was expected and the remedy`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ConfigError(String);

/// The number, from 1, of the line that what follows `before` is on.
pub(super) fn line_after(before: &[u8]) -> usize {
    before.split(|byte| *byte == b'\n').count()
}
