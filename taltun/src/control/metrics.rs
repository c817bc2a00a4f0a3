//! The metrics of `[metrics]`: opens the sockets, keeps the process that serves them alive, and
//! answers what it asks.

use std::fs::{OpenOptions, Permissions};
use std::io;
use std::net::{Shutdown, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use socket2::{Domain, SockRef, Socket, Type};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::Command;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};
use tracing::{debug, info, warn};

use super::request::{Call, Request};
use super::response::Response;
use super::runtime_dir;
use super::{listener, listening};
use crate::config::{Interface, Metrics as Settings, MetricsListen};
use crate::metrics::{self, Answer, Seen};
use crate::report::MetricsStatus;

/// Before a process that ended is started again; doubled each time.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// The longest pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// A process that lived so long begins with the first pause again.
const HEALTHY: Duration = Duration::from_secs(120);
/// Connections that may wait to be accepted.
const BACKLOG: i32 = 128;

/// The metrics, if there are any.
#[derive(Debug)]
pub(super) struct Metrics {
    calls: mpsc::Sender<Call>,
    running: Option<Running>,
}

/// Sockets that are open, and whom they are for.
#[derive(Debug)]
struct Running {
    settings: Settings,
    sockets: Arc<Vec<OwnedFd>>,
    /// Why the process isn't there, while it isn't.
    ended: Arc<Mutex<Option<String>>>,
    /// Dropped with its sockets and its process.
    keeper: JoinHandle<()>,
    /// The file that scrapers connect to.
    file: Option<SocketFile>,
}

/// Sockets that may take the place of those in use.
#[derive(Debug)]
pub(super) enum Prepared {
    /// All stays.
    Same,
    /// None will be open.
    Off,
    /// These.
    On(Settings, Sockets),
}

/// What scrapers connect to.
#[derive(Debug)]
pub(super) struct Sockets {
    sockets: Vec<OwnedFd>,
    file: Option<SocketFile>,
}

impl Metrics {
    /// None yet. `calls` leads to the controller.
    pub(super) fn new(calls: mpsc::Sender<Call>) -> Self {
        Self {
            calls,
            running: None,
        }
    }

    /// Opens what the file asks for, beside what is open: nothing has changed yet.
    pub(super) fn prepare(
        &self,
        settings: Option<&Settings>,
        interface: &Interface,
    ) -> Result<Prepared, String> {
        let running = self.running.as_ref().map(|running| &running.settings);
        match (settings, running) {
            (None, None) => Ok(Prepared::Same),
            (Some(new), Some(old)) if new == old => Ok(Prepared::Same),
            (None, Some(_)) => Ok(Prepared::Off),
            (Some(settings), _) => {
                let sockets = self.open(&settings.listen, interface)?;
                Ok(Prepared::On(settings.clone(), sockets))
            }
        }
    }

    fn open(&self, listen: &MetricsListen, interface: &Interface) -> Result<Sockets, String> {
        // For a moment both have the port, if one address covers the other. Otherwise there is
        // nobody to share it with but a stranger.
        let overlapping = self
            .running
            .as_ref()
            .filter(|it| overlap(&it.settings.listen, listen));
        let Some(running) = overlapping else {
            return Sockets::open(listen, interface, false);
        };
        let share = |shared| {
            for socket in running.sockets.iter() {
                let _ = SockRef::from(socket).set_reuse_port(shared);
            }
        };
        share(true);
        let sockets = Sockets::open(listen, interface, true);
        share(false);
        sockets
    }

    /// Takes over what was opened; tells what that did.
    pub(super) fn take_over(&mut self, prepared: Prepared) -> Option<String> {
        let had = self.running.is_some();
        match prepared {
            Prepared::Same => None,
            Prepared::Off => {
                self.running = None;
                Some("metrics off".into())
            }
            Prepared::On(settings, Sockets { sockets, file }) => {
                info!("metrics: listening on {}", settings.listen);
                let (sockets, ended) = (Arc::new(sockets), Arc::default());
                let keeper = keep(Arc::clone(&sockets), self.calls.clone(), Arc::clone(&ended));
                self.running = Some(Running {
                    settings,
                    sockets,
                    ended,
                    keeper: tokio::spawn(keeper),
                    file,
                });
                Some(if had { "metrics moved" } else { "metrics on" }.into())
            }
        }
    }

