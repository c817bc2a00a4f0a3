//! Trust and merging: what must hold in whatever order, and whatever a store says.

use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use taltun_crypto::signing::SigningKey;
use taltun_crypto::{PrivateKey, PublicKey, sealed};

use crate::bans::Bans;
use crate::homes::{Heard, Home, Homes, is_believable, shard_of};
use crate::key::Key;
use crate::label::Label;
use crate::ledger::{Ledger, Refusal, Verdict};
use crate::record::{self, Ban, Extra, Hub, Limits, MAX_GENERATION, Peer, SealedKey};
use crate::signed::Signed;
use crate::snapshot::{self, NotLoaded};
use crate::token::{BadToken, Right, Token};
use crate::trust::{MAX_ROTATIONS, Trust};

mod exported;
mod rotation;

fn label(text: &str) -> Label {
    text.parse().unwrap()
}

fn admin() -> SigningKey {
    SigningKey::from_seed([1; 32])
}

fn trust() -> Trust {
    Trust::new(label("example"), admin().verifying_key())
}

fn peer(byte: u8) -> Key {
    Key::Peer(PublicKey([byte; 32]))
}

fn named(name: &str) -> Peer {
    Peer {
        name: label(name),
        vips: vec!["10.0.0.2".parse().unwrap()],
        networks: Vec::new(),
        limits: Limits::default(),
        extra: Extra::new(),
    }
}

fn signed(key: &Key, generation: u64, name: &str) -> Signed {
    Signed::new(&admin(), &label("example"), key, generation, &named(name))
}

fn offer(ledger: &mut Ledger, key: &Key, signed: &Signed) -> Verdict {
    ledger.offer(key, signed.to_json().as_bytes())
}

fn hub(identity: u8) -> Hub {
    Hub {
        identity: [identity; 32],
        endpoints: vec!["192.0.2.1:51820".to_owned()],
        group: None,
        vips: Vec::new(),
        shared: None,
        extra: Extra::new(),
    }
}

fn token() -> Token {
    let endpoints = vec!["https://10.1.0.1:2379".to_owned()];
    Token::new(
        &admin(),
        trust(),
        label("madrid"),
        endpoints,
        Right {
            expires: 2_000_000_000,
            admin: true,
            generation: 3,
        },
        ([9; 16], [8; 32]),
    )
}

#[test]
fn a_store_adds_nobody_whom_no_admin_signed() {
    let mut ledger = Ledger::new(trust());
    let key = peer(2);
    let thief = SigningKey::from_seed([66; 32]);
    let network = label("example");
    let by_thief = Signed::new(&thief, &network, &key, 9, &named("thief"));
    assert_eq!(
        offer(&mut ledger, &key, &by_thief),
        Verdict::Refused(Refusal::Stranger(thief.verifying_key()))
    );
    // What an admin signed, for another key, another network, or changed afterwards.
    let good = signed(&key, 1, "ana");
    let bad = Verdict::Refused(Refusal::BadSignature);
    assert_eq!(offer(&mut ledger, &peer(3), &good), bad);
    let elsewhere = Signed::new(&admin(), &label("other"), &key, 1, &named("ana"));
    assert_eq!(offer(&mut ledger, &key, &elsewhere), bad);
    let json = good.to_json();
    for (from, to) in [
        ("\"generation\":1", "\"generation\":2"),
        ("10.0.0.2", "10.0.0.3"),
    ] {
        let changed = json.replace(from, to);
        assert_ne!(changed, json);
        assert_eq!(ledger.offer(&key, changed.as_bytes()), bad, "{to}");
    }
    let removal = Signed::removal(&admin(), &network, &key, 1).to_json();
    let revived = removal.replace("\"removed\":true", "\"removed\":false");
    assert_eq!(ledger.offer(&key, revived.as_bytes()), bad);
    assert_eq!(
        ledger.offer(&Key::Home(1), json.as_bytes()),
        Verdict::Refused(Refusal::Unsigned)
    );
    assert_eq!(ledger.all().count(), 0);
    assert_eq!(offer(&mut ledger, &key, &good), Verdict::New);
    assert_eq!(offer(&mut ledger, &key, &good), Verdict::Same);
}

