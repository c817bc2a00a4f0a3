//! The commands that a page of documentation tells its reader to type on machines, typed: what people
//! copy is what is tested.
//!
//! A command is a line of the page such as `hub# taltun status`. Each machine is a network namespace
//! with a directory of its own for what machines don't share, which is also where its commands run.

use std::fs::{self, File};
use std::os::unix::fs::symlink;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, bail, ensure};
use taltun_tests::netns::Namespace;
use taltun_tests::node::keep_in;
use taltun_tests::topology::private_prefix;

use crate::support::taltun;

/// A command of a page.
pub struct Typed {
    /// The heading that it stands below.
    pub step: &'static str,
    /// The machine that it is typed on.
    pub machine: &'static str,
    /// The command.
    pub command: &'static str,
    /// The lines that the page shows of what it prints: a block of text right below, without empty lines.
    pub shown: Vec<&'static str>,
}

impl Typed {
    /// Whether `output` has the lines that the page shows, in their order; `…` stands for anything.
    pub fn check(&self, output: &str) -> Result<()> {
        let mut printed = output.lines();
        for line in &self.shown {
            ensure!(
                printed.any(|other| is_shown_as(line, other)),
                "step {:?}, `{}`: the page shows {line:?}, but it printed {output}",
                self.step,
                self.command
            );
        }
        Ok(())
    }
}

/// Whether a line of a page may stand for a line of output.
fn is_shown_as(line: &str, printed: &str) -> bool {
    let mut rest = printed.trim();
    let mut pieces = line.trim().split('…').map(str::trim);
    let first = pieces.next().unwrap_or_default();
    let Some(after) = rest.strip_prefix(first) else {
        return false;
    };
    rest = after;
    let mut is_open = false;
    for piece in pieces {
        let Some((_, after)) = rest.split_once(piece) else {
            return false;
        };
        rest = after;
        is_open = piece.is_empty();
    }
    is_open || rest.is_empty()
}

/// The commands of a page for these machines.
pub fn commands(page: &'static str, machines: &[&str]) -> Vec<Typed> {
    let mut step = "";
    let mut commands: Vec<Typed> = Vec::new();
    // What a block of text is about, if anything.
    let (mut above, mut is_text) = (None, false);
    for line in page.lines() {
        if let Some(title) = line.strip_prefix("## ") {
            step = title;
        }
        if let Some((machine, command)) = line.split_once("# ")
            && machines.contains(&machine)
        {
            above = Some(commands.len());
            commands.push(Typed {
                step,
                machine,
                command,
                shown: Vec::new(),
            });
        } else if line.starts_with("```") {
            is_text = line == "```text" && above.is_some();
        } else if let Some(about) = above.filter(|_| is_text) {
            commands[about].shown.push(line);
        } else if !line.is_empty() {
            above = None;
        }
    }
    for typed in &mut commands {
        typed.shown.retain(|line| !line.is_empty());
    }
    commands
}

/// The machines of a page, on one switch. In this order, as what runs on them has to go before their
/// namespaces do, and they before what joins them.
pub struct Machines {
    /// What runs on them until the end.
    pub daemons: Vec<Child>,
    namespaces: Vec<(&'static str, Namespace)>,
    /// It has a port with the name of each machine.
    pub switch: Namespace,
    prefix: String,
    directory: PathBuf,
}

impl Drop for Machines {
    fn drop(&mut self) {
        for daemon in &mut self.daemons {
            let _ = daemon.kill();
            let _ = daemon.wait();
        }
        // Nothing else to do about what can't be removed.
        let _ = fs::remove_dir_all(&self.directory);
    }
}

impl Machines {
    /// None yet; `name` is in that of their directory.
    pub fn new(name: &str) -> Result<Self> {
        let prefix = private_prefix();
        let switch = Namespace::create(&format!("{prefix}-switch"))?;
        switch.ip("link add lab type bridge")?;
        switch.ip("link set lab up")?;
        let machines = Self {
            daemons: Vec::new(),
            namespaces: Vec::new(),
            switch,
            directory: std::env::temp_dir().join(format!("{prefix}-{name}")),
            prefix,
        };
        let bin = machines.directory.join("bin");
        fs::create_dir_all(&bin)?;
        symlink(taltun()?, bin.join("taltun"))?;
        Ok(machines)
    }

    /// Adds a machine with this address and prefix length on its one card.
    pub fn add(&mut self, name: &'static str, card: &str, address: &str) -> Result<()> {
        let namespace = Namespace::create(&format!("{}-{name}", self.prefix))?;
        self.switch.ip(&format!(
            "link add {name} type veth peer name {card} netns {}",
            namespace.name()
        ))?;
        self.switch.ip(&format!("link set {name} master lab up"))?;
        namespace.ip(&format!("addr add {address} dev {card}"))?;
        namespace.ip(&format!("link set {card} up"))?;
        fs::create_dir_all(self.home(name).join("run"))?;
        self.namespaces.push((name, namespace));
        Ok(())
    }

    /// Starts a command that runs until the end; what it says is in a file of its machine's.
    pub fn start(&mut self, machine: &str, command: &str) -> Result<()> {
        let log = File::create(self.home(machine).join("log"))?;
        let daemon = self
            .shell(machine, &format!("exec {command}"))?
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .process_group(0)
            .spawn()?;
        self.daemons.push(daemon);
        Ok(())
    }

    /// What all of them share.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// The directory of a machine.
    pub fn home(&self, machine: &str) -> PathBuf {
        self.directory.join(machine)
    }

    /// Runs a command of the page; each machine has a /tmp and an /etc/taltun of its own.
    pub fn follow(&self, typed: &Typed) -> Result<String> {
        let home = self.home(typed.machine);
        let command = typed
            .command
            .replace("/tmp/", &format!("{}/", home.display()));
        let command = command.replace("/etc/taltun/", &format!("{}/etc/", home.display()));
        self.run(typed.machine, &command)
            .with_context(|| format!("step {:?}", typed.step))
    }

    /// Runs a command on a machine, as its root would; it has to succeed.
    pub fn run(&self, machine: &str, command: &str) -> Result<String> {
        let output = self
            .shell(machine, command)?
            .stdin(Stdio::null())
            .output()
            .with_context(|| format!("can't run {command}"))?;
        let said = format!(
            "{}{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
        if !output.status.success() {
            bail!(
                "on {machine}, `{command}` failed ({}): {said}",
                output.status
            );
        }
        Ok(said)
    }

    /// `command` for a shell on a machine.
    pub fn shell(&self, machine: &str, command: &str) -> Result<Command> {
        let (_, namespace) = self
            .namespaces
            .iter()
            .find(|(name, _)| *name == machine)
            .with_context(|| format!("the page speaks of {machine}"))?;
        let home = self.home(machine);
        let mut path = self.directory.join("bin").into_os_string();
        path.push(":");
        path.push(std::env::var_os("PATH").unwrap_or_default());
        let mut shell = namespace.command("bash");
        shell
            .args(["-c", command])
            .current_dir(&home)
            .env("PATH", path);
        keep_in(&mut shell, &home.join("run"));
        Ok(shell)
    }
}
