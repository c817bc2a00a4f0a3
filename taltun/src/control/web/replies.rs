//! What the page's process asks, and what it is answered.
//!
//! The process may be anybody's by now: who found a fault in it speaks for it. So a line is bounded,
//! a session is looked up each time, and each verb is one that this session's browser could ask as
//! well. A report costs the controller something, so there is one a second at the most, which is
//! handed out again until then; without a question there is none.

// What comes from outside must not be able to make anything here panic.
#![cfg_attr(
    not(test),
    warn(clippy::arithmetic_side_effects, clippy::indexing_slicing)
)]

use std::io;
use std::net::IpAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ipnet::IpNet;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout};
use zeroize::Zeroizing;

use super::doors::{Doors, LogIn};
use super::lock;
use crate::control::caller::Caller;
use crate::control::moments::Moments;
use crate::control::request::{
    self, Ban, BanPeer, Call, Command, PeerEdit, Stats, Status, Unban, UnbanPeer, Usage,
};
use crate::control::response::Done;
use crate::control::served::{Answers, SILENCE, ask};
use crate::control::since::Since;
use crate::control::state_file::wall_clock;
use crate::crypto::PublicKey;
use crate::layer::Layer;
use crate::protocol::allowed_ips::canonical;
use crate::report::{Refused, Why, owner};
use crate::web::{self, QUESTION_MAX, Question, Reply, Report, Verb, Who};

/// How long a report is handed out again.
const FRESH: Duration = Duration::from_millis(900);
/// The days of usage that are told.
const DAYS: u32 = 30;
/// The longest ban, seconds: a hundred years, as a command has it.
const LONGEST_BAN: u64 = 100 * 365 * 24 * 3600;

/// Who answers.
#[derive(Debug, Clone)]
pub(in crate::control) struct Replies {
    calls: mpsc::Sender<Call>,
    doors: Arc<Mutex<Doors>>,
    moments: Moments,
    /// What waiting is counted from.
    began: Instant,
}

/// What somebody wants to ban.
enum Banned<'a> {
    Net(IpNet, Layer),
    /// By its public key.
    Peer(&'a str),
}

/// A line that was made a moment ago.
type Made = Option<(Instant, Arc<Vec<u8>>)>;

impl Replies {
    pub(super) fn new(
        calls: mpsc::Sender<Call>,
        doors: Arc<Mutex<Doors>>,
        moments: Moments,
    ) -> Self {
        Self {
            calls,
            doors,
            moments,
            began: Instant::now(),
        }
    }

    async fn reply(&self, question: Question, report: &mut Made) -> io::Result<Arc<Vec<u8>>> {
        let Question {
            session,
            source,
            verb,
        } = question;
        let source = source.to_canonical();
        let now = wall_clock();
        if let Verb::LogIn(token) = verb {
            return line(self.log_in(token.as_str(), source, now)).await;
        }
        let who = session.and_then(|secret| {
            let mut doors = lock(&self.doors);
            let who = doors.who(secret.as_str(), now)?;
            if matches!(verb, Verb::LogOut) {
                doors.log_out(secret.as_str());
            }
            Some(who)
        });
        let Some(who) = who else {
            return line(Reply::NoSession).await;
        };
        if matches!(verb, Verb::Report) {
            return self.report(report).await;
        }
        let is_question = matches!(verb, Verb::Who | Verb::Usage(_));
        let reply = self.answer_to(verb, who, source).await;
        if !is_question {
            // Who looks next is to see what was changed.
            *report = None;
        }
        line(reply.unwrap_or_else(refused)).await
    }

    fn log_in(&self, token: &str, source: IpAddr, now: u64) -> Reply {
        let uptime = self.began.elapsed().as_secs();
        match lock(&self.doors).log_in(token, source, now, uptime) {
            LogIn::Entered(entered) => Reply::Entered(entered),
            LogIn::Wrong => Reply::WrongToken,
            LogIn::Wait(seconds) => Reply::TooMany(seconds),
            LogIn::Failed(reason) => refused(reason.into()),
        }
    }

