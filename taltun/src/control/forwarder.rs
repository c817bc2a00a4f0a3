//! A small resolver on our vips: it passes every question on to the name servers of
//! `[dns_routes]`, and before it passes an answer back, the addresses in it that are to be
//! reached through the tunnel are.
//!
//! It remembers nothing and answers nothing itself, with two exceptions: where the tunnel
//! lacks a family of addresses, names that belong into the tunnel have none of it, as they
//! would be reached around it; and where an address of such a name can't be led into the
//! tunnel, or an answer isn't understood, the answer is that the server failed.
//!
//! Only who comes through the tunnel is answered, and this machine itself. Each peer has a
//! share of what is worked on at once, and each step has an end.

// What comes from outside must not be able to make anything here panic.
#![cfg_attr(
    not(test),
    warn(clippy::arithmetic_side_effects, clippy::indexing_slicing)
)]

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tracing::debug;

use super::dns_message::{
    HEADER, Question, TYPE_A, TYPE_AAAA, TYPE_OPT, is_answer_to, nothing, question, records,
};
use super::listed_answers::{concerned, fit, listed};
use super::shares::Shares;
use super::sockets;
use crate::config::DnsRoutes;
use crate::protocol::peer::PeerId;
use crate::protocol::tunnel::Tunnel;

/// The port of name servers.
const PORT: u16 = 53;
/// How long a name server may take before the next is asked.
const ANSWER_LIMIT: Duration = Duration::from_secs(3);
/// How long all of them together may.
const ALL_LIMIT: Duration = Duration::from_secs(9);
/// How long a TCP connection may stay without a word, and an answer may take to be read.
const IDLE_LIMIT: Duration = Duration::from_secs(10);
/// How long routes may take to be made.
const ROUTE_LIMIT: Duration = Duration::from_secs(2);
/// Questions that are worked on at once, and those of one peer; more are left unanswered, and
/// asked again.
const QUESTIONS: usize = 256;
const QUESTIONS_EACH: usize = 48;
/// TCP connections at once, and those of one peer.
const CONNECTIONS: usize = 64;
const CONNECTIONS_EACH: usize = 8;
/// Transfers of whole zones, which have more than one answer.
const TRANSFERS: [u16; 2] = [251, 252];
/// The largest message there is.
const LARGEST: usize = 65_535;
/// What fits where a question doesn't say more.
const WITHOUT_EDNS: usize = 512;

/// That the question isn't one, that the server failed, that it can't do this, and that it
/// won't (RFC 1035, section 4.1.1).
const FORMAT_ERROR: u8 = 1;
const SERVER_FAILURE: u8 = 2;
const NOT_IMPLEMENTED: u8 = 4;
const REFUSED: u8 = 5;

/// Addresses that belong into the tunnel from now on.
#[derive(Debug)]
pub(super) struct Learned {
    /// The names of the list that they are of.
    pub names: Vec<String>,
    /// Each with how long it may be remembered.
    pub addresses: Vec<(IpAddr, Duration)>,
    /// Told once that is done: whether all of them are led into the tunnel.
    pub done: oneshot::Sender<bool>,
}

/// The resolver, ready to serve.
#[derive(Debug)]
pub(super) struct Forwarder {
    sockets: Vec<UdpSocket>,
    listeners: Vec<TcpListener>,
    shared: Shared,
}

#[derive(Debug)]
struct Shared {
    /// As the file has it by now.
    routes: watch::Receiver<Arc<DnsRoutes>>,
    port: u16,
    has_v4: bool,
    has_v6: bool,
    learned: mpsc::Sender<Learned>,
    /// Tells whose an address is.
    tunnel: Option<Arc<Tunnel>>,
    questions: Shares<Source>,
    connections: Shares<Source>,
}

/// Who asks: a peer, with whatever address of its own, or this machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Source {
    Peer(PeerId),
    Here(IpAddr),
}

impl Forwarder {
    /// Listens on `vips`, which have to be there, for what comes from the interface `tun_name`
    /// and from this machine.
    pub(super) fn bind(
        routes: watch::Receiver<Arc<DnsRoutes>>,
        vips: &[IpAddr],
        tun_name: &str,
        learned: mpsc::Sender<Learned>,
    ) -> Result<Self, String> {
        let interfaces = [Some(tun_name), Some("lo")];
        Self::bind_at(routes, vips, &interfaces, (PORT, PORT), learned)
    }

