//! A packaged crate, as `cargo install` has it, builds without the eBPF programs' source and tools,
//! and says so.

#![allow(
    clippy::unwrap_used,
    reason = "only tests, with helpers that clippy doesn't take for such"
)]

use std::fs;
use std::path::Path;
use std::process::Command;

#[test]
fn the_build_script_of_a_packaged_crate_needs_no_tools_and_says_what_is_missing() {
    let dir = tempfile::tempdir().unwrap();
    let script = dir.path().join("build-script");
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let built = Command::new(rustc)
        .args(["--edition=2024", "-o"])
        .arg(&script)
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("build.rs"))
        .status()
        .unwrap();
    assert!(built.success());
    let (package, out) = (dir.path().join("taltun-0.1.0"), dir.path().join("out"));
    fs::create_dir(&package).unwrap();
    fs::create_dir(&out).unwrap();
    let said = Command::new(&script)
        .env_clear()
        .env("CARGO_FEATURE_EBPF", "1")
        .env("CARGO_MANIFEST_DIR", &package)
        .env("OUT_DIR", &out)
        .output()
        .unwrap();
    let text = String::from_utf8(said.stdout).unwrap();
    assert!(said.status.success(), "{text}");
    assert!(
        text.contains("cargo::warning=built without the eBPF"),
        "{text}"
    );
    assert!(!text.contains("cargo::error"), "{text}");
    for object in ["taltun-ebpf", "taltun-tun-queue"] {
        assert_eq!(fs::read(out.join(object)).unwrap(), []);
    }
}

#[test]
fn each_crate_of_ours_can_be_packaged() {
    // A path alone leads nowhere outside of the repository.
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let manifest = fs::read_to_string(root.join("Cargo.toml")).unwrap();
    let version = env!("CARGO_PKG_VERSION");
    for name in ["common", "crypto", "protocol", "udpgw"] {
        let start = format!("taltun-{name} = {{ path = ");
        let line = manifest.lines().find(|line| line.starts_with(&start));
        let line = line.unwrap_or_else(|| panic!("taltun-{name}"));
        assert!(line.contains(&format!("version = \"{version}\"")), "{line}");
    }
}
