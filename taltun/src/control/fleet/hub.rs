//! The thread of a hub: it follows etcd, keeps what counts of it, and writes what is decided here.
//!
//! What etcd tells is another's text. It counts only with an admin's signature ([`Ledger`]), and bans,
//! which have none, only until their end. Nothing is taken away because etcd is away: without it
//! the hub has what it knew last, also after a restart, from its disk.

mod claims;
mod clocks;
mod group;
mod known_peers;
mod published;
mod rotation;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use anyhow::Context as _;
use taltun_fleet::edit::Outcome;
use taltun_fleet::etcd::Error;
use taltun_fleet::homes::is_believable;
use taltun_fleet::key::prefix;
use taltun_fleet::record::{self, Ban, Extra, Live};
use taltun_fleet::snapshot::{self, NotLoaded};
use taltun_fleet::{
    Bans, Event, HomeWriter, Key, Label, Ledger, Mirror, Pace, Presence, Refusal, Signed, Store,
    Verdict,
};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{interval, sleep, sleep_until};
use tracing::{info, warn};

use self::clocks::Clocks;
use self::known_peers::KnownPeers;
use super::edits::Prepared;
use super::health::{self, Asking};
use super::link::{Answer, FleetBan, FleetEdit, FleetHub, Link, NotEdited, Seen, Told};
use super::membership::{self, Admin, Files, Membership};
use super::settings::Settings;
use super::shared_homes::SharedHomes;
use super::writes::{self, Value, Writes};
use crate::config::{Fleet, FleetPeers, Interface};
use crate::control::state_file::wall_clock;
use crate::crypto::PrivateKey;
use crate::dataplane::clock;
use crate::layer::Layer;
use crate::os::capabilities;
use crate::report::{EtcdMember, UnixTime};

/// How often all is compared with etcd, whatever it tells by itself.
const FULL: Duration = Duration::from_secs(600);
/// How long this hub counts as connected without a word from it, seconds.
const LEASE: u32 = 10;
/// How long changes gather before the tunnel gets them.
const GATHER: Duration = Duration::from_millis(20);
/// The same while etcd tells all that it has: the tunnel needn't take ten thousand peers over in a hundred parts.
const LISTING: Duration = Duration::from_secs(1);
/// How often the disk gets what is new, at the most.
const SAVE: Duration = Duration::from_secs(5);
/// Records that don't count of which each is told, at the most.
const MOST_PROBLEMS: usize = 8;
/// Such records that are remembered at the most.
const MOST_REFUSED: usize = 1000;
/// Hubs that count as connected at the most.
const MOST_HUBS: usize = 4096;
/// How often etcd gets a record again that somebody replaced by one that doesn't count, at the most: seconds.
const RESTORE_EACH: u64 = 5;
/// Writes of homes a second, at the most, and at once.
const HOMES_A_SECOND: u32 = 5;

/// Starts the thread.
pub(super) fn start(fleet: &Fleet, interface: &Interface) -> anyhow::Result<Link> {
    let settings = Settings::of(fleet, interface)?;
    let store = settings.store()?;
    let (told, asked) = mpsc::unbounded_channel();
    let (peers, peers_seen) = watch::channel(FleetPeers::default());
    let (bans, bans_seen) = watch::channel(Arc::default());
    let (hubs, hubs_seen) = watch::channel(Arc::default());
    let (key, key_seen) = watch::channel(None);
    let homes = SharedHomes::new(settings.hub.clone());
    let seen: Arc<Mutex<Seen>> = Arc::default();
    let hub = Hub {
        files: Files::of(&interface.tun_name),
        store,
        told: asked,
        seen: Arc::clone(&seen),
        peers,
        bans,
        hubs,
        key,
        homes: homes.clone(),
        settings,
    };
    hub.see(|seen| {
        seen.status.interface.clone_from(&interface.tun_name);
        seen.status.name = hub.settings.network.to_string();
        seen.status.hub = hub.settings.hub.to_string();
        seen.status.etcd.members = health::unknown(&hub.settings.endpoints);
    });
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the fleet's thread")?;
    std::thread::Builder::new()
        .name("taltun-fleet".to_owned())
        .spawn(move || {
            // It starts before the programs are loaded.
            let _ = capabilities::lose(capabilities::OF_LOADING);
            runtime.block_on(hub.run());
        })
        .context("cannot start the fleet's thread")?;
    Ok(Link {
        told,
        seen,
        peers: peers_seen,
        bans: bans_seen,
        hubs: hubs_seen,
        key: key_seen,
        homes,
    })
}

