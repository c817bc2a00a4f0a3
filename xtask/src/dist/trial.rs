//! The Debian package tried as a user would: in a bare Debian whose own systemd runs, in a container,
//! with a stock client on the other end of a wire.
//!
//! What is to be so is checked: the unit is ready when the tunnel answers, a file with a mistake fails
//! `systemctl reload`, the hardening leaves all that the tunnel needs, an upgrade over itself costs a
//! pinging client less than [`LONGEST_GAP`], and after purging the file system is as it was.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use taltun_tests::command::{finish_within, wait_for};
use taltun_tests::lab::Role;
use taltun_tests::node::{Keys, Node};
use taltun_tests::sys::{self, Signal, send_signal};
use taltun_tests::topology::{Pair, WIRE_A};
use taltun_tests::traffic::ping::Pinger;

use super::debian::Debian;
use crate::setup::{self, Program, step};

const PROGRAMS: &[Program] = &[
    ("debootstrap", "debootstrap"),
    ("ip", "iproute2"),
    ("nsenter", "util-linux"),
    ("systemd-nspawn", "systemd-container"),
];
/// The most that an upgrade may cost a client.
const LONGEST_GAP: Duration = Duration::from_secs(3);
/// Far more than any step takes.
const LIMIT: Duration = Duration::from_secs(120);
/// Installs `deb` and does all that is above; `program` is the client's.
pub fn run(deb: &Path, program: &Path) -> Result<()> {
    ensure!(sys::is_root(), "trying the package takes root");
    setup::programs(PROGRAMS)?;
    let mut times = Vec::new();
    let mut took = |what: &'static str, start: Instant| {
        step(&format!("{what}: {:.1} s", start.elapsed().as_secs_f64()));
        times.push((what, start.elapsed()));
    };
    let start = Instant::now();
    let debian = Debian::fresh()?;
    took("a bare Debian", start);
    let before = debian.files()?;

    let pair = Pair::create(&format!("dist{}", std::process::id()))?;
    let start = Instant::now();
    let machine = Machine::boot(&debian, pair.left.name())?;
    took("its systemd boots", start);

    let start = Instant::now();
    let copy = debian.path().join("root/taltun.deb");
    fs::copy(deb, &copy)?;
    machine.sh("dpkg -i /root/taltun.deb")?;
    took("dpkg -i", start);

    let (hub, client) = (Keys::generate(program)?, Keys::generate(program)?);
    let file = hub_file(&client.public);
    machine.write("etc/taltun/hub.key", &hub.private)?;
    machine.write("etc/taltun/hub.toml", &file)?;
    let start = Instant::now();
    machine.sh("systemctl enable --now taltun@hub")?;
    took("systemctl enable --now taltun@hub", start);
    machine.sh("taltun status >/dev/null")?;
    ensure!(
        machine.sh("cat /proc/sys/net/ipv4/ip_forward")?.trim() == "1",
        "the unit may not change the kernel's settings"
    );
    machine.sh("nft list table inet taltun-taltun0 >/dev/null")?;

    let start = Instant::now();
    let client = Node::start_with_text(&pair.right, program, &client_file(&client, &hub))?;
    let mut pinger = Pinger::new(&pair.right, Role::Hub.v4())?;
    while pinger.ping(Duration::from_millis(100))?.is_none() {
        ensure!(start.elapsed() < LIMIT, "the client doesn't come up");
    }
    took("a client comes up", start);
    let shield = machine.sh("taltun status")?;
    step(&shield);
    ensure!(
        !shield.contains("doesn't answer"),
        "the unit may not run [metrics]"
    );
    let security = machine.sh("systemd-analyze security --no-pager taltun@hub | tail -1")?;
    step(security.trim());

    machine.write(
        "etc/taltun/hub.toml",
        &file.replace("10.200.0.1/24", "10.200.0.1/240"),
    )?;
    let refused = machine.try_sh("systemctl reload taltun@hub")?;
    ensure!(!refused, "systemctl reload takes a file with a mistake");
    let shown = machine.sh("systemctl status taltun@hub")?;
    ensure!(shown.contains("not reloaded: "), "{shown}");
    machine.write("etc/taltun/hub.toml", &file)?;
    machine.sh("systemctl reload taltun@hub")?;

    let pid = || machine.sh("systemctl show -P MainPID taltun@hub");
    let old = pid()?;
    let start = Instant::now();
    let gap = longest_gap(&mut pinger, || machine.sh("dpkg -i /root/taltun.deb"))?;
    took("dpkg -i over itself", start);
    ensure!(pid()? != old, "the upgrade didn't start the tunnel again");
    step(&format!(
        "  the client's ping stood still for {} ms",
        gap.as_millis()
    ));
    ensure!(gap < LONGEST_GAP, "the upgrade cost the client {gap:?}");

    client.stop(Signal::Terminate)?;
    let start = Instant::now();
    machine.sh("dpkg --purge taltun")?;
    took("dpkg --purge", start);
    let rules = machine.sh("nft list ruleset")?;
    ensure!(rules.trim().is_empty(), "purging leaves {rules}");
    machine.off()?;
    fs::remove_file(copy)?;
    let after = debian.files()?;
    let left: Vec<_> = after.difference(&before).collect();
    ensure!(left.is_empty(), "purging leaves {left:?}");

    println!(
        "the longest gap in the client's ping: {} ms",
        gap.as_millis()
    );
    for (what, time) in times {
        println!("{:6.1} s  {what}", time.as_secs_f64());
    }
    Ok(())
}

