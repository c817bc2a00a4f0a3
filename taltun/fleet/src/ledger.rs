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
//!
//! After a rotation of the admin's key ([`Trust`]) no record by the key before is taken any more. Those that counted
//! until then count on until the new admin has signed all of them anew ([`Ledger::renewed`]): the configuration is
//! signed anew last, and says so ([`Ledger::forget_former`]).

use std::collections::{BTreeMap, BTreeSet};

use taltun_crypto::signing::{SigningKey, VerifyingKey};

use crate::key::Key;
use crate::label::Label;
use crate::record::{Extra, Grant, Hub, MAX_GENERATION, Record, Rotation, Unreadable};
use crate::signed::{Signed, grant_place};
use crate::token::Token;
use crate::trust::{MAX_ROTATIONS, Trust};

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
    /// Who signed it was an admin once.
    #[error("it is signed by an admin's key that was rotated away")]
    Former,
    /// The key was rotated to another one.
    #[error(
        "somebody with the admin's key before rotated it to another one than this hub knows; one of the two isn't \
         your admin"
    )]
    OtherRotation,
    /// A rotation before it isn't known.
    #[error("the rotation of the admin's key before it is missing")]
    RotationMissing,
    /// There are too many of them.
    #[error("the admin's key was rotated {MAX_ROTATIONS} times, and can't be once more")]
    TooManyRotations,
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

/// What a hub believes. Two are equal that believe the same, however they came to.
#[derive(Debug, Clone)]
pub struct Ledger {
    trust: Trust,
    held: BTreeMap<Key, Signed>,
    /// Keys of which another record counts, or none any more, since [`Self::take_changed`].
    changed: BTreeSet<Key>,
}

impl PartialEq for Ledger {
    fn eq(&self, other: &Self) -> bool {
        (&self.trust, &self.held) == (&other.trust, &other.held)
    }
}

impl Eq for Ledger {}

