//! The recipes of the manual, live: machines in namespaces on a small internet, each with
//! the very file that the manual shows, and what has to be so, and what must not.
//!
//! `cargo xtask run --recipe` shows one, the system tests check all of them.

mod client_server;
mod client_to_client;
mod files;
mod full_tunnel;
pub mod internet;
mod office;
mod road_warriors;
mod site_to_site;

use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::files::FILES;
use crate::leftovers::Before;
use crate::netns::Namespace;
use crate::node::Node;
use crate::programs;
use crate::snapshot::Snapshot;
use crate::sys::Signal;
use crate::traffic::ping::Pinger;
use crate::traffic::service;
use files::Files;
use internet::Link;

/// How long a tunnel may take to come up.
pub const UP_LIMIT: Duration = Duration::from_secs(10);
/// How long an answer may take that is going to come.
pub const ANSWER_LIMIT: Duration = Duration::from_secs(5);
/// How long an answer is waited for that must not come.
pub const SILENCE: Duration = Duration::from_millis(700);

/// One of the recipes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Recipe {
    /// Client and server.
    A,
    /// Road warriors.
    B,
    /// Full tunnel.
    C,
    /// Site to site.
    D,
    /// Client to client.
    E,
    /// An office under rules and limits.
    F,
}

impl Recipe {
    /// What it is called in the manual.
    pub fn title(self) -> &'static str {
        match self {
            Self::A => "A, client and server",
            Self::B => "B, road warriors",
            Self::C => "C, full tunnel",
            Self::D => "D, site to site",
            Self::E => "E, client to client",
            Self::F => "F, an office",
        }
    }

    fn texts(self) -> files::Texts {
        match self {
            Self::A => files::A,
            Self::B => files::B,
            Self::C => files::C,
            Self::D => files::D,
            Self::E => files::E,
            Self::F => files::F,
        }
    }
}

/// Something that has to be so, and whether it is: what was seen, or what was wrong.
#[derive(Debug)]
pub struct Finding {
    /// What was looked at.
    pub name: &'static str,
    /// What came of it.
    pub outcome: Result<String>,
}

/// What is told while a recipe is checked.
#[derive(Debug)]
pub enum Told {
    /// This is being looked at.
    Looking(&'static str),
    /// This came of it.
    Found(Finding),
}

/// A machine of a recipe.
#[derive(Debug)]
pub struct Machine {
    /// What the recipe calls it.
    pub name: &'static str,
    /// Its Taltun, if it has one that runs. Goes before its namespace does.
    pub node: Option<Node>,
    /// Its network.
    pub namespace: Namespace,
    untouched: Snapshot,
}

/// A recipe that runs; dropping it takes it down.
#[derive(Debug)]
pub struct Deployment {
    /// Which one.
    pub recipe: Recipe,
    /// Its machines, with and without Taltun.
    pub machines: Vec<Machine>,
    internet: Namespace,
    prefix: String,
    taltun: PathBuf,
    files: Files,
    etc: Etc,
    before: Before,
}

/// A directory with what a machine's resolver is; removed with it.
#[derive(Debug)]
struct Etc(PathBuf);

impl Drop for Etc {
    fn drop(&mut self) {
        // It is made only where a recipe sets the resolver.
        let _ = fs::remove_dir_all(&self.0);
    }
}

impl Deployment {
    /// Builds the machines of `recipe`, in namespaces that are named `PREFIX-…`, and starts
    /// Taltun on those that have a file.
    pub fn start(recipe: Recipe, prefix: &str, taltun: &Path) -> Result<Self> {
        let before = Before::look(prefix)?;
        let internet = Namespace::create(&format!("{prefix}-net"))?;
        internet::make_router(&internet)?;
        let mut deployment = Self {
            recipe,
            machines: Vec::new(),
            internet,
            prefix: prefix.to_owned(),
            taltun: taltun.to_owned(),
            files: Files::with_new_keys(recipe.texts(), taltun)?,
            etc: Etc(Path::new(FILES).join(format!("{prefix}-etc"))),
            before,
        };
        match recipe {
            Recipe::A => client_server::build(&mut deployment)?,
            Recipe::B => road_warriors::build(&mut deployment)?,
            Recipe::C => full_tunnel::build(&mut deployment)?,
            Recipe::D => site_to_site::build(&mut deployment)?,
            Recipe::E => client_to_client::build(&mut deployment)?,
            Recipe::F => office::build(&mut deployment)?,
        }
        Ok(deployment)
    }

