//! AF_XDP sockets: frames that an XDP program hands to this process before the kernel has
//! made packets of them, and frames that leave without its making packets of them.
//!
//! | file | concern |
//! |---|---|
//! | `mapping` | memory that is shared with the kernel |
//! | `outlet` | having the kernel send, also for other threads |
//! | `parts` | the memory of a ring |
//! | `ring` | one ring: numbers, places, order |
//! | `rings` | what one thread receives by a socket, and who has which frame of it |
//! | `sending` | what several threads send by it, and who has which frame of that |

mod mapping;
mod outlet;
mod parts;
mod ring;
mod rings;
mod sending;

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
// Where a test takes each order of threads, this name leads to what does so (`tests/interleavings`).
use std::sync::atomic;
use std::sync::{Arc, Weak};
use std::time::Duration;

use taltun_common::headers::{ETHERNET_LEN, VLAN_TAG_LEN};

use super::wait::Bell;
use crate::os::options::Buffer;
use crate::os::{check, options};
use crate::verbs::{self, Verb};
use mapping::Mapping;
use outlet::kick;
pub use outlet::{Kicked, Outlet};
use parts::RingParts;
use ring::{Consumer, Producer};
pub use rings::{Packet, Rings};
use sending::Sending;
pub use sending::{FrameSlots, LentFrames};

/// Bytes at the start of each frame that the kernel leaves free (`XDP_PACKET_HEADROOM`).
pub const HEADROOM: usize = 256;
/// Frames of a socket to receive with, and places in each of its rings. What a queue at
/// 1,000,000 packets/s brings in four milliseconds, which is as long as a busy machine lets
/// a thread wait.
const FRAMES: u32 = 4096;
/// Frames beside these, for what leaves by the socket and came in elsewhere: some large
/// batches. With the half of the others that may be on their way out, all have a place in a
/// ring.
const SPARE_FRAMES: u32 = 1024;
/// Bytes of a frame while the link's packets fit, and when they don't. No other sizes are
/// taken by every driver.
const FRAME_LENS: [usize; 2] = [2048, 4096];
/// What Ethernet puts around a packet, a VLAN tag included.
const TAGGED_ETHERNET_LEN: usize = ETHERNET_LEN + VLAN_TAG_LEN;

/// The queue of an interface that a socket is to receive from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Queue {
    /// Index of the interface.
    pub interface: u32,
    /// Which of its receive queues.
    pub number: u32,
}

/// What the kernel counted of a socket since it was made (`XDP_STATISTICS`).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Statistics {
    /// Packets lost because no frame was free, or none large enough.
    pub dropped: u64,
    /// Packets lost because the RX ring was full.
    pub ring_full: u64,
    /// How often the kernel looked for a free frame and found none.
    pub fill_empty: u64,
    /// Descriptors of ours that it refused: none, if all is right.
    pub invalid: u64,
}

impl Statistics {
    /// Packets that were meant for us and that nobody has any more.
    pub fn lost(&self) -> u64 {
        self.dropped + self.ring_full
    }
}

/// Opens an AF_XDP socket, which is bound to nothing.
///
/// # Errors
/// As [`Xsk::bind`]'s.
pub fn open() -> io::Result<OwnedFd> {
    // SAFETY: no pointers are passed.
    let fd = check(unsafe { libc::socket(libc::AF_XDP, libc::SOCK_RAW | libc::SOCK_CLOEXEC, 0) })?;
    // SAFETY: the kernel just gave us this descriptor, nobody else has it.
    let fd = unsafe { OwnedFd::from_raw_fd(fd) };
    // Where the kernel copies it takes no more than this buffer holds, and what it left would be
    // overtaken by what leaves otherwise. So it is to hold all frames, with what the kernel adds.
    let all = 2 * (FRAMES + SPARE_FRAMES) as usize * FRAME_LENS[1];
    let all = libc::c_int::try_from(all).unwrap_or(libc::c_int::MAX);
    options::set_buffer(fd.as_fd(), Buffer::Send, all);
    Ok(fd)
}

/// An AF_XDP socket that receives from one queue.
#[derive(Debug)]
pub struct Xsk {
    /// Before the socket, whose memory it uses.
    rings: Rings,
    sending: Arc<Sending>,
    fd: Arc<OwnedFd>,
    why_copies: Option<io::Error>,
    room: usize,
}