/// The thread before it knows whom to believe.
struct Hub {
    settings: Settings,
    files: Files,
    store: Store,
    told: mpsc::UnboundedReceiver<Told>,
    seen: Arc<Mutex<Seen>>,
    peers: watch::Sender<FleetPeers>,
    bans: watch::Sender<Arc<Vec<FleetBan>>>,
    hubs: watch::Sender<Arc<Vec<FleetHub>>>,
    key: watch::Sender<Option<PrivateKey>>,
    homes: SharedHomes,
}

impl Hub {
    fn see(&self, change: impl FnOnce(&mut Seen)) {
        change(&mut self.seen.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// Until the controller ends.
    async fn run(mut self) {
        if let Some(membership) = self.join().await {
            Member::new(self, membership).run().await;
        }
    }

    /// Waits until this machine is a hub of the fleet: a command makes it one.
    async fn join(&mut self) -> Option<Membership> {
        let mut told_problem = None;
        loop {
            let problem = match Membership::read(&self.files) {
                Ok(Some(it)) if self.is_meant(&it) => return Some(it),
                Ok(Some(it)) => format!(
                    "this machine joined the fleet {} as {}, and [fleet] says {} and {}; write what \
                     it joined as into the file, or remove {} to join anew",
                    it.trust.network,
                    it.hub,
                    self.settings.network,
                    self.settings.hub,
                    self.files.dir().display(),
                ),
                Ok(None) => {
                    "this hub isn't in its fleet yet: run `taltun fleet init` on the first \
                    hub, or `taltun fleet join TOKEN` with a token of another hub"
                        .to_owned()
                }
                Err(error) => error,
            };
            if told_problem.as_ref() != Some(&problem) {
                warn!("fleet: {problem}");
                self.see(|seen| seen.status.problems = vec![problem.clone()]);
                told_problem = Some(problem.clone());
            }
            tokio::select! {
                () = sleep(Duration::from_secs(1)) => {}
                told = self.told.recv() => match told? {
                    Told::Edit(_, reply) => drop(reply.send(Err(NotEdited::Because(problem)))),
                    Told::Rotate(_, reply) | Told::RemoveHub(_, reply) => {
                        reply.outcome(Err(problem.into()));
                    }
                    Told::Ban(..) => {}
                    Told::Own(key) => self.settings.set_own(key),
                    Told::End(_) => return None,
                },
            }
        }
    }

    fn is_meant(&self, it: &Membership) -> bool {
        it.trust.network == self.settings.network && it.hub == self.settings.hub
    }
}

/// A change of the hubs that was tried in etcd.
enum Changed {
    /// A rotation of the admin's key.
    Rotated(Key, Signed),
    /// A hub is removed: its records' removals, and whether it had the admin's key.
    Removed(Label, Vec<(Key, Signed)>, bool),
}

/// What was done beside the loop.
enum Done {
    Written(Result<(), Error>),
    Edited(
        Vec<(Key, Signed)>,
        Result<(), NotEdited>,
        oneshot::Sender<Result<FleetPeers, NotEdited>>,
    ),
    Changed(Changed, Result<Outcome, Error>, Answer),
}

/// How much of what etcd has was heard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Heard {
    /// All has to be heard anew, as something counts by now that didn't.
    Anew,
    /// Not all yet.
    Partly,
    /// All.
    All,
}

/// The hub of a fleet.
struct Member {
    hub: Hub,
    membership: Membership,
    admin: Option<Admin>,
    /// Since when the admin has another key, until all is signed by that, or for when it was seen to last.
    rotating: Option<Instant>,
    /// Whether etcd is being asked for a rotation.
    asks_to_rotate: bool,
    ledger: Ledger,
    peers: KnownPeers,
    /// Outside and inside the tunnel.
    bans: [Bans; 2],
    /// What etcd has.
    stored: BTreeSet<Key>,
    live: BTreeMap<Label, Live>,
    clocks: Clocks,
    writes: Writes,
    connected: bool,
    heard: Heard,
    error: Option<Error>,
    revision: Option<u64>,
    members: Vec<EtcdMember>,
    /// Records that don't count.
    refused: BTreeMap<Key, String>,
    /// When etcd last had a rotation of the admin's key that isn't the one that this hub took.
    rival: Option<Instant>,
    /// Keys that count here, for which etcd has what doesn't.
    replaced: BTreeSet<Key>,
    /// Those of them that etcd got again in the last seconds: who believes others may write as often.
    restored: BTreeSet<Key>,
    /// Why this hub can't say who it is.
    unclaimed: Option<String>,
    /// When the tunnel gets what is new.
    publish_at: Option<tokio::time::Instant>,
    /// When what is known was saved on the disk, as long as etcd wasn't reached since the start.
    from_disk: Option<UnixTime>,
    is_unsaved: bool,
    saved: Option<Instant>,
    saved_at: Option<UnixTime>,
    not_saved: Option<String>,
    done: mpsc::UnboundedSender<Done>,
}

impl Member {
    fn new(hub: Hub, membership: Membership) -> Self {
        let trust = membership.trust.clone();
        let modified = std::fs::metadata(hub.files.snapshot()).and_then(|file| file.modified());
        let mut from_disk = modified.ok().and_then(since_epoch).map(UnixTime::at);
        let loaded = snapshot::load(&hub.files.snapshot(), trust.clone(), wall_clock());
        let (ledger, bans) = match loaded {
            Ok(loaded) => {
                for (key, refusal) in &loaded.refused {
                    warn!("fleet: {key} of the snapshot doesn't count any more: {refusal}");
                }
                hub.homes.begin(loaded.homes);
                (loaded.ledger, [loaded.bans, loaded.inner_bans])
            }
            Err(why) => {
                if !matches!(why, NotLoaded::Missing) {
                    warn!("fleet: {why}; the hub waits for etcd");
                }
                from_disk = None;
                (Ledger::new(trust), Default::default())
            }
        };
        let admin = membership::admin_of(&hub.files, ledger.trust()).unwrap_or_else(|error| {
            warn!("fleet: {error}");
            None
        });
        let rotating = ledger.former().next().map(|_| Instant::now());
        Self {
            members: health::unknown(&hub.settings.endpoints),
            hub,
            membership,
            admin,
            rotating,
            asks_to_rotate: false,
            ledger,
            peers: KnownPeers::default(),
            bans,
            stored: BTreeSet::new(),
            live: BTreeMap::new(),
            clocks: Clocks::default(),
            writes: Writes::default(),
            connected: false,
            heard: Heard::Partly,
            error: None,
            revision: None,
            refused: BTreeMap::new(),
            rival: None,
            replaced: BTreeSet::new(),
            restored: BTreeSet::new(),
            unclaimed: None,
            publish_at: None,
            from_disk,
            is_unsaved: false,
            saved: None,
            saved_at: None,
            not_saved: None,
            // Replaced before anything is done.
            done: mpsc::unbounded_channel().0,
        }
    }

