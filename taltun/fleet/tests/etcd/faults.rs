//! What breaks, and what goes on.

use std::time::{Duration, Instant};

use taltun_fleet::etcd::{Error, Transaction};
use tokio::time::sleep;

use crate::cluster::{Cluster, LIMITS, store};
use crate::proxy::{Mode, Proxy};
use crate::seen::{Seen, name, path};

const HOUR: Duration = Duration::from_secs(3600);

/// Writes until the store takes it.
async fn write(store: &taltun_fleet::Store, key: &str, value: &str) {
    let began = Instant::now();
    while store
        .put(&path(&name(key)), value.as_bytes(), 0)
        .await
        .is_err()
    {
        assert!(began.elapsed() < Duration::from_secs(30));
        sleep(Duration::from_millis(50)).await;
    }
}

pub async fn the_leader_is_killed_and_nothing_is_lost() {
    let mut cluster = Cluster::start(3).await;
    let store = cluster.store();
    let mut seen = Seen::start(store.clone(), HOUR);
    seen.until("synced", |seen| seen.synced == 1).await;
    write(&store, "first", "0").await;
    for round in 0..3 {
        let leader = cluster.leader();
        let value = format!("{round}");
        let killed = Instant::now();
        cluster.kill(leader);
        write(&store, "first", &value).await;
        write(&store, "second", &value).await;
        seen.until("both writes", |seen| {
            seen.has("first", &value) && seen.has("second", &value)
        })
        .await;
        println!(
            "leader {leader} killed: a write is told after {:?}",
            killed.elapsed()
        );
        cluster.run(leader);
        cluster.wait().await;
        sleep(Duration::from_secs(2)).await;
    }
    assert_eq!(seen.deleted, 0);
    assert_eq!(seen.values.len(), 2);
}

pub async fn etcd_is_away_and_nothing_is_deleted() {
    let mut cluster = Cluster::start(3).await;
    let store = cluster.store();
    write(&store, "stays", "1").await;
    let mut seen = Seen::start(store.clone(), HOUR);
    seen.until("synced", |seen| seen.synced == 1).await;
    for member in 0..3 {
        cluster.kill(member);
    }
    seen.until("lost", |seen| !seen.lost.is_empty()).await;
    seen.during(Duration::from_secs(4)).await;
    assert_eq!(seen.lost.len(), 1, "it is told once: {:?}", seen.lost);
    assert!(seen.has("stays", "1"));
    let asked = Instant::now();
    assert!(store.get(&path(&name("stays"))).await.is_err());
    assert!(asked.elapsed() < LIMITS.call + Duration::from_secs(1));
    for member in 0..3 {
        cluster.run(member);
    }
    write(&store, "new", "2").await;
    seen.until("the new key", |seen| seen.has("new", "2")).await;
    seen.until("synced again", |seen| seen.synced == 2).await;
    assert_eq!(seen.deleted, 0);
    assert!(seen.has("stays", "1"));
}

pub async fn a_member_without_the_others_changes_nothing_and_says_so() {
    let cluster = Cluster::start(3).await;
    write(&cluster.store(), "stays", "1").await;
    let alone = store(&[cluster.endpoint(0)], None);
    let mut seen = Seen::start(alone.clone(), HOUR);
    seen.until("synced", |seen| seen.synced == 1).await;
    for member in [1, 2] {
        cluster.signal(member, "-STOP");
    }
    let create = Transaction::new().create(path(&name("new")), "x");
    let asked = Instant::now();
    let made = alone.settle(create.clone()).await;
    assert!(made.is_err(), "{made:?}");
    assert!(asked.elapsed() < 3 * LIMITS.call, "{:?}", asked.elapsed());
    seen.until("lost", |seen| !seen.lost.is_empty()).await;
    assert_eq!(seen.deleted, 0);
    for member in [1, 2] {
        cluster.signal(member, "-CONT");
    }
    seen.until("synced again", |seen| seen.synced >= 2).await;
    // Whether the write waited for its quorum is uncertain, but it is there once or never.
    let began = Instant::now();
    loop {
        match alone.settle(create.clone()).await {
            Ok(true) => break,
            Ok(false) => {
                let there = alone.get(&path(&name("new"))).await.unwrap().unwrap();
                assert_eq!(there.value, "x");
                break;
            }
            Err(error) => assert!(began.elapsed() < Duration::from_secs(30), "{error}"),
        }
    }
}

