//! XDP programs of two instructions: one verdict for every packet.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use super::check;

/// What becomes of every packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It is thrown away.
    Drop,
    /// It goes on.
    Pass,
}

/// Where a program is attached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Attach {
    /// In the driver, before there is a packet buffer.
    Driver,
    /// In the network stack, behind it.
    Generic,
}

/// Loads an XDP program that does the same with every packet. It lives as long as the
/// descriptor, or a link made of it by [`attach_xdp`], is open.
pub fn load_xdp(verdict: Verdict) -> io::Result<OwnedFd> {
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
    let action = match verdict {
        Verdict::Drop => 1, // XDP_DROP
        Verdict::Pass => 2, // XDP_PASS
    };
    let instruction = |code, immediate| Instruction {
        code,
        registers: 0,
        offset: 0,
        immediate,
    };
    let instructions = [instruction(MOVE, action), instruction(EXIT, 0)];
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
/// namespace; it is detached when the descriptor is closed.
pub fn attach_xdp(program: &OwnedFd, interface: u32, attach: Attach) -> io::Result<OwnedFd> {
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
    let create = Create {
        program: program.as_raw_fd(),
        interface,
        attach_type: BPF_XDP,
        flags: match attach {
            Attach::Driver => 1 << 2,  // XDP_FLAGS_DRV_MODE
            Attach::Generic => 1 << 1, // XDP_FLAGS_SKB_MODE
        },
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