    async fn run(mut self) {
        let (done, mut dones) = mpsc::unbounded_channel();
        self.done = done;
        let (network, hub) = (self.network().clone(), self.hub.settings.hub.clone());
        let store = self.hub.store.clone();
        let mut mirror = Mirror::start(store.clone(), &network, FULL);
        let since = wall_clock();
        let live = move || Live {
            taltun: env!("CARGO_PKG_VERSION").to_owned(),
            since,
            now: milliseconds(),
            extra: Extra::new(),
        };
        let live_path = format!("{}{}", prefix(&network), Key::Live(hub));
        let live = Box::new(move || record::write(&live()).into_bytes());
        let presence = Presence::start(store, live_path, live, LEASE);
        let (answers, mut answered) = mpsc::channel(16);
        let config = format!("{}{}", prefix(&network), Key::Config);
        let settings = &self.hub.settings;
        let asking = Asking::start(
            &settings.endpoints,
            settings.tls.as_ref(),
            &config,
            &answers,
        );
        let homes = self.hub.homes.clone();
        let writer = HomeWriter::start(
            self.hub.store.clone(),
            &network,
            homes.inner(),
            Pace::new(HOMES_A_SECOND, HOMES_A_SECOND),
            Box::new(move |peer, at| homes.is_known(peer) && is_believable(at, clock::wall())),
        );
        let mut seconds = interval(Duration::from_secs(1));
        // What was on the disk counts at once.
        self.follow_rotation();
        self.resume_rotation();
        self.take_group();
        self.publish();
        let ended = loop {
            if self.heard == Heard::Anew {
                mirror = Mirror::start(self.hub.store.clone(), &network, FULL);
                self.hear_again();
            }
            self.write_next();
            tokio::select! {
                event = mirror.next() => match event {
                    Some(event) => self.hear(event),
                    None => break None,
                },
                told = self.hub.told.recv() => match told {
                    Some(Told::Edit(edit, reply)) => self.edit(&edit, reply),
                    Some(Told::Rotate(asked, reply)) => self.rotate(&asked, reply),
                    Some(Told::RemoveHub(asked, reply)) => self.remove_hub(&asked.hub, reply),
                    Some(Told::Ban(nets, layer, seconds)) => self.ban(&nets, layer, seconds),
                    Some(Told::Own(key)) => {
                        self.hub.settings.set_own(key);
                        self.say_who();
                        self.take_group();
                        self.share_group();
                        self.soon();
                    }
                    Some(Told::End(reply)) => break Some(reply),
                    None => break None,
                },
                Some(done) = dones.recv() => self.finish(done),
                Some((place, member)) = answered.recv() => {
                    if let Some(known) = self.members.get_mut(place) {
                        *known = member;
                    }
                    self.soon();
                }
                () = sleep_until_some(self.publish_at) => self.publish(),
                _ = seconds.tick() => self.each_second(),
            }
        };
        drop((asking, writer));
        self.save();
        // The others needn't wait for the lease's end.
        let _ = tokio::time::timeout(Duration::from_secs(1), presence.leave()).await;
        if let Some(ended) = ended {
            let _ = ended.send(());
        }
    }

