//! A key of the admin's that was rotated away signs nothing any more.

use super::*;
use crate::record::{Config, Rotation};

fn next() -> SigningKey {
    SigningKey::from_seed([2; 32])
}

fn config(by: &SigningKey, generation: u64) -> Signed {
    let config = Config {
        networks: Vec::new(),
        extra: Extra::new(),
    };
    Signed::new(by, &label("example"), &Key::Config, generation, &config)
}

/// Two peers, one that was removed, a hub by a token and the configuration.
fn full() -> Ledger {
    let mut ledger = Ledger::new(trust());
    let network = label("example");
    let all = [
        (Key::Config, config(&admin(), 1)),
        (peer(2), signed(&peer(2), 4, "ana")),
        (peer(3), signed(&peer(3), 5, "eva")),
        (peer(4), Signed::removal(&admin(), &network, &peer(4), 6)),
        (Key::Hub(label("madrid")), token().claim(&hub(5), 4)),
    ];
    for (key, signed) in &all {
        assert_eq!(offer(&mut ledger, key, signed), Verdict::New);
    }
    ledger
}

fn rotated(mut ledger: Ledger) -> (Ledger, Key, Signed) {
    let (key, rotation) = ledger
        .rotation(&admin(), next().verifying_key(), 100)
        .unwrap();
    assert_eq!(offer(&mut ledger, &key, &rotation), Verdict::New);
    (ledger, key, rotation)
}

#[test]
fn after_a_rotation_the_key_before_signs_nothing() {
    let (mut ledger, key, rotation) = rotated(full());
    assert_eq!(key, Key::Admin(1));
    assert_eq!(ledger.trust().former, [admin().verifying_key()]);
    // What counted counts on; nothing new does, whatever generation it has.
    let ana = ledger.record::<Peer>(&peer(2));
    assert_eq!(ana, Some(Ok(named("ana"))));
    let former = Verdict::Refused(Refusal::Former);
    for generation in [0, 50, 100, MAX_GENERATION] {
        for at in [2, 9] {
            let theirs = signed(&peer(at), generation, "thief");
            assert_eq!(offer(&mut ledger, &peer(at), &theirs), former);
        }
        let removal = Signed::removal(&admin(), &label("example"), &peer(2), generation);
        assert_eq!(offer(&mut ledger, &peer(2), &removal), former);
    }
    // Nor by a token that was made before.
    let paris = Key::Hub(label("madrid"));
    let claim = token().claim(&hub(5), MAX_GENERATION);
    assert_eq!(offer(&mut ledger, &paris, &claim), former);
    // Another rotation by the same key is none, and the first one can't be taken back.
    let thief = SigningKey::from_seed([66; 32]);
    let again = |next: &SigningKey, key: &Key| {
        let rotation = Rotation {
            next: next.verifying_key().0,
            extra: Extra::new(),
        };
        Signed::new(&admin(), &label("example"), key, MAX_GENERATION, &rotation)
    };
    let other = Verdict::Refused(Refusal::OtherRotation);
    assert_eq!(offer(&mut ledger, &key, &again(&thief, &key)), other);
    let second = Key::Admin(2);
    assert_eq!(offer(&mut ledger, &second, &again(&thief, &second)), former);
    let third = Key::Admin(3);
    let missing = Verdict::Refused(Refusal::RotationMissing);
    assert_eq!(offer(&mut ledger, &third, &again(&thief, &third)), missing);
    assert_eq!(offer(&mut ledger, &key, &rotation), Verdict::Same);
    // The admin of now can't hand over to one that was before.
    let (back, to_former) = ledger
        .rotation(&next(), admin().verifying_key(), 200)
        .unwrap();
    assert_eq!(offer(&mut ledger, &back, &to_former), other);
}

