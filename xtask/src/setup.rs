//! What has to be on the machine: found if it is there, installed if it isn't.
//!
//! Each thing is looked for first, so a machine that has everything is left alone and needs
//! no network.

use std::io::{self, Write as _};
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, bail};
use taltun_tests::command::{find, output_of};
use taltun_tests::sys;

use crate::workspace::{cargo, must_succeed, root, tools};

/// The linker for eBPF that goes with the LLVM of the pinned toolchain.
const BPF_LINKER: &str = "0.10.0";

/// A program and the Debian package that has it.
pub type Program = (&'static str, &'static str);

/// What the lab can't do without.
pub const LAB: &[Program] = &[("ip", "iproute2")];
/// What the recipes need besides.
pub const RECIPES: &[Program] = &[("nft", "nftables")];
/// What single tests use besides; where one is missing they are skipped or see less.
pub const TESTS: &[Program] = &[
    ("bpftool", "bpftool"),
    ("chromium", "chromium"),
    ("etcd", "etcd-server"),
    ("etcdctl", "etcd-client"),
    ("ethtool", "ethtool"),
    ("iptables", "iptables"),
    ("nc", "netcat-openbsd"),
    ("nft", "nftables"),
    ("openssl", "openssl"),
    ("ping", "iputils-ping"),
    ("setpriv", "util-linux"),
    ("ss", "iproute2"),
    ("ssh", "openssh-client"),
    ("sshd", "openssh-server"),
    ("tcpdump", "tcpdump"),
    ("tshark", "tshark"),
    ("unshare", "util-linux"),
    ("wg", "wireguard-tools"),
    ("wg-quick", "wireguard-tools"),
    ("wireguard-go", "wireguard-go"),
];

/// Says what is being done, on stderr.
pub fn step(what: &str) {
    // Not `eprintln!`, which panics where the terminal is gone: a lab still has to be taken down.
    let _ = writeln!(io::stderr(), "xtask: {what}");
}

/// Makes sure that `programs` are there: installs their packages as root on Debian and its
/// kin, else says what to install.
pub fn programs(programs: &[Program]) -> Result<()> {
    let missing: Vec<_> = programs
        .iter()
        .filter(|(program, _)| find(program).is_none())
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    let mut packages: Vec<_> = missing.iter().map(|(_, package)| *package).collect();
    packages.sort_unstable();
    packages.dedup();
    let names: Vec<_> = missing.iter().map(|(program, _)| *program).collect();
    let (names, list) = (names.join(", "), packages.join(" "));
    if !sys::is_root() || find("apt-get").is_none() {
        bail!(
            "not installed: {names}; on Debian and Ubuntu: sudo apt-get install {list}; elsewhere: the packages with these programs"
        );
    }
    step(&format!("{names} missing: apt-get update"));
    let apt = || {
        let mut apt = Command::new("apt-get");
        apt.env("DEBIAN_FRONTEND", "noninteractive");
        apt
    };
    must_succeed(apt().args(["--quiet", "update"]), "run apt-get update")?;
    step(&format!("apt-get install {list}"));
    must_succeed(
        apt()
            .args(["--quiet", "--yes", "--no-install-recommends", "install"])
            .args(packages),
        "install packages",
    )
}

/// Makes sure that the eBPF programs can be built: the standard library's source, since there
/// is no built one for eBPF, and the linker.
pub fn ebpf_toolchain() -> Result<()> {
    rust_src()?;
    bpf_linker()
}

/// Makes sure that the standard library's source is there.
pub fn rust_src() -> Result<()> {
    let sysroot = output_of(
        Command::new("rustc")
            .current_dir(root())
            .args(["--print", "sysroot"]),
    )?;
    let source = PathBuf::from(sysroot.trim()).join("lib/rustlib/src/rust/library/core");
    if source.is_dir() {
        step("rust-src is there");
        return Ok(());
    }
    if find("rustup").is_none() {
        bail!(
            "the source of Rust's standard library is missing, and there is no rustup to add it: install rustup from https://rustup.rs, or put the source at {}",
            source.display()
        );
    }
    step("rustup component add rust-src");
    // In the top directory, where rust-toolchain.toml says which toolchain is meant.
    must_succeed(
        Command::new("rustup")
            .current_dir(root())
            .args(["component", "add", "rust-src"]),
        "add rust-src",
    )
}

fn bpf_linker() -> Result<()> {
    cargo_tool("bpf-linker", BPF_LINKER)
}

/// Makes sure that a program is there in this version, by `cargo install` into our own directory.
pub fn cargo_tool(name: &str, version: &str) -> Result<()> {
    let program = tools().join("bin").join(name);
    let found = output_of(Command::new(&program).arg("--version")).unwrap_or_default();
    if found.split_whitespace().any(|word| word == version) {
        step(&format!("{name} {version} is there"));
        return Ok(());
    }
    step(&format!(
        "installing {name} {version} (a few minutes, once)"
    ));
    let root = tools();
    std::fs::create_dir_all(&root).with_context(|| format!("can't make {}", root.display()))?;
    must_succeed(
        cargo()?
            .args(["install", name, "--locked", "--force"])
            .args(["--version", version])
            .arg("--root")
            .arg(root),
        &format!("install {name}"),
    )
}