    fn network(&self) -> &Label {
        &self.membership.trust.network
    }

    /// All that etcd has is told anew.
    fn hear_again(&mut self) {
        self.heard = Heard::Partly;
        self.stored.clear();
        self.refused.clear();
        self.replaced.clear();
        self.live.clear();
    }

    /// Has the tunnel and `status` get what is new.
    fn soon(&mut self) {
        let gather = match self.heard {
            Heard::All => GATHER,
            Heard::Anew | Heard::Partly => LISTING,
        };
        self.within(gather);
    }

    /// The same, no later than that.
    fn within(&mut self, time: Duration) {
        let then = tokio::time::Instant::now() + time;
        self.publish_at = Some(self.publish_at.map_or(then, |known| known.min(then)));
    }

    fn hear(&mut self, event: Event) {
        match event {
            Event::Put(key, value) => {
                self.stored.insert(key.clone());
                self.put(key, &value);
            }
            Event::Deleted(key) => {
                self.stored.remove(&key);
                self.refused.remove(&key);
                self.replaced.remove(&key);
                if self.ledger.get(&key).is_some() {
                    self.writes.add(key);
                } else if let Key::Live(hub) = &key {
                    self.live.remove(hub);
                    self.clocks.forget(hub);
                }
            }
            Event::TooLong(key, length) => {
                let text = format!("its value has {length} bytes, more than it may have");
                self.refuse(key, text);
            }
            Event::Synced(revision) => {
                if !self.connected {
                    info!("fleet: connected to etcd, revision {revision}");
                }
                self.connected = true;
                self.heard = Heard::All;
                self.from_disk = None;
                self.error = None;
                self.revision = u64::try_from(revision).ok();
                self.write_missing();
                self.say_who();
                self.share_admin();
                self.share_group();
            }
            Event::Lost(error) => {
                warn!("fleet: etcd can't be reached: {error}; all goes on with what is known");
                self.connected = false;
                self.error = Some(error);
                self.within(GATHER);
            }
        }
        self.soon();
    }