    pub(super) fn status(&self) -> Option<MetricsStatus> {
        let running = self.running.as_ref()?;
        let ended = running.ended.lock().unwrap_or_else(PoisonError::into_inner);
        Some(MetricsStatus {
            listen: running.settings.listen.to_string(),
            ended: ended.clone(),
        })
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Its process goes with it, a moment later. Nobody is to connect to that any more.
        for socket in self.sockets.iter() {
            let _ = SockRef::from(socket).shutdown(Shutdown::Both);
        }
        self.keeper.abort();
        if let Some(file) = &self.file {
            file.remove();
        }
    }
}

impl Sockets {
    fn open(listen: &MetricsListen, interface: &Interface, shared: bool) -> Result<Self, String> {
        match listen {
            MetricsListen::Address(address) => {
                let devices = listening::devices(*address, interface).into_iter();
                let sockets = devices
                    .map(|device| tcp(*address, device, shared))
                    .collect();
                let sockets: io::Result<Vec<OwnedFd>> = sockets;
                let sockets = sockets.map_err(|error| {
                    let advice = listening::advice(&error, *address);
                    format!("metrics.listen: cannot listen on {address}: {error}{advice}")
                })?;
                Ok(Self {
                    sockets,
                    file: None,
                })
            }
            MetricsListen::File(path) => {
                if path.parent() == Some(&runtime_dir())
                    && path.extension() == Some("sock".as_ref())
                {
                    return Err(format!(
                        "metrics.listen: {} would be taken for a tunnel's control socket; choose \
                         another directory, or another end than .sock",
                        path.display()
                    ));
                }
                let (socket, file) = SocketFile::bind(path).map_err(|reason| {
                    format!(
                        "metrics.listen: cannot listen on {}: {reason}",
                        path.display()
                    )
                })?;
                Ok(Self {
                    sockets: vec![socket],
                    file: Some(file),
                })
            }
        }
    }
}

/// Whether the kernel gives the second only to those who share it with the first.
fn overlap(old: &MetricsListen, new: &MetricsListen) -> bool {
    let (MetricsListen::Address(old), MetricsListen::Address(new)) = (old, new) else {
        return false;
    };
    let covers = old.ip().is_unspecified() || new.ip().is_unspecified();
    old.port() == new.port() && covers
}

/// `shared`: another socket may have the port, which is asked for that, too.
fn tcp(address: SocketAddr, device: Option<&str>, shared: bool) -> io::Result<OwnedFd> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    socket.bind_device(device.map(str::as_bytes))?;
    socket.set_reuse_port(shared)?;
    socket.bind(&address.into())?;
    // It looks once more whether the port is free.
    socket.listen(BACKLOG)?;
    socket.set_reuse_port(false)?;
    Ok(socket.into())
}

/// A Unix socket's file that we made.
#[derive(Debug)]
struct SocketFile {
    path: PathBuf,
    /// Device and inode.
    identity: (u64, u64),
}

impl SocketFile {
    /// Everybody on this host may connect, as with a port. Who may reach it is for the directory
    /// to say.
    fn bind(path: &Path) -> Result<(OwnedFd, Self), String> {
        listener::remove_stale(path).map_err(|error| error.to_string())?;
        let bound = UnixListener::bind(path)
            .and_then(|listener| Ok((listener, let_everybody_connect(path)?)));
        let (listener, identity) = bound.map_err(|error| error.to_string())?;
        let path = path.to_owned();
        Ok((listener.into(), Self { path, identity }))
    }

