//! A small resolver on our vips: it passes every question on to the name servers of
//! `[dns_routes]`, and before it passes an answer back, the addresses in it that are to be
//! reached through the tunnel are.
//!
//! It remembers nothing and answers nothing itself, with one exception: where the tunnel
//! lacks a family of addresses, names that belong into the tunnel have none of it, as they
//! would be reached around it.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use simple_dns::Packet;
use simple_dns::rdata::RData;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tracing::debug;

use crate::config::DnsRoutes;

/// The port of name servers.
const PORT: u16 = 53;
/// How long a name server may take before the next is asked.
const ANSWER_LIMIT: Duration = Duration::from_secs(3);
/// How long a TCP connection may stay without a word.
const IDLE_LIMIT: Duration = Duration::from_secs(10);
/// How long routes may take to be made.
const ROUTE_LIMIT: Duration = Duration::from_secs(2);
/// Questions that are worked on at once on a socket; more are left unanswered, and asked again.
const QUESTIONS: usize = 256;
/// TCP connections at once.
const CONNECTIONS: usize = 32;
/// Length of the header of a message (RFC 1035, section 4.1.1).
const HEADER: usize = 12;
/// The type of IPv4 addresses.
const TYPE_A: u16 = 1;
/// The type of IPv6 addresses.
const TYPE_AAAA: u16 = 28;
/// The largest message that UDP carries with EDNS in practice.
const LARGEST: usize = 4096;

/// Addresses that belong into the tunnel from now on.
#[derive(Debug)]
pub(super) struct Learned {
    /// Each with how long it may be remembered.
    pub addresses: Vec<(IpAddr, Duration)>,
    /// Told once they are routed.
    pub done: oneshot::Sender<()>,
}

/// The resolver, ready to serve.
#[derive(Debug)]
pub(super) struct Forwarder {
    sockets: Vec<UdpSocket>,
    listeners: Vec<TcpListener>,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    routes: DnsRoutes,
    port: u16,
    has_v4: bool,
    has_v6: bool,
    learned: mpsc::Sender<Learned>,
}

impl Forwarder {
    /// Listens on `vips`, which have to be there.
    pub(super) async fn bind(
        routes: &DnsRoutes,
        vips: &[IpAddr],
        learned: mpsc::Sender<Learned>,
    ) -> Result<Self, String> {
        Self::bind_at(routes, vips, PORT, PORT, learned).await
    }

    async fn bind_at(
        routes: &DnsRoutes,
        vips: &[IpAddr],
        own_port: u16,
        port: u16,
        learned: mpsc::Sender<Learned>,
    ) -> Result<Self, String> {
        let (mut sockets, mut listeners) = (Vec::new(), Vec::new());
        for vip in vips {
            let at = SocketAddr::new(*vip, own_port);
            let refused = |error: io::Error| {
                format!(
                    "dns_routes: cannot listen on {at}: {error} (`ss -lnp sport = 53` shows who \
                     uses it; let that resolver keep away from our vips)"
                )
            };
            let socket = UdpSocket::bind(at).await.map_err(refused)?;
            let at = socket.local_addr().map_err(refused)?;
            listeners.push(TcpListener::bind(at).await.map_err(refused)?);
            sockets.push(socket);
        }
        Ok(Self {
            sockets,
            listeners,
            shared: Arc::new(Shared {
                routes: routes.clone(),
                port,
                has_v4: vips.iter().any(IpAddr::is_ipv4),
                has_v6: vips.iter().any(IpAddr::is_ipv6),
                learned,
            }),
        })
    }

    /// Answers questions, for ever. Dropping what this returns ends all of it.
    pub(super) fn serve(self) -> JoinSet<()> {
        let mut tasks = JoinSet::new();
        for socket in self.sockets {
            tasks.spawn(serve_udp(Arc::new(socket), Arc::clone(&self.shared)));
        }
        for listener in self.listeners {
            tasks.spawn(serve_tcp(listener, Arc::clone(&self.shared)));
        }
        tasks
    }
}

