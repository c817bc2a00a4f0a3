//! What this hub says that it is, by which right, and the admin's key: from whom it has that, and whom it gives it.

use taltun_crypto::sealed;
use taltun_fleet::record::{Hub as HubRecord, Record, SealedKey};
use taltun_fleet::{Key, Label, Refusal, Signed, Token, Verdict};
use tracing::{info, warn};

use super::{Member, milliseconds};
use crate::control::fleet::membership::{self, Admin};
use crate::crypto::{PrivateKey, PublicKey};

impl Member {
    /// Has the others know what this hub is by now.
    pub(super) fn say_who(&mut self) {
        let key = Key::Hub(self.hub.settings.hub.clone());
        let says = self.hub.settings.says.clone();
        if self.ledger.get(&key).is_some_and(|held| held.removed) {
            let text = "an admin removed this hub from the fleet";
            self.unclaimed = Some(text.to_owned());
            return;
        }
        if let Some(Ok(known)) = self.ledger.record::<HubRecord>(&key) {
            let says = HubRecord {
                extra: known.extra.clone(),
                ..says.clone()
            };
            if known == says {
                self.unclaimed = None;
                return;
            }
            if known.identity != says.identity && self.is_replaced() {
                let text = "another machine has joined as this hub by a later token; give this one another \
                    name, or take [fleet] out of its file";
                self.unclaimed = Some(text.to_owned());
                return;
            }
        }
        let hub = &self.hub.settings.hub;
        let Some(generation) = self.ledger.next_claim(hub, milliseconds()) else {
            return;
        };
        let signed = match (&self.admin, &self.membership.token) {
            (Some(admin), _) => Signed::new(&admin.key, self.network(), &key, generation, &says),
            (None, Some(token)) => self.ledger.claim(token, &says, generation),
            (None, None) => return,
        };
        self.unclaimed = match self.ledger.take(&key, signed) {
            Verdict::New => {
                self.is_unsaved = true;
                self.writes.add(key);
                None
            }
            Verdict::Refused(Refusal::TokenUsedTwice) => Some(
                "this hub's key isn't the one it joined with, so that the others don't believe it; \
                 bring back that key"
                    .to_owned(),
            ),
            Verdict::Refused(refusal) => Some(refusal.to_string()),
            Verdict::Same | Verdict::Older => None,
        };
    }

    /// Whether somebody has joined as this hub by another token than its own.
    fn is_replaced(&self) -> bool {
        let grant = self.ledger.grant(&self.hub.settings.hub);
        let own = self.membership.token.as_ref().map(Token::key);
        grant.is_some_and(|grant| own != Some(Key::Token(grant.token)))
    }

    /// Gives hubs that are to have it the admin's key, which no other can read.
    pub(super) fn share_admin(&mut self) {
        let Some(admin) = &self.admin else { return };
        let mut made = Vec::new();
        for (hub, record) in self.hub_records() {
            if !self.has_admin(hub) || *hub == self.hub.settings.hub {
                continue;
            }
            let key = Key::Sealed(hub.clone());
            // Another identity joined by a later token: it can't read what the one before got.
            let known = self.ledger.record::<SealedKey>(&key);
            let is_read = matches!(known, Some(Ok(known)) if known.reader == Some(record.identity));
            if is_read && !self.ledger.is_former(&key) {
                continue;
            }
            let Some(sealed) = seal_for(&record, &key, &admin.secret()) else {
                continue;
            };
            made.push((key, SealedKey::new(record.identity, &sealed)));
        }
        self.sign_all(made);
    }

    /// Whether a hub has the admin's key, or is to get it: it was granted that, or its record is signed by that key,
    /// as the first hub's is.
    pub(super) fn has_admin(&self, hub: &Label) -> bool {
        let record = self.ledger.get(&Key::Hub(hub.clone()));
        record.is_some_and(|record| !record.removed)
            && self.ledger.grant(hub).is_none_or(|grant| grant.admin)
    }

    /// Signs records by the admin's key, if it is here, and has the fleet take them.
    pub(super) fn sign_all<R: Record>(&mut self, records: Vec<(Key, R)>) {
        let Some(admin) = &self.admin else { return };
        let Some(generation) = self.ledger.next_generation(milliseconds()) else {
            return;
        };
        let sign = |(key, record): (Key, R)| {
            let signed = Signed::new(&admin.key, self.network(), &key, generation, &record);
            (key, signed)
        };
        let signed = records.into_iter().map(sign).collect();
        self.take_and_write(signed);
    }

    /// Takes records that were signed here, and has etcd get them.
    pub(super) fn take_and_write(&mut self, signed: Vec<(Key, Signed)>) {
        for (key, signed) in signed {
            if self.ledger.take(&key, signed) == Verdict::New {
                self.is_unsaved = true;
                self.writes.add(key);
            }
        }
    }

    /// Takes the admin's key that another hub sealed for this one.
    pub(super) fn take_admin(&mut self, key: &Key) {
        if self.admin.is_some() || self.ledger.is_former(key) {
            return;
        }
        let Some(Ok(record)) = self.ledger.record::<SealedKey>(key) else {
            return;
        };
        let private = &self.hub.settings.private_key;
        let opened = record
            .bytes()
            .and_then(|bytes| sealed::open(private, key.to_string().as_bytes(), &bytes).ok());
        let admin = opened.and_then(|secret| Admin::of_secret(&secret));
        let Some(admin) = admin else {
            return warn!("fleet: the admin's key that was sealed for this hub can't be opened");
        };
        if !self
            .membership
            .trust
            .admins
            .contains(&admin.key.verifying_key())
        {
            return warn!("fleet: the key that was sealed for this hub is no admin's");
        }
        match membership::write_admin(&self.hub.files, &admin, &self.membership.trust) {
            Ok(()) => info!("fleet: peers can be changed at this hub from now on"),
            Err(error) => warn!("fleet: {error}; the admin's key is in memory only"),
        }
        self.admin = Some(admin);
    }
}

/// A secret that only this hub can read, as it is kept at `key`.
pub(super) fn seal_for(hub: &HubRecord, key: &Key, secret: &[u8]) -> Option<Vec<u8>> {
    let once = PrivateKey::from_bytes(*membership::random().ok()?);
    let reader = PublicKey(hub.identity);
    sealed::seal(once, &reader, key.to_string().as_bytes(), secret)
}
