//! The Vagrant lab without Vagrant: its provisioning scripts and node files, and every command
//! of the walk in its README, in three network namespaces.
//!
//! The commands are read from the page, so what people copy is what is tested; what they have to
//! show beyond their exit codes is in `vagrant_shown.rs`. One step needs netem,
//! which not every kernel has: it is a test of its own, and `cargo xtask vm` runs it on one that does.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use taltun_tests::programs;
use taltun_tests::sys::{self, Signal};

use crate::page_walk::{Machines, commands};
use crate::support::{Case, NETEM, eventually, taltun};
use crate::vagrant_shown::Shown;

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
const NAMES: [&str; 3] = [NODES[0].0, NODES[1].0, NODES[2].0];
const START_LIMIT: Duration = Duration::from_secs(10);

const WALK: &[&str] = &["iptables", "nft", "nc", "ping", "tc", "tcpdump", "unshare"];

pub const CASES: &[Case] = &[
    Case {
        name: "vagrant: the provisioning brings the tunnel up, and the talk's walk is as its page says",
        programs: WALK,
        run: || Talk::start()?.walk(false),
    },
    Case {
        name: "vagrant: half a second in one place makes a second between clients",
        programs: &["ping", "tc", "unshare", NETEM],
        run: || Talk::start()?.walk(true),
    },
];

/// The three machines.
struct Talk {
    machines: Machines,
}

impl Talk {
    /// What `vagrant up` does.
    fn start() -> Result<Self> {
        let mut machines = Machines::new("talk")?;
        for (name, text) in FILES {
            let path = machines.directory().join("checkout").join(name);
            fs::create_dir_all(path.parent().context("a file in a directory")?)?;
            fs::write(&path, text)?;
        }
        for (name, number) in NODES {
            machines.add(name, "eth1", &format!("10.0.123.{number}/24"))?;
        }
        let mut talk = Self { machines };
        for (name, _) in NODES {
            talk.provision(name)?;
        }
        Ok(talk)
    }

    /// Runs the provisioning scripts of a machine, and in systemd's place what the service says.
    fn provision(&mut self, name: &'static str) -> Result<()> {
        // Into a directory of its own, with an apt-get that has everything already.
        let stubs = self.machines.directory().join("stubs");
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
        let installed = self.provisioned(name, &format!("unshare -m sh -c '{script}'"))?;
        ensure!(
            installed.contains("taltun "),
            "install.sh printed {installed:?}"
        );
        let configure = self.provisioning("configure.sh");
        let checked =
            self.provisioned(name, &format!("{hide} sh {} {name}", configure.display()))?;
        ensure!(checked.contains("ok"), "configure.sh printed {checked:?}");

        let command = SERVICE
            .lines()
            .find_map(|line| line.strip_prefix("ExecStart="))
            .context("the service has no ExecStart")?
            .replace("%i", "lab")
            .replace("/etc/taltun", &self.etc(name).to_string_lossy());
        self.machines.start(name, &command)?;
        let started = self.machines.run(
            name,
            &format!("{hide} sh {}", self.provisioning("start.sh").display()),
        )?;
        ensure!(started.contains("wg0"), "start.sh printed {started:?}");
        if name == "vpn-core" {
            ensure!(
                started.contains("shield   generic XDP"),
                "there is no shield: {started}"
            );
        }
        Ok(())
    }

    /// Goes through the page. The step with netem is all that is done if `netem`, and left
    /// out else.
    fn walk(self, netem: bool) -> Result<()> {
        let mut shown = Shown::default();
        let commands = commands(README, &NAMES);
        let delays = |step| {
            let mut of_step = commands.iter().filter(|typed| typed.step == step);
            of_step.any(|typed| typed.command.contains("netem"))
        };
        for typed in &commands {
            // The first step shows that all of them reach each other.
            if delays(typed.step) != netem && !(netem && typed.step.starts_with("1.")) {
                continue;
            }
            let output = self.machines.follow(typed)?;
            shown.add(typed.step, typed.command, output);
        }
        shown.reached()?;
        if netem {
            shown.delayed()?;
        } else {
            shown.all_but_delays()?;
        }
        self.end()
    }

    /// All stop in order.
    fn end(mut self) -> Result<()> {
        for (daemon, (name, _)) in self.machines.daemons.iter_mut().zip(NODES) {
            sys::send_signal(daemon.id(), Signal::Terminate)?;
            eventually("the daemon stops", START_LIMIT, || {
                Ok(daemon.try_wait()?.is_some())
            })
            .with_context(|| name.to_owned())?;
        }
        Ok(())
    }

    /// Runs a provisioning script, with our own directories for what it uses of the machine.
    fn provisioned(&self, name: &str, command: &str) -> Result<String> {
        let exports = format!(
            "export TALTUN_BINARY={} TALTUN_CHECKOUT={} TALTUN_ETC={};",
            taltun()?.display(),
            self.machines.directory().join("checkout").display(),
            self.etc(name).display()
        );
        self.machines.run(name, &format!("{exports} {command}"))
    }

    fn etc(&self, machine: &str) -> PathBuf {
        self.machines.home(machine).join("etc")
    }

    fn provisioning(&self, script: &str) -> PathBuf {
        let scripts = self.machines.directory().join("checkout/vagrant/provision");
        scripts.join(script)
    }
}
