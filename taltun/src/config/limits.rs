//! What a peer may move, and until when it may come.

use taltun_usage::{Day, Quota};

use super::draft::{Draft, PeerDraft, Written};

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

/// Warns of quotas that a restart forgets, as no days are kept.
pub(super) fn forgotten(draft: &Draft) -> Vec<String> {
    let (0, Some(origin)) = (draft.usage.keep_days, &draft.keep_days) else {
        return Vec::new();
    };
    let quotas = draft.peers.iter().filter_map(|peer| peer.quota.as_ref());
    let warning = |quota: &Written<Quota>| {
        quota.spot.say(format!(
            "a restart forgets what was moved before it: usage.keep_days is 0 ({}); set it to 1 or \
             more, or leave it out",
            origin.origin()
        ))
    };
    quotas.map(warning).collect()
}
