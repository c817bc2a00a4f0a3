//! The few system calls that the standard library has no safe function for. All the
//! `unsafe` of the toolkit is here.

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

/// Loads an XDP program that passes every packet. It lives as long as the descriptor, or a
/// link made of it by [`attach_xdp_in_driver`], is open.
pub fn load_xdp_pass() -> io::Result<OwnedFd> {
    /// `struct bpf_insn`.
    #[repr(C)]
    struct Instruction {
        code: u8,
        registers: u8,
        offset: i16,
        immediate: i32,
    }
    /// The beginning of what `BPF_PROG_LOAD` takes; the kernel reads the rest as zeroes.
    #[repr(C)]
    struct Load {
        program_type: u32,
        instruction_count: u32,
        instructions: u64,
        license: u64,
    }
    const BPF_PROG_LOAD: libc::c_long = 5;
    const BPF_PROG_TYPE_XDP: u32 = 6;
    const MOVE: u8 = 0xb7;
    const EXIT: u8 = 0x95;
    const XDP_PASS: i32 = 2;
    let instruction = |code, immediate| Instruction {
        code,
        registers: 0,
        offset: 0,
        immediate,
    };
    let instructions = [instruction(MOVE, XDP_PASS), instruction(EXIT, 0)];
    let license = c"MIT";
    let load = Load {
        program_type: BPF_PROG_TYPE_XDP,
        instruction_count: instructions.len() as u32,
        instructions: instructions.as_ptr() as u64,
        license: license.as_ptr() as u64,
    };
    // SAFETY: `load` is laid out as the kernel's union begins, and what it points to outlives
    // the call, which only reads it.
    unsafe { bpf(BPF_PROG_LOAD, &load) }
}

/// Attaches an XDP program to the interface with this index in the calling thread's network
/// namespace, in driver mode; it is detached when the descriptor is closed.
pub fn attach_xdp_in_driver(program: &OwnedFd, interface: u32) -> io::Result<OwnedFd> {
    /// The beginning of what `BPF_LINK_CREATE` takes.
    #[repr(C)]
    struct Create {
        program: i32,
        interface: u32,
        attach_type: u32,
        flags: u32,
    }
    const BPF_LINK_CREATE: libc::c_long = 28;
    const BPF_XDP: u32 = 37;
    const XDP_FLAGS_DRV_MODE: u32 = 1 << 2;
    let create = Create {
        program: program.as_raw_fd(),
        interface,
        attach_type: BPF_XDP,
        flags: XDP_FLAGS_DRV_MODE,
    };
    // SAFETY: `create` is laid out as the kernel's union begins and has no pointers.
    unsafe { bpf(BPF_LINK_CREATE, &create) }
}

/// The system call `bpf`, for commands that make a descriptor.
///
/// # Safety
///
/// `attributes` has to be laid out as `command` has it, without padding, and what it points
/// to has to be valid.
unsafe fn bpf<T>(command: libc::c_long, attributes: &T) -> io::Result<OwnedFd> {
    // SAFETY: the kernel reads `size_of::<T>()` bytes of `attributes`, which is what there
    // is; the rest is the caller's promise.
    let result = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            command,
            std::ptr::from_ref(attributes),
            size_of::<T>(),
        )
    };
    let fd = check(result as libc::c_int)?;
    // SAFETY: the kernel just gave us this descriptor, so nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// What to send to a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signal {
    /// Ctrl-C.
    Interrupt,
    /// Please stop.
    Terminate,
    /// Stop, unasked.
    Kill,
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
        Signal::Kill => libc::SIGKILL,
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

fn check(result: libc::c_int) -> io::Result<libc::c_int> {
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(result)
}
