//! Other peers of the fleet: the file is read again as it was when it was taken over, with these
//! beside its own. What somebody wrote into it since waits for a reload.

use std::collections::HashSet;

use super::compared::Compared;
use super::last_read::LastRead;
use crate::config::{self, AddedPeers, Config, FleetPeers, Loaded, Overrides};
use crate::control::origin::Origin;
use crate::crypto::PublicKey;

/// What begins the warnings about peers of the fleet.
const OF_FLEET: &str = "the fleet ";

/// The tunnel with these peers of the fleet.
pub(super) fn take(origin: &Origin, last: &LastRead, peers: FleetPeers) -> Compared {
    let added = &origin.overrides.fleet;
    let before = added.get();
    match load(origin, last, FleetPeers::clone(&peers)) {
        Ok(mut loaded) => {
            let known = before.iter().map(|peer| peer.public_key);
            let known: HashSet<PublicKey> = known.collect();
            added.set_odd(odd(&loaded));
            // Of the others it was told when they came.
            let new = peers.iter().map(|peer| peer.public_key);
            let new: HashSet<String> = new
                .filter(|key| !known.contains(key))
                .map(|key| key.to_string())
                .collect();
            // They name the peer and, in brackets, its key.
            let is_new = |warning: &String| {
                let mut words = warning.split(['(', ')']);
                warning.starts_with(OF_FLEET) && words.any(|word| new.contains(word))
            };
            loaded.warnings.retain(is_new);
            added.set(peers);
            Compared::new(loaded, last.peers.clone())
        }
        // Whoever was removed goes all the same.
        Err(reason) => {
            let left: HashSet<PublicKey> = peers.iter().map(|peer| peer.public_key).collect();
            let removed = before.iter().map(|peer| peer.public_key);
            let removed: HashSet<PublicKey> = removed.filter(|key| !left.contains(key)).collect();
            let stay = last
                .peers
                .iter()
                .filter(|it| !removed.contains(&it.public_key));
            let config = Config {
                peers: stay.cloned().collect(),
                ..(*last.config).clone()
            };
            let fewer = before.iter().filter(|it| !removed.contains(&it.public_key));
            added.set(fewer.cloned().collect::<Vec<_>>().into());
            let loaded = Loaded {
                config,
                warnings: vec![format!(
                    "the fleet's peers don't go with the file, so that only those are taken over that \
                     were removed: {reason}"
                )],
                past: Vec::new(),
                notes: Vec::new(),
            };
            Compared::new(loaded, last.peers.clone())
        }
    }
}

/// Which peers of the fleet don't fit the file.
pub(super) fn odd(loaded: &Loaded) -> Vec<String> {
    let warnings = loaded.warnings.iter();
    let odd = warnings.filter(|warning| warning.starts_with(OF_FLEET));
    odd.cloned().collect()
}

/// The file as it was, with these peers.
pub(super) fn load(origin: &Origin, last: &LastRead, peers: FleetPeers) -> Result<Loaded, String> {
    let (Some(path), Some(fleet)) = (&origin.path, &last.config.fleet) else {
        return Err("there is no file with [fleet]".to_owned());
    };
    let overrides = with(&origin.overrides, peers);
    config::load_text(path, &fleet.text, &overrides)
        .map_err(|error| error.to_string().replace('\n', "; "))
}

/// The same with these peers of the fleet, which nobody else sees.
fn with(overrides: &Overrides, peers: FleetPeers) -> Overrides {
    let fleet = AddedPeers::default();
    fleet.set(peers);
    Overrides {
        fleet,
        ..overrides.clone()
    }
}