impl Ledger {
    /// Nothing yet.
    pub fn new(trust: Trust) -> Self {
        Self {
            trust,
            held: BTreeMap::new(),
            changed: BTreeSet::new(),
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
        self.admit(key, signed, self.trust.former.len())
    }

    /// The same of a record from this hub's own disk: it counted here before, also if the key that signed it was
    /// rotated away since.
    pub(crate) fn remember(&mut self, key: &Key, signed: Signed) -> Verdict {
        self.admit(key, signed, 0)
    }

    /// Takes what an admin signed after so many rotations, or later.
    fn admit(&mut self, key: &Key, signed: Signed, since: usize) -> Verdict {
        let held = self.held.get(key);
        // Most that is offered is known: that costs no signature.
        if held == Some(&signed) {
            return Verdict::Same;
        }
        if let Err(unreadable) = signed.check() {
            return Verdict::Refused(Refusal::Unreadable(unreadable));
        }
        let verified = match key {
            Key::Admin(number) => self.verify_rotation(*number, &signed),
            _ => self.verify(key, &signed),
        };
        if let Err(refusal) = verified {
            return Verdict::Refused(refusal);
        }
        if !matches!(key, Key::Admin(_)) && self.trust.term_of(&signed) < since {
            return Verdict::Refused(Refusal::Former);
        }
        if held.is_some_and(|held| self.trust.rank(held) >= self.trust.rank(&signed)) {
            return Verdict::Older;
        }
        if let (Key::Admin(number), Ok(rotation)) = (key, said::<Rotation>(&signed))
            && *number as usize > self.trust.former.len()
        {
            let next = VerifyingKey(rotation.next);
            self.trust.rotate(signed.signer(), next);
        }
        self.held.insert(key.clone(), signed);
        self.changed.insert(key.clone());
        Verdict::New
    }

    fn verify(&self, key: &Key, signed: &Signed) -> Result<(), Refusal> {
        if !key.is_signed() {
            return Err(Refusal::Unsigned);
        }
        if self.trust.term(&signed.signer()).is_none() {
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

    /// A rotation is good if it is one of those that led to the admin of now, or if that admin signed it.
    fn verify_rotation(&self, number: u32, signed: &Signed) -> Result<(), Refusal> {
        let trust = &self.trust;
        let rotation: Rotation = said(signed)?;
        let next = VerifyingKey(rotation.next);
        let signer = signed.signer();
        let place = (number as usize).saturating_sub(1);
        if signed.grant().is_some() || trust.term(&signer).is_none() {
            return Err(Refusal::Stranger(signer));
        }
        if !signed.is_signed_for(&trust.network, &Key::Admin(number).to_string()) {
            return Err(Refusal::BadSignature);
        }
        match trust.former.get(place) {
            Some(former) if *former == signer && trust.is_next(place, &next) => Ok(()),
            Some(_) => Err(Refusal::OtherRotation),
            None if place > trust.former.len() => Err(Refusal::RotationMissing),
            None if place >= MAX_ROTATIONS => Err(Refusal::TooManyRotations),
            // Nobody is the admin twice.
            None if trust.term(&next).is_some() => Err(Refusal::OtherRotation),
            None if trust.admins.contains(&signer) => Ok(()),
            None => Err(Refusal::Former),
        }
    }

    /// A hub may say what it is itself, if an admin granted it that.
    fn verify_granted(&self, key: &Key, signed: &Signed) -> Result<(), Refusal> {
        let stranger = Refusal::Stranger(signed.signer());
        let (Key::Hub(hub), Some(granted)) = (key, signed.grant()) else {
            return Err(stranger);
        };
        if self.trust.term(&granted.signer()).is_none() {
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

    /// The generation of what a hub says of itself next: later also than what it said before.
    pub fn next_claim(&self, hub: &Label, now: u64) -> Option<u64> {
        let known = self.held.get(&Key::Hub(hub.clone()));
        let last = known
            .filter(|known| known.grant().is_some())
            .map(|known| known.generation);
        let next = self
            .next_generation(now)?
            .max(last.map_or(0, |last| last + 1));
        (next <= MAX_GENERATION).then_some(next)
    }

    /// What a hub says of itself by its token: with what it was granted as the admin of now signed it.
    pub fn claim(&self, token: &Token, hub: &Hub, generation: u64) -> Signed {
        let claim = token.claim(hub, generation);
        let known = self.held.get(&Key::Hub(token.hub.clone()));
        let grant = known.and_then(Signed::grant);
        let is_its = self
            .grant(&token.hub)
            .is_some_and(|grant| Key::Token(grant.token) == token.key());
        match grant.filter(|_| is_its) {
            Some(grant) => claim.granted(grant.clone()),
            None => claim,
        }
    }

    /// The next rotation of the admin's key. `now` is in milliseconds since 1970. `None` once there were too many.
    pub fn rotation(
        &self,
        admin: &SigningKey,
        next: VerifyingKey,
        now: u64,
    ) -> Option<(Key, Signed)> {
        let number = self.trust.former.len();
        let key = Key::Admin(u32::try_from(number).ok()? + 1);
        // Of now, whatever generations there are: whoever has the key may have used them up. It is the only record of its
        // key that counts, and what the next admin signs counts above all of this one's.
        let generation = now.min(MAX_GENERATION);
        let rotation = Rotation {
            next: next.0,
            extra: Extra::new(),
        };
        let signed = Signed::new(admin, &self.trust.network, &key, generation, &rotation);
        (number < MAX_ROTATIONS).then_some((key, signed))
    }

    /// Records by an admin's key that was rotated away. They count until [`Self::forget_former`].
    pub fn former(&self) -> impl Iterator<Item = (&Key, &Signed)> {
        let others = self.held.iter();
        others.filter(|(key, _)| !matches!(key, Key::Admin(_)) && self.is_former(key))
    }

    /// Whether the record of a key is one of these.
    pub fn is_former(&self, key: &Key) -> bool {
        let held = self.held.get(key);
        held.is_some_and(|held| self.trust.term_of(held) < self.trust.former.len())
    }

    /// The same, signed anew by the admin of now, all but the configuration. Private keys that were sealed for hubs
    /// are taken away: the admin seals them anew for who is to have them.
    pub fn renewed(&self, admin: &SigningKey) -> Vec<(Key, Signed)> {
        if self.is_renewed() {
            return Vec::new();
        }
        let renewed = self.former().filter_map(|(key, signed)| {
            let renewed = match key {
                Key::Config => return None,
                Key::Sealed(_) | Key::Group(_) => {
                    let generation = signed.generation.min(self.rotated());
                    Signed::removal(admin, &self.trust.network, key, generation)
                }
                _ => self.renew(admin, key, signed),
            };
            Some((key.clone(), renewed))
        });
        renewed.collect()
    }

    /// The configuration signed anew, once nothing else is left to be.
    pub fn renewed_config(&self, admin: &SigningKey) -> Option<Signed> {
        if !self.is_former(&Key::Config) {
            return None;
        }
        let mut former = self.former();
        match (former.next(), former.next()) {
            (Some((key @ Key::Config, signed)), None) => Some(self.renew(admin, key, signed)),
            _ => None,
        }
    }

    /// Whether the admin of now has signed all anew.
    pub fn is_renewed(&self) -> bool {
        let config = self.held.get(&Key::Config);
        config.is_some() && !self.is_former(&Key::Config)
    }

    fn renew(&self, admin: &SigningKey, key: &Key, signed: &Signed) -> Signed {
        signed.renewed(admin, &self.trust.network, key, self.rotated())
    }

    /// The generation of the last rotation.
    fn rotated(&self) -> u64 {
        let number = u32::try_from(self.trust.former.len()).unwrap_or(u32::MAX);
        let last = self.held.get(&Key::Admin(number));
        last.map_or(MAX_GENERATION, |last| last.generation)
    }

    /// Forgets what the admin of now didn't sign anew, once that one is done: the configuration was the last. To be
    /// called when all is known that the store has. Whether there was any.
    pub fn forget_former(&mut self) -> bool {
        if !self.is_renewed() {
            return false;
        }
        let former: Vec<Key> = self.former().map(|(key, _)| key.clone()).collect();
        for key in &former {
            self.held.remove(key);
        }
        let is_any = !former.is_empty();
        self.changed.extend(former);
        is_any
    }

    /// The keys of which another record counts than when this was last asked, or none any more: what follows all
    /// records needn't read those that stayed.
    pub fn take_changed(&mut self) -> BTreeSet<Key> {
        std::mem::take(&mut self.changed)
    }

    /// The generation of what an admin signs next: later than all that is known here, and than
    /// what this clock says (milliseconds since 1970). The clock makes it later also than what is
    /// known elsewhere only. `None` once there can't be a later one.
    pub fn next_generation(&self, now: u64) -> Option<u64> {
        let term = self.trust.former.len();
        let held = self
            .held
            .iter()
            .filter(|(key, held)| matches!(key, Key::Admin(_)) || self.trust.term_of(held) == term);
        // What a hub says of itself has a generation of that hub's choice, and doesn't count here.
        let last = held.map(|(_, held)| held.admins_generation()).max();
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
