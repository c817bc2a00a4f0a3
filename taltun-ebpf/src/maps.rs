//! The maps: what user space tells the programs and what they tell it.
//!
//! They are declared in BTF style, which aya and bpftool both load. Their names are what
//! user space finds them by.

use aya_ebpf::btf_maps::lpm_trie::Key;
use aya_ebpf::btf_maps::{Array, HashMap, LpmTrie, LruPerCpuHashMap, PerCpuArray};
use aya_ebpf::macros::btf_map;

use taltun_common::address::{Address, is_v4_mapped};
use taltun_common::drops::{DROP_REASONS, DropReason};
use taltun_common::maps::{
    MAX_DENIED, MAX_INDICES, MAX_LOCAL_ADDRESSES, MAX_SOURCES, Settings, SourceCounters, denied,
};

/// The whole of an address, as a prefix.
const ADDRESS_BITS: u32 = 128;

#[btf_map]
static SETTINGS: Array<Settings, 1> = Array::new();

/// Our own addresses: a router forwards datagrams that go to our port elsewhere.
#[btf_map]
static LOCAL_ADDRESSES: HashMap<Address, u8, MAX_LOCAL_ADDRESSES> = HashMap::new();

#[btf_map]
static DENIED: LpmTrie<Address, u8, MAX_DENIED> = LpmTrie::new();

#[btf_map]
static INDICES: HashMap<u32, u8, MAX_INDICES> = HashMap::new();

#[btf_map]
pub static SOURCES: LruPerCpuHashMap<Address, SourceCounters, MAX_SOURCES> =
    LruPerCpuHashMap::new();

#[btf_map]
static DROPS: PerCpuArray<u64, DROP_REASONS> = PerCpuArray::new();

/// What user space asks for; `None` before it has asked for anything.
#[inline(always)]
pub fn settings() -> Option<&'static Settings> {
    SETTINGS.get(0).filter(|settings| settings.listen_port != 0)
}

/// Whether this address is one of this machine's that user space listens on.
#[inline(always)]
pub fn is_local(address: &Address) -> bool {
    LOCAL_ADDRESSES.get_ptr(address).is_some()
}

/// Whether this source is on the deny list.
#[inline(always)]
pub fn is_denied(source: &Address) -> bool {
    let family = if is_v4_mapped(source) {
        denied::V4
    } else {
        denied::V6
    };
    DENIED
        .get(&Key::new(ADDRESS_BITS, *source))
        .is_some_and(|meant| *meant == family)
}

/// Whether we gave out this receiver index.
#[inline(always)]
pub fn is_our_index(index: u32) -> bool {
    INDICES.get_ptr(index).is_some()
}

/// Counts a dropped frame.
#[inline(always)]
pub fn count_drop(reason: DropReason) {
    if let Some(count) = DROPS.get_ptr_mut(reason as u32) {
        // SAFETY: an array's entries are never freed, and this one belongs to the CPU we
        // run on, where no other XDP program interrupts us.
        unsafe { *count = (*count).wrapping_add(1) };
    }
}