async fn serve_udp(socket: Arc<UdpSocket>, shared: Arc<Shared>) {
    let mut questions = JoinSet::new();
    let mut buffer = [0; LARGEST];
    loop {
        // What is done is let go.
        while questions.try_join_next().is_some() {}
        let Ok((length, from)) = socket.recv_from(&mut buffer).await else {
            // An ICMP error of an earlier answer: nothing to do about it.
            continue;
        };
        if questions.len() >= QUESTIONS {
            continue;
        }
        let question = buffer[..length].to_vec();
        let (socket, shared) = (Arc::clone(&socket), Arc::clone(&shared));
        questions.spawn(async move {
            if let Some(answer) = shared.answer(&question, false).await {
                // Who has gone asks again.
                let _ = socket.send_to(&answer, from).await;
            }
        });
    }
}

async fn serve_tcp(listener: TcpListener, shared: Arc<Shared>) {
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        let Ok((stream, _)) = listener.accept().await else {
            // Out of descriptors, perhaps: not to be tried without a pause.
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        if connections.len() >= CONNECTIONS {
            continue;
        }
        let shared = Arc::clone(&shared);
        connections.spawn(async move {
            // An end of the connection is its end, whatever the reason.
            let _ = converse(stream, &shared).await;
        });
    }
}

/// Answers the questions of one connection, each with its length in front.
async fn converse(mut stream: TcpStream, shared: &Shared) -> io::Result<()> {
    loop {
        let question = timeout(IDLE_LIMIT, read_message(&mut stream)).await??;
        let Some(answer) = shared.answer(&question, true).await else {
            return Ok(());
        };
        write_message(&mut stream, &answer).await?;
    }
}

async fn read_message(stream: &mut TcpStream) -> io::Result<Vec<u8>> {
    let mut message = vec![0; usize::from(stream.read_u16().await?)];
    stream.read_exact(&mut message).await?;
    Ok(message)
}

async fn write_message(stream: &mut TcpStream, message: &[u8]) -> io::Result<()> {
    let length = u16::try_from(message.len()).map_err(io::Error::other)?;
    let mut bytes = length.to_be_bytes().to_vec();
    bytes.extend(message);
    stream.write_all(&bytes).await
}

impl Shared {
    /// The answer to a question, once what it says is routed; `None` where nobody knows one.
    async fn answer(&self, question: &[u8], tcp: bool) -> Option<Vec<u8>> {
        let (name, kind) = asked_for(question)?;
        let ours = self.routes.includes(&name);
        let unreachable = match kind {
            TYPE_A => !self.has_v4,
            TYPE_AAAA => !self.has_v6,
            _ => false,
        };
        if ours && unreachable {
            return no_such_address(question);
        }
        for server in &self.routes.upstream {
            let at = SocketAddr::new(*server, self.port);
            let asking = async {
                if tcp {
                    ask_by_tcp(at, question).await
                } else {
                    ask_by_udp(at, question).await
                }
            };
            match timeout(ANSWER_LIMIT, asking).await {
                Ok(Ok(answer)) => {
                    if ours {
                        self.learn(&answer).await;
                    }
                    return Some(answer);
                }
                Ok(Err(error)) => debug!("dns_routes: {server}: {error}"),
                Err(_) => debug!("dns_routes: {server} doesn't answer"),
            }
        }
        None
    }

    /// Has the addresses of an answer routed, and waits for it.
    async fn learn(&self, answer: &[u8]) {
        let addresses = addresses(answer);
        if addresses.is_empty() {
            return;
        }
        let (done, routed) = oneshot::channel();
        let learned = Learned { addresses, done };
        if self.learned.send(learned).await.is_ok() {
            let _ = timeout(ROUTE_LIMIT, routed).await;
        }
    }
}

async fn ask_by_udp(server: SocketAddr, question: &[u8]) -> io::Result<Vec<u8>> {
    let any: IpAddr = match server {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    // A socket each: its port is another secret that a forger would have to guess.
    let socket = UdpSocket::bind((any, 0)).await?;
    socket.connect(server).await?;
    socket.send(question).await?;
    let mut buffer = vec![0; LARGEST];
    loop {
        let length = socket.recv(&mut buffer).await?;
        if is_answer_to(&buffer[..length], question) {
            buffer.truncate(length);
            return Ok(buffer);
        }
    }
}

async fn ask_by_tcp(server: SocketAddr, question: &[u8]) -> io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(server).await?;
    write_message(&mut stream, question).await?;
    let answer = read_message(&mut stream).await?;
    if is_answer_to(&answer, question) {
        Ok(answer)
    } else {
        Err(io::Error::other("an answer to another question"))
    }
}

