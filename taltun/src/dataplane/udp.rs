//! UDP sockets of the underlay, and sending with what the kernel offers.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use socket2::SockRef;
use taltun_common::drops::DropReason;

use super::counters::Counters;
use super::runs::{DatagramRun, DatagramRuns};
use super::sys::{self, SendRing};
use super::tap::Subject;
use crate::os::options::{self, Buffer};
use crate::verbs::{self, Verb};

/// Receive and send buffer of a socket, bytes. Enough for some milliseconds of a fast
/// link: what a burst needs while its worker sleeps.
const SOCKET_BUFFER: libc::c_int = 7 << 20;
/// Runs handed to the kernel in one call.
const SEND_SLOTS: usize = 64;

/// How sockets send and receive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UdpSettings {
    /// Send many datagrams as one, where the kernel can.
    pub gso: bool,
    /// Receive many datagrams as one, where the kernel can.
    pub gro: bool,
    /// An address that this host shares with others. What is to leave from it leaves from no other one: peers
    /// would follow it there.
    pub shared_address: Option<IpAddr>,
}

/// One socket of a group that shares a port.
#[derive(Debug)]
pub struct Socket {
    fd: OwnedFd,
    local: SocketAddr,
    gso: AtomicBool,
    shared_address: Option<IpAddr>,
}

impl Socket {
    /// Binds `count` sockets to one port, each able to receive from every peer.
    ///
    /// The unspecified IPv6 address means IPv4 too, and means only IPv4 on a machine
    /// without IPv6.
    ///
    /// # Errors
    /// `EADDRINUSE` when somebody else has the port.
    pub fn bind_group(
        address: SocketAddr,
        count: usize,
        wanted: UdpSettings,
    ) -> io::Result<Vec<Arc<Self>>> {
        let listen = Verb::Listen {
            address,
            count: count as u16,
        };
        let opened = verbs::open(listen, &[], || open_group(address, count))?;
        opened
            .into_iter()
            .map(|fd| Self::of(fd, wanted).map(Arc::new))
            .collect()
    }

    /// A socket that is bound.
    fn of(fd: OwnedFd, wanted: UdpSettings) -> io::Result<Self> {
        let set =
            |level, option, value: libc::c_int| options::set(fd.as_fd(), level, option, &value);
        let local = local_address(&fd)?;
        // Asking for a segment size of zero changes nothing where the kernel knows the
        // option and fails where it doesn't.
        let gso = wanted.gso && set(libc::SOL_UDP, libc::UDP_SEGMENT, 0).is_ok();
        if wanted.gro {
            // Where the kernel can't merge what it receives, each datagram comes alone.
            let _ = set(libc::SOL_UDP, libc::UDP_GRO, 1);
        }
        Ok(Self {
            fd,
            local,
            gso: AtomicBool::new(gso),
            shared_address: wanted.shared_address,
        })
    }

    /// Marks all that sockets send, for the firewall and policy routing; 0 for no mark.
    ///
    /// # Errors
    /// `EPERM` without `CAP_NET_ADMIN`.
    pub fn mark_all(sockets: &[Arc<Self>], mark: u32) -> io::Result<()> {
        let sockets: Vec<_> = sockets.iter().map(|socket| socket.as_fd()).collect();
        verbs::mark(&sockets, mark)
    }

    /// The address it is bound to.
    pub fn local_addr(&self) -> SocketAddr {
        self.local
    }

    /// Whether sending in segments works here.
    pub fn has_gso(&self) -> bool {
        self.gso.load(Ordering::Relaxed)
    }
}

impl Socket {
    /// The memory of the datagrams that wait in it, and how many found no room.
    pub fn queue(&self) -> io::Result<(u64, u64)> {
        // As `SK_MEMINFO_*` of `linux/sock_diag.h` number them; 0 is what was received.
        const DROPS: usize = 8;
        let memory: [u32; DROPS + 1] =
            options::get(self.as_fd(), libc::SOL_SOCKET, libc::SO_MEMINFO)?;
        Ok((memory[0].into(), memory[DROPS].into()))
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Opens the sockets of such a group, as it takes rights.
///
/// # Errors
/// As [`Socket::bind_group`]'s.
pub fn open_group(address: SocketAddr, count: usize) -> io::Result<Vec<OwnedFd>> {
    // Port sharing would also share with another process of the same user. A socket
    // that doesn't share finds out whether the port is free.
    let (probe, address) = match open_socket(address, false) {
        Err(error) if address.ip().is_unspecified() && no_such_family(&error) => {
            let v4 = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), address.port());
            (open_socket(v4, false)?, v4)
        }
        other => (other?, address),
    };
    let address = SocketAddr::new(address.ip(), local_address(&probe)?.port());
    drop(probe);
    (0..count).map(|_| open_socket(address, true)).collect()
}

