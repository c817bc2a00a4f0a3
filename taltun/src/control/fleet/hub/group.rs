//! The key that the hubs of a group answer their peers with, so that a peer can go to any of them.
//!
//! It is made of a secret that goes with the admin's key, and of the group's name, so that each hub with the admin's
//! key makes the same. Each hub gets it sealed to its own key, signed by the admin, with the public key beside it.

use taltun_crypto::{hash, hmac, sealed};
use taltun_fleet::record::{GroupKey, Hub as HubRecord};
use taltun_fleet::{Key, Label};
use tracing::{info, warn};

use super::Member;
use super::claims::seal_for;
use crate::crypto::{PrivateKey, PublicKey};

/// What makes the key of a group, in the place of any other that might be made of the same secret.
const DOMAIN: &[u8] = b"taltun group 1";

impl Member {
    /// Gives all hubs the keys of their groups, as far as they haven't them.
    pub(super) fn share_group(&mut self) {
        let Some(admin) = &self.admin else { return };
        let mut made = Vec::new();
        for (hub, record) in self.hub_records() {
            let Some(group) = record.group.clone() else {
                continue;
            };
            let key = Key::Group(hub.clone());
            let known = self.ledger.record::<GroupKey>(&key);
            let is_its = matches!(&known, Some(Ok(known)) if known.of(&record).is_some());
            if is_its && !self.ledger.is_former(&key) {
                continue;
            }
            let private = group_key(&admin.groups, self.network(), &group);
            let Some(sealed) = seal_for(&record, &key, private.as_bytes()) else {
                continue;
            };
            let public = private.public_key().0;
            made.push((key, GroupKey::new(group, public, record.identity, &sealed)));
        }
        self.sign_all(made);
        self.take_group();
    }

    /// Has the tunnel answer with the key of this hub's group, once it is there.
    pub(super) fn take_group(&mut self) {
        let key = Key::Group(self.hub.settings.hub.clone());
        let record = self.ledger.record::<GroupKey>(&key);
        let says = &self.hub.settings.says;
        let record = record.and_then(Result::ok);
        let record = record.filter(|record| record.of(says).is_some());
        let public = record.as_ref().map(|record| PublicKey(record.public));
        let known = self.hub.key.borrow().as_ref().map(PrivateKey::public_key);
        if public == known {
            return;
        }
        let private = record.and_then(|record| {
            let own = &self.hub.settings.private_key;
            let opened = sealed::open(own, key.to_string().as_bytes(), &record.bytes()?).ok()?;
            let private = PrivateKey::from_bytes(opened.as_slice().try_into().ok()?);
            (private.public_key().0 == record.public).then_some(private)
        });
        match (&says.group, &private) {
            (Some(group), Some(_)) => info!("fleet: this hub has the key of the group {group}"),
            (Some(group), None) => {
                return warn!("fleet: the key of the group {group} can't be opened by this hub");
            }
            (None, _) => {}
        }
        self.hub.key.send_replace(private);
    }

    /// What the peers of a hub know it by.
    pub(super) fn answers_as(&self, hub: &Label, record: &HubRecord) -> PublicKey {
        let group = self.ledger.record::<GroupKey>(&Key::Group(hub.clone()));
        let group = group.and_then(Result::ok);
        let public = group.and_then(|group| group.of(record));
        PublicKey(public.unwrap_or(record.identity))
    }
}

fn group_key(secret: &[u8; 32], network: &Label, group: &Label) -> PrivateKey {
    let names = hash(&[network.as_str().as_bytes(), &[0], group.as_str().as_bytes()]);
    PrivateKey::from_bytes(hmac(secret, &[DOMAIN, &names]))
}