#[test]
fn a_removed_peer_stays_removed_whatever_the_store_has() {
    let mut ledger = Ledger::new(trust());
    let key = peer(2);
    let removal = Signed::removal(&admin(), &label("example"), &key, 5);
    assert_eq!(
        offer(&mut ledger, &key, &signed(&key, 4, "ana")),
        Verdict::New
    );
    assert_eq!(offer(&mut ledger, &key, &removal), Verdict::New);
    for generation in [0, 4, 5] {
        let old = signed(&key, generation, "ana");
        assert_eq!(offer(&mut ledger, &key, &old), Verdict::Older);
    }
    assert!(ledger.record::<Peer>(&key).is_none());
    // The store gets the removal again where it has nothing.
    let empty = BTreeSet::new();
    let missing: Vec<_> = ledger.missing(&empty).collect();
    assert_eq!(missing, [(&key, &removal)]);
    assert_eq!(ledger.missing(&[key.clone()].into()).count(), 0);
    // An admin can add it again, also with a clock that went back.
    let next = ledger.next_generation(3).unwrap();
    assert_eq!(next, 6);
    assert_eq!(
        ledger.next_generation(1_796_022_000_000),
        Some(1_796_022_000_000)
    );
    assert_eq!(
        offer(&mut ledger, &key, &signed(&key, next, "ana")),
        Verdict::New
    );
    assert_eq!(ledger.record::<Peer>(&key), Some(Ok(named("ana"))));
    let last = signed(&peer(3), MAX_GENERATION, "eva");
    assert_eq!(offer(&mut ledger, &peer(3), &last), Verdict::New);
    assert_eq!(ledger.next_generation(3), None);
    let beyond = signed(&peer(4), MAX_GENERATION + 1, "eva");
    assert!(matches!(
        offer(&mut ledger, &peer(4), &beyond),
        Verdict::Refused(Refusal::Unreadable(_))
    ));
}

#[test]
fn values_that_are_too_long_or_no_records_are_refused_before_anything_else() {
    let mut ledger = Ledger::new(trust());
    let long = vec![b'['; 64 << 10 | 1];
    assert_eq!(
        ledger.offer(&peer(2), &long),
        Verdict::Refused(Refusal::TooLong(65_537, 65_536))
    );
    let mut nested = signed(&peer(2), 1, "ana");
    for _ in 0..2 {
        nested = nested.clone().granted(nested);
    }
    for wrong in [b"".to_vec(), b"{}".to_vec(), nested.to_json().into_bytes()] {
        assert!(matches!(
            ledger.offer(&peer(2), &wrong),
            Verdict::Refused(Refusal::Unreadable(_))
        ));
    }
}

#[test]
fn the_order_and_the_number_of_times_make_no_difference() {
    let mut rng = ChaCha20Rng::seed_from_u64(23);
    let network = label("example");
    let names = ["ana", "eva", "leo"];
    for _ in 0..200 {
        let mut records = Vec::new();
        for _ in 0..12 {
            let key = peer((rng.next_u32() % 3) as u8);
            let generation = u64::from(rng.next_u32() % 4);
            let name = names[rng.next_u32() as usize % names.len()];
            records.push(match rng.next_u32() % 4 {
                0 => (
                    key.clone(),
                    Signed::removal(&admin(), &network, &key, generation),
                ),
                _ => (key.clone(), signed(&key, generation, name)),
            });
        }
        let mut expected = None;
        for _ in 0..4 {
            let mut ledger = Ledger::new(trust());
            shuffle(&mut rng, &mut records);
            // Each twice at the least, in one order and in another.
            for (key, signed) in &records {
                offer(&mut ledger, key, signed);
            }
            shuffle(&mut rng, &mut records);
            for (key, signed) in &records {
                assert_ne!(offer(&mut ledger, key, signed), Verdict::New);
            }
            // Two hubs that give each other what they have agree.
            let half = Ledger::new(trust());
            let mut other = records
                .iter()
                .take(6)
                .fold(half, |mut half, (key, signed)| {
                    offer(&mut half, key, signed);
                    half
                });
            for (key, signed) in ledger.all() {
                offer(&mut other, key, signed);
            }
            assert_eq!(other, ledger);
            assert_eq!(*expected.get_or_insert_with(|| ledger.clone()), ledger);
        }
    }
}

