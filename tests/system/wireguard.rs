//! Another implementation of WireGuard in a namespace, set up with `wg` as people do: what
//! interop and the manners are tested with. Taltun can be started the same way.

use std::fmt::Write as _;
use std::io::Write as _;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use taltun_tests::command::{find, output_of, wait_for};
use taltun_tests::netns::Namespace;
use taltun_tests::node::RUNTIME_DIR;
use taltun_tests::sys::{self, Signal};

use crate::support::{eventually, taltun};

/// Where `wg` looks for sockets, whatever namespace it runs in.
const SOCKETS: &str = "/var/run/wireguard";

/// A key pair as `wg` makes it.
#[derive(Debug, Clone)]
pub struct WgKeys {
    pub private: String,
    pub public: String,
}

impl WgKeys {
    pub fn generate() -> Result<Self> {
        let private = output_of(Command::new("wg").arg("genkey"))?
            .trim()
            .to_owned();
        let public = feed(Command::new("wg").arg("pubkey"), &private)?;
        Ok(Self {
            private,
            public: public.trim().to_owned(),
        })
    }
}

/// A preshared key.
pub fn preshared_key() -> Result<String> {
    Ok(output_of(Command::new("wg").arg("genpsk"))?
        .trim()
        .to_owned())
}

/// A peer as `wg setconf` is told of it.
#[derive(Debug, Clone, Default)]
pub struct WgPeer {
    pub public_key: String,
    pub preshared_key: Option<String>,
    pub endpoint: Option<String>,
    pub allowed_ips: String,
    pub keepalive: Option<u16>,
}

/// Which program serves an interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Program {
    Taltun,
    WireguardGo,
    Boringtun,
    /// None: the kernel itself.
    Kernel,
}

impl Program {
    fn command(self, namespace: &Namespace) -> Result<Command> {
        let (path, words): (PathBuf, &[&str]) = match self {
            Self::Taltun => (taltun()?, &["-f"]),
            Self::WireguardGo => (
                find("wireguard-go").context("wireguard-go is gone")?,
                &["-f"],
            ),
            Self::Boringtun => (
                find("boringtun-cli").context("boringtun-cli is gone")?,
                &["--foreground", "--disable-drop-privileges"],
            ),
            Self::Kernel => bail!("the kernel is no program"),
        };
        let mut command = namespace.command(path);
        command.args(words).env("TALTUN_UAPI_DIR", SOCKETS);
        Ok(command)
    }
}

/// An interface that a program serves in a namespace; dropping it stops the program.
#[derive(Debug)]
pub struct Wg {
    interface: String,
    namespace: String,
    /// `None` where the kernel serves it.
    process: Option<Child>,
    directory: PathBuf,
}

