//! What holds for all keys: each is read, compared and refused as it declares.

use super::samples::{base, pair, read, value, with, without};
use super::{Key, Kind, all};

/// Keys that give one setting, or a setting that another one is part of.
const TOGETHER: &[(&str, &str)] = &[
    ("interface.private_key", "interface.private_key_file"),
    // Its own address is always allowed.
    ("peers.vip", "peers.allowed_ips"),
    ("peers.endpoint", "peers.endpoints"),
    ("rules.allow", "rules.deny"),
];

fn read_with(key: &'static Key, value: &str) -> Result<super::Config, String> {
    read(&with(key, value))
}

#[test]
fn each_key_is_read_and_compared_and_no_other_key_with_it() {
    for key in all() {
        let (before, after) = pair(key);
        let name = key.full_name();
        assert!((key.same)(&before, &before), "{name}");
        assert!(!(key.same)(&before, &after), "{name} changes nothing");
        for other in all().filter(|other| other.full_name() != name) {
            let pair = (&*name, &*other.full_name());
            if !TOGETHER.contains(&pair) && !TOGETHER.contains(&(pair.1, pair.0)) {
                assert!((other.same)(&before, &after), "{pair:?}");
            }
        }
    }
}

#[test]
fn what_is_not_given_is_the_default() {
    for key in all().filter(|key| !key.default.is_empty()) {
        let name = key.full_name();
        assert_ne!(value(key.default), value(key.example), "{name}");
        let given = read_with(key, key.default).unwrap();
        let not_given = read(&without(key)).unwrap();
        for compared in all() {
            assert!((compared.same)(&given, &not_given), "{name}");
        }
    }
}

#[test]
fn what_has_no_default_may_be_left_out_or_is_missed_by_name() {
    const REQUIRED: &[&str] = &[
        "interface.vip",
        "interface.private_key",
        "dns_routes.domains",
        "dns_routes.via",
        "dns_routes.upstream",
        "names.domain",
        "fleet.name",
        "fleet.hub",
        "fleet.etcd",
        "fleet.cert",
        "fleet.key",
        "peers.public_key",
        "forward.listen",
        "forward.to",
        "rules.from",
        "rules.to",
        "rules.allow",
    ];
    for key in all().filter(|key| key.default.is_empty()) {
        let name = key.full_name();
        match read(&without(key)) {
            Ok(_) => assert!(!REQUIRED.contains(&&*name), "{name}"),
            Err(error) => {
                assert!(REQUIRED.contains(&&*name), "{error}");
                assert!(error.contains(&format!("{name}: missing; ")), "{error}");
            }
        }
    }
}

#[test]
fn the_ends_of_each_range_are_taken_and_nothing_beyond() {
    for key in all() {
        let Kind::Number(least, most) = key.kind else {
            continue;
        };
        let name = key.full_name();
        let (least, most) = (i64::from(least), i64::from(most));
        for number in [least, most] {
            let taken = read_with(key, &number.to_string());
            assert!(taken.is_ok(), "{name} = {number}: {taken:?}");
        }
        for number in [least - 1, most + 1] {
            let error = read_with(key, &number.to_string()).unwrap_err();
            let expected =
                format!("{name}: expected a whole number from {least} to {most}, found {number}");
            assert!(error.contains(&expected), "{error}");
        }
    }
}

#[test]
fn each_of_the_words_is_taken_and_no_other() {
    for key in all() {
        let Kind::OneOf(words) = key.kind else {
            continue;
        };
        let name = key.full_name();
        for word in words {
            let taken = read_with(key, &format!("{word:?}"));
            assert!(taken.is_ok(), "{name} = {word}: {taken:?}");
        }
        let error = read_with(key, "\"other\"").unwrap_err();
        let expected = format!("{name}: expected {:?} or ", words[0]);
        assert!(error.contains(&expected), "{error}");
    }
}

#[test]
fn a_value_of_another_kind_is_refused_by_the_name_of_the_key() {
    for key in all() {
        let name = key.full_name();
        let a_text = value(key.example);
        let in_a_list = format!("[{}]", key.example);
        let wrong: &[&str] = match key.kind {
            Kind::Text | Kind::OneOf(_) => {
                assert!(a_text.is_str(), "{name}");
                &["1", "true", &in_a_list]
            }
            Kind::Date => &[
                "1",
                "true",
                "\"tomorrow\"",
                "2026-12-31T10:00:00Z",
                &in_a_list,
            ],
            Kind::TextOrList => &["1", "true"],
            Kind::List => {
                assert!(a_text.is_array(), "{name}");
                &["1", "true", "\"text\""]
            }
            Kind::Range(..) => &[
                "1",
                "true",
                "\"text\"",
                "[1]",
                "[1, 2, 3]",
                "[2, 1]",
                "[1, \"2\"]",
            ],
            Kind::Switch => &["1", "\"true\"", "[true]"],
            Kind::Number(..) => &["true", "\"1\"", "[1]", "1.5"],
        };
        for wrong in wrong {
            let error = read_with(key, wrong).unwrap_err();
            assert!(error.contains(&format!("{name}: expected ")), "{error}");
        }
        // What may be one or several is read either way.
        if let Kind::TextOrList = key.kind {
            let several = a_text.as_array().cloned().unwrap_or_else(|| vec![a_text]);
            let one = read_with(key, &several[0].to_string()).unwrap();
            let list = read_with(key, &format!("[{}]", several[0])).unwrap();
            assert!((key.same)(&one, &list), "{name}");
        }
    }
}

#[test]
fn what_others_call_a_key_is_no_key_and_leads_to_it() {
    for key in all() {
        for word in key.also {
            assert!(
                !all().any(|other| other.section == key.section && other.name == *word),
                "{word}"
            );
            let mut table = base(key);
            let section = super::samples::section(&mut table, key);
            section.insert((*word).to_owned(), value(key.example));
            let error = read(&table).unwrap_err();
            let expected = format!("unknown key; did you mean {}?", key.name);
            assert!(error.contains(&expected), "{error}");
        }
    }
}