    fn put(&mut self, key: Key, value: &[u8]) {
        let now = wall_clock();
        match &key {
            key if key.is_signed() => self.offer(key.clone(), value),
            Key::Ban(net) | Key::InnerBan(net) => match record::read::<Ban>(value) {
                Ok(ban) => {
                    self.refused.remove(&key);
                    self.is_unsaved |= self.bans[place(&key)].learn(*net, ban, now);
                }
                Err(error) => self.refuse(key, error.to_string()),
            },
            Key::Live(hub) => match record::read(value) {
                Ok(live) if self.live.len() < MOST_HUBS => {
                    // What a list has may be older than a moment.
                    if self.heard == Heard::All && *hub != self.hub.settings.hub {
                        self.clocks.hear(hub, &live, milliseconds());
                    }
                    self.live.insert(hub.clone(), live);
                    self.refused.remove(&key);
                }
                Ok(_) => {}
                Err(error) => self.refuse(key, error.to_string()),
            },
            Key::Home(shard) => match record::read(value) {
                Ok(stored) => {
                    self.hub.homes.read(*shard, &stored);
                    self.refused.remove(&key);
                }
                Err(error) => self.refuse(key, error.to_string()),
            },
            _ => {}
        }
    }

    fn offer(&mut self, key: Key, value: &[u8]) {
        self.replaced.remove(&key);
        match self.ledger.offer(&key, value) {
            Verdict::New => self.take_new(&key),
            Verdict::Same => {
                self.refused.remove(&key);
            }
            Verdict::Older => self.writes.add(key),
            Verdict::Refused(refusal) => {
                let is_known = self.ledger.get(&key).is_some();
                if is_known {
                    self.replaced.insert(key.clone());
                    if self.restored.insert(key.clone()) {
                        self.writes.add(key.clone());
                    }
                }
                if refusal == Refusal::OtherRotation {
                    self.rival = Some(Instant::now());
                }
                // etcd has these until all is signed anew.
                if is_known && refusal == Refusal::Former {
                    return;
                }
                self.refuse(key, refusal.to_string());
            }
        }
    }

    fn refuse(&mut self, key: Key, why: String) {
        // A store that somebody stole may have any number of them.
        if self.refused.len() >= MOST_REFUSED || self.refused.get(&key) == Some(&why) {
            return;
        }
        if self.refused.len() < MOST_PROBLEMS {
            warn!("fleet: the record {key} in etcd doesn't count: {why}");
        }
        self.refused.insert(key, why);
    }

    /// A record counts that didn't before.
    fn take_new(&mut self, key: &Key) {
        self.refused.remove(key);
        self.is_unsaved = true;
        match key {
            Key::Hub(hub) => {
                let is_removed = self.ledger.get(key).is_some_and(|held| held.removed);
                if is_removed && *hub == self.hub.settings.hub {
                    self.say_who();
                }
                self.share_admin();
                self.share_group();
                self.take_group();
            }
            Key::Sealed(hub) if *hub == self.hub.settings.hub => {
                self.take_admin(key);
                self.share_group();
            }
            Key::Group(hub) if *hub == self.hub.settings.hub => self.take_group(),
            Key::Admin(_) => self.follow_rotation(),
            _ => {}
        }
        self.soon();
    }

