//! A client whose everything goes into a tunnel, with a kill switch, and the server at its other end.

use std::net::IpAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::lab::{PORT, Role};
use crate::leftovers::Before;
use crate::node::{Keys, Node};
use crate::snapshot::Snapshot;
use crate::sys::Signal;
use crate::topology::{Pair, WIRE_A};
use crate::traffic::ping::Pinger;

/// How long traffic may take to come back once a fault is over: a session that the other side lost
/// is noticed after 15 s, and a handshake in vain is tried again after 5 s.
pub const BACK: Duration = Duration::from_secs(30);

/// A client and a server, and the tunnel between them.
#[derive(Debug)]
pub struct World {
    /// The client.
    pub client: Node,
    /// The server.
    pub server: Node,
    /// Where they run: the client is the left one.
    pub pair: Pair,
    /// The hardware addresses of the wire's ends, which another wire gets as well.
    pub hardware: [String; 2],
    /// Limits of open files that a fault took away, by process.
    pub file_limits: Vec<(u32, String)>,
    untouched: [Snapshot; 2],
    before: Before,
}

impl World {
    /// Starts both, in the namespaces `PREFIX-left` and `PREFIX-right`.
    pub fn start(prefix: &str, taltun: &Path) -> Result<Self> {
        let before = Before::look(prefix)?;
        let pair = Pair::create(prefix)?;
        let untouched = [Snapshot::take(&pair.left)?, Snapshot::take(&pair.right)?];
        let (own, hub) = (Keys::generate(taltun)?, Keys::generate(taltun)?);
        let text = format!(
            "[interface]\nmode = \"server\"\ntun_name = \"taltun0\"\nvip = \"10.200.0.1/24\"\n\
             local_addr = \"[::]:{PORT}\"\nprivate_key = \"{}\"\n\
             [[peers]]\npublic_key = \"{}\"\nvip = \"10.200.0.2\"\n",
            hub.private, own.public
        );
        let server = Node::start_with_text(&pair.right, taltun, &text)?;
        let text = format!(
            "[interface]\nmode = \"client\"\ntun_name = \"taltun0\"\nvip = \"10.200.0.2/24\"\n\
             private_key = \"{}\"\nroutes = [\"0.0.0.0/0\", \"::/0\"]\nkill_switch = true\n\
             [[peers]]\npublic_key = \"{}\"\nallowed_ips = [\"0.0.0.0/0\", \"::/0\"]\n\
             endpoint = \"{}:{PORT}\"\npersistent_keepalive = 1\n",
            own.private,
            hub.public,
            outside()
        );
        let client = Node::start_with_text(&pair.left, taltun, &text)?;
        let world = Self {
            client,
            server,
            hardware: pair.hardware()?,
            pair,
            file_limits: Vec::new(),
            untouched,
            before,
        };
        world.is_back().context("before any fault")?;
        Ok(world)
    }

    /// Waits until the tunnel carries packets again, and says how long it took.
    pub fn is_back(&self) -> Result<Duration> {
        let begun = Instant::now();
        let mut pinger = Pinger::new(&self.pair.left, Role::Hub.v4())?;
        pinger.wait_until_answered(BACK)?;
        Ok(begun.elapsed())
    }

    /// Stops both in order and takes everything down; what is left is an error.
    pub fn stop(self) -> Result<()> {
        self.client.stop(Signal::Terminate).context("the client")?;
        self.server.stop(Signal::Terminate).context("the server")?;
        let mut left = Vec::new();
        let sides = [&self.pair.left, &self.pair.right];
        for (namespace, untouched) in sides.into_iter().zip(&self.untouched) {
            let now = Snapshot::take(namespace)?;
            left.extend(untouched.difference(&now));
        }
        drop(self.pair);
        left.extend(self.before.leftovers()?);
        ensure!(left.is_empty(), "left behind: {}", left.join("; "));
        Ok(())
    }
}

/// The server's address outside the tunnel.
fn outside() -> IpAddr {
    WIRE_A.far_v4()
}
