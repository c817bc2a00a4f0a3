//! `cargo xtask dist`: what is handed out, in `target/dist`: packages for Debian and its kin and for
//! Fedora and its kin, archives for all others, and SHA-256 sums.
//!
//! Manual pages and completions are written by the program that is packed, so they tell of its
//! commands. The versions of the tools are pinned here.

mod archive;
mod assets;
mod debian;
mod musl;
mod oci;
mod rpm_trial;
mod sbom;
mod static_trial;
mod trial;
mod zig;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Result, ensure};
use clap::ValueEnum;
use taltun_tests::command::output_of;

use self::musl::Musl;
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

    /// Then try what was made, as root: a bare Debian is made by debootstrap, its systemd boots in
    /// a container, the package is installed, a client comes up, and its ping goes on while the
    /// package is upgraded over itself; after purging it nothing may be left. The RPM package is
    /// installed, upgraded and removed in a tree. Static programs carry a tunnel, or are tried by QEMU
    /// if they are for another CPU; the image runs in podman.
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
    /// The same with a program that needs no library, for each CPU.
    Static,
    /// A container image of these programs.
    Oci,
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
    let mut skipped = Vec::new();
    let deb = if wants(Kind::Deb) {
        Some(deb(&directory, &arguments.profile)?)
    } else {
        None
    };
    made.extend(deb.clone());
    if wants(Kind::Rpm) {
        let rpm = rpm(&directory, &arguments.profile)?;
        if arguments.trial {
            skipped.extend(rpm_trial::run(&rpm)?);
        }
        made.push(rpm);
    }
    if wants(Kind::Tar) {
        let name = archive_name(std::env::consts::ARCH);
        made.push(archive::write(&directory, &name, &program, &assets, &[])?);
    }
    if wants(Kind::Static) || wants(Kind::Oci) {
        match Musl::prepare() {
            Ok(musl) => {
                let musl = Static {
                    musl: &musl,
                    profile: &arguments.profile,
                    assets: &assets,
                    // What tries is built for this machine for sure.
                    trial: arguments.trial.then_some(program.as_path()),
                };
                musl.make(&directory, wants, &mut made, &mut skipped)?;
            }
            // All else can be had all the same.
            Err(reason) if arguments.only.is_empty() => {
                skipped.push(format!("static programs and the OCI image: {reason:#}"));
            }
            Err(reason) => return Err(reason),
        }
    }
    write_sums(&directory, &made)?;
    if let (Some(deb), true) = (deb, arguments.trial) {
        trial::run(&deb, &program)?;
    }
    for file in &made {
        println!("{}", file.display());
    }
    for what in skipped {
        println!("skipped: {what}");
    }
    Ok(ExitCode::SUCCESS)
}

/// What is made of static programs.
struct Static<'a> {
    musl: &'a Musl,
    profile: &'a str,
    assets: &'a Path,
    /// Whether it is tried, and by which program.
    trial: Option<&'a Path>,
}

impl Static<'_> {
    fn make(
        &self,
        directory: &Path,
        wants: impl Fn(Kind) -> bool,
        made: &mut Vec<PathBuf>,
        skipped: &mut Vec<String>,
    ) -> Result<()> {
        let licenses = self.musl.licenses();
        let mut programs = Vec::new();
        for cpu in musl::CPUS {
            let program = self.musl.build(cpu, self.profile)?;
            if let Some(ours) = self.trial {
                skipped.extend(static_trial::run(self.musl, cpu, &program, ours)?);
            }
            programs.push((cpu, program));
        }
        if wants(Kind::Static) {
            for (cpu, program) in &programs {
                let name = archive_name(cpu) + "-static";
                let archive = archive::write(directory, &name, program, self.assets, &licenses)?;
                made.push(archive);
            }
        }
        if wants(Kind::Oci) {
            let image = oci::write(directory, &programs, self.assets, &licenses)?;
            if let Some(ours) = self.trial {
                skipped.extend(oci::try_it(&image, ours)?);
            }
            made.push(image);
        }
        Ok(())
    }
}

/// What an archive for a CPU is called, and what is in it.
fn archive_name(cpu: &str) -> String {
    format!("taltun-{}-linux-{cpu}", env!("CARGO_PKG_VERSION"))
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

/// In the form that `sha256sum -c` reads.
fn write_sums(directory: &Path, files: &[PathBuf]) -> Result<()> {
    let names: Vec<_> = files.iter().filter_map(|file| file.file_name()).collect();
    ensure!(!names.is_empty(), "nothing was made");
    let sums = output_of(Command::new("sha256sum").current_dir(directory).args(names))?;
    Ok(fs::write(directory.join("SHA256SUMS"), sums)?)
}
