//! A file that was read, and its peers compared with those of the one before: what goes through all
//! peers is done where the file is read, so that the controller is left with what differs.

use std::sync::Arc;

use super::plan;
use crate::config::Loaded;
use crate::control::peers::{self, PeerInfos, PeerList};
use crate::crypto::PublicKey;

/// A file that was read, and its peers compared with those of the one before.
#[derive(Debug)]
pub(in crate::control) struct Compared {
    /// Its peers are in `peers`.
    pub loaded: Loaded,
    pub peers: PeerList,
    pub infos: PeerInfos,
    /// What they were compared with.
    pub base: PeerList,
    pub differing: Vec<PublicKey>,
}

impl Compared {
    pub(in crate::control) fn new(mut loaded: Loaded, base: PeerList) -> Self {
        let peers = Arc::new(std::mem::take(&mut loaded.config.peers));
        Self {
            infos: peers::infos(&peers),
            differing: plan::differing(&base, &peers),
            loaded,
            peers,
            base,
        }
    }
}