    fn remove(&self) {
        if identity(&self.path).is_ok_and(|identity| identity == self.identity) {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

/// Changes the mode of the socket that is there, and tells its identity. By a descriptor: by the
/// path, who owns the directory could have put another file there meanwhile.
fn let_everybody_connect(path: &Path) -> io::Result<(u64, u64)> {
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_PATH | libc::O_NOFOLLOW)
        .open(path)?;
    let metadata = file.metadata()?;
    if !metadata.file_type().is_socket() {
        return Err(io::Error::other("somebody put another file there"));
    }
    let file = format!("/proc/self/fd/{}", file.as_raw_fd());
    std::fs::set_permissions(file, Permissions::from_mode(0o666))?;
    Ok((metadata.dev(), metadata.ino()))
}

fn identity(path: &Path) -> io::Result<(u64, u64)> {
    let metadata = std::fs::symlink_metadata(path)?;
    Ok((metadata.dev(), metadata.ino()))
}

/// Starts the process, again and again when it ends.
async fn keep(
    sockets: Arc<Vec<OwnedFd>>,
    calls: mpsc::Sender<Call>,
    ended: Arc<Mutex<Option<String>>>,
) {
    let mut pause = FIRST_PAUSE;
    loop {
        let start = Instant::now();
        let reason = match serve(&sockets, &calls).await {
            Ok(reason) => reason,
            Err(error) => format!("it cannot be started: {error}"),
        };
        if start.elapsed() > HEALTHY {
            pause = FIRST_PAUSE;
        }
        warn!(
            "metrics: the process that serves them ended ({reason}); it is started again in {} s",
            pause.as_secs()
        );
        set(&ended, Some(reason));
        sleep(pause).await;
        set(&ended, None);
        pause = LONGEST_PAUSE.min(pause * 2);
    }
}

fn set(ended: &Mutex<Option<String>>, reason: Option<String>) {
    *ended.lock().unwrap_or_else(PoisonError::into_inner) = reason;
}

/// Runs the process to its end; tells how it ended.
async fn serve(sockets: &[OwnedFd], calls: &mpsc::Sender<Call>) -> io::Result<String> {
    let (ours, theirs) = UnixStream::pair()?;
    let listeners: Vec<BorrowedFd<'_>> = sockets.iter().map(AsFd::as_fd).collect();
    metrics::send_listeners(&ours, &listeners)?;
    let mut child = Command::new("/proc/self/exe")
        .arg0("taltun")
        .arg(metrics::COMMAND)
        .env_clear()
        .current_dir("/")
        .stdin(Stdio::from(OwnedFd::from(theirs)))
        .stdout(Stdio::null())
        .kill_on_drop(true)
        .spawn()?;
    ours.set_nonblocking(true)?;
    let channel = tokio::net::UnixStream::from_std(ours)?;
    if let Err(error) = answer(channel, calls).await {
        debug!("metrics: {error}");
    }
    // Without its channel it ends by itself.
    let status = child.wait().await?;
    Ok(status.to_string())
}

/// Answers the process until it hangs up.
async fn answer(mut channel: tokio::net::UnixStream, calls: &mpsc::Sender<Call>) -> io::Result<()> {
    let mut asked = [0; 64];
    loop {
        let length = channel.read(&mut asked).await?;
        if length == 0 {
            return Ok(());
        }
        let answer = match look(calls).await {
            Ok(seen) => Answer::Seen(Box::new(seen)),
            Err(reason) => Answer::Not(reason),
        };
        // Thousands of peers take a while to write down.
        let line = tokio::task::spawn_blocking(move || serde_json::to_vec(&answer)).await;
        let mut line = line.map_err(io::Error::other)??;
        line.push(b'\n');
        channel.write_all(&line).await?;
    }
}

/// What there is to tell.
async fn look(calls: &mpsc::Sender<Call>) -> Result<Seen, String> {
    let Response::Status(status) = ask(calls, Request::Status).await? else {
        return Err("the tunnel is busy; try again".into());
    };
    let Response::Stats(stats) = ask(calls, Request::Stats).await? else {
        return Err("the tunnel is busy; try again".into());
    };
    Ok(Seen {
        status: *status,
        stats: *stats,
    })
}

async fn ask(calls: &mpsc::Sender<Call>, request: Request) -> Result<Response, String> {
    let gone = || "the tunnel goes down".to_owned();
    let (answer, answered) = oneshot::channel();
    calls.send((request, answer)).await.map_err(|_| gone())?;
    answered.await.map_err(|_| gone())
}
