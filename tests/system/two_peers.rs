//! A hub with two peers, ana and luis, each on a network of its own.

use std::fs;

use anyhow::{Context, Result};
use serde_json::Value;
use taltun_tests::node::{Keys, Node};
use taltun_tests::sys::Signal;
use taltun_tests::topology::{Star, private_prefix};

use crate::support::{UP_LIMIT, eventually, taltun};

/// The hub, ana at `star.a` and luis at `star.b`.
pub struct TwoPeers {
    pub star: Star,
    /// The hub's, ana's and luis's.
    pub keys: [Keys; 3],
    /// The hub.
    pub node: Node,
    _spokes: [Node; 2],
}

impl TwoPeers {
    /// With what the hub's file says, where these are the keys. It listens at port 9100, and the
    /// three have the addresses 1 to 3 of `10.200.0.0/24` and `fd00:200::/64`.
    pub fn start(text: impl FnOnce(&[Keys; 3]) -> String) -> Result<Self> {
        let star = Star::create(&private_prefix())?;
        let keys = generate()?;
        let node = Node::start_with_text(&star.hub, &taltun()?, &text(&keys))?;
        let spoke = |place: usize, hub: &str| {
            let namespace = [&star.a, &star.b][place - 1];
            let own = place + 1;
            let text = format!(
                "[interface]\nmode = \"client\"\nlocal_addr = \"0.0.0.0:9100\"\n\
                 vip = [\"10.200.0.{own}/24\", \"fd00:200::{own}/64\"]\nprivate_key = \"{}\"\n\
                 [[peers]]\npublic_key = \"{}\"\nallowed_ips = [\"10.200.0.0/24\", \"fd00:200::/64\"]\n\
                 endpoint = \"{hub}\"\npersistent_keepalive = 25\n",
                keys[place].private, keys[0].public
            );
            Node::start_with_text(namespace, &taltun()?, &text)
        };
        let spokes = [spoke(1, "10.99.1.1:9100")?, spoke(2, "10.99.2.1:9100")?];
        let hub = Self {
            star,
            keys,
            node,
            _spokes: spokes,
        };
        eventually("both peers are up", UP_LIMIT, || {
            let status = hub.status()?;
            let peers = status["peers"].as_array().context("no peers")?;
            let is_up = |peer: &Value| !peer["latest_handshake_seconds"].is_null();
            // Others that the file has needn't be.
            Ok(peers.iter().take(2).all(is_up) && peers.len() >= 2)
        })?;
        Ok(hub)
    }

    /// What the hub tells.
    pub fn status(&self) -> Result<Value> {
        Ok(serde_json::from_str(
            &self.node.tell(&["status", "--json"])?,
        )?)
    }

    /// Has the hub read another file; what it says to that.
    pub fn reload(&self, text: &str) -> Result<String> {
        fs::write(self.node.config(), text)?;
        self.node.tell(&["reload"])
    }

    /// Stops the hub, which has to end well.
    pub fn end(mut self) -> Result<()> {
        self.node.end(Signal::Terminate)
    }
}

/// New keys of the three.
pub fn generate() -> Result<[Keys; 3]> {
    let generate = || Keys::generate(&taltun()?);
    Ok([generate()?, generate()?, generate()?])
}

/// What `taltun check` says of a file, its mistakes included.
pub fn checked(name: &str, text: &str) -> Result<String> {
    let file = std::env::temp_dir().join(format!("{name}.toml"));
    fs::write(&file, text)?;
    let output = std::process::Command::new(taltun()?)
        .args(["check", "--config"])
        .arg(&file)
        .output()?;
    fs::remove_file(&file)?;
    let said = [output.stdout, output.stderr].concat();
    Ok(String::from_utf8_lossy(&said).into_owned())
}
