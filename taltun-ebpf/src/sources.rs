//! Who sends, and how much: counters a source, one set a CPU.

use aya_ebpf::bindings::BPF_ANY;
use aya_ebpf::btf_maps::LruPerCpuHashMap;

use taltun_common::address::Address;
use taltun_common::maps::{MAX_SOURCES, SourceCounters};

/// Counts packets of this source. A function of its own, to keep keys and counters off the
/// stack of whoever asks.
#[inline(never)]
pub fn add(
    sources: &LruPerCpuHashMap<Address, SourceCounters, MAX_SOURCES>,
    source: &Address,
    packets: u64,
    bytes: u64,
    drops: u64,
) {
    if let Some(counters) = sources.get_ptr_mut(source) {
        // SAFETY: the map's memory lives as long as the program, and this CPU's part of it
        // is written by nobody else. Another CPU may give the entry to a new source while
        // we write: then these packets are counted for the wrong one, and nothing worse.
        unsafe {
            (*counters).packets = (*counters).packets.wrapping_add(packets);
            (*counters).bytes = (*counters).bytes.wrapping_add(bytes);
            (*counters).drops = (*counters).drops.wrapping_add(drops);
        }
        return;
    }
    let first = SourceCounters {
        packets,
        bytes,
        drops,
    };
    // A source that can't be counted isn't worth a good packet: the outcome is the same.
    let _ = sources.insert(source, first, u64::from(BPF_ANY));
}
