//! What the resolver's process does: it answers until the tunnel is gone.

use std::collections::HashMap;
use std::io;
use std::net::{TcpListener, UdpSocket};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use rustix::net::SocketType;
use rustix::net::sockopt::socket_type;
use tokio::io::BufReader;
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{MissedTickBehavior, interval};

use super::channel::{Said, Told};
use super::service::{FILES, Known, Learned, NameService, PORT, Sockets};
use crate::os::seccomp::Argument;
use crate::server_process::{self, Lookup, Needs, OF_TUNNEL, log_to_tunnel, read_line, write_line};

/// How often the tunnel hears that this process lives.
const BEAT: Duration = Duration::from_secs(3);
/// What was learned and isn't told yet.
const LEARNING: usize = 16;

/// It asks name servers.
const NEEDS: Needs = Needs {
    calls: &[libc::SYS_bind, libc::SYS_connect],
    some: &[
        (
            libc::SYS_socket,
            &[Argument::Is(0, libc::AF_INET.cast_unsigned())],
        ),
        (
            libc::SYS_socket,
            &[Argument::Is(0, libc::AF_INET6.cast_unsigned())],
        ),
    ],
    ports: &[PORT],
    directories: &[],
    devices: &[],
};

/// Serves the tunnel that this process's standard input leads to, until it is gone. `debug` is about what it says.
pub fn serve(debug: bool) -> io::Result<()> {
    log_to_tunnel(debug);
    let begun = server_process::begin(c"taltun-names", |sockets| sockets.saturating_add(FILES))?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let (sockets, lookup) = sort(begun.sockets)?;
        let (channel, ()) =
            server_process::confined(begun.name, begun.channel, &NEEDS, || Ok(())).await?;
        answer(channel, sockets, lookup).await
    })
}

/// Each socket as what it is: for questions by UDP and by TCP, and the one to the tunnel's tables.
fn sort(all: Vec<OwnedFd>) -> io::Result<(Sockets, Option<Lookup>)> {
    let (mut sockets, mut lookup) = (Sockets::default(), None);
    for socket in all {
        let kind = socket_type(&socket)?;
        if kind == SocketType::DGRAM {
            let socket = UdpSocket::from(socket);
            socket.set_nonblocking(true)?;
            sockets.udp.push(tokio::net::UdpSocket::from_std(socket)?);
        } else if kind == SocketType::STREAM {
            let socket = TcpListener::from(socket);
            socket.set_nonblocking(true)?;
            sockets.tcp.push(tokio::net::TcpListener::from_std(socket)?);
        } else {
            lookup = Some(Lookup::new(socket)?);
        }
    }
    Ok((sockets, lookup))
}

/// Answers questions, and talks with the tunnel until that is gone.
async fn answer(channel: UnixStream, sockets: Sockets, lookup: Option<Lookup>) -> io::Result<()> {
    let (reader, mut writer) = channel.into_split();
    let (learned, learning) = mpsc::channel(LEARNING);
    let (told, tidings) = mpsc::channel(1);
    let reading = tokio::spawn(read(BufReader::new(reader), told));
    let talked = talk(sockets, lookup, learned, learning, tidings, &mut writer).await;
    reading.abort();
    talked
}

/// Passes on what the tunnel says.
async fn read(mut reader: BufReader<OwnedReadHalf>, told: mpsc::Sender<Told>) {
    while let Ok(Some(line)) = read_line(&mut reader, OF_TUNNEL).await {
        if told.send(line).await.is_err() {
            return;
        }
    }
}

async fn talk(
    sockets: Sockets,
    lookup: Option<Lookup>,
    learned: mpsc::Sender<Learned>,
    mut learning: mpsc::Receiver<Learned>,
    mut tidings: mpsc::Receiver<Told>,
    writer: &mut OwnedWriteHalf,
) -> io::Result<()> {
    // What there is to answer by comes before anything else.
    let Some(Told::Known { zone, routes }) = tidings.recv().await else {
        return Ok(());
    };
    let zone_in = teller(zone.map(|zone| *zone));
    let routes_in = teller(routes);
    let known = Known {
        zone: zone_in.as_ref().map(watch::Sender::subscribe),
        routes: routes_in.as_ref().map(watch::Sender::subscribe),
    };
    let service = NameService::new(sockets, known, PORT, learned, lookup)?;
    let _serving = service.serve();
    let mut beat = interval(BEAT);
    beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut waiting: HashMap<u64, oneshot::Sender<bool>> = HashMap::new();
    let mut numbers = 0_u64..;
    loop {
        tokio::select! {
            _ = beat.tick() => {
                // Who has given up waits for no answer.
                waiting.retain(|_, done| !done.is_closed());
                write_line(writer, &Said::Beat).await?;
            }
            Some(Learned { names, addresses, done }) = learning.recv() => {
                let number = numbers.next().unwrap_or_default();
                waiting.insert(number, done);
                write_line(writer, &Said::Learned { number, names, addresses }).await?;
            }
            told = tidings.recv() => match told {
                None => return Ok(()),
                Some(Told::Led { number, all }) => {
                    if let Some(done) = waiting.remove(&number) {
                        // Who asked may have given up.
                        let _ = done.send(all);
                    }
                }
                Some(Told::Known { zone, routes }) => {
                    tell(zone_in.as_ref(), zone.map(|zone| *zone));
                    tell(routes_in.as_ref(), routes);
                }
            },
        }
    }
}

/// Tells the service of something, and again when it changes.
fn teller<T>(told: Option<T>) -> Option<watch::Sender<Arc<T>>> {
    told.map(|told| watch::Sender::new(Arc::new(told)))
}

/// A section neither comes nor goes while a tunnel runs.
fn tell<T>(to: Option<&watch::Sender<Arc<T>>>, told: Option<T>) {
    if let (Some(to), Some(told)) = (to, told) {
        to.send_replace(Arc::new(told));
    }
}
