//! Whether anything leaves a client beside its tunnel: datagrams are sent without end, some to its neighbour on
//! the wire and some to the world, and whatever of them comes out of its machine by any interface has leaked.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::sys;
use crate::topology::{Pair, WIRE_A};
use crate::traffic::capture::Capture;

/// The port that they are sent to; nothing else uses it.
const PORT: u16 = 9909;
/// From some to the next.
const PAUSE: Duration = Duration::from_millis(10);
/// Somebody in the world (RFC 5737, RFC 3849).
const WORLD: (Ipv4Addr, Ipv6Addr) = (
    Ipv4Addr::new(203, 0, 113, 9),
    Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 9),
);

/// A watch over the left one of a pair.
#[derive(Debug)]
pub struct Watch {
    capture: Capture,
    sender: Sender,
}

#[derive(Debug)]
struct Sender {
    stop: Arc<AtomicBool>,
    tried: Arc<AtomicU64>,
    thread: Option<JoinHandle<()>>,
}

impl Watch {
    /// Begins. The left one's own addresses have to be there.
    pub fn start(pair: &Pair) -> Result<Self> {
        // All that leads out of the left one leads to the right one.
        let capture = Capture::everywhere(&pair.right)?;
        let mut ways = vec![(WIRE_A.near_v4(), WIRE_A.far_v4(), IpAddr::from(WORLD.0))];
        if sys::kernel_has_ipv6() {
            ways.push((WIRE_A.near_v6(), WIRE_A.far_v6(), IpAddr::from(WORLD.1)));
        }
        let mut sockets = Vec::new();
        for (from, neighbour, world) in ways {
            // From an address of the wire: what comes out of the tunnel has others.
            let bound = pair.left.run(|| UdpSocket::bind((from, 0)))?;
            let socket = bound.with_context(|| format!("can't send from {from}"))?;
            sockets.push((
                socket,
                [neighbour, world].map(|to| SocketAddr::new(to, PORT)),
            ));
        }
        Ok(Self {
            capture,
            sender: Sender::start(sockets),
        })
    }

    /// How many packets have leaked in all that time.
    pub fn finish(mut self) -> Result<u64> {
        self.sender.end();
        let tried = self.sender.tried.load(Ordering::Relaxed);
        ensure!(tried > 0, "nothing was sent, so nothing could leak");
        let seen = self.capture.finish();
        let leaked = seen.iter().filter(|(packet, _)| packet.to_port == PORT);
        Ok(leaked.map(|(_, count)| count).sum())
    }
}

impl Sender {
    fn start(sockets: Vec<(UdpSocket, [SocketAddr; 2])>) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let tried = Arc::new(AtomicU64::new(0));
        let (ended, counted) = (Arc::clone(&stop), Arc::clone(&tried));
        let thread = thread::spawn(move || {
            while !ended.load(Ordering::Relaxed) {
                for (socket, receivers) in &sockets {
                    for to in receivers {
                        // Where there is no way out at all, nothing leaks.
                        let _ = socket.send_to(b"this has leaked", to);
                        counted.fetch_add(1, Ordering::Relaxed);
                    }
                }
                thread::sleep(PAUSE);
            }
        });
        Self {
            stop,
            tried,
            thread: Some(thread),
        }
    }

    fn end(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Drop for Sender {
    fn drop(&mut self) {
        self.end();
    }
}
