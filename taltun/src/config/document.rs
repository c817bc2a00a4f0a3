//! A TOML file as sections and fields that know their line.
//!
//! The file is walked by hand rather than through serde's derive: every key and value
//! keeps its span, so that each complaint about it can name the line and the key and say
//! in Taltun's words what was expected.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};

use taltun_usage::Day;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::error::{ConfigError, Spot};
use super::keys::{self, Key};
use super::pieces::{self, AdjacentTables, Pieces};
use super::{suggest, syntax};

/// A parsed file.
pub(super) struct Document<'a> {
    file: Arc<str>,
    lines: Lines,
    root: Spanned<DeTable<'a>>,
    /// A run of tables that is parsed piece by piece, as it is read, and what follows it.
    run: Option<(AdjacentTables<'a>, Spanned<DeTable<'a>>)>,
    /// What to read past: line, section and key.
    ignored: Vec<(usize, &'static str, String)>,
}

/// Mistakes told at once, at the most.
pub(super) const MOST_MISTAKES: usize = 10;

/// What a section has that isn't in the file.
static NOTHING: LazyLock<DeTable<'static>> = LazyLock::new(DeTable::new);

/// A table of the file, such as `[interface]` or one of `[[peers]]`.
pub(super) struct Section<'d, 'a> {
    document: &'d Document<'a>,
    declared: &'static keys::Section,
    table: &'d DeTable<'a>,
    start: usize,
    /// Where what the table was parsed from begins in the file.
    shift: usize,
}

/// The value of a key, or an element of its list.
#[derive(Clone, Copy)]
pub(super) struct Field<'d, 'a> {
    document: &'d Document<'a>,
    shift: usize,
    key: &'static Key,
    /// What it is called, where the file chose that.
    named: Option<&'d str>,
    value: &'d Spanned<DeValue<'a>>,
    /// Where it stands in the file, or what misses it, if it is a default.
    at: usize,
}

impl<'a> Document<'a> {
    /// Parses `text`; `file` is what to call it in errors.
    pub(super) fn parse(text: &'a str, file: &str) -> Result<Self, ConfigError> {
        let lines = Lines::of(text);
        let (root, errors) = DeTable::parse_recoverable(text);
        // What follows a mistake in its own line comes of it.
        let mut mistakes: BTreeMap<usize, String> = BTreeMap::new();
        for error in errors {
            let at = error.span().map_or(0, |span| span.start);
            let number = lines.number(at);
            let line = text
                .lines()
                .nth(number.saturating_sub(1))
                .unwrap_or_default();
            mistakes.entry(number).or_insert_with(|| {
                // A key that is there twice is, whatever its value.
                let is_twice = error.message().contains("duplicate key")
                    && !line.trim_start().starts_with('[');
                let remedy = (!is_twice).then(|| syntax::remedy(line, text)).flatten();
                match remedy {
                    // The parser's words say less than that.
                    Some(remedy) => format!("not valid TOML; {remedy}"),
                    None => format!("not valid TOML: {}", error.message()),
                }
            });
        }
        // Of a whole file of another kind once is enough.
        let most = if syntax::is_of_wg_quick(text) {
            1
        } else {
            MOST_MISTAKES
        };
        let mistakes = mistakes.into_iter().take(most);
        let errors = mistakes.map(|(number, text)| Spot::line(file, number, "").error(text));
        match ConfigError::all(errors.collect()) {
            Some(error) => Err(error),
            None => Ok(Self {
                file: file.into(),
                lines,
                root,
                run: None,
                ignored: Vec::new(),
            }),
        }
    }

