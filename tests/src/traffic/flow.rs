//! A steady flow of numbered datagrams, to see when it stands still, what of it is lost, and
//! whether anything arrives twice.

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle, sleep};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};

use crate::netns::Namespace;

/// The pause between two datagrams.
const PAUSE: Duration = Duration::from_millis(1);
/// How long after the last one was sent one may still arrive.
const LAST: Duration = Duration::from_millis(500);
/// A datagram's bytes; its number comes first.
const LENGTH: usize = 64;

/// A flow that goes on until told to finish; dropping it cuts it off.
#[derive(Debug)]
pub struct Flow {
    stop: Arc<AtomicBool>,
    sender: Option<JoinHandle<u64>>,
    receiver: Option<JoinHandle<Result<Vec<Arrival>>>>,
}

/// A datagram that arrived.
#[derive(Debug, Clone, Copy)]
struct Arrival {
    number: u64,
    at: Instant,
}

/// What became of a flow.
#[derive(Debug)]
pub struct Outcome {
    /// Datagrams sent.
    pub sent: u64,
    arrivals: Vec<Arrival>,
    finished: Instant,
}

impl Flow {
    /// Sends from `from` to an address of `to`, a thousand datagrams a second or what the
    /// machine is good for.
    pub fn start(from: &Namespace, to: &Namespace, address: SocketAddr) -> Result<Self> {
        let input = to.udp(address)?;
        let address = input.local_addr()?;
        input.set_read_timeout(Some(LAST))?;
        let output = from.run(|| {
            let any = if address.is_ipv4() {
                "0.0.0.0:0"
            } else {
                "[::]:0"
            };
            UdpSocket::bind(any)
        })??;
        let stop = Arc::new(AtomicBool::new(false));
        let sender = thread::spawn({
            let stop = Arc::clone(&stop);
            move || send(&output, address, &stop)
        });
        let receiver = thread::spawn({
            let stop = Arc::clone(&stop);
            move || receive(&input, &stop)
        });
        Ok(Self {
            stop,
            sender: Some(sender),
            receiver: Some(receiver),
        })
    }

    /// Ends it; what became of it. The same datagram twice is an error.
    pub fn finish(mut self) -> Result<Outcome> {
        let finished = Instant::now();
        self.stop.store(true, Ordering::Relaxed);
        let panicked = |_| anyhow!("a thread of the flow panicked");
        let sender = self.sender.take().context("the flow has ended")?;
        let receiver = self.receiver.take().context("the flow has ended")?;
        let sent = sender.join().map_err(panicked)?;
        let arrivals = receiver.join().map_err(panicked)??;
        let numbers: BTreeSet<u64> = arrivals.iter().map(|arrival| arrival.number).collect();
        ensure!(
            numbers.len() == arrivals.len(),
            "{} datagrams arrived twice",
            arrivals.len() - numbers.len()
        );
        Ok(Outcome {
            sent,
            arrivals,
            finished,
        })
    }
}

impl Drop for Flow {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

impl Outcome {
    /// Datagrams that arrived, each once.
    pub fn arrived(&self) -> u64 {
        self.arrivals.len() as u64
    }

    /// The longest time in which nothing arrived, from `since` on, until it was finished.
    pub fn longest_pause(&self, since: Instant) -> Duration {
        let arrivals = self.arrivals.iter().map(|arrival| arrival.at);
        let moments = arrivals.filter(|at| (since..self.finished).contains(at));
        let moments = moments.chain([self.finished]);
        let pauses = moments.scan(since, |last, at| Some(at - std::mem::replace(last, at)));
        pauses.max().unwrap_or_default()
    }
}

fn send(socket: &UdpSocket, to: SocketAddr, stop: &AtomicBool) -> u64 {
    let mut datagram = [0; LENGTH];
    let mut sent = 0_u64;
    while !stop.load(Ordering::Relaxed) {
        datagram[..8].copy_from_slice(&sent.to_be_bytes());
        // What can't be sent for a while is what this is here to see.
        if socket.send_to(&datagram, to).is_ok() {
            sent += 1;
        }
        sleep(PAUSE);
    }
    sent
}

fn receive(socket: &UdpSocket, stop: &AtomicBool) -> Result<Vec<Arrival>> {
    let mut arrivals = Vec::new();
    let mut buffer = [0; LENGTH + 1];
    let mut until: Option<Instant> = None;
    while until.is_none_or(|until| Instant::now() < until) {
        if until.is_none() && stop.load(Ordering::Relaxed) {
            until = Some(Instant::now() + LAST);
        }
        match socket.recv(&mut buffer) {
            Ok(LENGTH) => {
                let number = buffer.first_chunk().copied().map(u64::from_be_bytes);
                arrivals.extend(number.map(|number| Arrival {
                    number,
                    at: Instant::now(),
                }));
            }
            Ok(other) => anyhow::bail!("{other} bytes arrived, not {LENGTH}"),
            Err(error)
                if matches!(
                    error.kind(),
                    ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted
                ) => {}
            Err(error) => return Err(error).context("can't receive the flow"),
        }
    }
    Ok(arrivals)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_pause_is_found_at_the_start_between_and_at_the_end() {
        let start = Instant::now();
        let second = |seconds| start + Duration::from_secs(seconds);
        let outcome = |arrivals: &[u64]| Outcome {
            sent: 9,
            arrivals: arrivals
                .iter()
                .enumerate()
                .map(|(number, at)| Arrival {
                    number: number as u64,
                    at: second(*at),
                })
                .collect(),
            finished: second(20),
        };
        let pause = |arrivals: &[u64]| outcome(arrivals).longest_pause(second(10)).as_secs();
        assert_eq!(pause(&[1, 2, 15, 16, 19]), 5);
        assert_eq!(pause(&[11, 12, 18, 19]), 6);
        assert_eq!(pause(&[11, 12, 13, 21]), 7);
        assert_eq!(pause(&[3]), 10);
    }
}
