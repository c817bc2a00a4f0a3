//! The sources, read as Rust: modules, what each passes on, and which paths stand in it.
//!
//! Only what is built without tests counts. Paths inside of macros count as well, as far as
//! they begin with `crate`, `self` or `super`, or with a name that the file imports.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use proc_macro2::{TokenStream, TokenTree};
use quote::ToTokens;
use syn::{Attribute, Item, UseTree};

/// A file, by its path below the repository.
pub type File = String;
/// A path in the source, word by word.
type Words = Vec<String>;

/// Longer chains of `use` that pass a name on don't exist, but in a circle.
const MOST_PASSED_ON: usize = 16;

/// All modules, by their path with the crate's name first.
#[derive(Default)]
pub struct Sources {
    modules: BTreeMap<Words, Module>,
}

#[derive(Default)]
struct Module {
    file: File,
    /// What a name stands for that a `use` gives to this module.
    names: BTreeMap<String, Words>,
    /// All of these modules' names are this one's, too.
    globs: Vec<Words>,
    /// The paths that stand in it.
    paths: BTreeSet<Words>,
}

/// The module that a file is, as Rust writes it.
pub fn module_of(file: &File) -> String {
    let (package, path) = file.split_once("/src/").unwrap_or(("", file));
    let package = package.replace(['/', '-'], "_");
    let path = path.trim_end_matches(".rs").trim_end_matches("/mod");
    format!("{package}::{}", path.replace('/', "::"))
}

impl Sources {
    /// Reads the crates, each given by its name and its first file below `root`.
    pub fn read(root: &Path, crates: &[(&str, &str)]) -> Self {
        let mut sources = Self::default();
        for (name, file) in crates {
            let file = root.join(file);
            let directory = file.parent().unwrap().to_owned();
            sources.read_file(root, &file, &directory, vec![(*name).to_owned()]);
        }
        sources
    }

    /// Which files each file imports. A file of a module inside of another may use what the
    /// outer one has: together they are one thing in several files, and that isn't listed.
    pub fn arrows(&self) -> BTreeMap<File, BTreeSet<File>> {
        let mut arrows: BTreeMap<File, BTreeSet<File>> = BTreeMap::new();
        for (module, content) in &self.modules {
            let targets = arrows.entry(content.file.clone()).or_default();
            for path in &content.paths {
                if let Some(found) = self.find(module, path, 0)
                    && !module.starts_with(&found)
                    && let Some(target) = self.modules.get(&found)
                    && target.file != content.file
                {
                    targets.insert(target.file.clone());
                }
            }
        }
        arrows
    }

    /// `directory` is where files of modules inside of it are.
    fn read_file(&mut self, root: &Path, file: &Path, directory: &Path, module: Words) {
        let shown = file.display();
        let text = fs::read_to_string(file).unwrap_or_else(|error| panic!("{shown}: {error}"));
        let parsed = syn::parse_file(&text).unwrap_or_else(|error| panic!("{shown}: {error}"));
        let name = file
            .strip_prefix(root)
            .unwrap()
            .to_str()
            .unwrap()
            .to_owned();
        self.read_items(root, &name, directory, module, parsed.items);
    }

    fn read_items(
        &mut self,
        root: &Path,
        file: &str,
        directory: &Path,
        module: Words,
        items: Vec<Item>,
    ) {
        let mut content = Module {
            file: file.to_owned(),
            ..Module::default()
        };
        for item in items {
            if attributes(&item).iter().any(is_left_out) {
                continue;
            }
            match item {
                Item::Mod(inner) => {
                    let name = inner.ident.to_string();
                    let below = [module.clone(), vec![name.clone()]].concat();
                    let directory = directory.join(&name);
                    if let Some((_, items)) = inner.content {
                        self.read_items(root, file, &directory, below, items);
                    } else {
                        let path = path_of(&inner.attrs, &directory);
                        self.read_file(root, &path, &directory, below);
                    }
                }
                Item::Use(item) => content.take_use(&item.tree, &mut Vec::new()),
                other => content.take_paths(other.to_token_stream()),
            }
        }
        self.modules.insert(module, content);
    }

    /// The module with what `path` names.
    fn find(&self, module: &Words, path: &[String], passed_on: usize) -> Option<Words> {
        if passed_on > MOST_PASSED_ON {
            return None;
        }
        let mut at = module.clone();
        match path.first()?.as_str() {
            "crate" => at.truncate(1),
            "self" => {}
            "super" => {
                at.pop();
            }
            first => {
                let below = [at.clone(), vec![first.to_owned()]].concat();
                let is_known = self.modules.contains_key(&below)
                    || self.modules[module].names.contains_key(first);
                if is_known {
                    return self.walk(at, path, passed_on);
                }
                at = vec![first.to_owned()];
                self.modules.get(&at)?;
            }
        }
        self.walk(at, &path[1..], passed_on)
    }