    /// Takes a large file in pieces, so that never all of it is in memory as TOML; `None` where
    /// a piece isn't valid by itself, and the file has to be parsed as a whole.
    pub(super) fn in_pieces(text: &'a str, file: &str, pieces: Pieces<'a>) -> Option<Self> {
        let (root, tail) = (pieces::parse(pieces.head)?, pieces::parse(pieces.tail)?);
        // What is in two of the parts may not be, or is one.
        let mut names = tail.get_ref().keys();
        let is_whole = names.all(|key| !root.get_ref().contains_key(key))
            && [&root, &tail]
                .iter()
                .all(|table| find(table.get_ref(), pieces.run.name()).is_none());
        if !is_whole {
            return None;
        }
        Some(Self {
            file: file.into(),
            lines: Lines::of(text),
            root,
            run: Some((pieces.run, tail)),
            ignored: Vec::new(),
        })
    }

    /// From now on reads as if what is wrong here weren't in the file, so that the next mistake
    /// is found.
    pub(super) fn ignore(&mut self, spot: &Spot) {
        self.ignored
            .push((spot.number(), spot.section(), spot.key().to_owned()));
    }

    fn is_ignored(&self, at: usize, section: &str, key: &str) -> bool {
        // Nearly always there are none.
        !self.ignored.is_empty() && {
            let number = self.lines.number(at);
            let mut ignored = self.ignored.iter();
            ignored.any(|(line, of, name)| *line == number && *of == section && name == key)
        }
    }

    /// Whether something is missing in the section that begins there.
    fn is_section_ignored(&self, at: usize, name: &str, table: &DeTable<'_>) -> bool {
        !self.ignored.is_empty() && {
            let number = self.lines.number(at);
            let mut ignored = self.ignored.iter();
            ignored.any(|(line, of, key)| {
                let value = find(table, key).map(|value| value.span().start);
                let is_there = value.is_some_and(|at| !self.is_ignored(at, name, key));
                *line == number && *of == name && !is_there
            })
        }
    }

    /// Refuses sections that there aren't.
    pub(super) fn allow_only(&self) -> Result<(), ConfigError> {
        let is_known = |name: &str| keys::section(name).is_some();
        self.tables()
            .try_for_each(|(table, shift)| allow_only(self, "", table, shift, is_known))
    }

    /// The tables of the file that are parsed already, and where they begin in it.
    fn tables(&self) -> impl Iterator<Item = (&DeTable<'a>, usize)> {
        let tail = self
            .run
            .iter()
            .map(|(run, tail)| (tail.get_ref(), run.end()));
        std::iter::once((self.root.get_ref(), 0)).chain(tail)
    }

    /// A section that stands once, with the defaults alone where the file doesn't have it.
    pub(super) fn section_or_defaults(
        &self,
        declared: &'static keys::Section,
    ) -> Result<Section<'_, 'a>, ConfigError> {
        Ok(self.section(declared)?.unwrap_or(Section {
            document: self,
            declared,
            table: &NOTHING,
            start: 0,
            shift: 0,
        }))
    }

    /// A section that stands once, if the file has it.
    pub(super) fn section(
        &self,
        declared: &'static keys::Section,
    ) -> Result<Option<Section<'_, 'a>>, ConfigError> {
        let name = declared.name;
        let mut tables = self.tables();
        let found = tables.find_map(|(table, shift)| Some((find(table, name)?, shift)));
        let Some((value, shift)) =
            found.filter(|(value, _)| !self.is_ignored(value.span().start, "", name))
        else {
            return Ok(None);
        };
        match value.get_ref() {
            DeValue::Table(table) => Ok(Some(Section {
                document: self,
                declared,
                table,
                start: value.span().start.saturating_add(shift),
                shift,
            })),
            DeValue::Array(_) => Err(self
                .spot(value.span().start.saturating_add(shift), "", name)
                .error(format!(
                    "expected one table: write [{name}] with single brackets, once"
                ))),
            other => Err(self
                .spot(value.span().start.saturating_add(shift), "", name)
                .error(format!("expected a table [{name}], found {}", kind(other)))),
        }
    }

