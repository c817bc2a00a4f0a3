//! Changing peers in the text of a file. All else in it stays as it was, byte by byte: comments,
//! order, spelling. The text is one that was read and checked.

mod list;

use std::fmt;
use std::ops::Range;
use std::slice;

use ipnet::IpNet;
use taltun_usage::Day;
use toml::Spanned;
use toml::de::{DeTable, DeValue};
use zeroize::Zeroizing;

use super::forward;
use crate::crypto::{PresharedKey, PublicKey};

/// What becomes of a peer's preshared key.
#[derive(Debug, Clone, Copy)]
pub enum SharedKey<'a> {
    /// It stays, or there is none.
    Same,
    /// This one, from now on.
    New(&'a PresharedKey),
    /// There is none, from now on.
    None,
}

/// A peer that is to be in the file.
#[derive(Debug)]
pub struct PeerEntry<'a> {
    /// What to call it.
    pub name: &'a str,
    /// Who it is.
    pub public_key: PublicKey,
    /// The key that both sides share.
    pub preshared_key: Option<&'a PresharedKey>,
    /// Its own addresses.
    pub vip: &'a [std::net::IpAddr],
    /// Networks behind it.
    pub allowed_ips: &'a [IpNet],
    /// Its last day.
    pub expires: Option<Day>,
}

/// Another value for a key of a peer.
#[derive(Debug)]
pub enum NewValue {
    /// A text.
    Text(String),
    /// A day.
    Day(Day),
    /// A list of networks.
    Networks(Vec<IpNet>),
}

/// As TOML has it.
impl fmt::Display for NewValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(value) => f.write_str(&text(value)),
            Self::Day(day) => day.fmt(f),
            Self::Networks(nets) => f.write_str(&list::of(nets)),
        }
    }
}

/// A place of the file where a peer is named.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mention {
    /// Its line, from 1.
    pub line: usize,
    /// The section or key: `rules`, `groups.staff`.
    pub what: String,
    /// The word itself.
    pub word: String,
    /// Where its value stands.
    span: Range<usize>,
    /// What follows the word in the value: the port of a forward.
    rest: String,
}

/// A file, parsed for changes.
#[derive(Debug)]
pub struct Edit<'t> {
    text: &'t str,
    root: Spanned<DeTable<'t>>,
}

impl<'t> Edit<'t> {
    /// Takes a text.
    pub fn of(text: &'t str) -> Result<Self, String> {
        let root = DeTable::parse(text).map_err(|error| error.message().to_owned())?;
        Ok(Self { text, root })
    }

    /// The text with another peer, after those that there are.
    pub fn with_peer(&self, peer: &PeerEntry<'_>) -> Result<Zeroizing<String>, String> {
        let end = match self.value("peers") {
            None => None,
            Some(value) if self.is_in_one_value(value) => {
                return Err(
                    "peers is one list here; write [[peers]] before each, so that a peer \
                            can be added"
                        .to_owned(),
                );
            }
            Some(value) => tables(value).last().map(|table| table.end),
        };
        let line_end = self.line_end();
        let mut entry = Zeroizing::new(String::new());
        let at = end.map_or(self.text.len(), |end| self.end_of_line(end));
        let before = self.text.get(..at).unwrap_or_default();
        if !before.is_empty() && !before.ends_with('\n') {
            entry.push_str(line_end);
        }
        if !before.trim().is_empty() {
            entry.push_str(line_end);
        }
        for line in lines_of(peer) {
            entry.push_str(&line);
            entry.push_str(line_end);
        }
        Ok(self.replaced(&[(at..at, &entry)]))
    }

