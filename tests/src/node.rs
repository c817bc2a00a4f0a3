//! A node: `taltun run` in a namespace, with a key, a config file and a control socket of
//! its own.
//!
//! `/run` is shared between network namespaces, so every node has a directory of its own
//! below [`files::FILES`], named like its namespace, for all it writes; removing the namespace
//! removes it.

use std::fmt::Write as _;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::command::{output_of, wait_for};
use crate::control::Control;
use crate::files;
use crate::netns::Namespace;
use crate::report::{Stats, Status};
use crate::sys::{self, Signal};
use anyhow::{Context, Result, anyhow, bail};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

pub use crate::control::{RUNTIME_DIR, keep_in};

/// How long a node may take until it answers: where an emulated kernel reads its first eBPF
/// programs, and others build meanwhile, that has been 20 s.
const START_LIMIT: Duration = Duration::from_secs(60);
/// How long a node may take to stop when asked to, times what [`PATIENCE`] says.
const STOP_LIMIT: Duration = Duration::from_secs(5);
/// The variable by which an emulated machine, where each command takes seconds, asks for so many
/// times as long.
const PATIENCE: &str = "TALTUN_TESTS_PATIENCE";
/// What the log says of a thread that needed more than it may do.
const REFUSED: &str = "was refused a system call";

/// A key pair, base64.
#[derive(Debug, Clone)]
pub struct Keys {
    /// The private key.
    pub private: String,
    /// The public key that goes with it.
    pub public: String,
}

impl Keys {
    /// A new pair, made by `taltun genkey` and `taltun pubkey`.
    pub fn generate(taltun: &Path) -> Result<Self> {
        let private = output_of(Command::new(taltun).arg("genkey"))?;
        Self::of_private(taltun, private.trim())
    }

    /// The pair that has this private key.
    pub fn of_private(taltun: &Path, private: &str) -> Result<Self> {
        let private = private.to_owned();
        let mut child = Command::new(taltun)
            .arg("pubkey")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("can't run taltun pubkey")?;
        let mut stdin = child.stdin.take().context("taltun pubkey has no stdin")?;
        writeln!(stdin, "{private}")?;
        drop(stdin);
        let output = child.wait_with_output()?;
        if !output.status.success() {
            bail!("taltun pubkey failed ({})", output.status);
        }
        let public = String::from_utf8(output.stdout)?.trim().to_owned();
        Ok(Self { private, public })
    }

    /// The public key as it is.
    pub fn public_bytes(&self) -> Result<[u8; 32]> {
        let bytes = STANDARD.decode(&self.public)?;
        let length = bytes.len();
        bytes
            .try_into()
            .map_err(|_| anyhow!("a public key of {length} bytes"))
    }
}

/// How the XDP program is attached: `accel.xdp`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum XdpMode {
    /// As Taltun thinks best.
    Auto,
    /// In the driver.
    Driver,
    /// On finished packets.
    Generic,
    /// Not at all.
    Off,
}

impl XdpMode {
    /// As the config file and `status` spell it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Driver => "driver",
            Self::Generic => "generic",
            Self::Off => "off",
        }
    }
}

/// Whether transport messages go past the kernel's network stack: `accel.af_xdp`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AfXdp {
    /// As Taltun thinks best.
    Auto,
    /// Wherever it is possible.
    On,
    /// Nowhere.
    Off,
}

impl AfXdp {
    /// As the config file spells it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::On => "on",
            Self::Off => "off",
        }
    }
}

/// A config file, as far as the lab varies it.
#[derive(Debug, Clone)]
pub struct Config {
    /// `server` or `client`.
    pub mode: &'static str,
    /// Our addresses in the tunnel with their prefix lengths.
    pub vip: Vec<String>,
    /// Where to listen.
    pub local_addr: String,
    /// Our private key.
    pub private_key: String,
    /// How to attach the XDP program.
    pub xdp: XdpMode,
    /// Whether to use AF_XDP.
    pub af_xdp: AfXdp,
    /// Sections of the file besides those made of the other fields, in TOML.
    pub more: &'static str,
    /// The peers.
    pub peers: Vec<Peer>,
}

/// A peer in a [`Config`].
#[derive(Debug, Clone)]
pub struct Peer {
    /// What to call it.
    pub name: &'static str,
    /// Its public key.
    pub public_key: String,
    /// Its addresses in the tunnel.
    pub vip: Vec<String>,
    /// Where it listens, where we are to know.
    pub endpoint: Option<String>,
    /// What else is reached through it.
    pub allowed_ips: Vec<String>,
}

