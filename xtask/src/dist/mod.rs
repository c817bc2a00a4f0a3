//! `cargo xtask dist`: what is handed out, in `target/dist`: packages for Debian and its kin and for
//! Fedora and its kin, an archive for all others, and SHA-256 sums.
//!
//! Manual pages and completions are written by the program that is packed, so they tell of its
//! commands. The versions of the tools are pinned here.

mod assets;
mod sbom;
mod trial;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, ensure};
use clap::ValueEnum;
use taltun_tests::command::output_of;

use crate::setup::{self, step};
use crate::workspace::{cargo, must_succeed, root, target};

const CARGO_DEB: &str = "3.8.0";
const CARGO_GENERATE_RPM: &str = "0.21.1";

/// What to make, of what.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Only this; may be repeated.
    #[arg(long, value_name = "KIND")]
    only: Vec<Kind>,

    /// The profile to build the program in.
    #[arg(long, value_name = "PROFILE", default_value = "release")]
    profile: String,

    /// Then try the Debian package as root: a bare Debian is made by debootstrap, its systemd boots in
    /// a container, the package is installed, a client comes up, and its ping goes on while the
    /// package is upgraded over itself; after purging it nothing may be left.
    #[arg(long = "try")]
    trial: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Kind {
    /// A package for Debian, Ubuntu and their kin.
    Deb,
    /// A package for Fedora, Red Hat and their kin.
    Rpm,
    /// An archive with all that the packages have.
    Tar,
}

/// Makes them.
pub fn run(arguments: &Arguments) -> Result<ExitCode> {
    let wants = |kind| arguments.only.is_empty() || arguments.only.contains(&kind);
    let directory = directory();
    fs::create_dir_all(&directory)?;
    setup::ebpf_toolchain()?;
    step(&format!("building taltun ({})", arguments.profile));
    must_succeed(
        cargo()?
            .args(["build", "--locked", "--package", "taltun"])
            .args(["--profile", &arguments.profile]),
        "build taltun",
    )?;
    let program = target().join(&arguments.profile).join("taltun");
    let assets = directory.join("assets");
    assets::write(&program, &assets)?;

    let mut made = Vec::new();
    if wants(Kind::Deb) || arguments.trial {
        made.push(deb(&directory, &arguments.profile)?);
    }
    if wants(Kind::Rpm) {
        made.push(rpm(&directory, &arguments.profile)?);
    }
    if wants(Kind::Tar) {
        made.push(tar(&directory, &program, &assets)?);
    }
    write_sums(&directory, &made)?;
    for file in &made {
        println!("{}", file.display());
    }
    if arguments.trial {
        let deb = made.first().context("a Debian package")?;
        return trial::run(deb, &program);
    }
    Ok(ExitCode::SUCCESS)
}

/// Where all of it is. The packages' lists of files name it, so it doesn't follow
/// `CARGO_TARGET_DIR`.
fn directory() -> PathBuf {
    root().join("target/dist")
}

fn deb(directory: &Path, profile: &str) -> Result<PathBuf> {
    setup::cargo_tool("cargo-deb", CARGO_DEB)?;
    step("cargo deb");
    let output = directory.join("taltun.deb");
    must_succeed(
        cargo()?
            .args(["deb", "--no-build", "--locked", "--package", "taltun"])
            .args(["--profile", profile, "--output"])
            .arg(&output),
        "make the Debian package",
    )?;
    let field = |name| output_of(Command::new("dpkg-deb").arg("-f").arg(&output).arg(name));
    let (version, arch) = (field("Version")?, field("Architecture")?);
    let named = directory.join(format!("taltun_{}_{}.deb", version.trim(), arch.trim()));
    fs::rename(&output, &named)?;
    Ok(named)
}

fn rpm(directory: &Path, profile: &str) -> Result<PathBuf> {
    setup::cargo_tool("cargo-generate-rpm", CARGO_GENERATE_RPM)?;
    step("cargo generate-rpm");
    let version = env!("CARGO_PKG_VERSION");
    let output = directory.join(format!("taltun-{version}-1.{}.rpm", std::env::consts::ARCH));
    must_succeed(
        cargo()?
            .args(["generate-rpm", "--package", "taltun"])
            .args(["--profile", profile, "--output"])
            .arg(&output),
        "make the RPM package",
    )?;
    Ok(output)
}

fn tar(directory: &Path, program: &Path, assets: &Path) -> Result<PathBuf> {
    step("tar");
    let arch = std::env::consts::ARCH;
    let name = format!("taltun-{}-linux-{arch}", env!("CARGO_PKG_VERSION"));
    let tree = directory.join(&name);
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
    let archive = directory.join(format!("{name}.tar.gz"));
    // The same tree makes the same archive.
    must_succeed(
        Command::new("tar")
            .args(["--sort=name", "--owner=0", "--group=0", "--numeric-owner"])
            .args(["--mtime=@0", "-czf"])
            .arg(&archive)
            .arg("-C")
            .arg(directory)
            .arg(&name),
        "make the archive",
    )?;
    fs::remove_dir_all(&tree)?;
    Ok(archive)
}

/// In the form that `sha256sum -c` reads.
fn write_sums(directory: &Path, files: &[PathBuf]) -> Result<()> {
    let names: Vec<_> = files.iter().filter_map(|file| file.file_name()).collect();
    ensure!(!names.is_empty(), "nothing was made");
    let sums = output_of(Command::new("sha256sum").current_dir(directory).args(names))?;
    Ok(fs::write(directory.join("SHA256SUMS"), sums)?)
}
