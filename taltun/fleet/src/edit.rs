//! Changes that must be made once, or not at all: a name or an address is one peer's, a token makes
//! one hub.
//!
//! Each is one transaction, so that etcd decides, which takes a quorum of its members. Without one
//! the answer is an error, and nothing is changed.

use std::net::IpAddr;

use taltun_crypto::PublicKey;

use crate::etcd::{Error, Store, Transaction};
use crate::key::{Key, prefix};
use crate::label::Label;
use crate::ledger::{Ledger, Verdict};
use crate::record::{self, Hub, Peer, Taken, Unreadable};
use crate::signed::Signed;
use crate::token::Token;
use crate::trust::Trust;

/// What became of a change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It is made.
    Done,
    /// Somebody else has one of these, or was faster: nothing is changed.
    Taken(Vec<Key>),
    /// The token was used, or has expired: nothing is changed.
    NoToken,
    /// The admin's key was rotated since the token was made: nothing is changed.
    Rotated,
}

/// Adds a peer: its signed record, its name and its addresses, all or none.
pub async fn add_peer(
    store: &Store,
    network: &Label,
    public_key: PublicKey,
    peer: &Peer,
    signed: &Signed,
) -> Result<Outcome, Error> {
    let prefix = prefix(network);
    let key = Key::Peer(public_key);
    let path = format!("{prefix}{key}");
    let before = store.get(&path).await?;
    let is_removed = |value: &[u8]| Signed::parse(value).is_ok_and(|signed| signed.removed);
    if before
        .as_ref()
        .is_some_and(|entry| !is_removed(&entry.value))
    {
        return Ok(Outcome::Taken(vec![key]));
    }
    let revision = before.map_or(0, |entry| entry.revision);
    let taken = record::write(&Taken { peer: public_key.0 });
    let add = Transaction::new().replace(path, revision, signed.to_json());
    let add = locks(&peer.name, &peer.vips).fold(add, |add, lock| {
        add.create(format!("{prefix}{lock}"), taken.clone())
    });
    if store.settle(add).await? {
        return Ok(Outcome::Done);
    }
    let mut others = Vec::new();
    for lock in locks(&peer.name, &peer.vips) {
        if store.get(&format!("{prefix}{lock}")).await?.is_some() {
            others.push(lock);
        }
    }
    // The record itself, if it is none of these.
    if others.is_empty() {
        others.push(key);
    }
    Ok(Outcome::Taken(others))
}

/// A peer before a change, or after it, with what is signed about it.
#[derive(Debug)]
pub struct Side<'a> {
    /// Its key.
    pub public_key: PublicKey,
    /// What it is.
    pub peer: &'a Peer,
    /// After the change its record; before it, where its key changes, the removal of the old one.
    pub signed: Option<&'a Signed>,
}

/// Changes a peer: its name, what it has and may, or its key. What only one can have goes with it.
pub async fn change_peer(
    store: &Store,
    network: &Label,
    before: Side<'_>,
    after: Side<'_>,
) -> Result<Outcome, Error> {
    let prefix = prefix(network);
    let path = |key: PublicKey| format!("{prefix}{}", Key::Peer(key));
    let mut change = Transaction::new();
    let mut others = Vec::new();
    for side in [&before, &after] {
        let Some(signed) = side.signed else { continue };
        let entry = store.get(&path(side.public_key)).await?;
        let is_there = entry
            .as_ref()
            .is_some_and(|entry| Signed::parse(&entry.value).is_ok_and(|signed| !signed.removed));
        // The key that a peer gets is nobody's, and the peer that is changed is there.
        if is_there != (side.public_key == before.public_key) {
            others.push(Key::Peer(side.public_key));
        }
        let revision = entry.map_or(0, |entry| entry.revision);
        change = change.replace(path(side.public_key), revision, signed.to_json());
    }
    let taken = record::write(&Taken {
        peer: after.public_key.0,
    });
    let old: Vec<Key> = locks(&before.peer.name, &before.peer.vips).collect();
    let new: Vec<Key> = locks(&after.peer.name, &after.peer.vips).collect();
    for lock in old
        .iter()
        .chain(new.iter().filter(|lock| !old.contains(lock)))
    {
        let path = format!("{prefix}{lock}");
        let entry = store.get(&path).await?;
        let owner = entry
            .as_ref()
            .map(|entry| record::read::<Taken>(&entry.value));
        let is_own = matches!(&owner, Some(Ok(owner)) if owner.peer == before.public_key.0);
        let revision = entry.map_or(0, |entry| entry.revision);
        if !new.contains(lock) {
            if is_own {
                change = change.delete(path, revision);
            }
        } else if is_own || owner.is_none() {
            change = change.replace(path, revision, taken.clone());
        } else {
            others.push(lock.clone());
        }
    }
    if !others.is_empty() {
        return Ok(Outcome::Taken(others));
    }
    Ok(if store.settle(change).await? {
        Outcome::Done
    } else {
        Outcome::Taken(vec![Key::Peer(after.public_key)])
    })
}

