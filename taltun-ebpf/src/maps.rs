//! The maps between user space and the programs.
//!
//! They are declared in BTF style, which aya and bpftool both load. User space
//! finds them by name.

use aya_ebpf::btf_maps::lpm_trie::Key;
use aya_ebpf::btf_maps::{
    Array, HashMap, LpmTrie, LruHashMap, LruPerCpuHashMap, PerCpuArray, XskMap,
};
use aya_ebpf::macros::btf_map;

use taltun_common::address::{Address, is_v4_mapped};
use taltun_common::blake2s::{Block, State};
use taltun_common::budget::BUDGETS;
use taltun_common::drops::{DROP_REASONS, DropReason};
use taltun_common::hints::{HINT_WORDS, Hint};
use taltun_common::maps::{
    Hopper, Load, MAX_BUCKETS, MAX_DENIED, MAX_ENDPOINTS, MAX_HOPPERS, MAX_INDICES, MAX_INVITED,
    MAX_LOCAL_ADDRESSES, MAX_ROUTES, MAX_SOURCES, MAX_XSK_INTERFACES, MAX_XSKS, Settings,
    SourceCounters, XskSockets, family, route,
};

use crate::atomic;

/// Takes memory for entries as they come.
const BPF_F_NO_PREALLOC: usize = 1;

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

/// Which index of ours belongs to a peer's in one session.
#[btf_map]
static SESSIONS: HashMap<u32, u32, MAX_INDICES, BPF_F_NO_PREALLOC> = HashMap::new();

/// The state of mac1 after its key.
#[btf_map]
static MAC1: Array<State, 1> = Array::new();

/// This CPU's scratch space for MACs.
#[btf_map]
static MAC_SCRATCH: PerCpuArray<MacScratch, 1> = PerCpuArray::new();

/// Whether user space is under load, and the secret of its cookies.
#[btf_map]
static LOAD: Array<Load, 1> = Array::new();

/// When the token bucket of a source of initiations is full again.
#[btf_map]
pub static BUCKETS: LruHashMap<Address, u64, MAX_BUCKETS> = LruHashMap::new();

/// The same for initiations with a good cookie, whose source isn't forged.
#[btf_map]
pub static PROVEN_BUCKETS: LruHashMap<Address, u64, MAX_BUCKETS> = LruHashMap::new();

/// The same for cookie replies to sources whose bucket is empty.
#[btf_map]
pub static ASKED_BUCKETS: LruHashMap<Address, u64, MAX_BUCKETS> = LruHashMap::new();

/// When each of this CPU's budgets is full again.
#[btf_map]
static BUDGET: PerCpuArray<u64, BUDGETS> = PerCpuArray::new();

/// When the budget of cookie replies is full again.
#[btf_map]
static REPLIES: Array<u64, 1> = Array::new();

/// Where peers were last heard.
#[btf_map]
static ENDPOINTS: HashMap<Address, u8, MAX_ENDPOINTS, BPF_F_NO_PREALLOC> = HashMap::new();

/// Bits that say which addresses may be in it.
#[btf_map]
static ENDPOINT_HINTS: Array<u64, HINT_WORDS> = Array::new();

/// Sources that were given a cookie lately.
#[btf_map]
static INVITED: LruHashMap<Address, u8, MAX_INVITED> = LruHashMap::new();

/// The inner addresses that belong to a peer, each with what rules say of it: see [`route`].
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

/// Counters for all sources without an entry: outside and inside.
#[btf_map]
static OTHER_SOURCES: PerCpuArray<SourceCounters, 2> = PerCpuArray::new();

/// When this CPU last let a packet without a peer pass.
#[btf_map]
pub static NO_PEER_PASSED: PerCpuArray<u64, 1> = PerCpuArray::new();

/// Where each interface's sockets are. An interface without an entry has none.
#[btf_map]
static XSK_INTERFACES: HashMap<u32, XskSockets, MAX_XSK_INTERFACES> = HashMap::new();

/// The sockets, one a queue of an interface.
#[btf_map]
pub static XSKS: XskMap<MAX_XSKS> = XskMap::new();

/// Which of our ports each session, and each peer's socket, sent to last.
#[btf_map]
pub static HOPPERS: LruHashMap<Hopper, u16, MAX_HOPPERS> = LruHashMap::new();

/// Where each one's last initiation came to. Apart, as others may send some in its name.
#[btf_map]
pub static INITIATORS: LruHashMap<Hopper, u16, MAX_HOPPERS> = LruHashMap::new();

/// Where each one's last probe came to; 0 once it was answered.
#[btf_map]
pub static PROBERS: LruHashMap<Hopper, u16, MAX_HOPPERS> = LruHashMap::new();

/// The datagram to a port of the range that this CPU last looked up.
#[btf_map]
static LAST_HOP: PerCpuArray<LastHop, 1> = PerCpuArray::new();

/// How often [`HOPPERS`] was changed by any CPU.
#[btf_map]
static HOPS: Array<u64, 1> = Array::new();

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

/// Scratch space for a hash: in a map, because the stack has no room left.
pub struct MacScratch {
    /// The hash so far.
    pub state: State,
    /// What goes into it next.
    pub block: Block,
}

/// Scratch space for a MAC.
#[inline(always)]
pub fn mac_scratch() -> Option<&'static mut MacScratch> {
    // SAFETY: an array's entries are never freed, and this one belongs to the CPU we run on,
    // where no other XDP program interrupts us; none of ours holds it twice. Any integers
    // are a valid value.
    MAC_SCRATCH.get_ptr_mut(0).map(|work| unsafe { &mut *work })
}

