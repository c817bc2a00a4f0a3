//! A hub for the spokes: Taltun, which relays by itself, or another, whose kernel forwards.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use taltun_tests::lab::PORT;
use taltun_tests::netns::Namespace;
use taltun_tests::node::{AfXdp, Keys, Node};
use taltun_tests::sys::Signal;

use super::Candidate;
use super::field::{Field, hub_core, pin};
use super::load::inner;
use crate::bench::contender::Kind;
use crate::bench::rival::{Rival, forward};
use crate::bench::usage;

const ADDRESS: &str = "10.201.255.1/16";
/// How long it may take until it can be used.
const START_LIMIT: Duration = Duration::from_secs(5);

/// A running hub.
pub struct Hub {
    public_key: String,
    host: Host,
    is_pinned: bool,
}

enum Host {
    Taltun(Node),
    /// It is away for the moment between its end and its start.
    Rival {
        rival: Option<Rival>,
        /// What `wg` told it.
        config: String,
    },
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
            is_pinned: pinned,
        };
        hub.pin()?;
        Ok(hub)
    }

    /// Has all its threads on one core, if that was asked for.
    fn pin(&self) -> Result<()> {
        if !self.is_pinned {
            return Ok(());
        }
        for thread in self.threads()? {
            // One that helped with the start may have ended since.
            pin(thread, hub_core()).or_else(|error| {
                let gone = !Path::new(&format!("/proc/{thread}")).exists();
                if gone { Ok(()) } else { Err(error) }
            })?;
        }
        Ok(())
    }

    /// Kills it, and starts it again as a service manager would.
    pub fn kill_and_start_again(&mut self, field: &Field, candidate: &Candidate) -> Result<()> {
        let namespace = &field.net.left;
        match &mut self.host {
            Host::Taltun(node) => {
                node.kill()?;
                node.start_again(namespace)?;
            }
            Host::Rival { rival, config } => {
                drop(rival.take());
                *rival = Some(bring_up(namespace, candidate, config)?);
            }
        }
        self.pin()
    }

    /// Its public key, base64.
    pub fn public_key(&self) -> &str {
        &self.public_key
    }

    /// CPU seconds that its process has used.
    pub fn cpu_seconds(&self) -> Result<f64> {
        self.pid().map_or(Ok(0.0), |pid| usage::cpu_seconds(&[pid]))
    }

    /// Its process, if it is one.
    pub fn pids(&self) -> Vec<u32> {
        self.pid().into_iter().collect()
    }

    /// Ends it.
    pub fn stop(self) -> Result<()> {
        match self.host {
            Host::Taltun(node) => node.stop(Signal::Terminate),
            Host::Rival { .. } => Ok(()),
        }
    }

    fn pid(&self) -> Option<u32> {
        match &self.host {
            Host::Taltun(node) => Some(node.pid()),
            Host::Rival { rival, .. } => rival.as_ref()?.pid(),
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
    if let Some((first, last)) = candidate.port_range {
        let _ = write!(text, "[hop]\nport_range = [{first}, {last}]\n");
    }
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
    forward(namespace)?;
    let rival = Some(bring_up(namespace, candidate, &config)?);
    Ok(Host::Rival { rival, config })
}

fn bring_up(namespace: &Namespace, candidate: &Candidate, config: &str) -> Result<Rival> {
    Rival::start(&candidate.contender, namespace, 1, config, ADDRESS)
}
