//! Changing a peer of the fleet: by the same rules as one of the file, but what becomes of it goes to
//! etcd, and all hubs have it.

use std::thread::sleep;
use std::time::Duration;

use super::changes::{Known, change};
use super::edited::{Edited, Written};
use crate::config::{Edit, FleetPeer, FleetPeers, Loaded};
use crate::control::fleet::{FleetEdit, Link, NotEdited};
use crate::control::inside::Inside;
use crate::control::origin::Origin;
use crate::control::reload::compared::Compared;
use crate::control::reload::fleet::{load, odd};
use crate::control::reload::last_read::LastRead;
use crate::control::reload::not_read::NotRead;
use crate::control::request::PeerEdit;
use crate::control::words;
use crate::crypto::PublicKey;

/// How often it is tried where other hubs are faster.
const TRIES: usize = 5;
/// How long to wait for what another hub did.
const AGAIN: Duration = Duration::from_millis(200);

/// Whether a change is one of the fleet's: all new peers are, and those that came by it.
pub(super) fn is_meant(origin: &Origin, last: &LastRead, asked: &PeerEdit) -> bool {
    let whom = match asked {
        PeerEdit::New(_) => return true,
        PeerEdit::Remove(it) => &it.peer,
        PeerEdit::Rename(it) => &it.peer,
        PeerEdit::Rotate(it) => &it.peer,
        PeerEdit::Set(it) => &it.peer,
    };
    let key = meant(last, whom);
    let added = origin.overrides.fleet.get();
    key.is_some_and(|key| added.iter().any(|peer| peer.public_key == key))
}

/// Changes a peer in etcd.
pub(super) fn edit(
    origin: &Origin,
    last: &LastRead,
    link: &Link,
    inside: &Inside,
    asked: &PeerEdit,
) -> Result<Edited, NotRead> {
    let mut taken = String::new();
    for _ in 0..TRIES {
        match attempt(origin, last, link, inside, asked)? {
            Ok(edited) => return Ok(edited),
            Err(why) => taken = why,
        }
        // Until this hub has heard of it, too.
        sleep(AGAIN);
    }
    Err(taken.into())
}

/// The same, once; why it may be tried again, if another hub was faster.
fn attempt(
    origin: &Origin,
    last: &LastRead,
    link: &Link,
    inside: &Inside,
    asked: &PeerEdit,
) -> Result<Result<Edited, String>, NotRead> {
    let before = link.peers();
    let now = load(origin, last, FleetPeers::clone(&before))?;
    let key = match asked {
        PeerEdit::New(_) => None,
        PeerEdit::Remove(it) => Some(&it.peer),
        PeerEdit::Rename(it) => Some(&it.peer),
        PeerEdit::Rotate(it) => Some(&it.peer),
        PeerEdit::Set(it) => Some(&it.peer),
    };
    let key = key.and_then(|whom| meant(last, whom));
    let peer = before.iter().find(|peer| Some(peer.public_key) == key);
    let text = peer.map_or_else(String::new, FleetPeer::to_toml);
    let known = Known {
        text: &text,
        config: &now.config,
        inside,
    };
    let (text, mut answer) = change(&known, asked)?;
    let after = FleetPeer::of_toml(&text)?;
    let edit = FleetEdit {
        before: peer.cloned(),
        after: after.clone(),
    };
    // What it would be here is checked before anybody hears of it.
    let others = before.iter().filter(|peer| Some(peer.public_key) != key);
    let mut all: Vec<FleetPeer> = others.chain(&after).cloned().collect();
    // As the fleet will have them.
    all.sort_by(|a, b| a.name.cmp(&b.name));
    let all: FleetPeers = all.into();
    let checked = load(origin, last, FleetPeers::clone(&all))?;
    if let Some(after) = &after
        && let Some(odd) = about(&checked, &after.public_key)
    {
        return Err(format!("{odd} (nothing was changed)").into());
    }
    let peers = match link.edit(edit) {
        Ok(peers) => peers,
        Err(NotEdited::Taken(why)) => return Ok(Err(why)),
        Err(NotEdited::Because(why)) => return Err(why.into()),
    };
    // Nearly always nobody else changed any meanwhile.
    let mut new = if peers == all {
        checked
    } else {
        load(origin, last, FleetPeers::clone(&peers))?
    };
    origin.overrides.fleet.set(peers);
    origin.overrides.fleet.set_odd(odd(&new));
    new.warnings.clear();
    answer.done.push_str("; all hubs of the fleet have that");
    answer.warnings.extend(named_here(last, peer, asked));
    Ok(Ok(Edited {
        compared: Compared::new(new, last.peers.clone()),
        written: Written::Fleet,
        answer: Box::new(answer),
    }))
}

/// The key of the only peer that has this name or key.
fn meant(last: &LastRead, whom: &str) -> Option<PublicKey> {
    if let Ok(key) = whom.parse() {
        return Some(key);
    }
    let mut named = last
        .peers
        .iter()
        .filter(|peer| peer.name.as_deref() == Some(whom));
    match (named.next(), named.next()) {
        (Some(peer), None) => Some(peer.public_key),
        _ => None,
    }
}

/// What is odd about a peer.
fn about(loaded: &Loaded, key: &PublicKey) -> Option<String> {
    let key = key.to_string();
    let mut warnings = loaded.warnings.iter();
    warnings.find(|warning| warning.contains(&key)).cloned()
}

/// A warning where this hub's own file names a peer that goes, or has another name now.
fn named_here(last: &LastRead, peer: Option<&FleetPeer>, asked: &PeerEdit) -> Option<String> {
    if !matches!(asked, PeerEdit::Remove(_) | PeerEdit::Rename(_)) {
        return None;
    }
    let name = peer?.name.as_str();
    let fleet = last.config.fleet.as_ref()?;
    let mentions = Edit::of(&fleet.text).ok()?.mentions(|word| word == name);
    let places: Vec<String> = mentions
        .iter()
        .map(|mention| format!("{} (line {})", mention.what, mention.line))
        .collect();
    (!places.is_empty()).then(|| {
        format!(
            "this hub's file names {name} in {}, where it means nobody from now on",
            words::list(&places)
        )
    })
}