impl Wg {
    /// Starts `program` in `namespace` with an interface of a name that nobody else has:
    /// all namespaces share the directory of the sockets.
    pub fn start(program: Program, namespace: &Namespace) -> Result<Self> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let interface = format!("tt{}x{number}", std::process::id());
        let directory = std::env::temp_dir().join(format!("taltun-{interface}"));
        std::fs::create_dir_all(&directory)?;
        if program == Program::Kernel {
            namespace.ip(&format!("link add {interface} type wireguard"))?;
            return Ok(Self {
                interface,
                namespace: namespace.name().to_owned(),
                process: None,
                directory,
            });
        }
        let mut process = program
            .command(namespace)?
            .arg(&interface)
            .env(RUNTIME_DIR, &directory)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(directory.join("log"))?)
            .spawn()
            .with_context(|| format!("can't start {program:?}"))?;
        // In an emulated machine the verifier alone takes seconds.
        eventually("the socket is there", Duration::from_mins(1), || {
            if let Some(status) = process.try_wait()? {
                bail!("{program:?} ended with {status}");
            }
            Ok(socket(&interface).exists())
        })?;
        Ok(Self {
            interface,
            namespace: namespace.name().to_owned(),
            process: Some(process),
            directory,
        })
    }

    pub fn interface(&self) -> &str {
        &self.interface
    }

    /// Our own control socket's directory, for `taltun status`.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// `wg setconf` with a key, a port and peers.
    pub fn configure(&self, keys: &WgKeys, port: u16, peers: &[WgPeer]) -> Result<()> {
        let mut text = format!(
            "[Interface]\nPrivateKey = {}\nListenPort = {port}\n",
            keys.private
        );
        for peer in peers {
            // Writing to a String can't fail.
            let _ = writeln!(text, "[Peer]\nPublicKey = {}", peer.public_key);
            let allowed_ips = (!peer.allowed_ips.is_empty()).then(|| peer.allowed_ips.clone());
            let optional = [
                ("AllowedIPs", allowed_ips),
                ("PresharedKey", peer.preshared_key.clone()),
                ("Endpoint", peer.endpoint.clone()),
                ("PersistentKeepalive", peer.keepalive.map(|s| s.to_string())),
            ];
            for (key, value) in optional {
                if let Some(value) = value {
                    let _ = writeln!(text, "{key} = {value}");
                }
            }
        }
        self.setconf(&text)
    }

    /// `wg setconf` with this text.
    pub fn setconf(&self, text: &str) -> Result<()> {
        let file = self.file(text)?;
        output_of(self.wg_command().args(["setconf", &self.interface, &file]))?;
        Ok(())
    }

    /// `wg VERB INTERFACE REST…`, printed with its answer for the log.
    pub fn wg(&self, verb: &str, rest: &[&str]) -> Result<String> {
        let output = self.try_wg(verb, rest)?;
        ensure!(
            output.status.success(),
            "wg {verb} {rest:?} failed: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// The same, whether it succeeds or not.
    pub fn try_wg(&self, verb: &str, rest: &[&str]) -> Result<Output> {
        let mut command = self.wg_command();
        command.arg(verb).arg(&self.interface).args(rest);
        let output = command.stdin(Stdio::null()).output()?;
        println!("$ wg {verb} {} {}", self.interface, rest.join(" "));
        print!("{}", String::from_utf8_lossy(&output.stdout));
        print!("{}", String::from_utf8_lossy(&output.stderr));
        Ok(output)
    }

    /// `wg set` with a secret in a file, whose name takes the place of `FILE` in the words.
    pub fn set_with_secret(&self, words: &[&str], secret: &str) -> Result<()> {
        let file = self.file(secret)?;
        let words = words
            .iter()
            .map(|word| if *word == "FILE" { &file } else { *word });
        let mut wg = self.wg_command();
        output_of(wg.args(["set", &self.interface]).args(words))?;
        Ok(())
    }

    /// A file with this text, for `wg` to read.
    fn file(&self, text: &str) -> Result<String> {
        let path = self.directory.join("file");
        std::fs::write(&path, text)?;
        Ok(path.to_str().context("an odd path")?.to_owned())
    }

    /// `wg` in our namespace: the names of interfaces in scopes are those of there.
    fn wg_command(&self) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.namespace, "wg"]);
        command
    }

    /// The fields of the line for its only peer, or the first, of `wg show dump`: public
    /// key, preshared key, endpoint, allowed IPs, handshake, received, sent, keepalive.
    pub fn peer(&self) -> Result<Vec<String>> {
        let dump = output_of(self.wg_command().args(["show", &self.interface, "dump"]))?;
        let line = dump.lines().nth(1).context("there is no peer")?;
        Ok(line.split('\t').map(str::to_owned).collect())
    }

    /// Where its first peer is.
    pub fn endpoint(&self) -> Result<String> {
        Ok(self.peer()?.swap_remove(2))
    }

    /// Bytes received from and sent to its first peer.
    pub fn transfer(&self) -> Result<(u64, u64)> {
        let peer = self.peer()?;
        Ok((peer[5].parse()?, peer[6].parse()?))
    }

    /// Gives the interface addresses and brings it up.
    pub fn bring_up(&self, addresses: &[&str]) -> Result<()> {
        for address in addresses {
            let nodad = if address.contains(':') { " nodad" } else { "" };
            self.ip(&format!("addr add {address} dev {}{nodad}", self.interface))?;
        }
        self.ip(&format!("link set {} mtu 1420 up", self.interface))?;
        Ok(())
    }

    /// Runs `ip` in its namespace.
    pub fn ip(&self, arguments: &str) -> Result<String> {
        output_of(
            Command::new("ip")
                .args(["-n", &self.namespace])
                .args(arguments.split_whitespace()),
        )
    }

    /// Whether its program ends by itself within `limit`, and with success.
    pub fn ends_by_itself(&mut self, limit: Duration) -> Result<()> {
        let process = self.process.as_mut().context("the kernel doesn't end")?;
        match wait_for(process, limit)? {
            Some(status) if status.success() => Ok(()),
            Some(status) => bail!("it ended with {status}"),
            None => bail!("it still runs after {limit:?}"),
        }
    }

    /// CPU time its program has used, in clock ticks of 10 ms.
    pub fn cpu_ticks(&self) -> Result<u64> {
        let process = self.process.as_ref().context("the kernel is no process")?;
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", process.id()))?;
        let (_, fields) = stat.rsplit_once(')').context("an odd stat file")?;
        let fields: Vec<_> = fields.split_whitespace().collect();
        Ok(fields[11].parse::<u64>()? + fields[12].parse::<u64>()?)
    }
}

impl Drop for Wg {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.directory);
        // The kernel's goes with its namespace.
        let Some(process) = &mut self.process else {
            return;
        };
        // Asked to, it removes its socket; killed, it would leave it there.
        let _ = sys::send_signal(process.id(), Signal::Terminate);
        if !matches!(wait_for(process, Duration::from_secs(3)), Ok(Some(_))) {
            let _ = process.kill();
            let _ = process.wait();
        }
        let _ = std::fs::remove_file(socket(&self.interface));
    }
}

/// The socket that `wg` asks about an interface.
pub fn socket(interface: &str) -> PathBuf {
    Path::new(SOCKETS).join(format!("{interface}.sock"))
}

/// An address and a port, as everybody writes them.
pub fn at(address: IpAddr, port: u16) -> String {
    std::net::SocketAddr::new(address, port).to_string()
}

/// Runs `command` with `text` on its standard input; what it printed.
fn feed(command: &mut Command, text: &str) -> Result<String> {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    let mut stdin = child.stdin.take().context("no stdin")?;
    // One that refuses early closes its end.
    let _ = stdin.write_all(text.as_bytes());
    drop(stdin);
    let output = child.wait_with_output()?;
    ensure!(
        output.status.success(),
        "{command:?} failed: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
