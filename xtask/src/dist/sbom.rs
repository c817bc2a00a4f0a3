//! What the program is built of: the packages that cargo resolves for it, as a bill of materials in
//! `CycloneDX`'s form.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use anyhow::{Context, Result};
use serde::Deserialize;
use serde_json::json;
use taltun_tests::command::output_of;

use crate::workspace::{cargo, host};

/// One of the packages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Package {
    pub name: String,
    pub version: String,
    /// As its manifest says it (SPDX).
    pub license: Option<String>,
    /// Where it is on this machine.
    pub directory: PathBuf,
    /// Whether it is of this repository.
    is_own: bool,
}

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Described>,
    resolve: Resolve,
}

#[derive(Deserialize)]
struct Described {
    id: String,
    name: String,
    version: String,
    license: Option<String>,
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

/// All that `taltun` is built of on this machine, itself included, in alphabetic order.
pub fn packages() -> Result<Vec<Package>> {
    let metadata = output_of(
        cargo()?
            .args(["metadata", "--format-version=1", "--locked"])
            .args(["--filter-platform", &host()?]),
    )?;
    packages_of(&serde_json::from_str(&metadata)?, "taltun")
}

fn packages_of(metadata: &Metadata, name: &str) -> Result<Vec<Package>> {
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
            directory: package
                .manifest_path
                .parent()
                .map(Into::into)
                .unwrap_or_default(),
            is_own: package.source.is_none(),
        })
        .collect();
    packages.sort_by(|a, b| (&a.name, &a.version).cmp(&(&b.name, &b.version)));
    Ok(packages)
}

/// The bill of materials, as `CycloneDX` 1.5.
pub fn cyclone_dx(packages: &[Package]) -> Result<String> {
    let component = |package: &Package| {
        let mut component = json!({
            "type": "library",
            "name": package.name,
            "version": package.version,
        });
        // Ours are in no registry.
        if !package.is_own {
            component["purl"] = json!(format!("pkg:cargo/{}@{}", package.name, package.version));
        }
        if let Some(license) = &package.license {
            component["licenses"] = json!([{ "expression": license.replace('/', " OR ") }]);
        }
        component
    };
    let own = packages.iter().find(|package| package.name == "taltun");
    let own = own.context("a bill without the program")?;
    let others = packages.iter().filter(|package| *package != own);
    let bill = json!({
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": { "component": {
            "type": "application",
            "name": own.name,
            "version": own.version,
            "licenses": [{ "expression": own.license }],
        } },
        "components": others.map(component).collect::<Vec<_>>(),
    });
    Ok(serde_json::to_string_pretty(&bill)? + "\n")
}

#[cfg(test)]
mod tests {
    #![allow(
        clippy::unwrap_used,
        reason = "clippy doesn't take all helpers for tests"
    )]

    use super::*;

    #[test]
    fn what_is_built_in_is_listed_and_what_tests_need_is_not() {
        let package = |name: &str, source| {
            json!({
                "id": format!("{name} id"), "name": name, "version": "1.0.0",
                "license": "MIT/Apache-2.0", "manifest_path": format!("/x/{name}/Cargo.toml"),
                "source": source,
            })
        };
        let on = |name: &str, kind: Option<&str>| json!({ "pkg": format!("{name} id"), "dep_kinds": [{ "kind": kind }] });
        let metadata = json!({
            "packages": [
                package("taltun", None), package("a", Some("registry")),
                package("b", Some("registry")), package("tested", Some("registry")),
            ],
            "resolve": { "nodes": [
                { "id": "taltun id", "deps": [on("b", None), on("tested", Some("dev"))] },
                { "id": "b id", "deps": [on("a", None)] },
                { "id": "a id", "deps": [] },
                { "id": "tested id", "deps": [] },
            ] },
        });
        let found = packages_of(&serde_json::from_value(metadata).unwrap(), "taltun").unwrap();
        let names: Vec<&str> = found.iter().map(|package| package.name.as_str()).collect();
        assert_eq!(names, ["a", "b", "taltun"]);
        assert!(found[2].is_own && !found[0].is_own);
        let bill: serde_json::Value = serde_json::from_str(&cyclone_dx(&found).unwrap()).unwrap();
        assert_eq!(bill["metadata"]["component"]["name"], "taltun");
        assert_eq!(bill["components"].as_array().unwrap().len(), 2);
        assert_eq!(
            bill["components"][0]["licenses"][0]["expression"],
            "MIT OR Apache-2.0"
        );
    }
}
