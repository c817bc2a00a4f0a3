//! ICMP echo requests to one address, of both versions, and which of them were answered.
//!
//! A raw socket rather than one of `ping_group_range`, which allows nobody by default. It is connected,
//! so the kernel leaves out what other hosts send.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Instant;

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::UdpSocket;

use crate::dataplane::offload::checksum::Sum;
use crate::report::RoundTrips;

/// The ICMP header of an echo.
const HEADER: usize = 8;
/// With a payload as `ping` has it.
const REQUEST: usize = HEADER + 56;
/// The largest IPv4 header and the answer.
const ANSWER: usize = 60 + REQUEST;

/// Where requests go around what would lead them elsewhere.
#[derive(Debug, Clone, Copy)]
pub(super) enum Way<'a> {
    /// Through this interface.
    Interface(&'a str),
    /// As datagrams of the tunnel go, which have this mark.
    Mark(Option<u32>),
}

/// Requests to one address.
#[derive(Debug)]
pub(super) struct Echo {
    /// The raw socket; that of UDP is its safe shell, as both are connected and speak in messages.
    socket: UdpSocket,
    to: IpAddr,
    identifier: [u8; 2],
    /// When each was sent, and how many seconds its answer took.
    requests: Vec<(Instant, Option<f64>)>,
    problem: Option<String>,
}

impl Echo {
    /// Nothing is sent yet.
    pub(super) fn new(to: IpAddr, way: Way<'_>, identifier: u16) -> io::Result<Self> {
        let (domain, protocol) = match to {
            IpAddr::V4(_) => (Domain::IPV4, Protocol::ICMPV4),
            IpAddr::V6(_) => (Domain::IPV6, Protocol::ICMPV6),
        };
        let socket = Socket::new(domain, Type::RAW, Some(protocol))?;
        socket.set_nonblocking(true)?;
        match way {
            Way::Interface(name) => socket.bind_device(Some(name.as_bytes()))?,
            Way::Mark(Some(mark)) => socket.set_mark(mark)?,
            Way::Mark(None) => {}
        }
        socket.connect(&SocketAddr::new(to, 0).into())?;
        Ok(Self {
            socket: UdpSocket::from_std(socket.into())?,
            to,
            identifier: identifier.to_be_bytes(),
            requests: Vec::new(),
            problem: None,
        })
    }

    /// Sends the next request. One that the kernel refuses counts as sent and never answered.
    pub(super) async fn send(&mut self) {
        let sequence = self.requests.len() as u16;
        let request = request(self.to, self.identifier, sequence);
        self.requests.push((Instant::now(), None));
        if let Err(error) = self.socket.send(&request).await {
            self.problem = Some(error.to_string());
        }
    }

    /// Waits until another request is answered. Never ends where there is none to wait for.
    pub(super) async fn hear(&mut self) {
        let mut buffer = [0; ANSWER];
        loop {
            match self.socket.recv(&mut buffer).await {
                Ok(length) => {
                    if self.note(&buffer[..length], Instant::now()) {
                        return;
                    }
                }
                // What a router says of a request.
                Err(error) => self.problem = Some(error.to_string()),
            }
        }
    }

    /// How long the answer to this request took, seconds.
    pub(super) fn answer(&self, request: usize) -> Option<f64> {
        self.requests.get(request)?.1
    }

    /// Whether each request is answered.
    pub(super) fn is_done(&self) -> bool {
        self.requests.iter().all(|(_, answer)| answer.is_some())
    }

    /// What became of all.
    pub(super) fn round_trips(&self) -> RoundTrips {
        let answers = self.requests.iter().filter_map(|(_, answer)| *answer);
        let mut answers: Vec<f64> = answers.collect();
        answers.sort_by(f64::total_cmp);
        RoundTrips {
            address: self.to,
            sent: self.requests.len() as u64,
            received: answers.len() as u64,
            min_seconds: answers.first().copied(),
            median_seconds: of_percent(&answers, 50),
            p99_seconds: of_percent(&answers, 99),
            max_seconds: answers.last().copied(),
            problem: self.problem.clone(),
        }
    }