/// Begins a network: its configuration and its first hub, where the store has neither.
pub async fn found(
    store: &Store,
    network: &Label,
    config: &Signed,
    hub: (&Label, &Signed),
) -> Result<Outcome, Error> {
    let prefix = prefix(network);
    let key = Key::Hub(hub.0.clone());
    let found = Transaction::new()
        .create(format!("{prefix}{}", Key::Config), config.to_json())
        .create(format!("{prefix}{key}"), hub.1.to_json());
    Ok(if store.settle(found).await? {
        Outcome::Done
    } else {
        Outcome::Taken(vec![Key::Config, key])
    })
}

/// Removes a peer: the signed removal takes the place of its record, and its name and addresses
/// are free again.
pub async fn remove_peer(
    store: &Store,
    network: &Label,
    public_key: PublicKey,
    peer: &Peer,
    removal: &Signed,
) -> Result<Outcome, Error> {
    let prefix = prefix(network);
    let key = Key::Peer(public_key);
    let path = format!("{prefix}{key}");
    let revision = store.get(&path).await?.map_or(0, |entry| entry.revision);
    let mut remove = Transaction::new().replace(path, revision, removal.to_json());
    for lock in locks(&peer.name, &peer.vips) {
        let path = format!("{prefix}{lock}");
        let Some(entry) = store.get(&path).await? else {
            continue;
        };
        let owner = record::read::<Taken>(&entry.value);
        if owner.is_ok_and(|owner| owner.peer == public_key.0) {
            remove = remove.delete(path, entry.revision);
        }
    }
    Ok(if store.settle(remove).await? {
        Outcome::Done
    } else {
        Outcome::Taken(vec![key])
    })
}

/// Puts a token's number where it is used once, for as long as the token is good.
pub async fn offer_token(store: &Store, token: &Token, seconds: u32) -> Result<(), Error> {
    let prefix = prefix(&token.trust.network);
    let lease = store.grant(seconds).await?;
    let path = format!("{prefix}{}", token.key());
    store.put(&path, token.hub.as_str().as_bytes(), lease).await
}

/// Makes this machine the hub of its token. The token is used then.
pub async fn join(
    store: &Store,
    token: &Token,
    hub: &Hub,
    generation: u64,
) -> Result<Outcome, Error> {
    let prefix = prefix(&token.trust.network);
    let path = format!("{prefix}{}", token.key());
    let Some(unused) = store.get(&path).await? else {
        return Ok(Outcome::NoToken);
    };
    let next = u32::try_from(token.trust.former.len()).unwrap_or(u32::MAX);
    let next = Key::Admin(next.saturating_add(1));
    if let Some(rotation) = store.get(&format!("{prefix}{next}")).await? {
        let mut known = Ledger::new(token.trust.clone());
        if known.offer(&next, &rotation.value) == Verdict::New {
            return Ok(Outcome::Rotated);
        }
    }
    let key = Key::Hub(token.hub.clone());
    let claim = token.claim(hub, generation);
    let hubs = format!("{prefix}{key}");
    let before = store.get(&hubs).await?;
    let mut known = Ledger::new(token.trust.clone());
    match before.as_ref().map(|entry| Signed::parse(&entry.value)) {
        // A newer Taltun's, which this one would take away.
        Some(Err(Unreadable::Newer(_))) => return Ok(Outcome::Taken(vec![key])),
        Some(Ok(theirs)) => drop(known.take(&key, theirs)),
        Some(Err(_)) | None => {}
    }
    // By a later token the hub is who joins by it: who had the name before has lost its disk.
    if known.take(&key, claim.clone()) != Verdict::New {
        return Ok(Outcome::Taken(vec![key]));
    }
    let revision = before.map_or(0, |entry| entry.revision);
    let join =
        Transaction::new()
            .delete(path, unused.revision)
            .replace(hubs, revision, claim.to_json());
    Ok(if store.settle(join).await? {
        Outcome::Done
    } else {
        Outcome::Taken(vec![key])
    })
}

