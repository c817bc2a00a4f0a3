//! Why a configuration is refused, always in one line that says where and what to do.

use std::borrow::Cow;
use std::fmt;
use std::num::NonZeroU32;
use std::sync::Arc;

/// Where a setting was written: a key at a line of a file, or a flag.
///
/// A big file has hundreds of thousands of these, and nearly none is ever shown: what it
/// says is put together only then.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Spot {
    /// A file such as `hub.toml`, or a flag such as `-vip`.
    file: Arc<str>,
    /// Counted from 1, where the origin has lines.
    line: Option<NonZeroU32>,
    /// The section of the key; empty where the key says it itself.
    section: &'static str,
    /// `vip`; empty where the origin says it already.
    key: Cow<'static, str>,
}

impl Spot {
    /// `key` at a line, counted from 1, of a file.
    pub(super) fn line(file: &str, line: usize, key: &str) -> Self {
        Self::key_at(file.into(), line, "", key.to_owned().into())
    }

    /// `key` of a section at a line, counted from 1, of a file.
    pub(super) fn key_at(
        file: Arc<str>,
        line: usize,
        section: &'static str,
        key: Cow<'static, str>,
    ) -> Self {
        Self {
            file,
            line: u32::try_from(line).ok().and_then(NonZeroU32::new),
            section,
            key,
        }
    }

    /// A file as a whole.
    pub(super) fn file(file: &str) -> Self {
        Self::key_at(file.into(), 0, "", Cow::Borrowed(""))
    }

    /// A flag of the command line, as the user knows it.
    pub(super) fn flag(flag: &str) -> Self {
        Self::file(flag)
    }

    /// Another key at the same place: in a file, where its section begins.
    pub(super) fn sibling(&self, key: &str) -> Self {
        Self {
            section: "",
            key: key.to_owned().into(),
            ..self.clone()
        }
    }

    /// The place alone, to point at from another message: `hub.toml:7`.
    pub(super) fn origin(&self) -> String {
        match self.line {
            Some(line) => format!("{}:{line}", self.file),
            None => self.file.to_string(),
        }
    }

    /// Refuses what is written here. `message` says what was expected and what to do.
    pub(super) fn error(&self, message: impl fmt::Display) -> ConfigError {
        ConfigError(self.say(message))
    }

    /// `message` with this place in front, in one line.
    pub(super) fn say(&self, message: impl fmt::Display) -> String {
        let (origin, section, key) = (self.origin(), self.section, &self.key);
        let text = match (section.is_empty(), key.is_empty()) {
            (true, true) => format!("{origin}: {message}"),
            (true, false) => format!("{origin}: {key}: {message}"),
            (false, _) => format!("{origin}: {section}.{key}: {message}"),
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

impl ConfigError {
    /// One that says where already.
    pub(super) fn from_line(line: String) -> Self {
        Self(line)
    }
}

/// The number, from 1, of the line that what follows `before` is on.
pub(super) fn line_after(before: &[u8]) -> usize {
    before.split(|byte| *byte == b'\n').count()
}
