//! What a hub believes: of each key the newest record with a good signature.
//!
//! The store is a place where records are found, no authority: what it has counts only if an admin
//! signed it, and what it hasn't isn't gone. Only a signed removal takes a record away, and a
//! removal stays. So a store that somebody stole adds no peer and takes none; one that was
//! restored from an old backup brings nobody back, and each hub can write into it again what it
//! lost ([`Verdict::Older`], [`Ledger::missing`]) without any admin's key.
//!
//! The order in which records come makes no difference, nor does how often: the greater
//! [generation](Signed::generation) counts. The clock only proposes generations
//! ([`Ledger::next_generation`]); a wrong one does no harm.

use std::collections::{BTreeMap, BTreeSet};

use taltun_crypto::signing::VerifyingKey;

use crate::key::Key;
use crate::label::Label;
use crate::record::{Grant, Hub, MAX_GENERATION, Record, Unreadable};
use crate::signed::Signed;

/// Whom a hub believes. It gets this when it joins, not from the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trust {
    /// The network.
    pub network: Label,
    /// Its admins.
    pub admins: BTreeSet<VerifyingKey>,
}

/// Why a record doesn't count.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// It can't be read.
    #[error("{0}")]
    Unreadable(Unreadable),
    /// It is longer than a record of its kind may be.
    #[error("it has {0} bytes, and may have {1}")]
    TooLong(usize, usize),
    /// Such records aren't signed.
    #[error("no such record is signed")]
    Unsigned,
    /// Who signed it is no admin and has no admin's grant.
    #[error("it is signed by {0}, who is no admin of this network")]
    Stranger(VerifyingKey),
    /// The signature is somebody else's, or for another place.
    #[error("its signature isn't good for this network and key")]
    BadSignature,
    /// A token was used twice, by two hubs.
    #[error("the token of this hub was used before, for another identity")]
    TokenUsedTwice,
}

/// What became of a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It counts from now on.
    New,
    /// It is what counts already.
    Same,
    /// It was good, but something newer is known, which the store ought to have.
    Older,
    /// It doesn't count. What counted before still does.
    Refused(Refusal),
}

/// The place that a grant is signed for, which is no key of the store.
pub(crate) fn grant_place(hub: &Label) -> String {
    format!("grant/{hub}")
}

/// What a hub believes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ledger {
    trust: Trust,
    held: BTreeMap<Key, Signed>,
}

impl Ledger {
    /// Nothing yet.
    pub fn new(trust: Trust) -> Self {
        Self {
            trust,
            held: BTreeMap::new(),
        }
    }

    /// Whom it believes.
    pub fn trust(&self) -> &Trust {
        &self.trust
    }

    /// Takes what the store has at `key`.
    pub fn offer(&mut self, key: &Key, value: &[u8]) -> Verdict {
        if value.len() > key.limit() {
            return Verdict::Refused(Refusal::TooLong(value.len(), key.limit()));
        }
        match Signed::parse(value) {
            Ok(signed) => self.take(key, signed),
            Err(unreadable) => Verdict::Refused(Refusal::Unreadable(unreadable)),
        }
    }

    /// The same of a record that was read already.
    pub fn take(&mut self, key: &Key, signed: Signed) -> Verdict {
        let held = self.held.get(key);
        // Most that is offered is known: that costs no signature.
        if held == Some(&signed) {
            return Verdict::Same;
        }
        if let Err(unreadable) = signed.check() {
            return Verdict::Refused(Refusal::Unreadable(unreadable));
        }
        if let Err(refusal) = self.verify(key, &signed) {
            return Verdict::Refused(refusal);
        }
        if held.is_some_and(|held| held.rank() >= signed.rank()) {
            return Verdict::Older;
        }
        self.held.insert(key.clone(), signed);
        Verdict::New
    }

    fn verify(&self, key: &Key, signed: &Signed) -> Result<(), Refusal> {
        if !key.is_signed() {
            return Err(Refusal::Unsigned);
        }
        if !self.trust.admins.contains(&signed.signer()) {
            self.verify_granted(key, signed)?;
        } else if signed.grant().is_some() {
            // What an admin signs needs no grant, and would rank as if it were a hub's word.
            return Err(Refusal::Stranger(signed.signer()));
        }
        if !signed.is_signed_for(&self.trust.network, &key.to_string()) {
            return Err(Refusal::BadSignature);
        }
        Ok(())
    }

    /// A hub may say what it is itself, if an admin granted it that.
    fn verify_granted(&self, key: &Key, signed: &Signed) -> Result<(), Refusal> {
        let stranger = Refusal::Stranger(signed.signer());
        let (Key::Hub(hub), Some(granted)) = (key, signed.grant()) else {
            return Err(stranger);
        };
        if !self.trust.admins.contains(&granted.signer()) {
            return Err(Refusal::Stranger(granted.signer()));
        }
        if !granted.is_signed_for(&self.trust.network, &grant_place(hub)) {
            return Err(Refusal::BadSignature);
        }
        let grant: Grant = said(granted)?;
        if grant.verifies != signed.signer().0 {
            return Err(stranger);
        }
        let says: Hub = said(signed)?;
        let before = self.held.get(key).filter(|held| held.grant().is_some());
        match before.map(said::<Hub>) {
            // Another token is for another identity, such as that of a hub that lost its disk.
            Some(Ok(before))
                if before.identity != says.identity
                    && self
                        .grant(hub)
                        .is_some_and(|known| known.token == grant.token) =>
            {
                Err(Refusal::TokenUsedTwice)
            }
            _ => Ok(()),
        }
    }

    /// The record of a key that counts, be it a removal.
    pub fn get(&self, key: &Key) -> Option<&Signed> {
        self.held.get(key)
    }

    /// What the record of a key says. `None` if there is none, or if it is removed.
    pub fn record<T: Record>(&self, key: &Key) -> Option<Result<T, Unreadable>> {
        self.held.get(key)?.record()
    }

    /// What an admin granted a hub that says by itself who it is.
    pub fn grant(&self, hub: &Label) -> Option<Grant> {
        let held = self.held.get(&Key::Hub(hub.clone()))?;
        held.grant()?.record()?.ok()
    }

    /// All records that count, removals with them.
    pub fn all(&self) -> impl Iterator<Item = (&Key, &Signed)> {
        self.held.iter()
    }

    /// What the store doesn't have at all, by the keys that it has: to be written again.
    pub fn missing<'l>(
        &'l self,
        store: &'l BTreeSet<Key>,
    ) -> impl Iterator<Item = (&'l Key, &'l Signed)> {
        self.held.iter().filter(|(key, _)| !store.contains(key))
    }

    /// The generation of what an admin signs next: later than all that is known here, and than
    /// what this clock says (milliseconds since 1970). The clock makes it later also than what is
    /// known elsewhere only. `None` once there can't be a later one.
    pub fn next_generation(&self, now: u64) -> Option<u64> {
        let of_both = |held: &Signed| held.generation.max(held.admins_generation());
        let last = self.held.values().map(of_both).max();
        let next = last.map_or(0, |last| last + 1).max(now);
        (next <= MAX_GENERATION).then_some(next)
    }
}

fn said<T: Record>(signed: &Signed) -> Result<T, Refusal> {
    match signed.record() {
        Some(record) => record.map_err(Refusal::Unreadable),
        // A hub can't be removed by itself: it would be by whoever found its token.
        None => Err(Refusal::Stranger(signed.signer())),
    }
}
