//! The fleet's peers as their records say. A record is read when another one counts, and not again: a change of one
//! of ten thousand peers costs what one costs.

use std::collections::{BTreeMap, BTreeSet};

use taltun_fleet::record::Peer;
use taltun_fleet::{Key, Ledger};

use crate::config::FleetPeer;
use crate::control::fleet::records::peer_of;
use crate::crypto::PublicKey;

/// The peers of a fleet.
#[derive(Debug, Default)]
pub(super) struct KnownPeers(BTreeMap<PublicKey, FleetPeer>);

impl KnownPeers {
    /// Reads the records of these keys, as `ledger` has them by now. Returns how many peers' were among them.
    pub(super) fn follow(&mut self, ledger: &Ledger, changed: &BTreeSet<Key>) -> usize {
        let mut read = 0;
        for key in changed {
            let Key::Peer(public_key) = key else { continue };
            read += 1;
            match ledger.record::<Peer>(key) {
                Some(Ok(record)) => {
                    self.0.insert(*public_key, peer_of(*public_key, record));
                }
                // It is removed, or of a newer version.
                _ => {
                    self.0.remove(public_key);
                }
            }
        }
        read
    }

    /// Their public keys.
    pub(super) fn keys(&self) -> impl Iterator<Item = PublicKey> {
        self.0.keys().copied()
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// All of them, by name.
    pub(super) fn by_name(&self) -> Vec<FleetPeer> {
        let mut peers: Vec<FleetPeer> = self.0.values().cloned().collect();
        peers.sort_by(|a, b| a.name.cmp(&b.name));
        peers
    }
}

#[cfg(test)]
mod tests {
    use taltun_crypto::signing::SigningKey;
    use taltun_fleet::record::{Extra, Limits};
    use taltun_fleet::{Label, Signed, Trust, Verdict};

    use super::*;

    #[test]
    fn a_change_of_one_of_many_peers_reads_one_record() {
        let admin = SigningKey::from_seed([7; 32]);
        let network: Label = "example".parse().unwrap();
        let mut ledger = Ledger::new(Trust::new(network.clone(), admin.verifying_key()));
        let put = |ledger: &mut Ledger, number: u16, generation, name: Option<&str>| {
            let mut bytes = [0x55; 32];
            bytes[..2].copy_from_slice(&number.to_be_bytes());
            let key = Key::Peer(PublicKey(bytes));
            let signed = match name {
                Some(name) => {
                    let peer = Peer {
                        name: name.parse().unwrap(),
                        vips: Vec::new(),
                        networks: Vec::new(),
                        limits: Limits::default(),
                        extra: Extra::new(),
                    };
                    Signed::new(&admin, &network, &key, generation, &peer)
                }
                None => Signed::removal(&admin, &network, &key, generation),
            };
            assert_eq!(ledger.take(&key, signed), Verdict::New);
        };
        for number in 0..1000 {
            put(&mut ledger, number, 1, Some(&format!("peer-{number}")));
        }
        let mut peers = KnownPeers::default();
        let mut follow = |ledger: &mut Ledger| {
            let changed = ledger.take_changed();
            peers.follow(ledger, &changed)
        };
        assert_eq!(follow(&mut ledger), 1000);
        assert_eq!(follow(&mut ledger), 0);
        put(&mut ledger, 500, 2, Some("ana"));
        assert_eq!(follow(&mut ledger), 1);
        put(&mut ledger, 501, 2, None);
        assert_eq!(follow(&mut ledger), 1);
        assert_eq!((peers.len(), peers.keys().count()), (999, 999));
        assert_eq!(peers.by_name()[0].name, "ana");
    }
}