/// Writes again what the store lost, where it has nothing, what is older, or what doesn't count by
/// `trust`. `false`: what is there stays. It is newer, or of a newer version, or somebody has written there
/// meanwhile, which will be heard of.
pub async fn write_again(
    store: &Store,
    trust: &Trust,
    key: &Key,
    signed: &Signed,
) -> Result<bool, Error> {
    let path = format!("{}{key}", prefix(&trust.network));
    let found = store.get(&path).await?;
    let counts = |theirs| {
        let verdict = Ledger::new(trust.clone()).take(key, theirs);
        !matches!(verdict, Verdict::Refused(_))
    };
    let stays = found
        .as_ref()
        .is_some_and(|entry| match Signed::parse(&entry.value) {
            Ok(theirs) => trust.rank(&theirs) >= trust.rank(signed) && counts(theirs),
            Err(unreadable) => matches!(unreadable, Unreadable::Newer(_)),
        });
    if stays {
        return Ok(false);
    }
    let revision = found.map_or(0, |entry| entry.revision);
    let again = Transaction::new().replace(path, revision, signed.to_json());
    store.settle(again).await
}

/// Gives the admin's key over to another one, where nobody did so before.
pub async fn rotate(
    store: &Store,
    network: &Label,
    key: &Key,
    rotation: &Signed,
) -> Result<Outcome, Error> {
    let path = format!("{}{key}", prefix(network));
    let rotate = Transaction::new().create(path, rotation.to_json());
    Ok(if store.settle(rotate).await? {
        Outcome::Done
    } else {
        Outcome::Taken(vec![key.clone()])
    })
}

/// Takes away all rotations of the admin's key, where a fleet begins anew.
pub async fn forget_rotations(store: &Store, network: &Label) -> Result<(), Error> {
    let rotations = store.list(&format!("{}admins/", prefix(network))).await?;
    let mut forget = Transaction::new();
    for rotation in rotations.entries {
        if let Ok(path) = String::from_utf8(rotation.key.to_vec()) {
            forget = forget.delete(path, rotation.revision);
        }
    }
    store.settle(forget).await.map(drop)
}

/// Removes a hub: these removals take the place of its records, and its tokens that nobody used can't be.
pub async fn remove_hub(
    store: &Store,
    network: &Label,
    hub: &Label,
    removals: &[(Key, Signed)],
) -> Result<Outcome, Error> {
    let prefix = prefix(network);
    let mut remove = Transaction::new();
    for (key, removal) in removals {
        let path = format!("{prefix}{key}");
        let revision = store.get(&path).await?.map_or(0, |entry| entry.revision);
        remove = remove.replace(path, revision, removal.to_json());
    }
    let tokens = store.list(&format!("{prefix}tokens/")).await?;
    for token in tokens.entries {
        if token.value == hub.as_str().as_bytes()
            && let Ok(path) = String::from_utf8(token.key.to_vec())
        {
            remove = remove.delete(path, token.revision);
        }
    }
    Ok(if store.settle(remove).await? {
        Outcome::Done
    } else {
        Outcome::Taken(vec![Key::Hub(hub.clone())])
    })
}

fn locks(name: &Label, vips: &[IpAddr]) -> impl Iterator<Item = Key> {
    let name = Key::Name(name.clone());
    std::iter::once(name).chain(vips.iter().map(|vip| Key::Vip(*vip)))
}
