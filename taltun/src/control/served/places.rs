//! Where clients connect to: the sockets of a `listen`, and the files of some of them.

use std::io;
use std::net::{Shutdown, SocketAddr, TcpListener};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::sync::Arc;

use socket2::{Domain, SockRef, Socket, Type};
use taltun_udpgw::{Listen, Listening};

use super::keeper::Listens;
use crate::config::{Interface, ListenAt};
use crate::control::socket_file::SocketFile;
use crate::control::{ControlError, listening, runtime_dir};

/// Connections that may wait to be accepted.
const BACKLOG: i32 = 128;
/// Everybody on this host may connect, as with a port. Who may reach the file is for its directory
/// to say.
const MODE: u32 = 0o666;

/// One of a `listen`.
#[derive(Debug)]
pub(in crate::control) struct Place {
    listen: ListenAt,
    sockets: Vec<Opened>,
}

#[derive(Debug)]
enum Opened {
    Tcp(Listen, TcpListener),
    Unix(UnixListener, SocketFile),
}

impl Place {
    /// An error names the place. Its address may overlap with those of `friends`, which are ours and are about to be closed.
    pub(super) fn open(
        listen: &ListenAt,
        interface: &Interface,
        friends: &[&Listening],
    ) -> Result<Self, String> {
        let sockets = match listen {
            ListenAt::Address(address) => {
                let all = sockets_of(*address, interface).into_iter();
                let opened =
                    all.map(|listen| Ok(Opened::Tcp(listen.clone(), tcp(&listen, friends)?)));
                let opened: io::Result<Vec<Opened>> = opened.collect();
                opened.map_err(|error| {
                    let advice = listening::advice(&error, *address);
                    format!("{address}: {error}{advice}")
                })?
            }
            ListenAt::File(path) => {
                vec![unix(path).map_err(|reason| format!("{}: {reason}", path.display()))?]
            }
        };
        let listen = listen.clone();
        Ok(Self { listen, sockets })
    }

    /// Whether this is what opening `listen` would lead to.
    pub(super) fn is(&self, listen: &ListenAt, interface: &Interface) -> bool {
        let same = match listen {
            ListenAt::Address(address) => {
                let ours = self.sockets.iter().filter_map(|it| match it {
                    Opened::Tcp(listen, _) => Some(listen),
                    Opened::Unix(..) => None,
                });
                ours.eq(&sockets_of(*address, interface))
            }
            ListenAt::File(_) => self.is_in_place(),
        };
        self.listen == *listen && same
    }

    /// Whether its file, if it has one, is there.
    pub(super) fn is_in_place(&self) -> bool {
        self.sockets.iter().all(|it| match it {
            Opened::Tcp(..) => true,
            Opened::Unix(_, file) => file.is_in_place(),
        })
    }

    fn sockets(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.sockets.iter().map(|it| match it {
            Opened::Tcp(_, socket) => socket.as_fd(),
            Opened::Unix(socket, _) => socket.as_fd(),
        })
    }

    /// Those with an address, for who wants to take it over.
    pub(super) fn addresses(&self) -> impl Iterator<Item = (Listen, TcpListener)> {
        self.sockets.iter().filter_map(|it| match it {
            Opened::Tcp(listen, socket) => Some((listen.clone(), socket.try_clone().ok()?)),
            Opened::Unix(..) => None,
        })
    }

    /// Nobody is to connect any more, whoever has the sockets.
    pub(super) fn close(&self) {
        for socket in &self.sockets {
            match socket {
                Opened::Tcp(_, socket) => drop(SockRef::from(socket).shutdown(Shutdown::Both)),
                Opened::Unix(socket, file) => {
                    let _ = SockRef::from(socket).shutdown(Shutdown::Both);
                    file.remove();
                }
            }
        }
    }

    /// Hangs up on who waits, as nobody is there to answer.
    fn turn_away(&self) {
        for socket in self.sockets() {
            for _ in 0..BACKLOG {
                if SockRef::from(&socket).accept().is_err() {
                    break;
                }
            }
        }
    }
}

impl Listens for Vec<Arc<Place>> {
    fn sockets(&self) -> Vec<BorrowedFd<'_>> {
        self.iter().flat_map(|place| place.sockets()).collect()
    }

    fn turn_away(&self) {
        for place in self {
            place.turn_away();
        }
    }
}

fn sockets_of(address: SocketAddr, interface: &Interface) -> Vec<Listen> {
    let devices = listening::devices(address, interface).into_iter();
    let all = devices.map(|name| Listen {
        address,
        interface: name.map(str::to_owned),
    });
    all.collect()
}

fn tcp(listen: &Listen, friends: &[&Listening]) -> io::Result<TcpListener> {
    let address = listen.address;
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(false)?;
    }
    socket.bind_device(listen.interface.as_ref().map(String::as_bytes))?;
    // For a moment both have the port, if one address covers the other. Otherwise there is nobody
    // to share it with but a stranger.
    let friends: Vec<_> = friends
        .iter()
        .flat_map(|it| it.overlapping(listen))
        .collect();
    let share = |shared: bool| {
        for friend in &friends {
            let _ = SockRef::from(*friend).set_reuse_port(shared);
        }
        socket.set_reuse_port(shared && !friends.is_empty())
    };
    share(true)?;
    let bound = socket.bind(&address.into());
    // It looks once more whether the port is free.
    let listens = bound.and_then(|()| socket.listen(BACKLOG));
    share(false)?;
    listens?;
    Ok(socket.into())
}

fn unix(path: &Path) -> Result<Opened, String> {
    if is_a_tunnels(path) {
        return Err(
            "it would be taken for a tunnel's control socket; choose another directory, or \
             another end than .sock"
                .to_owned(),
        );
    }
    let bound = SocketFile::bind(path, MODE);
    let (socket, file) = bound.map_err(|error| match error {
        ControlError::Io { reason, .. } => match reason.kind() {
            io::ErrorKind::NotFound => "its directory isn't there; make it first".to_owned(),
            _ => reason.to_string(),
        },
        other => other.to_string(),
    })?;
    socket
        .set_nonblocking(true)
        .map_err(|error| error.to_string())?;
    Ok(Opened::Unix(socket, file))
}

/// Whether that is where the sockets of tunnels are, by whatever path it is named.
fn is_a_tunnels(path: &Path) -> bool {
    let real = |directory: &Path| directory.canonicalize().unwrap_or(directory.to_owned());
    let directory = path.parent().map(real);
    directory == Some(real(&runtime_dir())) && path.extension() == Some("sock".as_ref())
}
