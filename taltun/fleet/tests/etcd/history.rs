//! A store whose past isn't what it was: compacted, or an old backup's.

use std::time::Duration;

use taltun_fleet::edit::{self, Outcome};
use taltun_fleet::etcd::key_of;
use taltun_fleet::key::prefix;
use taltun_fleet::record::Peer;
use taltun_fleet::{Key, Signed, Verdict};

use crate::cluster::{Cluster, store};
use crate::proxy::{Mode, Proxy};
use crate::seen::{Seen, admin, name, network, path, peer, signed, trust};

const HOUR: Duration = Duration::from_secs(3600);

pub async fn compaction_hides_nothing() {
    let cluster = Cluster::start(1).await;
    let direct = cluster.store();
    let proxy = Proxy::start(cluster.client_port(0)).await;
    for key in ["stays", "changes", "goes"] {
        direct.put(&path(&name(key)), b"1", 0).await.unwrap();
    }
    let mut seen = Seen::start(store(&[proxy.endpoint()], None), HOUR);
    seen.until("synced", |seen| seen.synced == 1).await;
    for round in 0..2 {
        // Away for long, and for so short a time that the watch would go on where it was.
        proxy.set(Mode::Cuts);
        if round == 0 {
            seen.until("lost", |seen| !seen.lost.is_empty()).await;
        }
        let value = format!("round {round}");
        let changes = path(&name("changes"));
        direct.put(&changes, b"never seen", 0).await.unwrap();
        direct.put(&changes, value.as_bytes(), 0).await.unwrap();
        direct.put(&path(&name("comes")), b"1", 0).await.unwrap();
        let goes = path(&name("goes"));
        cluster.ctl(&["del", &goes]);
        let revision = direct.list("/").await.unwrap().at.revision;
        cluster.ctl(&["compact", &revision.to_string()]);
        proxy.set(Mode::Passes);
        seen.until("all changes", |seen| {
            seen.has("changes", &value) && seen.has("comes", "1") && seen.deleted == round + 1
        })
        .await;
        assert!(seen.has("stays", "1"));
        assert_eq!(seen.values.len(), 3);
        direct.put(&goes, b"1", 0).await.unwrap();
        seen.until("it is back", |seen| seen.has("goes", "1")).await;
    }
}

pub async fn an_old_backup_brings_nobody_back() {
    let mut cluster = Cluster::start(1).await;
    let store = cluster.store();
    let network = network();
    for number in [1, 2] {
        let (public_key, peer) = peer(number);
        let (_, signed) = signed(number, u64::from(number));
        let added = edit::add_peer(&store, &network, public_key, &peer, &signed).await;
        assert_eq!(added, Ok(Outcome::Done));
    }
    let mut seen = Seen::start(store.clone(), HOUR);
    seen.until("synced", |seen| seen.synced == 1).await;
    let backup = cluster.dir().join("backup.db");
    cluster.ctl(&["snapshot", "save", &backup.display().to_string()]);
    // After the backup: one is removed, one is added, one changes, and much else is written.
    let (gone, gone_peer) = peer(1);
    let removal = Signed::removal(&admin(), &network, &Key::Peer(gone), 3);
    let removed = edit::remove_peer(&store, &network, gone, &gone_peer, &removal).await;
    assert_eq!(removed, Ok(Outcome::Done));
    let (added, added_peer) = peer(3);
    let (_, signed_added) = signed(3, 4);
    let done = edit::add_peer(&store, &network, added, &added_peer, &signed_added).await;
    assert_eq!(done, Ok(Outcome::Done));
    let (changed, signed_changed) = signed(2, 5);
    let json = signed_changed.to_json();
    store
        .put(&path(&changed), json.as_bytes(), 0)
        .await
        .unwrap();
    for _ in 0..100 {
        store.put("/other", b"x", 0).await.unwrap();
    }
    let is_up_to_date = |seen: &Seen| {
        let generation = |number| {
            let key = Key::Peer(peer(number).0);
            seen.ledger.get(&key).map(|held| held.generation)
        };
        [generation(1), generation(2), generation(3)] == [Some(3), Some(5), Some(4)]
    };
    seen.until("the changes", is_up_to_date).await;
    cluster.kill(0);
    cluster.restore(&backup);
    cluster.run(0);
    // The watch of before would wait in silence for a revision that is to come.
    let old = signed(1, 1).1.to_json();
    let gone_key = Key::Peer(gone);
    seen.until("the old record", |seen| {
        seen.values.get(&gone_key).map(Vec::as_slice) == Some(old.as_bytes())
    })
    .await;
    assert!(is_up_to_date(&seen), "the hub believes what it knew");
    assert_eq!(seen.ledger.offer(&gone_key, old.as_bytes()), Verdict::Older);
    assert!(seen.ledger.record::<Peer>(&gone_key).is_none());
    seen.until("synced", |seen| seen.synced >= 2).await;
    // Without any admin's key the hub writes again what the store lost.
    write_again(&seen).await;
    let mut fresh = Seen::start(cluster.store(), HOUR);
    fresh.until("synced", |seen| seen.synced == 1).await;
    assert!(is_up_to_date(&fresh), "a hub that is new learns the same");
    assert_eq!(fresh.ledger, seen.ledger);
}

async fn write_again(seen: &Seen) {
    let store = &seen.store;
    let trust = trust();
    let prefix = prefix(&trust.network);
    let listing = store.list(&prefix).await.unwrap();
    for (key, held) in seen.ledger.all() {
        let there = listing.entries.iter().find(|entry| {
            let at = key_of(&entry.key, &prefix);
            at.as_ref() == Some(key)
        });
        let is_same = there.is_some_and(|entry| entry.value == held.to_json());
        let written = edit::write_again(store, &trust, key, held).await;
        assert_eq!(written, Ok(!is_same), "{key}");
        // What is there already isn't written twice.
        assert_eq!(edit::write_again(store, &trust, key, held).await, Ok(false));
    }
}
