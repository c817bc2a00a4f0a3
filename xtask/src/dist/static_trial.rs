//! Static programs tried: one for this machine's CPU carries a tunnel between two namespaces; one
//! for another CPU runs by QEMU, with the tests of the cryptography and the protocol beside it.
//!
//! QEMU gives a program no interface of its own, so a tunnel takes a machine of that CPU.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use taltun_tests::command::{find, output_of};
use taltun_tests::lab::Role;
use taltun_tests::node::{Keys, Node};
use taltun_tests::sys::{self, Signal};
use taltun_tests::topology::{Pair, WIRE_A};
use taltun_tests::traffic::ping::Pinger;

use super::musl::{self, Musl};
use crate::setup::{self, Program, step};
use crate::workspace::{must_succeed, root};

/// What runs programs for another CPU.
const QEMU: &[Program] = &[
    ("qemu-aarch64-static", "qemu-user-static"),
    ("qemu-x86_64-static", "qemu-user-static"),
];
/// Far more than a tunnel takes to come up.
const LIMIT: Duration = Duration::from_secs(30);
/// The tests that a CPU may fail: they have no I/O.
const TESTED: [&str; 2] = ["taltun-crypto", "taltun-protocol"];

/// Tries `built`, which is for `cpu`; `ours` is one that runs here for sure. Returns what couldn't be
/// tried, and why.
pub fn run(musl: &Musl, cpu: &str, built: &Path, ours: &Path) -> Result<Option<String>> {
    step(&format!("trying the static program for {cpu}"));
    let file = output_of(
        Command::new("readelf")
            .args(["--dynamic", "--wide"])
            .arg(built),
    )?;
    ensure!(
        !file.contains("(NEEDED)"),
        "the static program for {cpu} needs libraries: {file}"
    );
    if musl::is_native(cpu)? {
        try_files(built, ours)?;
        if !sys::is_root() {
            return Ok(Some(format!(
                "a tunnel of the static program for {cpu}: it takes root"
            )));
        }
        tunnel(built)?;
        return Ok(None);
    }
    let qemu = QEMU.iter().find(|(name, _)| name.contains(cpu));
    let qemu = qemu.with_context(|| format!("no QEMU is known for {cpu}"))?;
    let installed = setup::programs(&[*qemu]);
    let (Ok(()), Some(qemu)) = (&installed, find(qemu.0)) else {
        let reason = installed.err().unwrap_or_else(|| anyhow!("no {}", qemu.0));
        return Ok(Some(format!(
            "trying the static program for {cpu}: {reason:#}"
        )));
    };
    // So that what runs programs by their names runs this one.
    let script = built.with_file_name("taltun-by-qemu");
    let text = format!(
        "#!/bin/sh\nexec '{}' '{}' \"$@\"\n",
        qemu.display(),
        built.display()
    );
    fs::write(&script, text)?;
    must_succeed(
        Command::new("chmod").arg("755").arg(&script),
        "make a script executable",
    )?;
    try_files(&script, ours)?;
    must_succeed(
        musl.cargo("test", cpu)?
            .args(["--profile", "lab", "--lib", "--quiet"])
            .args(TESTED.iter().flat_map(|package| ["--package", package]))
            .env(musl::runner(cpu), qemu),
        &format!("pass the tests of {} on {cpu}", TESTED.join(" and ")),
    )?;
    Ok(None)
}

/// Keys and files of configuration: what needs no right.
fn try_files(program: &Path, ours: &Path) -> Result<()> {
    let keys = Keys::generate(program)?;
    let known = Keys::of_private(ours, &keys.private)?;
    ensure!(
        keys.public == known.public,
        "{} and {} make different public keys of one private key",
        program.display(),
        ours.display()
    );
    let mut tried = 0;
    for example in examples()? {
        let checked = |program: &Path| {
            Command::new(program)
                .arg("check")
                .arg("--config")
                .arg(&example)
                .output()
        };
        let (here, known) = (checked(program)?, checked(ours)?);
        ensure!(
            here.stdout == known.stdout && here.status.code() == known.status.code(),
            "{}: {} says {}{}",
            example.display(),
            program.display(),
            String::from_utf8_lossy(&here.stdout),
            String::from_utf8_lossy(&here.stderr)
        );
        tried += 1;
    }
    ensure!(tried > 0, "there are no examples");
    step(&format!(
        "  keys, and check of {tried} files: as they should be"
    ));
    Ok(())
}

fn examples() -> Result<Vec<PathBuf>> {
    let files = output_of(
        Command::new("find")
            .arg(root().join("taltun/dist/examples"))
            .args(["-name", "*.toml"]),
    )?;
    Ok(files.lines().map(PathBuf::from).collect())
}

/// A hub and a client, with XDP on the hub.
fn tunnel(program: &Path) -> Result<()> {
    let pair = Pair::create(&format!("static{}", std::process::id()))?;
    let (hub, client) = (Keys::generate(program)?, Keys::generate(program)?);
    let hub_file = format!(
        "[interface]\nmode = \"server\"\nvip = \"10.200.0.1/24\"\nprivate_key = \"{}\"\n\
         [accel]\nxdp = \"generic\"\ninterfaces = [\"to-right\"]\n\
         [[peers]]\nname = \"client\"\npublic_key = \"{}\"\nvip = \"10.200.0.2\"\n",
        hub.private, client.public
    );
    let client_file = format!(
        "[interface]\nvip = \"10.200.0.2/24\"\nprivate_key = \"{}\"\n\
         [[peers]]\npublic_key = \"{}\"\nvip = \"10.200.0.1\"\nendpoint = \"{}:9000\"\n",
        client.private,
        hub.public,
        WIRE_A.near_v4()
    );
    let hub = Node::start_with_text(&pair.left, program, &hub_file)?;
    let client = Node::start_with_text(&pair.right, program, &client_file)?;
    let mut pinger = Pinger::new(&pair.right, Role::Hub.v4())?;
    let start = Instant::now();
    while pinger.ping(Duration::from_millis(100))?.is_none() {
        ensure!(
            start.elapsed() < LIMIT,
            "the static program makes no tunnel"
        );
    }
    let status = hub.tell(&["status"])?;
    step(&status);
    let xdp = hub.status()?.xdp;
    ensure!(
        xdp.iter().any(|it| it.mode != "off"),
        "the static program has no XDP: {status}"
    );
    client.stop(Signal::Terminate)?;
    hub.stop(Signal::Terminate)
}
