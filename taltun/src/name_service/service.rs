//! A small resolver on our vips, for `[names]` and `[dns_routes]`.
//!
//! ```text
//! question ──► a peer's name or address, or ours ──► the zone answers
//!         └──► another ──► a name server ──► of [dns_routes]? ──► its addresses are led into the
//!                                                  │              tunnel, then it is passed on
//!                                                  └──► it is passed on
//! ```
//!
//! It remembers nothing. Beside what the zone knows it answers nothing itself, with two
//! exceptions: where the tunnel lacks a family of addresses, names of `[dns_routes]` have none of
//! it, as they would be reached around it; and where an address of such a name can't be led into
//! the tunnel, or an answer isn't understood, the answer is that the server failed.
//!
//! Only who comes through the tunnel is answered, and this machine itself. Each peer has a
//! share of what is asked upstream at once, and each step has an end. What the zone knows is answered
//! at once, by UDP and by TCP, whatever name servers do meanwhile.

// What comes from outside must not be able to make anything here panic.
#![cfg_attr(
    not(test),
    warn(clippy::arithmetic_side_effects, clippy::indexing_slicing)
)]

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::ops::ControlFlow::{self, Break, Continue};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

use tokio::net::tcp::WriteHalf;
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tracing::debug;

use super::dns_message::{
    HEADER, Question, TYPE_A, TYPE_AAAA, TYPE_OPT, nothing, question, records,
};
use super::listed_answers::{concerned, fit, listed};
use super::shares::Shares;
use super::upstream::{LARGEST, ask_all, read_message, write_message};
use super::zone::Zone;
use crate::config::DnsRoutes;
use crate::server_process::Lookup;

/// The port of name servers.
pub(crate) const PORT: u16 = 53;
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
/// Files that all of that takes.
pub(super) const FILES: usize = QUESTIONS + CONNECTIONS;
/// Transfers of whole zones, which have more than one answer.
const TRANSFERS: [u16; 2] = [251, 252];
/// What fits where a question doesn't say more.
const WITHOUT_EDNS: usize = 512;

/// That the question isn't one, that the server failed, that it can't do this, and that it
/// won't (RFC 1035, section 4.1.1).
const FORMAT_ERROR: u8 = 1;
const SERVER_FAILURE: u8 = 2;
const NOT_IMPLEMENTED: u8 = 4;
const REFUSED: u8 = 5;

/// What it answers by, as the file has it by now. One of the two is there.
#[derive(Debug, Clone)]
pub(super) struct Known {
    /// `[names]`
    pub(super) zone: Option<watch::Receiver<Arc<Zone>>>,
    /// `[dns_routes]`
    pub(super) routes: Option<watch::Receiver<Arc<DnsRoutes>>>,
}

/// Addresses that belong into the tunnel from now on.
#[derive(Debug)]
pub(crate) struct Learned {
    /// The names of the list that they are of.
    pub(crate) names: Vec<String>,
    /// Each with how long it may be remembered.
    pub(crate) addresses: Vec<(IpAddr, Duration)>,
    /// Told once that is done: whether all of them are led into the tunnel.
    pub(crate) done: oneshot::Sender<bool>,
}

/// Where it is asked.
#[derive(Debug, Default)]
pub(super) struct Sockets {
    pub(super) udp: Vec<UdpSocket>,
    pub(super) tcp: Vec<TcpListener>,
}

/// The resolver, ready to serve.
#[derive(Debug)]
pub(super) struct NameService {
    sockets: Sockets,
    shared: Shared,
}

#[derive(Debug)]
struct Shared {
    known: Known,
    port: u16,
    has_v4: bool,
    has_v6: bool,
    learned: mpsc::Sender<Learned>,
    /// Tells whose an address is.
    lookup: Option<Lookup>,
    questions: Shares<Source>,
    connections: Shares<Source>,
}

/// What name servers are asked, and who wanted to know it.
#[derive(Debug)]
struct Upstream {
    question: Question,
    zone: Option<Arc<Zone>>,
    routes: Option<Arc<DnsRoutes>>,
}

