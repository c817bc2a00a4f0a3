//! Which of the sockets that share our port a datagram goes to: that of the worker which the
//! receiver index names. What has no index of ours goes where the kernel's hash of its
//! addresses and ports sends it.

use aya_ebpf::btf_maps::ReusePortSockArray;
use aya_ebpf::helpers::bpf_skb_load_bytes;
use aya_ebpf::macros::btf_map;
use aya_ebpf::programs::SkReuseportContext;

use taltun_common::headers::UDP_LEN;
use taltun_common::steering::{MAX_WORKERS, worker_of};
use taltun_common::wire::MessageKind;

use crate::maps;

/// The workers' sockets.
#[btf_map]
static SOCKETS: ReusePortSockArray<MAX_WORKERS> = ReusePortSockArray::new();

/// Chooses a socket, or leaves it to the kernel.
#[inline(always)]
pub fn steer(datagram: &SkReuseportContext) {
    if let Some(worker) = worker(datagram) {
        // Where there is no such socket, the hash decides.
        let _ = SOCKETS.select_reuseport(datagram, worker);
    }
}

/// The worker that the datagram's receiver index names.
#[inline(always)]
fn worker(datagram: &SkReuseportContext) -> Option<u32> {
    let workers = u32::from(maps::settings()?.workers);
    let kind = MessageKind::of(word(datagram, 0)?)?;
    let index = word(datagram, kind.receiver_offset()? as u32)?;
    if workers < 2 {
        return None;
    }
    worker_of(index, workers)
}

/// The little-endian word `offset` bytes into the UDP payload.
#[inline(always)]
fn word(datagram: &SkReuseportContext, offset: u32) -> Option<u32> {
    let mut bytes = [0_u8; 4];
    // SAFETY: the helper writes four bytes to `bytes`; the context is valid for as long as
    // the program runs.
    let result = unsafe {
        bpf_skb_load_bytes(
            datagram.md.cast(),
            // The data starts with the UDP header.
            UDP_LEN as u32 + offset,
            bytes.as_mut_ptr().cast(),
            bytes.len() as u32,
        )
    };
    (result == 0).then_some(u32::from_le_bytes(bytes))
}
