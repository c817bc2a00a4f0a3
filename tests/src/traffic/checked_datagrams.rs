//! UDP datagrams whose content is known beforehand, as [`super::stream`] does it for TCP: one
//! that arrives wrong, or twice, is an error; those that don't arrive, or after a later one, are counted.
//!
//! Sixteen of one length are sent as one message, so that a tunnel with offloads gets them as
//! one. The sender never is further ahead of the receiver than queues can hold: what is
//! missing was lost for another reason.

use std::io::ErrorKind;
use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, sleep};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail, ensure};

use crate::netns::Namespace;
use crate::random::Random;
use crate::sys;

/// Datagrams of one length that are sent as one message.
const GROUP: u64 = 16;
/// The longest, which fits a tunnel with an MTU of 1420 over IPv6.
const LONGEST: usize = 1372;
/// Bytes of the number in front.
const NUMBER: usize = 8;
/// How far the sender may be ahead of the newest that arrived.
const AHEAD: u64 = 256;
/// For so long it waits for one; then all that were under way are taken for lost.
const PATIENCE: Duration = Duration::from_millis(50);
/// When nothing has arrived for so long after the last was sent, nothing will.
const QUIET: Duration = Duration::from_secs(1);
/// What waits in the receiver's socket while it doesn't run.
const BUFFER: i32 = 8 << 20;

/// What came of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Outcome {
    /// Datagrams sent.
    pub sent: u64,
    /// How many of them arrived, each of them right and once.
    pub arrived: u64,
    /// How many of these arrived after one that was sent later.
    pub overtaken: u64,
}

/// What sender and receiver know of each other.
#[derive(Debug, Default)]
struct Progress {
    /// One more than the newest that arrived.
    newest: AtomicU64,
    sent: AtomicBool,
    failed: AtomicBool,
}

/// How fast they are sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pace {
    /// In groups, as fast as the receiver takes them.
    Fast,
    /// In groups with such a pause behind each.
    Groups(Duration),
    /// One by one with such a pause behind each.
    Single(Duration),
}

/// Sends `count` datagrams from `client` to `to`, an address of `server`, port 0 letting the
/// kernel choose, as fast as they are received, and checks each that arrives.
pub fn send(client: &Namespace, server: &Namespace, to: SocketAddr, count: u64) -> Result<Outcome> {
    send_at(Pace::Fast, client, server, to, count)
}

/// The same at this pace.
pub fn send_at(
    pace: Pace,
    client: &Namespace,
    server: &Namespace,
    to: SocketAddr,
    count: u64,
) -> Result<Outcome> {
    let input = server.udp(to)?;
    let to = input.local_addr()?;
    input.set_read_timeout(Some(QUIET / 4))?;
    sys::enlarge_buffers(&input, BUFFER)?;
    let from = match to {
        SocketAddr::V4(_) => "0.0.0.0:0",
        SocketAddr::V6(_) => "[::]:0",
    };
    let output = client.udp(from)?;
    output.connect(to)?;

    let content = Content::new();
    let progress = Progress::default();
    thread::scope(|scope| {
        let receiver = scope.spawn(|| {
            let received = receive(&input, &content, count, &progress);
            progress.failed.store(received.is_err(), Ordering::Relaxed);
            received
        });
        let sent = send_all(pace, &output, &content, count, &progress);
        progress.sent.store(true, Ordering::Relaxed);
        let (arrived, overtaken) = receiver
            .join()
            .map_err(|_| anyhow!("the receiver panicked"))??;
        sent?;
        Ok(Outcome {
            sent: count,
            arrived,
            overtaken,
        })
    })
}

fn send_all(
    pace: Pace,
    output: &UdpSocket,
    content: &Content,
    count: u64,
    progress: &Progress,
) -> Result<()> {
    let mut message = Vec::new();
    let (group, pause) = match pace {
        Pace::Fast => (GROUP, Duration::ZERO),
        Pace::Groups(pause) => (GROUP, pause),
        Pace::Single(pause) => (1, pause),
    };
    for first in (0..count).step_by(group as usize) {
        wait_for_receiver(first, progress);
        ensure!(
            !progress.failed.load(Ordering::Relaxed),
            "the receiver gave up"
        );
        message.clear();
        for number in first..(first + group).min(count) {
            content.write(number, &mut message);
        }
        sys::send_merged(output, &message, Content::length(first))
            .with_context(|| format!("can't send the datagrams from {first} on"))?;
        sleep(pause);
    }
    Ok(())
}

fn wait_for_receiver(next: u64, progress: &Progress) {
    let start = Instant::now();
    while progress.newest.load(Ordering::Relaxed) + AHEAD < next && start.elapsed() < PATIENCE {
        sleep(Duration::from_micros(100));
    }
}