/// Who asks: a peer, with whatever address of its own, or this machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Source {
    Peer(u32),
    Here(IpAddr),
}

impl NameService {
    /// Answers who asks at `sockets`, which are on vips; name servers are asked at `port`.
    pub(super) fn new(
        sockets: Sockets,
        known: Known,
        port: u16,
        learned: mpsc::Sender<Learned>,
        lookup: Option<Lookup>,
    ) -> io::Result<Self> {
        let vips = sockets.udp.iter().map(UdpSocket::local_addr);
        let vips: Vec<SocketAddr> = vips.collect::<io::Result<_>>()?;
        Ok(Self {
            sockets,
            shared: Shared {
                known,
                port,
                has_v4: vips.iter().any(SocketAddr::is_ipv4),
                has_v6: vips.iter().any(SocketAddr::is_ipv6),
                learned,
                lookup,
                questions: Shares::new(QUESTIONS_EACH, QUESTIONS),
                connections: Shares::new(CONNECTIONS_EACH, CONNECTIONS),
            },
        })
    }

    /// Answers questions, for ever. Dropping what this returns ends all of it.
    pub(super) fn serve(self) -> JoinSet<()> {
        let shared = Arc::new(self.shared);
        let mut tasks = JoinSet::new();
        for socket in self.sockets.udp {
            tasks.spawn(serve_udp(Arc::new(socket), Arc::clone(&shared)));
        }
        for listener in self.sockets.tcp {
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
        let asked = buffer.get(..length).unwrap_or_default();
        let upstream = match shared.at_once(asked) {
            Continue(upstream) => upstream,
            // No place is taken, so that nobody's name waits for a name server that is dead. If the
            // socket has no room, it is asked again.
            Break(answer) => {
                if let Some(answer) = answer {
                    let _ = socket.try_send_to(&fit(answer, room(asked)), from);
                }
                continue;
            }
        };
        let Some(place) = shared.questions.take(shared.source(from.ip())) else {
            continue;
        };
        let asked = asked.to_vec();
        let (socket, shared) = (Arc::clone(&socket), Arc::clone(&shared));
        questions.spawn(async move {
            if let Some(answer) = shared.ask(&asked, &upstream, false).await {
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

/// Answers the questions of one connection, each with its length in front, in whatever order the
/// answers come (RFC 7766, section 6.2.1.1).
async fn converse(mut stream: TcpStream, source: Source, shared: &Arc<Shared>) -> io::Result<()> {
    let (mut reader, mut writer) = stream.split();
    let mut questions: JoinSet<Option<Vec<u8>>> = JoinSet::new();
    loop {
        let reading = pin!(timeout(IDLE_LIMIT, read_message(&mut reader)));
        let Ok(Ok(asked)) = write_until(reading, &mut questions, &mut writer).await? else {
            // Who has said that nothing follows may still wait for answers.
            while let Some(answer) = questions.join_next().await {
                write_answer(&mut writer, answer.ok().flatten()).await?;
            }
            return Ok(());
        };
        let upstream = match shared.at_once(&asked) {
            Continue(upstream) => upstream,
            Break(None) => return Ok(()),
            Break(answer) => {
                write_answer(&mut writer, answer).await?;
                continue;
            }
        };
        let mut place = shared.questions.take(source);
        // A place of this connection's own is soon free, one that others have perhaps not.
        while place.is_none()
            && let Some(answer) = questions.join_next().await
        {
            write_answer(&mut writer, answer.ok().flatten()).await?;
            place = shared.questions.take(source);
        }
        let Some(place) = place else {
            write_answer(&mut writer, nothing(&asked, SERVER_FAILURE)).await?;
            continue;
        };
        let shared = Arc::clone(shared);
        questions.spawn(async move {
            let answer = shared.ask(&asked, &upstream, true).await;
            drop(place);
            answer
        });
    }
}

/// Writes the answers that come until something else is done.
async fn write_until<T>(
    mut other: Pin<&mut impl Future<Output = T>>,
    questions: &mut JoinSet<Option<Vec<u8>>>,
    writer: &mut WriteHalf<'_>,
) -> io::Result<T> {
    loop {
        tokio::select! {
            done = &mut other => return Ok(done),
            Some(answer) = questions.join_next() => {
                write_answer(writer, answer.ok().flatten()).await?;
            }
        }
    }
}

async fn write_answer(writer: &mut WriteHalf<'_>, answer: Option<Vec<u8>>) -> io::Result<()> {
    match answer {
        Some(answer) => timeout(IDLE_LIMIT, write_message(writer, &answer)).await?,
        None => Ok(()),
    }
}

impl Upstream {
    /// Whom to ask.
    fn servers(&self) -> &[IpAddr] {
        match (&self.routes, &self.zone) {
            (Some(routes), _) => &routes.upstream,
            (None, Some(zone)) => &zone.upstream,
            (None, None) => &[],
        }
    }
}

impl Shared {
    fn source(&self, address: IpAddr) -> Source {
        let owner = self.lookup.as_ref().and_then(|one| one.ask(address).ok());
        let owner = owner.and_then(|found| found.owner);
        owner.map_or(Source::Here(address), Source::Peer)
    }

    /// What is answered without anybody else; `None` for what is no question. All else is to be
    /// asked upstream, which takes one of the [`QUESTIONS`] places.
    fn at_once(&self, asked: &[u8]) -> ControlFlow<Option<Vec<u8>>, Upstream> {
        let flags = asked.get(..HEADER).and_then(|header| header.get(2));
        let Some(flags) = flags.filter(|flags| *flags & 0x80 == 0) else {
            return Break(None);
        };
        if flags & 0x78 != 0 {
            return Break(nothing(asked, NOT_IMPLEMENTED));
        }
        let Some(question) = question(asked) else {
            return Break(nothing(asked, FORMAT_ERROR));
        };
        if TRANSFERS.contains(&question.kind) {
            return Break(nothing(asked, REFUSED));
        }
        let unreachable = match question.kind {
            TYPE_A => !self.has_v4,
            TYPE_AAAA => !self.has_v6,
            _ => false,
        };
        let zone = self.known.zone.as_ref();
        let zone = zone.map(|zone| Arc::clone(&zone.borrow()));
        if let Some(answer) = zone.as_ref().and_then(|zone| zone.answer(asked, &question)) {
            return Break(Some(answer));
        }
        let routes = self.known.routes.as_ref();
        let routes = routes.map(|routes| Arc::clone(&routes.borrow()));
        let is_listed = routes
            .as_ref()
            .is_some_and(|routes| routes.includes(&question.name));
        if is_listed && unreachable {
            return Break(nothing(asked, 0));
        }
        let upstream = Upstream {
            question,
            zone,
            routes,
        };
        if upstream.servers().is_empty() {
            return Break(nothing(asked, REFUSED));
        }
        Continue(upstream)
    }

    /// The answer of a name server, once what it says is led into the tunnel.
    async fn ask(&self, asked: &[u8], upstream: &Upstream, tcp: bool) -> Option<Vec<u8>> {
        let Upstream {
            question, routes, ..
        } = upstream;
        let servers = upstream.servers();
        let asking = ask_all(servers, self.port, asked, question, tcp);
        let answer = timeout(ALL_LIMIT, asking).await;
        let Ok(Some(mut answer)) = answer else {
            return nothing(asked, SERVER_FAILURE);
        };
        // As it was asked, with the asker's number and in its case.
        answer.get_mut(..2)?.copy_from_slice(asked.get(..2)?);
        let repeated = answer.get_mut(HEADER..question.end)?;
        repeated.copy_from_slice(asked.get(HEADER..question.end)?);
        let Some(routes) = routes else {
            return Some(answer);
        };
        let names = concerned(routes, &question.name, &answer);
        if names.as_ref().is_some_and(Vec::is_empty) {
            return Some(answer);
        }
        let (Some(names), Some(listed)) = (names, listed(routes, &answer)) else {
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

#[cfg(test)]
mod tests;