fn open_socket(address: SocketAddr, share: bool) -> io::Result<OwnedFd> {
    let fd = sys::udp_socket(address.is_ipv6())?;
    let set = |level, option, value: libc::c_int| options::set(fd.as_fd(), level, option, &value);
    if share {
        set(libc::SOL_SOCKET, libc::SO_REUSEPORT, 1)?;
    }
    if address.is_ipv6() {
        set(libc::IPPROTO_IPV6, libc::IPV6_V6ONLY, 0)?;
        set(libc::IPPROTO_IPV6, libc::IPV6_RECVPKTINFO, 1)?;
        // What headers say of congestion: without it, it is lost and no more.
        let _ = set(libc::IPPROTO_IPV6, libc::IPV6_RECVTCLASS, 1);
    } else {
        set(libc::IPPROTO_IP, libc::IP_PKTINFO, 1)?;
    }
    // An IPv6 socket may be an IPv4 one, too; if it isn't, nobody misses these.
    let _ = set(libc::IPPROTO_IP, libc::IP_RECVTOS, 1);
    // As the kernel's WireGuard: routers may cut what is too large for a link of theirs.
    // With "don't fragment" it would be lost behind one that says nothing.
    let _ = set(
        libc::IPPROTO_IP,
        libc::IP_MTU_DISCOVER,
        libc::IP_PMTUDISC_DONT,
    );
    options::set_buffer(fd.as_fd(), Buffer::Receive, SOCKET_BUFFER);
    options::set_buffer(fd.as_fd(), Buffer::Send, SOCKET_BUFFER);
    sys::bind(fd.as_fd(), address)?;
    Ok(fd)
}

fn local_address(socket: &OwnedFd) -> io::Result<SocketAddr> {
    let address = SockRef::from(socket).local_addr()?;
    address
        .as_socket()
        .ok_or_else(|| io::ErrorKind::InvalidData.into())
}

fn no_such_family(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::EAFNOSUPPORT | libc::EADDRNOTAVAIL)
    )
}

/// Refusals in a row after which sending in segments is given up.
const PATIENCE: u32 = 16;

/// Sends runs on a socket; each thread that sends has its own.
pub struct Sender {
    socket: Arc<Socket>,
    ring: SendRing,
    counters: Arc<Counters>,
    /// Runs of several datagrams refused since one was last taken.
    refusals: u32,
    /// Why the kernel refused the last datagram that it refused for good.
    refused: Option<i32>,
}

impl Sender {
    /// A sender for `socket`.
    pub fn new(socket: Arc<Socket>, counters: Arc<Counters>) -> Self {
        Self {
            ring: SendRing::new(
                SEND_SLOTS,
                socket.local_addr().is_ipv6(),
                sys::mangles_equal_segments(),
            ),
            socket,
            counters,
            refusals: 0,
            refused: None,
        }
    }

    /// Why a datagram was refused since the last call, if one was.
    pub fn take_refusal(&mut self) -> Option<i32> {
        self.refused.take()
    }

    /// The port that it sends from.
    pub fn port(&self) -> u16 {
        self.socket.local_addr().port()
    }

    /// Where it counts what can't be sent.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// Whether runs of several datagrams are welcome.
    pub fn merges(&self) -> bool {
        self.socket.has_gso()
    }

    /// Sends all runs out of `arena` and forgets them. What the kernel refuses in one form
    /// is tried in the plainest: without a source address that may have vanished, unless others
    /// may have it by now, then without segmentation. What it refuses even so is counted and dropped.
    pub fn send(&mut self, arena: &[u8], runs: &mut DatagramRuns) {
        let mut rest = runs.as_slice();
        while !rest.is_empty() {
            match self.ring.send(self.socket.as_fd(), arena, rest) {
                Ok(sent) => {
                    let (gone, left) = rest.split_at(sent.clamp(1, rest.len()));
                    if gone.iter().any(|run| run.segments() > 1) {
                        self.refusals = 0;
                    }
                    rest = left;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    self.send_plainly(arena, rest[0], &error);
                    rest = &rest[1..];
                }
            }
        }
        runs.clear();
    }

    fn send_plainly(&mut self, arena: &[u8], mut run: DatagramRun, error: &io::Error) {
        let mut error = error.raw_os_error();
        let local = run.endpoint.local.map(|local| local.address.to_canonical());
        let is_kept = local.is_some() && local == self.socket.shared_address;
        if !is_kept && run.endpoint.local.take().is_some() {
            match self.ring.send(self.socket.as_fd(), arena, &[run]) {
                Ok(_) => return,
                Err(other) => error = other.raw_os_error(),
            }
        }
        if let Some(error @ (libc::EIO | libc::EINVAL | libc::EMSGSIZE)) = error
            && run.segments() > 1
        {
            let mut all_taken = true;
            for datagram in run.split() {
                let alone = std::slice::from_ref(&datagram);
                if self.ring.send(self.socket.as_fd(), arena, alone).is_err() {
                    self.drop_refused(arena, &datagram);
                    all_taken = false;
                }
            }
            self.refuse_segments(error, all_taken);
            return;
        }
        self.refused = error;
        for datagram in run.split() {
            self.drop_refused(arena, &datagram);
        }
    }

    /// Counts a datagram that the kernel refused.
    fn drop_refused(&self, arena: &[u8], datagram: &DatagramRun) {
        let subject = Subject::Leaves {
            endpoint: datagram.endpoint,
            datagram: &arena[datagram.start..datagram.start + datagram.len],
        };
        self.counters.drop_packet(DropReason::UdpSend, subject);
    }

    /// Counts a run that was refused for its segments. `EIO` means that the interface it
    /// would leave by can't checksum them, or that the way to this one peer transforms
    /// packets (`IPsec`); `EMSGSIZE`, that they don't fit the path to this one peer; `EINVAL`
    /// may mean any of these, depending on the kernel. So it takes a number of the first or
    /// the last, no success between, and each time the same datagrams one by one to be
    /// taken, to give up for all.
    fn refuse_segments(&mut self, error: libc::c_int, all_taken: bool) {
        self.counters.gso_fallback();
        self.refusals += u32::from(all_taken && matches!(error, libc::EINVAL | libc::EIO));
        if self.refusals >= PATIENCE && self.socket.gso.swap(false, Ordering::Relaxed) {
            tracing::warn!("the kernel sends no datagrams in segments: going on without");
        }
    }
}