    /// The text without the peer that has this key.
    pub fn without_peer(&self, key: &PublicKey) -> Result<Zeroizing<String>, String> {
        let table = self.peer(key)?;
        let mut start = self.start_of_comment(table.start);
        let mut end = self.end_of_line(table.end);
        // One blank line between what is left.
        let is_blank = |range: Range<usize>| self.slice(range).trim().is_empty();
        match self.line_above(start) {
            Some(above) if is_blank(above..start) => start = above,
            Some(_) => {}
            None => {
                let below = self.end_of_line(end);
                if below > end && is_blank(end..below) {
                    end = below;
                }
            }
        }
        Ok(self.replaced(&[(start..end, "")]))
    }

    /// How many lines of comment go with the peer that has this key.
    pub fn comment_lines_of(&self, key: &PublicKey) -> usize {
        let Ok(table) = self.peer(key) else { return 0 };
        let comment = self.start_of_comment(table.start)..self.start_of_line(table.start);
        self.slice(comment).lines().count()
    }

    /// The text with another name for a peer, here and wherever its old one stands.
    pub fn renamed(
        &self,
        key: &PublicKey,
        old: Option<&str>,
        name: &str,
    ) -> Result<Zeroizing<String>, String> {
        let table = self.peer(key)?;
        let mentions = old.map(|old| self.mentions(|word| word == old));
        let mentions = mentions.unwrap_or_default();
        let literals: Vec<String> = mentions
            .iter()
            .map(|mention| text(&format!("{name}{}", mention.rest)))
            .collect();
        let own = text(name);
        let line;
        let mut changes: Vec<(Range<usize>, &str)> = Vec::new();
        if let Some(value) = table.value("name") {
            changes.push((value.span(), &own));
        } else {
            let (at, added) = self.line_behind(table.header, &format!("name = {own}"));
            line = added;
            changes.push((at..at, &line));
        }
        let spans = mentions.iter().map(|mention| mention.span.clone());
        changes.extend(spans.zip(literals.iter().map(String::as_str)));
        Ok(self.replaced(&changes))
    }

    /// The text with another key for a peer, wherever its old one stands, and with another
    /// preshared key if one is given. The comment behind one that goes stays.
    pub fn with_key(
        &self,
        old: &PublicKey,
        new: &PublicKey,
        preshared_key: SharedKey<'_>,
    ) -> Result<Zeroizing<String>, String> {
        let table = self.peer(old)?;
        let mentions = self.mentions(|word| word.parse() == Ok(*old));
        let key = text(&new.to_string());
        let literals: Vec<String> = mentions
            .iter()
            .map(|mention| text(&format!("{new}{}", mention.rest)))
            .collect();
        let secret;
        let line;
        let rest;
        let mut changes: Vec<(Range<usize>, &str)> = Vec::new();
        let own = table.value("public_key");
        let own = own.ok_or("the peer has no public_key of its own")?.span();
        changes.push((own.clone(), &key));
        let old = table.value("preshared_key").map(Spanned::span);
        match (preshared_key, old) {
            (SharedKey::New(key), Some(old)) => {
                secret = Zeroizing::new(text(&key.to_base64()));
                changes.push((old, &secret));
            }
            (SharedKey::New(key), None) => {
                let new = Zeroizing::new(format!("preshared_key = \"{}\"", *key.to_base64()));
                let (at, added) = self.line_behind(own.end, &new);
                line = added;
                changes.push((at..at, line.as_str()));
            }
            (SharedKey::None, Some(old)) => {
                let (gone, comment) = self.without_value(old);
                rest = comment;
                changes.push((gone, &rest));
            }
            (SharedKey::None, None) | (SharedKey::Same, _) => {}
        }
        let spans = mentions.iter().map(|mention| mention.span.clone());
        changes.extend(spans.zip(literals.iter().map(String::as_str)));
        Ok(self.replaced(&changes))
    }

