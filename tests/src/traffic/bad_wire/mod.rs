//! A wire that loses, doubles, delays and corrupts datagrams, for kernels without netem and
//! with a count of all it did.
//!
//! It is a pair of UDP sockets in a namespace between two machines, each of which takes it for
//! the other: WireGuard answers whatever address it hears. So its faults come between sealing
//! and opening, and a corrupted datagram has a right UDP checksum and reaches whoever opens
//! it. Datagrams that came as one message leave as one where they still fit together, so that
//! it is fast enough for gigabytes.

mod faults;
mod outgoing;

use std::io::{self, ErrorKind};
use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context, Result};

use faults::Mangler;
pub use faults::{Counts, Faults};
use outgoing::Outgoing;

use crate::netns::Namespace;
use crate::sys;

/// When nothing has come for so long, whatever was held back leaves.
const IDLE: Duration = Duration::from_millis(5);
/// What waits in its sockets while its threads don't run.
const BUFFER: i32 = 16 << 20;
/// A message of any size.
const LONGEST: usize = 1 << 16;

/// One end of a wire: our address there, and the machine's.
#[derive(Debug, Clone, Copy)]
pub struct End {
    /// What the machine takes for the other machine.
    pub ours: SocketAddr,
    /// The machine.
    pub theirs: SocketAddr,
}

/// A running wire; dropping it cuts it.
#[derive(Debug)]
pub struct BadWire {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Shared {
    stop: AtomicBool,
    faults: Mutex<Faults>,
    /// Left to right, right to left.
    counts: [Mutex<Counts>; 2],
}

impl BadWire {
    /// Joins the two ends, in `namespace`. It does everything right at first.
    pub fn start(namespace: &Namespace, left: End, right: End, seed: u64) -> Result<Self> {
        let [left, right] = [open(namespace, left)?, open(namespace, right)?];
        let mut wire = Self {
            shared: Arc::default(),
            threads: Vec::new(),
        };
        let ways = [(left.try_clone()?, right.try_clone()?), (right, left)];
        for (way, (from, to)) in ways.into_iter().enumerate() {
            let shared = Arc::clone(&wire.shared);
            // Each way has a sequence of its own.
            let mangler = Mangler::new(seed.wrapping_mul(2).wrapping_add(way as u64));
            wire.threads.push(thread::spawn(move || {
                carry(&from, &to, &shared, way, mangler);
            }));
        }
        Ok(wire)
    }

    /// Makes it as bad as this.
    pub fn set(&self, faults: Faults) {
        *lock(&self.shared.faults) = faults;
    }

    /// What it has done so far: left to right, right to left.
    pub fn counts(&self) -> [Counts; 2] {
        [0, 1].map(|way| *lock(&self.shared.counts[way]))
    }
}

impl Drop for BadWire {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            // One that panicked has carried nothing since, which the machines have noticed.
            let _ = thread.join();
        }
    }
}

fn open(namespace: &Namespace, end: End) -> Result<UdpSocket> {
    let socket = namespace.udp(end.ours)?;
    socket.connect(end.theirs)?;
    socket.set_read_timeout(Some(IDLE))?;
    sys::enlarge_buffers(&socket, BUFFER).context("can't enlarge a socket's buffers")?;
    sys::merge_received(&socket).context("can't switch UDP_GRO on")?;
    Ok(socket)
}

/// Carries datagrams one way until told to stop.
fn carry(from: &UdpSocket, to: &UdpSocket, shared: &Shared, way: usize, mut mangler: Mangler) {
    let mut buffer = vec![0; LONGEST];
    let mut out = Outgoing::default();
    while !shared.stop.load(Ordering::Relaxed) {
        match sys::receive_merged(from, &mut buffer) {
            Ok((length, segment)) => {
                let faults = *lock(&shared.faults);
                for datagram in buffer[..length].chunks(segment.max(1)) {
                    mangler.take(datagram, &faults, &mut out);
                }
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => mangler.release_all(&mut out),
            // What ICMP said of a datagram that we sent: nobody listens yet, or it was too
            // long for some link.
            Err(_) => {}
        }
        for (bytes, segment) in out.messages() {
            send(to, bytes, segment, &mut mangler.counts);
        }
        out.clear();
        *lock(&shared.counts[way]) = mangler.counts;
    }
}

/// Sends a message, datagram by datagram where the path doesn't take it as a whole.
fn send(to: &UdpSocket, bytes: &[u8], segment: usize, counts: &mut Counts) {
    let datagrams = bytes.len().div_ceil(segment) as u64;
    if sys::send_merged(to, bytes, segment).is_ok() {
        counts.sent += datagrams;
        return;
    }
    for datagram in bytes.chunks(segment) {
        match send_alone(to, datagram) {
            Ok(()) => counts.sent += 1,
            Err(_) => counts.refused += 1,
        }
    }
}

/// Sends one datagram, in fragments if need be. The first error may be what ICMP said of an
/// earlier one.
fn send_alone(to: &UdpSocket, datagram: &[u8]) -> io::Result<()> {
    to.send(datagram).or_else(|_| to.send(datagram)).map(drop)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
