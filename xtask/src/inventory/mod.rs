//! `cargo xtask inventory`: pages that say what the program is made of, written from the sources and
//! from what cargo knows, and held by a test.

mod dependencies;
mod unsafe_code;

use std::fs;
use std::process::ExitCode;

use anyhow::{Context, Result};

use crate::built_of::Package;
use crate::workspace::{keep_written, root};

use dependencies::Policy;

/// The arguments of `cargo xtask inventory`.
#[derive(clap::Args)]
pub struct Arguments {
    /// Write nothing, and fail where a page isn't up to date.
    #[arg(long)]
    check: bool,
}

/// A page, by its path below the repository's top.
struct Page {
    path: &'static str,
    text: String,
}

/// Writes the pages, or compares them; a licence or a source that isn't allowed is a failure.
pub fn run(arguments: &Arguments) -> Result<ExitCode> {
    let mut good = true;
    let packages = dependencies::packages()?;
    for page in pages(&packages)? {
        if !arguments.check {
            keep_written(&root().join(page.path), &page.text)?;
        } else if !is_current(&page)? {
            println!(
                "{} isn't up to date: run `cargo xtask inventory`",
                page.path
            );
            good = false;
        }
    }
    let refused = Policy::read()?.refused(&packages);
    for why in &refused {
        println!("{why}");
    }
    Ok(if good && refused.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn pages(packages: &[Package]) -> Result<Vec<Page>> {
    Ok(vec![
        Page {
            path: "taltun/docs/unsafe.md",
            text: unsafe_code::page()?,
        },
        Page {
            path: "taltun/docs/dependencies.md",
            text: dependencies::page(packages),
        },
    ])
}

fn is_current(page: &Page) -> Result<bool> {
    let there = fs::read_to_string(root().join(page.path));
    Ok(there.with_context(|| format!("can't read {}", page.path))? == page.text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pages_are_up_to_date() {
        let packages = dependencies::packages().unwrap();
        for page in pages(&packages).unwrap() {
            let current = is_current(&page).unwrap();
            assert!(current, "{}: run `cargo xtask inventory`", page.path);
        }
    }

    #[test]
    fn each_dependency_has_a_licence_and_a_source_that_are_allowed() {
        let packages = dependencies::packages().unwrap();
        let refused = Policy::read().unwrap().refused(&packages);
        assert_eq!(refused, Vec::<String>::new());
    }
}
