//! ICMP echo, both versions.
//!
//! Own sockets rather than `ping`: a sequence number a call, an answer that is surely the
//! answer to it, and no text to read.

use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicU16, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::netns::Namespace;
use crate::sys;

/// The payload: as much as `ping` sends.
const PAYLOAD: [u8; 56] = [0x5a; 56];
/// The ICMP header of an echo.
const HEADER: usize = 8;
/// How long [`Pinger::wait_until_answered`] waits for one answer.
const TRY: Duration = Duration::from_millis(250);

/// Sends echo requests from a namespace to one address.
#[derive(Debug)]
pub struct Pinger {
    /// A raw ICMP socket; the standard library's UDP socket is its safe shell, as both speak
    /// in datagrams with IP addresses.
    socket: UdpSocket,
    to: IpAddr,
    identifier: u16,
    sequence: u16,
}

impl Pinger {
    /// Pings `to` from `namespace`.
    pub fn new(namespace: &Namespace, to: IpAddr) -> Result<Self> {
        static NEXT: AtomicU16 = AtomicU16::new(1);
        let (domain, protocol) = match to {
            IpAddr::V4(_) => (libc::AF_INET, libc::IPPROTO_ICMP),
            IpAddr::V6(_) => (libc::AF_INET6, libc::IPPROTO_ICMPV6),
        };
        let socket = namespace
            .run(|| sys::socket(domain, libc::SOCK_RAW, protocol))?
            .context("can't open an ICMP socket")?;
        Ok(Self {
            socket: socket.into(),
            to,
            identifier: NEXT.fetch_add(1, Ordering::Relaxed),
            sequence: 0,
        })
    }

    /// The same, with `from` as the source address.
    pub fn from_source(namespace: &Namespace, from: IpAddr, to: IpAddr) -> Result<Self> {
        let pinger = Self::new(namespace, to)?;
        sys::bind_address(&pinger.socket, from)
            .with_context(|| format!("can't send from {from}"))?;
        Ok(pinger)
    }

    /// Sends one request and waits for its answer, at most `limit`: the time it took, or
    /// `None` if there was no answer. A request that the kernel refuses to send is an error.
    pub fn ping(&mut self, limit: Duration) -> Result<Option<Duration>> {
        self.sequence = self.sequence.wrapping_add(1);
        let start = Instant::now();
        self.send()?;
        let is_answer =
            |this: &Self, from, message: &[u8]| from == this.to && this.is_answer(message);
        let answer = self.receive(limit, is_answer)?;
        Ok(answer.map(|_| start.elapsed()))
    }

    /// Sends one request that may pass `hops` routers less one: the address that the router
    /// says which it ends at, as traceroute shows it, or that of the answer.
    pub fn hop(&mut self, hops: u8, limit: Duration) -> Result<Option<IpAddr>> {
        self.sequence = self.sequence.wrapping_add(1);
        sys::set_hops(&self.socket, self.to.is_ipv6(), hops)?;
        self.send()?;
        self.receive(limit, |this, _, message| {
            this.is_answer(message) || this.is_expired(message)
        })
    }

    fn send(&self) -> Result<()> {
        self.socket
            .send_to(&self.request(), SocketAddr::new(self.to, 0))
            .with_context(|| format!("can't ping {}", self.to))?;
        Ok(())
    }

    /// Who sent the first message that is `wanted`, within `limit`.
    fn receive(
        &self,
        limit: Duration,
        wanted: impl Fn(&Self, IpAddr, &[u8]) -> bool,
    ) -> Result<Option<IpAddr>> {
        let start = Instant::now();
        let mut buffer = [0; 2048];
        loop {
            let left = limit.saturating_sub(start.elapsed());
            if left.is_zero() {
                return Ok(None);
            }
            self.socket.set_read_timeout(Some(left))?;
            match self.socket.recv_from(&mut buffer) {
                Ok((length, from)) => {
                    if wanted(self, from.ip(), &buffer[..length]) {
                        return Ok(Some(from.ip()));
                    }
                }
                Err(error)
                    if matches!(
                        error.kind(),
                        ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted
                    ) => {}
                Err(error) => return Err(error).context("can't receive pings"),
            }
        }
    }

