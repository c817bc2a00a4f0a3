//! Named network namespaces: a machine's network, for one node, at the cost of a file.
//!
//! A socket belongs to the namespace in which it was opened and stays there, whoever uses it.
//! So nothing but the opening has to happen inside: [`Namespace::run`] does that on a thread
//! made for it, and what comes back works anywhere. Namespaces have a name so that a run that
//! was killed is found, and cleaned up, by the next.

use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::net::{TcpListener, ToSocketAddrs, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread::{self, sleep};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::command::output_of;
use crate::files;
use crate::sys::{self, Signal};

/// How long processes in a namespace may take to die of SIGKILL.
const DEATH_LIMIT: Duration = Duration::from_secs(5);

/// How long an address may stay in use after its socket was closed. Tests run side by side in
/// one process: a child that another thread is starting holds a copy of each socket until it
/// executes its program.
const CLOSING_LIMIT: Duration = Duration::from_secs(5);

/// A network namespace of ours; dropping it ends what runs inside and deletes it.
#[derive(Debug)]
pub struct Namespace {
    name: String,
}

impl Namespace {
    /// Makes the namespace `name`, with `lo` up. What an earlier run left under that name is
    /// removed first.
    pub fn create(name: &str) -> Result<Self> {
        remove(name)?;
        output_of(Command::new("ip").args(["netns", "add", name]))?;
        let namespace = Self {
            name: name.to_owned(),
        };
        // Duplicate address detection would keep addresses unusable for a second or two.
        if sys::kernel_has_ipv6() {
            namespace.run(|| fs::write("/proc/sys/net/ipv6/conf/default/accept_dad", "0"))??;
        }
        namespace.ip("link set lo up")?;
        Ok(namespace)
    }

    /// Its name, as in `ip netns exec NAME`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Calls `work` on a thread inside the namespace and returns what it returned.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T> {
        let path = path_of(&self.name);
        let file = File::open(&path).with_context(|| format!("can't open {}", path.display()))?;
        thread::scope(|scope| {
            let inside = scope.spawn(move || {
                sys::enter_network_namespace(&file).context("can't enter a namespace")?;
                Ok(work())
            });
            inside
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// A UDP socket inside, bound to `to`.
    pub fn udp(&self, to: impl ToSocketAddrs + Send + Sync) -> Result<UdpSocket> {
        self.run(|| once_free(|| UdpSocket::bind(&to)))?
            .with_context(|| format!("can't bind a UDP socket in {}", self.name))
    }

    /// A TCP listener inside, bound to `to`.
    pub fn tcp(&self, to: impl ToSocketAddrs + Send + Sync) -> Result<TcpListener> {
        self.run(|| once_free(|| TcpListener::bind(&to)))?
            .with_context(|| format!("can't listen in {}", self.name))
    }

    /// A command that will run `program` inside, with a `/sys` that shows this network.
    pub fn command(&self, program: impl AsRef<Path>) -> Command {
        let mut command = Command::new("ip");
        command
            .args(["netns", "exec", &self.name])
            .arg(program.as_ref());
        command
    }

    /// Runs `ip` on this namespace, `arguments` being its words, and returns what it printed.
    pub fn ip(&self, arguments: &str) -> Result<String> {
        output_of(
            Command::new("ip")
                .args(["-n", &self.name])
                .args(arguments.split_whitespace()),
        )
    }

    /// The hardware address of one of its links.
    pub fn hardware(&self, link: &str) -> Result<String> {
        let shown = self.ip(&format!("-o link show dev {link}"))?;
        let mut words = shown.split_whitespace();
        let address = words.find(|word| *word == "link/ether").and(words.next());
        let address = address.with_context(|| format!("a link without an address: {shown}"))?;
        Ok(address.to_owned())
    }

    /// Deletes it. Dropping does the same, but can't tell what went wrong.
    pub fn delete(self) -> Result<()> {
        remove(&self.name)
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        if let Err(error) = remove(&self.name) {
            eprintln!("namespace {} is left behind: {error:#}", self.name);
        }
    }
}

/// The names of all namespaces that begin with `prefix`.
pub fn names_with(prefix: &str) -> Vec<String> {
    let Ok(entries) = fs::read_dir("/run/netns") else {
        return Vec::new(); // the directory comes with the first namespace
    };
    entries
        .flatten()
        .filter_map(|entry| entry.file_name().into_string().ok())
        .filter(|name| name.starts_with(prefix))
        .collect()
}

/// Removes the namespace `name`, what runs inside and the files of its node. No such
/// namespace is fine.
pub fn remove(name: &str) -> Result<()> {
    files::remove(name)?;
    if !path_of(name).exists() {
        return Ok(());
    }
    let deadline = Instant::now() + DEATH_LIMIT;
    loop {
        let pids = pids_in(name)?;
        if pids.is_empty() {
            break;
        }
        if Instant::now() > deadline {
            bail!("processes {pids:?} in namespace {name} don't die");
        }
        for pid in pids {
            // It may have ended since we asked.
            let _ = sys::send_signal(pid, Signal::Kill);
        }
        sleep(Duration::from_millis(10));
    }
    output_of(Command::new("ip").args(["netns", "del", name]))?;
    Ok(())
}

/// The processes inside the namespace `name`.
fn pids_in(name: &str) -> Result<Vec<u32>> {
    let listed = output_of(Command::new("ip").args(["netns", "pids", name]))?;
    Ok(listed
        .split_whitespace()
        .filter_map(|pid| pid.parse().ok())
        .collect())
}

fn path_of(name: &str) -> PathBuf {
    Path::new("/run/netns").join(name)
}

/// What `bind` returns once the address is free, see [`CLOSING_LIMIT`].
fn once_free<T>(mut bind: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    let start = Instant::now();
    loop {
        match bind() {
            Err(error)
                if error.kind() == ErrorKind::AddrInUse && start.elapsed() < CLOSING_LIMIT =>
            {
                sleep(Duration::from_millis(5));
            }
            result => return result,
        }
    }
}
