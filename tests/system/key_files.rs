//! Files with a private key in them, on their way in and out: `taltun import` and `export`.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use taltun_tests::command::{finish_within, output_of};
use taltun_tests::netns::Namespace;
use taltun_tests::node::{Keys, Node};
use taltun_tests::sys::Signal;
use taltun_tests::topology::private_prefix;

use crate::support::{Case, UP_LIMIT, taltun};

pub const CASES: &[Case] = &[
    Case {
        name: "import writes a peer's name directly below its [[peers]]",
        programs: &[],
        run: names_stand_first,
    },
    Case {
        name: "import and export warn where others can read the private key that they write",
        programs: &[],
        run: open_to_others,
    },
    Case {
        name: "export without a file points to the running tunnel, and exports it by name",
        programs: &[],
        run: export_of_nothing,
    },
];

/// A wg-quick file with two peers whose names are comments in different places.
fn wg_quick(keys: &Keys) -> Result<String> {
    let (ana, bob) = (Keys::generate(&taltun()?)?, Keys::generate(&taltun()?)?);
    Ok(format!(
        "[Interface]\nPrivateKey = {}\nAddress = 10.0.0.1/24\nListenPort = 9000\n\n\
         # ana\n[Peer]\nPublicKey = {}\nAllowedIPs = 10.0.0.2/32\n\n\
         ### Client bob\n[Peer]\nPublicKey = {}\nAllowedIPs = 10.0.0.3/32\n",
        keys.private, ana.public, bob.public
    ))
}

fn names_stand_first() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let file = directory.path().join("wg0.conf");
    fs::write(&file, wg_quick(&Keys::generate(&taltun()?)?)?)?;
    let toml = output_of(Command::new(taltun()?).arg("import").arg(&file))?;
    let lines: Vec<&str> = toml.lines().collect();
    let below = lines.windows(2).filter(|pair| pair[0] == "[[peers]]");
    let below: Vec<&str> = below.map(|pair| pair[1]).collect();
    ensure!(below == ["name = \"ana\"", "name = \"bob\""], "{toml}");
    Ok(())
}

/// What `taltun` says on standard error when it writes into a new file of this mode.
fn warned(words: &[&str], into: &Path, mode: u32) -> Result<bool> {
    let mut options = OpenOptions::new();
    let out: File = options
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(into)
        .with_context(|| format!("can't make {}", into.display()))?;
    let output = Command::new(taltun()?)
        .args(words)
        .stdin(Stdio::null())
        .stdout(out)
        .output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{words:?}: {said}");
    ensure!(!fs::read_to_string(into)?.is_empty());
    Ok(said.contains("open to others than its owner") && said.contains("run `chmod 600 "))
}

fn open_to_others() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let path = |name: &str| directory.path().join(name);
    let (conf, toml) = (path("wg0.conf"), path("wg0.toml"));
    fs::write(&conf, wg_quick(&Keys::generate(&taltun()?)?)?)?;
    let conf = conf.display().to_string();
    ensure!(
        !warned(&["import", &conf], &toml, 0o600)?,
        "it is ours alone"
    );
    ensure!(warned(&["import", &conf], &path("open.toml"), 0o644)?);
    let toml = toml.display().to_string();
    let export = ["export", "--config", &toml];
    ensure!(!warned(&export, &path("closed.conf"), 0o600)?);
    ensure!(warned(&export, &path("open.conf"), 0o640)?);
    Ok(())
}

fn export_of_nothing() -> Result<()> {
    let namespace = Namespace::create(&private_prefix())?;
    let keys = Keys::generate(&taltun()?)?;
    let text = format!(
        "[interface]\ntun_name = \"taltun0\"\nmode = \"server\"\nvip = \"10.0.0.1/24\"\n\
         private_key = \"{}\"\n",
        keys.private
    );
    let node = Node::start_with_text(&namespace, &taltun()?, &text)?;
    let empty = tempfile::tempdir()?;
    let mut export = node.command();
    let output = finish_within(export.arg("export").current_dir(empty.path()), UP_LIMIT)?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(output.status.code() == Some(2), "{said}");
    ensure!(
        said.contains("config.toml") && said.contains("`taltun export IFACE`"),
        "{said}"
    );
    let file = node.tell(&["export", "taltun0"])?;
    ensure!(
        file.contains(&format!("PrivateKey = {}", keys.private)),
        "{file}"
    );
    node.stop(Signal::Terminate)
}
