//! The Vagrant lab without Vagrant: its provisioning scripts and node files, and every command
//! of the walk in its README, in three network namespaces.
//!
//! The commands are read from the page, so what people copy is what is tested. What one has
//! to show beyond its exit code is here. One step needs netem, which not every kernel has: it
//! is a test of its own, and `cargo xtask vm` runs it on one that does.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::unix::fs::symlink;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use taltun_tests::netns::Namespace;
use taltun_tests::node::RUNTIME_DIR;
use taltun_tests::programs;
use taltun_tests::sys::{self, Signal};
use taltun_tests::topology::private_prefix;

use crate::support::{Case, NETEM, eventually, taltun};

const README: &str = include_str!("../../vagrant/README.md");
const SERVICE: &str = include_str!("../../taltun/dist/systemd/taltun@.service");
const FILES: &[(&str, &str)] = &[
    (
        "vagrant/provision/install.sh",
        include_str!("../../vagrant/provision/install.sh"),
    ),
    (
        "vagrant/provision/configure.sh",
        include_str!("../../vagrant/provision/configure.sh"),
    ),
    (
        "vagrant/provision/start.sh",
        include_str!("../../vagrant/provision/start.sh"),
    ),
    (
        "vagrant/nodes/vpn-core.toml",
        include_str!("../../vagrant/nodes/vpn-core.toml"),
    ),
    (
        "vagrant/nodes/client-a.toml",
        include_str!("../../vagrant/nodes/client-a.toml"),
    ),
    (
        "vagrant/nodes/client-b.toml",
        include_str!("../../vagrant/nodes/client-b.toml"),
    ),
];
const NODES: [(&str, u8); 3] = [("vpn-core", 2), ("client-a", 3), ("client-b", 4)];
const START_LIMIT: Duration = Duration::from_secs(10);

const WALK: &[&str] = &["nft", "nc", "ping", "tcpdump", "unshare"];

pub const CASES: &[Case] = &[
    Case {
        name: "vagrant: the provisioning brings the tunnel up, and the talk's walk is as its page says",
        programs: WALK,
        run: || Talk::start()?.walk(false),
    },
    Case {
        name: "vagrant: half a second each way makes a second",
        programs: &["nft", "nc", "ping", "tcpdump", "unshare", "tc", NETEM],
        run: || Talk::start()?.walk(true),
    },
];

/// The three machines. In this order, as the daemons have to go before their namespaces do.
struct Talk {
    daemons: Vec<Child>,
    machines: Vec<(&'static str, Namespace)>,
    _switch: Namespace,
    directory: Directory,
}

struct Directory(PathBuf);

impl Drop for Directory {
    fn drop(&mut self) {
        // Nothing else to do about what can't be removed.
        let _ = fs::remove_dir_all(&self.0);
    }
}

impl Drop for Talk {
    fn drop(&mut self) {
        for daemon in &mut self.daemons {
            let _ = daemon.kill();
            let _ = daemon.wait();
        }
    }
}

impl Talk {
    /// What `vagrant up` does.
    fn start() -> Result<Self> {
        let prefix = private_prefix();
        let directory = Directory(std::env::temp_dir().join(format!("{prefix}-talk")));
        for (name, text) in FILES {
            let path = directory.0.join("checkout").join(name);
            fs::create_dir_all(path.parent().context("a file in a directory")?)?;
            fs::write(&path, text)?;
        }
        let bin = directory.0.join("bin");
        fs::create_dir_all(&bin)?;
        symlink(taltun()?, bin.join("taltun"))?;

        let switch = Namespace::create(&format!("{prefix}-switch"))?;
        switch.ip("link add lab type bridge")?;
        switch.ip("link set lab up")?;
        let mut machines = Vec::new();
        for (name, number) in NODES {
            let namespace = Namespace::create(&format!("{prefix}-{name}"))?;
            switch.ip(&format!(
                "link add {name} type veth peer name eth1 netns {}",
                namespace.name()
            ))?;
            switch.ip(&format!("link set {name} master lab up"))?;
            namespace.ip(&format!("addr add 10.0.123.{number}/24 dev eth1"))?;
            namespace.ip("link set eth1 up")?;
            machines.push((name, namespace));
        }
        let mut talk = Self {
            daemons: Vec::new(),
            machines,
            _switch: switch,
            directory,
        };
        for (name, _) in NODES {
            talk.provision(name)?;
        }
        Ok(talk)
    }

    /// Runs the provisioning scripts of a machine, and in systemd's place what the service says.
    fn provision(&mut self, name: &'static str) -> Result<()> {
        // Into a directory of its own, with an apt-get that has everything already.
        let stubs = self.directory.0.join("stubs");
        fs::create_dir_all(&stubs)?;
        let apt = stubs.join("apt-get");
        programs::write(&apt, "#!/bin/sh\n")?;
        // Nor may the systemd of this machine hear of it.
        let hide = "[ ! -d /run/systemd ] || mount -t tmpfs none /run/systemd;";
        let script = format!(
            "mount -t tmpfs none /usr/local/bin && PATH={}:$PATH sh {}",
            stubs.display(),
            self.provisioning("install.sh").display()
        );
        let installed = self.run(name, &format!("unshare -m sh -c '{script}'"))?;
        ensure!(
            installed.contains("taltun "),
            "install.sh printed {installed:?}"
        );
        let configure = self.provisioning("configure.sh");
        let checked = self.run(name, &format!("{hide} sh {} {name}", configure.display()))?;
        ensure!(checked.contains("ok"), "configure.sh printed {checked:?}");

        let command = SERVICE
            .lines()
            .find_map(|line| line.strip_prefix("ExecStart="))
            .context("the service has no ExecStart")?
            .replace("%i", "lab")
            .replace(
                "/etc/taltun",
                &self.home(name).join("etc").to_string_lossy(),
            );
        let log = File::create(self.home(name).join("log"))?;
        let daemon = self
            .shell(name, &format!("exec {command}"))?
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .process_group(0)
            .spawn()?;
        self.daemons.push(daemon);
        let started = self.run(
            name,
            &format!("{hide} sh {}", self.provisioning("start.sh").display()),
        )?;
        ensure!(started.contains("tun0"), "start.sh printed {started:?}");
        if name == "vpn-core" {
            ensure!(
                started.contains("eth1"),
                "there are no XDP statistics: {started}"
            );
        }
        Ok(())
    }

