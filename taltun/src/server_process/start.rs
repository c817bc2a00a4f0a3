//! What such a process does first: it takes its sockets, gives up its rights, and begins to serve.

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;

use rustix::net::AddressFamily;

use super::confine::{close_inherited, confine};
use super::connections::{Limits, Listener};
use super::handover::receive_listeners;
use super::restrict::{restrict, tell, tell_refused};

/// What a process is.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Process {
    /// The name that `ss` and `ps` show.
    pub(crate) name: &'static CStr,
    /// How many clients it may have.
    pub(crate) limits: Limits,
}

/// Runs `serve` in this process, with the channel that its standard input leads to and the sockets
/// that come over it.
pub(crate) fn run<F>(
    process: Process,
    serve: impl FnOnce(tokio::net::UnixStream, Vec<Listener>) -> F,
) -> io::Result<()>
where
    F: Future<Output = io::Result<()>>,
{
    close_inherited();
    let channel = io::stdin().as_fd().try_clone_to_owned()?;
    let not_for_people = || io::Error::other("a tunnel starts this command for itself");
    let listeners = receive_listeners(&channel).map_err(|_| not_for_people())?;
    let each = process.limits.connections.saturating_add(2);
    confine(process.name, listeners.len().saturating_mul(each))?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let stream = UnixStream::from(channel);
        stream.set_nonblocking(true)?;
        let mut channel = tokio::net::UnixStream::from_std(stream)?;
        let listeners = listeners.into_iter().map(listener_of);
        let listeners = listeners.collect::<io::Result<_>>()?;
        let rights = restrict(&process.name.to_string_lossy());
        tell(&mut channel, &rights).await?;
        tokio::spawn(tell_refused());
        serve(channel, listeners).await
    })
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