#[test]
fn a_token_makes_one_hub_and_only_the_one_it_is_for() {
    let token = Token::parse(&token().to_text()).unwrap();
    let madrid = Key::Hub(label("madrid"));
    let mut ledger = Ledger::new(token.trust.clone());
    assert_eq!(token.expires, 2_000_000_000);
    assert!(ledger.grant(&label("madrid")).is_none());
    let claim = token.claim(&hub(5), 4);
    let elsewhere = Key::Hub(label("paris"));
    assert_eq!(
        offer(&mut ledger, &elsewhere, &claim),
        Verdict::Refused(Refusal::BadSignature)
    );
    assert!(matches!(
        offer(&mut ledger, &peer(2), &claim),
        Verdict::Refused(Refusal::Stranger(_))
    ));
    assert_eq!(offer(&mut ledger, &madrid, &claim), Verdict::New);
    // It may say that it moved, but not that it is another.
    let mut moved = hub(5);
    moved.endpoints.clear();
    assert_eq!(
        offer(&mut ledger, &madrid, &token.claim(&moved, 5)),
        Verdict::New
    );
    assert_eq!(
        offer(&mut ledger, &madrid, &token.claim(&hub(6), 9)),
        Verdict::Refused(Refusal::TokenUsedTwice)
    );
    assert!(ledger.grant(&label("madrid")).unwrap().admin);
    // By a later token it is another one, whatever generation who had the name before makes up.
    let later = |generation: u64, id: u8| {
        let right = Right {
            expires: 2_000_000_000,
            admin: false,
            generation,
        };
        let endpoints = Vec::new();
        Token::new(
            &admin(),
            trust(),
            label("madrid"),
            endpoints,
            right,
            ([id; 16], [id; 32]),
        )
    };
    let again = later(4, 10).claim(&hub(6), 1);
    assert_eq!(offer(&mut ledger, &madrid, &again), Verdict::New);
    let late = token.claim(&hub(5), MAX_GENERATION);
    assert_eq!(offer(&mut ledger, &madrid, &late), Verdict::Older);
    let earlier = later(2, 11).claim(&hub(7), MAX_GENERATION);
    assert_eq!(offer(&mut ledger, &madrid, &earlier), Verdict::Older);
    // What an admin signs next is later than any grant.
    assert_eq!(ledger.next_generation(0), Some(5));
    // An admin removes it, and no generation that it makes up brings it back.
    let removal = Signed::removal(&admin(), &label("example"), &madrid, 5);
    assert_eq!(offer(&mut ledger, &madrid, &removal), Verdict::New);
    let late = token.claim(&hub(5), MAX_GENERATION);
    assert_eq!(offer(&mut ledger, &madrid, &late), Verdict::Older);
    assert!(ledger.record::<Hub>(&madrid).is_none());
}

#[test]
fn a_token_that_was_changed_or_cut_is_none() {
    let text = token().to_text();
    for length in 0..text.len() {
        assert!(Token::parse(&text[..length]).is_err(), "{length}");
    }
    // One that names another admin, with another's grant.
    let thief = SigningKey::from_seed([66; 32]);
    let mut other = trust();
    other.admins = [thief.verifying_key()].into();
    let mut changed = token();
    changed.trust = other;
    assert_eq!(
        Token::parse(&changed.to_text()).err(),
        Some(BadToken::Unsigned)
    );
    let mut elsewhere = token();
    elsewhere.hub = label("paris");
    assert_eq!(
        Token::parse(&elsewhere.to_text()).err(),
        Some(BadToken::Unsigned)
    );
}

#[test]
fn a_hub_gets_its_key_through_the_store_and_nobody_else_does() {
    let identity = PrivateKey::from_bytes([7; 32]);
    let key = Key::Sealed(label("madrid"));
    let context = key.to_string();
    let secret = [42; 32];
    let once = PrivateKey::from_bytes([3; 32]);
    let sealed = sealed::seal(once, &identity.public_key(), context.as_bytes(), &secret).unwrap();
    let record = SealedKey::new(identity.public_key().0, &sealed);
    let signed = Signed::new(&admin(), &label("example"), &key, 1, &record);
    let mut ledger = Ledger::new(trust());
    assert_eq!(offer(&mut ledger, &key, &signed), Verdict::New);
    let read: SealedKey = ledger.record(&key).unwrap().unwrap();
    let opened = sealed::open(&identity, context.as_bytes(), &read.bytes().unwrap()).unwrap();
    assert_eq!(*opened, secret);
}

