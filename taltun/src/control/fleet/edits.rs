//! Changes of peers: signed by the admin's key that this hub has, and made in one transaction, so
//! that a name or an address is one peer's in all of the fleet.

use taltun_crypto::signing::SigningKey;
use taltun_fleet::edit::{self, Outcome, Side};
use taltun_fleet::etcd::Error;
use taltun_fleet::record::Peer;
use taltun_fleet::{Key, Label, Ledger, Signed, Store};

use super::link::{FleetEdit, NotEdited};
use super::records::record_of;
use crate::crypto::PublicKey;

/// A change that is signed and not yet made.
pub(super) struct Prepared {
    before: Option<(PublicKey, Peer)>,
    after: Option<(PublicKey, Peer)>,
    /// What counts once it is made: the new record, or the removal, or both where the key changes.
    pub signed: Vec<(Key, Signed)>,
}

impl Prepared {
    /// Signs a change of what `ledger` has. `now` is in milliseconds since 1970.
    pub(super) fn new(
        ledger: &Ledger,
        admin: &SigningKey,
        edit: &FleetEdit,
        now: u64,
    ) -> Result<Self, NotEdited> {
        let network = &ledger.trust().network;
        let too_late = "the fleet's records have reached their last generation, so that nothing \
            can be changed any more";
        let generation = ledger.next_generation(now);
        let generation = generation.ok_or_else(|| NotEdited::Because(too_late.to_owned()))?;
        let before = match &edit.before {
            Some(peer) => {
                let record = ledger.record::<Peer>(&Key::Peer(peer.public_key));
                let Some(Ok(record)) = record else {
                    let text = format!("the fleet has no peer {} any more", peer.name);
                    return Err(NotEdited::Taken(text));
                };
                Some((peer.public_key, record))
            }
            None => None,
        };
        let old = before.as_ref().map(|(_, record)| record);
        let after = match &edit.after {
            Some(peer) => {
                let record = record_of(peer, old).map_err(NotEdited::Because)?;
                Some((peer.public_key, record))
            }
            None => None,
        };
        let mut signed = Vec::new();
        let stays = |key: &PublicKey| after.as_ref().is_some_and(|(after, _)| after == key);
        if let Some((key, _)) = before.as_ref().filter(|(key, _)| !stays(key)) {
            let key = Key::Peer(*key);
            let removal = Signed::removal(admin, network, &key, generation);
            signed.push((key, removal));
        }
        if let Some((key, record)) = &after {
            let key = Key::Peer(*key);
            let record = Signed::new(admin, network, &key, generation, record);
            signed.push((key, record));
        }
        Ok(Self {
            before,
            after,
            signed,
        })
    }

    /// Makes it.
    pub(super) async fn make(&self, store: &Store, network: &Label) -> Result<(), NotEdited> {
        let signed_of = |key: &PublicKey| {
            let mut all = self.signed.iter();
            all.find(|(at, _)| *at == Key::Peer(*key)).map(|(_, it)| it)
        };
        let outcome = match (&self.before, &self.after) {
            (None, Some((key, record))) => match signed_of(key) {
                Some(signed) => edit::add_peer(store, network, *key, record, signed).await,
                None => return Ok(()),
            },
            (Some((key, record)), None) => match signed_of(key) {
                Some(signed) => edit::remove_peer(store, network, *key, record, signed).await,
                None => return Ok(()),
            },
            (Some((old, before)), Some((new, after))) => {
                let before = Side {
                    public_key: *old,
                    peer: before,
                    signed: signed_of(old).filter(|_| old != new),
                };
                let after = Side {
                    public_key: *new,
                    peer: after,
                    signed: signed_of(new),
                };
                edit::change_peer(store, network, before, after).await
            }
            (None, None) => return Ok(()),
        };
        match outcome {
            Ok(Outcome::Done) => Ok(()),
            Ok(Outcome::NoToken | Outcome::Rotated) => {
                Err(NotEdited::Because("no token".to_owned()))
            }
            Ok(Outcome::Taken(keys)) => {
                let keys: Vec<String> = keys.iter().map(told).collect();
                Err(NotEdited::Taken(format!(
                    "the fleet has {} already, by way of another hub (nothing was changed)",
                    keys.join(" and ")
                )))
            }
            Err(error) => Err(NotEdited::Because(not_made(&error))),
        }
    }
}

/// A key of the store, for people.
fn told(key: &Key) -> String {
    match key {
        Key::Name(name) => format!("a peer called {name}"),
        Key::Vip(address) => format!("a peer with {address}"),
        Key::Peer(key) => format!("a newer record of {key}"),
        other => other.to_string(),
    }
}

/// What to say where etcd didn't do it.
pub(super) fn not_made(error: &Error) -> String {
    match error {
        Error::Uncertain(error) => format!(
            "etcd didn't answer: {error}; whether the change was made isn't known: `taltun peer \
             list` shows it once etcd answers"
        ),
        error => format!(
            "etcd can't change the fleet now: {error}; traffic goes on as before (nothing was \
             changed)"
        ),
    }
}
