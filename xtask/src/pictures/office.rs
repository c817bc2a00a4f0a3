//! What the pictures show: a hub whose peers ana and luis send, while others aren't there and somebody
//! who knows no key of ours tries.

use std::fmt::Write;
use std::net::UdpSocket;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle, sleep};
use std::time::Duration;

use anyhow::{Context, Result};
use taltun_tests::netns::Namespace;
use taltun_tests::node::{Keys, Node, keep_in};
use taltun_tests::topology::{Star, private_prefix};
use taltun_tests::traffic::stream::Stream;

/// Where the hub's page is.
pub const PAGE: &str = "10.6.0.1:8080";
/// Between two of the stranger's tries.
const PACE: Duration = Duration::from_millis(25);
/// Peers that never connect: name and address.
const OTHERS: [(&str, &str); 3] = [
    ("phone", "10.6.0.4"),
    ("carla", "10.6.0.5"),
    ("printer", "10.6.0.6"),
];

/// The hub with all that happens around it; dropping it ends all of it.
pub struct Office {
    // In this order: who sends goes before what it sends through.
    stranger: Option<(Arc<AtomicBool>, JoinHandle<()>)>,
    streams: Vec<Stream>,
    hub: Node,
    _spokes: [Node; 2],
    star: Star,
}

impl Office {
    /// Starts all of it.
    pub fn start(taltun: &Path) -> Result<Self> {
        let star = Star::create(&private_prefix())?;
        let keys = |_| Keys::generate(taltun);
        let keys: Vec<Keys> = (0..6).map(keys).collect::<Result<_>>()?;
        let hub = Node::start_with_text(&star.hub, taltun, &hub_text(&keys))?;
        let spoke = |namespace, own: usize, address: &str| {
            let text = format!(
                "[interface]\nmode = \"client\"\nvip = \"{address}/24\"\nprivate_key = \"{}\"\n\
                 local_addr = \"0.0.0.0:42608\"\n\
                 [[peers]]\nname = \"hub\"\npublic_key = \"{}\"\nallowed_ips = [\"10.6.0.0/24\"]\n\
                 endpoint = \"10.99.{own}.1:9000\"\npersistent_keepalive = 25\n",
                keys[own].private, keys[0].public
            );
            Node::start_with_text(namespace, taltun, &text)
        };
        let spokes = [
            spoke(&star.a, 1, "10.6.0.2")?,
            spoke(&star.b, 2, "10.6.0.3")?,
        ];
        let (there, here) = ("10.6.0.3:0".parse()?, "10.6.0.1:0".parse()?);
        let streams = vec![
            Stream::start(&star.a, &star.b, there)?,
            Stream::start(&star.a, &star.hub, here)?,
        ];
        let stranger = Some(stranger(&star)?);
        let office = Self {
            stranger,
            streams,
            hub,
            _spokes: spokes,
            star,
        };
        office
            .hub
            .tell(&["ban", "198.51.100.0/24", "--for", "10m"])?;
        Ok(office)
    }

    /// Where the hub is.
    pub fn namespace(&self) -> &Namespace {
        &self.star.hub
    }

    /// A command of `taltun` that asks this hub.
    pub fn command(&self, taltun: &Path, words: &[&str]) -> Command {
        let mut command = self.star.hub.command(taltun);
        keep_in(command.args(words), self.hub.directory());
        command
    }
}

impl Drop for Office {
    fn drop(&mut self) {
        if let Some((stop, thread)) = self.stranger.take() {
            stop.store(true, Ordering::Relaxed);
            let _ = thread.join();
        }
        for stream in self.streams.drain(..) {
            let _ = stream.finish();
        }
    }
}

/// Somebody on luis's network who sends what looks like handshakes, for another key than ours.
fn stranger(star: &Star) -> Result<(Arc<AtomicBool>, JoinHandle<()>)> {
    star.b.ip("addr add 10.99.2.66/24 dev to-hub")?;
    let socket = star.b.run(|| UdpSocket::bind("10.99.2.66:0"))?;
    let socket = socket.context("can't send as a stranger")?;
    let stop = Arc::new(AtomicBool::new(false));
    let told = Arc::clone(&stop);
    let mut initiation = [7; 148];
    initiation[..4].copy_from_slice(&[1, 0, 0, 0]);
    let thread = thread::spawn(move || {
        while !told.load(Ordering::Relaxed) {
            // A hub that is gone is no reason to stop before we are told to.
            let _ = socket.send_to(&initiation, "10.99.2.1:9000");
            sleep(PACE);
        }
    });
    Ok((stop, thread))
}

/// The hub's file: those who are there have a rate, so that the picture is the same each time.
fn hub_text(keys: &[Keys]) -> String {
    let mut text = format!(
        "[interface]\nmode = \"server\"\nvip = \"10.6.0.1/24\"\nprivate_key = \"{}\"\n\
         local_addr = \"0.0.0.0:9000\"\n[web]\nlisten = \"{PAGE}\"\n",
        keys[0].private
    );
    let there = [("ana", "10.6.0.2"), ("luis", "10.6.0.3")];
    let rates = [
        "rate_up = \"40 Mbit/s\"\n",
        "rate_down = \"12 Mbit/s\"\n",
        "",
        "",
        "",
    ];
    let all = there.into_iter().chain(OTHERS);
    for (((name, vip), key), rate) in all.zip(&keys[1..]).zip(rates) {
        // Writing to a String can't fail.
        let _ = write!(
            text,
            "[[peers]]\nname = \"{name}\"\npublic_key = \"{}\"\nvip = \"{vip}\"\n{rate}",
            key.public
        );
    }
    text
}
