//! wireguard-go as Debian's backports have it.
//!
//! Debian 12 itself has one of 2022, which loses its way when its own address is taken away on
//! recent kernels, and knows no segmentation offloads: neither a partner for the tests nor a
//! rival for the bench. The package comes from the mirror that this machine uses already; its
//! list of sources stays as it is.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use taltun_tests::command::{find, output_of};
use taltun_tests::sys;

use crate::setup::step;
use crate::workspace::{must_succeed, target};

/// Makes sure that the wireguard-go on PATH is one that can be compared with.
pub fn wireguard_go() -> Result<()> {
    if taltun_tests::wireguard_go::is_recent() {
        return Ok(());
    }
    let codename = codename(&fs::read_to_string("/etc/os-release").unwrap_or_default())
        .context("wireguard-go is too old, and this is no Debian whose backports have another")?;
    if !sys::is_root() || find("apt-get").is_none() {
        bail!("wireguard-go is too old; install the one of {codename}-backports");
    }
    let targets = output_of(Command::new("apt-get").args([
        "indextargets",
        "--format",
        "$(SITE) $(RELEASE)",
    ]))?;
    let mirror = mirror(&targets, &codename)
        .with_context(|| format!("wireguard-go is too old, and no mirror of {codename} is set"))?;
    let apt = Apt::new(mirror, &codename)?;
    step(&format!("wireguard-go from {codename}-backports"));
    must_succeed(apt.command().args(["update"]), "read the backports' list")?;
    must_succeed(
        apt.command().args(["--yes", "install", "wireguard-go"]),
        "install wireguard-go from the backports",
    )?;
    ensure!(
        taltun_tests::wireguard_go::is_recent(),
        "wireguard-go is too old, and so is the one of {codename}-backports"
    );
    Ok(())
}

/// `apt-get` with the backports as its only source.
struct Apt(PathBuf);

impl Apt {
    fn new(mirror: &str, codename: &str) -> Result<Self> {
        let directory = target().join("backports");
        for name in ["lists/partial", "cache/archives/partial", "sources"] {
            fs::create_dir_all(directory.join(name))?;
        }
        let sources = format!(
            "Types: deb\nURIs: {mirror}\nSuites: {codename}-backports\nComponents: main\n\
             Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg\n"
        );
        fs::write(directory.join("sources/backports.sources"), sources)?;
        Ok(Self(directory))
    }

    fn command(&self) -> Command {
        let mut command = Command::new("apt-get");
        command.env("DEBIAN_FRONTEND", "noninteractive").arg("-qq");
        let mut option = |name: &str, path: &Path| {
            command.args(["-o", &format!("{name}={}", path.display())]);
        };
        option("Dir::Etc::sourcelist", Path::new("/dev/null"));
        option("Dir::Etc::sourceparts", &self.0.join("sources"));
        option("Dir::State::Lists", &self.0.join("lists"));
        option("Dir::Cache", &self.0.join("cache"));
        command
    }
}

/// The name of Debian's release, from the text of `/etc/os-release`.
fn codename(release: &str) -> Option<String> {
    let value = |name: &str| {
        let mut lines = release.lines();
        let value = lines.find_map(|line| line.strip_prefix(name)?.strip_prefix('='))?;
        Some(value.trim_matches('"').to_owned())
    };
    (value("ID")? == "debian").then(|| value("VERSION_CODENAME"))?
}

/// The mirror that a release comes from, of lines with a mirror and a release each.
fn mirror<'a>(targets: &'a str, codename: &str) -> Option<&'a str> {
    let mut lines = targets.lines();
    lines.find_map(|line| {
        let (site, release) = line.split_once(' ')?;
        (release == codename).then_some(site)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_backports_are_those_of_debians_own_release_and_mirror() {
        let release = "NAME=\"Debian GNU/Linux\"\nVERSION_CODENAME=bookworm\nID=debian\n";
        assert_eq!(codename(release).as_deref(), Some("bookworm"));
        assert_eq!(codename("ID=ubuntu\nVERSION_CODENAME=noble\n"), None);
        assert_eq!(codename(""), None);
        let targets = "http://security.example/s bookworm-security\n\
                       http://mirror.example/debian bookworm\n";
        assert_eq!(
            mirror(targets, "bookworm"),
            Some("http://mirror.example/debian")
        );
        assert_eq!(mirror(targets, "trixie"), None);
    }
}
