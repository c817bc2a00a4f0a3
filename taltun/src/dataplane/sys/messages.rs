//! `recvmmsg` and `sendmmsg` with their control messages: source and destination address
//! (`PKTINFO`), `UDP_GRO` on the way in, `UDP_SEGMENT` and the hop limit on the way out.
//!
//! Both rings own the arrays the kernel works on and set up their pointers anew for each
//! call, so they can be moved freely in between and nothing is allocated per packet.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::ops::Range;
use std::os::fd::{AsRawFd, BorrowedFd};

use super::address::{decode, encode, v4_addr};
use crate::dataplane::runs::DatagramRun;
use crate::protocol::peer::{Endpoint, Local};

/// Bytes for the control messages of one datagram: an `in6_pktinfo` and three integers, with
/// their headers, need 112.
const CONTROL_LEN: usize = 128;

/// Control messages must be aligned as their header is.
#[derive(Clone, Copy)]
#[repr(C, align(8))]
struct Control([u8; CONTROL_LEN]);

/// Receives batches of datagrams into one arena.
pub struct ReceiveRing {
    arena: Box<[u8]>,
    slot_len: usize,
    headers: Box<[libc::mmsghdr]>,
    buffers: Box<[libc::iovec]>,
    names: Box<[libc::sockaddr_storage]>,
    controls: Box<[Control]>,
    received: Vec<Received>,
}

// SAFETY: the raw pointers in `headers` and `buffers` are set and used only inside
// `receive`, and point into memory that the ring owns.
unsafe impl Send for ReceiveRing {}

/// One message that was received: one datagram, or several of one sender that the kernel
/// merged.
#[derive(Debug, Clone, Copy)]
pub struct Received {
    /// Where its bytes start in the arena.
    pub start: usize,
    /// How many there are.
    pub len: usize,
    /// Bytes of each datagram in it but the last, which may have fewer.
    pub segment: usize,
    /// Who sent it, and to which of our addresses.
    pub from: Endpoint,
    /// What its header said of congestion, and what else the traffic class is.
    pub ecn: u8,
    /// Whether the kernel had to cut it: larger than any buffer of ours.
    pub truncated: bool,
}

impl Received {
    /// How many datagrams it is.
    pub fn count(&self) -> usize {
        self.len.div_ceil(self.segment).max(1)
    }

    /// Where each datagram lies in the arena. A message without bytes is one empty datagram.
    pub fn datagrams(&self) -> impl Iterator<Item = Range<usize>> {
        let Self {
            start,
            len,
            segment,
            ..
        } = *self;
        let count = self.count();
        (0..count).map(move |at| start + at * segment..start + len.min((at + 1) * segment))
    }
}

impl ReceiveRing {
    /// A ring for `slots` messages of up to `slot_len` bytes.
    pub fn new(slots: usize, slot_len: usize) -> Self {
        // SAFETY: all-zero is valid for these C structures: null pointers and zero lengths.
        let (header, buffer, name) = unsafe {
            (
                std::mem::zeroed::<libc::mmsghdr>(),
                std::mem::zeroed::<libc::iovec>(),
                std::mem::zeroed::<libc::sockaddr_storage>(),
            )
        };
        Self {
            arena: vec![0; slots * slot_len].into_boxed_slice(),
            slot_len,
            headers: vec![header; slots].into_boxed_slice(),
            buffers: vec![buffer; slots].into_boxed_slice(),
            names: vec![name; slots].into_boxed_slice(),
            controls: vec![Control([0; CONTROL_LEN]); slots].into_boxed_slice(),
            received: Vec::with_capacity(slots),
        }
    }