    /// Looks at all that has to be so. One that isn't doesn't keep the others from being
    /// looked at.
    pub fn check(&mut self) -> Vec<Finding> {
        let mut all = Vec::new();
        self.check_and_tell(&mut |told| {
            if let Told::Found(finding) = told {
                all.push(finding);
            }
            true
        });
        all
    }

    /// The same, told one by one as it goes on; what is left is left out as soon as `tell` says
    /// no.
    pub fn check_and_tell(&mut self, tell: &mut dyn FnMut(Told) -> bool) {
        let findings = &mut Findings { tell, go_on: true };
        match self.recipe {
            Recipe::A => client_server::check(self, findings),
            Recipe::B => road_warriors::check(self, findings),
            Recipe::C => full_tunnel::check(self, findings),
            Recipe::D => site_to_site::check(self, findings),
            Recipe::E => client_to_client::check(self, findings),
            Recipe::F => office::check(self, findings),
        }
    }

    /// The Taltun and the network of a machine, and the internet, whose end of the machine's wire is
    /// named `to-MACHINE`.
    pub fn node_and_networks(&mut self, name: &str) -> Result<(&mut Node, &Namespace, &Namespace)> {
        let machine = self
            .machines
            .iter_mut()
            .find(|machine| machine.name == name);
        let machine = machine.with_context(|| format!("the recipe has no {name}"))?;
        let node = machine.node.as_mut();
        let node = node.with_context(|| format!("{name} has no Taltun that runs"))?;
        Ok((node, &machine.namespace, &self.internet))
    }

    /// A machine by its name.
    pub fn machine(&self, name: &str) -> Result<&Machine> {
        let machine = self.machines.iter().find(|machine| machine.name == name);
        machine.with_context(|| format!("the recipe has no {name}"))
    }

    /// The network of a machine.
    pub fn namespace(&self, name: &str) -> Result<&Namespace> {
        Ok(&self.machine(name)?.namespace)
    }

    /// The Taltun of a machine.
    pub fn node(&self, name: &str) -> Result<&Node> {
        let node = self.machine(name)?.node.as_ref();
        node.with_context(|| format!("{name} has no Taltun that runs"))
    }

    /// Kills every Taltun, starts it again and stops it in order; then every machine has to
    /// be as it was before the first start. Says what isn't.
    pub fn end(mut self) -> Result<()> {
        let mut faults = Vec::new();
        for machine in &mut self.machines {
            if let Some(mut node) = machine.node.take() {
                node.kill()?;
                if let Err(error) = node.start_again(&machine.namespace) {
                    faults.push(format!("{} after SIGKILL: {error:#}", machine.name));
                }
                if let Err(error) = node.stop(Signal::Terminate) {
                    faults.push(format!("{}: {error:#}", machine.name));
                }
            }
            let now = Snapshot::take(&machine.namespace)?;
            let changes = machine.untouched.difference(&now);
            // Forwarding stays on, as the manual says.
            let stays = |change: &&String| {
                // And with it IPv6 routers' common addresses.
                ["ipv4/ip_forward", "ipv6/conf/", "route anycast"]
                    .iter()
                    .any(|word| change.contains(word))
            };
            faults.extend(
                changes
                    .iter()
                    .filter(|change| !stays(change))
                    .map(|change| format!("{}: {change}", machine.name)),
            );
        }
        if let Ok(resolv) = fs::read_to_string(self.resolv_conf())
            && resolv != FIRST_RESOLV_CONF
        {
            faults.push(format!("resolv.conf is {resolv:?}"));
        }
        drop((self.machines, self.internet, self.etc));
        // Fails, rightly, while others have theirs in it.
        let _ = fs::remove_dir(FILES);
        faults.extend(self.before.leftovers()?);
        ensure!(faults.is_empty(), "{}", faults.join("; "));
        Ok(())
    }

    /// Adds a machine, connected to the internet by `eth0`.
    fn add_machine(&mut self, name: &'static str, link: Link) -> Result<&Namespace> {
        let namespace = Namespace::create(&format!("{}-{name}", self.prefix))?;
        let end = format!("to-{name}");
        internet::connect((&namespace, "eth0"), (&self.internet, &end), link, true)?;
        self.adopt(name, namespace)
    }

    /// Adds a machine that is connected already.
    fn adopt(&mut self, name: &'static str, namespace: Namespace) -> Result<&Namespace> {
        let untouched = Snapshot::take(&namespace)?;
        self.machines.push(Machine {
            name,
            node: None,
            namespace,
            untouched,
        });
        self.namespace(name)
    }

    /// Starts Taltun on `name` with the recipe's file of this name. One that runs there is
    /// stopped first.
    fn start_node(&mut self, name: &str, file: &str) -> Result<()> {
        let text = self.files.text(file)?.to_owned();
        self.start_node_with(name, &text)
    }