pub async fn a_member_that_hangs_costs_its_limit_once() {
    let cluster = Cluster::start(1).await;
    let proxy = Proxy::start(cluster.client_port(0)).await;
    let both = store(&[proxy.endpoint(), cluster.endpoint(0)], None);
    write(&both, "first", "1").await;
    proxy.set(Mode::Hangs);
    let asked = Instant::now();
    let found = both.get(&path(&name("first"))).await.unwrap().unwrap();
    let first = asked.elapsed();
    assert_eq!(found.value, "1");
    assert!(first >= LIMITS.answer && first < LIMITS.call, "{first:?}");
    // From then on the other one is asked.
    let asked = Instant::now();
    for _ in 0..10 {
        both.get(&path(&name("first"))).await.unwrap();
    }
    assert!(asked.elapsed() < LIMITS.answer, "{:?}", asked.elapsed());
    // A write that hangs may be made or not, and isn't made twice.
    proxy.set(Mode::Passes);
    let through = store(&[proxy.endpoint(), cluster.endpoint(0)], None);
    through.get(&path(&name("first"))).await.unwrap();
    proxy.set(Mode::Hangs);
    let create = Transaction::new().create(path(&name("once")), "mine");
    let made = through.apply(create.clone()).await;
    assert!(matches!(made, Err(Error::Uncertain(_))), "{made:?}");
    // Whoever wants to know looks: here it wasn't.
    assert_eq!(through.settle(create.clone()).await, Ok(true));
    assert_eq!(through.settle(create).await, Ok(false));
}

pub async fn a_store_that_hangs_is_told_as_lost() {
    let cluster = Cluster::start(1).await;
    let direct = cluster.store();
    let proxy = Proxy::start(cluster.client_port(0)).await;
    let mut seen = Seen::start(store(&[proxy.endpoint()], None), HOUR);
    seen.until("synced", |seen| seen.synced == 1).await;
    // Silence alone is no reason: the store says that it lives.
    seen.during(3 * LIMITS.answer).await;
    assert_eq!((seen.lost.len(), seen.synced), (0, 1));
    proxy.set(Mode::Hangs);
    write(&direct, "meanwhile", "1").await;
    let hung = Instant::now();
    seen.until("lost", |seen| !seen.lost.is_empty()).await;
    let told = hung.elapsed();
    let most = 2 * LIMITS.answer + LIMITS.call + Duration::from_secs(2);
    assert!(told < most, "{told:?}");
    proxy.set(Mode::Passes);
    seen.until("synced again", |seen| seen.synced == 2).await;
    assert!(seen.has("meanwhile", "1"));
    // Cut, it goes on where it was, and nobody needs to know.
    proxy.set(Mode::Cuts);
    sleep(Duration::from_millis(50)).await;
    proxy.set(Mode::Passes);
    write(&direct, "meanwhile", "2").await;
    seen.until("the change", |seen| seen.has("meanwhile", "2"))
        .await;
    assert_eq!(seen.deleted, 0);
    println!("a store that hangs is told as lost after {told:?}");
}

pub async fn a_full_store_is_told_and_read() {
    let cluster = Cluster::with("http", 1, &["--quota-backend-bytes", "2000000"]).await;
    let store = cluster.store();
    let mut seen = Seen::start(store.clone(), HOUR);
    seen.until("synced", |seen| seen.synced == 1).await;
    let value = vec![b'x'; 60_000];
    let mut full = None;
    for number in 0..200 {
        let key = path(&name(&format!("big-{number}")));
        if let Err(error) = store.put(&key, &value, 0).await {
            full = Some((number, error));
            break;
        }
    }
    let (written, error) = full.expect("the quota is reached");
    assert!(matches!(error, Error::Full(_)), "{error}");
    assert!(error.to_string().contains("quota-backend-bytes"));
    // What is there is still read and told.
    seen.until("all of it", |seen| seen.values.len() == written)
        .await;
    assert_eq!(seen.lost, []);
    assert!(store.get(&path(&name("big-0"))).await.unwrap().is_some());
}