fn shuffle<T>(rng: &mut ChaCha20Rng, items: &mut [T]) {
    for at in (1..items.len()).rev() {
        items.swap(at, rng.next_u32() as usize % (at + 1));
    }
}

fn home(hub: &str, at: u8) -> Home {
    Home {
        at: [at; 12],
        hub: label(hub),
    }
}

#[test]
fn a_peer_is_at_home_where_its_newest_handshake_was() {
    let mut homes = Homes::default();
    let ana = PublicKey([70; 32]);
    assert_eq!(homes.learn(ana, home("madrid", 2)), Heard::Moved);
    assert_eq!(homes.learn(ana, home("paris", 1)), Heard::Nothing);
    assert_eq!(homes.learn(ana, home("madrid", 3)), Heard::Stayed);
    assert_eq!(homes.learn(ana, home("paris", 4)), Heard::Moved);
    assert_eq!(homes.get(&ana), Some(&home("paris", 4)));
    let shard = shard_of(&ana);
    assert_eq!(homes.unwritten(None), Some(shard));
    // What was written comes back by the store, and there is no more to write.
    let stored = homes.shard(shard);
    assert!(homes.read(shard, &stored, |_, _| true).is_empty());
    assert_eq!(homes.unwritten(None), None);
    // A handshake with the same hub is no reason to write.
    homes.learn(ana, home("paris", 9));
    assert_eq!(homes.unwritten(None), None);
    // A store that was restored gets it again.
    assert!(
        homes
            .read(shard, &record::Homes::default(), |_, _| true)
            .is_empty()
    );
    assert_eq!(homes.unwritten(None), Some(shard));
}

#[test]
fn only_peers_that_are_known_take_memory_and_only_in_their_shard() {
    let mut writer = Homes::default();
    let ana = PublicKey([70; 32]);
    writer.learn(ana, home("madrid", 2));
    let mut stored = writer.shard(shard_of(&ana));
    let entry = stored.peers.values().next().unwrap().clone();
    stored.peers.insert("x".to_owned(), entry);
    let mut homes = Homes::default();
    assert!(homes.read(shard_of(&ana), &stored, |_, _| false).is_empty());
    assert!(
        homes
            .read(shard_of(&ana) + 1, &stored, |_, _| true)
            .is_empty()
    );
    assert_eq!(homes, Homes::default());
    assert_eq!(homes.read(shard_of(&ana), &stored, |_, _| true), [ana]);
}

/// Such a time would keep the peer from all hubs for ever: its handshakes would count as replayed.
#[test]
fn a_handshake_of_the_day_after_tomorrow_is_not_believed() {
    let now = Duration::from_secs(1_796_022_000);
    let at = |unix: u64| {
        let mut at = [0; 12];
        at[..8].copy_from_slice(&((1_u64 << 62) + 10 + unix).to_be_bytes());
        at
    };
    for (unix, is_believed) in [
        (0, true),
        (now.as_secs(), true),
        (now.as_secs() + 24 * 3600, true),
        (now.as_secs() + 24 * 3600 + 1, false),
    ] {
        assert_eq!(is_believable(&at(unix), now), is_believed, "{unix}");
    }
    assert!(!is_believable(&[0xff; 12], now));
    // A clock that isn't set judges nothing.
    assert!(is_believable(&[0xff; 12], Duration::from_secs(1000)));
    let mut homes = Homes::default();
    let ana = PublicKey([70; 32]);
    let mut stored = record::Homes::default();
    let entry = record::HomeEntry {
        at: [0xff; 12],
        hub: label("madrid"),
    };
    stored.peers.insert(crate::hex::encode(&ana.0), entry);
    let read = homes.read(shard_of(&ana), &stored, |_, at| is_believable(at, now));
    assert!(read.is_empty() && homes.get(&ana).is_none());
}

