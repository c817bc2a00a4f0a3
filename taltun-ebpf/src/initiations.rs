//! Initiations: the only messages that an unknown sender may send, so the only ones that are
//! costly to judge.
//!
//! The checks get more costly step by step, and what fails early costs little:
//!
//! 0. if the source's token bucket is empty, the source is treated as under load: anybody with
//!    a forged address can empty it, so the source is asked for a cookie, not refused.
//! 1. under load, without a cookie: is there a cookie reply left? Two words are read.
//! 2. the source's token bucket: a look into a map. A token is taken only at the end, so
//!    garbage with a forged address doesn't drain the bucket of its owner.
//! 3. mac1, unless too many were wrong of late.
//! 4. under load, with a cookie: mac2, unless too many were wrong of late. A wrong one counts
//!    as none.
//!
//! A source that has proved its address by a cookie has a token bucket of its own, which nobody
//! else empties. Sources where a peer was last heard are exempt from the limits for all sources
//! together: see [`taltun_common::budget`].

use aya_ebpf::bindings::BPF_ANY;
use aya_ebpf::btf_maps::LruHashMap;
use aya_ebpf::programs::XdpContext;

use taltun_common::address::{Address, is_v4_mapped};
use taltun_common::blake2s::State;
use taltun_common::bucket::Rate;
use taltun_common::budget::{Budget, SOURCE_REPLIES};
use taltun_common::drops::DropReason;
use taltun_common::maps::{Load, MAX_BUCKETS, Settings};
use taltun_common::wire::INITIATION_LEN;

use crate::maps::{self, ASKED_BUCKETS, BUCKETS, PROVEN_BUCKETS};
use crate::parse::Datagram;
use crate::{budgets, mac};

/// Merged initiations that are looked at. A flow that has more of them in one packet is a
/// flood; no peer sends a second one within seconds.
const MERGED_MOST: usize = 4;

/// What is wrong with this initiation.
#[inline(always)]
pub fn fault(
    frame: &XdpContext,
    datagram: &Datagram<'_>,
    settings: &Settings,
) -> Option<DropReason> {
    let now = budgets::now();
    let source = &datagram.headers.source;
    let loaded = maps::load(now).is_some();
    let exhausted = !has_token(Bucket::Claimed, source, &settings.initiations, now);
    let asked = loaded || exhausted;
    let refusal = if exhausted {
        DropReason::RateLimited
    } else {
        DropReason::NoCookie
    };
    let has_cookie = asked && mac::has_mac2(frame, datagram)?;
    if asked && !has_cookie && !may_be_answered(source, now) {
        return Some(refusal);
    }
    let claimed = if exhausted {
        Bucket::Asked
    } else {
        Bucket::Claimed
    };
    let bucket = if has_cookie { Bucket::Proven } else { claimed };
    if !has_token(bucket, source, &settings.initiations, now) {
        return Some(DropReason::RateLimited);
    }
    if let Some(keyed) = maps::mac1_state(settings) {
        let Some(budget) = budget_for_mac1(source, now) else {
            return Some(DropReason::Unverified);
        };
        if !mac::is_initiation_right(frame, datagram, 0, keyed)? {
            budgets::take(budget, now);
            return Some(DropReason::Mac1);
        }
    }
    if !asked {
        return limit(Bucket::Claimed, source, settings, now);
    }
    if has_cookie && proves_its_address(frame, datagram, maps::cookies()?, now)? {
        return limit(Bucket::Proven, source, settings, now);
    }
    if !may_be_answered(source, now) {
        return Some(refusal);
    }
    limit_reply(claimed, source, settings, now)
}

/// What is wrong with a packet that may be several initiations merged, and is `length` bytes
/// long: it falls if all of them are bad. Under load nobody looks for cookies in it: no peer
/// sends several at once.
#[inline(always)]
pub fn fault_merged(
    frame: &XdpContext,
    datagram: &Datagram<'_>,
    settings: &Settings,
    length: usize,
) -> Option<DropReason> {
    if !length.is_multiple_of(INITIATION_LEN) {
        // Something else is at its end.
        return None;
    }
    let now = budgets::now();
    let source = &datagram.headers.source;
    let under_load = maps::load(now).is_some();
    if under_load && !may_be_answered(source, now) {
        return Some(DropReason::NoCookie);
    }
    if !has_token(Bucket::Claimed, source, &settings.initiations, now) {
        return Some(DropReason::RateLimited);
    }
    let keyed = maps::mac1_state(settings)?;
    let Some(budget) = budget_for_mac1(source, now) else {
        return Some(DropReason::Unverified);
    };
    for at in 0..MERGED_MOST {
        let offset = at * INITIATION_LEN;
        if offset == length {
            return Some(DropReason::Mac1);
        }
        if mac::is_initiation_right(frame, datagram, offset, keyed)? {
            return if under_load {
                limit_reply(Bucket::Claimed, source, settings, now)
            } else {
                limit(Bucket::Claimed, source, settings, now)
            };
        }
        budgets::take(budget, now);
    }
    Some(if length == MERGED_MOST * INITIATION_LEN {
        DropReason::Mac1
    } else {
        DropReason::RateLimited
    })
}

