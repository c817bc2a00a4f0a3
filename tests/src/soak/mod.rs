//! A hub and a client under mixed traffic for a long time, with all that people change meanwhile; and
//! whether memory and descriptors stay as they are.
//!
//! A round is a stream each way, datagrams of which each is checked, and a change: a ban that comes and
//! goes, a limit that a reload changes, a peer that a reload adds or takes away, a hop interval that another
//! one follows. Sessions are renewed each two minutes meanwhile, and data goes to another port each second
//! or two.

mod sample;

use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::leftovers::Before;
use crate::node::{Keys, Node};
use crate::sys::Signal;
use crate::topology::{Pair, WIRE_A};
use crate::traffic::checked_datagrams;
use crate::traffic::ping::Pinger;
use crate::traffic::stream::Stream;

pub use sample::{Growth, Sample};

/// How long a stream goes on in a round.
const STREAM: Duration = Duration::from_secs(1);
/// Datagrams of a round.
const DATAGRAMS: u64 = 5_000;
/// How long the tunnel may take to carry packets.
const UP: Duration = Duration::from_secs(30);
/// Somebody who is banned and unbanned; nobody has this address.
const BANNED: &str = "203.0.113.77";
/// The addresses in the tunnel.
const HUB: &str = "10.201.0.1";
const CLIENT: &str = "10.201.0.2";

/// A hub and a client, and the tunnel between them.
#[derive(Debug)]
pub struct Soak {
    hub: Node,
    client: Node,
    pair: Pair,
    keys: [Keys; 3],
    rounds: u64,
    before: Before,
}

/// What a round moved.
#[derive(Debug, Clone, Copy, Default)]
pub struct Moved {
    /// Bytes of TCP, both ways.
    pub bytes: u64,
    /// Datagrams that were sent, and that arrived, each of them right and once.
    pub datagrams: [u64; 2],
}

impl Soak {
    /// Starts both, in namespaces whose names begin with this.
    pub fn start(prefix: &str, taltun: &Path) -> Result<Self> {
        let before = Before::look(prefix)?;
        let pair = Pair::create(prefix)?;
        let mut keys = Vec::new();
        for _ in 0..3 {
            keys.push(Keys::generate(taltun)?);
        }
        let keys: [Keys; 3] = keys.try_into().map_err(|_| anyhow::anyhow!("three keys"))?;
        let hub = Node::start_with_text(&pair.right, taltun, &hub_text(&keys, 0))?;
        let client = Node::start_with_text(&pair.left, taltun, &client_text(&keys, 0))?;
        let soak = Self {
            hub,
            client,
            pair,
            keys,
            rounds: 0,
            before,
        };
        Pinger::new(&soak.pair.left, address(HUB))?.wait_until_answered(UP)?;
        Ok(soak)
    }

    /// Traffic, a change, and traffic that goes on after it.
    pub fn round(&mut self) -> Result<Moved> {
        self.rounds += 1;
        let (left, right) = (&self.pair.left, &self.pair.right);
        let to = SocketAddr::new(address(HUB), 0);
        let streams = [
            Stream::start(left, right, to)?,
            Stream::download(left, right, to)?,
        ];
        thread::sleep(STREAM / 2);
        self.change().context("a change")?;
        thread::sleep(STREAM / 2);
        let mut moved = Moved::default();
        for stream in streams {
            moved.bytes += stream.finish().context("a stream broke")?.bytes;
        }
        let sent = checked_datagrams::send(left, right, to, DATAGRAMS)?;
        moved.datagrams = [sent.sent, sent.arrived];
        // A tenth may be lost where nothing waits for a slow machine.
        ensure!(
            sent.arrived * 10 >= sent.sent * 9,
            "{} of {} datagrams arrived",
            sent.arrived,
            sent.sent
        );
        Ok(moved)
    }

    /// What people do: each kind of it in its turn.
    fn change(&self) -> Result<()> {
        match self.rounds % 4 {
            0 => drop(self.hub.tell(&["ban", BANNED])?),
            1 if self.rounds > 1 => drop(self.hub.tell(&["unban", BANNED])?),
            2 => {
                fs::write(self.client.config(), client_text(&self.keys, self.rounds))?;
                self.client.tell(&["reload"])?;
            }
            _ => {
                fs::write(self.hub.config(), hub_text(&self.keys, self.rounds))?;
                self.hub.tell(&["reload"])?;
            }
        }
        Ok(())
    }

    /// How both are now: the hub and the client.
    pub fn samples(&self) -> Result<[Sample; 2]> {
        Ok([Sample::take(&self.hub)?, Sample::take(&self.client)?])
    }

    /// Handshakes so far, by the client's status.
    pub fn handshakes(&self) -> Result<u64> {
        let peers = self.client.status()?.peers;
        Ok(peers.iter().map(|peer| peer.handshakes).sum())
    }

    /// Stops both in order and takes everything down; what is left is an error.
    pub fn stop(self) -> Result<()> {
        self.client.stop(Signal::Terminate).context("the client")?;
        self.hub.stop(Signal::Terminate).context("the hub")?;
        drop(self.pair);
        let left = self.before.leftovers()?;
        ensure!(left.is_empty(), "left behind: {}", left.join("; "));
        Ok(())
    }
}

fn address(text: &str) -> IpAddr {
    text.parse().expect("it is an address")
}

/// The hub's file: limits change from reload to reload, and a second peer comes and goes.
fn hub_text(keys: &[Keys; 3], round: u64) -> String {
    let rate = 300 + 10 * (round % 7);
    let more = if round % 8 == 3 {
        format!(
            "[[peers]]\npublic_key = \"{}\"\nvip = \"10.201.0.3\"\n",
            keys[2].public
        )
    } else {
        String::new()
    };
    format!(
        "[interface]\nmode = \"server\"\ntun_name = \"taltun0\"\nvip = \"{HUB}/24\"\n\
         local_addr = \"[::]:9000\"\nprivate_key = \"{}\"\n\
         [hop]\nport_range = [9100, 9131]\n\
         [[peers]]\npublic_key = \"{}\"\nvip = \"{CLIENT}\"\nrate_up = \"{rate} Mbit/s\"\n{more}",
        keys[0].private, keys[1].public
    )
}

/// The client's file: it hops each second or two.
fn client_text(keys: &[Keys; 3], round: u64) -> String {
    let interval = 1 + round / 4 % 2;
    format!(
        "[interface]\nmode = \"client\"\ntun_name = \"taltun0\"\nvip = \"{CLIENT}/24\"\n\
         private_key = \"{}\"\n[hop]\nhop_interval = {interval}\nprobe_interval = 1\n\
         [[peers]]\npublic_key = \"{}\"\nallowed_ips = [\"10.201.0.0/24\"]\n\
         endpoint = \"{}:9100-9131\"\npersistent_keepalive = 5\n",
        keys[1].private,
        keys[0].public,
        WIRE_A.far_v4()
    )
}
