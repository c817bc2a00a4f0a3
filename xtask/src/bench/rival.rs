//! One host of a rival: its program, or the kernel's own WireGuard, with an interface that `wg`
//! has told of its peers.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use taltun_tests::command::output_of;
use taltun_tests::files::FILES;
use taltun_tests::netns::Namespace;

use super::contender::{Contender, Kind};
use super::process::Process;
use super::socket::{Socket, interface_name};

/// The MTU of every tunnel.
const MTU: u16 = 1420;
/// How long a program may take until it can be configured.
const START_LIMIT: Duration = Duration::from_secs(5);

/// A running host; dropping it ends it. The kernel's has no process, and its time isn't known to
/// be its own.
// In this order, because a socket is left alone while its program runs.
pub struct Rival {
    process: Option<Process>,
    _socket: Option<Socket>,
}

impl Rival {
    /// Starts it as the host with this number, a single digit, tells it `config` in the words of
    /// `wg setconf`, and gives its interface this address and prefix.
    pub fn start(
        contender: &Contender,
        namespace: &Namespace,
        number: u8,
        config: &str,
        address: &str,
    ) -> Result<Self> {
        let interface = interface_name(number);
        let directory = directory(namespace);
        fs::create_dir_all(&directory)
            .with_context(|| format!("can't make {}", directory.display()))?;
        let rival = if contender.kind == Kind::Kernel {
            namespace.ip(&format!("link add {interface} type wireguard"))?;
            Self {
                process: None,
                _socket: None,
            }
        } else {
            Self::start_process(contender, namespace, &interface)?
        };
        let configure = || -> Result<()> {
            let file = directory.join("wg.conf");
            fs::write(&file, config)?;
            let mut wg = namespace.command("wg");
            output_of(wg.args(["setconf", &interface]).arg(&file)).context("wg refused it")?;
            namespace.ip(&format!("addr add {address} dev {interface}"))?;
            namespace.ip(&format!("link set {interface} mtu {MTU} up"))?;
            Ok(())
        };
        configure().with_context(|| {
            format!("can't configure it (its log: {:?})", end_of_log(namespace))
        })?;
        Ok(rival)
    }

    /// Its process, where it has one.
    pub fn pid(&self) -> Option<u32> {
        self.process.as_ref().map(Process::pid)
    }

    fn start_process(
        contender: &Contender,
        namespace: &Namespace,
        interface: &str,
    ) -> Result<Self> {
        let word = contender.kind.word();
        let log = File::create(directory(namespace).join("log"))?;
        let mut command = namespace.command(&contender.program);
        command
            .args(contender.kind.arguments())
            .arg(interface)
            .stdout(log.try_clone()?)
            .stderr(log);
        let mut process = Process::spawn(&mut command, word)?;
        let socket = Socket::of(interface);
        let start = Instant::now();
        while !socket.is_there() {
            ensure!(
                process.is_running()?,
                "{word} ended at once: {}",
                end_of_log(namespace)
            );
            ensure!(
                start.elapsed() < START_LIMIT,
                "{word} made no socket within {START_LIMIT:?}"
            );
            sleep(Duration::from_millis(10));
        }
        Ok(Self {
            process: Some(process),
            _socket: Some(socket),
        })
    }
}

/// Has the kernel of `namespace` forward, and not tell those who send that there is a better way:
/// there isn't. Interfaces that come later do so, too.
pub fn forward(namespace: &Namespace) -> Result<()> {
    namespace
        .run(|| {
            for place in ["all", "default"] {
                fs::write(
                    format!("/proc/sys/net/ipv4/conf/{place}/send_redirects"),
                    "0",
                )?;
            }
            fs::write("/proc/sys/net/ipv4/ip_forward", "1")
        })?
        .context("can't switch forwarding on")
}

/// Where its files are; they go when the namespace does.
fn directory(namespace: &Namespace) -> PathBuf {
    Path::new(FILES).join(namespace.name())
}

fn end_of_log(namespace: &Namespace) -> String {
    let log = fs::read_to_string(directory(namespace).join("log")).unwrap_or_default();
    let lines: Vec<_> = log.lines().map(str::trim).collect();
    lines[lines.len().saturating_sub(5)..].join("; ")
}
