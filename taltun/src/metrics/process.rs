//! What the metrics process does: it takes its sockets, gives up its rights, and serves until
//! the tunnel is gone.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use rustix::net::AddressFamily;
use tokio::sync::mpsc;
use tokio::time::{MissedTickBehavior, interval};

use super::channel::{Channel, receive_listeners};
use super::confine::{close_inherited, confine};
use super::server::{self, CONNECTIONS, Listener, Question};
use super::texts::Texts;

/// Questions of scrapers that may wait.
const WAITING: usize = 64;
/// How often the tunnel hears that this process lives.
const BEAT: Duration = Duration::from_secs(3);

/// Serves the tunnel that this process's standard input leads to, until it is gone.
pub fn serve() -> io::Result<()> {
    close_inherited();
    let channel = io::stdin().as_fd().try_clone_to_owned()?;
    let not_for_people = || io::Error::other("a tunnel starts this command for itself");
    let listeners = receive_listeners(&channel).map_err(|_| not_for_people())?;
    confine(listeners.len().saturating_mul(CONNECTIONS + 2))?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let stream = UnixStream::from(channel);
        stream.set_nonblocking(true)?;
        let channel = Channel::new(tokio::net::UnixStream::from_std(stream)?);
        let (ask, questions) = mpsc::channel(WAITING);
        let (texts, first) = Texts::new();
        for listener in listeners {
            let listener = listener_of(listener)?;
            tokio::spawn(server::serve(listener, ask.clone(), first.clone()));
        }
        answer(channel, questions, texts).await
    })
}

/// Answers scrapers with what the tunnel tells, until that is gone.
async fn answer(
    mut channel: Channel,
    mut questions: mpsc::Receiver<Question>,
    mut texts: Texts,
) -> io::Result<()> {
    let mut beat = interval(BEAT);
    beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = channel.gone() => return Ok(()),
            _ = beat.tick() => {
                texts.forget();
                channel.beat().await?;
            }
            Some(question) = questions.recv() => {
                let text = texts.get(question.format, &mut channel).await?;
                let _ = question.answer.send(text);
            }
        }
    }
}

fn listener_of(socket: OwnedFd) -> io::Result<Listener> {
    let family = rustix::net::getsockname(&socket)?.address_family();
    if family == AddressFamily::UNIX {
        let listener = std::os::unix::net::UnixListener::from(socket);
        listener.set_nonblocking(true)?;
        Ok(Listener::Unix(tokio::net::UnixListener::from_std(
            listener,
        )?))
    } else {
        let listener = std::net::TcpListener::from(socket);
        listener.set_nonblocking(true)?;
        Ok(Listener::Tcp(tokio::net::TcpListener::from_std(listener)?))
    }
}