    /// Goes through the page. The step with netem is all that is done if `netem`, and left
    /// out else.
    fn walk(self, netem: bool) -> Result<()> {
        let mut printed: BTreeMap<&str, Vec<String>> = BTreeMap::new();
        for (step, machine, command) in commands() {
            let is_netem = step.starts_with("3.");
            // The first step shows that all of them reach each other.
            if is_netem != netem && !(netem && step.starts_with("1.")) {
                continue;
            }
            // Each machine has a /tmp of its own.
            let command = command.replace("/tmp/", &format!("{}/", self.home(machine).display()));
            let output = self
                .run(machine, &command)
                .with_context(|| format!("step {step:?}"))?;
            printed.entry(step).or_default().push(output);
        }
        let outputs = |number: &str| -> Result<&Vec<String>> {
            let found = printed.iter().find(|(step, _)| step.starts_with(number));
            Ok(found
                .with_context(|| format!("the page has no step {number}"))?
                .1)
        };

        let counted = outputs("1.")?.last().context("a last command")?;
        for sender in ["10.0.123.3", "10.0.123.4", "192.168.4.3", "192.168.4.4"] {
            ensure!(
                counted.contains(sender),
                "{sender} isn't counted: {counted}"
            );
        }
        if netem {
            return self.check_delay(outputs("3.")?);
        }
        let banned = outputs("2.")?;
        ensure!(
            banned[1].contains("100% packet loss"),
            "the ban changed nothing: {}",
            banned[1]
        );
        ensure!(banned[3].contains("inner_denied"), "{}", banned[3]);
        let captured = outputs("6.")?.last().context("a last command")?;
        ensure!(
            captured.contains("10.0.123.3.9000 > 10.0.123.2.9000: UDP")
                && captured.contains("192.168.4.3 > 192.168.4.2: ICMP echo request"),
            "tcpdump saw {captured}"
        );
        self.end()
    }

    fn check_delay(self, outputs: &[String]) -> Result<()> {
        let pings = &outputs[2];
        // rtt min/avg/max/mdev = 1000.5/1000.9/1001.4/0.3 ms
        let median: Option<f64> = pings.lines().find_map(|line| {
            line.strip_prefix("rtt ")?
                .split(['=', '/'])
                .nth(5)?
                .trim()
                .parse()
                .ok()
        });
        let average = median.with_context(|| format!("ping printed {pings}"))?;
        ensure!(
            (1000.0..2000.0).contains(&average),
            "a ping took {average} ms"
        );
        self.end()
    }

    /// All stop in order.
    fn end(mut self) -> Result<()> {
        for (daemon, (name, _)) in self.daemons.iter_mut().zip(NODES) {
            sys::send_signal(daemon.id(), Signal::Terminate)?;
            eventually("the daemon stops", START_LIMIT, || {
                Ok(daemon.try_wait()?.is_some())
            })
            .with_context(|| name.to_owned())?;
        }
        Ok(())
    }

    /// Runs a command of the page on a machine, as its root would; it has to succeed.
    fn run(&self, machine: &str, command: &str) -> Result<String> {
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

    /// `command` for a shell on a machine, with its own directories for what the others have
    /// on machines of their own.
    fn shell(&self, machine: &str, command: &str) -> Result<Command> {
        let (_, namespace) = self
            .machines
            .iter()
            .find(|(name, _)| *name == machine)
            .with_context(|| format!("the page speaks of {machine}"))?;
        let home = self.home(machine);
        fs::create_dir_all(home.join("run"))?;
        let mut path = self.directory.0.join("bin").into_os_string();
        path.push(":");
        path.push(std::env::var_os("PATH").unwrap_or_default());
        let mut shell = namespace.command("bash");
        shell
            .args(["-c", command])
            .env("PATH", path)
            .env("TALTUN_BINARY", taltun()?)
            .env("TALTUN_CHECKOUT", self.directory.0.join("checkout"))
            .env("TALTUN_ETC", home.join("etc"))
            .env(RUNTIME_DIR, home.join("run"));
        Ok(shell)
    }

    fn home(&self, machine: &str) -> PathBuf {
        self.directory.0.join(machine)
    }

    fn provisioning(&self, script: &str) -> PathBuf {
        Path::new(&self.directory.0)
            .join("checkout/vagrant/provision")
            .join(script)
    }
}

/// The commands of the page for our three machines: the step, the machine, the command.
fn commands() -> Vec<(&'static str, &'static str, &'static str)> {
    let mut step = "";
    let mut commands = Vec::new();
    for line in README.lines() {
        if let Some(title) = line.strip_prefix("## ") {
            step = title;
        }
        if let Some((machine, command)) = line.split_once("# ")
            && NODES.iter().any(|(name, _)| *name == machine)
        {
            commands.push((step, machine, command));
        }
    }
    commands
}