#[test]
fn both_sides_of_a_split_agree_on_homes_however_they_hear_of_each_other() {
    let mut rng = ChaCha20Rng::seed_from_u64(24);
    let hubs = ["madrid", "paris", "rome"];
    for _ in 0..200 {
        let mut sides = [Homes::default(), Homes::default()];
        let mut heard = Vec::new();
        for _ in 0..40 {
            let peer = PublicKey([(rng.next_u32() % 5) as u8; 32]);
            let hub = hubs[rng.next_u32() as usize % hubs.len()];
            let home = home(hub, (rng.next_u32() % 8) as u8);
            sides[rng.next_u32() as usize % 2].learn(peer, home.clone());
            heard.push((peer, home));
        }
        let naive = |peer: &PublicKey| {
            let homes = heard.iter().filter(|(of, _)| of == peer);
            homes.map(|(_, home)| home).max().cloned()
        };
        // By the store's shards one way, by single messages the other way.
        let [mut one, mut two] = sides;
        for shard in 0..5 {
            let stored = one.shard(shard);
            two.read(shard, &stored, |_, _| true);
            two.read(shard, &stored, |_, _| true);
        }
        let all: Vec<_> = two
            .all()
            .map(|(peer, home)| (*peer, home.clone()))
            .collect();
        for (peer, home) in all {
            one.learn(peer, home.clone());
            assert_eq!(one.learn(peer, home), Heard::Nothing);
        }
        assert!(one.all().eq(two.all()));
        for (peer, home) in one.all() {
            assert_eq!(Some(home), naive(peer).as_ref());
        }
    }
}

#[test]
fn each_shard_has_its_turn() {
    let mut homes = Homes::default();
    for byte in [3, 1, 2] {
        homes.learn(PublicKey([byte; 32]), home("madrid", 1));
    }
    let mut last = None;
    let mut turns = Vec::new();
    for _ in 0..4 {
        last = homes.unwritten(last);
        turns.extend(last);
    }
    assert_eq!(turns, [1, 2, 3, 1]);
}

fn ban(until: u64, decided: u64, lifted: bool) -> Ban {
    Ban {
        until,
        kept: 0,
        lifted,
        decided,
        by: label("madrid"),
        reason: String::new(),
    }
}

#[test]
fn the_last_decision_about_a_network_counts_until_its_end() {
    let net = "198.18.1.3/32".parse().unwrap();
    let mut bans = Bans::default();
    assert!(bans.learn(net, ban(100, 1, false), 10));
    assert!(!bans.learn(net, ban(100, 1, false), 10));
    assert!(bans.is_banned(&net, 99));
    assert!(!bans.is_banned(&net, 100));
    assert!(bans.learn(net, ban(100, 2, true), 10));
    assert!(!bans.is_banned(&net, 10));
    // A hub that was away brings the ban again: it was lifted.
    assert!(!bans.learn(net, ban(100, 1, false), 20));
    assert_eq!(bans.to_write(20).next().map(|(_, _, left)| left), Some(80));
    assert!(!bans.expire(99));
    assert!(bans.expire(100));
    assert_eq!(bans, Bans::default());
    assert!(!bans.learn(net, ban(100, 3, false), 100), "it is over");
}

#[test]
fn a_ban_that_was_shortened_stays_so_for_who_hears_of_the_longer_one_late() {
    let net = "198.18.1.3/32".parse().unwrap();
    let (long, short) = (ban(100, 1, false), ban(20, 2, false));
    let mut bans = Bans::default();
    bans.learn(net, long.clone(), 10);
    assert!(bans.learn(net, short, 10));
    let (_, told, left) = bans.to_write(30).next().unwrap();
    assert_eq!(left, 70);
    // At another hub, when it is over, and the longer one comes from a third.
    let mut other = Bans::default();
    other.learn(net, told.clone(), 30);
    other.learn(net, long, 30);
    assert!(!other.is_banned(&net, 30));
}

#[test]
fn bans_come_out_the_same_in_any_order() {
    let mut rng = ChaCha20Rng::seed_from_u64(25);
    for _ in 0..200 {
        let mut decisions: Vec<_> = (0..10)
            .map(|_| {
                let net = format!("10.0.{}.0/24", rng.next_u32() % 3);
                // Some are over already.
                let until = u64::from(8 + rng.next_u32() % 6);
                let decided = u64::from(rng.next_u32() % 4);
                let lifted = rng.next_u32().is_multiple_of(3);
                (net.parse().unwrap(), ban(until, decided, lifted))
            })
            .collect();
        let mut expected = None;
        for _ in 0..4 {
            shuffle(&mut rng, &mut decisions);
            let mut bans = Bans::default();
            for (net, ban) in decisions.iter().chain(&decisions) {
                bans.learn(*net, ban.clone(), 10);
            }
            assert_eq!(*expected.get_or_insert_with(|| bans.clone()), bans);
        }
    }
}