    /// Receives what is there, without waiting, and at most so many messages. Gives the arena and
    /// the messages in it.
    pub fn receive(
        &mut self,
        socket: BorrowedFd<'_>,
        most: usize,
    ) -> io::Result<(&mut [u8], &[Received])> {
        self.received.clear();
        let slots = self.headers.len().min(most);
        let arena = self.arena.chunks_exact_mut(self.slot_len);
        for (at, slot) in arena.enumerate().take(slots) {
            self.buffers[at] = libc::iovec {
                iov_base: slot.as_mut_ptr().cast(),
                iov_len: slot.len(),
            };
            let header = &mut self.headers[at].msg_hdr;
            header.msg_name = (&raw mut self.names[at]).cast();
            header.msg_namelen = size_of::<libc::sockaddr_storage>() as libc::socklen_t;
            header.msg_iov = &raw mut self.buffers[at];
            header.msg_iovlen = 1;
            header.msg_control = self.controls[at].0.as_mut_ptr().cast();
            header.msg_controllen = CONTROL_LEN as _;
            header.msg_flags = 0;
        }
        // SAFETY: every header points at live memory of this ring with its true length,
        // and `slots` of them are initialised.
        let count = unsafe {
            libc::recvmmsg(
                socket.as_raw_fd(),
                self.headers.as_mut_ptr(),
                slots as libc::c_uint,
                // An integer of one C library, and an unsigned one of another.
                libc::MSG_DONTWAIT as _,
                std::ptr::null_mut(),
            )
        };
        let count = usize::try_from(count).map_err(|_| io::Error::last_os_error())?;
        for at in 0..count {
            let message = &self.headers[at];
            let Some(remote) = decode(&self.names[at]) else {
                continue;
            };
            let len = message.msg_len as usize;
            let Said {
                local,
                segment,
                class,
            } = read_control(&message.msg_hdr);
            self.received.push(Received {
                start: at * self.slot_len,
                len,
                segment: segment.filter(|s| *s > 0).unwrap_or(len.max(1)),
                from: Endpoint {
                    remote,
                    local,
                    local_port: None,
                },
                ecn: class,
                truncated: message.msg_hdr.msg_flags & libc::MSG_TRUNC != 0,
            });
        }
        Ok((&mut self.arena, &self.received))
    }
}

/// What the kernel says of a message.
#[derive(Debug, Default)]
struct Said {
    /// Our address and interface.
    local: Option<Local>,
    /// The segment size, if it is a merged one.
    segment: Option<usize>,
    /// The traffic class.
    class: u8,
}

fn read_control(header: &libc::msghdr) -> Said {
    let mut said = Said::default();
    // SAFETY: the kernel filled in `msg_controllen` bytes of well-formed control messages
    // at `msg_control`, which the ring owns; the CMSG functions stay within them, and the
    // data of each kind read here has the type the kernel documents.
    unsafe {
        let mut at = libc::CMSG_FIRSTHDR(header);
        while !at.is_null() {
            let data = libc::CMSG_DATA(at);
            match ((*at).cmsg_level, (*at).cmsg_type) {
                (libc::IPPROTO_IP, libc::IP_PKTINFO) => {
                    let info = data.cast::<libc::in_pktinfo>().read_unaligned();
                    said.local = Some(Local {
                        address: Ipv4Addr::from(info.ipi_addr.s_addr.to_ne_bytes()).into(),
                        interface: info.ipi_ifindex.cast_unsigned(),
                    });
                }
                (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO) => {
                    let info = data.cast::<libc::in6_pktinfo>().read_unaligned();
                    let ip = Ipv6Addr::from(info.ipi6_addr.s6_addr);
                    said.local = Some(Local {
                        address: IpAddr::V6(ip).to_canonical(),
                        interface: info.ipi6_ifindex,
                    });
                }
                (libc::SOL_UDP, libc::UDP_GRO) => {
                    let size = data.cast::<libc::c_int>().read_unaligned();
                    said.segment = usize::try_from(size).ok();
                }
                // A byte of one, an integer of the other.
                (libc::IPPROTO_IP, libc::IP_TOS) => said.class = data.read(),
                (libc::IPPROTO_IPV6, libc::IPV6_TCLASS) => {
                    said.class = data.cast::<libc::c_int>().read_unaligned().to_le_bytes()[0];
                }
                _ => {}
            }
            at = libc::CMSG_NXTHDR(header, at);
        }
    }
    said
}

