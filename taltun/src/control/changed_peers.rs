//! Peers that a change is about: how many, and the first of them by name.

use serde::{Serialize, Serializer};

/// Peers that are named of each kind.
const NAMED: usize = 100;

/// Peers to which the same happened.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct SomePeers {
    number: usize,
    first: Vec<String>,
}

impl SomePeers {
    pub(super) fn add(&mut self, label: impl FnOnce() -> String) {
        self.number = self.number.saturating_add(1);
        if self.first.len() < NAMED {
            self.first.push(label());
        }
    }

    pub(super) fn number(&self) -> usize {
        self.number
    }

    /// The names of all of them, if there are no more than `most`.
    pub(super) fn names(&self, most: usize) -> Option<&[String]> {
        (self.number <= most.min(NAMED)).then_some(&self.first)
    }

    fn merge(&mut self, other: Self) {
        self.number = self.number.saturating_add(other.number);
        let room = NAMED.saturating_sub(self.first.len());
        self.first.extend(other.first.into_iter().take(room));
    }
}

impl Serialize for SomePeers {
    /// As their names, and a last word on how many more there are.
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let more = self.number.saturating_sub(self.first.len());
        let more = (more > 0).then(|| format!("and {more} more"));
        to.collect_seq(self.first.iter().chain(more.iter()))
    }
}

/// What happened to peers.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub(super) struct ChangedPeers {
    #[serde(skip_serializing_if = "SomePeers::is_empty")]
    pub added: SomePeers,
    #[serde(skip_serializing_if = "SomePeers::is_empty")]
    pub changed: SomePeers,
    #[serde(skip_serializing_if = "SomePeers::is_empty")]
    pub removed: SomePeers,
}

impl SomePeers {
    fn is_empty(&self) -> bool {
        self.number == 0
    }
}

impl ChangedPeers {
    pub(super) fn is_empty(&self) -> bool {
        self.added.is_empty() && self.changed.is_empty() && self.removed.is_empty()
    }

    /// Adds what happened next.
    pub(super) fn merge(&mut self, next: Self) {
        self.added.merge(next.added);
        self.changed.merge(next.changed);
        self.removed.merge(next.removed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_peers_are_named_up_to_a_limit_and_counted_beyond() {
        let mut changes = ChangedPeers::default();
        assert!(changes.is_empty());
        for number in 0..250 {
            let mut next = ChangedPeers::default();
            next.added.add(|| number.to_string());
            changes.merge(next);
        }
        let json = serde_json::to_value(&changes).unwrap();
        let added = json["added"].as_array().unwrap();
        assert_eq!(added.len(), NAMED + 1);
        assert_eq!(added[NAMED], "and 150 more");
        assert!(json.get("removed").is_none());
        assert_eq!(changes.added.names(usize::MAX), None);
        assert_eq!(changes.removed.names(3), Some(&[][..]));
    }
}