    /// Gives each of the tables of a section that may stand any number of times to `read`, in
    /// file order.
    pub(super) fn each_section(
        &self,
        declared: &'static keys::Section,
        mut read: impl FnMut(&Section<'_, 'a>) -> Result<(), ConfigError>,
    ) -> Result<(), ConfigError> {
        let name = declared.name;
        let run = self.run.as_ref().map(|(run, _)| run);
        let Some(run) = run.filter(|run| run.name() == name) else {
            for (table, shift) in self.tables() {
                let sections = self.sections(table, declared, shift)?;
                sections.iter().try_for_each(&mut read)?;
            }
            return Ok(());
        };
        run.pieces().try_for_each(|(shift, piece)| {
            // Whoever reads a file in pieces reads it as a whole where that fails.
            let root = pieces::parse(piece)
                .ok_or_else(|| self.spot(shift, "", name).error("not valid TOML"))?;
            let sections = self.sections(root.get_ref(), declared, shift)?;
            sections.iter().try_for_each(&mut read)
        })
    }

    /// The tables of a section in a text that begins at `shift`.
    fn sections<'d>(
        &'d self,
        root: &'d DeTable<'a>,
        declared: &'static keys::Section,
        shift: usize,
    ) -> Result<Vec<Section<'d, 'a>>, ConfigError> {
        let name = declared.name;
        let value = find(root, name);
        let Some(value) = value.filter(|value| !self.is_ignored(value.span().start, "", name))
        else {
            return Ok(Vec::new());
        };
        let wrong = |at: usize| {
            self.spot(at.saturating_add(shift), "", name).error(format!(
                "expected a list of tables: write [[{name}]] with double brackets before each"
            ))
        };
        let DeValue::Array(elements) = value.get_ref() else {
            return Err(wrong(value.span().start));
        };
        elements
            .iter()
            .filter(|element| match element.get_ref() {
                DeValue::Table(table) => {
                    !self.is_section_ignored(element.span().start, name, table)
                }
                _ => true,
            })
            .map(|element| match element.get_ref() {
                DeValue::Table(table) => Ok(Section {
                    document: self,
                    declared,
                    table,
                    start: element.span().start.saturating_add(shift),
                    shift,
                }),
                _ => Err(wrong(element.span().start)),
            })
            .collect()
    }

    fn spot(&self, at: usize, section: &'static str, key: impl Into<Cow<'static, str>>) -> Spot {
        let file = Arc::clone(&self.file);
        Spot::key_at(file, self.lines.number(at), section, key.into())
    }
}

impl<'d, 'a> Section<'d, 'a> {
    /// Refuses keys that it doesn't have.
    pub(super) fn allow_only(&self) -> Result<(), ConfigError> {
        let is_known = |name: &str| self.declared.has(name);
        allow_only(
            self.document,
            self.declared.name,
            self.table,
            self.shift,
            is_known,
        )
    }

    /// The value of `key`, if it is given.
    pub(super) fn get(&self, key: &'static Key) -> Option<Field<'d, 'a>> {
        let value = find(self.table, key.name)?;
        let at = value.span().start;
        let is_ignored = self.document.is_ignored(at, self.declared.name, key.name);
        (!is_ignored).then_some(Field {
            document: self.document,
            shift: self.shift,
            key,
            named: None,
            value,
            at: at.saturating_add(self.shift),
        })
    }

    /// The value of `key`: the one that is given, or its default.
    pub(super) fn value(&self, key: &'static Key) -> Result<Field<'d, 'a>, ConfigError> {
        if let Some(given) = self.get(key) {
            return Ok(given);
        }
        let value = key.default_value();
        let value = value.ok_or_else(|| self.spot(key).error("missing; give it a value"))?;
        Ok(Field {
            document: self.document,
            shift: 0,
            key,
            named: None,
            value,
            at: self.start,
        })
    }