    /// What is asked by a session that there is.
    async fn answer_to(&self, verb: Verb, who: Who, source: IpAddr) -> Result<Reply, Refused> {
        let by = Caller::browser(&who.token, source);
        match verb {
            Verb::Who => Ok(Reply::Who(who)),
            Verb::LogOut => Ok(Reply::Done),
            // Answered before, by whoever calls this.
            Verb::LogIn(_) | Verb::Report => Err("asked twice".into()),
            Verb::Usage(peer) => {
                let since = Since::Days(DAYS);
                let usage = ask(&self.calls, Usage { peer, since }, by).await?;
                Ok(Reply::Usage(usage))
            }
            Verb::Ban {
                net,
                inner,
                seen,
                seconds,
            } => {
                self.refuse_own(Banned::Net(net, Layer::from(inner)), source)
                    .await?;
                // A form has "outside" chosen before anybody chooses: that is no word of who bans, so
                // it is asked back as of a command that names no side.
                let layer = (inner || seen).then_some(Layer::from(inner));
                let ban = Ban {
                    net,
                    layer,
                    force: false,
                    seconds: checked(seconds)?,
                };
                self.done(ban, by).await
            }
            Verb::BanPeer { peer, seconds } => {
                let peer = key(&peer)?;
                self.refuse_own(Banned::Peer(&peer), source).await?;
                let ban = BanPeer {
                    peer,
                    layer: Layer::Inner,
                    force: false,
                    seconds: checked(seconds)?,
                };
                self.done(ban, by).await
            }
            Verb::Unban { net, inner } => {
                let layer = Layer::from(inner);
                self.done(Unban { net, layer }, by).await
            }
            Verb::NewPeer(new) => {
                let new = request::NewPeer {
                    name: new.name,
                    public_key: new.public_key,
                    preshared_key: new.preshared_key,
                    expires: new.expires,
                    file: at(new.endpoint),
                    ..request::NewPeer::default()
                };
                self.edited(PeerEdit::New(new), by).await
            }
            Verb::RemovePeer(peer) => {
                let peer = key(&peer)?;
                self.refuse_own(Banned::Peer(&peer), source).await?;
                let edit = PeerEdit::Remove(request::RemovePeer { peer });
                self.edited(edit, by).await
            }
            Verb::RenamePeer { peer, name } => {
                let peer = key(&peer)?;
                let edit = PeerEdit::Rename(request::RenamePeer { peer, name });
                self.edited(edit, by).await
            }
            Verb::RotatePeer(rotate) => {
                let peer = key(&rotate.peer)?;
                self.refuse_own(Banned::Peer(&peer), source).await?;
                let rotate = request::RotatePeer {
                    peer,
                    public_key: rotate.public_key,
                    without_preshared_key: rotate.preshared_key.is_none(),
                    preshared_key: rotate.preshared_key,
                    file: at(rotate.endpoint),
                };
                self.edited(PeerEdit::Rotate(rotate), by).await
            }
            Verb::SetPeer(set) => self.set_peer(set, by, source).await,
            Verb::UnbanPeer(peer) => {
                let peer = key(&peer)?;
                let layer = Layer::Inner;
                self.done(UnbanPeer { peer, layer }, by).await
            }
        }
    }

    async fn set_peer(
        &self,
        set: web::SetPeer,
        by: Caller,
        source: IpAddr,
    ) -> Result<Reply, Refused> {
        let peer = key(&set.peer)?;
        if set.may_cut_off() {
            self.refuse_own(Banned::Peer(&peer), source).await?;
        }
        if let Some(nets) = &set.allowed_ips {
            self.refuse_taking(nets, source).await?;
        }
        let set = request::SetPeer {
            peer,
            allowed_ips: set.allowed_ips,
            expires: set.expires,
            quota: set.quota,
            rate_up: set.rate_up,
            rate_down: set.rate_down,
        };
        self.edited(PeerEdit::Set(set), by).await
    }

    async fn done<C: Command<Answer = Done>>(
        &self,
        command: C,
        by: Caller,
    ) -> Result<Reply, Refused> {
        let Done(_) = ask(&self.calls, command, by).await?;
        Ok(Reply::Done)
    }

    async fn edited(&self, edit: PeerEdit, by: Caller) -> Result<Reply, Refused> {
        Ok(Reply::Edited(ask(&self.calls, edit, by).await?))
    }

    /// Nobody means to lock out the peer that the browser comes through, neither by its addresses
    /// inside, all of which a ban of it is about, nor by where it is.
    async fn refuse_own(&self, banned: Banned<'_>, source: IpAddr) -> Result<(), Refused> {
        // As it will be banned: an IPv4 network has a spelling in IPv6, too.
        let banned = match banned {
            Banned::Net(net, layer) => Banned::Net(canonical(net), layer),
            peer @ Banned::Peer(_) => peer,
        };
        let status = ask(&self.calls, Status, Caller::ourselves()).await?;
        let own = owner(&status.peers, source).map(|(peer, _)| peer);
        let endpoint = own.and_then(|peer| peer.endpoint);
        let is_locked_out = match banned {
            Banned::Peer(key) => own.is_some_and(|peer| peer.public_key == key),
            Banned::Net(net, Layer::Inner) => net.contains(&source),
            Banned::Net(net, Layer::Outer) => {
                let place = endpoint.map(|endpoint| endpoint.ip().to_canonical());
                net.contains(&source) || place.is_some_and(|place| net.contains(&place))
            }
        };
        if is_locked_out {
            return Err(own_way(source));
        }
        Ok(())
    }

