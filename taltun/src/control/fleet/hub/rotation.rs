//! Another key for the admin, and hubs that are none any more.
//!
//! The next key is on the disk before etcd has the rotation to it, and until it is there as the admin's or another key is
//! that, so that it isn't lost with this process, nor where etcd's answer is. Once etcd
//! has the rotation (one transaction: of two at once one fails), all hubs that hear of it believe the next admin
//! alone. Each keeps that on its disk. This hub signs all records anew then, and seals the next key for the hubs that
//! are to have it. If it can't, another hub that has the key does it after a minute.

use std::time::{Duration, Instant};

use taltun_crypto::signing::SigningKey;
use taltun_fleet::edit::{self, Outcome};
use taltun_fleet::etcd::Error;
use taltun_fleet::{Key, Label, Signed, Verdict};
use tracing::{info, warn};

use super::{Changed, Done, Heard, Member, milliseconds};
use crate::control::fleet::edits::not_made;
use crate::control::fleet::link::Answer;
use crate::control::fleet::membership::{self, Admin, NextAdmin};
use crate::control::request::FleetKeyRotate;
use crate::control::{response, words};
use crate::report::Refused;

/// For how long another hub than the one that rotated the key leaves the records to that.
const LATE: Duration = Duration::from_secs(60);

impl Member {
    /// Has another key be the admin's.
    pub(super) fn rotate(&mut self, asked: &FleetKeyRotate, reply: Answer) {
        match self.prepare_rotation(asked) {
            Ok((key, rotation)) => {
                self.asks_to_rotate = true;
                let (store, network) = (self.hub.store.clone(), self.network().clone());
                let done = self.done.clone();
                tokio::spawn(async move {
                    let outcome = edit::rotate(&store, &network, &key, &rotation).await;
                    let _ = done.send(Done::Changed(
                        Changed::Rotated(key, rotation),
                        outcome,
                        reply,
                    ));
                });
            }
            Err(why) => reply.outcome(Err(why.into())),
        }
    }

    fn prepare_rotation(&self, asked: &FleetKeyRotate) -> Result<(Key, Signed), String> {
        let admin = self.able_admin()?;
        if self.rotating.is_some() {
            return Err(
                "records are still being signed anew since the last rotation (`taltun fleet status`); try again \
                 then (nothing was changed)"
                    .to_owned(),
            );
        }
        if self.asks_to_rotate {
            return Err("another rotation is under way (nothing was changed)".to_owned());
        }
        let without = asked.without.iter().map(|name| self.other_hub(name));
        let without: Vec<Label> = without.collect::<Result<_, _>>()?;
        let groups = (!asked.group_keys).then_some(&*admin.groups);
        let trust = &self.membership.trust;
        let is_former = |next: &NextAdmin| trust.former.contains(&next.admin.key.verifying_key());
        let next = NextAdmin {
            admin: match NextAdmin::read(&self.hub.files)?.filter(|next| !is_former(next)) {
                // It is the admin's, and may be nowhere else on the disk.
                Some(earlier) if self.is_admin(&earlier) => {
                    membership::write_admin(&self.hub.files, admin, trust)?;
                    self.membership.write(&self.hub.files)?;
                    Admin::new(groups)?
                }
                // Etcd may have got the rotation to a key that is left from an earlier try.
                Some(earlier) => Admin::with(earlier.admin.key, groups),
                None => Admin::new(groups)?,
            },
            without,
        };
        let to = next.admin.key.verifying_key();
        let rotation = self.ledger.rotation(&admin.key, to, milliseconds());
        let rotation = rotation.ok_or("the admin's key was rotated too often; make a new fleet")?;
        next.write(&self.hub.files)?;
        Ok(rotation)
    }

    /// Removes a hub: nobody believes it any more, and it gets no key.
    pub(super) fn remove_hub(&mut self, name: &str, reply: Answer) {
        let prepared = self.able_admin().and_then(|admin| {
            let hub = self.other_hub(name)?;
            let removals = self.removals(&admin.key, &hub);
            removals.map(|removals| (hub, removals))
        });
        let (hub, removals) = match prepared {
            Ok(prepared) => prepared,
            Err(why) => return reply.outcome(Err(why.into())),
        };
        let (store, network) = (self.hub.store.clone(), self.network().clone());
        let done = self.done.clone();
        // Etcd may tell of the removal before it answers.
        let had_admin = self.has_admin(&hub);
        tokio::spawn(async move {
            let outcome = edit::remove_hub(&store, &network, &hub, &removals).await;
            let _ = done.send(Done::Changed(
                Changed::Removed(hub, removals, had_admin),
                outcome,
                reply,
            ));
        });
    }

