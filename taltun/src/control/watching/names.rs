//! What keys and rules are called, for threads that tell people of packets.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use crate::crypto::PublicKey;
use crate::dataplane::rules::{Held, Rules};
use crate::dataplane::tap::RuleRef;

/// Sets of rules that are known beside the last: packets that those have decided may not be told
/// yet.
const OLDER_SETS: usize = 4;

/// Names of peers, and where rules are written.
#[derive(Debug)]
pub struct Names {
    peers: RwLock<HashMap<PublicKey, String>>,
    rules: Arc<Rules>,
    sets: RwLock<Vec<Arc<Held>>>,
}

impl Names {
    pub(super) fn new(rules: Arc<Rules>) -> Self {
        Self {
            peers: RwLock::default(),
            rules,
            sets: RwLock::default(),
        }
    }

    /// The peers by now, and the rules.
    pub(super) fn set(&self, peers: impl Iterator<Item = (PublicKey, String)>) {
        let peers = peers.collect();
        *self.peers.write().unwrap_or_else(PoisonError::into_inner) = peers;
        self.take_rules();
    }

    /// A peer's name, or its key where it has none.
    pub fn peer(&self, key: &PublicKey) -> String {
        let peers = self.peers.read().unwrap_or_else(PoisonError::into_inner);
        peers.get(key).cloned().unwrap_or_else(|| key.to_string())
    }

    /// Where a rule is written, `FILE:LINE`, or `default`.
    pub fn rule(&self, rule: RuleRef) -> String {
        let Some(number) = rule.rule else {
            return "default".to_owned();
        };
        let origin = self.origin(rule.set, number);
        let origin = origin.or_else(|| {
            self.take_rules();
            self.origin(rule.set, number)
        });
        origin.unwrap_or_else(|| "a rule that is no more".to_owned())
    }

    fn origin(&self, set: u64, number: u32) -> Option<String> {
        let sets = self.sets.read().unwrap_or_else(PoisonError::into_inner);
        let held = sets.iter().find(|held| held.number() == set)?;
        held.origin(number as usize).map(str::to_owned)
    }

    /// Remembers the rules that are in force.
    fn take_rules(&self) {
        let Some(held) = self.rules.held() else {
            return;
        };
        let mut sets = self.sets.write().unwrap_or_else(PoisonError::into_inner);
        if !sets.iter().any(|known| known.number() == held.number()) {
            sets.push(held);
            let older = sets.len().saturating_sub(1 + OLDER_SETS);
            sets.drain(..older);
        }
    }
}
