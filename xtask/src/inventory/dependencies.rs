//! What the program is built of: who keeps each package, under which licence, and where it is from.
//! What it may be built of stands in `deny.toml`, which is cargo-deny's file (`cargo xtask deny`); this
//! holds the program to the same wherever there is cargo.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;

use anyhow::{Context, Result};
use serde::Deserialize;
use spdx::{Expression, LicenseReq, ParseMode};

use crate::built_of::{self, Package};
use crate::workspace::root;

/// Of what platform the page is.
const PLATFORM: &str = "x86_64-unknown-linux-gnu";

/// What of `deny.toml` can be told from what cargo knows.
#[derive(Deserialize)]
pub struct Policy {
    licenses: Licenses,
    bans: Bans,
    sources: Sources,
}

#[derive(Deserialize)]
struct Licenses {
    allow: Vec<String>,
}

#[derive(Deserialize)]
struct Bans {
    deny: Vec<Banned>,
}

#[derive(Deserialize)]
struct Banned {
    #[serde(rename = "crate")]
    name: String,
    reason: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Sources {
    allow_registry: Vec<String>,
}

/// The packages of others that are built into `taltun`, in alphabetic order.
pub fn packages() -> Result<Vec<Package>> {
    // The same page wherever it is written.
    let mut packages = built_of::packages(PLATFORM, &["--offline"])?;
    packages.retain(|package| package.source.is_some());
    Ok(packages)
}

impl Policy {
    /// The one of this repository.
    pub fn read() -> Result<Self> {
        let text = fs::read_to_string(root().join("deny.toml")).context("can't read deny.toml")?;
        toml::from_str(&text).context("deny.toml isn't as expected")
    }

    /// Why packages may not be there, a line each.
    pub fn refused(&self, packages: &[Package]) -> Vec<String> {
        packages.iter().filter_map(|it| self.refusal(it)).collect()
    }

    fn refusal(&self, package: &Package) -> Option<String> {
        let name = &package.name;
        if let Some(banned) = self.bans.deny.iter().find(|banned| &banned.name == name) {
            return Some(format!("{name} may not come back: {}", banned.reason));
        }
        let source = package.source.as_deref().unwrap_or_default();
        let registry = source.strip_prefix("registry+");
        if !registry.is_some_and(|it| self.sources.allow_registry.iter().any(|from| from == it)) {
            return Some(format!("{name} isn't from the registry: {source:?}"));
        }
        let license = package.license.as_deref().unwrap_or_default();
        (!self.allows(license))
            .then(|| format!("{name} has a licence that isn't allowed: {license:?}"))
    }

    /// Whether a licence is allowed: all parts of AND, one part of OR.
    fn allows(&self, license: &str) -> bool {
        let is_listed = |asked: &LicenseReq| {
            let asked = asked.to_string();
            self.licenses.allow.iter().any(|allowed| allowed == &asked)
        };
        // Some write a slash for OR.
        let parsed = Expression::parse_mode(license, ParseMode::LAX);
        parsed.is_ok_and(|license| license.evaluate(is_listed))
    }
}

/// The page.
pub fn page(packages: &[Package]) -> String {
    let mut keepers: BTreeMap<String, Vec<&Package>> = BTreeMap::new();
    for package in packages {
        keepers.entry(keeper(package)).or_default().push(package);
    }
    let mut text = format!(
        "# What the program is built of, and who keeps it\n\n\
         Written by `cargo xtask inventory` from what cargo knows of Linux on x86-64; a test fails until it is up \
         to date. {} packages of others are built into the program, from {} homes. Another test refuses \
         licences that `deny.toml` doesn't allow, packages that are banned there, \
         and any source but the registry.\n\n\
         | home | packages |\n|---|---|\n",
        packages.len(),
        keepers.len(),
    );
    for (keeper, packages) in &keepers {
        let packages: Vec<String> = packages
            .iter()
            .map(|it| {
                let license = it.license.as_deref().unwrap_or("?");
                format!("{} ({license})", it.name)
            })
            .collect();
        let _ = writeln!(text, "| {keeper} | {} |", packages.join(", "));
    }
    text
}

/// Who keeps a package: whose repository it is in.
fn keeper(package: &Package) -> String {
    let home = package
        .repository
        .as_deref()
        .unwrap_or("no repository is named");
    let home = home.trim_start_matches("https://").trim_end_matches('/');
    let parts: Vec<&str> = home.split('/').collect();
    match parts[..] {
        [host, owner, ..] => format!("{host}/{owner}"),
        _ => home.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    const SOURCE: &str = "registry+https://github.com/rust-lang/crates.io-index";

    fn package(name: &str, license: &str, source: &str) -> Package {
        Package {
            name: name.to_owned(),
            version: "1.0.0".to_owned(),
            license: Some(license.to_owned()),
            repository: Some("https://github.com/someone/something/".to_owned()),
            source: Some(source.to_owned()),
            directory: PathBuf::new(),
        }
    }

    #[test]
    fn what_is_not_allowed_is_refused_with_its_reason() {
        let policy = Policy::read().unwrap();
        assert_eq!(
            policy.refusal(&package("a", "MIT OR GPL-3.0", SOURCE)),
            None
        );
        for (package, why) in [
            (package("a", "GPL-3.0", SOURCE), "licence"),
            (package("a", "MIT AND GPL-3.0", SOURCE), "licence"),
            (package("a", "", SOURCE), "licence"),
            (package("a", "my own", SOURCE), "licence"),
            (package("a", "MIT", "git+https://example.org/a"), "registry"),
            (
                package("a", "MIT", "registry+https://example.org/index"),
                "registry",
            ),
            (package("openssl", "MIT", SOURCE), "come back"),
        ] {
            let said = policy.refusal(&package).unwrap_or_default();
            assert!(said.contains(why), "{said}");
        }
    }

    #[test]
    fn licences_may_be_combined() {
        let policy = Policy::read().unwrap();
        assert!(policy.allows("Apache-2.0/MIT"));
        assert!(policy.allows("(MIT OR Apache-2.0) AND Unicode-3.0"));
        assert!(policy.allows("Apache-2.0 WITH LLVM-exception OR Apache-2.0 OR MIT"));
        assert!(policy.allows("Apache-2.0 WITH LLVM-exception"));
        assert!(!policy.allows("(MIT OR Apache-2.0) AND OpenSSL"));
        assert!(!policy.allows("GPL-2.0 WITH Classpath-exception-2.0"));
    }

    #[test]
    fn a_keeper_is_whose_repository_it_is() {
        assert_eq!(keeper(&package("a", "MIT", SOURCE)), "github.com/someone");
    }
}
