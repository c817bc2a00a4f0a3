//! What goes over an interface, in both directions: the proof that nothing else does.

use std::collections::BTreeMap;
use std::fmt::{self, Display};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle, sleep};
use std::time::Duration;

use anyhow::{Context, Result};

use crate::netns::Namespace;
use crate::sys;

/// How often a capture looks whether it is to end.
const PAUSE: Duration = Duration::from_millis(20);
/// `ETH_P_ALL`
const EVERY_PROTOCOL: u16 = 3;
/// Length of an Ethernet header.
const ETHERNET: usize = 14;

/// Packets of one kind, as far as anybody asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Packet {
    /// From where.
    pub from: IpAddr,
    /// To where.
    pub to: IpAddr,
    /// The number of the protocol above IP.
    pub protocol: u8,
    /// The port that it comes from; 0 where there are none.
    pub from_port: u16,
    /// The port that it goes to.
    pub to_port: u16,
    /// The segment size that a TCP connection announces with it.
    pub segment: Option<u16>,
}

impl Display for Packet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "protocol {} from {} port {} to {} port {}",
            self.protocol, self.from, self.from_port, self.to, self.to_port
        )
    }
}

/// A running capture.
#[derive(Debug)]
pub struct Capture {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<BTreeMap<Packet, u64>>>,
}

impl Capture {
    /// Listens on `interface` in `namespace`, to IPv4 and IPv6.
    pub fn start(namespace: &Namespace, interface: &str) -> Result<Self> {
        let has_ethernet = namespace
            .ip(&format!("-o link show dev {interface}"))?
            .contains("link/ether");
        let index = namespace.run(|| sys::interface_index(interface))?;
        let index = index.with_context(|| format!("can't listen on {interface}"))?;
        Self::listen(namespace, index, has_ethernet)
    }

    /// Listens on all interfaces of `namespace` that are of Ethernet, also on those that come later.
    pub fn everywhere(namespace: &Namespace) -> Result<Self> {
        // No interface has this number: it stands for all.
        Self::listen(namespace, 0, true)
    }

    fn listen(namespace: &Namespace, index: u32, has_ethernet: bool) -> Result<Self> {
        let socket: UdpSocket = namespace
            .run(|| {
                let socket = sys::socket(libc::AF_PACKET, libc::SOCK_RAW, 0)?;
                sys::bind_packet_socket(&socket, index, EVERY_PROTOCOL)?;
                io::Result::Ok(socket)
            })?
            .context("can't listen to packets")?
            .into();
        socket.set_read_timeout(Some(PAUSE))?;
        let stop = Arc::new(AtomicBool::new(false));
        let ended = Arc::clone(&stop);
        let thread = thread::spawn(move || {
            let mut seen = BTreeMap::new();
            let mut buffer = vec![0; 1 << 16];
            loop {
                match socket.recv(&mut buffer) {
                    Ok(length) => {
                        let frame = &buffer[..length];
                        let packet = if has_ethernet {
                            frame.get(ETHERNET..)
                        } else {
                            Some(frame)
                        };
                        if let Some(packet) = packet.and_then(parse) {
                            *seen.entry(packet).or_default() += 1;
                        }
                    }
                    Err(_) if ended.load(Ordering::Relaxed) => return seen,
                    Err(_) => {}
                }
            }
        });
        Ok(Self {
            stop,
            thread: Some(thread),
        })
    }

    /// Ends it, once what is on its way has arrived: how often each kind of packet was seen.
    pub fn finish(mut self) -> BTreeMap<Packet, u64> {
        sleep(Duration::from_millis(100));
        self.end().unwrap_or_default()
    }

    fn end(&mut self) -> Option<BTreeMap<Packet, u64>> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.take()?.join().ok()
    }
}

impl Drop for Capture {
    fn drop(&mut self) {
        self.end();
    }
}

/// What an IP packet is. Others, ARP among them, aren't any.
fn parse(packet: &[u8]) -> Option<Packet> {
    let (from, to, protocol, rest): (IpAddr, IpAddr, u8, &[u8]) = match packet.first()? >> 4 {
        4 => {
            let address = |at: usize| -> Option<Ipv4Addr> {
                Some(Ipv4Addr::from(
                    <[u8; 4]>::try_from(packet.get(at..at + 4)?).ok()?,
                ))
            };
            let header = usize::from(packet[0] & 15) * 4;
            let rest = packet.get(header..)?;
            (
                address(12)?.into(),
                address(16)?.into(),
                *packet.get(9)?,
                rest,
            )
        }
        6 => {
            let address = |at: usize| -> Option<Ipv6Addr> {
                Some(Ipv6Addr::from(
                    <[u8; 16]>::try_from(packet.get(at..at + 16)?).ok()?,
                ))
            };
            (
                address(8)?.into(),
                address(24)?.into(),
                *packet.get(6)?,
                packet.get(40..)?,
            )
        }
        _ => return None,
    };
    let port = |at: usize| match rest.get(at..at + 2) {
        Some(bytes) if matches!(i32::from(protocol), libc::IPPROTO_TCP | libc::IPPROTO_UDP) => {
            u16::from_be_bytes([bytes[0], bytes[1]])
        }
        _ => 0,
    };
    let is_tcp = i32::from(protocol) == libc::IPPROTO_TCP;
    Some(Packet {
        from,
        to,
        protocol,
        from_port: port(0),
        to_port: port(2),
        segment: is_tcp.then(|| segment(rest)).flatten(),
    })
}

/// The option "maximum segment size" of a TCP header (RFC 9293, section 3.2).
fn segment(header: &[u8]) -> Option<u16> {
    let length = usize::from(header.get(12)? >> 4) * 4;
    let mut options = header.get(20..length)?;
    loop {
        options = match *options {
            [2, 4, high, low, ..] => return Some(u16::from_be_bytes([high, low])),
            [0, ..] | [] | [_] => return None,
            [1, ref rest @ ..] => rest,
            [_, length, ..] => options.get(usize::from(length.max(2))..)?,
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_ports_and_segment_sizes_are_read() {
        let mut packet = vec![
            0x45, 0, 0, 44, 0, 0, 0, 0, 64, 6, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2,
        ];
        packet.extend([
            0x12, 0x34, 0, 80, 0, 0, 0, 0, 0, 0, 0, 0, 0x60, 2, 0, 0, 0, 0, 0, 0,
        ]);
        packet.extend([2, 4, 5, 100]);
        let parsed = parse(&packet).unwrap();
        assert_eq!(parsed.segment, Some(1380));
        assert_eq!((parsed.from_port, parsed.to_port), (0x1234, 80));
        assert_eq!(parsed.to, IpAddr::from([10, 0, 0, 2]));
        assert_eq!(parse(&packet[..30]).and_then(|parsed| parsed.segment), None);
        assert_eq!(parse(&[0x45, 0]), None);
        assert_eq!(parse(&[]), None);
    }
}