    fn bind_at(
        routes: watch::Receiver<Arc<DnsRoutes>>,
        vips: &[IpAddr],
        interfaces: &[Option<&str>],
        (own_port, port): (u16, u16),
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
            for interface in interfaces {
                let socket = sockets::listen_udp(at, *interface).map_err(refused)?;
                let at = socket.local_addr().map_err(refused)?;
                listeners.push(sockets::listen_tcp(at, *interface).map_err(refused)?);
                sockets.push(socket);
            }
        }
        Ok(Self {
            sockets,
            listeners,
            shared: Shared {
                routes,
                port,
                has_v4: vips.iter().any(IpAddr::is_ipv4),
                has_v6: vips.iter().any(IpAddr::is_ipv6),
                learned,
                tunnel: None,
                questions: Shares::new(QUESTIONS_EACH, QUESTIONS),
                connections: Shares::new(CONNECTIONS_EACH, CONNECTIONS),
            },
        })
    }

    /// Answers questions, for ever; `tunnel` knows the peers that ask. Dropping what this
    /// returns ends all of it.
    pub(super) fn serve(mut self, tunnel: Option<Arc<Tunnel>>) -> JoinSet<()> {
        self.shared.tunnel = tunnel;
        let shared = Arc::new(self.shared);
        let mut tasks = JoinSet::new();
        for socket in self.sockets {
            tasks.spawn(serve_udp(Arc::new(socket), Arc::clone(&shared)));
        }
        for listener in self.listeners {
            tasks.spawn(serve_tcp(listener, Arc::clone(&shared)));
        }
        tasks
    }
}

async fn serve_udp(socket: Arc<UdpSocket>, shared: Arc<Shared>) {
    let mut questions = JoinSet::new();
    let mut buffer = vec![0; LARGEST];
    loop {
        // What is done is let go.
        while questions.try_join_next().is_some() {}
        let Ok((length, from)) = socket.recv_from(&mut buffer).await else {
            // An ICMP error of an earlier answer: nothing to do about it.
            continue;
        };
        let Some(place) = shared.questions.take(shared.source(from.ip())) else {
            continue;
        };
        let asked = buffer.get(..length).unwrap_or_default().to_vec();
        let (socket, shared) = (Arc::clone(&socket), Arc::clone(&shared));
        questions.spawn(async move {
            if let Some(answer) = shared.answer(&asked, false).await {
                let answer = fit(answer, room(&asked));
                // Who has gone asks again.
                let _ = timeout(ROUTE_LIMIT, socket.send_to(&answer, from)).await;
            }
            drop(place);
        });
    }
}

/// What an asker by UDP takes.
fn room(asked: &[u8]) -> usize {
    let records = records(asked).unwrap_or_default();
    let edns = records.iter().find(|record| record.kind == TYPE_OPT);
    // The class of that record is a size.
    edns.map_or(WITHOUT_EDNS, |edns| edns.class.into())
        .max(WITHOUT_EDNS)
}

async fn serve_tcp(listener: TcpListener, shared: Arc<Shared>) {
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        let Ok((stream, from)) = listener.accept().await else {
            // Out of descriptors, perhaps: not to be tried without a pause.
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        let source = shared.source(from.ip());
        let Some(place) = shared.connections.take(source) else {
            continue;
        };
        let shared = Arc::clone(&shared);
        connections.spawn(async move {
            // An end of the connection is its end, whatever the reason.
            let _ = converse(stream, source, &shared).await;
            drop(place);
        });
    }
}

