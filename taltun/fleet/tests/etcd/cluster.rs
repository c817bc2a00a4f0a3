//! Members of etcd on loopback ports, with what etcdctl does to them.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use taltun_fleet::etcd::{Limits, Store, Tls};
use tempfile::TempDir;

/// Ports that no other test has: the namespace is this program's.
static NEXT_PORT: AtomicU16 = AtomicU16::new(10_000);

/// A port of its own.
pub fn port() -> u16 {
    NEXT_PORT.fetch_add(1, Ordering::Relaxed)
}

/// Limits that let tests be short.
pub const LIMITS: Limits = Limits {
    connect: Duration::from_secs(1),
    answer: Duration::from_secs(2),
    call: Duration::from_secs(5),
};

struct Member {
    name: String,
    client: u16,
    peer: u16,
    process: Option<Child>,
}

/// A store of one member or of several. All end with it.
pub struct Cluster {
    dir: TempDir,
    members: Vec<Member>,
    scheme: &'static str,
    options: Vec<String>,
}

impl Cluster {
    /// Starts `count` members and waits until they answer.
    pub async fn start(count: usize) -> Self {
        Self::with("http", count, &[]).await
    }

    /// The same with more options.
    pub async fn with(scheme: &'static str, count: usize, options: &[&str]) -> Self {
        let member = |at: usize| Member {
            name: format!("m{at}"),
            client: port(),
            peer: port(),
            process: None,
        };
        let mut cluster = Self {
            dir: tempfile::tempdir().unwrap(),
            members: (0..count).map(member).collect(),
            scheme,
            options: options.iter().map(ToString::to_string).collect(),
        };
        for at in 0..count {
            cluster.run(at);
        }
        if scheme == "http" {
            cluster.wait().await;
        }
        cluster
    }

    /// Where its files are.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    fn data(&self, at: usize) -> PathBuf {
        self.dir().join(&self.members[at].name)
    }

    /// Starts a member, again if it was there before.
    pub fn run(&mut self, at: usize) {
        let peers = self.members.iter();
        let peers = peers.map(|each| format!("{}=http://127.0.0.1:{}", each.name, each.peer));
        let peers = peers.collect::<Vec<_>>().join(",");
        let member = &self.members[at];
        let client = format!("{}://127.0.0.1:{}", self.scheme, member.client);
        let peer = format!("http://127.0.0.1:{}", member.peer);
        let log = File::options()
            .create(true)
            .append(true)
            .open(self.dir().join(format!("{}.log", member.name)))
            .unwrap();
        let process = Command::new("etcd")
            .args(["--name", &member.name])
            .arg("--data-dir")
            .arg(self.data(at))
            .args(["--listen-client-urls", &client])
            .args(["--advertise-client-urls", &client])
            .args(["--listen-peer-urls", &peer])
            .args(["--initial-advertise-peer-urls", &peer])
            .args(["--initial-cluster", &peers])
            .args(["--heartbeat-interval", "100", "--election-timeout", "1000"])
            .args(&self.options)
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        self.members[at].process = Some(process);
    }

    /// Waits until each member answers.
    pub async fn wait(&self) {
        for endpoint in self.endpoints() {
            let store = store(&[endpoint], None);
            let mut tries = 0;
            while store.put("/ready", b"", 0).await.is_err() {
                assert!(tries < 200, "etcd doesn't start: {}", self.logs());
                tries += 1;
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }

    fn logs(&self) -> String {
        let logs = self.members.iter().map(|member| {
            let log = self.dir().join(format!("{}.log", member.name));
            std::fs::read_to_string(log).unwrap_or_default()
        });
        logs.collect()
    }

    /// A member's address.
    pub fn endpoint(&self, at: usize) -> String {
        format!("{}://127.0.0.1:{}", self.scheme, self.members[at].client)
    }

    /// A member's port.
    pub fn client_port(&self, at: usize) -> u16 {
        self.members[at].client
    }

    fn endpoints(&self) -> Vec<String> {
        (0..self.members.len())
            .map(|at| self.endpoint(at))
            .collect()
    }

    /// A client of all members.
    pub fn store(&self) -> Store {
        store(&self.endpoints(), None)
    }

    /// Ends a member as SIGKILL does.
    pub fn kill(&mut self, at: usize) {
        if let Some(mut process) = self.members[at].process.take() {
            process.kill().unwrap();
            process.wait().unwrap();
        }
    }

    /// Sends a member a signal.
    pub fn signal(&self, at: usize, signal: &str) {
        let process = self.members[at].process.as_ref().unwrap();
        let sent = Command::new("kill")
            .args([signal, &process.id().to_string()])
            .status();
        assert!(sent.unwrap().success());
    }

    /// Runs etcdctl with all members, and returns what it prints.
    pub fn ctl(&self, arguments: &[&str]) -> String {
        let output = Command::new("etcdctl")
            .env("ETCDCTL_API", "3")
            .args(["--endpoints", &self.endpoints().join(",")])
            .args(arguments)
            .output()
            .unwrap();
        let printed = String::from_utf8_lossy(&output.stdout).into_owned();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{arguments:?}: {printed}{errors}");
        printed
    }

    /// Which member leads.
    pub fn leader(&self) -> usize {
        let status = self.ctl(&["endpoint", "status", "--write-out", "json"]);
        let status: serde_json::Value = serde_json::from_str(&status).unwrap();
        let leads = |member: &serde_json::Value| {
            member["Status"]["leader"] == member["Status"]["header"]["member_id"]
        };
        let found = status
            .as_array()
            .unwrap()
            .iter()
            .find(|member| leads(member));
        let endpoint = found.unwrap()["Endpoint"].as_str().unwrap().to_owned();
        let at = self.endpoints().iter().position(|each| *each == endpoint);
        at.unwrap()
    }

    /// Puts a backup in the place of the only member's data, which mustn't run.
    pub fn restore(&self, backup: &Path) {
        let data = self.data(0);
        std::fs::remove_dir_all(&data).unwrap();
        let member = &self.members[0];
        let peer = format!("http://127.0.0.1:{}", member.peer);
        self.ctl(&[
            "snapshot",
            "restore",
            &backup.display().to_string(),
            "--name",
            &member.name,
            "--data-dir",
            &data.display().to_string(),
            "--initial-cluster",
            &format!("{}={peer}", member.name),
            "--initial-advertise-peer-urls",
            &peer,
        ]);
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for at in 0..self.members.len() {
            self.kill(at);
        }
    }
}

/// A client of these endpoints.
pub fn store(endpoints: &[String], tls: Option<Tls>) -> Store {
    let endpoints = endpoints.iter().map(|endpoint| endpoint.parse().unwrap());
    Store::new(endpoints.collect(), tls, LIMITS).unwrap()
}
