//! A container image of the static programs, for each CPU, and nothing else: a tar in the form that
//! the OCI's image specification has, which podman, docker, skopeo and others load.
//!
//! A blob is a file that is named after its SHA-256; whoever refers to one says its size and kind. An
//! index refers to the image of each CPU, an image to its configuration and its layers.

mod trial;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use serde_json::{Value, json};
use taltun_tests::command::output_of;

pub use self::trial::run as try_it;
use super::assets;
use crate::setup::step;
use crate::workspace::{must_succeed, root};

const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
/// Under which name it is loaded.
pub const NAME: &str = "localhost/taltun";
/// Where the program is in it.
const PROGRAM: &str = "usr/bin/taltun";
/// What the program expects to be there.
const DIRECTORIES: [&str; 4] = ["etc/taltun", "run", "var/lib", "tmp"];

/// Makes `taltun-VERSION-oci.tar` in `directory` of a program for each CPU, with the licences of what
/// is in it.
pub fn write(
    directory: &Path,
    programs: &[(&str, PathBuf)],
    assets: &Path,
    licenses: &[(PathBuf, &str)],
) -> Result<PathBuf> {
    step("OCI image");
    let version = env!("CARGO_PKG_VERSION");
    let layout = Layout::new(directory.join("oci"))?;
    let mut images = Vec::new();
    for (cpu, program) in programs {
        let tree = directory.join("oci-root");
        write_tree(&tree, program, assets, licenses)?;
        images.push(image(&layout, &tree, cpu)?);
        fs::remove_dir_all(&tree)?;
    }
    let index = json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": images });
    let mut index = layout.add_json(INDEX, &index)?;
    // The names that podman and docker give what they load.
    index["annotations"] = json!({
        "org.opencontainers.image.ref.name": format!("{NAME}:{version}"),
        "io.containerd.image.name": format!("{NAME}:{version}"),
    });
    layout.finish(&index)?;
    let archive = directory.join(format!("taltun-{version}-oci.tar"));
    pack(&layout.0, &archive)?;
    fs::remove_dir_all(&layout.0)?;
    Ok(archive)
}

/// All files of the image.
fn write_tree(
    tree: &Path,
    program: &Path,
    assets: &Path,
    licenses: &[(PathBuf, &str)],
) -> Result<()> {
    if tree.exists() {
        fs::remove_dir_all(tree)?;
    }
    let texts = tree.join("usr/share/licenses/taltun");
    fs::create_dir_all(&texts)?;
    fs::create_dir_all(tree.join("usr/bin"))?;
    for name in DIRECTORIES {
        fs::create_dir_all(tree.join(name))?;
    }
    // `wg` and its kin look for sockets there.
    std::os::unix::fs::symlink("../run", tree.join("var/run"))?;
    fs::copy(program, tree.join(PROGRAM))?;
    fs::copy(root().join("LICENSE"), texts.join("LICENSE"))?;
    for name in [assets::LICENSES, assets::SBOM] {
        fs::copy(assets.join(name), texts.join(name))?;
    }
    for (file, name) in licenses {
        fs::copy(file, texts.join(name))?;
    }
    Ok(())
}

/// Adds the image of a tree. Returns what refers to it.
fn image(layout: &Layout, tree: &Path, cpu: &str) -> Result<Value> {
    let tar = tree.with_extension("tar");
    pack(tree, &tar)?;
    // Before it is compressed.
    let diff_id = format!("sha256:{}", sha256(&tar)?);
    must_succeed(
        Command::new("gzip")
            .args(["-9", "--no-name", "--force"])
            .arg(&tar),
        "compress the layer",
    )?;
    let layer = layout.add(LAYER, &tar.with_extension("tar.gz"))?;
    let version = env!("CARGO_PKG_VERSION");
    let platform = json!({ "architecture": architecture(cpu), "os": "linux" });
    let config = json!({
        "architecture": architecture(cpu),
        "os": "linux",
        "config": {
            "Entrypoint": [format!("/{PROGRAM}")],
            "Cmd": ["run", "--config", "/etc/taltun/taltun.toml"],
            "Env": ["PATH=/usr/bin"],
            "StopSignal": "SIGTERM",
            "Labels": {
                "org.opencontainers.image.title": "Taltun",
                "org.opencontainers.image.description": "A WireGuard-compatible VPN hub",
                "org.opencontainers.image.version": version,
                "org.opencontainers.image.licenses": "MIT",
            },
        },
        "rootfs": { "type": "layers", "diff_ids": [diff_id] },
        "history": [{ "created_by": "cargo xtask dist" }],
    });
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": layout.add_json(CONFIG, &config)?,
        "layers": [layer],
    });
    let mut manifest = layout.add_json(MANIFEST, &manifest)?;
    manifest["platform"] = platform;
    Ok(manifest)
}

/// The OCI's name for a CPU, which is Go's.
fn architecture(cpu: &str) -> &str {
    match cpu {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// A directory in the form of an image.
struct Layout(PathBuf);

impl Layout {
    fn new(directory: PathBuf) -> Result<Self> {
        if directory.exists() {
            fs::remove_dir_all(&directory)?;
        }
        fs::create_dir_all(directory.join("blobs/sha256"))?;
        Ok(Self(directory))
    }

    /// Takes a file in. Returns what refers to it.
    fn add(&self, kind: &str, file: &Path) -> Result<Value> {
        let (sum, size) = (sha256(file)?, fs::metadata(file)?.len());
        fs::rename(file, self.0.join("blobs/sha256").join(&sum))?;
        Ok(json!({ "mediaType": kind, "digest": format!("sha256:{sum}"), "size": size }))
    }

    fn add_json(&self, kind: &str, value: &Value) -> Result<Value> {
        let file = self.0.join("new.json");
        fs::write(&file, serde_json::to_vec(value)?)?;
        self.add(kind, &file)
    }

    /// Names what is the start of all.
    fn finish(&self, index: &Value) -> Result<()> {
        let index = json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": [index] });
        fs::write(self.0.join("index.json"), serde_json::to_vec(&index)?)?;
        let version = json!({ "imageLayoutVersion": "1.0.0" });
        fs::write(self.0.join("oci-layout"), serde_json::to_vec(&version)?)?;
        Ok(())
    }
}

/// The same tree makes the same archive.
fn pack(tree: &Path, archive: &Path) -> Result<()> {
    must_succeed(
        Command::new("tar")
            .args(["--sort=name", "--owner=0", "--group=0", "--numeric-owner"])
            .args(["--mtime=@0", "--mode=u=rwX,go=rX", "-cf"])
            .arg(archive)
            .arg("-C")
            .arg(tree)
            .arg("."),
        "make a tar of the image",
    )
}

fn sha256(file: &Path) -> Result<String> {
    let line = output_of(Command::new("sha256sum").arg("--binary").arg(file))?;
    let sum = line.split_whitespace().next();
    Ok(sum.context("sha256sum says nothing")?.to_owned())
}