/// How many arrived, and how many of them after a later one.
fn receive(
    input: &UdpSocket,
    content: &Content,
    count: u64,
    progress: &Progress,
) -> Result<(u64, u64)> {
    let mut seen = vec![false; usize::try_from(count)?];
    let (mut arrived, mut overtaken) = (0, 0);
    let mut buffer = vec![0; 1 << 16];
    let mut last = Instant::now();
    loop {
        let length = match input.recv(&mut buffer) {
            Ok(length) => length,
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                if progress.sent.load(Ordering::Relaxed) && last.elapsed() >= QUIET {
                    return Ok((arrived, overtaken));
                }
                continue;
            }
            Err(error) => return Err(error).context("can't receive"),
        };
        last = Instant::now();
        let number = content.check(&buffer[..length])?;
        let Some(seen) = usize::try_from(number).ok().and_then(|at| seen.get_mut(at)) else {
            bail!("datagram {number} arrived, which nobody sent");
        };
        ensure!(!*seen, "datagram {number} arrived twice");
        *seen = true;
        arrived += 1;
        let newest = progress.newest.fetch_max(number + 1, Ordering::Relaxed);
        overtaken += u64::from(number < newest);
    }
}

/// What is in a datagram: its number, and bytes from a place that the number tells.
struct Content(Vec<u8>);

impl Content {
    /// Bytes to take from.
    const POOL: usize = 1 << 16;

    fn new() -> Self {
        Self(Random::new(1).bytes(Self::POOL))
    }

    /// How long the datagram of this number is: as long as the others of its group.
    fn length(number: u64) -> usize {
        let any = Random::new(number / GROUP).below((LONGEST - NUMBER + 1) as u64);
        NUMBER + any as usize
    }

    /// What follows the number.
    fn rest(&self, number: u64) -> &[u8] {
        let start = number.wrapping_mul(7919) as usize % (Self::POOL - LONGEST);
        &self.0[start..start + Self::length(number) - NUMBER]
    }

    fn write(&self, number: u64, message: &mut Vec<u8>) {
        message.extend(number.to_le_bytes());
        message.extend(self.rest(number));
    }

    /// The number of a datagram that is just as it was sent.
    fn check(&self, datagram: &[u8]) -> Result<u64> {
        let Some((number, rest)) = datagram.split_first_chunk() else {
            bail!("a datagram of {} bytes arrived", datagram.len());
        };
        let number = u64::from_le_bytes(*number);
        ensure!(rest == self.rest(number), "datagram {number} arrived wrong");
        Ok(number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sockets() -> (UdpSocket, UdpSocket) {
        let input = UdpSocket::bind("127.0.0.1:0").unwrap();
        input.set_read_timeout(Some(QUIET / 4)).unwrap();
        let output = UdpSocket::bind("127.0.0.1:0").unwrap();
        output.connect(input.local_addr().unwrap()).unwrap();
        (output, input)
    }

    /// What a receiver says of these datagrams, out of a hundred.
    fn received(datagrams: &[Vec<u8>]) -> Result<(u64, u64)> {
        let (output, input) = sockets();
        for datagram in datagrams {
            output.send(datagram).unwrap();
        }
        let progress = Progress::default();
        progress.sent.store(true, Ordering::Relaxed);
        receive(&input, &Content::new(), 100, &progress)
    }

    fn datagram(number: u64) -> Vec<u8> {
        let mut datagram = Vec::new();
        Content::new().write(number, &mut datagram);
        datagram
    }

    #[test]
    fn those_that_arrive_are_counted_in_any_order() {
        assert_eq!(received(&[3, 99, 0].map(datagram)).unwrap(), (3, 1));
        assert_eq!(received(&[3, 4, 99].map(datagram)).unwrap(), (3, 0));
    }

    #[test]
    fn what_is_wrong_doubled_or_invented_is_found() {
        let mut wrong = datagram(5);
        *wrong.last_mut().unwrap() ^= 1;
        let mut short = datagram(6);
        short.pop();
        for (datagrams, said) in [
            (vec![wrong], "datagram 5 arrived wrong"),
            (vec![short], "datagram 6 arrived wrong"),
            (vec![datagram(7); 2], "datagram 7 arrived twice"),
            (
                vec![datagram(100)],
                "datagram 100 arrived, which nobody sent",
            ),
            (vec![vec![0; 3]], "a datagram of 3 bytes arrived"),
        ] {
            assert_eq!(received(&datagrams).unwrap_err().to_string(), said);
        }
    }

    #[test]
    fn a_sender_and_a_receiver_agree() {
        let (output, input) = sockets();
        let (content, progress) = (Content::new(), Progress::default());
        let arrived = thread::scope(|scope| {
            // As few as fit a socket's buffer of the usual size.
            let receiver = scope.spawn(|| receive(&input, &content, 50, &progress));
            send_all(Pace::Fast, &output, &content, 50, &progress).unwrap();
            progress.sent.store(true, Ordering::Relaxed);
            receiver.join().unwrap().unwrap()
        });
        assert_eq!(arrived, (50, 0));
    }
}
