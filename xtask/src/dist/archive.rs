//! Archives: the program with all that the packages have, for distributions without a package.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;

use super::assets;
use crate::setup::step;
use crate::workspace::{must_succeed, root};

/// Makes `NAME.tar.gz` in `directory` of the program, the `assets` that were written and files of the
/// repository; `licenses` are of what else is in the program, each with the name of its file.
pub fn write(
    directory: &Path,
    name: &str,
    program: &Path,
    assets: &Path,
    licenses: &[(PathBuf, &str)],
) -> Result<PathBuf> {
    step(&format!("tar {name}"));
    let tree = directory.join(name);
    if tree.exists() {
        fs::remove_dir_all(&tree)?;
    }
    fs::create_dir_all(tree.join("bin"))?;
    fs::copy(program, tree.join("bin/taltun"))?;
    let copy = |from: &Path, to: &str| {
        must_succeed(
            Command::new("cp").arg("-R").arg(from).arg(tree.join(to)),
            "copy what goes into the archive",
        )
    };
    copy(&assets.join("man"), "man")?;
    copy(&assets.join("completions"), "completions")?;
    copy(&assets.join(assets::LICENSES), assets::LICENSES)?;
    copy(&assets.join(assets::SBOM), assets::SBOM)?;
    copy(&root().join("taltun/dist/systemd"), "systemd")?;
    copy(&root().join("taltun/dist/examples"), "examples")?;
    copy(&root().join("taltun/docs/manual"), "manual")?;
    copy(&root().join("LICENSE"), "LICENSE")?;
    for (file, name) in licenses {
        copy(file, name)?;
    }
    let archive = directory.join(format!("{name}.tar.gz"));
    // The same tree makes the same archive.
    must_succeed(
        Command::new("tar")
            .args(["--sort=name", "--owner=0", "--group=0", "--numeric-owner"])
            .args(["--mtime=@0", "-czf"])
            .arg(&archive)
            .arg("-C")
            .arg(directory)
            .arg(name),
        "make the archive",
    )?;
    fs::remove_dir_all(&tree)?;
    Ok(archive)
}
