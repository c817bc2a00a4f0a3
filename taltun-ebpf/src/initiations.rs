//! Initiations: the only messages a stranger may send, so the only ones that cost something
//! to judge.
//!
//! First the source's token bucket, which is a look into a map; then mac1, which proves that
//! the sender knows our public key; and a token is taken only if it does. So nobody drains
//! the bucket of an address that isn't theirs with bytes from nowhere, and whoever knows the
//! key and floods us isn't worth a hash.

use aya_ebpf::bindings::BPF_ANY;
use aya_ebpf::helpers::bpf_ktime_get_ns;
use aya_ebpf::programs::XdpContext;

use taltun_common::address::{Address, is_v4_mapped};
use taltun_common::bucket::Rate;
use taltun_common::drops::DropReason;
use taltun_common::maps::Settings;
use taltun_common::wire::INITIATION_LEN;

use crate::mac1;
use crate::maps::{self, BUCKETS};
use crate::parse::Datagram;

/// Merged initiations that are looked at. A flow that has more of them in one packet is a
/// flood; no peer sends a second one within seconds.
const MERGED_MOST: usize = 4;

/// What is wrong with this initiation.
#[inline(always)]
pub fn fault(frame: &XdpContext, datagram: &Datagram, settings: &Settings) -> Option<DropReason> {
    let (source, rate) = (&datagram.source, &settings.initiations);
    if !has_token(source, rate, Taking::Not) {
        return Some(DropReason::RateLimited);
    }
    if let Some(keyed) = maps::mac1_state(settings)
        && !mac1::initiation(frame, datagram, 0, keyed)?
    {
        return Some(DropReason::Mac1);
    }
    let taken = has_token(source, rate, Taking::One);
    (!taken).then_some(DropReason::RateLimited)
}

/// What is wrong with a packet that may be several initiations merged, and is `length` bytes
/// long: it falls if all of them are bad.
#[inline(always)]
pub fn fault_merged(
    frame: &XdpContext,
    datagram: &Datagram,
    settings: &Settings,
    length: usize,
) -> Option<DropReason> {
    if !length.is_multiple_of(INITIATION_LEN) {
        // Something else is at its end.
        return None;
    }
    let (source, rate) = (&datagram.source, &settings.initiations);
    if !has_token(source, rate, Taking::Not) {
        return Some(DropReason::RateLimited);
    }
    let keyed = maps::mac1_state(settings)?;
    for at in 0..MERGED_MOST {
        let offset = at * INITIATION_LEN;
        if offset == length {
            return Some(DropReason::Mac1);
        }
        if mac1::initiation(frame, datagram, offset, keyed)? {
            let taken = has_token(source, rate, Taking::One);
            return (!taken).then_some(DropReason::RateLimited);
        }
    }
    Some(if length == MERGED_MOST * INITIATION_LEN {
        DropReason::Mac1
    } else {
        DropReason::RateLimited
    })
}

/// Whether to take the token that is there.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Taking {
    Not,
    One,
}

/// Whether the bucket of this source holds a token.
///
/// A function of its own: what it needs of the stack then isn't needed while mac1 is worked
/// out.
#[inline(never)]
fn has_token(source: &Address, rate: &Rate, taking: Taking) -> bool {
    if rate.token == 0 {
        return true;
    }
    // IPv6 sources count by /64, which is what one host usually owns.
    let mut key = *source;
    if !is_v4_mapped(source) {
        key[8..].fill(0);
    }
    // SAFETY: a helper without arguments.
    let now = unsafe { bpf_ktime_get_ns() };
    let full_at = BUCKETS
        .get_ptr(key)
        // SAFETY: the map's memory lives as long as the program; the entry is an aligned
        // word, which is read in one piece. Should it go to another source just now, we
        // judge by that one's bucket, once.
        .map_or(0, |full_at| unsafe { full_at.read_volatile() });
    if !rate.allows(full_at, now) {
        return false;
    }
    if taking == Taking::One {
        // Two CPUs that do this at once may take one token for both. The oldest entry makes
        // room; if even that fails, the source isn't limited.
        let _ = BUCKETS.insert(key, rate.taken(full_at, now), u64::from(BPF_ANY));
    }
    true
}
