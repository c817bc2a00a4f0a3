//! wireguard-go as Debian's backports have it.
//!
//! Debian 12 itself has one of 2022, which loses its way when its own address is taken away on
//! recent kernels, and knows no segmentation offloads: neither a partner for the tests nor a
//! rival for the bench.

use anyhow::{Context, Result, bail, ensure};
use taltun_tests::command::find;
use taltun_tests::sys;

use crate::apt::{self, Apt};
use crate::setup::step;
use crate::workspace::{must_succeed, target};

/// Makes sure that the wireguard-go on PATH is one that can be compared with.
pub fn wireguard_go() -> Result<()> {
    if taltun_tests::wireguard_go::is_recent() {
        return Ok(());
    }
    let codename = apt::codename()
        .context("wireguard-go is too old, and this is no Debian whose backports have another")?;
    if !sys::is_root() || find("apt-get").is_none() {
        bail!("wireguard-go is too old; install the one of {codename}-backports");
    }
    let mirror = apt::mirror(&codename).context("wireguard-go is too old")?;
    let suite = format!("{codename}-backports");
    let apt = Apt::new(target().join("backports"), &mirror, &suite)?;
    step(&format!("wireguard-go from {suite}"));
    must_succeed(apt.get().arg("update"), "read the backports' list")?;
    must_succeed(
        apt.get().args(["--yes", "install", "wireguard-go"]),
        "install wireguard-go from the backports",
    )?;
    ensure!(
        taltun_tests::wireguard_go::is_recent(),
        "wireguard-go is too old, and so is the one of {suite}"
    );
    Ok(())
}