/// Whether a message has the number of `question`, is an answer, and repeats the question.
fn is_answer_to(message: &[u8], question: &[u8]) -> bool {
    let (Some(end), true) = (end_of_question(question), message.len() >= HEADER) else {
        return false;
    };
    message[..2] == question[..2]
        && message[2] & 0x80 != 0
        && message.get(HEADER..end) == question.get(HEADER..end)
}

/// The name and the type that the first question of a message is for.
fn asked_for(message: &[u8]) -> Option<(String, u16)> {
    let (labels, rest) = split_name(message)?;
    let labels: Vec<_> = labels.into_iter().map(String::from_utf8_lossy).collect();
    let kind = u16::from_be_bytes(*rest.first_chunk()?);
    Some((labels.join("."), kind))
}

/// Where the first question of a message ends: behind its name, type and class.
fn end_of_question(message: &[u8]) -> Option<usize> {
    let (_, rest) = split_name(message)?;
    let behind = rest.get(4..)?;
    Some(message.len() - behind.len())
}

/// The labels of the first name of a message, and what comes behind it.
fn split_name(message: &[u8]) -> Option<(Vec<&[u8]>, &[u8])> {
    let mut rest = message.get(HEADER..)?;
    let mut labels = Vec::new();
    loop {
        let (length, behind) = rest.split_first()?;
        match *length {
            0 => return Some((labels, behind)),
            length @ 1..=63 => {
                let (label, behind) = behind.split_at_checked(length.into())?;
                labels.push(label);
                rest = behind;
            }
            // Pointers have nothing to point to yet.
            _ => return None,
        }
    }
}

/// The answer that a name exists and has no address of the kind that was asked for.
fn no_such_address(question: &[u8]) -> Option<Vec<u8>> {
    let mut answer = question.get(..end_of_question(question)?)?.to_vec();
    // An answer; recursion was asked for if it was, and is available; no error.
    answer[2] = 0x80 | answer[2] & 0x01;
    answer[3] = 0x80;
    // One question, and nothing else.
    answer[4..HEADER].copy_from_slice(&[0, 1, 0, 0, 0, 0, 0, 0]);
    Some(answer)
}

