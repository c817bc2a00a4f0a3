//! Debian packages from a suite that this machine doesn't use itself, by the mirror that it does
//! use. Its list of sources stays as it is.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use taltun_tests::command::output_of;

/// apt with one suite as its only source.
pub struct Apt(PathBuf);

impl Apt {
    /// `directory` is for what it reads and fetches.
    pub fn new(directory: PathBuf, mirror: &str, suite: &str) -> Result<Self> {
        for name in ["lists/partial", "cache/archives/partial", "sources"] {
            fs::create_dir_all(directory.join(name))?;
        }
        let sources = format!(
            "Types: deb\nURIs: {mirror}\nSuites: {suite}\nComponents: main\n\
             Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg\n"
        );
        fs::write(directory.join("sources/one.sources"), sources)?;
        Ok(Self(directory))
    }

    /// `apt-get`.
    pub fn get(&self) -> Command {
        let mut command = self.command("apt-get");
        command.env("DEBIAN_FRONTEND", "noninteractive").arg("-qq");
        command
    }

    /// `apt-cache`.
    pub fn cache(&self) -> Command {
        self.command("apt-cache")
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
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

/// The mirror that packages of Debian's release `codename` come from on this machine.
pub fn mirror(codename: &str) -> Result<String> {
    let targets = output_of(Command::new("apt-get").args([
        "indextargets",
        "--format",
        "$(SITE) $(RELEASE)",
    ]))?;
    mirror_of(&targets, codename)
        .map(str::to_owned)
        .with_context(|| format!("no mirror of {codename} is set on this machine"))
}

/// The mirror that a release comes from, of lines with a mirror and a release each.
fn mirror_of<'a>(targets: &'a str, codename: &str) -> Option<&'a str> {
    let mut lines = targets.lines();
    lines.find_map(|line| {
        let (site, release) = line.split_once(' ')?;
        (release == codename).then_some(site)
    })
}

/// The name of this machine's release, if it is Debian's.
pub fn codename() -> Option<String> {
    codename_in(&fs::read_to_string("/etc/os-release").ok()?)
}

/// The name of Debian's release, from the text of `/etc/os-release`.
fn codename_in(release: &str) -> Option<String> {
    let value = |name: &str| {
        let mut lines = release.lines();
        let value = lines.find_map(|line| line.strip_prefix(name)?.strip_prefix('='))?;
        Some(value.trim_matches('"').to_owned())
    };
    (value("ID")? == "debian").then(|| value("VERSION_CODENAME"))?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debians_own_release_and_its_mirror_are_found() {
        let release = "NAME=\"Debian GNU/Linux\"\nVERSION_CODENAME=bookworm\nID=debian\n";
        assert_eq!(codename_in(release).as_deref(), Some("bookworm"));
        assert_eq!(codename_in("ID=ubuntu\nVERSION_CODENAME=noble\n"), None);
        assert_eq!(codename_in(""), None);
        let targets = "http://security.example/s bookworm-security\n\
                       http://mirror.example/debian bookworm\n";
        assert_eq!(
            mirror_of(targets, "bookworm"),
            Some("http://mirror.example/debian")
        );
        assert_eq!(mirror_of(targets, "trixie"), None);
    }
}
