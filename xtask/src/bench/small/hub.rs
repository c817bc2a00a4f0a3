//! A hub for the spokes: Taltun, which relays by itself, or another, whose kernel forwards.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use taltun_tests::command::output_of;
use taltun_tests::files::FILES;
use taltun_tests::lab::PORT;
use taltun_tests::netns::Namespace;
use taltun_tests::node::{AfXdp, Keys, Node};
use taltun_tests::sys::Signal;

use super::Candidate;
use super::field::{Field, hub_core, pin};
use super::load::inner;
use crate::bench::contender::Kind;
use crate::bench::process::Process;
use crate::bench::socket::{Socket, interface_name};
use crate::bench::usage;

const ADDRESS: &str = "10.201.255.1/16";
const MTU: u16 = 1420;
/// How long it may take until it can be used.
const START_LIMIT: Duration = Duration::from_secs(5);

/// A running hub.
pub struct Hub {
    public_key: String,
    host: Host,
}

enum Host {
    Taltun(Node),
    Rival {
        process: Process,
        _socket: Socket,
    },
    /// Works in softirqs and worker threads, whose time isn't known to be its own.
    Kernel,
}

impl Hub {
    /// Starts it and tells it of the spokes.
    pub fn start(
        field: &Field,
        candidate: &Candidate,
        spokes: &[String],
        taltun: &Path,
        pinned: bool,
    ) -> Result<Self> {
        let keys = Keys::generate(taltun)?;
        let namespace = &field.net.left;
        let host = match candidate.contender.kind {
            Kind::Taltun => start_taltun(namespace, candidate, spokes, &keys, taltun)?,
            _ => start_rival(namespace, candidate, spokes, &keys)?,
        };
        let hub = Self {
            public_key: keys.public,
            host,
        };
        if pinned {
            for thread in hub.threads()? {
                // One that helped with the start may have ended since.
                pin(thread, hub_core()).or_else(|error| {
                    let gone = !Path::new(&format!("/proc/{thread}")).exists();
                    if gone { Ok(()) } else { Err(error) }
                })?;
            }
        }
        Ok(hub)
    }

    /// Its public key, base64.
    pub fn public_key(&self) -> &str {
        &self.public_key
    }

    /// CPU seconds that its process has used.
    pub fn cpu_seconds(&self) -> Result<f64> {
        self.pid().map_or(Ok(0.0), |pid| usage::cpu_seconds(&[pid]))
    }

    /// Ends it.
    pub fn stop(self) -> Result<()> {
        match self.host {
            Host::Taltun(node) => node.stop(Signal::Terminate),
            Host::Rival { .. } | Host::Kernel => Ok(()),
        }
    }

    fn pid(&self) -> Option<u32> {
        match &self.host {
            Host::Taltun(node) => Some(node.pid()),
            Host::Rival { process, .. } => Some(process.pid()),
            Host::Kernel => None,
        }
    }

    fn threads(&self) -> Result<Vec<u32>> {
        let Some(pid) = self.pid() else {
            return Ok(Vec::new());
        };
        let tasks = fs::read_dir(format!("/proc/{pid}/task"))?.flatten();
        let numbers = tasks.filter_map(|task| task.file_name().to_str()?.parse().ok());
        Ok(numbers.collect())
    }
}

fn start_taltun(
    namespace: &Namespace,
    candidate: &Candidate,
    spokes: &[String],
    keys: &Keys,
    taltun: &Path,
) -> Result<Host> {
    let mut text = format!(
        "[interface]\nmode = \"server\"\ntun_name = \"taltun0\"\nvip = \"{ADDRESS}\"\n\
         local_addr = \"0.0.0.0:{PORT}\"\nprivate_key = \"{}\"\n",
        keys.private
    );
    for (number, key) in spokes.iter().enumerate() {
        let vip = inner(number);
        // Writing to a String can't fail.
        let _ = write!(text, "[[peers]]\npublic_key = \"{key}\"\nvip = \"{vip}\"\n");
    }
    // All spokes have one address here.
    let _ = write!(
        text,
        "[accel]\nxdp = \"{}\"\naf_xdp = \"{}\"\n\
         handshakes_per_second = 100000\n",
        candidate.xdp.name(),
        candidate.af_xdp.name()
    );
    let node = Node::start_with_text(namespace, taltun, &text)?;
    let start = Instant::now();
    loop {
        let status = node.status()?;
        if candidate.af_xdp != AfXdp::On || status.queues_over_af_xdp() == Some(1) {
            break;
        }
        ensure!(
            start.elapsed() < START_LIMIT,
            "no AF_XDP: {:?}",
            status.af_xdp
        );
        sleep(Duration::from_millis(50));
    }
    Ok(Host::Taltun(node))
}

fn start_rival(
    namespace: &Namespace,
    candidate: &Candidate,
    spokes: &[String],
    keys: &Keys,
) -> Result<Host> {
    let contender = &candidate.contender;
    let interface = interface_name(1);
    let directory = Path::new(FILES).join(namespace.name());
    fs::create_dir_all(&directory)?;
    let host = if contender.kind == Kind::Kernel {
        namespace.ip(&format!("link add {interface} type wireguard"))?;
        Host::Kernel
    } else {
        let log = File::create(directory.join("log"))?;
        let mut command = namespace.command(&contender.program);
        command
            .args(contender.kind.arguments())
            .arg(&interface)
            .stdout(log.try_clone()?)
            .stderr(log);
        let process = Process::spawn(&mut command, contender.kind.word())?;
        let socket = Socket::of(&interface);
        let start = Instant::now();
        while !socket.is_there() {
            ensure!(start.elapsed() < START_LIMIT, "it made no socket");
            sleep(Duration::from_millis(10));
        }
        Host::Rival {
            process,
            _socket: socket,
        }
    };
    let mut config = format!(
        "[Interface]\nPrivateKey = {}\nListenPort = {PORT}\n",
        keys.private
    );
    for (number, key) in spokes.iter().enumerate() {
        let address = inner(number);
        let _ = write!(
            config,
            "[Peer]\nPublicKey = {key}\nAllowedIPs = {address}/32\n"
        );
    }
    let file = directory.join("wg.conf");
    fs::write(&file, config)?;
    let mut wg = namespace.command("wg");
    output_of(wg.args(["setconf", &interface]).arg(&file)).context("wg refused it")?;
    namespace.ip(&format!("addr add {ADDRESS} dev {interface}"))?;
    namespace.ip(&format!("link set {interface} mtu {MTU} up"))?;
    namespace
        .run(|| {
            for place in ["all", "default", &interface] {
                fs::write(
                    format!("/proc/sys/net/ipv4/conf/{place}/send_redirects"),
                    "0",
                )?;
            }
            fs::write("/proc/sys/net/ipv4/ip_forward", "1")
        })?
        .context("can't switch forwarding on")?;
    Ok(host)
}