    /// The values of a section whose keys are names of the file's own, in its order; `key` says
    /// what each is.
    pub(super) fn named(&self, key: &'static Key) -> Vec<Field<'d, 'a>> {
        let is_read = |name: &str, at| !self.document.is_ignored(at, self.declared.name, name);
        let fields = self.table.iter().filter_map(|(name, value)| {
            let name: &str = name.get_ref();
            let at = value.span().start;
            is_read(name, at).then_some(Field {
                document: self.document,
                shift: self.shift,
                key,
                named: Some(name),
                value,
                at: at.saturating_add(self.shift),
            })
        });
        let mut fields: Vec<_> = fields.collect();
        fields.sort_by_key(|field| field.at);
        fields
    }

    /// Those of its keys that are given, each with where.
    pub(super) fn spots(&self) -> impl Iterator<Item = (&'static str, Spot)> {
        let given = self.declared.keys.iter().filter_map(|key| self.get(key));
        given.map(|field| (field.key.name, field.spot()))
    }

    /// Where `key` would stand if it were given: at the head of this section.
    pub(super) fn spot(&self, key: &'static Key) -> Spot {
        self.document.spot(self.start, self.declared.name, key.name)
    }

    /// Its head.
    pub(super) fn head(&self) -> Spot {
        self.document.spot(self.start, self.declared.name, "")
    }
}

impl<'d> Field<'d, '_> {
    /// Where this is written.
    pub(super) fn spot(&self) -> Spot {
        let section = self.key.section;
        match self.named {
            Some(name) => self.document.spot(self.at, section, name.to_owned()),
            None => self.document.spot(self.at, section, self.key.name),
        }
    }

    /// What it is called.
    pub(super) fn name(&self) -> &'d str {
        self.named.unwrap_or(self.key.name)
    }

    /// A text.
    pub(super) fn string(&self) -> Result<&'d str, ConfigError> {
        match self.value.get_ref() {
            DeValue::String(text) => Ok(text),
            other => Err(self.wrong_type("a text in quotes", other)),
        }
    }

    /// `true` or `false`.
    pub(super) fn boolean(&self) -> Result<bool, ConfigError> {
        match self.value.get_ref() {
            DeValue::Boolean(value) => Ok(*value),
            other => Err(self.wrong_type("true or false, without quotes", other)),
        }
    }

    /// A day: a date, or a text that is one.
    pub(super) fn day(&self) -> Result<Day, ConfigError> {
        match self.value.get_ref() {
            DeValue::String(text) => text.parse().map_err(|error| self.spot().error(error)),
            DeValue::Datetime(date) if date.time.is_none() => {
                let parsed = date.to_string().parse();
                parsed.map_err(|error| self.spot().error(error))
            }
            DeValue::Datetime(date) => Err(self.spot().error(format!(
                "expected a date alone such as 2026-12-31, found {date}; the end of that day in \
                 UTC is meant"
            ))),
            other => Err(self.wrong_type("a date such as 2026-12-31", other)),
        }
    }

    /// A whole number that the key takes.
    pub(super) fn integer(&self) -> Result<u32, ConfigError> {
        let range = self.key.range();
        let expected = format!("a whole number from {} to {}", range.start(), range.end());
        match self.value.get_ref() {
            DeValue::Integer(number) => u32::from_str_radix(number.as_str(), number.radix())
                .ok()
                .filter(|value| range.contains(value))
                .ok_or_else(|| {
                    self.spot()
                        .error(format!("expected {expected}, found {number}"))
                }),
            other => Err(self.wrong_type(&expected, other)),
        }
    }

    /// Two whole numbers that the key takes, the smaller one first.
    pub(super) fn range(&self) -> Result<(u32, u32), ConfigError> {
        let range = self.key.range();
        let wrong = |found: &str| {
            self.spot().error(format!(
                "expected two whole numbers from {} to {} in [ ], the smaller one first, such as \
                 {}, found {found}",
                range.start(),
                range.end(),
                self.key.example
            ))
        };
        let elements = match self.value.get_ref() {
            DeValue::Array(elements) => elements,
            DeValue::String(text) => return Err(wrong(&format!("the text {text:?}"))),
            DeValue::Integer(number) => return Err(wrong(&number.to_string())),
            other => return Err(wrong(kind(other))),
        };
        let number = |value: &Spanned<DeValue<'_>>| match value.get_ref() {
            DeValue::Integer(number) => u32::from_str_radix(number.as_str(), number.radix())
                .ok()
                .filter(|value| range.contains(value)),
            _ => None,
        };
        match elements.iter().map(number).collect::<Vec<_>>()[..] {
            [Some(first), Some(last)] if first <= last => Ok((first, last)),
            _ => {
                let shown = elements.iter().take(3).map(|value| match value.get_ref() {
                    DeValue::Integer(number) => number.to_string(),
                    other => kind(other).to_owned(),
                });
                let more = if elements.len() > 3 { ", …" } else { "" };
                let shown = shown.collect::<Vec<_>>().join(", ");
                Err(wrong(&format!("[{shown}{more}]")))
            }
        }
    }

    /// Whether it is a list.
    pub(super) fn is_list(&self) -> bool {
        matches!(self.value.get_ref(), DeValue::Array(_))
    }

    /// The elements of a list of texts.
    pub(super) fn list(&self) -> Result<Vec<Self>, ConfigError> {
        match self.value.get_ref() {
            DeValue::Array(elements) => Ok(elements
                .iter()
                .filter(|value| {
                    let at = value.span().start;
                    let (section, key) = (self.key.section, self.name());
                    !self.document.is_ignored(at, section, key)
                })
                .map(|value| Self {
                    value,
                    at: value.span().start.saturating_add(self.shift),
                    ..*self
                })
                .collect()),
            other => Err(self.wrong_type("a list of texts in [ ]", other)),
        }
    }

    /// The elements of a list of texts, or the one text that stands in its place.
    pub(super) fn one_or_list(&self) -> Result<Vec<Self>, ConfigError> {
        match self.value.get_ref() {
            DeValue::String(_) => Ok(vec![*self]),
            DeValue::Array(_) => self.list(),
            other => Err(self.wrong_type("a text in quotes or a list of them in [ ]", other)),
        }
    }

    fn wrong_type(&self, expected: &str, found: &DeValue<'_>) -> ConfigError {
        self.spot()
            .error(format!("expected {expected}, found {}", kind(found)))
    }
}

