//! A TCP connection whose content is known beforehand, so that a byte that is wrong, missing
//! or doubled is found where it happens.
//!
//! The content is a block of pseudo-random bytes over and over, each time with its number in
//! front: as good as random throughout, and costs no more than a comparison.

use std::fmt;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail, ensure};

use crate::netns::Namespace;
use crate::random::Random;

/// The length of a block.
const BLOCK: usize = 64 * 1024;
/// How long connecting may take.
const CONNECT_LIMIT: Duration = Duration::from_secs(10);
/// A connection that moves nothing for so long is broken.
const STALL_LIMIT: Duration = Duration::from_secs(20);
/// How long a rate is measured.
const MEASURED: Duration = Duration::from_secs(4);
/// What a queue that is full, and a TCP that starts, may take before.
pub const SETTLED: Duration = Duration::from_secs(1);
/// Of what such a rate counts, TCP's payload is this.
const PAYLOAD: f64 = 1368.0 / 1420.0;

/// A connection that is sending all it can; dropping it cuts it off.
#[derive(Debug)]
pub struct Stream {
    started: Instant,
    stop: Arc<AtomicBool>,
    received: Arc<AtomicU64>,
    sender: Option<JoinHandle<Result<u64>>>,
    receiver: Option<JoinHandle<Result<u64>>>,
    ends: [TcpStream; 2],
}

/// What a connection that was ended properly has done.
#[derive(Debug, Clone, Copy)]
pub struct Outcome {
    /// Bytes received, each of them right, and just as many as were sent.
    pub bytes: u64,
    /// From the first to the last.
    pub elapsed: Duration,
}

/// A byte that isn't the one that was sent: no connection may have one, whatever else happens to
/// it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WrongByte(
    /// How many arrived right before it.
    pub u64,
);

impl fmt::Display for WrongByte {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "byte {} arrived wrong", self.0)
    }
}

impl std::error::Error for WrongByte {}

impl Outcome {
    /// The mean rate.
    pub fn gbps(self) -> f64 {
        gbps(self.bytes, self.elapsed)
    }
}

impl Stream {
    /// Connects from `client` to `to`, an address of `server`, port 0 letting the kernel
    /// choose, and sends that way until told to finish.
    pub fn start(client: &Namespace, server: &Namespace, to: SocketAddr) -> Result<Self> {
        let (near, far) = connect(client, server, to)?;
        Self::between(near, far)
    }

    /// The same, but it is the server that sends, as in a download.
    pub fn download(client: &Namespace, server: &Namespace, to: SocketAddr) -> Result<Self> {
        let (near, far) = connect(client, server, to)?;
        Self::between(far, near)
    }

    fn between(output: TcpStream, input: TcpStream) -> Result<Self> {
        input.set_read_timeout(Some(STALL_LIMIT))?;
        output.set_write_timeout(Some(STALL_LIMIT))?;

        let ends = [output.try_clone()?, input.try_clone()?];
        let stop = Arc::new(AtomicBool::new(false));
        let received = Arc::new(AtomicU64::new(0));
        let sender = thread::spawn({
            let stop = Arc::clone(&stop);
            move || send(output, &stop)
        });
        let receiver = thread::spawn({
            let received = Arc::clone(&received);
            move || receive(input, &received)
        });
        Ok(Self {
            started: Instant::now(),
            stop,
            received,
            sender: Some(sender),
            receiver: Some(receiver),
            ends,
        })
    }

    /// Bytes received and found right so far.
    pub fn received(&self) -> u64 {
        self.received.load(Ordering::Relaxed)
    }

    /// Whether it has come to an end by itself, which means that it broke.
    pub fn is_broken(&self) -> bool {
        [&self.sender, &self.receiver]
            .into_iter()
            .flatten()
            .any(JoinHandle::is_finished)
    }