    /// The same with any text.
    fn start_node_with(&mut self, name: &str, text: &str) -> Result<()> {
        let (taltun, through) = (self.taltun.clone(), self.through()?);
        let machine = self
            .machines
            .iter_mut()
            .find(|machine| machine.name == name);
        let machine = machine.with_context(|| format!("the recipe has no {name}"))?;
        if let Some(node) = machine.node.take() {
            node.stop(Signal::Terminate)?;
        }
        let through = if text.contains("\ndns = ") {
            through
        } else {
            Vec::new()
        };
        let through: Vec<&str> = through.iter().map(String::as_str).collect();
        machine.node = Some(Node::start_through(
            &machine.namespace,
            &taltun,
            text,
            &through,
        )?);
        Ok(())
    }

    /// A `resolvconf` that keeps its `resolv.conf` where the machine's programs, which are
    /// ours, look for it. The host's own resolver must never hear of a lab.
    fn through(&self) -> Result<Vec<String>> {
        let etc = &self.etc.0;
        if !etc.exists() {
            fs::create_dir_all(etc)?;
            fs::write(self.resolv_conf(), FIRST_RESOLV_CONF)?;
            let program = etc.join("resolvconf");
            programs::write(&program, &RESOLVCONF.replace("ETC", &etc.to_string_lossy()))?;
        }
        // `ip netns exec` has given us mounts of our own.
        let script = format!(
            "[ ! -d /run/systemd ] || mount -t tmpfs none /run/systemd; PATH={}:$PATH exec \"$@\"",
            etc.display()
        );
        Ok(["sh", "-c", &script, "sh"].map(str::to_owned).to_vec())
    }

    fn resolv_conf(&self) -> PathBuf {
        self.etc.0.join("resolv.conf")
    }
}

/// The resolver that a machine has by itself: the router at home.
const FIRST_RESOLV_CONF: &str = "nameserver 192.168.1.1\n";

const RESOLVCONF: &str = r"#!/bin/sh
# resolvconf -a NAME [-m METRIC] [-x] < TEXT; resolvconf -d NAME [-f]
case $1 in
-a) [ -e ETC/before ] || cp ETC/resolv.conf ETC/before
    cat > ETC/resolv.conf ;;
-d) [ ! -e ETC/before ] || mv ETC/before ETC/resolv.conf ;;
*) exit 1 ;;
esac
";

/// What is looked at, in its order.
struct Findings<'a> {
    tell: &'a mut dyn FnMut(Told) -> bool,
    /// Whether somebody still wants to know.
    go_on: bool,
}

impl Findings<'_> {
    fn look(&mut self, name: &'static str, at: impl FnOnce() -> Result<String>) {
        self.go_on = self.go_on && (self.tell)(Told::Looking(name));
        if self.go_on {
            let outcome = at();
            self.go_on = (self.tell)(Told::Found(Finding { name, outcome }));
        }
    }
}

/// `to` answers pings from `from`.
fn answers(from: &Namespace, to: &str) -> Result<String> {
    let to: IpAddr = to.parse()?;
    let mut pinger = Pinger::new(from, to)?;
    pinger.wait_until_answered(UP_LIMIT)?;
    let answered = pinger.count_answers(3, ANSWER_LIMIT)?;
    ensure!(answered == 3, "{to} answered {answered} of 3 pings");
    Ok(format!("{to} answered 3 of 3 pings"))
}

/// `to` answers no ping from `from`.
fn silent(from: &Namespace, to: &str) -> Result<String> {
    let to: IpAddr = to.parse()?;
    let mut pinger = Pinger::new(from, to)?;
    for _ in 0..3 {
        // A request that isn't even sent is as good as one that isn't answered.
        let answered = pinger.ping(SILENCE).unwrap_or_default().is_some();
        ensure!(!answered, "{to} answered a ping");
    }
    Ok(format!("{to} answered none of 3 pings"))
}

/// A service can be reached, and sees `expected`.
fn sees(from: &Namespace, service: &str, expected: &str) -> Result<String> {
    let (service, expected): (SocketAddr, IpAddr) = (service.parse()?, expected.parse()?);
    let seen = service::visit(from, service, ANSWER_LIMIT)?;
    ensure!(seen == expected, "{service} saw {seen}, not {expected}");
    Ok(format!("{service} saw {seen}"))
}

/// A service can't be reached.
fn closed(from: &Namespace, service: &str) -> Result<String> {
    let service: SocketAddr = service.parse()?;
    let how = service::ensure_closed(from, service, SILENCE)?;
    Ok(format!("{service}: {how}"))
}
