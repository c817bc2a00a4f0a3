//! The files of the recipes, as `taltun/dist/examples` has them, with keys of our own.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result};

use crate::node::Keys;

macro_rules! examples {
    ($directory:literal: $($name:literal),+) => {
        &[$((
            $name,
            include_str!(concat!("../../../taltun/dist/examples/", $directory, "/", $name, ".toml")),
        )),+]
    };
}

/// The files of one recipe: name and text.
pub type Texts = &'static [(&'static str, &'static str)];

/// Client and server.
pub const A: Texts = examples!("a-client-server": "hub", "laptop");
/// Road warriors.
pub const B: Texts = examples!("b-road-warriors": "hub", "alice", "bob");
/// Full tunnel.
pub const C: Texts = examples!("c-full-tunnel": "hub", "laptop", "laptop-kill-switch");
/// Site to site.
pub const D: Texts = examples!("d-site-to-site": "cloud", "office", "office-nat");
/// Client to client.
pub const E: Texts = examples!("e-client-to-client": "relay", "anna", "bert");
/// An office.
pub const F: Texts = examples!(
    "f-office": "hub", "ana", "guest", "visitor", "gate", "office"
);

/// The same files, with the published keys replaced by new ones: files that share a key still
/// do, and each peer still has the key that goes with its file.
#[derive(Debug)]
pub struct Files(BTreeMap<&'static str, String>);

impl Files {
    /// Replaces the keys of `texts`.
    pub fn with_new_keys(texts: Texts, taltun: &Path) -> Result<Self> {
        let mut replaced: BTreeMap<String, Keys> = BTreeMap::new();
        let mut pairs = Vec::new();
        for (name, text) in texts {
            let private = text
                .lines()
                .find_map(|line| line.strip_prefix("private_key = \"")?.strip_suffix('"'))
                .with_context(|| format!("{name} has no private key"))?;
            if !replaced.contains_key(private) {
                let old = Keys::of_private(taltun, private)?;
                let new = Keys::generate(taltun)?;
                pairs.push((old, new.clone()));
                replaced.insert(private.to_owned(), new);
            }
        }
        let rewrite = |text: &str| {
            pairs.iter().fold(text.to_owned(), |text, (old, new)| {
                text.replace(&old.private, &new.private)
                    .replace(&old.public, &new.public)
            })
        };
        let files = texts.iter().map(|(name, text)| (*name, rewrite(text)));
        Ok(Self(files.collect()))
    }

    /// The text of a file.
    pub fn text(&self, name: &str) -> Result<&str> {
        let text = self.0.get(name).map(String::as_str);
        text.with_context(|| format!("the recipe has no {name}.toml"))
    }
}