    /// Has etcd get what it doesn't have: it may be another one, or was restored from a backup.
    fn write_missing(&mut self) {
        let missing = self.ledger.missing(&self.stored).map(|(key, _)| key);
        let missing: Vec<Key> = missing.cloned().collect();
        let now = wall_clock();
        let bans = |place: usize, key: fn(ipnet::IpNet) -> Key| {
            let bans = self.bans[place].to_write(now);
            bans.map(move |(net, ..)| key(*net)).collect::<Vec<_>>()
        };
        let bans = [bans(0, Key::Ban), bans(1, Key::InnerBan)].concat();
        let bans = bans.into_iter().filter(|key| !self.stored.contains(key));
        for key in missing.into_iter().chain(bans) {
            self.writes.add(key);
        }
    }

    /// Changes a peer, beside the loop.
    fn edit(&mut self, edit: &FleetEdit, reply: oneshot::Sender<Result<FleetPeers, NotEdited>>) {
        let prepared = self.prepare(edit);
        let prepared = match prepared {
            Ok(prepared) => prepared,
            Err(why) => return drop(reply.send(Err(why))),
        };
        let (store, network) = (self.hub.store.clone(), self.network().clone());
        let done = self.done.clone();
        tokio::spawn(async move {
            let outcome = prepared.make(&store, &network).await;
            let _ = done.send(Done::Edited(prepared.signed, outcome, reply));
        });
    }

    fn prepare(&self, edit: &FleetEdit) -> Result<Prepared, NotEdited> {
        let Some(admin) = &self.admin else {
            return Err(NotEdited::Because(
                "this hub hasn't the admin's key, so that it can't change the fleet's peers; run \
                 the command on a hub that has it (`taltun fleet status` says so)"
                    .to_owned(),
            ));
        };
        if !self.connected {
            let why = self.error.as_ref().map(ToString::to_string);
            let why = why.unwrap_or_else(|| "it hasn't answered yet".to_owned());
            return Err(NotEdited::Because(format!(
                "etcd can't change the fleet now: {why}; traffic goes on as before (nothing was \
                 changed)"
            )));
        }
        Prepared::new(&self.ledger, &admin.key, edit, milliseconds())
    }

    fn finish(&mut self, done: Done) {
        match done {
            Done::Written(outcome) => {
                self.writes.done(&outcome, Instant::now());
                self.go_on_rotating();
                self.soon();
            }
            Done::Changed(changed, outcome, reply) => self.changed(changed, outcome, reply),
            Done::Edited(signed, Ok(()), reply) => {
                for (key, signed) in signed {
                    if self.ledger.take(&key, signed) == Verdict::New {
                        self.take_new(&key);
                    }
                }
                self.publish();
                let peers = Arc::clone(&self.hub.peers.borrow());
                let _ = reply.send(Ok(peers));
            }
            Done::Edited(_, Err(why), reply) => drop(reply.send(Err(why))),
        }
    }

    /// Decides about bans: all hubs hear of it.
    fn ban(&mut self, nets: &[ipnet::IpNet], layer: Layer, seconds: Option<u64>) {
        let now = wall_clock();
        for net in nets {
            let key = match layer {
                Layer::Outer => Key::Ban(*net),
                Layer::Inner => Key::InnerBan(*net),
            };
            let bans = &mut self.bans[place(&key)];
            let known = bans.on(now).find(|(known, _)| *known == net);
            let known = known.map(|(_, ban)| ban.clone());
            let until = match (seconds, &known) {
                (Some(seconds), _) => now.saturating_add(seconds),
                (None, Some(known)) => known.until,
                (None, None) => continue,
            };
            // Later than what it changes, whatever this clock says.
            let after = known.map_or(0, |known| known.decided.saturating_add(1));
            let ban = Ban {
                until,
                kept: 0,
                lifted: seconds.is_none(),
                decided: milliseconds().max(after),
                by: self.hub.settings.hub.clone(),
                reason: String::new(),
            };
            if bans.learn(*net, ban, now) {
                self.is_unsaved = true;
                self.writes.add(key);
            }
        }
        self.publish();
    }

