//! In place of `tun_queue`, when Taltun is built without the `ebpf` feature.

use crate::dataplane::sparse::Chooser;
use crate::dataplane::tun::Tun;

/// Says that it isn't there.
pub fn attach(_: &Tun, _: u32) -> Result<Chooser, String> {
    Err("built without eBPF".into())
}
