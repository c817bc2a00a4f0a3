//! What a store of a fleet may have, and what people paste: signed records, others, their keys, tokens.
//!
//! Whatever a stolen store says, only what the network's admin signed counts; each key and each record
//! has one text; two hubs that hear of homes and bans in another order believe the same.

use std::str;

use taltun_crypto::signing::SigningKey;
use taltun_fleet::homes::Homes;
use taltun_fleet::key::{Key, SHARDS};
use taltun_fleet::record::{
    self, Ban, Config, Grant, Hub, Live, Peer, Record, Rotation, SealedKey, Taken,
};
use taltun_fleet::{Bans, Ledger, Signed, Token, Trust, Verdict};

use crate::choices::Choices;

/// When bans are heard of: long before the end of most.
const NOW: u64 = 1_000;

pub(crate) fn run(input: &[u8]) {
    let mut choices = Choices::new(input);
    let what = choices.below(5);
    let rest = &input[input.len().min(1)..];
    match what {
        0 => records_of_a_ledger(rest),
        1 => keys_and_tokens(rest),
        2 => other_records(rest),
        3 => homes_in_any_order(rest),
        _ => bans_in_any_order(rest),
    }
}

/// Lines of a key and a value each, as the store tells them.
fn told(input: &[u8]) -> impl Iterator<Item = (Key, &[u8])> {
    input.split(|byte| *byte == b'\n').filter_map(|line| {
        let space = line.iter().position(|byte| *byte == b' ')?;
        let key = Key::parse(str::from_utf8(&line[..space]).ok()?)?;
        Some((key, &line[space + 1..]))
    })
}

/// The network whose admin's seed is all ones.
fn trust() -> Trust {
    let admin = SigningKey::from_seed([1; 32]);
    Trust::new("example".parse().unwrap(), admin.verifying_key())
}

fn records_of_a_ledger(input: &[u8]) {
    let mut ledger = Ledger::new(trust());
    for (key, value) in told(input) {
        let before = ledger.clone();
        let verdict = ledger.offer(&key, value);
        if verdict != Verdict::New {
            assert_eq!(ledger, before, "{verdict:?} changed something");
            continue;
        }
        let signed = Signed::parse(value).expect("it counts");
        assert_eq!(ledger.get(&key), Some(&signed));
        let text = signed.to_json();
        assert_eq!(Signed::parse(text.as_bytes()), Ok(signed.clone()));
        assert_eq!(ledger.offer(&key, text.as_bytes()), Verdict::Same);
        // Its signer is the admin, or has the admin's word.
        let is_admins = before.trust().admins.contains(&signed.signer());
        assert!(
            is_admins || matches!(key, Key::Hub(_) | Key::Admin(_)),
            "{key}"
        );
        // The same record says nothing of anything else.
        for other in [Key::Config, Key::Hub("elsewhere".parse().unwrap())] {
            let elsewhere = Ledger::new(trust()).offer(&other, value);
            assert!(other == key || elsewhere != Verdict::New, "{other}");
        }
    }
}

fn keys_and_tokens(input: &[u8]) {
    let Ok(text) = str::from_utf8(input) else {
        return;
    };
    if let Some(key) = Key::parse(text) {
        assert_eq!(key.to_string(), text, "a key with two texts");
    }
    if let Ok(token) = Token::parse(text) {
        let again = Token::parse(&token.to_text()).expect("it is its text");
        assert_eq!(again.to_text(), token.to_text());
        assert_eq!(again.key(), token.key());
    }
}

fn other_records(input: &[u8]) {
    there_and_back::<Peer>(input);
    there_and_back::<Config>(input);
    there_and_back::<Hub>(input);
    there_and_back::<SealedKey>(input);
    there_and_back::<Rotation>(input);
    there_and_back::<Grant>(input);
    there_and_back::<Taken>(input);
    there_and_back::<Live>(input);
    there_and_back::<Ban>(input);
    there_and_back::<record::Homes>(input);
}

fn there_and_back<T: Record + PartialEq + std::fmt::Debug>(json: &[u8]) {
    let Ok(record) = record::read::<T>(json) else {
        return;
    };
    assert!(record.too_long().is_none());
    let text = record::write(&record);
    assert_eq!(record::read::<T>(text.as_bytes()), Ok(record));
}

fn homes_in_any_order(input: &[u8]) {
    let told: Vec<record::Homes> = input
        .split(|byte| *byte == b'\n')
        .filter_map(|line| record::read(line).ok())
        .collect();
    let hear = |order: &mut dyn Iterator<Item = &record::Homes>| {
        let mut homes = Homes::default();
        for stored in order {
            for shard in 0..SHARDS {
                homes.read(shard, stored, |_, _| true);
            }
        }
        let all = homes.all().map(|(peer, home)| (*peer, home.clone()));
        all.collect::<Vec<_>>()
    };
    let forwards = hear(&mut told.iter());
    assert_eq!(forwards, hear(&mut told.iter().rev()));
    assert_eq!(forwards, hear(&mut told.iter().chain(&told)));
}

fn bans_in_any_order(input: &[u8]) {
    let told: Vec<_> = told(input)
        .filter_map(|(key, value)| match key {
            Key::Ban(net) | Key::InnerBan(net) => Some((net, record::read::<Ban>(value).ok()?)),
            _ => None,
        })
        .collect();
    let hear = |order: &mut dyn Iterator<Item = &(ipnet::IpNet, Ban)>| {
        let mut bans = Bans::default();
        for (net, ban) in order {
            bans.learn(*net, ban.clone(), NOW);
        }
        bans
    };
    let forwards = hear(&mut told.iter());
    assert_eq!(forwards, hear(&mut told.iter().rev()));
    assert_eq!(forwards, hear(&mut told.iter().chain(&told)));
}
