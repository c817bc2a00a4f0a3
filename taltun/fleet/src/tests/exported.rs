//! A backup of the records as a text.

use super::*;
use crate::export::{self, BadExport};

#[test]
fn what_is_exported_comes_back_and_brings_nobody_back() {
    let mut ledger = Ledger::new(trust());
    let network = label("example");
    let sealed = Key::Sealed(label("madrid"));
    let secret = Signed::new(
        &admin(),
        &network,
        &sealed,
        1,
        &SealedKey::new([7; 32], &[0; 80]),
    );
    for (key, signed) in [
        (peer(2), signed(&peer(2), 4, "ana")),
        (peer(3), signed(&peer(3), 5, "eva")),
        (Key::Hub(label("madrid")), token().claim(&hub(5), 4)),
        (sealed.clone(), secret),
    ] {
        assert_eq!(offer(&mut ledger, &key, &signed), Verdict::New, "{key}");
    }
    let text = export::write(&ledger);
    assert_eq!(text.lines().count(), 4);
    let exported = export::read(&text).unwrap();
    assert_eq!(exported.trust, trust());
    let mut new = Ledger::new(exported.trust);
    for (key, signed) in &exported.records {
        assert_eq!(new.take(key, signed.clone()), Verdict::New);
    }
    assert!(new.get(&sealed).is_none(), "it has no secret");
    assert_eq!(new.record::<Peer>(&peer(2)), Some(Ok(named("ana"))));
    // Who was removed since stays so.
    let removal = Signed::removal(&admin(), &network, &peer(3), 6);
    assert_eq!(ledger.take(&peer(3), removal), Verdict::New);
    for (key, signed) in exported.records {
        let verdict = ledger.take(&key, signed);
        let expected = if key == peer(3) {
            Verdict::Older
        } else {
            Verdict::Same
        };
        assert_eq!(verdict, expected, "{key}");
    }
    // A rotation that nobody but the text knows of isn't read.
    let thief = SigningKey::from_seed([66; 32]);
    let (key, rotation) = ledger.rotation(&admin(), thief.verifying_key(), 9).unwrap();
    let with_rotation = format!(
        "{}{}\n",
        text.replacen("\"records\":3", "\"records\":4", 1),
        serde_json::to_string(&(key.to_string(), rotation)).unwrap()
    );
    let read = export::read(&with_rotation).unwrap();
    assert_eq!(read.records.len(), 3);
    // One that was cut, changed or isn't one.
    let lines: Vec<&str> = text.lines().collect();
    let malformed = |text: &str| matches!(export::read(text), Err(BadExport::Malformed(_)));
    assert!(malformed(&lines[..3].join("\n")) && malformed("") && malformed("{}"));
    for length in 0..text.len() - 1 {
        assert!(malformed(&text[..length]), "{length}");
    }
    let newer = text.replacen("\"taltun_fleet_export\":1", "\"taltun_fleet_export\":2", 1);
    assert_eq!(export::read(&newer).err(), Some(BadExport::Newer(2)));
    let thief = text.replace("10.0.0.2", "10.0.0.9");
    for (key, signed) in export::read(&thief).unwrap().records {
        let verdict = Ledger::new(trust()).take(&key, signed);
        let is_peer = matches!(key, Key::Peer(_));
        assert_eq!(
            verdict == Verdict::Refused(Refusal::BadSignature),
            is_peer,
            "{key}"
        );
    }
}
