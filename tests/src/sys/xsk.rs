//! An AF_XDP socket that is never used: only to see whether a driver does zero copy.

use std::io;
use std::os::fd::AsRawFd;

use super::{check, set_option, socket};

const FRAME: usize = 4096;
const FRAMES: u32 = 64;

/// Binds a socket with zero copy to a queue of an interface, as the kernel would for anybody,
/// and closes it. The error is the driver's, or `EBUSY` when the queue is taken.
pub fn try_zero_copy(interface: u32, queue: u32) -> io::Result<()> {
    let socket = socket(libc::AF_XDP, libc::SOCK_RAW, 0)?;
    let memory = Memory::new(FRAMES as usize * FRAME)?;
    let umem = libc::xdp_umem_reg {
        addr: memory.start as u64,
        len: memory.len as u64,
        chunk_size: FRAME as u32,
        headroom: 0,
        flags: 0,
        tx_metadata_len: 0,
    };
    set_option(&socket, libc::SOL_XDP, libc::XDP_UMEM_REG, &umem)?;
    for ring in [
        libc::XDP_UMEM_FILL_RING,
        libc::XDP_UMEM_COMPLETION_RING,
        libc::XDP_RX_RING,
        libc::XDP_TX_RING,
    ] {
        set_option(&socket, libc::SOL_XDP, ring, &FRAMES)?;
    }
    let address = libc::sockaddr_xdp {
        sxdp_family: libc::AF_XDP as u16,
        sxdp_flags: libc::XDP_ZEROCOPY | libc::XDP_USE_NEED_WAKEUP,
        sxdp_ifindex: interface,
        sxdp_queue_id: queue,
        sxdp_shared_umem_fd: 0,
    };
    let length = size_of_val(&address) as libc::socklen_t;
    // SAFETY: `address` is of exactly `length` bytes and outlives the call, which only reads
    // it.
    check(unsafe { libc::bind(socket.as_raw_fd(), (&raw const address).cast(), length) })?;
    // Before the memory.
    drop(socket);
    Ok(())
}

/// Mapped memory.
struct Memory {
    start: *mut libc::c_void,
    len: usize,
}

impl Memory {
    fn new(len: usize) -> io::Result<Self> {
        // SAFETY: without an address no mapping that is in use is touched.
        let start = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                len,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
                -1,
                0,
            )
        };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        Ok(Self { start, len })
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        // SAFETY: this is what was mapped, and nothing refers to it.
        unsafe { libc::munmap(self.start, self.len) };
    }
}