impl Xsk {
    /// Binds a socket to a queue of an interface with this MTU: with zero copy where the
    /// driver has it, else, if `may_copy`, with copies. Which it came to be, and why, says
    /// [`why_copies`](Self::why_copies).
    ///
    /// # Errors
    /// `EBUSY` while another socket has the queue, also one that was closed a moment ago;
    /// `EINVAL` for a queue that doesn't exist or isn't up to it; `EPERM` without
    /// `CAP_NET_RAW`; `EAFNOSUPPORT` where the kernel has no AF_XDP; `ENODEV` for an
    /// interface that is gone. Without `may_copy`, whatever the driver answers that has no
    /// zero copy, `EOPNOTSUPP` or `EINVAL` mostly.
    pub fn bind(queue: Queue, mtu: usize, may_copy: bool) -> io::Result<Self> {
        let frame_len = frame_len(mtu);
        let fd = verbs::open_one(Verb::Frames, open)?;
        let frames = (FRAMES + SPARE_FRAMES) as usize;
        let area = Arc::new(Mapping::anonymous(frames * frame_len)?);
        register(fd.as_fd(), &area, frame_len)?;
        let (mut rings, sending) = make_rings(fd.as_fd(), &area, frame_len)?;
        // Before there is anything to receive.
        rings.refill();
        // Left to choose, the kernel would try the same, but keep to itself why not.
        let wanted = libc::XDP_USE_NEED_WAKEUP | libc::XDP_ZEROCOPY;
        let mut why_copies = bind_to(fd.as_fd(), queue, wanted).err();
        if let Some(error) = why_copies.take_if(|error| !may_copy || !is_of_zero_copy(error)) {
            return Err(error);
        }
        if why_copies.is_some() {
            let wanted = libc::XDP_USE_NEED_WAKEUP | libc::XDP_COPY;
            bind_to(fd.as_fd(), queue, wanted)?;
        }
        let options: libc::xdp_options = get_option(fd.as_fd(), libc::XDP_OPTIONS)?;
        if options.flags & libc::XDP_OPTIONS_ZEROCOPY == 0 && why_copies.is_none() {
            // The kernel has the last word.
            why_copies = Some(io::ErrorKind::Unsupported.into());
        }
        Ok(Self {
            rings,
            sending,
            fd: Arc::new(fd),
            why_copies,
            room: frame_len - HEADROOM,
        })
    }

    /// Bytes of the largest frame that a socket can receive which is bound to an interface
    /// with this MTU.
    pub fn room_for(mtu: usize) -> usize {
        frame_len(mtu) - HEADROOM
    }

    /// Whether the network card itself writes to our frames.
    pub fn is_zero_copy(&self) -> bool {
        self.why_copies.is_none()
    }

    /// What the driver answered when zero copy was asked for, where it doesn't do it.
    pub fn why_copies(&self) -> Option<&io::Error> {
        self.why_copies.as_ref()
    }

    /// Bytes of the largest frame, from the Ethernet header on, that can be received. The
    /// kernel throws larger ones away.
    pub fn room(&self) -> usize {
        self.room
    }

    /// The rings.
    pub fn rings(&mut self) -> &mut Rings {
        &mut self.rings
    }

    /// Tells the kernel of frames to fill, where it asks for that.
    pub fn wake_receiver(&self) {
        if self.rings.fill_needs_wakeup() {
            self.receive_nothing();
        }
    }

    /// Asks for data that doesn't come this way: what matters is that the kernel looks at
    /// the socket.
    fn receive_nothing(&self) {
        // SAFETY: no memory is passed: the length is zero and there is no address.
        unsafe {
            libc::recvfrom(
                self.fd.as_raw_fd(),
                std::ptr::null_mut(),
                0,
                libc::MSG_DONTWAIT,
                std::ptr::null_mut(),
                std::ptr::null_mut(),
            )
        };
    }

    /// Has the kernel send what is on the TX ring.
    pub fn kick(&self) -> Kicked {
        kick(&self.fd, &self.sending, self.is_zero_copy())
    }

    /// Frames to be sent that the kernel hasn't looked at yet, whoever they are of.
    pub fn unsent(&self) -> usize {
        self.sending.pending().unsent
    }

    /// Whether any frames are on their way out.
    pub fn is_sending(&self) -> bool {
        self.sending.is_sending()
    }

    /// From now on nobody sends by an [`Outlet`] any more.
    pub fn shut_outlets(&self) {
        self.sending.shut();
    }

    /// A way for other threads to send by this socket.
    pub fn outlet(&self) -> Outlet {
        Outlet::new(&self.sending, self.handle(), self.is_zero_copy())
    }