impl Config {
    /// The file's text.
    pub fn to_toml(&self) -> String {
        let mut text = format!(
            "[interface]\nmode = \"{}\"\ntun_name = \"taltun0\"\nvip = {:?}\nlocal_addr = \"{}\"\nprivate_key = \"{}\"\n",
            self.mode, self.vip, self.local_addr, self.private_key
        );
        for peer in &self.peers {
            // Writing to a String can't fail.
            let _ = write!(
                text,
                "\n[[peers]]\nname = \"{}\"\npublic_key = \"{}\"\nvip = {:?}\nallowed_ips = {:?}\n",
                peer.name, peer.public_key, peer.vip, peer.allowed_ips
            );
            if let Some(endpoint) = &peer.endpoint {
                let _ = writeln!(text, "endpoint = \"{endpoint}\"\npersistent_keepalive = 25");
            }
        }
        let _ = write!(
            text,
            "\n[accel]\nxdp = \"{}\"\naf_xdp = \"{}\"\n",
            self.xdp.name(),
            self.af_xdp.name()
        );
        text.push_str(self.more);
        text
    }
}

/// A node's directory, made ready for it to start.
#[derive(Debug)]
pub struct Site {
    taltun: PathBuf,
    directory: PathBuf,
}

impl Site {
    /// Makes the directory for the node in `namespace` and writes `config` there; what is
    /// there from before is removed.
    pub fn prepare(namespace: &Namespace, taltun: &Path, config: &str) -> Result<Self> {
        files::remove(namespace.name())?;
        let site = Self {
            taltun: taltun.to_owned(),
            directory: files::directory_of(namespace.name()),
        };
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&site.directory)
            .with_context(|| format!("can't make {}", site.directory.display()))?;
        OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(site.config())?
            .write_all(config.as_bytes())?;
        Ok(site)
    }

    /// The config file.
    pub fn config(&self) -> PathBuf {
        self.directory.join("config.toml")
    }

    /// Where the control socket belongs, and all else of this node.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// `taltun run` in `namespace`, by way of the words `through` (such as `unshare -m`).
    pub fn run_command(&self, namespace: &Namespace, through: &[&str]) -> Command {
        let mut command = match through {
            [] => namespace.command(&self.taltun),
            [first, rest @ ..] => {
                let mut command = namespace.command(first);
                command.args(rest).arg(&self.taltun);
                command
            }
        };
        command.arg("run").arg("--config").arg(self.config());
        keep_in(&mut command, &self.directory);
        command
    }

    fn log(&self) -> PathBuf {
        self.directory.join("log")
    }
}

/// A running `taltun run`; dropping it kills it.
#[derive(Debug)]
pub struct Node {
    site: Site,
    /// Words by way of which it is started.
    through: Vec<String>,
    child: Child,
}

impl Node {
    /// Starts `taltun` in `namespace` and waits until it answers.
    pub fn start(namespace: &Namespace, taltun: &Path, config: &Config) -> Result<Self> {
        Self::start_with_text(namespace, taltun, &config.to_toml())
    }

    /// The same with a config file that is already text, for keys that [`Config`] lacks.
    pub fn start_with_text(namespace: &Namespace, taltun: &Path, config: &str) -> Result<Self> {
        Self::start_through(namespace, taltun, config, &[])
    }

    /// The same by way of the words `through` (such as `setpriv` and its options), which have
    /// to end as the program that follows them.
    pub fn start_through(
        namespace: &Namespace,
        taltun: &Path,
        config: &str,
        through: &[&str],
    ) -> Result<Self> {
        let site = Site::prepare(namespace, taltun, config)?;
        let child = spawn(&site, namespace, through)?;
        let mut node = Self {
            site,
            through: through.iter().map(ToString::to_string).collect(),
            child,
        };
        node.wait_until_ready()
            .with_context(|| format!("the node in {} didn't start", namespace.name()))?;
        Ok(node)
    }

    /// Starts it again after [`Node::kill`], with the files that it left behind, as a service
    /// manager would, and waits until it answers.
    pub fn start_again(&mut self, namespace: &Namespace) -> Result<()> {
        self.spawn_again(namespace)?;
        self.wait_until_ready()
    }

    /// The same without waiting: [`Node::status`] tells when it is up.
    pub fn spawn_again(&mut self, namespace: &Namespace) -> Result<()> {
        let through: Vec<&str> = self.through.iter().map(String::as_str).collect();
        self.child = spawn(&self.site, namespace, &through)?;
        Ok(())
    }

    /// What talks to it from anywhere, also while it is being started anew.
    pub fn control(&self) -> Control {
        Control::new(&self.site.taltun, &self.site.directory)
    }

    /// `taltun status --json`.
    pub fn status(&self) -> Result<Status> {
        self.control().status()
    }

    /// `taltun stats --json`.
    pub fn stats(&self) -> Result<Stats> {
        self.control().stats()
    }

