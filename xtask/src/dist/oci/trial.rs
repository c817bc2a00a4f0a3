//! The image tried: read back blob by blob, loaded by podman, and run as a hub that a client reaches;
//! where there is no podman, run from its tree.

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use taltun_tests::command::{finish_within, output_of, wait_for};
use taltun_tests::lab::Role;
use taltun_tests::netns::Namespace;
use taltun_tests::node::{Keys, Node};
use taltun_tests::sys::{self, Signal};
use taltun_tests::topology::{Pair, WIRE_A};
use taltun_tests::traffic::ping::Pinger;

use super::{INDEX, NAME, PROGRAM, architecture, sha256};
use crate::setup::{self, Program, step};
use crate::workspace::must_succeed;

const PROGRAMS: &[Program] = &[("podman", "podman"), ("runc", "runc")];
/// Far more than any step takes.
const LIMIT: Duration = Duration::from_secs(60);
/// What the manual says that a container needs for a shield by XDP.
const RIGHTS: [&str; 3] = ["NET_ADMIN", "BPF", "PERFMON"];

/// Tries the image; `program` is the client's. Returns what couldn't be tried, and why.
pub fn run(archive: &Path, program: &Path) -> Result<Option<String>> {
    step("trying the OCI image");
    let place = Place::new(archive)?;
    let cpu = architecture(std::env::consts::ARCH);
    let layers = read_back(&place.0.join("layout"), cpu)?;
    let tree = place.0.join("tree");
    fs::create_dir(&tree)?;
    for layer in layers {
        unpack(&layer, &tree)?;
    }
    if !sys::is_root() {
        return Ok(Some("running the OCI image: it takes root".to_owned()));
    }
    let version = output_of(
        Command::new("chroot")
            .arg(&tree)
            .arg(format!("/{PROGRAM}"))
            .arg("version"),
    )?;
    step(&format!("  from its tree: {}", version.trim()));
    if let Err(reason) = setup::programs(PROGRAMS) {
        return Ok(Some(format!("the OCI image by podman: {reason:#}")));
    }
    let podman = Podman::new(&place);
    let loaded = output_of(podman.command().arg("load").arg("--input").arg(archive))?;
    ensure!(
        loaded.contains(NAME),
        "podman doesn't name what it loaded {NAME}: {loaded}"
    );
    tunnel(&podman, &place, program)?;
    Ok(None)
}

/// Looks at every blob of a layout. Returns the layers of the image for `cpu`.
fn read_back(layout: &Path, cpu: &str) -> Result<Vec<PathBuf>> {
    let version = read_json(&layout.join("oci-layout"))?;
    ensure!(version["imageLayoutVersion"] == "1.0.0", "{version}");
    let mut referrers = vec![read_json(&layout.join("index.json"))?];
    let (mut seen, mut layers) = (0, Vec::new());
    while let Some(index) = referrers.pop() {
        for entry in list(&index["manifests"])? {
            let (file, value) = blob(layout, entry)?;
            seen += 1;
            let value = value.with_context(|| format!("no JSON: {}", file.display()))?;
            if entry["mediaType"] == INDEX {
                referrers.push(value);
                continue;
            }
            let (_, config) = blob(layout, &value["config"])?;
            let config = config.context("a configuration that is no JSON")?;
            ensure!(
                config["config"]["Entrypoint"][0] == format!("/{PROGRAM}")
                    && config["architecture"] == entry["platform"]["architecture"],
                "{config}"
            );
            let diff_ids = list(&config["rootfs"]["diff_ids"])?;
            let own = list(&value["layers"])?;
            ensure!(
                own.len() == diff_ids.len(),
                "{value} has other layers than {config}"
            );
            for (layer, diff_id) in own.iter().zip(diff_ids) {
                let (file, _) = blob(layout, layer)?;
                seen += 1;
                ensure!(
                    *diff_id == format!("sha256:{}", uncompressed_sum(&file)?),
                    "{diff_id} isn't the sum of {}",
                    file.display()
                );
                if entry["platform"]["architecture"] == cpu {
                    layers.push(file);
                }
            }
            seen += 1;
        }
    }
    let there = fs::read_dir(layout.join("blobs/sha256"))?.count();
    ensure!(
        seen == there,
        "{there} blobs, of which {seen} are referred to"
    );
    ensure!(!layers.is_empty(), "there is no image for {cpu}");
    step(&format!(
        "  {there} blobs with the sizes and sums that they should have"
    ));
    Ok(layers)
}

