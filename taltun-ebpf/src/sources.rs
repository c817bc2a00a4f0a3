//! Who sends to us, and how much: counters a source, one set a CPU.

use aya_ebpf::bindings::BPF_ANY;
use aya_ebpf::programs::XdpContext;

use taltun_common::address::Address;
use taltun_common::maps::SourceCounters;

use crate::maps::SOURCES;
use crate::parse::frame_len;

/// Counts a frame of this source.
#[inline(always)]
pub fn count(source: &Address, frame: &XdpContext, dropped: bool) {
    let bytes = frame_len(frame) as u64;
    let drops = u64::from(dropped);
    if let Some(counters) = SOURCES.get_ptr_mut(source) {
        // SAFETY: the map's memory lives as long as the program, and this CPU's part of it
        // is written by nobody else. Another CPU may give the entry to a new source while
        // we write: then one frame is counted for the wrong source, and nothing worse.
        unsafe {
            (*counters).packets = (*counters).packets.wrapping_add(1);
            (*counters).bytes = (*counters).bytes.wrapping_add(bytes);
            (*counters).drops = (*counters).drops.wrapping_add(drops);
        }
        return;
    }
    let first = SourceCounters {
        packets: 1,
        bytes,
        drops,
    };
    // A source that can't be counted isn't worth a good packet: the outcome is the same.
    let _ = SOURCES.insert(source, first, u64::from(BPF_ANY));
}
