//! The TC programs on the tunnel interface. A filter that outlives its process goes with that
//! interface.

use aya::Ebpf;
use aya::programs::TcAttachType;

use super::tc::{self, Filter, Hooked};
use crate::report::{TcAttachment, TcStatus};

/// The programs, and which way of the packets each judges.
const PROGRAMS: [Hooked; 2] = [
    // What the kernel sends out of the interface goes into the tunnel.
    ("taltun_tun_out", TcAttachType::Egress),
    ("taltun_tun_in", TcAttachType::Ingress),
];

/// Loads and attaches both, or says why not.
pub(super) fn attach(ebpf: &mut Ebpf, tun_name: &str) -> (TcStatus, Option<Filter>) {
    let attached = tc::load(ebpf, &PROGRAMS).and_then(|()| tc::attach(ebpf, tun_name, &PROGRAMS));
    match attached {
        Ok((mode, reason, filter)) => (TcStatus { mode, reason }, Some(filter)),
        Err(reason) => (off(reason), None),
    }
}

/// What to say where no program is attached.
pub(super) fn off(reason: impl Into<String>) -> TcStatus {
    TcStatus {
        mode: TcAttachment::Off,
        reason: reason.into(),
    }
}