/// The file that an entry refers to, after a look at its size and sum; and what is in it, if it is
/// JSON.
fn blob(layout: &Path, entry: &Value) -> Result<(PathBuf, Option<Value>)> {
    let digest = entry["digest"].as_str();
    let sum = digest.and_then(|digest| digest.strip_prefix("sha256:"));
    let sum = sum.with_context(|| format!("no digest: {entry}"))?;
    let file = layout.join("blobs/sha256").join(sum);
    let size = fs::metadata(&file)
        .with_context(|| format!("no {}", file.display()))?
        .len();
    ensure!(
        entry["size"] == size && sha256(&file)? == sum,
        "{} isn't what {entry} says",
        file.display()
    );
    let is_json = entry["mediaType"]
        .as_str()
        .is_some_and(|it| it.ends_with("+json"));
    let value = if is_json {
        Some(read_json(&file)?)
    } else {
        None
    };
    Ok((file, value))
}

fn read_json(file: &Path) -> Result<Value> {
    let text = fs::read(file).with_context(|| format!("can't read {}", file.display()))?;
    Ok(serde_json::from_slice(&text)?)
}

fn list(value: &Value) -> Result<&Vec<Value>> {
    value
        .as_array()
        .with_context(|| format!("no list: {value}"))
}

fn uncompressed_sum(file: &Path) -> Result<String> {
    let script = "gzip -dc \"$0\" | sha256sum";
    let line = output_of(Command::new("sh").arg("-c").arg(script).arg(file))?;
    Ok(line
        .split_whitespace()
        .next()
        .unwrap_or_default()
        .to_owned())
}

fn unpack(archive: &Path, to: &Path) -> Result<()> {
    must_succeed(
        Command::new("tar")
            .arg("-xf")
            .arg(archive)
            .arg("-C")
            .arg(to),
        &format!("unpack {}", archive.display()),
    )
}

/// A hub in a container, as the manual says to run it, and a client beside.
fn tunnel(podman: &Podman, place: &Place, program: &Path) -> Result<()> {
    let pair = Pair::create(&format!("oci{}", std::process::id()))?;
    let (hub, client) = (Keys::generate(program)?, Keys::generate(program)?);
    let files = place.0.join("etc");
    fs::create_dir(&files)?;
    let file = files.join("taltun.toml");
    fs::write(
        &file,
        format!(
            "[interface]\nmode = \"server\"\nvip = \"10.200.0.1/24\"\nprivate_key = \"{}\"\n\
             [accel]\nxdp = \"generic\"\ninterfaces = [\"to-right\"]\n\
             [[peers]]\nname = \"client\"\npublic_key = \"{}\"\nvip = \"10.200.0.2\"\n",
            hub.private, client.public
        ),
    )?;
    must_succeed(
        Command::new("chmod").arg("600").arg(&file),
        "keep others from the key",
    )?;
    let mut container = Container::start(podman, &pair.left, &files)?;
    let client_file = format!(
        "[interface]\nvip = \"10.200.0.2/24\"\nprivate_key = \"{}\"\n\
         [[peers]]\npublic_key = \"{}\"\nvip = \"10.200.0.1\"\nendpoint = \"{}:9000\"\n",
        client.private,
        hub.public,
        WIRE_A.near_v4()
    );
    let client = Node::start_with_text(&pair.right, program, &client_file)?;
    let mut pinger = Pinger::new(&pair.right, Role::Hub.v4())?;
    let start = Instant::now();
    while pinger.ping(Duration::from_millis(100))?.is_none() {
        ensure!(
            start.elapsed() < LIMIT,
            "the container makes no tunnel: {}",
            container.end()?
        );
    }
    let status = output_of(
        podman
            .command()
            .args(["exec", Container::NAME])
            .args([&format!("/{PROGRAM}"), "status"]),
    )?;
    step(&status);
    ensure!(
        status.contains("generic"),
        "the container has no XDP: {status}"
    );
    client.stop(Signal::Terminate)?;
    container.end()?;
    Ok(())
}