fn hub_file(client: &str) -> String {
    format!(
        "[interface]\nmode = \"server\"\nvip = \"10.200.0.1/24\"\nprivate_key_file = \"hub.key\"\n\
         ip_forward = true\nmss_clamp = true\n\n\
         [metrics]\nlisten = \"127.0.0.1:9586\"\n\n\
         [[peers]]\nname = \"client\"\npublic_key = \"{client}\"\nvip = \"10.200.0.2\"\n"
    )
}

fn client_file(client: &Keys, hub: &Keys) -> String {
    format!(
        "[interface]\nvip = \"10.200.0.2/24\"\nprivate_key = \"{}\"\n\
         [[peers]]\npublic_key = \"{}\"\nvip = \"10.200.0.1\"\nendpoint = \"{}:9000\"\n",
        client.private,
        hub.public,
        WIRE_A.near_v4()
    )
}

/// The longest time without an answer while `work` is done, and shortly after.
fn longest_gap<T: Send>(
    pinger: &mut Pinger,
    work: impl FnOnce() -> Result<T> + Send,
) -> Result<Duration> {
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let worker = scope.spawn(|| {
            let outcome = work();
            done.store(true, Ordering::Release);
            outcome
        });
        let mut longest = Duration::ZERO;
        let mut last = Instant::now();
        // Until it answers again afterwards, too.
        let mut answers_after = 0;
        while answers_after < 50 {
            let was_done = done.load(Ordering::Acquire);
            if pinger.ping(Duration::from_millis(20))?.is_some() {
                longest = longest.max(last.elapsed());
                last = Instant::now();
                answers_after += usize::from(was_done);
            }
            ensure!(last.elapsed() < LIMIT, "the ping doesn't come back");
            std::thread::sleep(Duration::from_millis(5));
        }
        match worker.join() {
            Ok(outcome) => outcome.map(|_| longest),
            Err(_) => bail!("the work had a fault"),
        }
    })
}

/// A Debian that runs; dropping it stops it.
struct Machine<'a> {
    debian: &'a Debian,
    container: Child,
    /// Its first process, as this host numbers it.
    init: u32,
}

impl<'a> Machine<'a> {
    /// Boots it in the network namespace of this name.
    fn boot(debian: &'a Debian, namespace: &str) -> Result<Self> {
        let console = fs::File::create(debian.path().with_extension("console"))?;
        let container = Command::new("systemd-nspawn")
            .args([
                "--quiet",
                "--register=no",
                "--keep-unit",
                "--boot",
                "--capability=all",
            ])
            .args([
                "--system-call-filter=bpf perf_event_open",
                "--bind=/dev/net/tun",
            ])
            .arg(format!("--network-namespace-path=/run/netns/{namespace}"))
            .arg("--directory")
            .arg(debian.path())
            .stdin(Stdio::null())
            .stdout(console.try_clone()?)
            .stderr(console)
            .spawn()
            .context("can't run systemd-nspawn")?;
        let mut machine = Self {
            debian,
            container,
            init: 0,
        };
        let start = Instant::now();
        loop {
            if let Some(status) = machine.container.try_wait()? {
                bail!("the container ended ({status}): {}", machine.console());
            }
            machine.init = machine.find_init().unwrap_or(0);
            if machine.init != 0
                && machine.try_sh("systemctl is-system-running | grep -E 'running|degraded'")?
            {
                return Ok(machine);
            }
            ensure!(
                start.elapsed() < LIMIT,
                "it doesn't boot: {}",
                machine.console()
            );
            std::thread::sleep(Duration::from_millis(200));
        }
    }

    fn find_init(&self) -> Option<u32> {
        let pid = self.container.id();
        let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).ok()?;
        children.split_whitespace().next()?.parse().ok()
    }

    fn command(&self, script: &str) -> Command {
        let mut command = Command::new("nsenter");
        command
            .args(["--target", &self.init.to_string()])
            .args(["--mount", "--uts", "--ipc", "--net", "--pid", "--root"])
            .args(["/bin/sh", "-ec", &format!("cd /; {script}")])
            .env_clear()
            .env(
                "PATH",
                "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            );
        command
    }

    /// Runs a script there, which must succeed.
    fn sh(&self, script: &str) -> Result<String> {
        let output = finish_within(&mut self.command(script), LIMIT)?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        if !output.status.success() {
            let log = self.command("journalctl --no-pager -n 40 -u 'taltun*'");
            let log = finish_within(&mut { log }, LIMIT)?;
            bail!(
                "{script}: {}: {text}{}\n{}",
                output.status,
                String::from_utf8_lossy(&output.stderr),
                String::from_utf8_lossy(&log.stdout)
            );
        }
        Ok(text)
    }

    /// Whether a script works there.
    fn try_sh(&self, script: &str) -> Result<bool> {
        Ok(finish_within(&mut self.command(script), LIMIT)?
            .status
            .success())
    }

    /// Writes a file for root alone.
    fn write(&self, path: &str, text: &str) -> Result<()> {
        use std::os::unix::fs::PermissionsExt;
        let path = self.debian.path().join(path);
        fs::write(&path, text).with_context(|| format!("can't write {}", path.display()))?;
        Ok(fs::set_permissions(
            &path,
            fs::Permissions::from_mode(0o600),
        )?)
    }

    fn console(&self) -> String {
        fs::read_to_string(self.debian.path().with_extension("console")).unwrap_or_default()
    }

    /// Shuts it down.
    fn off(mut self) -> Result<()> {
        send_signal(self.container.id(), Signal::Terminate)?;
        match wait_for(&mut self.container, LIMIT)? {
            Some(_) => Ok(()),
            None => bail!("it doesn't shut down: {}", self.console()),
        }
    }
}

impl Drop for Machine<'_> {
    fn drop(&mut self) {
        // Its processes end with it.
        let _ = self.container.kill();
        let _ = self.container.wait();
    }
}