    /// The text with other values for keys of a peer; a key without one is taken away. A comment behind
    /// it stays, and so do those in a list that goes on.
    pub fn with_values(
        &self,
        peer: &PublicKey,
        values: &[(&str, Option<NewValue>)],
    ) -> Result<Zeroizing<String>, String> {
        let table = self.peer(peer)?;
        let mut lines = Vec::new();
        let mut changes: Vec<(Range<usize>, String)> = Vec::new();
        for (name, new) in values {
            match (table.value(name).map(Spanned::span), new) {
                (Some(old), Some(NewValue::Networks(nets))) => {
                    let list = self.slice(old.clone());
                    changes.push((old, list::with_members(list, nets, self.line_end())));
                }
                (Some(old), Some(new)) => changes.push((old, new.to_string())),
                (Some(old), None) => {
                    changes.push(self.without_value(old));
                }
                (None, Some(new)) => {
                    lines.push(self.line_behind(table.end, &format!("{name} = {new}")));
                }
                (None, None) => {}
            }
        }
        let changes = changes.iter().map(|(at, new)| (at.clone(), new.as_str()));
        let mut changes: Vec<(Range<usize>, &str)> = changes.collect();
        changes.extend(lines.iter().map(|(at, line)| (*at..*at, line.as_str())));
        Ok(self.replaced(&changes))
    }

    /// The text that a key of a peer has for a value.
    pub fn text_of(&self, peer: &PublicKey, name: &str) -> Option<String> {
        let table = self.peer(peer).ok()?;
        match table.value(name)?.get_ref() {
            DeValue::String(text) => Some(text.to_string()),
            _ => None,
        }
    }

    /// Whether a list of a peer has comments in it.
    pub fn has_comments(&self, peer: &PublicKey, name: &str) -> bool {
        let table = self.peer(peer).ok();
        let value = table.and_then(|table| table.value(name));
        value.is_some_and(|value| {
            let is_list = matches!(value.get_ref(), DeValue::Array(_));
            is_list && self.slice(value.span()).contains('#')
        })
    }

    /// The keys that are given for a peer.
    pub fn keys_of(&self, key: &PublicKey) -> Vec<String> {
        let keys = self.peer(key).map(|table| {
            let keys = table.keys.keys();
            keys.map(|key| key.get_ref().to_string()).collect()
        });
        keys.unwrap_or_default()
    }

