//! What may be made once only.

use taltun_fleet::edit::{Outcome, add_peer, join, offer_token, remove_peer};
use taltun_fleet::record::{Extra, Hub};
use taltun_fleet::token::Right;
use taltun_fleet::{Key, Signed, Token};

use crate::cluster::Cluster;
use crate::seen::{Seen, admin, name, network, path, peer, signed, trust};

pub async fn a_name_and_an_address_are_one_peers() {
    let cluster = Cluster::start(1).await;
    let store = &cluster.store();
    let network = &network();
    let (ana_key, ana) = peer(1);
    let (key, signed_ana) = signed(1, 1);
    let added = add_peer(store, network, ana_key, &ana, &signed_ana).await;
    assert_eq!(added, Ok(Outcome::Done));
    let again = add_peer(store, network, ana_key, &ana, &signed_ana).await;
    assert_eq!(again, Ok(Outcome::Taken(vec![key.clone()])));
    // Another peer with her address, and one with her name.
    for (number, same_name) in [(2, false), (3, true)] {
        let (other_key, mut other) = peer(number);
        let expected = if same_name {
            other.name = ana.name.clone();
            Key::Name(ana.name.clone())
        } else {
            other.vips.extend(&ana.vips);
            Key::Vip(ana.vips[0])
        };
        let at = Key::Peer(other_key);
        let signed = Signed::new(&admin(), network, &at, 2, &other);
        let added = add_peer(store, network, other_key, &other, &signed).await;
        assert_eq!(added, Ok(Outcome::Taken(vec![expected])));
        // None of it is there.
        assert_eq!(store.get(&path(&at)).await, Ok(None));
        let own = Key::Vip(peer(number).1.vips[0]);
        assert_eq!(store.get(&path(&own)).await, Ok(None));
    }
    // Of many at once that want one address, one gets it.
    let many = (10..30).map(|number| async move {
        let (other_key, mut other) = peer(number);
        other.vips = vec!["10.9.200.1".parse().unwrap()];
        let at = Key::Peer(other_key);
        let signed = Signed::new(&admin(), network, &at, 3, &other);
        add_peer(store, network, other_key, &other, &signed).await
    });
    let mut done = 0;
    for outcome in at_once(many).await {
        done += usize::from(outcome.unwrap() == Outcome::Done);
    }
    assert_eq!(done, 1);
    // Her name and address are free again when she is removed, and her record stays as removed.
    let removal = Signed::removal(&admin(), network, &key, 4);
    let removed = remove_peer(store, network, ana_key, &ana, &removal).await;
    assert_eq!(removed, Ok(Outcome::Done));
    assert_eq!(
        store.get(&path(&Key::Name(ana.name.clone()))).await,
        Ok(None)
    );
    let left = store.get(&path(&key)).await.unwrap().unwrap();
    assert_eq!(left.value, removal.to_json());
    let (key, signed_ana) = signed(1, 5);
    let back = add_peer(store, network, ana_key, &ana, &signed_ana).await;
    assert_eq!(back, Ok(Outcome::Done));
    let mut seen = Seen::start(store.clone(), std::time::Duration::from_secs(60));
    seen.until("synced", |seen| seen.synced == 1).await;
    assert_eq!(seen.ledger.get(&key), Some(&signed_ana));
}

/// Runs all of them at once, in this task.
async fn at_once<T>(futures: impl Iterator<Item = impl Future<Output = T>>) -> Vec<T> {
    let mut waiting: Vec<_> = futures.map(|future| (Box::pin(future), None)).collect();
    std::future::poll_fn(|context| {
        let mut is_ready = true;
        for (future, output) in &mut waiting {
            if output.is_none() {
                match future.as_mut().poll(context) {
                    std::task::Poll::Ready(ended) => *output = Some(ended),
                    std::task::Poll::Pending => is_ready = false,
                }
            }
        }
        if is_ready {
            std::task::Poll::Ready(())
        } else {
            std::task::Poll::Pending
        }
    })
    .await;
    waiting
        .into_iter()
        .filter_map(|(_, output)| output)
        .collect()
}

fn right() -> Right {
    Right {
        expires: 2_000_000_000,
        admin: false,
        generation: 1,
    }
}

pub async fn a_token_makes_one_hub() {
    let cluster = Cluster::start(1).await;
    let store = &cluster.store();
    let hub = "madrid".parse().unwrap();
    let endpoints = vec![cluster.endpoint(0)];
    let token = Token::new(
        &admin(),
        trust(),
        hub,
        endpoints,
        right(),
        ([9; 16], [8; 32]),
    );
    let text = token.to_text();
    let says = |identity: u8| Hub {
        identity: [identity; 32],
        endpoints: Vec::new(),
        group: None,
        vips: Vec::new(),
        shared: None,
        extra: Extra::new(),
    };
    let copied = Token::parse(&text).unwrap();
    assert_eq!(
        join(store, &copied, &says(1), 2).await,
        Ok(Outcome::NoToken)
    );
    offer_token(store, &token, 600).await.unwrap();
    assert_eq!(join(store, &copied, &says(1), 2).await, Ok(Outcome::Done));
    // Nobody who saw the token gets in by it again.
    assert_eq!(
        join(store, &copied, &says(2), 3).await,
        Ok(Outcome::NoToken)
    );
    offer_token(store, &token, 600).await.unwrap();
    let second = join(store, &copied, &says(2), 3).await;
    let key = Key::Hub("madrid".parse().unwrap());
    assert_eq!(second, Ok(Outcome::Taken(vec![key.clone()])));
    let mut seen = Seen::start(store.clone(), std::time::Duration::from_secs(60));
    seen.until("synced", |seen| seen.synced == 1).await;
    let believed: Hub = seen.ledger.record(&key).unwrap().unwrap();
    assert_eq!(believed.identity, [1; 32]);
    // A token goes by itself when its time is over.
    let short = Token::new(
        &admin(),
        trust(),
        "paris".parse().unwrap(),
        Vec::new(),
        right(),
        ([10; 16], [11; 32]),
    );
    offer_token(store, &short, 1).await.unwrap();
    let began = std::time::Instant::now();
    while store.get(&path(&short.key())).await.unwrap().is_some() {
        assert!(began.elapsed() < std::time::Duration::from_secs(20));
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    assert_eq!(join(store, &short, &says(3), 3).await, Ok(Outcome::NoToken));
    assert_eq!(store.get(&path(&name("paris"))).await, Ok(None));
}
