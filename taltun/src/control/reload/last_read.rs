//! The file as it was when it was last read and taken over.

use std::sync::Arc;

use super::plan;
use crate::config::{Config, keys};
use crate::control::peers::PeerList;
use crate::control::words;
use crate::crypto::PublicKey;

/// Peers that are named, at the most.
const NAMED: usize = 5;

/// The file as it was when it was last read and taken over.
#[derive(Debug, Clone)]
pub(in crate::control) struct LastRead {
    /// Without its peers.
    pub config: Arc<Config>,
    pub peers: PeerList,
}

impl LastRead {
    /// What is different in a file since, in words; nothing if it means the same.
    pub(super) fn different(&self, now: &Config) -> Vec<String> {
        let keys = keys::all().filter(|key| key.section != "peers");
        let keys = keys.filter(|key| !(key.same)(&self.config, now));
        let mut different: Vec<String> = keys.map(keys::Key::full_name).collect();
        for (section, was, is) in [
            (
                "[dns_routes]",
                self.config.dns_routes.is_some(),
                now.dns_routes.is_some(),
            ),
            ("[names]", self.config.names.is_some(), now.names.is_some()),
            ("[fleet]", self.config.fleet.is_some(), now.fleet.is_some()),
        ] {
            if was != is {
                different.push(section.to_owned());
            }
        }
        let peers = plan::differing(&self.peers, &now.peers);
        let label = |key: &PublicKey| {
            let mut all = now.peers.iter().chain(self.peers.iter());
            let found = all.find(|peer| peer.public_key == *key);
            found.map_or_else(|| key.to_string(), crate::config::Peer::label)
        };
        match &peers[..] {
            [] => {}
            few if few.len() <= NAMED => different.extend(few.iter().map(label)),
            many => different.push(words::count(many.len(), "peer")),
        }
        different
    }
}
