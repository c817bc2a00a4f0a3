//! As many peers as a network is to have.

use std::time::{Duration, Instant};

use taltun_fleet::etcd::Transaction;
use taltun_fleet::record::{Taken, write};
use taltun_fleet::{Bans, Homes, Key, Signed, Verdict, snapshot};

use crate::cluster::Cluster;
use crate::seen::{Seen, admin, network, path, peer, signed, trust};

const PEERS: u16 = 10_000;
/// etcd takes 128 changes in one transaction.
const AT_ONCE: usize = 40;

pub async fn ten_thousand_peers() {
    let cluster = Cluster::start(1).await;
    let store = cluster.store();
    let began = Instant::now();
    for numbers in (0..PEERS).collect::<Vec<_>>().chunks(AT_ONCE) {
        let mut add = Transaction::new();
        for number in numbers {
            let (public_key, peer) = peer(*number);
            let (key, signed) = signed(*number, 1);
            let taken = write(&Taken { peer: public_key.0 });
            add = add
                .create(path(&key), signed.to_json())
                .create(path(&Key::Name(peer.name)), taken.clone())
                .create(path(&Key::Vip(peer.vips[0])), taken);
        }
        assert!(store.settle(add).await.unwrap());
    }
    let written = began.elapsed();
    let began = Instant::now();
    let mut seen = Seen::start(store.clone(), Duration::from_secs(2));
    seen.until("synced", |seen| seen.synced == 1).await;
    let loaded = began.elapsed();
    assert_eq!(seen.ledger.all().count(), usize::from(PEERS));
    assert_eq!(seen.values.len(), 3 * usize::from(PEERS));
    // A change reaches the hub, while it compares all as well.
    let (public_key, _) = peer(77);
    let key = Key::Peer(public_key);
    let removal = Signed::removal(&admin(), &network(), &key, 2);
    let began = Instant::now();
    store
        .put(&path(&key), removal.to_json().as_bytes(), 0)
        .await
        .unwrap();
    seen.until("the change", |seen| seen.ledger.get(&key) == Some(&removal))
        .await;
    let changed = began.elapsed();
    // Comparing everything tells nothing twice, and costs no signature.
    seen.until("compared", |seen| seen.synced == 3).await;
    assert_eq!((seen.deleted, seen.lost.len()), (0, 0));
    let began = Instant::now();
    for (key, value) in seen.values.iter().filter(|(key, _)| key.is_signed()) {
        assert_eq!(seen.ledger.offer(key, value), Verdict::Same);
    }
    let again = began.elapsed();
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("fleet.snapshot");
    let began = Instant::now();
    let (homes, bans) = (Homes::default(), Bans::default());
    snapshot::save(&file, &seen.ledger, &homes, [&bans, &bans], 0).unwrap();
    let saved = began.elapsed();
    let began = Instant::now();
    let from_disk = snapshot::load(&file, trust(), 0).unwrap();
    assert_eq!(from_disk.ledger, seen.ledger);
    println!(
        "{PEERS} peers: written in {written:?}; loaded and verified in {loaded:?}; a change is told \
         after {changed:?}; known records offered again in {again:?}; snapshot saved in {saved:?}, \
         loaded in {:?}",
        began.elapsed()
    );
}
