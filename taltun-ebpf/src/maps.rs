//! The maps: what user space tells the programs and what they tell it.
//!
//! They are declared in BTF style, which aya and bpftool both load. Their names are what
//! user space finds them by.

use aya_ebpf::btf_maps::lpm_trie::Key;
use aya_ebpf::btf_maps::{Array, HashMap, LpmTrie, LruHashMap, LruPerCpuHashMap, PerCpuArray};
use aya_ebpf::macros::btf_map;

use taltun_common::address::{Address, is_v4_mapped};
use taltun_common::blake2s::State;
use taltun_common::drops::{DROP_REASONS, DropReason};
use taltun_common::maps::{
    MAX_BUCKETS, MAX_DENIED, MAX_INDICES, MAX_LOCAL_ADDRESSES, MAX_ROUTES, MAX_SOURCES, Settings,
    SourceCounters, family,
};

use crate::mac1::Work;

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

/// The state of mac1 after its key.
#[btf_map]
static MAC1: Array<State, 1> = Array::new();

/// Where this CPU works mac1 out.
#[btf_map]
static MAC1_WORK: PerCpuArray<Work, 1> = PerCpuArray::new();

/// When the token bucket of a source of initiations is full again.
#[btf_map]
pub static BUCKETS: LruHashMap<Address, u64, MAX_BUCKETS> = LruHashMap::new();

/// The inner addresses that belong to a peer.
#[btf_map]
static ROUTES: LpmTrie<Address, u8, MAX_ROUTES> = LpmTrie::new();

#[btf_map]
static DENIED_INNER: LpmTrie<Address, u8, MAX_DENIED> = LpmTrie::new();

#[btf_map]
pub static SOURCES: LruPerCpuHashMap<Address, SourceCounters, MAX_SOURCES> =
    LruPerCpuHashMap::new();

#[btf_map]
pub static SOURCES_INNER: LruPerCpuHashMap<Address, SourceCounters, MAX_SOURCES> =
    LruPerCpuHashMap::new();

/// When this CPU last let a packet for nobody through.
#[btf_map]
pub static NO_PEER_PASSED: PerCpuArray<u64, 1> = PerCpuArray::new();

#[btf_map]
static DROPS: PerCpuArray<u64, DROP_REASONS> = PerCpuArray::new();

/// What user space asks for; `None` before it has asked for anything.
#[inline(always)]
pub fn settings() -> Option<&'static Settings> {
    SETTINGS.get(0).filter(|settings| settings.listen_port != 0)
}

/// Whether this address is one of this machine's that user space listens on.
#[inline(never)]
pub fn is_local(address: &Address) -> bool {
    LOCAL_ADDRESSES.get_ptr(address).is_some()
}

/// The state of mac1 after its key; `None` if user space hasn't given it.
#[inline(always)]
pub fn mac1_state(settings: &Settings) -> Option<&'static State> {
    MAC1.get(0).filter(|_| settings.check_mac1 != 0)
}

/// Where to work mac1 out.
#[inline(always)]
pub fn mac1_work() -> Option<&'static mut Work> {
    // SAFETY: an array's entries are never freed, and this one belongs to the CPU we run on,
    // where no other XDP program interrupts us; none of ours holds it twice. Any integers
    // are a valid value.
    MAC1_WORK.get_ptr_mut(0).map(|work| unsafe { &mut *work })
}

/// Whether this source is on the deny list. A function of its own, to keep the key off the
/// stack of whoever asks.
#[inline(never)]
pub fn is_denied(source: &Address) -> bool {
    covers(&DENIED, source)
}

/// Whether this inner source is on the deny list.
#[inline(always)]
pub fn is_denied_inner(source: &Address) -> bool {
    covers(&DENIED_INNER, source)
}

/// Whether this inner address belongs to a peer.
#[inline(always)]
pub fn has_peer(address: &Address) -> bool {
    covers(&ROUTES, address)
}

/// Whether a prefix in the list covers this address, and means it.
#[inline(always)]
fn covers<const N: usize>(list: &LpmTrie<Address, u8, N>, address: &Address) -> bool {
    let family = if is_v4_mapped(address) {
        family::V4
    } else {
        family::V6
    };
    list.get(&Key::new(ADDRESS_BITS, *address))
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
        // run on, where no other of our programs interrupts us.
        unsafe { *count = (*count).wrapping_add(1) };
    }
}