#[test]
fn all_is_signed_anew_and_what_wasnt_is_forgotten_then() {
    let (mut first, key, rotation) = rotated(full());
    // Another hub has heard of a peer that nobody else has.
    let mut other = full();
    assert_eq!(
        offer(&mut other, &peer(9), &signed(&peer(9), 7, "thief")),
        Verdict::New
    );
    let (mut other, ..) = {
        assert_eq!(offer(&mut other, &key, &rotation), Verdict::New);
        (other,)
    };
    assert!(!other.forget_former(), "before it is signed anew");
    assert_eq!(first.renewed_config(&next()), None);
    let renewed = first.renewed(&next());
    assert_eq!(renewed.len(), 4);
    assert_eq!(first.clone().renewed(&next()), renewed, "the same of all");
    for (key, signed) in &renewed {
        assert_eq!(offer(&mut first, key, signed), Verdict::New, "{key}");
        assert_eq!(offer(&mut other, key, signed), Verdict::New, "{key}");
    }
    let last = first.renewed_config(&next()).unwrap();
    for ledger in [&mut first, &mut other] {
        assert_eq!(offer(ledger, &Key::Config, &last), Verdict::New);
    }
    assert!(!first.forget_former(), "there is nothing left");
    assert!(other.renewed(&next()).is_empty());
    assert!(other.forget_former());
    assert_eq!(first, other);
    assert!(other.get(&peer(9)).is_none());
    assert_eq!(other.record::<Peer>(&peer(2)), Some(Ok(named("ana"))));
    assert!(other.get(&peer(4)).unwrap().removed);
    // The hub by a token is still who it was, and says so by what is granted it now.
    assert!(other.grant(&label("madrid")).unwrap().admin);
    let mut moved = hub(5);
    moved.endpoints.clear();
    let claim = other.claim(&token(), &moved, 9);
    let madrid = Key::Hub(label("madrid"));
    assert_eq!(offer(&mut other, &madrid, &claim), Verdict::New);
    // Who joins by a token of the new admin believes the same.
    let right = Right {
        expires: 2_000_000_000,
        admin: false,
        generation: 300,
    };
    let text = Token::new(
        &next(),
        other.trust().clone(),
        label("paris"),
        Vec::new(),
        right,
        ([7; 16], [8; 32]),
    );
    let joined = Token::parse(&text.to_text()).unwrap();
    assert_eq!(joined.trust, *other.trust());
    let mut new = Ledger::new(joined.trust);
    for (key, signed) in other.all() {
        assert_eq!(offer(&mut new, key, signed), Verdict::New, "{key}");
    }
    assert_eq!(new, other);
}

#[test]
fn the_last_generation_of_a_key_before_isnt_the_end() {
    let mut ledger = full();
    let last = signed(&peer(3), MAX_GENERATION, "eva");
    assert_eq!(offer(&mut ledger, &peer(3), &last), Verdict::New);
    assert_eq!(ledger.next_generation(100), None);
    let (mut ledger, ..) = rotated(ledger);
    for (key, signed) in ledger.renewed(&next()) {
        assert_eq!(offer(&mut ledger, &key, &signed), Verdict::New);
    }
    assert_eq!(ledger.next_generation(3), Some(101));
    let name = signed_by_next(&peer(3), 101);
    assert_eq!(offer(&mut ledger, &peer(3), &name), Verdict::New);
}

fn signed_by_next(key: &Key, generation: u64) -> Signed {
    Signed::new(&next(), &label("example"), key, generation, &named("eva"))
}

#[test]
fn rotations_come_from_the_disk_and_have_a_last_one() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("snapshot");
    let (ledger, ..) = rotated(full());
    let none = Bans::default();
    snapshot::save(&path, &ledger, &Homes::default(), [&none, &none], 1).unwrap();
    // Also if the disk has not kept whom to believe by now.
    for trust in [trust(), ledger.trust().clone()] {
        let loaded = snapshot::load(&path, trust, 1).unwrap();
        assert!(loaded.refused.is_empty(), "{:?}", loaded.refused);
        assert_eq!(loaded.ledger, ledger);
    }
    let mut trust = trust();
    let mut by = admin();
    let mut ledger = Ledger::new(trust.clone());
    for number in 0..MAX_ROTATIONS {
        let next = SigningKey::from_seed([100 + number as u8; 32]);
        let (key, rotation) = ledger.rotation(&by, next.verifying_key(), 1).unwrap();
        assert_eq!(offer(&mut ledger, &key, &rotation), Verdict::New);
        trust.rotate(by.verifying_key(), next.verifying_key());
        by = next;
    }
    assert_eq!(*ledger.trust(), trust);
    assert!(ledger.rotation(&by, admin().verifying_key(), 1).is_none());
}

/// Whoever has the key, or is a hub without it, may use up all generations but the last.
#[test]
fn after_a_rotation_there_are_generations_again_whatever_was_used_up() {
    let last = MAX_GENERATION - 1;
    let mut ledger = full();
    let madrid = Key::Hub(label("madrid"));
    let claim = token().claim(&hub(5), last);
    assert_eq!(offer(&mut ledger, &madrid, &claim), Verdict::New);
    assert_eq!(ledger.next_generation(50), Some(50), "a hub's own word");
    assert_eq!(
        ledger.next_claim(&label("madrid"), 50),
        Some(MAX_GENERATION)
    );
    let theirs = signed(&peer(9), last, "thief");
    assert_eq!(offer(&mut ledger, &peer(9), &theirs), Verdict::New);
    assert_eq!(ledger.next_generation(50), Some(MAX_GENERATION));
    let (mut ledger, ..) = rotated(ledger);
    for (key, renewed) in ledger.renewed(&next()) {
        assert_eq!(ledger.take(&key, renewed), Verdict::New, "{key}");
    }
    let config = ledger.renewed_config(&next()).unwrap();
    assert_eq!(ledger.take(&Key::Config, config), Verdict::New);
    assert!(ledger.is_renewed());
    assert_eq!(ledger.next_generation(200), Some(200));
    let removal = Signed::removal(&next(), &label("example"), &peer(9), 200);
    assert_eq!(offer(&mut ledger, &peer(9), &removal), Verdict::New);
}