/// A session that sends to a port of ours, of which everything is remembered already.
#[repr(C, align(8))]
pub struct LastHop {
    /// The peer's address.
    pub remote: Address,
    /// Our address.
    pub local: Address,
    /// The receiver index that we gave out.
    pub index: u32,
    /// The peer's port.
    pub port: u16,
    /// Our port.
    pub used: u16,
    /// How often [`HOPPERS`] was changed until then.
    pub hops: u64,
    /// When that was, in the kernel's ticks.
    pub at: u64,
}

/// How often [`HOPPERS`] was changed so far.
#[inline(always)]
pub fn hops() -> u64 {
    // SAFETY: an array's entries are never freed; eight bytes are read at once.
    HOPS.get_ptr(0)
        .map_or(0, |hops| unsafe { hops.read_volatile() })
}

/// Counts that [`HOPPERS`] was changed. After the change, so that who sees the number sees it.
#[inline(always)]
pub fn count_hop() {
    if let Some(hops) = HOPS.get_ptr_mut(0) {
        // SAFETY: an array's entries are never freed and lie at multiples of eight bytes; nothing
        // else changes this one.
        unsafe { atomic::add(hops, 1) };
    }
}

/// This CPU's last datagram to a port of the range.
#[inline(always)]
pub fn last_hop() -> Option<&'static mut LastHop> {
    // SAFETY: as in `mac_scratch`.
    LAST_HOP.get_ptr_mut(0).map(|last| unsafe { &mut *last })
}

/// What handshakes must prove at `now`; `None` unless user space is under load.
#[inline(always)]
pub fn load(now: u64) -> Option<&'static Load> {
    LOAD.get(0).filter(|load| now < load.until)
}

/// The secret of cookies, with the load that it goes with or without.
#[inline(always)]
pub fn cookies() -> Option<&'static Load> {
    LOAD.get(0)
}

/// This CPU's bucket for a budget.
#[inline(always)]
pub fn budget(place: u32) -> Option<*mut u64> {
    BUDGET.get_ptr_mut(place)
}

/// The bucket of cookie replies, of all CPUs.
#[inline(always)]
pub fn replies() -> Option<*mut u64> {
    REPLIES.get_ptr_mut(0)
}

/// Whether a peer was last heard at this address. A function of its own, to keep the key
/// off the caller's stack; so is the next.
#[inline(never)]
pub fn is_endpoint(source: &Address) -> bool {
    let hint = Hint::of(source);
    let may_be = ENDPOINT_HINTS
        .get(hint.word)
        .is_some_and(|word| word & hint.bit != 0);
    may_be && ENDPOINTS.get_ptr(source).is_some()
}

/// Whether this source was given a cookie lately.
#[inline(never)]
pub fn is_invited(source: &Address) -> bool {
    INVITED.get_ptr(source).is_some()
}

/// This CPU's counters for sources without an entry.
#[inline(always)]
pub fn other_sources(place: u32) -> Option<*mut SourceCounters> {
    OTHER_SOURCES.get_ptr_mut(place)
}

/// Whether this source is on the deny list. A function of its own, to keep the key off the
/// caller's stack.
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

/// What is said of the peers' network that this inner address is in.
#[inline(always)]
pub fn route(address: &Address) -> Option<u8> {
    narrowest(&ROUTES, address)
}

/// Whether a prefix in the list covers this address and is of its family.
#[inline(always)]
fn covers<const N: usize>(list: &LpmTrie<Address, u8, N>, address: &Address) -> bool {
    narrowest(list, address).is_some()
}

/// The value of the narrowest prefix that covers this address, if it is of its family.
#[inline(always)]
fn narrowest<const N: usize>(list: &LpmTrie<Address, u8, N>, address: &Address) -> Option<u8> {
    let family = if is_v4_mapped(address) {
        family::V4
    } else {
        family::V6
    };
    let value = *list.get(&Key::new(ADDRESS_BITS, *address))?;
    (value & route::FAMILY == family).then_some(value)
}

/// Whether we gave out this receiver index.
#[inline(always)]
pub fn is_our_index(index: u32) -> bool {
    INDICES.get_ptr(index).is_some()
}

/// Our receiver index of the session in which this one is the peer's.
#[inline(always)]
pub fn our_index(peers: u32) -> Option<u32> {
    // SAFETY: four bytes are read at once. Should the entry have gone to another session
    // meanwhile, one packet leaves from a wrong port.
    SESSIONS.get_ptr(peers).map(|ours| unsafe { *ours })
}

/// The AF_XDP sockets of an interface, if it has any.
#[inline(always)]
pub fn xsk_sockets(interface: u32) -> Option<&'static XskSockets> {
    // SAFETY: user space alone changes entries, and the kernel puts a new one in an old
    // one's place; that one's memory is used again for another entry of this map at most.
    XSK_INTERFACES
        .get_ptr(interface)
        .map(|sockets| unsafe { &*sockets })
}

/// Counts this many dropped packets.
#[inline(always)]
pub fn count_drops(reason: DropReason, packets: u64) {
    if let Some(count) = DROPS.get_ptr_mut(reason as u32) {
        // SAFETY: an array's entries are never freed, and this one belongs to the CPU we
        // run on, where no other of our programs interrupts us.
        unsafe { *count = (*count).wrapping_add(packets) };
    }
}
