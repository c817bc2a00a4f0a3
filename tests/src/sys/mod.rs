//! The few system calls that the standard library has no safe function for. All the
//! `unsafe` of the toolkit is here.

mod frames;
mod merged;
mod paused_thread;
mod tty;
mod xdp;
mod xsk;

pub use frames::FrameSender;
pub use merged::{
    MOST_BYTES, MOST_SEGMENTS, enlarge_buffers, merge_received, receive_merged, send_merged,
};
pub use paused_thread::PausedThread;
pub use tty::{
    Input, is_cooked, lead_session, open_pty, resize_pty, take_terminal_back, wait_for_input,
};
pub use xdp::{Attach, Verdict, attach_xdp, load_xdp};
pub use xsk::try_zero_copy;

use std::ffi::CString;
use std::fs::File;
use std::io;
use std::net::IpAddr;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::sync::atomic::{AtomicI32, Ordering};

/// Moves the calling thread into the network namespace that `namespace` is open on.
pub fn enter_network_namespace(namespace: &File) -> io::Result<()> {
    // SAFETY: setns takes a descriptor, which `namespace` keeps open, and touches no memory.
    check(unsafe { libc::setns(namespace.as_raw_fd(), libc::CLONE_NEWNET) })?;
    Ok(())
}

/// Whether the running kernel has IPv6; with `ipv6.disable=1` on its command line it has none.
pub fn kernel_has_ipv6() -> bool {
    std::path::Path::new("/proc/sys/net/ipv6").is_dir()
}

/// From now on the calling thread, and what it starts, gets no IPv6 socket, as if the kernel had
/// none. Takes root.
pub fn refuse_ipv6_sockets() -> io::Result<()> {
    let insn = |code: u32, jt: u8, jf: u8, k: u32| libc::sock_filter {
        code: code as u16,
        jt,
        jf,
        k,
    };
    let load = libc::BPF_LD | libc::BPF_W | libc::BPF_ABS;
    let equal = libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K;
    let end = libc::BPF_RET | libc::BPF_K;
    // The low half of the first argument; the number of the call comes first of all.
    let domain = std::mem::offset_of!(libc::seccomp_data, args) as u32
        + if cfg!(target_endian = "big") { 4 } else { 0 };
    let refused = libc::SECCOMP_RET_ERRNO | libc::EAFNOSUPPORT as u32;
    let mut filter = [
        insn(load, 0, 0, 0),
        insn(equal, 0, 3, libc::SYS_socket as u32),
        insn(load, 0, 0, domain),
        insn(equal, 0, 1, libc::AF_INET6 as u32),
        insn(end, 0, 0, refused),
        insn(end, 0, 0, libc::SECCOMP_RET_ALLOW),
    ];
    let program = libc::sock_fprog {
        len: filter.len() as u16,
        filter: filter.as_mut_ptr(),
    };
    // SAFETY: `program` and the instructions that it points to outlive the call, which copies them.
    check(unsafe {
        libc::prctl(
            libc::PR_SET_SECCOMP,
            libc::SECCOMP_MODE_FILTER,
            &raw const program,
        )
    })?;
    Ok(())
}

/// Opens a socket in the calling thread's network namespace.
pub fn socket(domain: i32, kind: i32, protocol: i32) -> io::Result<OwnedFd> {
    // SAFETY: socket takes plain numbers and touches no memory.
    let fd = check(unsafe { libc::socket(domain, kind | libc::SOCK_CLOEXEC, protocol) })?;
    // SAFETY: the kernel just gave us this descriptor, so nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Binds an `AF_PACKET` socket to the interface with this index; what is sent by it
/// is of that `protocol` (`ETH_P_IP` and the like).
pub fn bind_packet_socket(socket: &OwnedFd, interface: u32, protocol: u16) -> io::Result<()> {
    // SAFETY: sockaddr_ll is plain old data, for which all zeroes is a valid value.
    let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
    address.sll_family = libc::AF_PACKET as u16;
    address.sll_protocol = protocol.to_be();
    address.sll_ifindex = i32::try_from(interface).map_err(io::Error::other)?;
    let length = size_of::<libc::sockaddr_ll>() as libc::socklen_t;
    // SAFETY: `address` is a sockaddr_ll of exactly `length` bytes and outlives the call,
    // which only reads it.
    check(unsafe { libc::bind(socket.as_raw_fd(), (&raw const address).cast(), length) })?;
    Ok(())
}

/// Binds a socket that is already open to a local address, port 0.
pub fn bind_address(socket: &impl AsRawFd, address: IpAddr) -> io::Result<()> {
    // SAFETY: sockaddr_in and sockaddr_in6 are plain old data, for which all zeroes is a
    // valid value.
    let (mut v4, mut v6): (libc::sockaddr_in, libc::sockaddr_in6) = unsafe { std::mem::zeroed() };
    let (pointer, length): (*const libc::sockaddr, _) = match address {
        IpAddr::V4(address) => {
            v4.sin_family = libc::AF_INET as u16;
            v4.sin_addr.s_addr = u32::from_ne_bytes(address.octets());
            ((&raw const v4).cast(), size_of_val(&v4))
        }
        IpAddr::V6(address) => {
            v6.sin6_family = libc::AF_INET6 as u16;
            v6.sin6_addr.s6_addr = address.octets();
            ((&raw const v6).cast(), size_of_val(&v6))
        }
    };
    // SAFETY: `pointer` is to `v4` or `v6`, which both outlive the call, and `length` is the
    // size of that one; the call only reads it.
    check(unsafe { libc::bind(socket.as_raw_fd(), pointer, length as libc::socklen_t) })?;
    Ok(())
}

/// The index of the interface `name` in the calling thread's network namespace.
pub fn interface_index(name: &str) -> io::Result<u32> {
    let name = CString::new(name)?;
    // SAFETY: `name` is a NUL-terminated string that outlives the call.
    match unsafe { libc::if_nametoindex(name.as_ptr()) } {
        0 => Err(io::Error::last_os_error()),
        index => Ok(index),
    }
}

/// From now on the calling thread comes before all that isn't real time, as the interrupts of
/// a network card do. Whoever calls it has to sleep most of the time.
pub fn take_precedence() -> io::Result<()> {
    // SAFETY: sched_param is plain old data, for which all zeroes is a valid value.
    let mut parameters: libc::sched_param = unsafe { std::mem::zeroed() };
    parameters.sched_priority = 1;
    // SAFETY: the call reads `parameters`, which outlives it; 0 is the calling thread.
    check(unsafe { libc::sched_setscheduler(0, libc::SCHED_FIFO, &raw const parameters) })?;
    Ok(())
}

/// What to send to a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signal {
    /// Ctrl-C.
    Interrupt,
    /// Please stop.
    Terminate,
    /// The terminal is gone.
    HangUp,
    /// Stop, unasked.
    Kill,
    /// Stand still, unasked.
    Pause,
    /// Go on.
    Resume,
}

