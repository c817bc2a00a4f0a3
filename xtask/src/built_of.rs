//! What the program is built of: the packages that cargo resolves for it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use anyhow::{Context, Result};
use serde::Deserialize;
use taltun_tests::command::output_of;

use crate::workspace::cargo;

/// One of the packages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Package {
    pub name: String,
    pub version: String,
    /// As its manifest says it (SPDX).
    pub license: Option<String>,
    /// Where it is kept, as its manifest says it.
    pub repository: Option<String>,
    /// Where cargo has it from; `None` if it is of this repository.
    pub source: Option<String>,
    /// Where it is on this machine.
    pub directory: PathBuf,
}

/// What `cargo metadata` says.
#[derive(Deserialize)]
pub struct Metadata {
    packages: Vec<Described>,
    resolve: Resolve,
}

#[derive(Deserialize)]
struct Described {
    id: String,
    name: String,
    version: String,
    license: Option<String>,
    repository: Option<String>,
    manifest_path: PathBuf,
    source: Option<String>,
}

#[derive(Deserialize)]
struct Resolve {
    nodes: Vec<Node>,
}

#[derive(Deserialize)]
struct Node {
    id: String,
    deps: Vec<Dependency>,
}

#[derive(Deserialize)]
struct Dependency {
    pkg: String,
    dep_kinds: Vec<DependencyKind>,
}

#[derive(Deserialize)]
struct DependencyKind {
    kind: Option<String>,
}

/// All that `taltun` is built of on a platform, itself included, in alphabetic order. `more` is told to
/// `cargo metadata`.
pub fn packages(platform: &str, more: &[&str]) -> Result<Vec<Package>> {
    let metadata = output_of(
        cargo()?
            .args(["metadata", "--format-version=1", "--locked"])
            .args(["--filter-platform", platform])
            .args(more),
    )?;
    packages_of(&serde_json::from_str(&metadata)?, "taltun")
}

/// The same from what cargo says, for the package of this name.
pub fn packages_of(metadata: &Metadata, name: &str) -> Result<Vec<Package>> {
    let nodes: BTreeMap<&str, &Node> = metadata
        .resolve
        .nodes
        .iter()
        .map(|node| (node.id.as_str(), node))
        .collect();
    let start = metadata
        .packages
        .iter()
        .find(|package| package.name == name);
    let start = start.with_context(|| format!("cargo knows no package {name}"))?;
    let mut found = BTreeSet::new();
    let mut left = vec![start.id.as_str()];
    while let Some(id) = left.pop() {
        if !found.insert(id) {
            continue;
        }
        let Some(node) = nodes.get(id) else { continue };
        // What only builds or tests need isn't in the program.
        let built_in = node
            .deps
            .iter()
            .filter(|it| it.dep_kinds.iter().any(|it| it.kind.is_none()));
        left.extend(built_in.map(|dependency| dependency.pkg.as_str()));
    }
    let packages = metadata
        .packages
        .iter()
        .filter(|it| found.contains(it.id.as_str()));
    let mut packages: Vec<Package> = packages
        .map(|package| Package {
            name: package.name.clone(),
            version: package.version.clone(),
            license: package.license.clone(),
            repository: package.repository.clone(),
            source: package.source.clone(),
            directory: package
                .manifest_path
                .parent()
                .map(Into::into)
                .unwrap_or_default(),
        })
        .collect();
    packages.sort_by(|a, b| (&a.name, &a.version).cmp(&(&b.name, &b.version)));
    Ok(packages)
}