/// Whether user space may be asked for a cookie by this source.
#[inline(always)]
fn may_be_answered(source: &Address, now: u64) -> bool {
    budgets::has_reply(now) || maps::is_endpoint(source)
}

/// The budget for a wrong mac1 of this source; `None` if it is used up.
#[inline(always)]
fn budget_for_mac1(source: &Address, now: u64) -> Option<Budget> {
    if budgets::has(Budget::Mac1, now) {
        return Some(Budget::Mac1);
    }
    (maps::is_endpoint(source) && budgets::has(Budget::Mac1Known, now)).then_some(Budget::Mac1Known)
}

/// Whether its mac2 verifies. `Some(false)` also if nobody looked: there is no secret, or too
/// many were wrong of late.
#[inline(always)]
fn proves_its_address(
    frame: &XdpContext,
    datagram: &Datagram<'_>,
    load: &Load,
    now: u64,
) -> Option<bool> {
    if now >= load.secret_until {
        return Some(false);
    }
    let source = &datagram.headers.source;
    let known = || maps::is_invited(source) || maps::is_endpoint(source);
    let budget = if budgets::has(Budget::Mac2, now) {
        Budget::Mac2
    } else if known() && budgets::has(Budget::Mac2Known, now) {
        Budget::Mac2Known
    } else {
        return Some(false);
    };
    let secret: &State = &load.secret;
    let right = mac::is_cookie_right(frame, datagram, secret)?;
    if !right {
        budgets::take(budget, now);
    }
    Some(right)
}

/// Which of a source's token buckets.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
enum Bucket {
    /// For messages that claim this source.
    Claimed,
    /// For messages that prove it by a cookie.
    Proven,
    /// For cookie replies once the first bucket is empty.
    Asked,
}

impl Bucket {
    #[inline(always)]
    fn map(self) -> &'static LruHashMap<Address, u64, MAX_BUCKETS> {
        match self {
            Self::Claimed => &BUCKETS,
            Self::Proven => &PROVEN_BUCKETS,
            Self::Asked => &ASKED_BUCKETS,
        }
    }

    /// How fast tokens flow into it.
    #[inline(always)]
    fn rate(self, initiations: &Rate) -> Rate {
        match self {
            Self::Claimed | Self::Proven => *initiations,
            Self::Asked => SOURCE_REPLIES,
        }
    }
}

/// Takes a token of this source; what is wrong if there is none.
#[inline(always)]
fn limit(bucket: Bucket, source: &Address, settings: &Settings, now: u64) -> Option<DropReason> {
    let taken = take_token(bucket, source, &settings.initiations, now);
    (!taken).then_some(DropReason::RateLimited)
}

/// The same for one that is to be answered with a cookie: a reply is taken, too, but only if
/// the source has a token. Else one source would use up the replies of all.
#[inline(always)]
fn limit_reply(
    bucket: Bucket,
    source: &Address,
    settings: &Settings,
    now: u64,
) -> Option<DropReason> {
    let fault = limit(bucket, source, settings, now);
    if fault.is_none() {
        budgets::take_reply(now);
    }
    fault
}

/// Whether the bucket of this source holds a token.
///
/// A function of its own, so that its stack is free while MACs are computed. So is the next.
#[inline(never)]
fn has_token(bucket: Bucket, source: &Address, rate: &Rate, now: u64) -> bool {
    let rate = bucket.rate(rate);
    rate.token == 0 || rate.allows(full_at(bucket, &key(source)), now)
}

/// Takes a token out of the bucket of this source, if it holds one.
#[inline(never)]
fn take_token(bucket: Bucket, source: &Address, rate: &Rate, now: u64) -> bool {
    let rate = bucket.rate(rate);
    if rate.token == 0 {
        return true;
    }
    let key = key(source);
    let full_at = full_at(bucket, &key);
    if !rate.allows(full_at, now) {
        return false;
    }
    // Two CPUs that do this at once may take one token for both. The oldest entry makes
    // room; if even that fails, the source isn't limited.
    let taken = rate.taken(full_at, now);
    let _ = bucket.map().insert(key, taken, u64::from(BPF_ANY));
    true
}

/// When this bucket is full again; long ago if nothing is known of it.
#[inline(always)]
fn full_at(bucket: Bucket, key: &Address) -> u64 {
    // SAFETY: the map's memory lives as long as the program; the entry is an aligned word,
    // which is read in one piece. Should it go to another source just now, we judge by that
    // one's bucket, once.
    let read = |full_at: *mut u64| unsafe { full_at.read_volatile() };
    bucket.map().get_ptr_mut(key).map_or(0, read)
}

/// Whose bucket: IPv6 sources count by /64, which is what one host usually owns.
#[inline(always)]
fn key(source: &Address) -> Address {
    let mut key = *source;
    if !is_v4_mapped(source) {
        key[8..].fill(0);
    }
    key
}
