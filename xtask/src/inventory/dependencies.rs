//! What the program is built of: who keeps each package, under which licence, and where it is from.
//! A policy of a few lines, which is what `cargo deny check licenses bans sources` would ask about;
//! known weaknesses (`advisories`) are in a database that can't be had everywhere, so looking into it
//! is a command of its own: `cargo deny check advisories`, where cargo-deny is installed.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use anyhow::Result;

use crate::built_of::{self, Package};

/// Of what platform the page is.
const PLATFORM: &str = "x86_64-unknown-linux-gnu";
/// Licences that a package may have; of several to choose from, one of these is enough.
const ALLOWED: &[&str] = &[
    "0BSD",
    "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "CC0-1.0",
    "ISC",
    "MIT",
    "MIT-0",
    "Unicode-3.0",
    "Unlicense",
    "Zlib",
];
/// Where packages may come from: the registry, as cargo names it.
const SOURCE: &str = "registry+https://github.com/rust-lang/crates.io-index";
/// Packages that may not come back, and why.
const BANNED: &[(&str, &str)] = &[
    ("atty", "std::io::IsTerminal"),
    ("openssl", "the cryptography is Rust's and ring's"),
    ("openssl-sys", "the cryptography is Rust's and ring's"),
];

/// The packages of others that are built into `taltun`, in alphabetic order.
pub fn packages() -> Result<Vec<Package>> {
    // The same page wherever it is written.
    let mut packages = built_of::packages(PLATFORM, &["--offline"])?;
    packages.retain(|package| package.source.is_some());
    Ok(packages)
}

/// Why a package may not be there, a line each.
pub fn refused(packages: &[Package]) -> Vec<String> {
    packages.iter().filter_map(refusal).collect()
}

fn refusal(package: &Package) -> Option<String> {
    let name = &package.name;
    if let Some((_, instead)) = BANNED.iter().find(|(banned, _)| banned == name) {
        return Some(format!("{name} may not come back: {instead}"));
    }
    if package.source.as_deref() != Some(SOURCE) {
        return Some(format!(
            "{name} isn't from the registry: {:?}",
            package.source
        ));
    }
    let license = package.license.as_deref().unwrap_or_default();
    (!is_allowed(license)).then(|| format!("{name} has a licence that isn't allowed: {license:?}"))
}

/// Whether a licence is allowed: all parts of AND, one part of OR.
fn is_allowed(license: &str) -> bool {
    let license = license.replace('/', " OR ");
    // Those of packages nest no deeper than this.
    let plain = license.replace(['(', ')'], " ");
    if license.contains('(') {
        return plain.split(" AND ").all(|part| any(part.trim()));
    }
    plain
        .split(" OR ")
        .any(|part| part.split(" AND ").all(is_listed))
}

fn any(license: &str) -> bool {
    license.split(" OR ").any(is_listed)
}

fn is_listed(license: &str) -> bool {
    ALLOWED.contains(&license.trim())
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
         licences that `xtask/src/inventory/dependencies.rs` doesn't allow, packages that are banned there, \
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
        assert_eq!(refusal(&package("a", "MIT OR GPL-3.0", SOURCE)), None);
        for (package, why) in [
            (package("a", "GPL-3.0", SOURCE), "licence"),
            (package("a", "MIT AND GPL-3.0", SOURCE), "licence"),
            (package("a", "", SOURCE), "licence"),
            (package("a", "MIT", "git+https://example.org/a"), "registry"),
            (package("openssl", "MIT", SOURCE), "come back"),
        ] {
            let said = refusal(&package).unwrap_or_default();
            assert!(said.contains(why), "{said}");
        }
    }

    #[test]
    fn licences_may_be_combined() {
        assert!(is_allowed("Apache-2.0/MIT"));
        assert!(is_allowed("(MIT OR Apache-2.0) AND Unicode-3.0"));
        assert!(is_allowed(
            "Apache-2.0 WITH LLVM-exception OR Apache-2.0 OR MIT"
        ));
        assert!(!is_allowed("(MIT OR Apache-2.0) AND OpenSSL"));
    }

    #[test]
    fn a_keeper_is_whose_repository_it_is() {
        assert_eq!(keeper(&package("a", "MIT", SOURCE)), "github.com/someone");
    }
}