    /// Runs `taltun` on this node with these words, `ban` and the like.
    pub fn tell(&self, words: &[&str]) -> Result<String> {
        self.control().tell(words)
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// It and its helpers, which it has started itself.
    pub fn processes(&self) -> Result<Vec<u32>> {
        let mut all = vec![self.pid()];
        let mut at = 0;
        while let Some(process) = all.get(at) {
            all.extend(children(*process)?);
            at += 1;
        }
        Ok(all)
    }

    /// Where it keeps its files.
    pub fn directory(&self) -> &Path {
        self.site.directory()
    }

    /// What it has logged.
    pub fn log(&self) -> String {
        fs::read_to_string(self.site.log()).unwrap_or_default()
    }

    /// Its config file, which [`Node::start_again`] reads anew.
    pub fn config(&self) -> PathBuf {
        self.site.config()
    }

    /// Stops it by `signal`, which it has to obey in time and with exit code 0.
    pub fn stop(mut self, signal: Signal) -> Result<()> {
        self.end(signal)
    }

    /// The same; it may be [started again](Node::start_again).
    pub fn end(&mut self, signal: Signal) -> Result<()> {
        let patience = std::env::var(PATIENCE).ok();
        let patience = patience.and_then(|times| times.parse().ok()).unwrap_or(1);
        self.end_within(signal, STOP_LIMIT * patience)
    }

    /// The same where hooks may take longer than an end has.
    pub fn end_within(&mut self, signal: Signal, limit: Duration) -> Result<()> {
        if let Some(status) = self.child.try_wait()? {
            bail!(
                "it had already ended ({status}); the end of its log:\n{}",
                self.end_of_log()
            );
        }
        sys::send_signal(self.child.id(), signal)?;
        match wait_for(&mut self.child, limit)? {
            Some(status) if status.success() => self.ensure_nothing_refused(),
            Some(status) => bail!(
                "it stopped with {status}; the end of its log:\n{}",
                self.end_of_log()
            ),
            None => bail!("it didn't stop within {limit:?} of being asked to"),
        }
    }

    /// No thread without rights was refused a system call that it needs, whatever the test did to it.
    fn ensure_nothing_refused(&self) -> Result<()> {
        let log = self.log();
        let refused = log.lines().find(|line| line.contains(REFUSED));
        refused.map_or(Ok(()), |line| bail!("{line}"))
    }

    /// Kills it without warning.
    pub fn kill(&mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    fn wait_until_ready(&mut self) -> Result<()> {
        let deadline = Instant::now() + START_LIMIT;
        loop {
            if let Some(status) = self.child.try_wait()? {
                bail!("taltun ended with {status}: {}", self.end_of_log());
            }
            let asked = Instant::now();
            match self.status() {
                Ok(_) => return Ok(()),
                Err(error) if Instant::now() > deadline => {
                    return Err(error.context(format!("no answer within {START_LIMIT:?}")));
                }
                // Asking starts a program; on a slow machine it leaves the other half to the node.
                Err(_) => sleep(asked.elapsed().max(Duration::from_millis(20))),
            }
        }
    }

    /// `taltun`, set up to talk to this node. It talks by a file, so any namespace will do.
    pub fn command(&self) -> Command {
        self.control().command()
    }

    fn end_of_log(&self) -> String {
        let log = self.log();
        let lines: Vec<_> = log.lines().collect();
        lines[lines.len().saturating_sub(10)..].join("\n")
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        // Both fail when it has ended already, which is what we want.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The process that a tunnel has started with this command, whatever its arguments.
pub fn process_of(tunnel: u32, command: &str) -> Result<u32> {
    let words = format!("taltun\0{command}\0");
    let is_it = |child: &u32| {
        let line = fs::read(format!("/proc/{child}/cmdline")).unwrap_or_default();
        line.starts_with(words.as_bytes())
    };
    let found = children(tunnel)?.into_iter().find(is_it);
    found.with_context(|| format!("it has no {command}"))
}

/// How many files a process has open.
pub fn open_files(process: u32) -> Result<usize> {
    Ok(fs::read_dir(format!("/proc/{process}/fd"))?.count())
}

fn children(process: u32) -> Result<Vec<u32>> {
    let mut all = Vec::new();
    for task in fs::read_dir(format!("/proc/{process}/task"))? {
        let children = fs::read_to_string(task?.path().join("children")).unwrap_or_default();
        for child in children.split_whitespace() {
            all.push(child.parse()?);
        }
    }
    Ok(all)
}

/// `taltun run`, logging to a file.
fn spawn(site: &Site, namespace: &Namespace, through: &[&str]) -> Result<Child> {
    let log = File::options()
        .create(true)
        .append(true)
        .open(site.log())
        .context("can't open the log")?;
    site.run_command(namespace, through)
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        // A group of its own: Ctrl-C is for us, and we then stop it in order.
        .process_group(0)
        .spawn()
        .context("can't start taltun")
}