    /// Writes the next thing that waits, beside the loop.
    fn write_next(&mut self) {
        if !self.connected {
            return;
        }
        while let Some(key) = self.writes.next(Instant::now()) {
            let Some(value) = self.value(&key) else {
                // It isn't known any more: a ban that is over.
                self.writes.done(&Ok(()), Instant::now());
                continue;
            };
            let (store, trust) = (self.hub.store.clone(), self.membership.trust.clone());
            let done = self.done.clone();
            tokio::spawn(async move {
                let outcome = writes::write(&store, &trust, &key, &value).await;
                let _ = done.send(Done::Written(outcome));
            });
        }
    }

    /// Has etcd get once more what counts, where it has what doesn't.
    fn restore(&mut self) {
        self.restored.clone_from(&self.replaced);
        for key in &self.restored {
            self.writes.add(key.clone());
        }
    }

    fn value(&self, key: &Key) -> Option<Value> {
        match key {
            Key::Ban(net) | Key::InnerBan(net) => {
                let mut bans = self.bans[place(key)].to_write(wall_clock());
                let (_, ban, left) = bans.find(|(known, ..)| *known == net)?;
                Some(Value::Ban(ban.clone(), left))
            }
            key => self.ledger.get(key).cloned().map(Value::Signed),
        }
    }

    fn each_second(&mut self) {
        let now = wall_clock();
        let [outer, inner] = &mut self.bans;
        if outer.expire(now) | inner.expire(now) {
            self.is_unsaved = true;
            self.soon();
        }
        self.go_on_rotating();
        if now.is_multiple_of(RESTORE_EACH) {
            self.restore();
        }
        self.is_unsaved |= self.hub.homes.take_changed();
        let is_time = self.saved.is_none_or(|saved| saved.elapsed() >= SAVE);
        if self.is_unsaved && is_time {
            self.save();
        }
    }

    fn save(&mut self) {
        if !self.is_unsaved {
            return;
        }
        let path = self.hub.files.snapshot();
        let bans = [&self.bans[0], &self.bans[1]];
        // The controller doesn't wait for the disk.
        let homes = self.hub.homes.with(|homes| homes.clone());
        let saved = snapshot::save(&path, &self.ledger, &homes, bans, wall_clock());
        self.saved = Some(Instant::now());
        match saved {
            Ok(()) => {
                self.is_unsaved = false;
                self.not_saved = None;
                self.saved_at = Some(UnixTime::at(clock::wall()));
            }
            Err(error) => {
                let text = format!("cannot write {}: {error}", path.display());
                if self.not_saved.as_ref() != Some(&text) {
                    warn!("fleet: {text}; without etcd a restart has what was written before");
                }
                self.not_saved = Some(text);
            }
        }
        self.soon();
    }
}

/// Which of the lists of bans a key belongs to.
fn place(key: &Key) -> usize {
    usize::from(matches!(key, Key::InnerBan(_)))
}

pub(super) fn milliseconds() -> u64 {
    u64::try_from(clock::wall().as_millis()).unwrap_or(u64::MAX)
}

fn since_epoch(time: SystemTime) -> Option<Duration> {
    time.duration_since(SystemTime::UNIX_EPOCH).ok()
}

async fn sleep_until_some(then: Option<tokio::time::Instant>) {
    match then {
        Some(then) => sleep_until(then).await,
        None => std::future::pending().await,
    }
}