    /// Where groups, rules, forwards and `dns_routes` have such words for peers.
    pub fn mentions(&self, is_meant: impl Fn(&str) -> bool) -> Vec<Mention> {
        let mut found = Vec::new();
        let mut look = |what: &str, value: &Spanned<DeValue<'_>>| {
            let words: &[Spanned<DeValue<'_>>] = match value.get_ref() {
                DeValue::Array(words) => words,
                _ => slice::from_ref(value),
            };
            for word in words {
                let DeValue::String(written) = word.get_ref() else {
                    continue;
                };
                let (whom, rest) = match what {
                    "forward" => forward::split_to(written),
                    _ => (&**written, ""),
                };
                if is_meant(whom) {
                    found.push(Mention {
                        line: self.line_of(word.span().start),
                        what: what.to_owned(),
                        word: whom.to_owned(),
                        span: word.span(),
                        rest: rest.to_owned(),
                    });
                }
            }
        };
        if let Some(DeValue::Table(groups)) = self.value("groups").map(Spanned::get_ref) {
            for (name, members) in groups {
                look(&format!("groups.{}", name.get_ref()), members);
            }
        }
        for (section, key) in [("rules", "from"), ("rules", "to"), ("forward", "to")] {
            let all = self.value(section).map(tables).unwrap_or_default();
            for table in all {
                if let Some(value) = table.value(key) {
                    look(section, value);
                }
            }
        }
        if let Some(DeValue::Table(routes)) = self.value("dns_routes").map(Spanned::get_ref)
            && let Some(via) = routes.get("via")
        {
            look("dns_routes.via", via);
        }
        found.sort_by_key(|mention| mention.span.start);
        found
    }

    fn value(&self, name: &str) -> Option<&Spanned<DeValue<'t>>> {
        self.root.get_ref().get(name)
    }

    /// The table of the peer with this key.
    fn peer(&self, key: &PublicKey) -> Result<Table<'_, 't>, String> {
        let peers = self.value("peers").filter(|it| !self.is_in_one_value(it));
        let mut peers = peers.map(tables).unwrap_or_default().into_iter();
        let is_meant = |table: &Table<'_, '_>| {
            let value = table.value("public_key").map(Spanned::get_ref);
            matches!(value, Some(DeValue::String(text)) if text.parse() == Ok(*key))
        };
        peers.find(is_meant).ok_or_else(|| {
            "the peer isn't one of the [[peers]] of the file, so the file can't be changed for it"
                .to_owned()
        })
    }

    /// Whether tables are elements of a list behind an equals sign.
    fn is_in_one_value(&self, value: &Spanned<DeValue<'_>>) -> bool {
        let DeValue::Array(elements) = value.get_ref() else {
            return true;
        };
        let first = elements.first().map(|first| first.span().start);
        first.is_none_or(|at| self.text.as_bytes().get(at) != Some(&b'['))
    }

    /// The text with what stands in these places replaced.
    fn replaced(&self, changes: &[(Range<usize>, &str)]) -> Zeroizing<String> {
        let mut changes: Vec<_> = changes.iter().collect();
        changes.sort_by_key(|(range, _)| range.start);
        let more: usize = changes.iter().map(|(_, new)| new.len()).sum();
        // Room for all of it at once: what a growing text leaves behind isn't wiped.
        let room = self.text.len().saturating_add(more);
        let mut text = Zeroizing::new(String::with_capacity(room));
        let mut at = 0;
        for (range, new) in changes {
            text.push_str(self.slice(at..range.start));
            text.push_str(new);
            at = range.end;
        }
        text.push_str(self.slice(at..self.text.len()));
        text
    }

    fn slice(&self, range: Range<usize>) -> &'t str {
        self.text.get(range).unwrap_or_default()
    }

    /// What ends the lines of this file.
    fn line_end(&self) -> &'static str {
        if self.text.contains("\r\n") {
            "\r\n"
        } else {
            "\n"
        }
    }

    /// A new line behind the one that holds `at`: where it goes, and it with what ends a line.
    fn line_behind(&self, at: usize, line: &str) -> (usize, Zeroizing<String>) {
        let at = self.end_of_line(at);
        let end = self.line_end();
        let is_begun = !self.slice(0..at).ends_with('\n');
        let line = if is_begun {
            format!("{end}{line}")
        } else {
            format!("{line}{end}")
        };
        (at, Zeroizing::new(line))
    }

    /// All of a key and its value, with the line if nothing else is there, and what is left of it. An
    /// empty line keeps a comment from what follows the peer, which it isn't about.
    fn without_value(&self, value: Range<usize>) -> (Range<usize>, String) {
        let (start, end) = (self.start_of_line(value.start), self.end_of_line(value.end));
        let rest = self.slice(value.end..end);
        let Some((_, comment)) = rest.split_once('#') else {
            return (start..end, String::new());
        };
        let below = self.slice(end..self.end_of_line(end)).trim_start();
        let gap = if below.starts_with(['[', '#']) {
            self.line_end()
        } else {
            ""
        };
        (start..end, format!("#{comment}{gap}"))
    }

    fn start_of_line(&self, at: usize) -> usize {
        let before = self.slice(0..at);
        before
            .rfind('\n')
            .map_or(0, |found| found.saturating_add(1))
    }

    /// Where the comment directly above the table that begins at `at` begins, which is about it. An empty
    /// line ends it, and so does what is about more than one peer, or about none that there is.
    fn start_of_comment(&self, at: usize) -> usize {
        let mut start = self.start_of_line(at);
        while let Some(above) = self.line_above(start) {
            let line = self.slice(above..start).trim();
            let Some(comment) = line.strip_prefix('#') else {
                break;
            };
            if is_left_out(comment) || is_heading(comment) {
                break;
            }
            start = above;
        }
        start
    }

    /// Behind the line feed.
    fn end_of_line(&self, at: usize) -> usize {
        let rest = self.slice(at..self.text.len());
        let length = rest.find('\n').map(|found| found.saturating_add(1));
        at.saturating_add(length.unwrap_or(rest.len()))
    }

    /// Where the line above the one that begins at `at` begins.
    fn line_above(&self, at: usize) -> Option<usize> {
        let above = at.checked_sub(1)?;
        Some(self.start_of_line(above))
    }

    fn line_of(&self, at: usize) -> usize {
        let before = self.slice(0..at).bytes();
        before
            .filter(|byte| *byte == b'\n')
            .count()
            .saturating_add(1)
    }
}