    /// Nor to give the browser's address to another peer, as a smaller network than the one it is in: its
    /// answers would go there.
    async fn refuse_taking(&self, nets: &[IpNet], source: IpAddr) -> Result<(), Refused> {
        let status = ask(&self.calls, Status, Caller::ourselves()).await?;
        let least = owner(&status.peers, source).map_or(1, |(_, prefix)| prefix);
        let taken = |net: &&IpNet| net.contains(&source) && net.prefix_len() >= least;
        match nets.iter().find(taken) {
            Some(_) => Err(own_way(source)),
            None => Ok(()),
        }
    }

    async fn report(&self, made: &mut Made) -> io::Result<Arc<Vec<u8>>> {
        let fresh = made.as_ref().filter(|(at, _)| at.elapsed() < FRESH);
        if let Some((_, line)) = fresh {
            return Ok(Arc::clone(line));
        }
        let at = Instant::now();
        let reply = match self.look().await {
            Ok(report) => Reply::Report(Box::new(report)),
            Err(reason) => refused(reason),
        };
        let line = line(reply).await?;
        *made = Some((at, Arc::clone(&line)));
        Ok(line)
    }

    async fn look(&self) -> Result<Report, Refused> {
        let us = Caller::ourselves;
        Ok(Report {
            status: *ask(&self.calls, Status, us()).await?,
            stats: *ask(&self.calls, Stats, us()).await?,
            moments: self.moments.all(),
        })
    }
}

impl Answers for Replies {
    const SECTION: &'static str = "web";
    const COMMAND: &'static str = web::COMMAND;

    async fn answer(&self, channel: UnixStream) -> io::Result<()> {
        let (reading, mut writing) = channel.into_split();
        let mut reader = BufReader::new(reading);
        let mut report = None;
        loop {
            let mut line = Zeroizing::new(Vec::new());
            let mut bounded = (&mut reader).take(QUESTION_MAX);
            let length = timeout(SILENCE, bounded.read_until(b'\n', &mut line)).await??;
            if length == 0 {
                return Ok(());
            }
            if line.as_slice() == b"\n" {
                continue;
            }
            // What isn't a question ends the process, as it isn't ours any more.
            let question = serde_json::from_slice(&line)?;
            let reply = self.reply(question, &mut report).await?;
            timeout(SILENCE, writing.write_all(&reply)).await??;
        }
    }
}

/// A reply as it goes over the channel. Thousands of peers take a while to write down, all else doesn't.
async fn line(reply: Reply) -> io::Result<Arc<Vec<u8>>> {
    let mut line = if matches!(reply, Reply::Report(_) | Reply::Usage(_)) {
        let line = tokio::task::spawn_blocking(move || serde_json::to_vec(&reply)).await;
        line.map_err(io::Error::other)??
    } else {
        serde_json::to_vec(&reply)?
    };
    line.push(b'\n');
    Ok(Arc::new(line))
}

/// A peer's public key, as the tunnel tells it. A name may be anybody's by then, and a key has more
/// than one spelling.
fn key(text: &str) -> Result<String, String> {
    let key = text.parse::<PublicKey>();
    key.map(|key| key.to_string())
        .map_err(|error| format!("that is no public key: {error}"))
}

fn checked(seconds: Option<u64>) -> Result<Option<u64>, Refused> {
    match seconds {
        Some(0) => Err(Refused::because(
            Why::BanTime,
            "a ban lasts at least a second",
        )),
        Some(seconds) if seconds > LONGEST_BAN => {
            Err(Refused::because(Why::BanTime, "a ban lasts at most 36500d"))
        }
        seconds => Ok(seconds),
    }
}

/// What a peer's file is to say of where the hub is.
fn at(endpoint: Option<String>) -> request::ClientWishes {
    request::ClientWishes {
        endpoint,
        ..request::ClientWishes::default()
    }
}

fn refused(reason: Refused) -> Reply {
    let Refused { why, text } = reason;
    Reply::Refused { why, text }
}

fn own_way(source: IpAddr) -> Refused {
    let text = format!("your browser comes from {source}: you would lock yourself out");
    Refused::because(Why::OwnWay(source), text)
}
