//! What the packages have beside the program: manual pages, completions, the licences of what is
//! built in, and a bill of materials.

use std::fmt::Write;
use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};
use taltun_tests::command::output_of;

use super::sbom;
use crate::built_of::{self, Package};
use crate::setup::step;
use crate::workspace::host;

/// The licences' file.
pub const LICENSES: &str = "LICENSES-OF-DEPENDENCIES.txt";
/// The bill of materials, in `CycloneDX`'s form.
pub const SBOM: &str = "sbom.cdx.json";

/// Writes them to `directory`, in place of what is there.
pub fn write(program: &Path, directory: &Path) -> Result<()> {
    step("manual pages, completions, licences, bill of materials");
    if directory.exists() {
        fs::remove_dir_all(directory)?;
    }
    let completions = directory.join("completions");
    fs::create_dir_all(&completions)?;
    output_of(
        Command::new(program)
            .arg("man-pages")
            .arg(directory.join("man")),
    )?;
    for (shell, file) in [
        ("bash", "taltun.bash"),
        ("zsh", "_taltun"),
        ("fish", "taltun.fish"),
    ] {
        let text = output_of(Command::new(program).args(["completions", shell]))?;
        fs::write(completions.join(file), text)?;
    }
    let packages = built_of::packages(&host()?, &[])?;
    fs::write(directory.join(SBOM), sbom::cyclone_dx(&packages)?)?;
    fs::write(directory.join(LICENSES), licenses(&packages)?)?;
    Ok(())
}

/// The licence of each package, with the texts that it came with.
fn licenses(packages: &[Package]) -> Result<String> {
    let mut text = String::from("Taltun is built with these packages.\n");
    for package in packages {
        let license = package.license.as_deref().unwrap_or("see its text");
        write!(
            text,
            "\n---- {} {}: {license}\n",
            package.name, package.version
        )?;
        let mut files: Vec<_> = fs::read_dir(&package.directory)
            .with_context(|| format!("can't look into {}", package.directory.display()))?
            .flatten()
            .filter(|entry| is_license(&entry.file_name().to_string_lossy()))
            .map(|entry| entry.path())
            .filter(|path| path.is_file())
            .collect();
        files.sort();
        for file in files {
            writeln!(text, "\n{}", fs::read_to_string(&file)?.trim_end())?;
        }
    }
    Ok(text)
}

fn is_license(name: &str) -> bool {
    let name = name.to_ascii_uppercase();
    ["LICENSE", "LICENCE", "COPYING", "NOTICE", "COPYRIGHT"]
        .iter()
        .any(|start| name.starts_with(start))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn licences_are_found_by_their_names() {
        for name in ["LICENSE", "license-mit", "COPYING", "LICENSE-APACHE.md"] {
            assert!(is_license(name), "{name}");
        }
        assert!(!is_license("README.md") && !is_license("src"));
    }
}