/// One of several tables of a section.
struct Table<'d, 't> {
    keys: &'d DeTable<'t>,
    /// Where its header begins and ends.
    start: usize,
    header: usize,
    /// Where the last of its values ends.
    end: usize,
}

impl<'d, 't> Table<'d, 't> {
    fn value(&self, key: &str) -> Option<&'d Spanned<DeValue<'t>>> {
        self.keys.get(key)
    }
}

/// The tables of a section that may stand any number of times.
fn tables<'d, 't>(value: &'d Spanned<DeValue<'t>>) -> Vec<Table<'d, 't>> {
    let DeValue::Array(elements) = value.get_ref() else {
        return Vec::new();
    };
    let tables = elements.iter().filter_map(|element| {
        let DeValue::Table(table) = element.get_ref() else {
            return None;
        };
        let Range { start, end: header } = element.span();
        let values = table.values().map(|value| value.span().end);
        Some(Table {
            keys: table,
            start,
            header,
            end: values.chain([header]).max().unwrap_or(header),
        })
    });
    tables.collect()
}

/// Whether a comment is a line of TOML that somebody left out: a table, or a key with a value.
fn is_left_out(comment: &str) -> bool {
    let text = comment.trim_start_matches('#').trim();
    let is_key = |key: &str| {
        let key = key.trim();
        let plain = |c: char| c.is_ascii_alphanumeric() || "_-.\"".contains(c);
        !key.is_empty() && key.chars().all(plain)
    };
    text.starts_with('[') || text.split_once('=').is_some_and(|(key, _)| is_key(key))
}

/// Whether a comment is a heading, as those with lines in them are.
fn is_heading(comment: &str) -> bool {
    ["---", "===", "***", "###", "___", "──", "══"]
        .iter()
        .any(|line| comment.contains(line))
}

/// The lines of a peer.
fn lines_of(peer: &PeerEntry<'_>) -> Vec<Zeroizing<String>> {
    let mut lines = vec![
        "[[peers]]".to_owned(),
        format!("name = {}", text(peer.name)),
        format!("public_key = \"{}\"", peer.public_key),
    ];
    if let Some(key) = peer.preshared_key {
        lines.push(format!("preshared_key = \"{}\"", *key.to_base64()));
    }
    let quoted = |all: &mut dyn Iterator<Item = String>| {
        let all: Vec<String> = all.map(|one| format!("\"{one}\"")).collect();
        all.join(", ")
    };
    match peer.vip {
        [] => {}
        [one] => lines.push(format!("vip = \"{one}\"")),
        several => {
            let several = quoted(&mut several.iter().map(ToString::to_string));
            lines.push(format!("vip = [{several}]"));
        }
    }
    if !peer.allowed_ips.is_empty() {
        let nets = quoted(&mut peer.allowed_ips.iter().map(ToString::to_string));
        lines.push(format!("allowed_ips = [{nets}]"));
    }
    if let Some(day) = peer.expires {
        lines.push(format!("expires = {day}"));
    }
    lines.into_iter().map(Zeroizing::new).collect()
}

/// A text as TOML has it.
fn text(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}

#[cfg(test)]
mod tests;