/// What follows segments of equal size where the kernel mangles such: shorter, so that they
/// are no longer all equal, and no message, so that the receiver throws it away.
static ODD_TAIL: [u8; 1] = [0];

/// Sends batches of runs out of an arena.
pub struct SendRing {
    headers: Box<[libc::mmsghdr]>,
    /// Two for each header: a run, and what may follow it.
    buffers: Box<[[libc::iovec; 2]]>,
    names: Box<[libc::sockaddr_storage]>,
    controls: Box<[Control]>,
    v6_socket: bool,
    odd_tails: bool,
}

// SAFETY: as for `ReceiveRing`: the raw pointers are set and used only inside `send`.
unsafe impl Send for SendRing {}

impl SendRing {
    /// A ring that hands up to `slots` runs to the kernel in one call, on a socket of the
    /// given family. `odd_tails` is for kernels that [mangle equal
    /// segments](super::mangles_equal_segments): such runs end in one more datagram, of a
    /// single byte.
    pub fn new(slots: usize, v6_socket: bool, odd_tails: bool) -> Self {
        // SAFETY: all-zero is valid for these C structures: null pointers and zero lengths.
        let (header, tail, name) = unsafe {
            (
                std::mem::zeroed::<libc::mmsghdr>(),
                std::mem::zeroed::<libc::iovec>(),
                std::mem::zeroed::<libc::sockaddr_storage>(),
            )
        };
        Self {
            headers: vec![header; slots].into_boxed_slice(),
            buffers: vec![[tail; 2]; slots].into_boxed_slice(),
            names: vec![name; slots].into_boxed_slice(),
            controls: vec![Control([0; CONTROL_LEN]); slots].into_boxed_slice(),
            v6_socket,
            odd_tails,
        }
    }

    /// Sends the first runs, as many as the ring has slots for and the kernel takes; how
    /// many that were. An error is about the first run.
    pub fn send(
        &mut self,
        socket: BorrowedFd<'_>,
        arena: &[u8],
        runs: &[DatagramRun],
    ) -> io::Result<usize> {
        let count = runs.len().min(self.headers.len());
        for (at, run) in runs[..count].iter().enumerate() {
            let payload = &arena[run.start..run.start + run.len];
            let (name, name_len) = encode(run.endpoint.remote, self.v6_socket);
            self.names[at] = name;
            self.buffers[at] = [payload, &ODD_TAIL].map(|bytes| libc::iovec {
                // The kernel only reads from it.
                iov_base: bytes.as_ptr().cast_mut().cast(),
                iov_len: bytes.len(),
            });
            let header = &mut self.headers[at].msg_hdr;
            header.msg_name = (&raw mut self.names[at]).cast();
            header.msg_namelen = name_len;
            header.msg_iov = self.buffers[at].as_mut_ptr();
            header.msg_iovlen = (1 + usize::from(self.odd_tails && run.is_even())) as _;
            write_control(header, &mut self.controls[at], run, self.v6_socket);
        }
        // By its number: musl's own function makes a call for each message, as the kernel reads
        // what is padding in musl's headers as the upper half of their lengths. Here it is zero.
        // SAFETY: `count` headers are initialised and point at live memory: the ring's own
        // arrays, and the arena, which is borrowed until the call returns.
        let sent = unsafe {
            libc::syscall(
                libc::SYS_sendmmsg,
                socket.as_raw_fd(),
                self.headers.as_mut_ptr(),
                count as libc::c_uint,
                0,
            )
        };
        usize::try_from(sent).map_err(|_| io::Error::last_os_error())
    }
}

