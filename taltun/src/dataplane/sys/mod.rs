//! The system calls of the data plane, behind safe functions: the only `unsafe` on the hot
//! path. One kind of call a file.

mod address;
mod kernel;
mod messages;
mod scheduling;
mod shared_words;
mod wait;
pub mod xsk;

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use crate::os::{check, interface};
pub use kernel::mangles_equal_segments;
pub use messages::{ReceiveRing, Received, SendRing};
pub use scheduling::{Policy, Thread};
pub use shared_words::SharedWords;
pub use wait::{Bell, Readable, StopSignal, Woken, wait_for, wait_readable};

/// Nanoseconds on `CLOCK_BOOTTIME`.
pub(super) fn boottime_nanos() -> u64 {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: `time` is a valid timespec that outlives the call.
    unsafe { libc::clock_gettime(libc::CLOCK_BOOTTIME, &raw mut time) };
    time.tv_sec.cast_unsigned() * 1_000_000_000 + time.tv_nsec.cast_unsigned()
}

/// Makes a UDP socket for IPv4 or IPv6.
pub(super) fn udp_socket(v6: bool) -> io::Result<OwnedFd> {
    let family = if v6 { libc::AF_INET6 } else { libc::AF_INET };
    // SAFETY: no pointers are passed.
    let fd = check(unsafe { libc::socket(family, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0) })?;
    // SAFETY: the kernel just gave us this descriptor, nobody else has it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Binds a socket.
pub(super) fn bind(socket: BorrowedFd<'_>, to: std::net::SocketAddr) -> io::Result<()> {
    let (address, len) = address::encode(to, to.is_ipv6());
    // SAFETY: `address` is initialised storage of which `len` bytes are a socket address.
    check(unsafe { libc::bind(socket.as_raw_fd(), (&raw const address).cast(), len) }).map(drop)
}

/// Attaches a TUN device file to the interface called `name`, creating it.
pub(super) fn tun_set_interface(file: &File, name: &str, flags: libc::c_int) -> io::Result<()> {
    let mut request = interface::request(name)?;
    request.ifr_ifru.ifru_flags = flags as libc::c_short;
    // SAFETY: TUNSETIFF reads and writes one ifreq, which `request` is.
    unsafe { interface::ask(file, libc::TUNSETIFF, &mut request) }
}

/// The name of the interface that a TUN device file is attached to.
pub(super) fn tun_interface(file: &File) -> io::Result<String> {
    let mut request = interface::request("")?;
    // SAFETY: TUNGETIFF writes one ifreq, which `request` is.
    unsafe { interface::ask(file, libc::TUNGETIFF, &mut request)? };
    Ok(interface::named_in(&request))
}

/// The network namespace of the interface that a TUN device file is attached to.
pub(super) fn tun_namespace(file: &File) -> io::Result<OwnedFd> {
    /// `_IO('T', 227)` of `linux/if_tun.h`.
    const TUNGETDEVNETNS: libc::Ioctl = 0x54e3;
    // SAFETY: the call takes no argument.
    let fd = check(unsafe { libc::ioctl(file.as_raw_fd(), TUNGETDEVNETNS) })?;
    // SAFETY: the kernel just gave us this descriptor, nobody else has it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Says which pieces of streams a TUN may hand over uncut (`TUN_F_…`).
pub(super) fn tun_set_offload(file: &File, offloads: libc::c_uint) -> io::Result<()> {
    let offloads = libc::c_ulong::from(offloads);
    // SAFETY: TUNSETOFFLOAD takes its argument by value.
    check(unsafe { libc::ioctl(file.as_raw_fd(), libc::TUNSETOFFLOAD, offloads) }).map(drop)
}

/// Has an eBPF program choose the queue of each packet that an interface sends.
pub(super) fn tun_set_steering(file: &File, program: BorrowedFd<'_>) -> io::Result<()> {
    /// `_IOR('T', 224, int)` of `linux/if_tun.h`.
    const TUNSETSTEERINGEBPF: libc::Ioctl = 0x8004_54e0_u32 as libc::Ioctl;
    let program = program.as_raw_fd();
    // SAFETY: the kernel reads one int, which `program` is.
    let set = unsafe { libc::ioctl(file.as_raw_fd(), TUNSETSTEERINGEBPF, &raw const program) };
    check(set).map(drop)
}