    /// A way to ask about this socket that doesn't keep it open.
    pub fn handle(&self) -> Handle {
        Handle(Arc::downgrade(&self.fd))
    }
}

impl AsFd for Xsk {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Knows a socket that another thread has, for as long as that has it.
#[derive(Debug, Clone)]
pub struct Handle(Weak<OwnedFd>);

impl Handle {
    /// The socket, if it is still there; don't keep it.
    pub fn socket(&self) -> Option<Arc<OwnedFd>> {
        self.0.upgrade()
    }

    /// What the kernel counted; `None` once the socket is closed.
    pub fn statistics(&self) -> Option<Statistics> {
        let socket = self.socket()?;
        let counted: libc::xdp_statistics =
            get_option(socket.as_fd(), libc::XDP_STATISTICS).ok()?;
        Some(Statistics {
            dropped: counted.rx_dropped,
            ring_full: counted.rx_ring_full,
            fill_empty: counted.rx_fill_ring_empty_descs,
            invalid: counted.rx_invalid_descs + counted.tx_invalid_descs,
        })
    }
}

/// What came of waiting for a descriptor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wait {
    /// There is something to read, or the bell rang.
    Readable,
    /// The time is over.
    TimedOut,
    /// The stop signal came.
    Stopped,
    /// The socket is of no use any more: its interface is gone.
    Gone,
}

/// Waits until there is something to receive or the bell rings, for `timeout` or for ever.
///
/// Where the kernel copies, looking at the socket has it send what is on the TX ring, and it
/// doesn't say if it throws that away. So `socket` is `None` while the link is down.
pub fn wait(
    socket: Option<BorrowedFd<'_>>,
    stop: BorrowedFd<'_>,
    bell: Option<&Bell>,
    timeout: Option<Duration>,
) -> io::Result<Wait> {
    let watch = |fd: Option<BorrowedFd<'_>>| libc::pollfd {
        // Those below zero are passed over.
        fd: fd.map_or(-1, |fd| fd.as_raw_fd()),
        events: libc::POLLIN,
        revents: 0,
    };
    let mut watched = [
        watch(socket),
        watch(Some(stop)),
        watch(bell.map(Bell::as_fd)),
    ];
    let timeout = timeout.map_or(-1, |time| time.as_millis().try_into().unwrap_or(i32::MAX));
    // SAFETY: the pointer is to three initialised pollfds that outlive the call.
    match check(unsafe { libc::poll(watched.as_mut_ptr(), 3, timeout) }) {
        Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(Wait::TimedOut),
        Err(error) => Err(error),
        Ok(_) if watched[1].revents != 0 => Ok(Wait::Stopped),
        Ok(_) if watched[0].revents & libc::POLLIN != 0 => Ok(Wait::Readable),
        Ok(_) if watched[0].revents != 0 => Ok(Wait::Gone),
        Ok(_) if watched[2].revents != 0 => {
            bell.inspect(|bell| bell.hush());
            Ok(Wait::Readable)
        }
        Ok(_) => Ok(Wait::TimedOut),
    }
}

/// Bytes of the frames for packets of this size.
fn frame_len(mtu: usize) -> usize {
    let [small, large] = FRAME_LENS;
    if mtu + TAGGED_ETHERNET_LEN + HEADROOM <= small {
        small
    } else {
        large
    }
}

/// Whether an error of binding with zero copy may not come of binding with copies: a driver
/// answers as it likes. All that isn't about the driver comes of both.
fn is_of_zero_copy(error: &io::Error) -> bool {
    !matches!(
        error.raw_os_error(),
        Some(libc::EBUSY | libc::ENODEV | libc::ENETDOWN | libc::EPERM)
    )
}

fn register(fd: BorrowedFd<'_>, area: &Mapping, frame_len: usize) -> io::Result<()> {
    let request = libc::xdp_umem_reg {
        addr: area.start().as_ptr().expose_provenance() as u64,
        len: area.len() as u64,
        chunk_size: frame_len as u32,
        headroom: 0,
        flags: 0,
        tx_metadata_len: 0,
    };
    set_option(fd, libc::XDP_UMEM_REG, &request)
}

