//! Why a configuration is refused: for each mistake one line that says where and what to do.

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
        ConfigError {
            lines: vec![self.say(message)],
            spot: self.clone(),
        }
    }

    /// The line of the file, from 1; 0 for a whole file and for what isn't in one.
    pub(super) fn number(&self) -> usize {
        self.line.map_or(0, |line| line.get() as usize)
    }

    /// The section that the key is in; empty at the top.
    pub(super) fn section(&self) -> &'static str {
        self.section
    }

    /// The key with its section, as errors show it.
    pub(super) fn full_key(&self) -> String {
        match self.section {
            "" => self.key.to_string(),
            section => format!("{section}.{}", self.key),
        }
    }

    /// The key, without its section; empty where there is none.
    pub(super) fn key(&self) -> &str {
        &self.key
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

/// A configuration that can't be used. It displays as one line for each mistake,
/// `file:line: key: what was expected and the remedy`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", lines.join("\n"))]
pub struct ConfigError {
    lines: Vec<String>,
    /// Where the first of them is.
    spot: Spot,
}

impl ConfigError {
    /// One that says where already.
    pub(super) fn from_line(line: &str) -> Self {
        Self {
            lines: line.lines().map(str::to_owned).collect(),
            spot: Spot::file(""),
        }
    }

    /// Where the first mistake is.
    pub(super) fn spot(&self) -> &Spot {
        &self.spot
    }

    /// What is wrong, without the places in `file`: for one that was never written.
    pub fn without_places(&self, file: &str) -> String {
        let told = self.lines.iter().map(|line| {
            let Some(rest) = line.strip_prefix(file) else {
                return line.as_str();
            };
            let is_of_place = |c: char| c == ':' || c.is_ascii_digit();
            rest.trim_start_matches(is_of_place).trim_start()
        });
        told.collect::<Vec<_>>().join("\n")
    }

    /// Whether something isn't there, rather than wrong.
    pub(super) fn is_missing(&self) -> bool {
        self.lines.iter().any(|line| line.contains(": missing; "))
    }

    /// The key that it is about, with its section: of an unknown one, that which was meant.
    pub(super) fn key_meant(&self) -> String {
        let meant = self.lines.first().and_then(|line| {
            let (_, meant) = line.split_once(": unknown key; did you mean ")?;
            meant.strip_suffix('?')
        });
        match meant {
            Some(meant) => format!("{}.{meant}", self.spot.section()),
            None => self.spot.full_key(),
        }
    }

    /// All of them as one, in the order of the file; `None` if there are none.
    pub(super) fn all(mut errors: Vec<Self>) -> Option<Self> {
        // What concerns the file as a whole comes last.
        errors.sort_by_key(|error| match error.spot.number() {
            0 => usize::MAX,
            number => number,
        });
        let mut errors = errors.into_iter();
        let mut first = errors.next()?;
        first.lines.extend(errors.flat_map(|error| error.lines));
        Some(first)
    }
}

/// The number, from 1, of the line that what follows `before` is on.
pub(super) fn line_after(before: &[u8]) -> usize {
    before.split(|byte| *byte == b'\n').count()
}