    /// Takes note of a message; whether it answers a request that wasn't answered before.
    fn note(&mut self, message: &[u8], now: Instant) -> bool {
        let Some(sequence) = answered(self.to, self.identifier, message) else {
            return false;
        };
        // Numbers start again after 65,536.
        let of_number = self.requests.iter_mut().skip(usize::from(sequence));
        let Some((sent, answer @ None)) = of_number.step_by(1 << 16).last() else {
            return false;
        };
        *answer = Some(now.saturating_duration_since(*sent).as_secs_f64());
        true
    }
}

/// The value that this many percent of these, which are sorted, don't exceed (nearest rank).
fn of_percent(sorted: &[f64], percent: usize) -> Option<f64> {
    let rank = (sorted.len() * percent).div_ceil(100);
    sorted.get(rank.saturating_sub(1)).copied()
}

fn request(to: IpAddr, identifier: [u8; 2], sequence: u16) -> [u8; REQUEST] {
    let mut request = [0x5a; REQUEST];
    request[..4].copy_from_slice(&[echo(to).0, 0, 0, 0]);
    request[4..6].copy_from_slice(&identifier);
    request[6..8].copy_from_slice(&sequence.to_be_bytes());
    // ICMPv6's is over the addresses as well, which the kernel knows.
    if to.is_ipv4() {
        let checksum = Sum::default().with(&request).finish();
        request[2..4].copy_from_slice(&checksum);
    }
    request
}

/// The number of the request that `message` answers, if it does.
fn answered(to: IpAddr, identifier: [u8; 2], message: &[u8]) -> Option<u16> {
    // IPv4 comes with its header, IPv6 without.
    let header = match to {
        IpAddr::V4(_) => usize::from(message.first()? & 0xf) * 4,
        IpAddr::V6(_) => 0,
    };
    let header = message.get(header..)?.first_chunk::<HEADER>()?;
    let is_ours = header[0] == echo(to).1 && header[4..6] == identifier;
    is_ours.then(|| u16::from_be_bytes([header[6], header[7]]))
}

/// The types of requests and of answers (RFC 792 and RFC 4443).
fn echo(to: IpAddr) -> (u8, u8) {
    match to {
        IpAddr::V4(_) => (8, 0),
        IpAddr::V6(_) => (128, 129),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const V4: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);
    const V6: IpAddr = IpAddr::V6(std::net::Ipv6Addr::LOCALHOST);

    fn reply(to: IpAddr, sequence: u16) -> Vec<u8> {
        let mut message = if to.is_ipv4() {
            let mut header = vec![0; 24];
            header[0] = 0x46;
            header
        } else {
            Vec::new()
        };
        let mut echo_reply = request(to, [7, 9], sequence);
        echo_reply[0] = echo(to).1;
        message.extend_from_slice(&echo_reply);
        message
    }

    #[test]
    fn an_answer_is_of_its_request_and_nothing_else_is_one() {
        for to in [V4, V6] {
            assert_eq!(answered(to, [7, 9], &reply(to, 300)), Some(300));
            assert_eq!(answered(to, [7, 8], &reply(to, 300)), None);
            let own = request(to, [7, 9], 300);
            assert_eq!(answered(V6, [7, 9], &own), None, "a request is no answer");
            for length in 0..reply(to, 1).len() {
                // Cut anywhere, it is an answer or none, and no panic.
                let whole = length >= reply(to, 1).len() - REQUEST + HEADER;
                assert_eq!(
                    answered(to, [7, 9], &reply(to, 1)[..length]).is_some(),
                    whole
                );
            }
        }
    }

    #[test]
    fn a_request_over_ipv4_has_a_right_checksum() {
        let request = request(V4, [1, 2], 3);
        assert_eq!(Sum::default().with(&request).finish(), [0, 0]);
    }

    #[test]
    fn percentiles_are_values_that_were_measured() {
        assert_eq!(of_percent(&[], 50), None);
        assert_eq!(of_percent(&[1.0], 99), Some(1.0));
        assert_eq!(of_percent(&[1.0, 2.0, 3.0, 4.0], 50), Some(2.0));
        let hundred: Vec<f64> = (1..=100).map(f64::from).collect();
        assert_eq!(of_percent(&hundred, 99), Some(99.0));
    }
}