/// Answers the questions of one connection, each with its length in front.
async fn converse(mut stream: TcpStream, source: Source, shared: &Shared) -> io::Result<()> {
    loop {
        let asked = timeout(IDLE_LIMIT, read_message(&mut stream)).await??;
        let Some(_place) = shared.questions.take(source) else {
            return Ok(());
        };
        let Some(answer) = shared.answer(&asked, true).await else {
            return Ok(());
        };
        timeout(IDLE_LIMIT, write_message(&mut stream, &answer)).await??;
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
    fn source(&self, address: IpAddr) -> Source {
        let owner = self.tunnel.as_ref().and_then(|one| one.owner(address));
        owner.map_or(Source::Here(address), |(_, peer)| Source::Peer(peer))
    }

    /// The answer to a question, once what it says is led into the tunnel; `None` for what is
    /// no question.
    async fn answer(&self, asked: &[u8], tcp: bool) -> Option<Vec<u8>> {
        let flags = *asked.get(..HEADER)?.get(2)?;
        if flags & 0x80 != 0 {
            return None;
        }
        if flags & 0x78 != 0 {
            return nothing(asked, NOT_IMPLEMENTED);
        }
        let Some(question) = question(asked) else {
            return nothing(asked, FORMAT_ERROR);
        };
        if TRANSFERS.contains(&question.kind) {
            return nothing(asked, REFUSED);
        }
        let unreachable = match question.kind {
            TYPE_A => !self.has_v4,
            TYPE_AAAA => !self.has_v6,
            _ => false,
        };
        let routes = Arc::clone(&self.routes.borrow());
        let is_listed = routes.includes(&question.name);
        if is_listed && unreachable {
            return nothing(asked, 0);
        }
        let answer = timeout(
            ALL_LIMIT,
            ask_all(&routes, self.port, asked, &question, tcp),
        )
        .await;
        let Ok(Some(mut answer)) = answer else {
            return nothing(asked, SERVER_FAILURE);
        };
        // As it was asked, with the asker's number and in its case.
        answer.get_mut(..2)?.copy_from_slice(asked.get(..2)?);
        let repeated = answer.get_mut(HEADER..question.end)?;
        repeated.copy_from_slice(asked.get(HEADER..question.end)?);
        let names = concerned(&routes, &question.name, &answer);
        if names.as_ref().is_some_and(Vec::is_empty) {
            return Some(answer);
        }
        let (Some(names), Some(listed)) = (names, listed(&routes, &answer)) else {
            debug!(
                "dns_routes: an answer about {} isn't understood",
                question.name
            );
            return nothing(asked, SERVER_FAILURE);
        };
        if self.learn(names, listed.addresses).await {
            Some(listed.message)
        } else {
            nothing(asked, SERVER_FAILURE)
        }
    }

    /// Has addresses routed, and waits for it; whether all of them are.
    async fn learn(&self, names: Vec<String>, addresses: Vec<(IpAddr, Duration)>) -> bool {
        if addresses.is_empty() {
            return true;
        }
        let (done, routed) = oneshot::channel();
        let learned = Learned {
            names,
            addresses,
            done,
        };
        let learning = async {
            self.learned.send(learned).await.ok()?;
            routed.await.ok()
        };
        matches!(timeout(ROUTE_LIMIT, learning).await, Ok(Some(true)))
    }
}

/// Asks one name server after the other.
async fn ask_all(
    routes: &DnsRoutes,
    port: u16,
    asked: &[u8],
    question: &Question,
    tcp: bool,
) -> Option<Vec<u8>> {
    for server in &routes.upstream {
        let at = SocketAddr::new(*server, port);
        let asking = async {
            if tcp {
                ask_by_tcp(at, asked, question.end).await
            } else {
                ask_by_udp(at, asked, question.end).await
            }
        };
        match timeout(ANSWER_LIMIT, asking).await {
            Ok(Ok(answer)) => return Some(answer),
            Ok(Err(error)) => debug!("dns_routes: {server}: {error}"),
            Err(_) => debug!("dns_routes: {server} doesn't answer"),
        }
    }
    None
}

/// The question with a number of our own, which nobody knows beforehand, and that number.
fn renumbered(asked: &[u8]) -> io::Result<(Vec<u8>, u16)> {
    let mut id = [0; 2];
    getrandom::fill(&mut id).map_err(io::Error::other)?;
    let mut sent = asked.to_vec();
    let number = sent.first_chunk_mut().ok_or(io::ErrorKind::InvalidInput)?;
    *number = id;
    Ok((sent, u16::from_be_bytes(id)))
}

/// Asks a name server. `end` is where the question ends.
async fn ask_by_udp(server: SocketAddr, asked: &[u8], end: usize) -> io::Result<Vec<u8>> {
    // A socket each: its port is another secret that a forger would have to guess.
    let socket = sockets::ask(server, 0)?;
    let (sent, id) = renumbered(asked)?;
    socket.send(&sent).await?;
    let mut buffer = vec![0; LARGEST];
    loop {
        let length = socket.recv(&mut buffer).await?;
        let answer = buffer.get(..length).unwrap_or_default();
        if is_answer_to(answer, id, asked, end) {
            buffer.truncate(length);
            return Ok(buffer);
        }
    }
}

async fn ask_by_tcp(server: SocketAddr, asked: &[u8], end: usize) -> io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(server).await?;
    let (sent, id) = renumbered(asked)?;
    write_message(&mut stream, &sent).await?;
    let answer = read_message(&mut stream).await?;
    if is_answer_to(&answer, id, asked, end) {
        Ok(answer)
    } else {
        Err(io::Error::other("an answer to another question"))
    }
}

#[cfg(test)]
mod tests {
    use super::super::dns_message::{ask_for, number};
    use super::*;
    use crate::config::Domain;
    use crate::crypto::PublicKey;

