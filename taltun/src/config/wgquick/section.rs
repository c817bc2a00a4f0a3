//! A section of the TOML that an import makes: its lines in the order of the wg-quick file,
//! and from which line of that each of them came.

use std::collections::BTreeMap;

use ipnet::IpNet;

/// `[interface]`, or one of `[[peers]]`.
#[derive(Default)]
pub(super) struct Section {
    /// Where its header is.
    pub(super) line: usize,
    lines: Vec<Placed<Out>>,
    /// Addresses of all its `Address` or `AllowedIPs`.
    pub(super) nets: Vec<Placed<IpNet>>,
    /// Texts of keys that are one list in TOML and several lines in wg-quick's file.
    lists: BTreeMap<&'static str, Vec<Placed<String>>>,
}

/// Something, and the line of the wg-quick file that it came from.
pub(super) struct Placed<T> {
    pub(super) value: T,
    pub(super) line: usize,
}

impl<T> Placed<T> {
    pub(super) fn new(value: T, line: usize) -> Self {
        Self { value, line }
    }
}

/// A line of the outcome.
enum Out {
    /// A comment, or nothing.
    Plain(String),
    /// A key and its value.
    Key(&'static str, String),
    /// Here goes the list of this key.
    List(&'static str),
    /// Here go the addresses.
    Nets,
    /// A setting of Taltun's that stood in a comment, and has the last word about its key.
    Own { key: String, line: String },
}

impl Section {
    pub(super) fn new(line: usize) -> Self {
        Self {
            line,
            ..Self::default()
        }
    }

    pub(super) fn plain(&mut self, text: String, line: usize) {
        self.lines.push(Placed::new(Out::Plain(text), line));
    }

    /// Of several equal keys the last one counts, `None` for one that leaves it as it is.
    pub(super) fn set(&mut self, key: &'static str, value: Option<String>, line: usize) {
        let same = |out: &Placed<Out>| matches!(&out.value, Out::Key(name, _) if *name == key);
        self.lines.retain(|out| !same(out));
        if let Some(value) = value {
            self.lines.push(Placed::new(Out::Key(key, value), line));
        }
    }

    pub(super) fn own(&mut self, key: String, text: String, line: usize) {
        self.lines
            .retain(|out| !matches!(&out.value, Out::Own { key: name, .. } if *name == key));
        self.lines
            .push(Placed::new(Out::Own { key, line: text }, line));
    }

    /// Adds to a list, whose place is where its key stands first.
    pub(super) fn add(&mut self, key: &'static str, value: String, line: usize) {
        if !self.lists.contains_key(key) {
            self.lines.push(Placed::new(Out::List(key), line));
        }
        let list = self.lists.entry(key).or_default();
        list.push(Placed::new(value, line));
    }

    /// Puts other texts into a list, whose place stays; without any it isn't written.
    pub(super) fn fill(&mut self, key: &'static str, texts: Vec<Placed<String>>) {
        if texts.is_empty() {
            self.forget(key);
        } else if let Some(list) = self.lists.get_mut(key) {
            *list = texts;
        }
    }

    /// Forgets a list, so that the key isn't written.
    pub(super) fn forget(&mut self, key: &'static str) {
        self.lists.remove(key);
        self.lines
            .retain(|out| !matches!(&out.value, Out::List(name) if *name == key));
    }

    pub(super) fn list(&self, key: &str) -> &[Placed<String>] {
        self.lists.get(key).map_or(&[], Vec::as_slice)
    }

    pub(super) fn add_net(&mut self, net: IpNet, line: usize) {
        if self.nets.is_empty() {
            self.lines.push(Placed::new(Out::Nets, line));
        }
        self.nets.push(Placed::new(net, line));
    }

    /// Whether something gives this key a value, and where.
    pub(super) fn value(&self, key: &str) -> Option<(&str, usize)> {
        self.lines.iter().find_map(|out| match &out.value {
            Out::Key(name, value) if *name == key => Some((value.as_str(), out.line)),
            Out::Own { key: name, line } if name == key => Some((line.as_str(), out.line)),
            _ => None,
        })
    }

    /// Writes the section: `nets` is what its addresses are called, each of `defaults` is
    /// added unless its key is there. `spread` gives each item of a list a line of its own,
    /// so that a complaint about it finds its place.
    pub(super) fn write(
        &self,
        out: &mut Vec<Placed<String>>,
        nets: &str,
        defaults: &[(&'static str, Value)],
        spread: bool,
    ) {
        let own: Vec<&str> = self
            .lines
            .iter()
            .filter_map(|out| match &out.value {
                Out::Own { key, .. } => Some(key.as_str()),
                _ => None,
            })
            .collect();
        for (key, value) in defaults {
            if self.value(key).is_none() {
                match value {
                    Value::One(text) => out.push(Placed::new(format!("{key} = {text}"), self.line)),
                    Value::List(items) => write_list(out, key, self.line, items, spread),
                }
            }
        }
        // What it is called comes first, so that nothing is between the header and it.
        let is_name = |out: &Placed<Out>| match &out.value {
            Out::Key(key, _) => *key == "name",
            Out::Own { key, .. } => key == "name",
            _ => false,
        };
        let names = self.lines.iter().filter(|out| is_name(out));
        for placed in names.chain(self.lines.iter().filter(|out| !is_name(out))) {
            let line = placed.line;
            match &placed.value {
                Out::Plain(text) | Out::Own { line: text, .. } => {
                    out.push(Placed::new(text.clone(), line));
                }
                Out::Key(key, _) if own.contains(key) => {}
                Out::Key(key, value) => out.push(Placed::new(format!("{key} = {value}"), line)),
                Out::List(key) if own.contains(key) => {}
                Out::List(key) => write_list(out, key, line, self.list(key), spread),
                Out::Nets if own.contains(&nets) => {}
                Out::Nets => {
                    let nets_of =
                        |net: &Placed<IpNet>| Placed::new(net.value.to_string(), net.line);
                    let items: Vec<_> = self.nets.iter().map(nets_of).collect();
                    write_list(out, nets, line, &items, spread);
                }
            }
        }
    }
}

/// What a key is where the wg-quick file doesn't say.
pub(super) enum Value {
    /// In TOML.
    One(String),
    /// Texts.
    List(Vec<Placed<String>>),
}

impl Value {
    pub(super) fn copy(&self) -> Self {
        match self {
            Self::One(text) => Self::One(text.clone()),
            Self::List(items) => {
                let copy = |item: &Placed<String>| Placed::new(item.value.clone(), item.line);
                Self::List(items.iter().map(copy).collect())
            }
        }
    }
}

fn write_list(
    out: &mut Vec<Placed<String>>,
    key: &str,
    line: usize,
    items: &[Placed<String>],
    spread: bool,
) {
    let quoted = |text: &str| ::toml::Value::String(text.to_owned()).to_string();
    if spread {
        out.push(Placed::new(format!("{key} = ["), line));
        for item in items {
            // A text of several lines would be one here as well, but no item has any.
            out.push(Placed::new(format!("{},", quoted(&item.value)), item.line));
        }
        out.push(Placed::new("]".to_owned(), line));
    } else {
        let items: Vec<String> = items.iter().map(|item| quoted(&item.value)).collect();
        out.push(Placed::new(format!("{key} = [{}]", items.join(", ")), line));
    }
}