/// Sends `signal` to the process `pid`. Only for processes that we started, or that are in a
/// namespace of ours.
pub fn send_signal(pid: u32, signal: Signal) -> io::Result<()> {
    let pid = i32::try_from(pid).map_err(io::Error::other)?;
    // Zero and negative numbers mean whole groups of processes.
    if pid <= 0 {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let signal = match signal {
        Signal::Interrupt => libc::SIGINT,
        Signal::Terminate => libc::SIGTERM,
        Signal::HangUp => libc::SIGHUP,
        Signal::Kill => libc::SIGKILL,
        Signal::Pause => libc::SIGSTOP,
        Signal::Resume => libc::SIGCONT,
    };
    // SAFETY: kill takes plain numbers and touches no memory.
    check(unsafe { libc::kill(pid, signal) })?;
    Ok(())
}

/// Whether we are root.
pub fn is_root() -> bool {
    // SAFETY: geteuid has no arguments and can't fail.
    unsafe { libc::geteuid() == 0 }
}

/// The signal that last asked us to stop; zero for none. Static because a signal handler can
/// reach nothing else.
static STOP_SIGNAL: AtomicI32 = AtomicI32::new(0);

/// From now on SIGINT, SIGTERM and SIGHUP don't end this process but are remembered for
/// [`stop_requested`], so that it can clean up first.
pub fn remember_stop_signals() -> io::Result<()> {
    for signal in [libc::SIGINT, libc::SIGTERM, libc::SIGHUP] {
        // SAFETY: sigaction is plain old data, for which all zeroes is a valid value.
        let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
        action.sa_sigaction = remember_signal as *const () as libc::sighandler_t;
        action.sa_flags = libc::SA_RESTART;
        // SAFETY: `action` is initialised and outlives the call; its handler has the
        // signature that goes without SA_SIGINFO and only stores to an atomic, which is
        // allowed in a signal handler.
        check(unsafe { libc::sigaction(signal, &raw const action, std::ptr::null_mut()) })?;
    }
    Ok(())
}

/// Which of the signals of [`remember_stop_signals`] came, if any did.
pub fn stop_requested() -> Option<Signal> {
    match STOP_SIGNAL.load(Ordering::Relaxed) {
        0 => None,
        libc::SIGINT => Some(Signal::Interrupt),
        _ => Some(Signal::Terminate),
    }
}

extern "C" fn remember_signal(signal: libc::c_int) {
    STOP_SIGNAL.store(signal, Ordering::Relaxed);
}

/// Sets a socket option, whose value has the type that the kernel documents.
fn set_option<T: Copy>(
    socket: &impl AsRawFd,
    level: libc::c_int,
    option: libc::c_int,
    value: &T,
) -> io::Result<()> {
    // SAFETY: the pointer is to a value of the given length that outlives the call, which
    // only reads it.
    check(unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            level,
            option,
            std::ptr::from_ref(value).cast(),
            size_of::<T>() as libc::socklen_t,
        )
    })
    .map(drop)
}

/// How many routers what this socket sends may pass.
pub fn set_hops(socket: &impl AsRawFd, v6: bool, hops: u8) -> io::Result<()> {
    let (level, option) = if v6 {
        (libc::IPPROTO_IPV6, libc::IPV6_UNICAST_HOPS)
    } else {
        (libc::IPPROTO_IP, libc::IP_TTL)
    };
    set_option(socket, level, option, &libc::c_int::from(hops))
}

fn check(result: libc::c_int) -> io::Result<libc::c_int> {
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(result)
}
