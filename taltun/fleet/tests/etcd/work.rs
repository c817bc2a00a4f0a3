//! What the client does all day.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use taltun_crypto::PublicKey;
use taltun_crypto::signing::SigningKey;
use taltun_fleet::homes::{Home, shard_of};
use taltun_fleet::key::SHARDS;
use taltun_fleet::{HomeWriter, Homes, Key, Pace, Presence, Signed, edit, record};
use tokio::time::sleep;

use crate::cluster::Cluster;
use crate::seen::{Seen, name, network, path, signed, trust};

const HOUR: Duration = Duration::from_secs(3600);

pub async fn what_is_written_is_listed_watched_and_gone() {
    let cluster = Cluster::start(1).await;
    let store = cluster.store();
    store.put(&path(&name("before")), b"1", 0).await.unwrap();
    // No key of this network, nor one that Taltun writes.
    store.put("/taltun/v1/example0", b"x", 0).await.unwrap();
    store
        .put("/taltun/v1/example/other", b"x", 0)
        .await
        .unwrap();
    let mut seen = Seen::start(store.clone(), HOUR);
    seen.until("synced", |seen| seen.synced == 1).await;
    assert_eq!(seen.values.len(), 1);
    store.put(&path(&name("after")), b"2", 0).await.unwrap();
    let long = vec![b'x'; name("a").limit() + 1];
    store.put(&path(&name("long")), &long, 0).await.unwrap();
    seen.until("the new key", |seen| seen.has("after", "2"))
        .await;
    let listing = store.list("/taltun/v1/example/").await.unwrap();
    let revision = |of: &str| {
        let key = path(&name(of));
        let entry = listing.entries.iter().find(|entry| entry.key == key);
        entry.map_or(0, |entry| entry.revision)
    };
    // Of two that begin with the same revision one is too late.
    let replace = |value: &str| {
        taltun_fleet::etcd::Transaction::new()
            .replace(path(&name("after")), revision("after"), value)
            .delete(path(&name("before")), revision("before"))
    };
    assert!(store.settle(replace("3")).await.unwrap());
    assert!(!store.settle(replace("4")).await.unwrap());
    seen.until("the change", |seen| {
        seen.has("after", "3") && seen.deleted == 1
    })
    .await;
    assert_eq!(seen.values.len(), 1);
    assert_eq!(seen.lost, []);
    // More keys than one page has.
    for number in 0..2500 {
        let key = path(&name(&format!("many-{number}")));
        store.put(&key, b"x", 0).await.unwrap();
    }
    let listing = store.list("/taltun/v1/example/").await.unwrap();
    assert_eq!(listing.entries.len(), 2500 + 3);
    assert!(listing.entries.is_sorted_by_key(|entry| entry.key.clone()));
    seen.until("all of them", |seen| seen.values.len() == 2501)
        .await;
}

pub async fn a_key_of_a_lease_goes_with_its_hub_and_comes_back_with_etcd() {
    let cluster = Cluster::start(1).await;
    let store = cluster.store();
    let live = Key::Live("madrid".parse().unwrap());
    let is_there = async || store.get(&path(&live)).await.unwrap().is_some();
    let begin = || Presence::start(store.clone(), path(&live), Box::new(|| b"{}".to_vec()), 5);
    let presence = begin();
    wait(|| presence.is_there()).await;
    assert!(is_there().await);
    // Longer than the lease.
    sleep(Duration::from_secs(11)).await;
    assert!(is_there().await, "the lease is kept");
    // etcd takes the lease away, as it does when nobody could reach it for its time.
    let leases = cluster.ctl(&["lease", "list"]);
    let lease = leases.lines().last().unwrap();
    cluster.ctl(&["lease", "revoke", lease]);
    assert!(!is_there().await);
    let began = Instant::now();
    while !is_there().await {
        assert!(began.elapsed() < Duration::from_secs(10));
        sleep(Duration::from_millis(100)).await;
    }
    wait(|| presence.is_there()).await;
    presence.leave().await.unwrap();
    assert!(!is_there().await, "it left");
    // A hub that is killed leaves nothing behind for long.
    let presence = begin();
    wait(|| presence.is_there()).await;
    drop(presence);
    let began = Instant::now();
    while is_there().await {
        assert!(began.elapsed() < Duration::from_secs(15));
        sleep(Duration::from_millis(100)).await;
    }
}

async fn wait(is_so: impl Fn() -> bool) {
    let began = Instant::now();
    while !is_so() {
        assert!(began.elapsed() < Duration::from_secs(20));
        sleep(Duration::from_millis(20)).await;
    }
}

