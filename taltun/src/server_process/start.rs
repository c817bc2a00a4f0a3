//! What such a process does first: it takes its sockets, gives up its rights, and begins to serve.

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;

use rustix::net::AddressFamily;

use super::confine::{close_inherited, confine};
use super::connections::{Limits, Listener};
use super::handover::receive_sockets;
use super::restrict::{Needs, restrict, tell, tell_refused};

/// What a process is that serves connections.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Process {
    /// The name that `ss` and `ps` show.
    pub(crate) name: &'static CStr,
    /// How many clients it may have.
    pub(crate) limits: Limits,
}

/// What a process that has begun got from the tunnel. It has no right any more.
#[derive(Debug)]
pub(crate) struct Begun {
    pub(crate) name: &'static CStr,
    pub(crate) channel: UnixStream,
    pub(crate) sockets: Vec<OwnedFd>,
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
    let each = process.limits.connections.saturating_add(2);
    let begun = begin(process.name, |listeners| listeners.saturating_mul(each))?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let listeners = begun.sockets.into_iter().map(listener_of);
        let listeners = listeners.collect::<io::Result<_>>()?;
        let (channel, ()) =
            confined(begun.name, begun.channel, &Needs::default(), || Ok(())).await?;
        serve(channel, listeners).await
    })
}

/// Takes what the tunnel gives this process, of which it may have `files` open for so many
/// sockets, and gives up its rights.
pub(crate) fn begin(name: &'static CStr, files: impl FnOnce(usize) -> usize) -> io::Result<Begun> {
    close_inherited();
    let channel = io::stdin().as_fd().try_clone_to_owned()?;
    let sockets = receive_sockets(&channel).map_err(|error| match error.raw_os_error() {
        Some(libc::EMFILE) => error,
        _ => io::Error::other("a tunnel starts this command for itself"),
    })?;
    confine(name, files(sockets.len()))?;
    Ok(Begun {
        name,
        channel: channel.into(),
        sockets,
    })
}

/// Has this process do no more than it `needs` from now on, and tells the tunnel what that is. `start`
/// is what takes more system calls than that: the start of threads.
pub(crate) async fn confined<T>(
    name: &CStr,
    channel: UnixStream,
    needs: &Needs,
    start: impl FnOnce() -> io::Result<T>,
) -> io::Result<(tokio::net::UnixStream, T)> {
    channel.set_nonblocking(true)?;
    let mut channel = tokio::net::UnixStream::from_std(channel)?;
    let (rights, started) = restrict(&name.to_string_lossy(), needs, start)?;
    tell(&mut channel, &rights).await?;
    tokio::spawn(tell_refused());
    Ok((channel, started))
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
