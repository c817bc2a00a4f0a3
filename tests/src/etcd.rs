//! etcd in a namespace: members that are killed and come back, as in a fleet's bad day.

use std::fs::File;
use std::io::ErrorKind;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use tempfile::TempDir;

use crate::command::output_of;
use crate::netns::Namespace;
use crate::sys::{self, Signal};

/// The first member's port for clients; the others' follow in steps of ten.
const PORT: u16 = 2379;
/// How long it may take until all members answer.
const START_LIMIT: Duration = Duration::from_secs(60);

/// A cluster, all of it in one namespace; dropping it ends it.
#[derive(Debug)]
pub struct Etcd<'n> {
    namespace: &'n Namespace,
    directory: TempDir,
    members: Vec<Option<Child>>,
}

impl<'n> Etcd<'n> {
    /// Starts so many members and waits until they answer.
    pub fn start(namespace: &'n Namespace, members: usize) -> Result<Self> {
        let mut etcd = Self {
            namespace,
            directory: TempDir::new()?,
            members: (0..members).map(|_| None).collect(),
        };
        for at in 0..members {
            etcd.run(at)?;
        }
        etcd.wait()?;
        Ok(etcd)
    }

    /// Where clients reach the members, by this address of the namespace.
    pub fn endpoints(&self, address: &str) -> Vec<String> {
        let ports = (0..self.members.len()).map(client_port);
        ports
            .map(|port| format!("http://{address}:{port}"))
            .collect()
    }

    /// Starts a member, with what it had before.
    pub fn run(&mut self, at: usize) -> Result<()> {
        let peers = (0..self.members.len())
            .map(|at| format!("m{at}=http://127.0.0.1:{}", client_port(at) + 1));
        let peers = peers.collect::<Vec<_>>().join(",");
        let name = format!("m{at}");
        let data = self.directory.path().join(&name);
        let client = client_port(at);
        let log = File::options()
            .create(true)
            .append(true)
            .open(self.directory.path().join(format!("{name}.log")))?;
        let mut command = self.namespace.command("etcd");
        command
            .args(["--name", &name, "--data-dir"])
            .arg(data)
            .args(["--listen-client-urls", &format!("http://0.0.0.0:{client}")])
            .args([
                "--advertise-client-urls",
                &format!("http://127.0.0.1:{client}"),
            ])
            .args([
                "--listen-peer-urls",
                &format!("http://127.0.0.1:{}", client + 1),
            ])
            .args([
                "--initial-advertise-peer-urls",
                &format!("http://127.0.0.1:{}", client + 1),
            ])
            .args(["--initial-cluster", &peers])
            .args(["--heartbeat-interval", "100", "--election-timeout", "1000"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log);
        self.members[at] = Some(command.spawn().context("can't start etcd")?);
        Ok(())
    }

    /// Waits until all members answer.
    pub fn wait(&self) -> Result<()> {
        let begun = Instant::now();
        for at in 0..self.members.len() {
            while self.ctl(at, &["get", "/ready"]).is_err() {
                ensure!(begun.elapsed() < START_LIMIT, "etcd doesn't start");
                sleep(Duration::from_millis(100));
            }
        }
        Ok(())
    }

    /// What `etcdctl` prints, asking one member.
    pub fn ctl(&self, at: usize, words: &[&str]) -> Result<String> {
        let mut command = self.namespace.command("etcdctl");
        command
            .env("ETCDCTL_API", "3")
            .arg(format!("--endpoints=http://127.0.0.1:{}", client_port(at)))
            .args(["--dial-timeout=1s", "--command-timeout=2s"])
            .args(words);
        output_of(&mut command)
    }

    /// Kills a member without warning.
    pub fn kill(&mut self, at: usize) -> Result<()> {
        if let Some(mut child) = self.members[at].take() {
            child.kill()?;
            child.wait()?;
        }
        Ok(())
    }

    /// Stops a member where it is, or lets it go on.
    pub fn freeze(&self, at: usize, frozen: bool) -> Result<()> {
        let Some(child) = &self.members[at] else {
            bail!("there is no member {at}");
        };
        let signal = if frozen {
            Signal::Pause
        } else {
            Signal::Resume
        };
        sys::send_signal(child.id(), signal)?;
        Ok(())
    }
}

impl Drop for Etcd<'_> {
    fn drop(&mut self) {
        for at in 0..self.members.len() {
            if let Err(error) = self.kill(at) {
                let gone = error.downcast_ref::<std::io::Error>();
                if gone.is_none_or(|error| error.kind() != ErrorKind::InvalidInput) {
                    eprintln!("etcd: {error:#}");
                }
            }
        }
    }
}

fn client_port(at: usize) -> u16 {
    PORT + 10 * at as u16
}

/// The version of etcd that is installed.
pub fn version() -> Result<String> {
    output_of(Command::new("etcd").arg("--version"))
}