fn write_control(
    header: &mut libc::msghdr,
    control: &mut Control,
    run: &DatagramRun,
    v6_socket: bool,
) {
    header.msg_control = control.0.as_mut_ptr().cast();
    header.msg_controllen = CONTROL_LEN as _;
    let mut used = 0;
    // SAFETY: `msg_control` points at `CONTROL_LEN` bytes aligned for a header; at most an
    // `in6_pktinfo`, a `u16` and two `int`s are written, each at the place the CMSG functions give,
    // which together stay within these bytes.
    unsafe {
        let mut at = libc::CMSG_FIRSTHDR(header);
        let mut put = |level, kind, data: *const u8, len: usize| {
            // With its padding, where it has any.
            at.write(std::mem::zeroed());
            (*at).cmsg_level = level;
            (*at).cmsg_type = kind;
            (*at).cmsg_len = libc::CMSG_LEN(len as u32) as _;
            std::ptr::copy_nonoverlapping(data, libc::CMSG_DATA(at), len);
            let space = libc::CMSG_SPACE(len as u32) as usize;
            used += space;
            at = at.byte_add(space);
        };
        match run.endpoint.local {
            Some(local) if v6_socket => {
                let address = match local.address {
                    IpAddr::V4(ip) => ip.to_ipv6_mapped(),
                    IpAddr::V6(ip) => ip,
                };
                let info = libc::in6_pktinfo {
                    ipi6_addr: libc::in6_addr {
                        s6_addr: address.octets(),
                    },
                    ipi6_ifindex: interface_to_use(&run.endpoint.remote, local.interface),
                };
                put(
                    libc::IPPROTO_IPV6,
                    libc::IPV6_PKTINFO,
                    (&raw const info).cast(),
                    size_of_val(&info),
                );
            }
            Some(Local {
                address: IpAddr::V4(ip),
                ..
            }) => {
                let info = libc::in_pktinfo {
                    ipi_ifindex: 0,
                    ipi_spec_dst: v4_addr(ip),
                    ipi_addr: v4_addr(Ipv4Addr::UNSPECIFIED),
                };
                put(
                    libc::IPPROTO_IP,
                    libc::IP_PKTINFO,
                    (&raw const info).cast(),
                    size_of_val(&info),
                );
            }
            Some(_) | None => {}
        }
        if let Some(hop_limit) = run.hop_limit {
            let hop_limit = libc::c_int::from(hop_limit);
            // An IPv4 peer is IPv4 to an IPv6 socket, too.
            let (level, kind) = if run.endpoint.remote.is_ipv4() {
                (libc::IPPROTO_IP, libc::IP_TTL)
            } else {
                (libc::IPPROTO_IPV6, libc::IPV6_HOPLIMIT)
            };
            let data = (&raw const hop_limit).cast();
            put(level, kind, data, size_of_val(&hop_limit));
        }
        if run.class != 0 {
            let class = libc::c_int::from(run.class);
            let (level, kind) = if run.endpoint.remote.is_ipv4() {
                (libc::IPPROTO_IP, libc::IP_TOS)
            } else {
                (libc::IPPROTO_IPV6, libc::IPV6_TCLASS)
            };
            put(level, kind, (&raw const class).cast(), size_of_val(&class));
        }
        if run.len > run.segment {
            let segment = run.segment as u16;
            put(
                libc::SOL_UDP,
                libc::UDP_SEGMENT,
                (&raw const segment).cast(),
                size_of_val(&segment),
            );
        }
    }
    header.msg_controllen = used as _;
    if used == 0 {
        header.msg_control = std::ptr::null_mut();
    }
}

