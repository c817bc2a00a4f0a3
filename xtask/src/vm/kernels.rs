//! Debian's kernels, unpacked into the target directory: none is installed.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use taltun_tests::command::output_of;

use crate::apt::Apt;
use crate::setup::step;
use crate::workspace::must_succeed;

/// What a kernel is called here, and the suite of Debian that has it.
const SUITES: &[(&str, &str)] = &[
    ("5.10", "bullseye-security"),
    ("6.1", "bookworm"),
    ("6.12", "bookworm-backports"),
    ("7", "trixie-backports"),
];

/// An unpacked kernel.
pub struct Kernel {
    /// Where its packages are unpacked.
    pub directory: PathBuf,
    /// The kernel without compression, as QEMU starts it fastest.
    pub vmlinux: PathBuf,
}

/// The kernel that is called `name`, fetched into `cache` if it isn't there. `mirror` is one of
/// Debian's.
pub fn get(name: &str, cache: &Path, mirror: &str) -> Result<Kernel> {
    let Some((_, suite)) = SUITES.iter().find(|(known, _)| *known == name) else {
        let known: Vec<_> = SUITES.iter().map(|(name, _)| *name).collect();
        bail!("no kernel is called {name}; there are {}", known.join(", "));
    };
    let directory = cache.join("kernels").join(name);
    if !directory.is_dir() {
        step(&format!("fetching the kernel of {suite}"));
        fetch(suite, cache, mirror, &directory)?;
    }
    let vmlinux = directory.join("vmlinux");
    if !vmlinux.is_file() {
        let image =
            image(&directory).with_context(|| format!("no kernel in {suite}'s packages"))?;
        let elf = unpacked(&fs::read(image)?)?;
        fs::write(&vmlinux, elf)?;
    }
    Ok(Kernel { directory, vmlinux })
}

/// Fetches the packages of a suite's kernel and unpacks them.
fn fetch(suite: &str, cache: &Path, mirror: &str, directory: &Path) -> Result<()> {
    let mirror = match suite.strip_suffix("-security") {
        Some(_) => format!("{}-security", mirror.trim_end_matches('/')),
        None => mirror.to_owned(),
    };
    let apt = Apt::new(cache.join("apt").join(suite), &mirror, suite)?;
    // Without a network it would say so and go on.
    let update = ["-o", "APT::Update::Error-Mode=any", "update"];
    must_succeed(apt.get().args(update), "read the list of Debian's kernels")?;
    let named = output_of(apt.cache().args(["depends", "linux-image-amd64"]))?;
    let first = dependencies(&named)
        .find(|name| name.starts_with("linux-image-"))
        .context("the suite has no linux-image-amd64")?;
    // Newer ones are in two packages that the first one only names.
    let parts = output_of(apt.cache().args(["depends", first]))?;
    let parts = dependencies(&parts)
        .filter(|name| name.starts_with("linux-binary-") || name.starts_with("linux-modules-"));
    let packages: Vec<&str> = std::iter::once(first).chain(parts).collect();
    let work = directory.with_extension("new");
    let _ = fs::remove_dir_all(&work);
    fs::create_dir_all(&work)?;
    must_succeed(
        apt.get()
            .args(["-o", "APT::Sandbox::User=root", "download"])
            .args(&packages)
            .current_dir(&work),
        "fetch the kernel",
    )?;
    for file in fs::read_dir(&work)?.flatten() {
        let path = file.path();
        if path.extension().is_some_and(|kind| kind == "deb") {
            let mut dpkg = Command::new("dpkg");
            must_succeed(dpkg.arg("-x").arg(&path).arg(&work), "unpack a package")?;
            fs::remove_file(&path)?;
        }
    }
    fs::rename(&work, directory)?;
    Ok(())
}

/// The names of the packages that one depends on, as apt-cache lists them.
fn dependencies(text: &str) -> impl Iterator<Item = &str> {
    text.lines().filter_map(|line| {
        line.trim_start_matches([' ', '|'])
            .strip_prefix("Depends: ")
    })
}

/// The compressed kernel among the unpacked files.
fn image(directory: &Path) -> Option<PathBuf> {
    let files = |below: &Path| fs::read_dir(below).into_iter().flatten().flatten();
    let boot = files(&directory.join("boot")).map(|file| file.path());
    let named = |path: &PathBuf| {
        path.file_name()
            .is_some_and(|name| name.to_string_lossy().starts_with("vmlinuz"))
    };
    let modules = files(&directory.join("usr/lib/modules")).map(|file| file.path().join("vmlinuz"));
    boot.filter(named)
        .chain(modules)
        .find(|path| path.is_file())
}

/// The kernel inside of a bzImage: where it lies and how long it is stands in the header that
/// boot loaders read (Linux, Documentation/arch/x86/boot.rst).
fn unpacked(image: &[u8]) -> Result<Vec<u8>> {
    let payload = payload(image).context("not a kernel that a boot loader would start")?;
    let program: &[&str] = match payload {
        [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => &["xz", "-dc", "--single-stream"],
        [0x28, 0xb5, 0x2f, 0xfd, ..] => &["zstd", "-dc"],
        [0x1f, 0x8b, ..] => &["gzip", "-dc"],
        [0x02, 0x21, 0x4c, 0x18, ..] => &["lz4", "-dc"],
        _ => bail!("the kernel is compressed in a way that isn't known here"),
    };
    let file = std::env::temp_dir().join(format!("taltun-vmlinuz-{}", std::process::id()));
    fs::write(&file, payload)?;
    // It complains of the four bytes behind, which hold the length.
    let output = Command::new(program[0])
        .args(&program[1..])
        .stdin(fs::File::open(&file)?)
        .output()
        .with_context(|| format!("can't run {}", program[0]))?;
    fs::remove_file(&file)?;
    if !output.stdout.starts_with(b"\x7fELF") {
        bail!("what {} makes of the kernel is no kernel", program[0]);
    }
    Ok(output.stdout)
}

fn payload(image: &[u8]) -> Option<&[u8]> {
    let number = |at: usize| {
        let bytes = image.get(at..)?.first_chunk::<4>()?;
        usize::try_from(u32::from_le_bytes(*bytes)).ok()
    };
    let sectors = match *image.get(0x1f1)? {
        0 => 4,
        sectors => usize::from(sectors),
    };
    let start = (sectors + 1) * 512 + number(0x248)?;
    image.get(start..start.checked_add(number(0x24c)?)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_kernel_depends_on_is_read_from_apts_list() {
        let text = "linux-image-amd64\n  Depends: linux-image-6.1.0-50-amd64\n |Depends: other\n";
        let names: Vec<_> = dependencies(text).collect();
        assert_eq!(names, ["linux-image-6.1.0-50-amd64", "other"]);
    }

    #[test]
    fn a_kernel_lies_where_the_boot_header_says() {
        let mut image = vec![0; 4096];
        image[0x1f1] = 1;
        image[0x248..0x24c].copy_from_slice(&16_u32.to_le_bytes());
        image[0x24c..0x250].copy_from_slice(&4_u32.to_le_bytes());
        image[1040..1044].copy_from_slice(b"here");
        assert_eq!(payload(&image), Some(&b"here"[..]));
        image[0x24c..0x250].copy_from_slice(&u32::MAX.to_le_bytes());
        assert_eq!(payload(&image), None);
        assert_eq!(payload(&[]), None);
    }
}