    /// The admin's key, where etcd can take what it signs.
    fn able_admin(&self) -> Result<&Admin, String> {
        let admin = self.admin.as_ref().ok_or(
            "this hub hasn't the admin's key; run the command on a hub that has it (`taltun fleet status` says so)",
        )?;
        match &self.error {
            _ if self.connected => Ok(admin),
            Some(error) => Err(not_made(error)),
            None => Err("etcd hasn't answered yet (nothing was changed)".to_owned()),
        }
    }

    /// A hub of the fleet that isn't this one.
    fn other_hub(&self, name: &str) -> Result<Label, String> {
        let hub: Option<Label> = name.parse().ok();
        let known = hub.filter(|hub| {
            let record = self.ledger.get(&Key::Hub(hub.clone()));
            record.is_some_and(|record| !record.removed)
        });
        match known {
            Some(hub) if hub == self.hub.settings.hub => Err(format!(
                "{hub} is this hub; run the command on another one (nothing was changed)"
            )),
            Some(hub) => Ok(hub),
            None => Err(format!(
                "the fleet has no hub called {name:?} (nothing was changed)"
            )),
        }
    }

    /// What takes a hub's records away.
    fn removals(&self, admin: &SigningKey, hub: &Label) -> Result<Vec<(Key, Signed)>, String> {
        let generation = self.ledger.next_generation(milliseconds());
        let generation = generation.ok_or(
            "the fleet's records have reached their last generation; rotate the admin's key first",
        )?;
        let keys = [Key::Hub, Key::Sealed, Key::Group].map(|key| key(hub.clone()));
        let held = keys.into_iter().filter(|key| {
            let held = self.ledger.get(key);
            held.is_some_and(|held| !held.removed)
        });
        let removal = |key| {
            let removal = Signed::removal(admin, self.network(), &key, generation);
            (key, removal)
        };
        Ok(held.map(removal).collect())
    }

    /// What became of a change in etcd.
    pub(super) fn changed(
        &mut self,
        changed: Changed,
        outcome: Result<Outcome, Error>,
        reply: Answer,
    ) {
        if matches!(changed, Changed::Rotated(..)) {
            self.asks_to_rotate = false;
        }
        // The next key stays on the disk in any case: etcd may have the rotation, or get it yet.
        let answer = match (outcome, changed) {
            (Ok(Outcome::Done), Changed::Rotated(key, rotation)) => self.rotated(&key, rotation),
            (Ok(Outcome::Done), Changed::Removed(hub, removals, had_admin)) => {
                for (key, removal) in removals {
                    if self.ledger.take(&key, removal) == Verdict::New {
                        self.take_new(&key);
                    }
                }
                Ok(removed(&hub, had_admin))
            }
            (Ok(_), _) => {
                Err("another hub was faster; look at `taltun fleet status` and try again (nothing was changed)".into())
            }
            (Err(error), _) => Err(not_made(&error)),
        };
        self.publish();
        reply.outcome(answer.map(response::Done).map_err(Refused::from));
    }

    fn rotated(&mut self, key: &Key, rotation: Signed) -> Result<String, String> {
        match self.ledger.take(key, rotation) {
            Verdict::New => self.take_new(key),
            // It was heard of already.
            Verdict::Same => {}
            _ => return Err("another hub rotated the key at the same time".to_owned()),
        }
        let hubs = self.ledger.all().filter_map(|(key, _)| match key {
            Key::Hub(hub) if *hub != self.hub.settings.hub && self.has_admin(hub) => {
                Some(hub.to_string())
            }
            _ => None,
        });
        let hubs: Vec<String> = hubs.collect();
        let whom = match hubs.len() {
            0 => "no other hub gets it".to_owned(),
            1 => format!("{} gets it by way of etcd", hubs[0]),
            _ => format!("{} get it by way of etcd", words::list(&hubs)),
        };
        Ok(format!(
            "the fleet's admin has a new key, {}; {whom}; keep a copy of it elsewhere. Tokens that nobody used can't \
             be used any more",
            self.hub.files.admin().display()
        ))
    }