fn allow_only(
    document: &Document<'_>,
    section: &'static str,
    table: &DeTable<'_>,
    shift: usize,
    is_known: impl Fn(&str) -> bool,
) -> Result<(), ConfigError> {
    // The map is sorted by name; the first in the file is the one to name first.
    let unknown = table
        .keys()
        .filter(|key| !is_known(key.get_ref()))
        .filter(|key| !document.is_ignored(key.span().start, section, key.get_ref()))
        .min_by_key(|key| key.span().start);
    let Some(unknown) = unknown else {
        return Ok(());
    };
    let word = unknown.get_ref();
    let what = if section.is_empty() {
        "unknown section or key"
    } else {
        "unknown key"
    };
    Err(document
        .spot(
            unknown.span().start.saturating_add(shift),
            section,
            word.to_string(),
        )
        .error(format!("{what}; {}", suggest::hint_in(section, word))))
}

fn find<'t, 'a>(table: &'t DeTable<'a>, name: &str) -> Option<&'t Spanned<DeValue<'a>>> {
    table.get(name)
}

/// Where the lines of a text end, so that a place in it finds its line without counting
/// all that comes before it.
struct Lines(Vec<usize>);

impl Lines {
    fn of(text: &str) -> Self {
        let ends = text.match_indices('\n');
        Self(ends.map(|(at, _)| at).collect())
    }

    /// The number, from 1, of the line that the byte `at` is on.
    fn number(&self, at: usize) -> usize {
        self.0.partition_point(|end| *end < at).saturating_add(1)
    }
}

/// What a value is, with its article.
fn kind(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a text",
        DeValue::Integer(_) => "a number",
        DeValue::Float(_) => "a number with a fraction",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}