    /// Waits until it has received more than `bytes` in all, at most `limit`.
    pub fn wait_for_more_than(&self, bytes: u64, limit: Duration) -> Result<()> {
        let start = Instant::now();
        while self.received() <= bytes {
            ensure!(!self.is_broken(), "the connection broke");
            ensure!(
                start.elapsed() < limit,
                "the connection didn't move for {limit:?}"
            );
            thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    /// Lets the sender end its block, closes, and checks that all of it arrived. A connection
    /// that broke, stalled or carried a wrong byte is an error.
    pub fn finish(mut self) -> Result<Outcome> {
        self.stop.store(true, Ordering::Relaxed);
        let sent = join(self.sender.take());
        let received = join(self.receiver.take());
        let elapsed = self.started.elapsed();
        // A receiver that gave up makes the sender fail too: it is the one who knows why.
        let received = received?;
        let sent = sent?;
        ensure!(
            sent == received,
            "{sent} bytes were sent and {received} received"
        );
        Ok(Outcome {
            bytes: received,
            elapsed,
        })
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for end in &self.ends {
            // Fails when the connection has ended, which is what we want.
            let _ = end.shutdown(Shutdown::Both);
        }
        for thread in [self.sender.take(), self.receiver.take()] {
            if thread.is_some() {
                let _ = join(thread);
            }
        }
    }
}

/// The two ends of a new connection from `client` to `to`, an address of `server`.
fn connect(
    client: &Namespace,
    server: &Namespace,
    to: SocketAddr,
) -> Result<(TcpStream, TcpStream)> {
    let listener = server.tcp(to)?;
    let to = listener.local_addr()?;
    let near = client
        .run(|| TcpStream::connect_timeout(&to, CONNECT_LIMIT))?
        .with_context(|| format!("can't connect to {to}"))?;
    // The kernel has accepted it already, or we wouldn't be connected.
    let (far, _) = listener.accept()?;
    Ok((near, far))
}

/// Megabits a second of packets in the tunnel that each of the streams carries, over some seconds
/// and after it had time to settle: what a rate of `rate_up` or `rate_down` limits.
pub fn packet_rates(streams: &[Stream]) -> Result<Vec<f64>> {
    thread::sleep(SETTLED);
    let received = || streams.iter().map(Stream::received).collect::<Vec<_>>();
    let (start, before) = (Instant::now(), received());
    thread::sleep(MEASURED);
    let (elapsed, after) = (start.elapsed(), received());
    ensure!(!streams.iter().any(Stream::is_broken), "a connection broke");
    let rate = |(before, after): (&u64, &u64)| {
        (after - before) as f64 * 8.0 / 1e6 / elapsed.as_secs_f64() / PAYLOAD
    };
    Ok(before.iter().zip(&after).map(rate).collect())
}

/// So many bytes in so much time, in Gbit/s.
pub fn gbps(bytes: u64, time: Duration) -> f64 {
    bytes as f64 * 8.0 / time.as_secs_f64() / 1e9
}

fn join(thread: Option<JoinHandle<Result<u64>>>) -> Result<u64> {
    thread
        .context("the connection has been ended before")?
        .join()
        .map_err(|_| anyhow!("a thread of the connection panicked"))?
}

fn send(mut output: TcpStream, stop: &AtomicBool) -> Result<u64> {
    let mut block = Block::first();
    let mut sent = 0;
    while !stop.load(Ordering::Relaxed) {
        output
            .write_all(&block.bytes)
            .with_context(|| format!("sending broke off after {sent} bytes"))?;
        sent += BLOCK as u64;
        block.advance();
    }
    output.shutdown(Shutdown::Write)?;
    Ok(sent)
}

fn receive(mut input: TcpStream, received: &AtomicU64) -> Result<u64> {
    let mut expected = Block::first();
    let mut at = 0;
    let mut buffer = vec![0; BLOCK];
    let mut total = 0;
    loop {
        // Never past the end of a block, so that one comparison does.
        let length = match input.read(&mut buffer[..BLOCK - at]) {
            Ok(0) => return Ok(total),
            Ok(length) => length,
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(error) if is_timeout(&error) => {
                bail!("nothing arrived for {STALL_LIMIT:?} after {total} bytes")
            }
            Err(error) => {
                return Err(error).with_context(|| format!("broke off after {total} bytes"));
            }
        };
        let (got, want) = (&buffer[..length], &expected.bytes[at..at + length]);
        if let Some(wrong) = first_difference(got, want) {
            bail!(WrongByte(total + wrong as u64));
        }
        total += length as u64;
        received.store(total, Ordering::Relaxed);
        at += length;
        if at == BLOCK {
            at = 0;
            expected.advance();
        }
    }
}

fn first_difference(left: &[u8], right: &[u8]) -> Option<usize> {
    if left == right {
        return None; // the usual case, at the speed of memcmp
    }
    left.iter().zip(right).position(|(l, r)| l != r)
}

fn is_timeout(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut)
}

/// The content: block after block.
struct Block {
    number: u64,
    bytes: Vec<u8>,
}

impl Block {
    fn first() -> Self {
        let mut block = Self {
            number: 0,
            bytes: Random::new(0).bytes(BLOCK),
        };
        block.stamp();
        block
    }

    fn advance(&mut self) {
        self.number += 1;
        self.stamp();
    }

    fn stamp(&mut self) {
        self.bytes[..8].copy_from_slice(&self.number.to_le_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn connection() -> (TcpStream, TcpStream) {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let output = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        (output, listener.accept().unwrap().0)
    }

    fn received(bytes: &[u8]) -> Result<u64> {
        let (mut output, input) = connection();
        output.write_all(bytes).unwrap();
        drop(output);
        receive(input, &AtomicU64::new(0))
    }

    fn two_blocks() -> Vec<u8> {
        let mut block = Block::first();
        let mut bytes = block.bytes.clone();
        block.advance();
        bytes.extend(&block.bytes);
        bytes
    }

    #[test]
    fn the_right_content_is_accepted() {
        assert_eq!(received(&two_blocks()).unwrap(), 2 * BLOCK as u64);
    }

    #[test]
    fn a_flipped_bit_is_found_where_it_is() {
        let mut bytes = two_blocks();
        bytes[70_000] ^= 1;
        let error = received(&bytes).unwrap_err();
        assert_eq!(error.to_string(), "byte 70000 arrived wrong");
        assert_eq!(error.downcast_ref(), Some(&WrongByte(70_000)));
    }

    #[test]
    fn a_missing_byte_is_found() {
        let mut bytes = two_blocks();
        bytes.remove(1234);
        assert!(received(&bytes).is_err());
    }

    #[test]
    fn a_block_that_comes_twice_is_found() {
        let mut bytes = Block::first().bytes;
        bytes.extend_from_within(..);
        let error = received(&bytes).unwrap_err().to_string();
        assert_eq!(error, format!("byte {BLOCK} arrived wrong"));
    }
}
