//! What a peer may move, and until when it may come.

use taltun_usage::{Day, Quota};

use super::draft::PeerDraft;

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