    /// Pings until there is an answer, for at most `limit`.
    pub fn wait_until_answered(&mut self, limit: Duration) -> Result<()> {
        let start = Instant::now();
        while start.elapsed() < limit {
            match self.ping(TRY) {
                Ok(Some(_)) => return Ok(()),
                Ok(None) => {}
                // No route yet, or no queue: not an answer either.
                Err(_) => sleep(TRY),
            }
        }
        bail!("{} didn't answer for {limit:?}", self.to)
    }

    /// Sends `count` requests, one after the other, and returns how many were answered within
    /// `limit` each.
    pub fn count_answers(&mut self, count: usize, limit: Duration) -> Result<usize> {
        let mut answered = 0;
        for _ in 0..count {
            answered += usize::from(self.ping(limit)?.is_some());
        }
        Ok(answered)
    }

    fn request(&self) -> Vec<u8> {
        let kind = if self.to.is_ipv4() { 8 } else { 128 };
        let mut packet = vec![kind, 0, 0, 0];
        packet.extend(self.identifier.to_be_bytes());
        packet.extend(self.sequence.to_be_bytes());
        packet.extend(PAYLOAD);
        if self.to.is_ipv4() {
            // The kernel does this itself for ICMPv6, where the checksum covers addresses.
            let checksum = internet_checksum(&packet);
            packet[2..4].copy_from_slice(&checksum.to_be_bytes());
        }
        packet
    }

    /// The ICMP message in what was received: raw IPv4 sockets deliver the IP header too, raw
    /// IPv6 sockets don't.
    fn message<'a>(&self, received: &'a [u8]) -> Option<&'a [u8]> {
        let header = match self.to {
            IpAddr::V4(_) => usize::from(received.first()? & 15) * 4,
            IpAddr::V6(_) => 0,
        };
        received.get(header..)
    }

    /// Whether a router says that the last request passed as many as it may.
    fn is_expired(&self, received: &[u8]) -> bool {
        let (kind, header) = match self.to {
            IpAddr::V4(_) => (11, 20),
            IpAddr::V6(_) => (3, 40),
        };
        self.message(received).is_some_and(|message| {
            // The start of the request follows.
            let request = message.get(HEADER + header..HEADER + header + HEADER);
            message.first() == Some(&kind)
                && request.is_some_and(|request| {
                    request[4..6] == self.identifier.to_be_bytes()
                        && request[6..8] == self.sequence.to_be_bytes()
                })
        })
    }

    fn is_answer(&self, received: &[u8]) -> bool {
        let kind = if self.to.is_ipv4() { 0 } else { 129 };
        self.message(received).is_some_and(|message| {
            message.len() == HEADER + PAYLOAD.len()
                && message[0] == kind
                && message[4..6] == self.identifier.to_be_bytes()
                && message[6..8] == self.sequence.to_be_bytes()
                && message[HEADER..] == PAYLOAD
        })
    }
}

/// An IPv4 packet with an echo request, as a host makes it.
pub fn echo_request(from: Ipv4Addr, to: Ipv4Addr, identifier: u16, sequence: u16) -> Vec<u8> {
    let mut packet = vec![0x45, 0, 0, 84, 0, 0, 0, 0, 64, 1, 0, 0];
    packet.extend(from.octets());
    packet.extend(to.octets());
    let sum = internet_checksum(&packet);
    packet[10..12].copy_from_slice(&sum.to_be_bytes());
    let mut icmp = vec![8, 0, 0, 0];
    icmp.extend(identifier.to_be_bytes());
    icmp.extend(sequence.to_be_bytes());
    icmp.resize(64, 0x5a);
    let sum = internet_checksum(&icmp);
    icmp[2..4].copy_from_slice(&sum.to_be_bytes());
    packet.extend(icmp);
    packet
}

/// The checksum of RFC 1071.
pub(super) fn internet_checksum(bytes: &[u8]) -> u16 {
    let mut sum: u32 = bytes
        .chunks(2)
        .map(|pair| u32::from(pair[0]) << 8 | u32::from(pair.get(1).copied().unwrap_or_default()))
        .sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

#[cfg(test)]
mod tests {
    use super::internet_checksum;

    #[test]
    fn the_checksum_is_that_of_the_example_in_rfc_1071() {
        let data = [0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7];
        assert_eq!(internet_checksum(&data), !0xddf2);
    }

    #[test]
    fn an_odd_last_byte_counts_as_the_high_one() {
        assert_eq!(internet_checksum(&[0x12]), !0x1200);
    }
}