/// The addresses in an answer, each with its time to live. One that doesn't parse has none.
fn addresses(answer: &[u8]) -> Vec<(IpAddr, Duration)> {
    let Ok(packet) = Packet::parse(answer) else {
        return Vec::new();
    };
    let address = |data: &RData| match data {
        RData::A(a) => Some(IpAddr::from(Ipv4Addr::from(a.address))),
        RData::AAAA(aaaa) => Some(IpAddr::from(Ipv6Addr::from(aaaa.address))),
        _ => None,
    };
    packet
        .answers
        .iter()
        .filter_map(|record| {
            let ttl = Duration::from_secs(record.ttl.into());
            Some((address(&record.rdata)?, ttl))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Domain;
    use crate::crypto::PublicKey;

    /// A question for `name`, of the type with this number.
    fn question(name: &str, kind: u8) -> Vec<u8> {
        let mut message = vec![0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
        for label in name.split('.') {
            message.push(label.len() as u8);
            message.extend(label.as_bytes());
        }
        message.extend([0, 0, kind, 0, 1]);
        message
    }

    /// The answer of a server that knows 192.0.2.7 for everything, for half a minute.
    fn knows(question: &[u8]) -> Vec<u8> {
        let mut message = question[..end_of_question(question).unwrap()].to_vec();
        message[2] = 0x81;
        message[3] = 0x80;
        message[7] = 1;
        message.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 30, 0, 4, 192, 0, 2, 7]);
        message
    }

    async fn forwarder() -> (SocketAddr, JoinSet<()>, mpsc::Receiver<Learned>) {
        let upstream = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let port = upstream.local_addr().unwrap().port();
        let by_tcp = TcpListener::bind(("127.0.0.1", port)).await.unwrap();
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut buffer = [0; 512];
            loop {
                let (length, from) = upstream.recv_from(&mut buffer).await.unwrap();
                // A forger is faster, and doesn't know the number.
                let mut forged = knows(&buffer[..length]);
                forged[0] ^= 1;
                upstream.send_to(&forged, from).await.unwrap();
                upstream
                    .send_to(&knows(&buffer[..length]), from)
                    .await
                    .unwrap();
            }
        });
        tasks.spawn(async move {
            loop {
                let (mut stream, _) = by_tcp.accept().await.unwrap();
                let question = read_message(&mut stream).await.unwrap();
                write_message(&mut stream, &knows(&question)).await.unwrap();
            }
        });
        let routes = DnsRoutes {
            domains: vec![Domain::Below("example.net".into())],
            via: PublicKey([1; 32]),
            upstream: vec!["127.0.0.1".parse().unwrap()],
            keep: Duration::ZERO,
        };
        let (learned, learning) = mpsc::channel(4);
        let vips = ["127.0.0.1".parse().unwrap()];
        let forwarder = Forwarder::bind_at(&routes, &vips, 0, port, learned)
            .await
            .unwrap();
        let at = forwarder.sockets[0].local_addr().unwrap();
        let mut serving = forwarder.serve();
        serving.spawn(async move { while tasks.join_next().await.is_some() {} });
        (at, serving, learning)
    }

    async fn ask(at: SocketAddr, question: &[u8]) -> Vec<u8> {
        timeout(Duration::from_secs(10), ask_by_udp(at, question))
            .await
            .unwrap()
            .unwrap()
    }

    #[tokio::test]
    async fn names_in_the_tunnel_are_learned_before_they_are_answered() {
        let (at, _serving, mut learning) = forwarder().await;
        let question = question("www.Example.net", 1);
        let asking = tokio::spawn(async move { ask(at, &question).await });
        let learned = learning.recv().await.unwrap();
        let expected = ("192.0.2.7".parse().unwrap(), Duration::from_secs(30));
        assert_eq!(learned.addresses, [expected]);
        assert!(!asking.is_finished(), "it waits for the route");
        learned.done.send(()).unwrap();
        assert_eq!(addresses(&asking.await.unwrap()), [expected]);
    }

    #[tokio::test]
    async fn other_names_are_passed_on_and_nothing_is_learned() {
        let (at, _serving, mut learning) = forwarder().await;
        let answer = ask(at, &question("example.net", 1)).await;
        assert_eq!(addresses(&answer).len(), 1);
        assert!(learning.try_recv().is_err());
    }

    #[tokio::test]
    async fn a_family_that_the_tunnel_lacks_has_no_addresses() {
        let (at, _serving, mut learning) = forwarder().await;
        let question = question("www.example.net", 28);
        let answer = ask(at, &question).await;
        let parsed = Packet::parse(&answer).unwrap();
        assert_eq!((parsed.questions.len(), parsed.answers.len()), (1, 0));
        assert_eq!(answer[3] & 15, 0, "no error");
        assert!(learning.try_recv().is_err());
    }

    #[tokio::test]
    async fn questions_by_tcp_are_answered_one_after_the_other() {
        let (at, _serving, _learning) = forwarder().await;
        let mut stream = TcpStream::connect(at).await.unwrap();
        for _ in 0..2 {
            write_message(&mut stream, &question("example.org", 1))
                .await
                .unwrap();
            let answer = timeout(ANSWER_LIMIT * 3, read_message(&mut stream)).await;
            assert_eq!(addresses(&answer.unwrap().unwrap()).len(), 1);
        }
    }

    #[test]
    fn nonsense_is_no_question_and_no_answer() {
        let good = question("www.example.net", 1);
        let answer = knows(&good);
        assert!(is_answer_to(&answer, &good));
        for length in 0..answer.len() {
            // Cut anywhere, nothing panics, and no address is made up.
            assert!(addresses(&answer[..length]).is_empty());
            let _ = is_answer_to(&answer[..length], &good);
            let _ = no_such_address(&good[..length.min(good.len())]);
        }
        let mut other = answer.clone();
        other[HEADER + 1] ^= 1;
        assert!(!is_answer_to(&other, &good), "another name");
        let mut loops = good.clone();
        loops[HEADER] = 0xc0;
        assert_eq!(end_of_question(&loops), None);
    }
}