/// A hub that has known a while what is going on.
fn known() -> (Ledger, Homes, Bans) {
    let mut ledger = Ledger::new(trust());
    let gone = Signed::removal(&admin(), &label("example"), &peer(3), 7);
    assert_eq!(
        ledger.take(&peer(2), signed(&peer(2), 4, "ana")),
        Verdict::New
    );
    assert_eq!(ledger.take(&peer(3), gone), Verdict::New);
    let mut homes = Homes::default();
    homes.learn(PublicKey([2; 32]), home("madrid", 5));
    homes.learn(PublicKey([3; 32]), home("madrid", 5));
    let mut bans = Bans::default();
    bans.learn("198.18.1.3/32".parse().unwrap(), ban(100, 1, false), 10);
    bans.learn("198.18.1.4/32".parse().unwrap(), ban(20, 1, false), 10);
    (ledger, homes, bans)
}

#[test]
fn a_hub_starts_from_its_disk_with_what_it_knew() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("fleet.snapshot");
    assert!(matches!(
        snapshot::load(&path, trust(), 30),
        Err(NotLoaded::Missing)
    ));
    let (ledger, homes, bans) = known();
    let mut inner = Bans::default();
    inner.learn("10.0.0.5/32".parse().unwrap(), ban(90, 1, false), 10);
    for _ in 0..2 {
        snapshot::save(&path, &ledger, &homes, [&bans, &inner], 15).unwrap();
    }
    let mode = std::fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let mut loaded = snapshot::load(&path, trust(), 30).unwrap();
    assert_eq!(loaded.ledger, ledger);
    assert_eq!(loaded.refused, []);
    let ana = PublicKey([2; 32]);
    // The home of a peer that is removed is none.
    let homes: Vec<_> = loaded.homes.all().collect();
    assert_eq!(homes, [(&ana, &home("madrid", 5))]);
    assert_eq!(loaded.bans.on(30).count(), 1);
    assert_eq!(loaded.inner_bans, inner);
    // The old record from the store doesn't bring the peer back after a restart, either.
    let old = signed(&peer(3), 6, "eva");
    assert_eq!(offer(&mut loaded.ledger, &peer(3), &old), Verdict::Older);
    // Without its admin none of it counts.
    let mut others = trust();
    others.admins = [SigningKey::from_seed([4; 32]).verifying_key()].into();
    let loaded = snapshot::load(&path, others, 30).unwrap();
    assert_eq!(loaded.refused.len(), 2);
    assert_eq!(loaded.ledger.all().count() + loaded.homes.all().count(), 0);
}

#[test]
fn a_snapshot_that_isnt_whole_is_set_aside_and_said() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("fleet.snapshot");
    let (ledger, homes, bans) = known();
    snapshot::save(&path, &ledger, &homes, [&bans, &Bans::default()], 15).unwrap();
    let good = std::fs::read(&path).unwrap();
    let text = String::from_utf8(good.clone()).unwrap();
    let mut wrong: Vec<(Vec<u8>, &str)> = (0..good.len())
        .step_by(37)
        .map(|length| (good[..length].to_vec(), "damaged"))
        .collect();
    wrong.extend((0..good.len()).step_by(41).map(|at| {
        let mut bytes = good.clone();
        bytes[at] ^= 0x80;
        (bytes, "damaged")
    }));
    let newer = text.replacen("snapshot 1 ", "snapshot 2 ", 1);
    wrong.push((newer.into_bytes(), "newer"));
    for (bytes, ending) in wrong {
        std::fs::write(&path, &bytes).unwrap();
        match snapshot::load(&path, trust(), 30) {
            Err(NotLoaded::SetAside { to, .. }) => {
                assert!(to.ends_with(format!("fleet.snapshot.{ending}")), "{to:?}");
                assert_eq!(std::fs::read(to).unwrap(), bytes);
                assert!(!path.exists());
            }
            other => panic!("{} bytes: {other:?}", bytes.len()),
        }
    }
    let mut elsewhere = trust();
    elsewhere.network = label("other");
    std::fs::write(&path, &good).unwrap();
    assert!(matches!(
        snapshot::load(&path, elsewhere, 30),
        Err(NotLoaded::SetAside { .. })
    ));
}