    /// Believes whom the ledger believes by now, and keeps that on the disk.
    pub(super) fn follow_rotation(&mut self) {
        if *self.ledger.trust() == self.membership.trust {
            return;
        }
        self.membership.trust = self.ledger.trust().clone();
        let written = self.membership.write(&self.hub.files);
        if let Err(error) = &written {
            warn!("fleet: {error}; the rotation of the admin's key is in memory only");
        }
        self.rotating = Some(Instant::now());
        self.heard = Heard::Anew;
        self.admin = None;
        match self.next_admin() {
            Some(next) if self.is_admin(&next) => self.become_admin(next, written.is_ok()),
            next => {
                info!("fleet: the admin has another key from now on");
                self.take_admin(&Key::Sealed(self.hub.settings.hub.clone()));
                if next.is_some() {
                    // It is no admin's, and won't be any more.
                    NextAdmin::remove(&self.hub.files);
                }
            }
        }
        self.say_who();
        self.is_unsaved = true;
        self.save();
    }

    /// Goes on where this process ended in the middle of a rotation. To be called at its start.
    pub(super) fn resume_rotation(&mut self) {
        if self.admin.is_none()
            && let Some(next) = self.next_admin().filter(|next| self.is_admin(next))
        {
            self.become_admin(next, true);
        }
    }

    /// The key on the disk that is to be the admin's, or is by now.
    fn next_admin(&self) -> Option<NextAdmin> {
        NextAdmin::read(&self.hub.files).unwrap_or_else(|error| {
            warn!("fleet: {error}");
            None
        })
    }

    fn is_admin(&self, next: &NextAdmin) -> bool {
        let key = next.admin.key.verifying_key();
        self.membership.trust.admins.contains(&key)
    }

    /// This hub made the key that is the admin's by now. Its first place on the disk is kept until it has the other one,
    /// and `is_told`: the disk has it that this is the admin's key.
    fn become_admin(&mut self, next: NextAdmin, is_told: bool) {
        let NextAdmin { admin, without } = next;
        info!("fleet: this hub has the new key of the admin");
        let written = membership::write_admin(&self.hub.files, &admin, &self.membership.trust);
        match written {
            Ok(()) if is_told => NextAdmin::remove(&self.hub.files),
            Ok(()) => {}
            Err(error) => {
                let next = self.hub.files.next_admin();
                warn!(
                    "fleet: {error}; the admin's key is in {} alone",
                    next.display()
                );
            }
        }
        self.rotating.get_or_insert_with(Instant::now);
        for hub in &without {
            match self.removals(&admin.key, hub) {
                Ok(removals) => self.take_and_write(removals),
                Err(error) => warn!("fleet: {hub} isn't removed: {error}"),
            }
        }
        self.admin = Some(admin);
        self.share_admin();
        self.share_group();
        self.renew();
    }

    /// Signs all anew that a key before has signed.
    fn renew(&mut self) {
        let Some(admin) = &self.admin else { return };
        let renewed = self.ledger.renewed(&admin.key);
        self.take_and_write(renewed);
    }

    /// Sees a rotation through to its end: each second, and whenever etcd got something.
    pub(super) fn go_on_rotating(&mut self) {
        let Some(since) = self
            .rotating
            .filter(|_| self.connected && self.heard == Heard::All)
        else {
            return;
        };
        if since.elapsed() > LATE {
            self.rotating = Some(Instant::now());
            self.share_admin();
            self.share_group();
            self.renew();
        }
        // The configuration is the last, once etcd has all the others.
        if let Some(admin) = self.admin.as_ref().filter(|_| self.writes.len() == 0)
            && let Some(config) = self.ledger.renewed_config(&admin.key)
        {
            self.take_and_write(vec![(Key::Config, config)]);
        }
        if self.ledger.is_renewed() {
            if self.ledger.forget_former() {
                warn!("fleet: records that the admin's new key didn't sign don't count any more");
            }
            self.rotating = None;
            self.is_unsaved = true;
            self.soon();
        }
    }
}

fn removed(hub: &Label, had_admin: bool) -> String {
    let mut text = format!("{hub} is no hub of the fleet any more");
    if had_admin {
        text.push_str(
            "; it had the admin's key: `taltun fleet key rotate` makes that one useless, if somebody else may have it",
        );
    }
    text
}
