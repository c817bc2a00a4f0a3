//! Builds the eBPF programs, so that the library can carry them inside.
//!
//! They are compiled by the very toolchain that compiles user space: a stable rustc, told
//! by `RUSTC_BOOTSTRAP`, in this one inner build only, that it may build `core` for
//! `bpfel-unknown-none`; and `bpf-linker`, which uses that rustc's own LLVM. This is what
//! aya-build does too; but aya-build leaves no way to ask for the v3 instruction set,
//! whose 32-bit arithmetic makes the programs a sixth faster, and which every kernel they
//! run on has (5.1 and newer).
//!
//! Without the `ebpf` feature this does nothing and needs nothing. Neither does it in a packaged
//! crate, as `cargo install` has it: the programs' source isn't part of it, so it carries none.

use std::env;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

/// How to get what is missing, for every message below.
const REMEDY: &str = "run `cargo xtask ebpf`, which installs it, or build without eBPF: \
                      `cargo build -p taltun --no-default-features`";

/// What is built: the programs that guard, and the one that chooses a TUN queue.
const OBJECTS: [&str; 2] = ["taltun-ebpf", "taltun-tun-queue"];

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    refuse_null_cipher();
    if env::var_os("CARGO_FEATURE_EBPF").is_none() {
        return;
    }
    if let Err(error) = build() {
        // Fails the build, and unlike a panic or an exit code shows nothing else.
        for line in error.lines() {
            println!("cargo::error={line}");
        }
    }
}

/// A cipher that does nothing is for a bench, whose profile has a name of its own.
fn refuse_null_cipher() {
    let is_bench = env::var_os("OUT_DIR").is_some_and(|directory| {
        let mut parts = Path::new(&directory).components();
        parts.any(|part| part.as_os_str() == "null-cipher")
    });
    if env::var_os("CARGO_CFG_TALTUN_NULL_CIPHER").is_some() && !is_bench {
        println!(
            "cargo::error=--cfg taltun_null_cipher is for `cargo xtask bench --null-cipher` only: it \
             encrypts nothing"
        );
    }
}

fn build() -> Result<(), String> {
    let workspace = path("CARGO_MANIFEST_DIR")?.join("..");
    let out = path("OUT_DIR")?;
    if !workspace.join("taltun-ebpf/Cargo.toml").is_file() {
        println!(
            "cargo::warning=built without the eBPF programs, whose source isn't in this package: \
             Taltun will be a pure user-space VPN; build the repository for a shield"
        );
        for object in OBJECTS {
            let embedded = out.join(object);
            std::fs::write(&embedded, [])
                .map_err(|error| format!("{}: {error}", embedded.display()))?;
        }
        return Ok(());
    }
    for input in ["taltun-ebpf", "taltun-common", "Cargo.toml", "Cargo.lock"] {
        println!(
            "cargo::rerun-if-changed={}",
            workspace.join(input).display()
        );
    }

    let cargo = path("CARGO")?;
    let rustc = path("RUSTC")?;
    let sysroot = sysroot(&rustc)?;
    if !sysroot.join("lib/rustlib/src/rust/library").is_dir() {
        return Err(format!(
            "building the eBPF programs needs rust-src: {REMEDY}"
        ));
    }
    let linker = linker(&workspace)?;

    // Its own target directory, because the outer cargo holds the lock of the usual one;
    // one for all profiles, because the programs are the same in each.
    let target = workspace.join("target/ebpf");
    let output = Command::new(cargo)
        .args(["build", "--quiet", "--release", "--package", "taltun-ebpf"])
        .args(["-Z", "build-std=core", "--target", "bpfel-unknown-none"])
        .arg("--target-dir")
        .arg(&target)
        .current_dir(&workspace)
        .env("RUSTC_BOOTSTRAP", "1")
        .env("CARGO_ENCODED_RUSTFLAGS", flags(&linker)?)
        .env("LD_LIBRARY_PATH", library_path(&sysroot)?)
        // Clippy and rustdoc put themselves here, and they don't know this target.
        .env_remove("RUSTC_WORKSPACE_WRAPPER")
        .env_remove("RUSTC_WRAPPER")
        .output()
        .map_err(|error| format!("cargo, for the eBPF programs: {error}"))?;
    if !output.status.success() {
        return Err(format!(
            "the eBPF programs don't build ({}):\n{}",
            output.status,
            String::from_utf8_lossy(&output.stderr)
        ));
    }

    for object in OBJECTS {
        let built = target.join("bpfel-unknown-none/release").join(object);
        let embedded = out.join(object);
        std::fs::copy(&built, &embedded)
            .map_err(|error| format!("{} → {}: {error}", built.display(), embedded.display()))?;
    }
    Ok(())
}

/// bpf-linker: the one `cargo xtask ebpf` installs, else the one in `PATH`.
fn linker(workspace: &Path) -> Result<PathBuf, String> {
    let own = workspace.join("target/tools/bin/bpf-linker");
    if own.is_file() {
        println!("cargo::rerun-if-changed={}", own.display());
        return Ok(own);
    }
    println!("cargo::rerun-if-env-changed=PATH");
    env::split_paths(&env::var_os("PATH").unwrap_or_default())
        .map(|directory| directory.join("bpf-linker"))
        .find(|file| file.is_file())
        .ok_or_else(|| format!("building the eBPF programs needs bpf-linker: {REMEDY}"))
}

/// Flags for rustc, separated as cargo wants them.
fn flags(linker: &Path) -> Result<OsString, String> {
    let arch = env::var("CARGO_CFG_TARGET_ARCH").map_err(|error| error.to_string())?;
    let mut linker_flag = OsString::from("-Clinker=");
    linker_flag.push(linker);
    let arch_flag = format!("--cfg=bpf_target_arch=\"{arch}\"");
    Ok([
        linker_flag,
        arch_flag.into(),
        "-Ctarget-cpu=v3".into(),
        // BTF, which describes the maps, is made from debug information.
        "-Cdebuginfo=2".into(),
        "-Clink-arg=--btf".into(),
    ]
    .join("\x1f".as_ref()))
}

/// Where bpf-linker finds the LLVM it shares with rustc.
fn library_path(sysroot: &Path) -> Result<OsString, String> {
    let inherited = env::var_os("LD_LIBRARY_PATH").unwrap_or_default();
    let all = std::iter::once(sysroot.join("lib")).chain(env::split_paths(&inherited));
    env::join_paths(all).map_err(|error| error.to_string())
}

fn sysroot(rustc: &Path) -> Result<PathBuf, String> {
    let output = Command::new(rustc)
        .args(["--print", "sysroot"])
        .output()
        .map_err(|error| format!("{}: {error}", rustc.display()))?;
    Ok(PathBuf::from(
        String::from_utf8_lossy(&output.stdout).trim(),
    ))
}

fn path(variable: &str) -> Result<PathBuf, String> {
    env::var_os(variable)
        .map(PathBuf::from)
        .ok_or_else(|| format!("cargo didn't set {variable}"))
}
