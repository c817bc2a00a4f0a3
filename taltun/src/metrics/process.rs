//! What the metrics process does: it takes its sockets, gives up its rights, and serves until
//! the tunnel is gone.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::net::AddressFamily;
use tokio::sync::mpsc;

use super::channel::{Channel, receive_listeners};
use super::confine::confine;
use super::seen::{Answer, Seen};
use super::server::{self, Listener, Question};

/// Questions of scrapers that may wait.
const WAITING: usize = 64;
/// An answer is as good as new for so long: many scrapers cost the tunnel no more than one.
const FRESH: Duration = Duration::from_millis(200);

/// Serves the tunnel that this process's standard input leads to, until it is gone.
pub fn serve() -> io::Result<()> {
    let channel = io::stdin().as_fd().try_clone_to_owned()?;
    let listeners = receive_listeners(&channel)?;
    confine()?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let stream = UnixStream::from(channel);
        stream.set_nonblocking(true)?;
        let channel = Channel::new(tokio::net::UnixStream::from_std(stream)?);
        let (ask, questions) = mpsc::channel(WAITING);
        for listener in listeners {
            tokio::spawn(server::serve(listener_of(listener)?, ask.clone()));
        }
        answer(channel, questions).await
    })
}

/// Answers scrapers with what the tunnel tells, until that is gone.
async fn answer(mut channel: Channel, mut questions: mpsc::Receiver<Question>) -> io::Result<()> {
    let mut last: Option<(Instant, Arc<Seen>)> = None;
    loop {
        let question = tokio::select! {
            () = channel.gone() => return Ok(()),
            Some(question) = questions.recv() => question,
        };
        if let Some((at, seen)) = &last
            && at.elapsed() < FRESH
        {
            let _ = question.send(Ok(Arc::clone(seen)));
            continue;
        }
        let answer = match channel.ask().await? {
            Answer::Seen(seen) => {
                let seen: Arc<Seen> = seen.into();
                last = Some((Instant::now(), Arc::clone(&seen)));
                Ok(seen)
            }
            Answer::Not(reason) => Err(reason),
        };
        let _ = question.send(answer);
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