fn make_rings(
    fd: BorrowedFd<'_>,
    area: &Arc<Mapping>,
    frame_len: usize,
) -> io::Result<(Rings, Arc<Sending>)> {
    for ring in [
        libc::XDP_UMEM_FILL_RING,
        libc::XDP_UMEM_COMPLETION_RING,
        libc::XDP_RX_RING,
        libc::XDP_TX_RING,
    ] {
        set_option(fd, ring, &FRAMES)?;
    }
    let at: libc::xdp_mmap_offsets = get_option(fd, libc::XDP_MMAP_OFFSETS)?;
    let map = |ring: &libc::xdp_ring_offset, entry: usize, place: u64| {
        let len = ring.desc as usize + FRAMES as usize * entry;
        let offset = libc::off_t::try_from(place).map_err(|_| io::ErrorKind::InvalidData)?;
        Mapping::of_socket(fd, offset, len).map(Arc::new)
    };
    let number = size_of::<u64>();
    let descriptor = size_of::<libc::xdp_desc>();
    let fill = map(&at.fr, number, libc::XDP_UMEM_PGOFF_FILL_RING)?;
    let completion = map(&at.cr, number, libc::XDP_UMEM_PGOFF_COMPLETION_RING)?;
    let rx = map(&at.rx, descriptor, libc::XDP_PGOFF_RX_RING as u64)?;
    let tx = map(&at.tx, descriptor, libc::XDP_PGOFF_TX_RING as u64)?;
    let lower = FRAMES as usize;
    let sending = Arc::new(Sending::new(
        Arc::clone(area),
        frame_len,
        lower,
        Producer::new(RingParts::new(tx, &at.tx, FRAMES)?),
        Consumer::new(RingParts::new(completion, &at.cr, FRAMES)?),
    ));
    let rings = Rings::new(
        Arc::clone(area),
        frame_len,
        lower,
        Producer::new(RingParts::new(fill, &at.fr, FRAMES)?),
        Consumer::new(RingParts::new(rx, &at.rx, FRAMES)?),
        Arc::clone(&sending),
    );
    Ok((rings, sending))
}

fn bind_to(fd: BorrowedFd<'_>, queue: Queue, flags: u16) -> io::Result<()> {
    let address = libc::sockaddr_xdp {
        sxdp_family: libc::AF_XDP as u16,
        sxdp_flags: flags,
        sxdp_ifindex: queue.interface,
        sxdp_queue_id: queue.number,
        sxdp_shared_umem_fd: 0,
    };
    // SAFETY: the pointer is to a socket address of the given length that outlives the call.
    check(unsafe {
        libc::bind(
            fd.as_raw_fd(),
            (&raw const address).cast(),
            size_of_val(&address) as libc::socklen_t,
        )
    })
    .map(drop)
}

// SAFETY: integers, without padding.
unsafe impl options::Value for libc::xdp_umem_reg {}
// SAFETY: integers, without padding.
unsafe impl options::Value for libc::xdp_mmap_offsets {}
// SAFETY: integers, without padding.
unsafe impl options::Value for libc::xdp_options {}
// SAFETY: integers, without padding.
unsafe impl options::Value for libc::xdp_statistics {}

fn set_option<T: options::Value>(
    socket: BorrowedFd<'_>,
    option: libc::c_int,
    value: &T,
) -> io::Result<()> {
    options::set(socket, libc::SOL_XDP, option, value)
}

fn get_option<T: options::Value>(socket: BorrowedFd<'_>, option: libc::c_int) -> io::Result<T> {
    options::get(socket, libc::SOL_XDP, option)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_as_small_as_the_mtu_lets_them() {
        assert_eq!(frame_len(1500), 2048);
        assert_eq!(frame_len(1774), 2048);
        assert_eq!(frame_len(1775), 4096);
        assert_eq!(frame_len(9000), 4096);
    }

    #[test]
    fn only_what_zero_copy_may_be_to_blame_for_is_tried_again_with_copies() {
        let error = io::Error::from_raw_os_error;
        for number in [libc::EOPNOTSUPP, libc::EINVAL, libc::ENOENT, libc::ENOMEM] {
            assert!(is_of_zero_copy(&error(number)));
        }
        for number in [libc::EBUSY, libc::EPERM, libc::ENODEV] {
            assert!(!is_of_zero_copy(&error(number)));
        }
    }

    #[test]
    fn an_interface_that_is_not_there_is_an_error() {
        let queue = Queue {
            interface: 0x7fff_0000,
            number: 0,
        };
        for may_copy in [true, false] {
            let error = Xsk::bind(queue, 1500, may_copy).unwrap_err();
            // Without the right to make such sockets it ends earlier.
            assert!(matches!(
                error.raw_os_error(),
                Some(libc::ENODEV | libc::EPERM | libc::EAFNOSUPPORT | libc::ENOBUFS)
            ));
        }
    }
}
