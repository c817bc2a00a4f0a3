//! The package for Fedora and its kin tried as far as it can be on a Debian: `rpm` installs it in a
//! tree of its own, upgrades it over itself and removes it.
//!
//! There is no systemd that runs in it, and no repository of Fedora's: what the package depends on
//! isn't looked for. The C library is older on some of these systems than on this machine, so what the
//! program asks of it is looked at.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use taltun_tests::command::output_of;
use taltun_tests::sys;

use super::debian::Debian;
use crate::setup::{self, Program, step};

const PROGRAMS: &[Program] = &[("rpm", "rpm"), ("debootstrap", "debootstrap")];
/// The C library of the oldest Red Hat of the time that this package is for, which is 9.
const GLIBC: (u32, u32) = (2, 34);

/// Tries the package. Returns what couldn't be tried, and why.
pub fn run(package: &Path) -> Result<Option<String>> {
    step("trying the RPM package");
    if !sys::is_root() {
        return Ok(Some("the RPM package: it takes root".to_owned()));
    }
    if let Err(reason) = setup::programs(PROGRAMS) {
        return Ok(Some(format!("the RPM package: {reason:#}")));
    }
    let tree = Debian::fresh()?;
    // Where other packages put theirs, too, so that they stay.
    for shared in [
        "fish/vendor_completions.d",
        "zsh/site-functions",
        "licenses",
    ] {
        fs::create_dir_all(tree.path().join("usr/share").join(shared))?;
    }
    let before = tree.files()?;
    let rpm = |words: &[&str]| {
        let mut rpm = Command::new("rpm");
        // Debian's rpm keeps its database in the user's home unless told.
        rpm.arg("--root").arg(tree.path());
        rpm.args(["--dbpath", "/var/lib/rpm"]).args(words);
        output_of(&mut rpm)
    };
    let file = package.to_str().context("a path that isn't UTF-8")?;
    rpm(&["--install", "--nodeps", file])?;
    let version = in_tree(&tree, &["taltun", "version"])?;
    ensure!(
        version.trim() == concat!("taltun ", env!("CARGO_PKG_VERSION")),
        "{version}"
    );
    let needs = output_of(
        Command::new("objdump")
            .arg("-T")
            .arg(tree.path().join("usr/bin/taltun")),
    )?;
    let newest = newest_glibc(&needs);
    ensure!(
        newest <= GLIBC,
        "the program needs glibc {}.{}, and there are systems with {}.{}",
        newest.0,
        newest.1,
        GLIBC.0,
        GLIBC.1
    );
    let mode = fs::metadata(tree.path().join("etc/taltun"))?
        .permissions()
        .mode();
    ensure!(mode & 0o777 == 0o700, "/etc/taltun has mode {mode:o}");
    // Each file is there as the package has it.
    rpm(&["--verify", "--nodeps", "taltun"])?;
    in_tree(
        &tree,
        &[
            "systemd-analyze",
            "verify",
            "--man=no",
            "/usr/lib/systemd/system/taltun@.service",
        ],
    )?;
    rpm(&["--upgrade", "--force", "--nodeps", file])?;
    rpm(&["--verify", "--nodeps", "taltun"])?;
    rpm(&["--erase", "taltun"])?;
    let after = tree.files()?;
    // The database, and the directory with the operator's files.
    let is_ours =
        |path: &&String| !path.starts_with("./var/lib/rpm") && path.as_str() != "./etc/taltun";
    let left: Vec<_> = after.difference(&before).filter(is_ours).collect();
    ensure!(left.is_empty(), "removing leaves {left:?}");
    step(&format!(
        "  installed, upgraded over itself and removed; it needs glibc {}.{}",
        newest.0, newest.1
    ));
    Ok(None)
}

fn in_tree(tree: &Debian, words: &[&str]) -> Result<String> {
    output_of(Command::new("chroot").arg(tree.path()).args(words))
}

/// The newest version of glibc that symbols ask for, in what `objdump -T` prints.
fn newest_glibc(symbols: &str) -> (u32, u32) {
    let versions = symbols.split("GLIBC_").skip(1).filter_map(|rest| {
        let version = rest
            .split(|it: char| !it.is_ascii_digit() && it != '.')
            .next()?;
        let mut numbers = version.split('.').map(str::parse);
        Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
    });
    versions.max().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_version_is_found_by_its_numbers() {
        let symbols = "0 DF *UND* 0 (GLIBC_2.9) a\n0 DF *UND* 0 (GLIBC_2.34) b\n(GLIBC_2.2.5) c\n";
        assert_eq!(newest_glibc(symbols), (2, 34));
        assert_eq!(newest_glibc(""), (0, 0));
    }
}