pub async fn homes_of_three_hubs_are_written_slowly_and_agree() {
    const RATE: u32 = 20;
    let cluster = Cluster::start(1).await;
    let hubs = ["madrid", "paris", "rome"];
    let homes: Vec<_> = hubs.map(|_| Arc::new(Mutex::new(Homes::default()))).into();
    // All peers shake hands with all hubs, each time with another one last.
    for number in 0..1000_u16 {
        let peer = peer(number);
        for (at, hub) in hubs.iter().enumerate() {
            let mut time = [0; 12];
            time[11] = ((usize::from(number) + at) % 3) as u8;
            let hub = hub.parse().unwrap();
            homes[at]
                .lock()
                .unwrap()
                .learn(peer, Home { at: time, hub });
        }
    }
    let listing = cluster.store().list("/").await.unwrap();
    let began = Instant::now();
    let writers: Vec<_> = homes
        .iter()
        .map(|homes| {
            let pace = Pace::new(RATE, 1);
            let homes = homes.clone();
            HomeWriter::start(
                cluster.store(),
                &network(),
                homes,
                pace,
                Box::new(|_, _| true),
            )
        })
        .collect();
    let mut seen = Seen::start(cluster.store(), HOUR);
    // What the hubs do with what the store tells: they learn of each other's peers.
    let newest = |number: u16| hubs[(0..3).max_by_key(|at| (number + at) % 3).unwrap() as usize];
    loop {
        seen.during(Duration::from_millis(200)).await;
        let mut agree = true;
        for homes in &homes {
            let mut homes = homes.lock().unwrap();
            for shard in 0..SHARDS {
                if let Some(value) = seen.values.get(&Key::Home(shard)) {
                    let stored: record::Homes = record::read(value).unwrap();
                    homes.read(shard, &stored, |_, _| true);
                }
            }
            agree &= homes.unwritten(None).is_none();
            agree &= (0..1000).all(|number| {
                let home = homes.get(&peer(number)).unwrap();
                home.hub.as_str() == newest(number)
            });
        }
        if agree {
            break;
        }
        assert!(began.elapsed() < Duration::from_secs(150));
    }
    let took = began.elapsed();
    drop(writers);
    // Each revision is a write.
    let writes = cluster.store().list("/").await.unwrap().at.revision - listing.at.revision;
    let most = f64::from(3 * RATE) * took.as_secs_f64() + 3.0;
    assert!(writes as f64 <= most, "{writes} writes in {took:?}");
    // Each hub writes each shard once, and some again: a hub that hears of an older write after its
    // own can't know which was later. There were 3000 handshakes.
    assert!(
        writes <= 6 * i64::from(SHARDS),
        "a write a handshake: {writes}"
    );
    println!("homes of 1000 peers at 3 hubs: {writes} writes in {took:?}");
}

pub async fn records_of_a_newer_version_are_left_alone() {
    let newer = br#"{"version":2,"peers":{},"generation":0,"payload":"","moons":3}"#;
    let cluster = Cluster::start(1).await;
    let store = cluster.store();
    let (key, signed) = signed(1, 9);
    let moved = peer(1);
    let shard = Key::Home(shard_of(&moved));
    for key in [&key, &shard] {
        store.put(&path(key), newer, 0).await.unwrap();
    }
    let written = edit::write_again(&store, &trust(), &key, &signed).await;
    assert_eq!(written, Ok(false));
    // What a stranger signed isn't newer, whatever it says.
    let stranger = SigningKey::from_seed([9; 32]);
    let forged = Signed::removal(&stranger, &network(), &key, signed.generation + 1);
    store
        .put(&path(&key), forged.to_json().as_bytes(), 0)
        .await
        .unwrap();
    let written = edit::write_again(&store, &trust(), &key, &signed).await;
    assert_eq!(written, Ok(true));
    store.put(&path(&key), newer, 0).await.unwrap();
    let homes = Arc::new(Mutex::new(Homes::default()));
    let home = Home {
        at: [1; 12],
        hub: "madrid".parse().unwrap(),
    };
    homes.lock().unwrap().learn(moved, home);
    let pace = Pace::new(20, 1);
    let is_believed = Box::new(|_: &PublicKey, _: &[u8; 12]| true);
    let writer = HomeWriter::start(store.clone(), &network(), homes.clone(), pace, is_believed);
    wait(|| homes.lock().unwrap().unwritten(None).is_none()).await;
    drop(writer);
    for key in [&key, &shard] {
        let entry = store.get(&path(key)).await.unwrap().unwrap();
        assert_eq!(entry.value, newer[..]);
    }
}

fn peer(number: u16) -> PublicKey {
    let mut key = [7; 32];
    key[..2].copy_from_slice(&number.to_le_bytes());
    PublicKey(key)
}
