//! Which frames go to an AF_XDP socket, past the network stack.
//!
//! Only transport messages: one in a frame, whole, to an index that we gave out, as the
//! shield has just found it to be. All else goes to the kernel or the controller.
//! Without a socket for the queue, or with a frame larger than the socket's, it passes.

use aya_ebpf::bindings::xdp_action::XDP_PASS;
use aya_ebpf::programs::XdpContext;

use crate::maps;
use crate::parse::frame_len;

/// Hands a transport message to the socket of its queue, or passes it.
#[inline(always)]
pub fn transport(frame: &XdpContext) -> u32 {
    // SAFETY: the kernel hands the program a valid context for as long as it runs.
    let (interface, queue) = unsafe { ((*frame.ctx).ingress_ifindex, (*frame.ctx).rx_queue_index) };
    let Some(sockets) = maps::xsk_sockets(interface) else {
        return XDP_PASS;
    };
    if queue >= sockets.queues || frame_len(frame) > sockets.room as usize {
        return XDP_PASS;
    }
    // What isn't in the map is passed: the kernel answers with these flags.
    match maps::XSKS.redirect(sockets.first + queue, u64::from(XDP_PASS)) {
        Ok(action) | Err(action) => action,
    }
}
