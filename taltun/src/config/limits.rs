//! What a peer may move, and until when it may come.

use taltun_usage::{Day, Period, Quota};

use super::draft::{Draft, PeerDraft};

/// `peers.quota` and `peers.expires`
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PeerLimits {
    /// How much it may move in a day or a month.
    pub quota: Option<Quota>,
    /// Its last day, in UTC.
    pub expires: Option<Day>,
}

impl PeerLimits {
    /// Whether there are none.
    pub fn is_none(&self) -> bool {
        *self == Self::default()
    }
}

/// Last days that are past: a line each, that names the place as errors do.
pub(super) fn past(peers: &[PeerDraft], today: Day) -> Vec<String> {
    let peers = peers.iter();
    let past = peers.filter_map(|peer| {
        let expires = peer.expires.as_ref()?;
        let is_past = expires.value < today;
        is_past.then(|| {
            expires.spot.say(format!(
                "{} is past, so the peer is refused; write a later day, or remove the peer",
                expires.value
            ))
        })
    });
    past.collect()
}

/// The most days that a month has.
const MONTH: u32 = 31;

/// Warns of quotas of which a restart forgets a part, as fewer days are kept than they last.
pub(super) fn forgotten(draft: &Draft) -> Vec<String> {
    let (kept, Some(origin)) = (draft.usage.keep_days, &draft.keep_days) else {
        return Vec::new();
    };
    let quotas = draft.peers.iter().filter_map(|peer| peer.quota.as_ref());
    let forgotten = quotas.filter(|quota| {
        let needed = match quota.value.period {
            Period::Day => 1,
            Period::Month => MONTH,
        };
        kept < needed
    });
    let warning = |spot: &super::error::Spot| {
        spot.say(format!(
            "a restart forgets what was moved before it: usage.keep_days is {kept} ({}); set it to \
             {MONTH} or more, or leave it out",
            origin.origin()
        ))
    };
    forgotten.map(|quota| warning(&quota.spot)).collect()
}