    fn walk(&self, mut at: Words, words: &[String], passed_on: usize) -> Option<Words> {
        for (number, word) in words.iter().enumerate() {
            if word == "super" {
                at.pop();
                continue;
            }
            let below = [at.clone(), vec![word.clone()]].concat();
            if self.modules.contains_key(&below) {
                at = below;
                continue;
            }
            let content = self.modules.get(&at)?;
            if let Some(target) = content.names.get(word) {
                let path = [target.clone(), words[number + 1..].to_vec()].concat();
                // Itself, under its own name: a crate.
                if target.first() == Some(word) && target.len() == 1 {
                    return self.walk(vec![word.clone()], &words[number + 1..], passed_on + 1);
                }
                return self.find(&at, &path, passed_on + 1);
            }
            for glob in &content.globs {
                let path = [glob.clone(), words[number..].to_vec()].concat();
                if let Some(found) = self.find(&at, &path, passed_on + 1)
                    && found != self.find(&at, glob, passed_on + 1)?
                {
                    return Some(found);
                }
            }
            return Some(at);
        }
        Some(at)
    }
}

impl Module {
    fn take_use(&mut self, tree: &UseTree, before: &mut Words) {
        match tree {
            UseTree::Path(path) => {
                before.push(path.ident.to_string());
                self.take_use(&path.tree, before);
                before.pop();
            }
            UseTree::Name(name) => self.name(name.ident.to_string(), &name.ident, before),
            UseTree::Rename(rename) => {
                self.name(rename.rename.to_string(), &rename.ident, before);
            }
            UseTree::Glob(_) => {
                self.paths.insert(before.clone());
                self.globs.push(before.clone());
            }
            UseTree::Group(group) => {
                for tree in &group.items {
                    self.take_use(tree, before);
                }
            }
        }
    }

    fn name(&mut self, name: String, ident: &impl ToString, before: &Words) {
        let ident = ident.to_string();
        let (name, path) = if ident == "self" {
            let last = before.last().cloned().unwrap_or_default();
            (if name == "self" { last } else { name }, before.clone())
        } else {
            (name, [before.clone(), vec![ident]].concat())
        };
        self.paths.insert(path.clone());
        self.names.insert(name, path);
    }

    /// Takes all paths of at least two words.
    fn take_paths(&mut self, tokens: TokenStream) {
        let mut path: Words = Vec::new();
        let mut colons = 0;
        for token in tokens {
            match token {
                TokenTree::Ident(word) if colons == 2 || path.is_empty() => {
                    path.push(word.to_string());
                    colons = 0;
                }
                TokenTree::Punct(sign) if sign.as_char() == ':' => colons += 1,
                other => {
                    self.end_path(&mut path);
                    colons = 0;
                    match other {
                        TokenTree::Ident(word) => path.push(word.to_string()),
                        TokenTree::Group(group) => self.take_paths(group.stream()),
                        TokenTree::Punct(_) | TokenTree::Literal(_) => {}
                    }
                }
            }
        }
        self.end_path(&mut path);
    }

    fn end_path(&mut self, path: &mut Words) {
        if path.len() >= 2 {
            self.paths.insert(std::mem::take(path));
        } else {
            path.clear();
        }
    }
}

/// Where the file of a module is.
fn path_of(attributes: &[Attribute], directory: &Path) -> PathBuf {
    let named = attributes.iter().find_map(|attribute| {
        let value = attribute.meta.require_name_value().ok()?;
        let is_path = value.path.is_ident("path");
        is_path.then(|| value.value.to_token_stream().to_string())
    });
    match named {
        Some(name) => directory.with_file_name(name.trim_matches('"')),
        None if directory.with_extension("rs").exists() => directory.with_extension("rs"),
        None => directory.join("mod.rs"),
    }
}

/// Of what has several forms, the one with all features counts.
fn is_left_out(attribute: &Attribute) -> bool {
    attribute.path().is_ident("cfg")
        && attribute.meta.require_list().is_ok_and(|list| {
            let condition = list.tokens.to_string();
            condition == "test"
                || condition.starts_with("not (feature")
                || condition.starts_with("any (test")
                || condition.starts_with("all (test")
        })
}

fn attributes(item: &Item) -> &[Attribute] {
    match item {
        Item::Const(item) => &item.attrs,
        Item::Enum(item) => &item.attrs,
        Item::Fn(item) => &item.attrs,
        Item::Impl(item) => &item.attrs,
        Item::Macro(item) => &item.attrs,
        Item::Mod(item) => &item.attrs,
        Item::Static(item) => &item.attrs,
        Item::Struct(item) => &item.attrs,
        Item::Trait(item) => &item.attrs,
        Item::Type(item) => &item.attrs,
        Item::Use(item) => &item.attrs,
        _ => &[],
    }
}
