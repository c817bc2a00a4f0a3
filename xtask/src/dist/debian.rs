//! A bare Debian as a tree of files, for packages to be tried in.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use taltun_tests::command::output_of;

use crate::apt;
use crate::setup::step;
use crate::workspace::{must_succeed, root};

/// What a Debian server has beside the essential packages.
const PACKAGES: &str = "systemd,systemd-sysv,dbus,iproute2,nftables";
/// What changes in a Debian without a package's doing.
const CHANGES: [&str; 7] = ["dev", "proc", "run", "sys", "tmp", "var/cache", "var/log"];

/// A tree with a Debian; dropping it removes it.
pub struct Debian(PathBuf);

impl Debian {
    /// A copy of one that debootstrap made, once.
    pub fn fresh() -> Result<Self> {
        let made = root().join("target/dist/debian");
        if !made.join("usr/bin/systemctl").exists() {
            let codename = apt::codename().context("only a Debian has what another is made of")?;
            let mirror = apt::mirror(&codename)?;
            step(&format!("debootstrap {codename} (a minute, once)"));
            let unfinished = made.with_extension("new");
            if unfinished.exists() {
                fs::remove_dir_all(&unfinished)?;
            }
            must_succeed(
                Command::new("debootstrap")
                    .args([
                        "--variant=minbase",
                        &format!("--include={PACKAGES}"),
                        &codename,
                    ])
                    .arg(&unfinished)
                    .arg(&mirror),
                "make a bare Debian",
            )?;
            fs::rename(&unfinished, &made)?;
        }
        let copy = Self(root().join(format!("target/dist/trial-{}", std::process::id())));
        must_succeed(
            Command::new("cp")
                .args(["-a", "--reflink=auto"])
                .arg(&made)
                .arg(&copy.0),
            "copy it",
        )?;
        Ok(copy)
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// All files but those that change by themselves.
    pub fn files(&self) -> Result<BTreeSet<String>> {
        let mut find = Command::new("find");
        find.current_dir(&self.0).arg(".");
        for path in CHANGES {
            find.args(["-path", &format!("./{path}"), "-prune", "-o"]);
        }
        let found = output_of(find.arg("-print"))?;
        // dpkg keeps what it had before, and that it knows a package's name.
        let is_own = |line: &&str| {
            !line.starts_with("./var/lib/dpkg/")
                && !line.starts_with("./var/lib/systemd/")
                && !line.starts_with("./etc/.pwd.lock")
                && !line.starts_with("./etc/machine-id")
        };
        Ok(found.lines().filter(is_own).map(str::to_owned).collect())
    }
}

impl Drop for Debian {
    fn drop(&mut self) {
        // Nothing else to do about what can't be removed.
        let _ = fs::remove_dir_all(&self.0);
        let _ = fs::remove_file(self.0.with_extension("console"));
        // systemd-nspawn leaves it.
        if let Some(name) = self.0.file_name() {
            let lock = format!(".#{}.lck", name.to_string_lossy());
            let _ = fs::remove_file(self.0.with_file_name(lock));
        }
    }
}