/// The route decides the interface, as for any packet; only a link-local peer is bound to
/// the one it was heard on.
fn interface_to_use(remote: &SocketAddr, interface: u32) -> u32 {
    match remote {
        SocketAddr::V6(v6) if v6.ip().is_unicast_link_local() => interface,
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;
    use std::os::fd::AsFd;

    use super::*;

    #[test]
    fn a_merged_message_is_taken_apart_where_its_datagrams_meet() {
        let parts = |len, segment| -> Vec<(usize, usize)> {
            Received {
                start: 100,
                len,
                segment,
                from: Endpoint::from(SocketAddr::from(([192, 0, 2, 1], 1))),
                ecn: 0,
                truncated: false,
            }
            .datagrams()
            .map(|place| (place.start, place.end))
            .collect()
        };
        assert_eq!(parts(25, 10), [(100, 110), (110, 120), (120, 125)]);
        assert_eq!(parts(20, 10), [(100, 110), (110, 120)]);
        assert_eq!(parts(7, 7), [(100, 107)]);
        assert_eq!(parts(0, 1), [(100, 100)]);
    }

    /// How many bytes each datagram has that arrives of runs of these lengths in segments of
    /// ten.
    fn arriving(odd_tails: bool, lens: &[usize]) -> Vec<usize> {
        let receiver = UdpSocket::bind("127.0.0.1:0").unwrap();
        let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
        let runs: Vec<DatagramRun> = lens
            .iter()
            .map(|&len| DatagramRun {
                start: 0,
                len,
                segment: 10.min(len),
                endpoint: Endpoint::from(receiver.local_addr().unwrap()),
                hop_limit: None,
                class: 0,
            })
            .collect();
        let mut ring = SendRing::new(8, false, odd_tails);
        let sent = ring.send(sender.as_fd(), &[7; 100], &runs).unwrap();
        assert_eq!(sent, runs.len());
        receiver.set_nonblocking(true).unwrap();
        std::iter::from_fn(|| receiver.recv(&mut [0; 100]).ok()).collect()
    }

    /// A kernel with the fault isn't to be had, but what it gets is.
    #[test]
    fn only_equal_segments_get_an_odd_tail_and_only_where_that_is_asked_for() {
        let lens = [30, 25, 10, 7, 20];
        let plain = [10, 10, 10, 10, 10, 5, 10, 7, 10, 10];
        assert_eq!(arriving(false, &lens), plain);
        let tailed = [10, 10, 10, 1, 10, 10, 5, 10, 7, 10, 10, 1];
        assert_eq!(arriving(true, &lens), tailed);
    }

    /// What headers say of congestion, and a DSCP, leaves and arrives, in segments and merged, by a socket
    /// of either family or of both.
    #[test]
    fn what_headers_say_of_congestion_leaves_and_arrives() {
        use crate::dataplane::udp::{Socket, UdpSettings};
        let wanted = UdpSettings {
            gso: true,
            gro: true,
            shared_address: None,
        };
        let cases = [
            ("127.0.0.1:0", "127.0.0.1"),
            ("[::1]:0", "::1"),
            ("[::]:0", "127.0.0.1"),
        ];
        for (bind, to) in cases {
            let bound = || {
                let group = Socket::bind_group(bind.parse().unwrap(), 1, wanted);
                group.unwrap().remove(0)
            };
            let (sender, receiver) = (bound(), bound());
            let remote = SocketAddr::new(to.parse().unwrap(), receiver.local_addr().port());
            let runs: Vec<DatagramRun> = [0, 1, 2, 0, 0xba]
                .into_iter()
                .map(|class| DatagramRun {
                    segment: 10,
                    class,
                    ..DatagramRun::of_one(0, 20, Endpoint::from(remote))
                })
                .collect();
            let v6 = sender.local_addr().is_ipv6();
            let mut ring = SendRing::new(8, v6, false);
            assert_eq!(ring.send(sender.as_fd(), &[7; 100], &runs).unwrap(), 5);
            let mut ring = ReceiveRing::new(8, 65_536);
            let mut said = Vec::new();
            while let Ok((_, messages)) = ring.receive(receiver.as_fd(), usize::MAX) {
                for message in messages {
                    said.extend(message.datagrams().map(|_| message.ecn));
                }
            }
            assert_eq!(said, [0, 0, 1, 1, 2, 2, 0, 0, 0xba, 0xba], "{bind} to {to}");
        }
    }
}