/// podman with images and containers of its own, so that this machine's stay as they are; dropping it
/// removes what it had in memory.
struct Podman {
    storage: PathBuf,
    /// podman takes no path of more than 50 characters here.
    run: PathBuf,
}

impl Podman {
    fn new(place: &Place) -> Self {
        Self {
            storage: place.0.join("storage"),
            run: PathBuf::from(format!("/run/taltun-oci-{}", std::process::id())),
        }
    }

    fn command(&self) -> Command {
        let mut command = Command::new("podman");
        command
            .arg("--root")
            .arg(&self.storage)
            .arg("--runroot")
            .arg(&self.run)
            .args(["--storage-driver=vfs", "--runtime=runc"]);
        command
    }
}

impl Drop for Podman {
    fn drop(&mut self) {
        // Nothing else to do about what can't be removed.
        let _ = fs::remove_dir_all(&self.run);
    }
}

/// A running container; dropping it ends it.
struct Container<'a> {
    podman: &'a Podman,
    child: Child,
}

impl<'a> Container<'a> {
    const NAME: &'static str = "taltun-trial";

    /// Runs the image's command in a network namespace, with the files of `/etc/taltun`.
    fn start(podman: &'a Podman, network: &Namespace, files: &Path) -> Result<Self> {
        let mut command = podman.command();
        command
            .args(["run", "--rm", "--name", Self::NAME, "--device=/dev/net/tun"])
            .args(RIGHTS.map(|right| format!("--cap-add={right}")))
            // The profile of podman 4 leaves `bpf` to CAP_SYS_ADMIN.
            .arg("--security-opt=seccomp=unconfined")
            .arg(format!("--network=ns:/run/netns/{}", network.name()))
            .arg(format!("--volume={}:/etc/taltun:ro", files.display()))
            // As many as this process may have: podman wants more, and may not everywhere.
            .args(["--ulimit=nofile=4096:4096", "--ulimit=nproc=1024:1024"])
            .arg(format!("{NAME}:{}", env!("CARGO_PKG_VERSION")))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        let child = command.spawn().context("can't run podman")?;
        Ok(Self { podman, child })
    }

    /// Ends it in an orderly way. Returns what it had to say.
    fn end(&mut self) -> Result<String> {
        finish_within(
            self.podman.command().args(["stop", "--ignore", Self::NAME]),
            LIMIT,
        )?;
        if wait_for(&mut self.child, LIMIT)?.is_none() {
            bail!("the container doesn't end");
        }
        let mut said = String::new();
        if let Some(mut stderr) = self.child.stderr.take() {
            stderr.read_to_string(&mut said)?;
        }
        Ok(said)
    }
}

impl Drop for Container<'_> {
    fn drop(&mut self) {
        let mut remove = self.podman.command();
        remove.args(["rm", "--force", "--ignore", Self::NAME]);
        let _ = finish_within(&mut remove, LIMIT);
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A directory with the image in it; dropping it removes it.
struct Place(PathBuf);

impl Place {
    fn new(archive: &Path) -> Result<Self> {
        let place = Self(archive.with_extension(format!("trial-{}", std::process::id())));
        let layout = place.0.join("layout");
        fs::create_dir_all(&layout)?;
        unpack(archive, &layout)?;
        Ok(place)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        // Nothing else to do about what can't be removed.
        let _ = fs::remove_dir_all(&self.0);
    }
}