    /// A question for `name`, of the type with this number.
    fn question(name: &str, kind: u16) -> Vec<u8> {
        ask_for(name, kind, 0x1234).unwrap()
    }

    /// The addresses in an answer.
    fn addresses(answer: &[u8]) -> Vec<(IpAddr, Duration)> {
        let records = records(answer).unwrap();
        let found = records.iter().filter_map(|record| {
            let ttl = Duration::from_secs(record.ttl.into());
            Some((record.address(answer).unwrap()?, ttl))
        });
        found.collect()
    }

    /// The answer of a server that knows 192.0.2.7 for everything, for half a minute, and
    /// says it in small letters.
    fn knows(asked: &[u8]) -> Vec<u8> {
        let end = super::question(asked).unwrap().end;
        let mut message = asked[..end].to_ascii_lowercase();
        message[..HEADER].copy_from_slice(&asked[..HEADER]);
        message[2] = 0x81;
        message[3] = 0x80;
        message[7] = 1;
        message[10..12].fill(0);
        message.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 30, 0, 4, 192, 0, 2, 7]);
        message
    }

    /// Numbers and ports that the server has seen.
    type Seen = Arc<std::sync::Mutex<Vec<(u16, u16)>>>;

    async fn forwarder(seen: Seen) -> (SocketAddr, JoinSet<()>, mpsc::Receiver<Learned>) {
        let upstream = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let port = upstream.local_addr().unwrap().port();
        let by_tcp = TcpListener::bind(("127.0.0.1", port)).await.unwrap();
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut buffer = [0; 512];
            loop {
                let (length, from) = upstream.recv_from(&mut buffer).await.unwrap();
                let asked = &buffer[..length];
                seen.lock()
                    .unwrap()
                    .push((number(asked, 0).unwrap(), from.port()));
                if super::question(asked).unwrap().name.starts_with("silent") {
                    continue;
                }
                // A forger is faster, and doesn't know the number.
                let mut forged = knows(asked);
                forged[0] ^= 1;
                upstream.send_to(&forged, from).await.unwrap();
                upstream.send_to(&knows(asked), from).await.unwrap();
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
        let routes = watch::Sender::new(Arc::new(routes)).subscribe();
        let forwarder = Forwarder::bind_at(routes, &vips, &[None], (0, port), learned).unwrap();
        let at = forwarder.sockets[0].local_addr().unwrap();
        let mut serving = forwarder.serve(None);
        serving.spawn(async move { while tasks.join_next().await.is_some() {} });
        (at, serving, learning)
    }

    /// Asks as a program does, and reads whatever comes.
    async fn ask(at: SocketAddr, question: &[u8]) -> Vec<u8> {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        socket.send_to(question, at).await.unwrap();
        let mut buffer = vec![0; LARGEST];
        let receiving = timeout(Duration::from_secs(20), socket.recv(&mut buffer));
        let length = receiving.await.unwrap().unwrap();
        buffer.truncate(length);
        buffer
    }

    #[tokio::test]
    async fn names_in_the_tunnel_are_learned_before_they_are_answered() {
        let (at, _serving, mut learning) = forwarder(Seen::default()).await;
        let question = question("www.Example.net", 1);
        let asking = tokio::spawn(async move { ask(at, &question).await });
        let learned = learning.recv().await.unwrap();
        let expected = ("192.0.2.7".parse().unwrap(), Duration::from_secs(30));
        assert_eq!(learned.addresses, [expected]);
        assert_eq!(learned.names, ["www.example.net"]);
        assert!(!asking.is_finished(), "it waits for the route");
        learned.done.send(true).unwrap();
        let answer = asking.await.unwrap();
        assert_eq!(addresses(&answer), [expected]);
        // As it was asked, though the server says it otherwise.
        let asked = ask_for("www.Example.net", 1, 0x1234).unwrap();
        assert_eq!(answer[HEADER..asked.len()], asked[HEADER..]);
        assert_eq!(answer[..2], asked[..2]);
    }

    #[tokio::test]
    async fn an_address_that_isnt_led_is_not_answered() {
        let (at, _serving, mut learning) = forwarder(Seen::default()).await;
        let asking = tokio::spawn(async move { ask(at, &question("www.example.net", 1)).await });
        learning.recv().await.unwrap().done.send(false).unwrap();
        let answer = asking.await.unwrap();
        assert_eq!(
            (answer[3] & 15, addresses(&answer).len()),
            (SERVER_FAILURE, 0)
        );
        // Nor where nobody says so in time.
        let asking = tokio::spawn(async move { ask(at, &question("www.example.net", 1)).await });
        let _unanswered = learning.recv().await.unwrap();
        let answer = asking.await.unwrap();
        assert_eq!(
            (answer[3] & 15, addresses(&answer).len()),
            (SERVER_FAILURE, 0)
        );
    }

    #[tokio::test]
    async fn servers_are_asked_with_numbers_and_ports_of_our_own() {
        let seen = Seen::default();
        let (at, _serving, _learning) = forwarder(Arc::clone(&seen)).await;
        for _ in 0..16 {
            let answer = ask(at, &question("example.org", 1)).await;
            assert_eq!(answer[..2], [0x12, 0x34]);
        }
        let seen = seen.lock().unwrap();
        let ids: std::collections::HashSet<u16> = seen.iter().map(|(id, _)| *id).collect();
        let ports: std::collections::HashSet<u16> = seen.iter().map(|(_, port)| *port).collect();
        assert!(ids.len() > 12 && ports.len() > 8, "{seen:?}");
    }

    #[tokio::test]
    async fn what_is_no_single_question_is_refused() {
        let (at, _serving, _learning) = forwarder(Seen::default()).await;
        let mut two = question("example.org", 1);
        two[5] = 2;
        two.extend(&question("www.example.net", 1)[HEADER..]);
        assert_eq!(ask(at, &two).await[3] & 15, FORMAT_ERROR);
        let transfer = question("www.example.net", 252);
        assert_eq!(ask(at, &transfer).await[3] & 15, REFUSED);
        let mut update = question("www.example.net", 1);
        update[2] = 5 << 3;
        assert_eq!(ask(at, &update).await[3] & 15, NOT_IMPLEMENTED);
    }

    #[tokio::test]
    async fn who_asks_too_much_leaves_room_for_others() {
        let (at, _serving, _learning) = forwarder(Seen::default()).await;
        let greedy = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        for _ in 0..2 * QUESTIONS {
            greedy
                .send_to(&question("silent.example.org", 1), at)
                .await
                .unwrap();
        }
        let other = UdpSocket::bind("127.0.0.2:0").await.unwrap();
        let mut buffer = [0; 512];
        let answered = timeout(Duration::from_secs(20), async {
            loop {
                // The flood may have filled the socket's buffer.
                other
                    .send_to(&question("example.org", 1), at)
                    .await
                    .unwrap();
                let receiving = timeout(Duration::from_millis(500), other.recv(&mut buffer));
                if receiving.await.is_ok() {
                    return;
                }
            }
        });
        answered.await.unwrap();
        // Connections that say nothing leave room for others as well.
        let mut idle = Vec::new();
        for _ in 0..2 * CONNECTIONS {
            idle.push(TcpStream::connect(at).await.unwrap());
        }
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.2:0".parse().unwrap()).unwrap();
        let mut stream = socket.connect(at).await.unwrap();
        write_message(&mut stream, &question("example.org", 1))
            .await
            .unwrap();
        let answer = timeout(ANSWER_LIMIT * 3, read_message(&mut stream)).await;
        assert_eq!(addresses(&answer.unwrap().unwrap()).len(), 1);
    }

    #[tokio::test]
    async fn other_names_are_passed_on_and_nothing_is_learned() {
        let (at, _serving, mut learning) = forwarder(Seen::default()).await;
        let answer = ask(at, &question("example.net", 1)).await;
        assert_eq!(addresses(&answer).len(), 1);
        assert!(learning.try_recv().is_err());
    }

    #[tokio::test]
    async fn a_family_that_the_tunnel_lacks_has_no_addresses() {
        let (at, _serving, mut learning) = forwarder(Seen::default()).await;
        let question = question("www.example.net", 28);
        let answer = ask(at, &question).await;
        assert!(records(&answer).unwrap().is_empty());
        assert_eq!(answer[3] & 15, 0, "no error");
        assert!(learning.try_recv().is_err());
    }

    #[tokio::test]
    async fn questions_by_tcp_are_answered_one_after_the_other() {
        let (at, _serving, _learning) = forwarder(Seen::default()).await;
        let mut stream = TcpStream::connect(at).await.unwrap();
        for _ in 0..2 {
            write_message(&mut stream, &question("example.org", 1))
                .await
                .unwrap();
            let answer = timeout(ANSWER_LIMIT * 3, read_message(&mut stream)).await;
            assert_eq!(addresses(&answer.unwrap().unwrap()).len(), 1);
        }
    }
}
